"""Running a simulation from seed to seed: what failed says how to see it again."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Failed(AssertionError):
    """A run went wrong; its text has the line that replays it."""


@contextmanager
def replayed(module: str, arguments: str, told: Callable[[], str]) -> Iterator[None]:
    """Within this block, raise Failed for what goes wrong, with what is `told` of the run and the line to replay it."""
    try:
        yield
    except BaseException as error:
        first = error
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        replay = f"replay: PYTHONPATH=tests python -m simulation.{module} {arguments}"
        raise Failed(f"{first!r}\n{told()}\n{replay}") from error


def options(description: str) -> argparse.ArgumentParser:
    """Return a parser of the options that all such programs have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="show the whole traceback of a failure")
    return parser


def run_seeds(chosen: argparse.Namespace, run: Callable[[int], str]) -> int:
    """Run each seed that was asked for and print the line that it returns; return how many failed, at most 100."""
    failed = 0
    for seed in range(chosen.seed, chosen.seed + chosen.runs):
        try:
            print(run(seed), flush=True)
        except Failed as error:
            failed += 1
            print(f"seed {seed}: FAILED {error}", flush=True)
            if chosen.verbose:
                raise
    return min(failed, 100)
