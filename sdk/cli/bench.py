"""`tally bench`: honest figures of this engine on this machine, as a table and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Measure this engine on this machine.")


@app.callback()
def bench() -> None:
    """Measure this engine on this machine."""


@app.command()
def direct(
    only: Annotated[
        list[str] | None,
        typer.Option("--class", help="alone, awaited, submitted, bulk, locked or stream; repeatable. Default: all."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long to measure each class.")] = 4.0,
    channels: Annotated[
        int, typer.Option(min=1, max=10_000, help="Channels of one hub, each to a peer of its own (class submitted).")
    ] = 1,
    processes: Annotated[
        int, typer.Option(min=2, max=256, help="Processes: the payer's, and those that share the peers.")
    ] = 2,
    directory: Annotated[
        Path | None, typer.Option(help="Where to keep the throw-away stores: put them on the disk that counts.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Two parties, two processes, one channel, loopback TCP, durable on both sides; or a hub with many channels.

    Example: tally bench direct --class awaited --seconds 5 --json
    Example: tally bench direct --channels 1000 --processes 2
    """
    import msgspec
    import trio
    from rich.console import Console

    from tallystick.channels.errors import TallystickError
    from tallystick.sdk.bench.direct import CLASSES, run_direct, run_hub
    from tallystick.sdk.bench.report import table

    unknown = set(only or ()) - set(CLASSES)
    if unknown:
        raise typer.BadParameter(f"unknown class {', '.join(sorted(unknown))}; known are {', '.join(CLASSES)}")
    hub = channels > 1 or processes > 2
    if hub and set(only or ()) - {"submitted"}:
        raise typer.BadParameter("with more than one channel or two processes, only the class submitted is measured")
    if processes - 1 > channels:
        raise typer.BadParameter("each process but the payer's needs a channel at least: raise --channels")
    errors = Console(stderr=True)
    folder = str(directory or Path.cwd())

    async def run() -> None:
        if hub:
            result = await run_hub(channels, processes, seconds, directory=folder, say=errors.print)
        else:
            result = await run_direct(only or CLASSES, seconds, directory=folder, say=errors.print)
        if as_json:
            print(msgspec.json.encode(result).decode())
        else:
            Console().print(table(result))

    try:
        trio.run(run)
    except TallystickError as error:
        errors.print(str(error), style="red")
        raise typer.Exit(1) from error


@app.command()
def fairness(
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long to measure.")] = 4.0,
    directory: Annotated[Path | None, typer.Option(help="Where to keep the throw-away stores.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a line.")] = False,
) -> None:
    """How long payments in a quiet channel take while another channel of the same node is flooded.

    Example: tally bench fairness --seconds 10
    """
    import msgspec
    import trio
    from rich.console import Console

    from tallystick.channels.errors import TallystickError
    from tallystick.sdk.bench.direct import run_fairness

    errors = Console(stderr=True)

    async def run() -> None:
        result = await run_fairness(seconds, directory=str(directory or Path.cwd()), say=errors.print)
        if as_json:
            print(msgspec.json.encode(result).decode())
        else:
            Console().print(
                f"quiet channel: p50 {result.p50_ms:.1f} ms, p99 {result.p99_ms:.1f} ms of {result.payments} payments, "
                f"while another takes {result.flood_per_second:,.0f}/s (capacity control {result.control:.2f} of 2)"
            )

    try:
        trio.run(run)
    except TallystickError as error:
        errors.print(str(error), style="red")
        raise typer.Exit(1) from error


@app.command()
def network(
    hops: Annotated[int, typer.Option(min=1, max=12, help="Channels that each payment crosses.")] = 2,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long to measure, alone and together.")] = 4.0,
    in_flight: Annotated[int, typer.Option(min=1, max=480, help="Payments under way at once, for the rate.")] = 300,
    directory: Annotated[
        Path | None, typer.Option(help="Where to keep the throw-away stores: put them on the disk that counts.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Nodes in line, a process each, loopback TCP, durable everywhere: payments from the first to the last.

    Example: tally bench network --hops 2 --json
    """
    import msgspec
    import trio
    from rich.console import Console

    from tallystick.channels.errors import TallystickError
    from tallystick.sdk.bench.network import network_table, run_network

    errors = Console(stderr=True)

    async def run() -> None:
        folder = str(directory or Path.cwd())
        result = await run_network(hops, seconds, in_flight, directory=folder, say=errors.print)
        if as_json:
            print(msgspec.json.encode(result).decode())
        else:
            Console().print(network_table(result))

    try:
        trio.run(run)
    except TallystickError as error:
        errors.print(str(error), style="red")
        raise typer.Exit(1) from error
