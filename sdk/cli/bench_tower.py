"""`tally bench tower`: what a tower takes in, and a mass exit."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Option

from tallystick.sdk.cli.options import Json
from tallystick.sdk.cli.shell import print_result, run_guarded


def tower(
    held: Annotated[int, Option(min=1_000, max=1_000_000, help="Appointments that the tower holds.")] = 20_000,
    seconds: Annotated[float, Option(min=0.5, max=600, help="How long to upload.")] = 5.0,
    closes: Annotated[int, Option(min=1, max=5_000, help="Stale closes of the mass exit, in one block.")] = 1_000,
    tries: Annotated[int, Option(min=1, max=10, help="How often to try for a good capacity control.")] = 3,
    directory: Annotated[
        Path | None, Option(help="Where to keep the throw-away stores: put them on the disk that counts.")
    ] = None,
    as_json: Json = False,
) -> None:
    """One tower: durable, receipted appointments per second, and 1,000 stale closes in one block, in virtual time.

    Example: tally bench tower --json
    Example: tally bench tower --held 1000000 --seconds 30
    """
    import trio
    from rich.console import Console

    from tallystick.sdk.bench.tower import run_tower_bench, tower_table

    progress = Console(stderr=True).print
    run = partial(run_tower_bench, held, seconds, closes, tries=tries, directory=str(directory or Path.cwd()))
    result = run_guarded(lambda: trio.run(partial(run, say=progress)))
    print_result(result, as_json, lambda found: Console().print(tower_table(found)))
