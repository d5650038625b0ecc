"""`tally bench`: honest figures of this engine on this machine, as a table and as JSON."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import BadParameter, Exit, Option

from tallystick.sdk.cli.bench_apps import apps
from tallystick.sdk.cli.bench_chain import chain
from tallystick.sdk.cli.bench_gas import gas, rollup
from tallystick.sdk.cli.bench_tower import tower
from tallystick.sdk.cli.bench_virtual import virtual
from tallystick.sdk.cli.options import Json
from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import Result, make_group, print_result, run_guarded

if TYPE_CHECKING:
    from tallystick.sdk.bench.results import FairnessResult

CHANNELS_MAX = 10_000
"""Channels of a hub that can be asked for."""

SATOSHI_MAX = 21_000_000 * 10**8
"""There are no more."""

app = make_group("Measure how fast payments are on this machine.")

Directory = Annotated[
    Path | None, Option(help="Where to keep the throw-away stores: put them on the disk that counts.")
]


def _progress() -> Callable[..., None]:
    """Return what tells, on stderr, how far a measurement is."""
    from rich.console import Console

    return Console(stderr=True).print


def _measure(run: Callable[..., Awaitable[Result]], directory: Path | None) -> Result:
    """Run a measurement whose stores are in a directory, by default the current one."""
    import trio

    return run_guarded(lambda: trio.run(partial(run, directory=str(directory or Path.cwd()), say=_progress())))


def _print(result: Result, as_json: bool, table: Callable[[Result], Any]) -> None:
    from rich.console import Console

    print_result(result, as_json, lambda found: Console().print(table(found)))


def _numbers(option: str, text: str, most: int) -> list[int]:
    """Read numbers with commas between; raise BadParameter if they are none."""
    words = [word.strip() for word in text.split(",")]
    if all(re.fullmatch("[0-9]{1,18}", word) and 1 <= int(word) <= most for word in words):
        return [int(word) for word in words]
    raise BadParameter(f"{option} takes whole numbers from 1 to {most} with commas between, not {text!r}")


@app.callback()
def bench() -> None:
    """Measure how fast payments are on this machine."""


@app.command()
def direct(
    only: Annotated[
        list[str] | None,
        Option("--class", help="alone, awaited, submitted, bulk, locked or stream; repeatable. Default: all."),
    ] = None,
    seconds: Annotated[float, Option(min=0.1, max=600, help="How long to measure each class.")] = 3.0,
    channels: Annotated[
        int, Option(min=1, max=CHANNELS_MAX, help="Channels of one hub, each to a peer of its own (class submitted).")
    ] = 1,
    processes: Annotated[
        int, Option(min=2, max=256, help="Processes: the payer's, and those that share the peers.")
    ] = 2,
    rtt: Annotated[float, Option(min=0, max=10_000, help="Milliseconds of round trip to add to links.")] = 0.0,
    cuts: Annotated[
        float, Option(min=0, max=100, help="Percent of the links to cut every second; at least one, if not 0.")
    ] = 0.0,
    tries: Annotated[int, Option(min=1, max=10, help="How often to try for a good capacity control.")] = 3,
    picture: Annotated[
        Path | None, Option(help="Draw load, latency and classes into this .svg, .png or .pdf (extra: bench).")
    ] = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Two parties, two processes, one channel, loopback TCP, durable on both sides; or a hub with many channels.

    Example: tally bench direct --class awaited --seconds 5 --json
    Example: tally bench direct --channels 1000 --processes 2
    Example: tally bench direct --class bulk --class submitted --rtt 100 --seconds 10
    Example: tally bench direct --picture bench.svg
    """
    from tallystick.sdk.bench.direct import CLASSES, LOADS, LinkConditions, run_direct, run_hub
    from tallystick.sdk.bench.picture import FORMATS, draw, require_matplotlib
    from tallystick.sdk.bench.report import table

    unknown = set(only or ()) - set(CLASSES)
    if unknown:
        raise BadParameter(f"unknown class {', '.join(sorted(unknown))}; known are {', '.join(CLASSES)}")
    hub = channels > 1 or processes > 2
    if hub and set(only or ()) - {"submitted"}:
        raise BadParameter("with more than one channel or two processes, only the class submitted is measured")
    if processes - 1 > channels:
        raise BadParameter("each process but the payer's needs a channel at least: raise --channels")
    if picture is not None and (hub or "submitted" not in (only or CLASSES)):
        raise BadParameter("a picture is of one channel, and needs the class submitted")
    if picture is not None and picture.suffix not in FORMATS:
        raise BadParameter(f"a picture's name ends with {', '.join(FORMATS)}")
    conditions = LinkConditions(rtt, cuts)
    run = partial(run_hub, channels, processes, seconds) if hub else partial(run_direct, only or CLASSES, seconds)
    if picture is not None:
        run_guarded(require_matplotlib)
        run = partial(run, loads=LOADS)
    result = _measure(partial(run, conditions=conditions, tries=tries), directory)
    if picture is not None:
        run_guarded(lambda: draw(result, picture))
    _print(result, as_json, table)


@app.command()
def compare(
    against: Annotated[str, Option(help="The other revision: a commit, branch or tag of the repository.")],
    only: Annotated[
        list[str] | None,
        Option(
            "--class",
            help="alone, awaited, submitted, bulk, locked, stream, channels-1000, network-2 or network-4; repeatable. "
            "Default: all.",
        ),
    ] = None,
    pairs: Annotated[int, Option(min=1, max=100, help="How often both are measured, in turn.")] = 5,
    seconds: Annotated[float, Option(min=0.1, max=600, help="How long to measure each time.")] = 2.0,
    repository: Annotated[Path | None, Option(help="A checkout with its history. Default: the current one.")] = None,
    builds: Annotated[
        Path | None, Option(help="Where to keep the other build for the next time. Default: it is not kept.")
    ] = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """This build against another revision, which is built in a temporary environment; both in turn.

    With --json, a line with an object for each class.

    Example: tally bench compare --against HEAD~10 --class locked --pairs 5 --json
    """
    from rich.console import Console

    from tallystick.sdk.bench.compare import COMPARED, compare_table, run_compare

    if unknown := set(only or ()) - set(COMPARED):
        raise BadParameter(f"unknown class {', '.join(sorted(unknown))}; known are {', '.join(COMPARED)}")
    work = partial(run_compare, against, only or list(COMPARED), pairs, seconds, builds=builds)
    results = _measure(partial(work, repository=repository or Path.cwd()), directory)
    if as_json:
        for result in results:
            say_json(result)
    else:
        Console().print(compare_table(results))


@app.command()
def scale(
    channels: Annotated[
        str, Option(help="Numbers of channels of the hub to measure, separated by commas.")
    ] = "1,10,100,1000",
    cores: Annotated[int, Option(min=1, max=256, help="Up to how many cores growth is measured.")] = 256,
    seconds: Annotated[float, Option(min=0.1, max=600, help="How long to measure each.")] = 3.0,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """How one hub does with more channels, and with more cores, up to those of this machine.

    Example: tally bench scale --channels 1,100 --seconds 5
    """
    from tallystick.sdk.bench.report import scale_table
    from tallystick.sdk.bench.scale import run_scale

    counts = _numbers("--channels", channels, CHANNELS_MAX)
    _print(_measure(partial(run_scale, counts, cores, seconds), directory), as_json, scale_table)


@app.command()
def fairness(
    seconds: Annotated[float, Option(min=0.1, max=600, help="How long to measure.")] = 4.0,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """How long payments in a quiet channel take while another channel of the same node is flooded.

    Example: tally bench fairness --seconds 10
    """
    from tallystick.sdk.bench.direct import run_fairness

    def line(result: FairnessResult) -> str:
        return (
            f"quiet channel: p50 {result.p50_ms:.1f} ms, p99 {result.p99_ms:.1f} ms of {result.payments} payments, "
            f"while another takes {result.flood_per_second:,.0f}/s (capacity control {result.control:.2f} of 2)"
        )

    _print(_measure(partial(run_fairness, seconds), directory), as_json, line)


@app.command()
def hostile(
    seconds: Annotated[float, Option(min=0.5, max=600, help="How long to measure each attack.")] = 4.0,
    attack: Annotated[list[str] | None, Option(help="One attack only; may be given several times.")] = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """How long a lone payment takes while strangers flood each door of a node and of its tower. On Linux.

    Example: tally bench hostile --attack pings --attack idle
    """
    from tallystick.sdk.bench.hostile import ATTACKS, run_hostile
    from tallystick.sdk.bench.report import hostile_table

    if unknown := set(attack or ()) - set(ATTACKS):
        raise BadParameter(f"there is no attack {', '.join(sorted(unknown))}: choose from {', '.join(ATTACKS)}")
    _print(_measure(partial(run_hostile, attack or list(ATTACKS), seconds), directory), as_json, hostile_table)


@app.command()
def endurance(
    payments: Annotated[int, Option(min=1_000, help="How many payments in all.")] = 10_000_000,
    channels: Annotated[int, Option(min=1, max=10_000, help="Channels of one hub, paid in turn.")] = 1,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Whether anything slows down or grows over very many payments. Exit code 1 if a bound is broken.

    Example: tally bench endurance --payments 1000000 --channels 1000
    """
    from tallystick.sdk.bench.endurance import run_endurance
    from tallystick.sdk.bench.report import endurance_table

    result = _measure(partial(run_endurance, payments, channels), directory)
    _print(result, as_json, endurance_table)
    for bound in result.broken:
        say(f"broken: {bound}", err=True)
    if result.broken:
        raise Exit(1)


@app.command()
def network(
    hops: Annotated[int, Option(min=1, max=12, help="Channels that each payment crosses.")] = 2,
    seconds: Annotated[float, Option(min=0.1, max=600, help="How long to measure, alone and together.")] = 4.0,
    in_flight: Annotated[int, Option(min=1, max=480, help="Payments under way at once, for the rate.")] = 300,
    tries: Annotated[int, Option(min=1, max=10, help="How often to try for a good capacity control.")] = 3,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Nodes in line, a process each, loopback TCP, durable everywhere: payments from the first to the last.

    Example: tally bench network --hops 2 --json
    """
    from tallystick.sdk.bench.network import network_table, run_network

    result = _measure(partial(run_network, hops, seconds, in_flight, tries=tries), directory)
    _print(result, as_json, network_table)


GraphFile = Annotated[
    Path, Option("--graph", help="Output of `lncli describegraph` or `lightning-cli listchannels`, or a graph in CSV.")
]


@app.command()
def route(
    graph: GraphFile,
    single: Annotated[int, Option(min=1, help="Satoshi of one path.")] = 100_000,
    multi: Annotated[int, Option(min=1, help="Satoshi of a plan of many parts.")] = 1_000_000,
    pairs: Annotated[int, Option(min=1, max=100_000, help="Random pairs of payer and payee.")] = 300,
    seed: Annotated[int, Option(help="Which pairs.")] = 1,
    as_json: Json = False,
) -> None:
    """How long the planner takes for one path, and for a plan of many parts: plain and compiled, on one core.

    Example: tally bench route --graph network.csv.gz --json
    """
    from tallystick.sdk.bench.report import route_table
    from tallystick.sdk.bench.route import run_route

    run = partial(run_route, graph, single=single, multi=multi, pairs=pairs, seed=seed)
    _print(run_guarded(lambda: run(say=_progress())), as_json, route_table)


@app.command()
def payments(
    graph: GraphFile,
    amount: Annotated[str, Option(help="Satoshi; several with commas between.")] = "10000,100000,1000000",
    liquidity: Annotated[
        str, Option(help="How hidden balances are drawn, and what the payer expects: uniform, bimodal or both.")
    ] = "bimodal",
    pairs: Annotated[int, Option(min=1, max=100_000, help="Random pairs of payer and payee.")] = 200,
    seeds: Annotated[int, Option(min=1, max=1000, help="Draws of hidden balances, with pairs of their own.")] = 1,
    first_seed: Annotated[int, Option(min=0, help="The first draw's number.")] = 0,
    method: Annotated[
        str, Option(help="flow: as the product does it; halving: without plans of many parts; single: one part.")
    ] = "flow",
    as_json: Json = False,
) -> None:
    """How often payments through a real network succeed, with what fees, when nobody knows the others' balances.

    Example: tally bench payments --graph network.csv.gz --amount 100000,1000000 --pairs 200 --seeds 3 --json
    """
    from tallystick.router.pathfinding.kernels import compilable
    from tallystick.sdk.bench.payments import METHODS, PRIORS, run_payments
    from tallystick.sdk.bench.report import payments_table

    if method not in METHODS:
        raise BadParameter(f"--method is {', '.join(METHODS)}, not {method}")
    kinds = list(PRIORS) if liquidity == "both" else liquidity.split(",")
    if set(kinds) - set(PRIORS):
        raise BadParameter(f"--liquidity is {', '.join(PRIORS)} or both, not {liquidity}")
    amounts = _numbers("--amount", amount, SATOSHI_MAX)
    run = partial(run_payments, graph, amounts, kinds, pairs, seeds, use_numba=compilable(), method=method)
    result = run_guarded(lambda: run(say=_progress(), first_seed=first_seed))
    if as_json:
        say_json(result.rows)
    else:
        _print(result, as_json, payments_table)


@app.command()
def shards(
    block: Annotated[int, Option(min=100, max=10_000, help="Transfers of one block.")] = 1_000,
    blocks: Annotated[int, Option(min=1, max=60, help="Blocks of one shard in one run.")] = 10,
    cross: Annotated[int, Option(min=1, max=100, help="Of the mix: percent that go to the other shard.")] = 20,
    rounds: Annotated[int, Option(min=1, max=50, help="How often each is measured, in turn.")] = 5,
    tries: Annotated[int, Option(min=1, max=10, help="How often to try for a good capacity control.")] = 3,
    limit: Annotated[float, Option(min=1, help="Seconds after which no further round is begun.")] = 180,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Two shards on two cores against one on one core: transfers, local and across.

    Example: tally bench shards --json
    """
    from tallystick.sdk.bench.shards import run_shards, shards_table

    result = _measure(partial(run_shards, block, blocks, cross, rounds, tries, limit), directory)
    _print(result, as_json, shards_table)


@app.command()
def follow(
    blocks: Annotated[int, Option(min=1_000, max=10_000_000, help="From the contract's deployment to the head.")] = (
        1_000_000
    ),
    channels: Annotated[int, Option(min=0, max=200_000, help="Channels that live and end in them.")] = 10_000,
    unsettled: Annotated[int, Option(min=1, help="How many of the newest blocks are not final.")] = 64,
    range_limit: Annotated[int, Option(min=1, help="Blocks whose logs the chain's node tells at once.")] = 10_000,
    seed: Annotated[int, Option(help="Which history.")] = 1,
    only: Annotated[str | None, Option("--who", help="node or tower. Default: both.")] = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """How fast a node and a tower catch up with a long history: new, again, after a kill. Exit code 1 if too slow.

    Example: tally bench follow --blocks 1000000 --channels 10000 --json
    Example: tally bench follow --blocks 200000 --unsettled 100000 --who tower
    """
    from tallystick.sdk.bench.follow import WHO, follow_table, run_follow
    from tallystick.sdk.bench.synthetic_chain import HistoryOptions

    if only is not None and only not in WHO:
        raise BadParameter(f"--who is node or tower, not {only}")
    history = HistoryOptions(blocks=blocks, channels=channels, seed=seed, unsettled=unsettled)
    result = _measure(partial(run_follow, history, range_limit, WHO if only is None else (only,)), directory)
    _print(result, as_json, follow_table)
    for bound in result.broken:
        say(f"broken: {bound}", err=True)
    if result.broken:
        raise Exit(1)


@app.command()
def ledger(
    only: Annotated[
        list[str] | None,
        Option("--workload", help="transfer, token, dispute, swap, swaps, lending; repeatable. Default: all."),
    ] = None,
    accounts: Annotated[str, Option(help="Numbers of accounts, with commas between.")] = "2,10,100,1000,10000",
    blocks: Annotated[
        str | None, Option("--block", help="Transactions of a block. Default: 1000, with the most accounts also 10000.")
    ] = None,
    against: Annotated[str, Option(help="The git revision that says how fast it was before.")] = "daa42bc",
    repository: Annotated[
        Path | None, Option(help="The git repository with that revision. Default: the current directory.")
    ] = None,
    tries: Annotated[int, Option(min=1, help="How often a row is repeated while the machine is busy.")] = 3,
    as_json: Json = False,
) -> None:
    """How many signed transactions the simulated ledger executes per second. Exit code 1 if a result is not equal.

    Example: tally bench ledger --json
    Example: tally bench ledger --workload transfer --accounts 2,1000 --block 1000
    """
    from tallystick.sdk.bench.ledger import ledger_table, run_ledger
    from tallystick.sdk.bench.ledger_workloads import WORKLOADS

    if unknown := set(only or ()) - set(WORKLOADS):
        raise BadParameter(f"unknown workload {', '.join(sorted(unknown))}; known are {', '.join(WORKLOADS)}")
    counts = _numbers("--accounts", accounts, 100_000)
    sizes = _numbers("--block", blocks, 100_000) if blocks is not None else ()
    if min(counts) < 2:
        raise BadParameter("--accounts takes at least 2: one pays the other one")
    result = run_guarded(
        lambda: run_ledger(
            only or list(WORKLOADS),
            counts,
            sizes,
            against=against,
            repository=repository or Path.cwd(),
            tries=tries,
            say=_progress(),
        )
    )
    _print(result, as_json, ledger_table)
    if result.broken:
        say(f"not equal: {', '.join(result.broken)}", err=True)
        raise Exit(1)


app.command()(gas)
app.command()(rollup)
app.command()(chain)
app.command()(virtual)
app.command()(tower)
app.command()(apps)
