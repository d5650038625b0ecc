"""Inbound fees of imported graphs: read, kept, and counted as LND counts them."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import pytest

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.objects import Edge, ForwardingPolicy, NodeKey, Route
from tallystick.router.pathfinding.graph import Direction, Graph
from tallystick.router.pathfinding.imports import ImportedGraph, read_graph, to_csv
from tallystick.router.pathfinding.inbound import RATE_MAX, InboundFee, fee_asked
from tallystick.router.pathfinding.kernels import compilable
from tallystick.router.pathfinding.liquidity import Knowledge
from tallystick.router.pathfinding.planner import Planner
from tallystick.sdk.bench.graphs import read_edges

KEYS = {name: f"02{number:064x}" for number, name in enumerate("abcde", 1)}
MODES = [False, pytest.param(True, marks=pytest.mark.skipif(not compilable(), reason="numba is not installed"))]


def policy(base: int, ppm: int, inbound: tuple[int | str, int | str] = (0, 0)) -> dict[str, Any]:
    return {
        "fee_base_msat": str(base),
        "fee_rate_milli_msat": str(ppm),
        "min_htlc": "1",
        "max_htlc_msat": "4950000000",
        "inbound_fee_base_msat": inbound[0],
        "inbound_fee_rate_milli_msat": inbound[1],
    }


def channel(number: int, one: str, other: str, mine: dict[str, Any], theirs: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "channel_id": str(number),
        "node1_pub": KEYS[one],
        "node2_pub": KEYS[other],
        "capacity": "5000000",
        "node1_policy": mine,
        "node2_policy": theirs,
    }


def lnd(*channels: dict[str, Any]) -> ImportedGraph:
    return read_graph(json.dumps({"nodes": [], "edges": channels}).encode())


def best(found: ImportedGraph, amount: int, compiled: bool = False, target: str = "c", parts: int = 1) -> Route:
    graph = Graph(found.edges, compiled=compiled, inbound=found.inbound)
    ends = (NodeKey(bytes.fromhex(KEYS[name])) for name in ("a", target))
    (route,) = Planner(graph, Knowledge(graph)).plan(*ends, amount, max_fee=amount, max_parts=parts, now=0.0)
    return route


DISCOUNT = (
    channel(1, "a", "b", policy(1000, 100), policy(1000, 500, (-1000, -400))),
    channel(2, "b", "c", policy(1000, 500), None),
)


@pytest.mark.parametrize("compiled", MODES)
def test_a_discount_is_taken_off_what_the_node_asks(compiled: bool) -> None:
    assert best(lnd(*DISCOUNT), 100_000_000, compiled).fee == 9_980


@pytest.mark.parametrize(
    ("inbound", "fee"),
    [
        ((0, 0), 51_000),
        ((500, 0), 51_500),
        ((0, 400), 51_000 + 40_020),  # of 100,051,000: rounded towards zero, as a discount is
        ((0, -400), 51_000 - 40_020),
        (("-60000", "0"), 0),  # more than the node asks: it never pays for being used
        ((0, -(2**31) + 1), 0),
    ],
)
def test_rounding_and_bounds_are_those_of_lnd(inbound: tuple[int | str, int | str], fee: int) -> None:
    graph = lnd(channel(1, "a", "b", policy(1000, 100), policy(1000, 500, inbound)), DISCOUNT[1])
    assert best(graph, 100_000_000).fee == fee


def test_a_rate_counts_up_to_ten_times_the_amount() -> None:
    assert InboundFee(0, 2**31 - 1).fee(7) == 70 and InboundFee(0, -(2**31) + 1).fee(7) == -70
    assert (
        InboundFee(3, RATE_MAX).fee(1) == 13 and fee_asked(5, None, 9) == 5 and fee_asked(5, InboundFee(-9, 0), 9) == 0
    )


def test_the_payee_asks_nothing_for_what_comes_to_it() -> None:
    graph = lnd(
        channel(1, "a", "b", policy(1, 1), policy(1, 1)), channel(2, "b", "c", policy(9, 0), policy(1, 1, (7, 7)))
    )
    assert best(graph, 1_000_000).fee == 9


@pytest.mark.parametrize("compiled", MODES)
def test_a_discount_draws_payments(compiled: bool) -> None:
    dear = channel(3, "a", "d", policy(0, 0), policy(1000, 500, (0, -450)))
    graph = lnd(channel(1, "a", "b", policy(0, 0), policy(0, 400)), channel(2, "b", "c", policy(0, 400), None), dear,
                channel(4, "d", "c", policy(0, 500), None))  # fmt: skip
    route = best(graph, 100_000_000, compiled, parts=4)
    assert [hop.node.hex() for hop in route.hops] == [KEYS["d"], KEYS["c"]]
    assert route.fee == 50_000 - 100_050_000 * 450 // 10**6


def test_csv_keeps_inbound_fees_and_is_as_before_without() -> None:
    found = lnd(*DISCOUNT)
    again = read_graph(to_csv(found.edges, found.inbound).encode())
    assert sorted((fee.base, fee.ppm) for fee in again.inbound.values()) == [(-1000, -400)]
    assert to_csv(again.edges, again.inbound) == to_csv(found.edges, found.inbound)
    assert "inbound" not in to_csv(found.edges)
    for line in ("0,0,1,5,0,0,0,1,0,1,7", "0,0,1,5,0,0,0,1,0,1,7,4294967296", "0,0,1,5,0,0,0,1,0,1"):
        with pytest.raises(InvalidInput, match="12 whole numbers"):
            read_graph((to_csv(found.edges, found.inbound).splitlines()[0] + "\n" + line).encode())


def test_the_least_number_of_32_bits_is_a_fee_as_any_node_may_announce_it() -> None:
    found = lnd(channel(1, "a", "b", policy(1, 1), policy(1, 1, ("-2147483648", -(2**31)))))
    assert list(found.inbound.values()) == [InboundFee(-(2**31), -(2**31))]
    assert list(read_graph(to_csv(found.edges, found.inbound).encode()).inbound.values()) == list(
        found.inbound.values()
    )


@pytest.mark.parametrize("wrong", ["x", "--1", "1.5", 2**31, "-2147483649"])
def test_what_is_no_fee_is_refused_by_name(wrong: int | str) -> None:
    with pytest.raises(InvalidInput, match="inbound_fee_base_msat"):
        lnd(channel(1, "a", "b", policy(1, 1), policy(1, 1, (wrong, 0))))


def test_benchmarks_refuse_what_they_do_not_count(tmp_path: Any) -> None:
    found = lnd(*DISCOUNT)
    (tmp_path / "graph.csv").write_text(to_csv(found.edges, found.inbound))
    with pytest.raises(InvalidInput, match="inbound fees"):
        read_edges(tmp_path / "graph.csv")


# --- against every path of small networks -------------------------------------------------------------------------


def network(rng: random.Random) -> tuple[list[Edge], dict[Direction, InboundFee]]:
    nodes = [NodeKey(bytes.fromhex(key)) for key in KEYS.values()]
    edges, inbound = [], {}
    for number in range(12):
        source, target = rng.sample(nodes, 2)
        name = ChannelId(number.to_bytes(32, "big"))
        terms = ForwardingPolicy(base_fee=rng.randrange(2_000), fee_ppm=rng.randrange(3_000))
        edges.append(Edge(name, source, target, 10**9, terms))
        if rng.random() < 0.6:
            inbound[name, target] = InboundFee(rng.randrange(-2_000, 1_000), rng.randrange(-3_000, 1_000))
    return edges, inbound


def fee_along(path: list[Edge], inbound: Mapping[Direction, InboundFee], amount: int) -> int:
    """Return what a path costs, by LND's words: from the payee backwards, each forwarder's two fees together."""
    carried = amount
    for before, edge in zip(reversed(path[:-1]), reversed(path[1:]), strict=True):
        out = edge.policy.base_fee + carried * edge.policy.fee_ppm // 10**6
        fee = inbound.get((before.channel, before.target), InboundFee(0, 0))
        product = fee.ppm * (carried + out)
        carried += max(0, out + fee.base + (product // 10**6 if product >= 0 else -(-product // 10**6)))
    return carried - amount


def all_paths(edges: list[Edge], here: NodeKey, target: NodeKey, passed: tuple[NodeKey, ...] = ()) -> list[list[Edge]]:
    if here == target:
        return [[]]
    return [
        [edge, *rest]
        for edge in edges
        if edge.source == here and edge.target not in passed
        for rest in all_paths(edges, edge.target, target, (*passed, here))
    ]


@pytest.mark.parametrize("seed", range(60))
def test_amounts_are_exact_and_the_way_is_near_the_best(seed: int) -> None:
    rng = random.Random(seed)
    edges, inbound = network(rng)
    source, target = (NodeKey(bytes.fromhex(KEYS[name])) for name in "ab")
    paths = all_paths(edges, source, target)
    if not paths:
        return
    amount = 1_000_000
    graph = Graph(edges, inbound=inbound)
    route = Planner(graph, Knowledge(graph)).route(source, target, amount, max_fee=amount, now=0.0)
    chosen = [graph.get(hop.channel, hop.node) for hop in route.hops]
    assert route.fee == fee_along([edge for edge in chosen if edge is not None], inbound, amount)
    cheapest = min(fee_along(path, inbound, amount) for path in paths)
    assert cheapest <= route.fee <= cheapest + 1_000, "what a search by node misses is small"
