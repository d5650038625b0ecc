"""`tally graph`: what the node knows of its network; graphs of other networks from files, for experiments."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from msgspec.structs import asdict, astuple
from typer import Argument, Option

from tallystick.router.objects import NodeKey, Route
from tallystick.router.pathfinding.graph import Graph
from tallystick.router.pathfinding.imports import (
    MSAT,
    GraphStatistics,
    ImportedGraph,
    Spread,
    graph_statistics,
    read_graph,
    to_csv,
)
from tallystick.router.pathfinding.liquidity import Knowledge
from tallystick.router.pathfinding.planner import Planner
from tallystick.sdk.cli.files import read_file, write_file
from tallystick.sdk.cli.options import Data, Json, limit_option, parse_amount
from tallystick.sdk.cli.screen import facts, say, say_json, show_table
from tallystick.sdk.cli.shell import ask_node, example, fail, make_group, print_result, run_guarded
from tallystick.sdk.cli.tables import show_known

app = make_group("Show what is known of the network; read graphs of others.")

GraphFile = Annotated[
    Path,
    Argument(
        metavar="FILE",
        help="Output of `lncli describegraph` or `lightning-cli listchannels`, or a graph in CSV; .gz is fine.",
    ),
]


@app.callback()
def graph() -> None:
    """Show what is known of the network; read graphs of others."""


@app.command("import", epilog=example("graph import describegraph.json network.csv.gz"))
def import_graph(
    file: GraphFile,
    output: Annotated[Path, Argument(metavar="CSV", help="Where to write it; compressed if it ends in .gz.")],
    as_json: Json = False,
) -> None:
    """Write a graph as the CSV that experiments take, without names and keys. Refuses to overwrite."""
    found = _read(file)
    data = to_csv(found.edges, found.inbound).encode()
    write_file(output, gzip.compress(data, mtime=0) if output.suffix == ".gz" else data)
    if as_json:
        say_json({"source": found.source, "directions": len(found.edges), "skipped": found.skipped})
    else:
        say(f"{len(found.edges)} directions from {found.source}, {found.skipped} skipped")


@app.command(epilog=example("graph stats network.csv.gz --json"))
def stats(file: GraphFile, as_json: Json = False) -> None:
    """Tell how many nodes and channels a graph has, and how capacities, degrees and fees are spread."""
    print_result(graph_statistics(_read(file).edges), as_json, show_graph)


@app.command(epilog=example("graph route network.csv.gz 17 42 250000 --parts 16"))
def route(
    file: GraphFile,
    source: Annotated[str, Argument(metavar="FROM", help="The payer: key, beginning of it, alias or number.")],
    target: Annotated[str, Argument(metavar="TO", help="The payee.")],
    amount: Annotated[int, Argument(metavar="AMOUNT", parser=parse_amount, help="In satoshi.")],
    parts: Annotated[int, Option(min=1, max=256, help="Over how many paths at most.")] = 1,
    max_fee: Annotated[
        int | None, limit_option(help="In satoshi, for all parts.", show_default="a twentieth of the amount")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell how a payment would go, as far as anybody can know from the graph: hop by hop, with exact amounts."""
    network = _read(file)
    payer, payee = _node(network, source), _node(network, target)
    graph = Graph(network.edges, inbound=network.inbound)
    limit = amount * MSAT // 20 if max_fee is None else max_fee * MSAT
    routes = run_guarded(
        lambda: Planner(graph, Knowledge(graph)).plan(
            payer, payee, amount * MSAT, max_fee=limit, max_parts=parts, now=0.0
        )
    )
    if as_json:
        shown = [
            [{"channel": hop.channel.hex(), "node": hop.node.hex(), "amount_msat": hop.amount} for hop in found.hops]
            for found in routes
        ]
        say_json({"fee_msat": sum(found.fee for found in routes), "routes": shown})
    else:
        show_routes(routes, _names(network, routes))


def _names(found: ImportedGraph, routes: Sequence[Route]) -> Mapping[NodeKey, str]:
    """Return what people call the nodes of routes: in CSV they have numbers only."""
    if found.source != "csv":
        return found.aliases
    return {hop.node: str(int.from_bytes(hop.node[1:], "big")) for route in routes for hop in route.hops}


def _node(found: ImportedGraph, text: str) -> NodeKey:
    """Return the one node that a person means."""
    nodes = {edge.source for edge in found.edges} | {edge.target for edge in found.edges}
    if found.source == "csv" and text.isdecimal() and len(text) < 66:
        meant = {node for node in nodes if int.from_bytes(node[1:], "big") == int(text)}
    else:
        named = {node for node, alias in found.aliases.items() if alias == text} & nodes
        meant = named or {node for node in nodes if node.hex().startswith(text.lower())}
    if len(meant) != 1:
        fail(f"{len(meant)} nodes of this graph match {text!r}; give a whole key, or more of it")
    return meant.pop()


@app.command(epilog=example("graph show"))
def show(data: Data = None, as_json: Json = False) -> None:
    """Tell how much of the network the running node knows."""
    print_result(ask_node(data, lambda node: node.graph()), as_json, show_known)


def _read(file: Path) -> ImportedGraph:
    return run_guarded(lambda: read_graph(read_file(file)))


def show_graph(figures: GraphStatistics) -> None:
    """Print what a graph is like: counts, then how values are spread."""
    spreads = {name: value for name, value in asdict(figures).items() if isinstance(value, Spread)}
    facts({name.replace("_", " "): value for name, value in asdict(figures).items() if name not in spreads})
    rows = [(name.replace("_", " "), *astuple(value)) for name, value in spreads.items()]
    show_table(("of",), rows, figures=Spread.__struct_fields__)


def show_routes(routes: Sequence[Route], aliases: Mapping[NodeKey, str]) -> None:
    """Print routes hop by hop, in millisatoshi."""
    rows = [
        (part, number, hop.channel.hex()[:16], aliases.get(hop.node) or hop.node.hex()[:16], hop.amount)
        for part, route in enumerate(routes)
        for number, hop in enumerate(route.hops)
    ]
    show_table(("part", "hop", "channel", "to"), rows, figures=("amount",))
    delivered, fee = sum(route.delivered for route in routes), sum(route.fee for route in routes)
    say(f"delivers {delivered} msat for a fee of {fee} msat, {fee * 1_000_000 / delivered:.0f} ppm")
