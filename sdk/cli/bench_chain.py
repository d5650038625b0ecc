"""`tally bench chain`: a chain of several validators, measured."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from typer import BadParameter, Option

from tallystick.sdk.cli.options import Json
from tallystick.sdk.cli.screen import say
from tallystick.sdk.cli.shell import print_result, run_guarded


def chain(
    validators: Annotated[int, Option(min=1, max=16, help="How many.")] = 4,
    interval: Annotated[str, Option(help="Seconds between two blocks, several with commas between.")] = "0.1,1",
    seconds: Annotated[float, Option(min=1, max=600, help="Of load, for each chain at each interval.")] = 6,
    directory: Annotated[
        Path | None, Option(help="Where to keep the throw-away stores: put them on the disk that counts.")
    ] = None,
    as_json: Json = False,
) -> None:
    """How soon a transfer is final on several validators, how many are committed, and what each costs.

    Example: tally bench chain --validators 4 --json
    """
    import trio
    from rich.console import Console

    from tallystick.sdk.bench.chain import chain_table, run_chain

    try:
        intervals = [float(word) for word in interval.split(",")]
    except ValueError:
        intervals = []
    if not intervals or not all(0.01 <= each <= 60 for each in intervals):
        raise BadParameter(f"--interval takes seconds from 0.01 to 60 with commas between, not {interval!r}")
    place = str(directory or Path.cwd())
    run = partial(run_chain, validators, intervals, seconds, place, partial(say, err=True))
    result = run_guarded(lambda: trio.run(run))
    print_result(result, as_json, lambda found: Console().print(chain_table(found)))
