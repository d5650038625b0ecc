"""`tally bench virtual`: what a virtual channel over hubs does beside a channel with deposits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from typer import BadParameter, Option

from tallystick.sdk.cli.options import Json
from tallystick.sdk.cli.shell import print_result, run_guarded


def virtual(
    kind: Annotated[str, Option("--class", help="How payments are made: alone, awaited, submitted or bulk.")] = (
        "submitted"
    ),
    seconds: Annotated[float, Option(min=0.1, max=600, help="How long to pay in each channel, in each round.")] = 2.0,
    rounds: Annotated[int, Option(min=1, max=50, help="How often each channel is measured, in turn.")] = 5,
    openings: Annotated[int, Option(min=1, max=1_000, help="Virtual channels that are opened and closed.")] = 30,
    hubs: Annotated[int, Option(min=1, max=5, help="Hubs that the virtual channel goes over, in a row.")] = 1,
    tries: Annotated[int, Option(min=1, max=10, help="How often to try for a good capacity control.")] = 3,
    directory: Annotated[
        Path | None, Option(help="Where to keep the throw-away stores: put them on the disk that counts.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Two players and hubs, a process each, durable everywhere: a virtual channel beside a direct one, in turn.

    Example: tally bench virtual --json
    Example: tally bench virtual --class awaited --seconds 5
    Example: tally bench virtual --hubs 2
    """
    import trio
    from rich.console import Console

    from tallystick.sdk.bench.virtual import KINDS_COMPARED, run_virtual, virtual_table

    if kind not in KINDS_COMPARED:
        raise BadParameter(f"--class is {', '.join(KINDS_COMPARED)}, not {kind}")
    progress = Console(stderr=True).print
    where = str(directory or Path.cwd())
    run = partial(run_virtual, kind, seconds, rounds, openings, hubs=hubs, tries=tries, directory=where)
    result = run_guarded(lambda: trio.run(partial(run, say=progress)))
    print_result(result, as_json, lambda found: Console().print(virtual_table(found)))
