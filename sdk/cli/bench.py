"""`tally bench`: honest figures of this engine on this machine, as a table and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tallystick.sdk.cli.shell import Json, make_group, print_json, run_guarded

if TYPE_CHECKING:
    from tallystick.sdk.bench.network import NetworkResult

CHANNELS_MAX = 10_000
"""Channels of a hub that can be asked for."""

app = make_group("Measure how fast payments are on this machine.")


@app.callback()
def bench() -> None:
    """Measure how fast payments are on this machine."""


@app.command()
def direct(
    only: Annotated[
        list[str] | None,
        typer.Option("--class", help="alone, awaited, submitted, bulk, locked or stream; repeatable. Default: all."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long to measure each class.")] = 3.0,
    channels: Annotated[
        int,
        typer.Option(min=1, max=CHANNELS_MAX, help="Channels of one hub, each to a peer of its own (class submitted)."),
    ] = 1,
    processes: Annotated[
        int, typer.Option(min=2, max=256, help="Processes: the payer's, and those that share the peers.")
    ] = 2,
    rtt: Annotated[float, typer.Option(min=0, max=10_000, help="Milliseconds of round trip to add to links.")] = 0.0,
    cuts: Annotated[
        float, typer.Option(min=0, max=100, help="Percent of the links to cut every second; at least one, if not 0.")
    ] = 0.0,
    tries: Annotated[int, typer.Option(min=1, max=10, help="How often to try for a good capacity control.")] = 3,
    picture: Annotated[
        Path | None, typer.Option(help="Draw load, latency and classes into this .svg, .png or .pdf (extra: bench).")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option(help="Where to keep the throw-away stores: put them on the disk that counts.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Two parties, two processes, one channel, loopback TCP, durable on both sides; or a hub with many channels.

    Example: tally bench direct --class awaited --seconds 5 --json
    Example: tally bench direct --channels 1000 --processes 2
    Example: tally bench direct --class bulk --class submitted --rtt 100 --seconds 10
    Example: tally bench direct --picture bench.svg
    """
    import msgspec
    import trio
    from rich.console import Console

    from tallystick.channels.errors import TallystickError
    from tallystick.sdk.bench.direct import CLASSES, LOADS, LinkConditions, run_direct, run_hub
    from tallystick.sdk.bench.picture import FORMATS, draw, require_matplotlib
    from tallystick.sdk.bench.report import table

    unknown = set(only or ()) - set(CLASSES)
    if unknown:
        raise typer.BadParameter(f"unknown class {', '.join(sorted(unknown))}; known are {', '.join(CLASSES)}")
    hub = channels > 1 or processes > 2
    if hub and set(only or ()) - {"submitted"}:
        raise typer.BadParameter("with more than one channel or two processes, only the class submitted is measured")
    if processes - 1 > channels:
        raise typer.BadParameter("each process but the payer's needs a channel at least: raise --channels")
    if picture is not None and (hub or "submitted" not in (only or CLASSES)):
        raise typer.BadParameter("a picture is of one channel, and needs the class submitted")
    if picture is not None and picture.suffix not in FORMATS:
        raise typer.BadParameter(f"a picture's name ends with {', '.join(FORMATS)}")
    conditions = LinkConditions(rtt, cuts)
    errors = Console(stderr=True)
    folder = str(directory or Path.cwd())

    async def run() -> None:
        if hub:
            result = await run_hub(
                channels, processes, seconds, directory=folder, conditions=conditions, tries=tries, say=errors.print
            )
        else:
            loads = LOADS if picture is not None else ()
            result = await run_direct(
                only or CLASSES,
                seconds,
                directory=folder,
                conditions=conditions,
                loads=loads,
                tries=tries,
                say=errors.print,
            )
        if picture is not None:
            draw(result, picture)
        if as_json:
            print(msgspec.json.encode(result).decode())
        else:
            Console().print(table(result))

    try:
        if picture is not None:
            require_matplotlib()
        trio.run(run)
    except TallystickError as error:
        errors.print(str(error), style="red")
        raise typer.Exit(1) from error


@app.command()
def scale(
    channels: Annotated[
        str, typer.Option(help="Numbers of channels of the hub to measure, separated by commas.")
    ] = "1,10,100,1000",
    cores: Annotated[int, typer.Option(min=1, max=256, help="Up to how many cores growth is measured.")] = 256,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long to measure each.")] = 3.0,
    directory: Annotated[Path | None, typer.Option(help="Where to keep the throw-away stores.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """How one hub does with more channels, and with more cores, up to those of this machine.

    Example: tally bench scale --channels 1,100 --seconds 5
    """
    import msgspec
    import trio
    from rich.console import Console

    from tallystick.channels.errors import TallystickError
    from tallystick.sdk.bench.report import scale_table
    from tallystick.sdk.bench.scale import run_scale

    words = [word.strip() for word in channels.split(",")]
    counts = [int(word) for word in words if word.isascii() and word.isdigit() and len(word) <= 9]
    if len(counts) != len(channels.split(",")) or not all(1 <= count <= CHANNELS_MAX for count in counts):
        raise typer.BadParameter(f"--channels takes numbers from 1 to {CHANNELS_MAX} with commas between: 1,10,100")
    errors = Console(stderr=True)

    async def run() -> None:
        result = await run_scale(counts, cores, seconds, directory=str(directory or Path.cwd()), say=errors.print)
        if as_json:
            print(msgspec.json.encode(result).decode())
        else:
            Console().print(scale_table(result))

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
def hostile(
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="How long to measure each attack.")] = 4.0,
    attack: Annotated[
        list[str] | None, typer.Option("--attack", help="One attack only; may be given several times.")
    ] = None,
    directory: Annotated[Path | None, typer.Option(help="Where to keep the throw-away stores.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """How long a lone payment takes while strangers flood each door of a node and of its tower. On Linux.

    Example: tally bench hostile --attack pings --attack idle
    """
    import msgspec
    import trio
    from rich.console import Console

    from tallystick.channels.errors import TallystickError
    from tallystick.sdk.bench.hostile import ATTACKS, run_hostile
    from tallystick.sdk.bench.report import hostile_table

    if unknown := set(attack or ()) - set(ATTACKS):
        raise typer.BadParameter(f"there is no attack {', '.join(sorted(unknown))}: choose from {', '.join(ATTACKS)}")
    errors = Console(stderr=True)

    async def run() -> None:
        place = str(directory or Path.cwd())
        result = await run_hostile(attack or list(ATTACKS), seconds, directory=place, say=errors.print)
        if as_json:
            print(msgspec.json.encode(result).decode())
        else:
            Console().print(hostile_table(result))

    try:
        trio.run(run)
    except TallystickError as error:
        errors.print(str(error), style="red")
        raise typer.Exit(1) from error


@app.command()
def endurance(
    payments: Annotated[int, typer.Option(min=1_000, help="How many payments in all.")] = 10_000_000,
    channels: Annotated[int, typer.Option(min=1, max=10_000, help="Channels of one hub, paid in turn.")] = 1,
    directory: Annotated[Path | None, typer.Option(help="Where to keep the throw-away stores.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Whether anything slows down or grows over very many payments. Exit code 1 if a bound is broken.

    Example: tally bench endurance --payments 1000000 --channels 1000
    """
    import msgspec
    import trio
    from rich.console import Console

    from tallystick.channels.errors import TallystickError
    from tallystick.sdk.bench.endurance import run_endurance
    from tallystick.sdk.bench.report import endurance_table

    errors = Console(stderr=True)

    async def run() -> bool:
        result = await run_endurance(payments, channels, directory=str(directory or Path.cwd()), say=errors.print)
        if as_json:
            print(msgspec.json.encode(result).decode())
        else:
            Console().print(endurance_table(result))
        for bound in result.broken:
            errors.print(f"broken: {bound}", style="red")
        return not result.broken

    try:
        held = trio.run(run)
    except TallystickError as error:
        errors.print(str(error), style="red")
        raise typer.Exit(1) from error
    if not held:
        raise typer.Exit(1)


@app.command()
def network(
    hops: Annotated[int, typer.Option(min=1, max=12, help="Channels that each payment crosses.")] = 2,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long to measure, alone and together.")] = 4.0,
    in_flight: Annotated[int, typer.Option(min=1, max=480, help="Payments under way at once, for the rate.")] = 300,
    tries: Annotated[int, typer.Option(min=1, max=10, help="How often to try for a good capacity control.")] = 3,
    directory: Annotated[
        Path | None, typer.Option(help="Where to keep the throw-away stores: put them on the disk that counts.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Nodes in line, a process each, loopback TCP, durable everywhere: payments from the first to the last.

    Example: tally bench network --hops 2 --json
    """
    import trio
    from rich.console import Console

    from tallystick.sdk.bench.network import network_table, run_network

    errors = Console(stderr=True)

    async def run() -> NetworkResult:
        place = str(directory or Path.cwd())
        return await run_network(hops, seconds, in_flight, tries=tries, directory=place, say=errors.print)

    result = run_guarded(lambda: trio.run(run))
    if as_json:
        print_json(result)
    else:
        Console().print(network_table(result))


GraphFile = Annotated[
    Path,
    typer.Option("--graph", help="Output of `lncli describegraph` or `lightning-cli listchannels`, or a graph in CSV."),
]


@app.command()
def route(
    graph: GraphFile,
    single: Annotated[int, typer.Option(min=1, help="Satoshi of one path.")] = 100_000,
    multi: Annotated[int, typer.Option(min=1, help="Satoshi of a plan of many parts.")] = 1_000_000,
    pairs: Annotated[int, typer.Option(min=1, max=100_000, help="Random pairs of payer and payee.")] = 300,
    seed: Annotated[int, typer.Option(help="Which pairs.")] = 1,
    as_json: Json = False,
) -> None:
    """How long the planner takes for one path, and for a plan of many parts: plain and compiled, on one core.

    Example: tally bench route --graph network.csv.gz --json
    """
    from rich.console import Console

    from tallystick.sdk.bench.report import route_table
    from tallystick.sdk.bench.route import run_route

    errors = Console(stderr=True)
    result = run_guarded(lambda: run_route(graph, single=single, multi=multi, pairs=pairs, seed=seed, say=errors.print))
    if as_json:
        print_json(result)
    else:
        Console().print(route_table(result))


@app.command()
def payments(
    graph: GraphFile,
    amount: Annotated[str, typer.Option(help="Satoshi; several with commas between.")] = "10000,100000,1000000",
    liquidity: Annotated[
        str, typer.Option(help="How hidden balances are drawn, and what the payer expects: uniform, bimodal or both.")
    ] = "bimodal",
    pairs: Annotated[int, typer.Option(min=1, max=100_000, help="Random pairs of payer and payee.")] = 200,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Draws of hidden balances, with pairs of their own.")] = 1,
    first_seed: Annotated[int, typer.Option(min=0, help="The first draw's number.")] = 0,
    method: Annotated[
        str, typer.Option(help="flow: as the product does it; halving: without plans of many parts; single: one part.")
    ] = "flow",
    as_json: Json = False,
) -> None:
    """How often payments through a real network succeed, with what fees, when nobody knows the others' balances.

    Example: tally bench payments --graph network.csv.gz --amount 100000,1000000 --pairs 200 --seeds 3 --json
    """
    from rich.console import Console

    from tallystick.router.pathfinding.kernels import compilable
    from tallystick.sdk.bench.payments import METHODS, PRIORS, run_payments
    from tallystick.sdk.bench.report import payments_table

    if method not in METHODS:
        raise typer.BadParameter(f"--method is {', '.join(METHODS)}, not {method}")
    kinds = list(PRIORS) if liquidity == "both" else liquidity.split(",")
    if set(kinds) - set(PRIORS):
        raise typer.BadParameter(f"--liquidity is {', '.join(PRIORS)} or both, not {liquidity}")
    try:
        amounts = [int(part) for part in amount.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"--amount takes whole numbers with commas between, not {amount}") from error
    if min(amounts) < 1:
        raise typer.BadParameter("amounts begin at 1 satoshi")
    errors = Console(stderr=True)
    result = run_guarded(
        lambda: run_payments(
            graph,
            amounts,
            kinds,
            pairs,
            seeds,
            use_numba=compilable(),
            say=errors.print,
            method=method,
            first_seed=first_seed,
        )
    )
    if as_json:
        print_json(result.rows)
    else:
        Console().print(payments_table(result))
