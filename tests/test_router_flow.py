"""Plans of many parts: flows are the cheapest ones (ortools says so), plans are exact and keep every limit together."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.graph.python.min_cost_flow import SimpleMinCostFlow

from tallystick.channels.errors import InvalidInput
from tallystick.router.errors import NoRoute, Unpaid
from tallystick.router.objects import Edge, ForwardingPolicy, Route
from tallystick.router.pathfinding.beliefs import BIMODAL, UNIFORM, Prior
from tallystick.router.pathfinding.columns import floats
from tallystick.router.pathfinding.flow import Demand, Pieces, pieces_of, split
from tallystick.router.pathfinding.graph import Graph
from tallystick.router.pathfinding.kernels import PAUSE, PLAIN, compiled_kernels
from tallystick.router.pathfinding.liquidity import Knowledge
from tallystick.router.pathfinding.planner import Costs, Planner
from tallystick.router.pathfinding.steps import finish
from tallystick.router.testing.networks import channel_id, node_key, random_network

NOW = 1000.0
SCALE = 10**12
"""The oracle wants whole costs."""

RISK, HOP, SPREAD, LEAST = 5_000.0, 1e-5, 1e-6, 100.0


Arc = tuple[int, int, int, int, float]


def straight(graph: Graph, amount: int, pieces: Pieces, source: int) -> list[Arc]:
    """Return (slot, tail, head, room, cost per unit) of all pieces of all directions, built the plain way."""
    columns = graph.columns
    arcs = []
    for edge in graph:
        slot = graph.slot(edge.channel, edge.target)
        assert slot is not None
        if not edge.policy.enabled or edge.policy.minimum > amount or columns.limit[slot] < LEAST:
            continue
        tail, head = int(columns.source[slot]), int(columns.target[slot])
        cost = HOP + (columns.weight[slot] + columns.base[slot] * SPREAD if tail != source else 0.0)
        held, lower, upper = columns.held[slot], columns.lower[slot], columns.upper[slot]
        free = int(max(0.0, lower - held))
        width = upper - max(lower, held)
        bounds = [0, free, *(free + math.floor(width * end) for end in pieces.ends)] if width > 0 else [0, free]
        slopes = [0.0, *(RISK * slope / width for slope in pieces.slopes)] if width > 0 else [0.0]
        bounds = [min(bound, int(columns.limit[slot])) for bound in bounds]
        for start, end, slope in zip(bounds, bounds[1:], slopes, strict=False):
            if end > start:
                arcs.append((slot, tail, head, end - start, cost + slope))
    return arcs


def oracle(arcs: Sequence[Arc], source: int, target: int, amount: int) -> tuple[int, float]:
    """Return (what flows, what it costs), as ortools has it."""
    solver = SimpleMinCostFlow()
    numbers = [
        solver.add_arc_with_capacity_and_unit_cost(tail, head, room, round(cost * SCALE))
        for _, tail, head, room, cost in arcs
    ]
    solver.set_node_supply(source, amount)
    solver.set_node_supply(target, -amount)
    solver.solve_max_flow_with_min_cost()
    cost = sum(solver.flow(number) * arc[4] for number, arc in zip(numbers, arcs, strict=True))
    return solver.maximum_flow(), cost


def cost_of(flows: Sequence[tuple[int, float]], arcs: Sequence[Arc]) -> float:
    """Return what flows cost, each channel's cheapest pieces first; fail if one carries more than it may."""
    total = 0.0
    for slot, units in flows:
        left = units
        for _, _, _, room, cost in sorted((arc for arc in arcs if arc[0] == slot), key=lambda arc: arc[4]):
            taken = min(left, room)
            total += taken * cost
            left -= taken
        assert left == 0
    return total


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), amount=st.sampled_from([1_000, 100_000, 3_000_000, 20_000_000]), numba=st.booleans())
def test_the_flow_costs_what_the_optimum_costs(seed: int, amount: int, numba: bool) -> None:
    rng = random.Random(seed)
    nodes = rng.randint(4, 12)
    graph = Graph(random_network(rng, nodes, rng.randint(nodes, 4 * nodes)), compiled=numba)
    if node_key(0) not in graph or node_key(1) not in graph:
        return
    prior = rng.choice((BIMODAL, UNIFORM))
    knowledge = Knowledge(graph, prior=prior)
    for edge in list(graph):
        if rng.random() < 0.3:
            rng.choice((knowledge.on_passed, knowledge.on_failed))(
                edge.channel, edge.target, rng.randint(1, edge.capacity), NOW
            )
    finish(knowledge.refreshing(NOW))
    pieces, c = pieces_of(prior), graph.columns
    source, target = graph.index(node_key(0)), graph.index(node_key(1))
    assert source is not None and target is not None
    kernels = compiled_kernels() if numba else PLAIN
    demand = Demand(
        nodes=graph.count,
        source=source,
        target=target,
        amount=float(amount),
        unit=1.0,
        risk=RISK,
        hop=HOP,
        spread=SPREAD,
        least=LEAST,
        rounds=10_000,
        ends=floats(pieces.ends, compiled=numba),
        slopes=floats(pieces.slopes, compiled=numba),
    )
    flows = finish(kernels.cheapest_flow(c, demand, PAUSE))
    arcs = straight(graph, amount, pieces, source)
    flowing, best = oracle(arcs, source, target, amount)
    balance: Counter[int] = Counter()
    for slot, units in flows:
        balance[int(c.source[slot])] += int(units)
        balance[int(c.target[slot])] -= int(units)
    assert {node: units for node, units in balance.items() if units} == (
        {source: flowing, target: -flowing} if flowing else {}
    )
    assert cost_of(flows, arcs) == pytest.approx(best, rel=1e-6, abs=1e-3)


@pytest.mark.parametrize("prior", [BIMODAL, UNIFORM])
def test_the_pieces_are_convex_and_nowhere_above_the_curve(prior: Prior) -> None:
    pieces = pieces_of(prior)
    assert sorted(pieces.slopes) == list(pieces.slopes) and sorted(pieces.ends) == list(pieces.ends)
    height = start = 0.0
    for end, slope in zip(pieces.ends, pieces.slopes, strict=True):
        height += (end - start) * slope
        start = end
        assert height <= -math.log(1 - prior.below(end)) + 1e-9


def test_flows_split_into_paths_that_add_up_the_largest_first() -> None:
    ends = {1: (0, 5), 2: (5, 9), 3: (0, 6), 4: (6, 9), 5: (5, 6)}
    paths = split([(1, 10), (2, 4), (3, 1), (4, 7), (5, 6)], ends, 0)
    assert paths == [([1, 5, 4], 6), ([1, 2], 4), ([3, 4], 1)]


def planner(edges: Sequence[Edge], *, numba: bool = False) -> Planner:
    graph = Graph(edges, compiled=numba)
    return Planner(graph, Knowledge(graph, prior=UNIFORM), Costs())


def fits(edges: Sequence[Edge], routes: Sequence[Route]) -> bool:
    """Whether all parts together keep to policies and capacities, and pay every forwarder."""
    by_direction = {(edge.channel, edge.target): edge for edge in edges}
    total: Counter[object] = Counter()
    for route in routes:
        for at, hop in enumerate(route.hops):
            edge = by_direction[hop.channel, hop.node]
            total[hop.channel, hop.node] += hop.amount
            if not edge.policy.carries(hop.amount):
                return False
            if at and route.hops[at - 1].amount != hop.amount + edge.policy.fee(hop.amount):
                return False
    return all(units <= by_direction[direction].capacity for direction, units in total.items())  # type: ignore[index]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), amount=st.integers(1, 3 * 10**7), parts=st.integers(1, 16), numba=st.booleans())
def test_a_plan_delivers_the_amount_exactly_within_all_limits_or_says_why_not(
    seed: int, amount: int, parts: int, numba: bool
) -> None:
    rng = random.Random(seed)
    edges = random_network(rng, 8, 24)
    who = planner(edges, numba=numba)
    max_fee = rng.choice((10**9, amount // 1000))
    before = list(who.graph.columns.held)
    try:
        routes = who.plan(node_key(0), node_key(1), amount, max_fee=max_fee, max_parts=parts, now=NOW)
    except NoRoute as error:
        assert error.reason in (Unpaid.NO_ROUTE, Unpaid.NO_LIQUIDITY, Unpaid.FEE_LIMIT)
    else:
        assert sum(route.delivered for route in routes) == amount
        assert sum(route.fee for route in routes) <= max_fee
        assert len(routes) <= parts
        assert fits(edges, routes)
    assert list(who.graph.columns.held) == before


def parallel(count: int, *, capacity: int = 10**6, policy: ForwardingPolicy | None = None) -> list[Edge]:
    """Return `count` ways of two hops from node 0 to node 1."""
    edges = []
    for way in range(count):
        middle = node_key(10 + way)
        edges.append(Edge(channel_id(2 * way), node_key(0), middle, capacity, ForwardingPolicy()))
        edges.append(Edge(channel_id(2 * way + 1), middle, node_key(1), capacity, policy or ForwardingPolicy()))
    return edges


def test_what_no_single_path_can_carry_goes_over_many() -> None:
    who = planner(parallel(5))
    with pytest.raises(NoRoute):
        who.route(node_key(0), node_key(1), 3_000_000, max_fee=0, now=NOW)
    routes = who.plan(node_key(0), node_key(1), 3_000_000, max_fee=0, max_parts=16, now=NOW)
    assert sum(route.delivered for route in routes) == 3_000_000 and len(routes) == 5


def test_a_channel_that_takes_small_locks_only_is_used_for_several() -> None:
    who = planner(parallel(2, policy=ForwardingPolicy(maximum=300_000)))
    routes = who.plan(node_key(0), node_key(1), 1_000_000, max_fee=0, max_parts=16, now=NOW)
    assert sum(route.delivered for route in routes) == 1_000_000
    assert max(route.delivered for route in routes) <= 300_000 and len(routes) >= 4


def test_amounts_beyond_what_floats_can_hold_are_planned_to_the_last_unit() -> None:
    edges = parallel(5, capacity=10**30, policy=ForwardingPolicy(base_fee=1, fee_ppm=1))
    amount = 3 * 10**30 + 7
    routes = planner(edges).plan(node_key(0), node_key(1), amount, max_fee=10**26, max_parts=16, now=NOW)
    assert sum(route.delivered for route in routes) == amount and fits(edges, routes)


def test_the_fee_limit_is_one_for_all_parts() -> None:
    who = planner(parallel(4, policy=ForwardingPolicy(base_fee=100)))
    fee = sum(
        route.fee for route in who.plan(node_key(0), node_key(1), 2_000_000, max_fee=10**6, max_parts=16, now=NOW)
    )
    assert fee >= 300
    with pytest.raises(NoRoute) as caught:
        who.plan(node_key(0), node_key(1), 2_000_000, max_fee=299, max_parts=16, now=NOW)
    assert caught.value.reason is Unpaid.FEE_LIMIT


def test_plans_are_the_same_for_the_same_question() -> None:
    edges = random_network(random.Random(4), 30, 150)
    plans = {
        str(planner(edges).plan(node_key(0), node_key(1), 8 * 10**6, max_fee=10**7, max_parts=16, now=NOW))
        for _ in range(3)
    }
    assert len(plans) == 1


def test_a_plan_of_no_parts_is_refused() -> None:
    with pytest.raises(InvalidInput, match="max_parts"):
        planner(parallel(1)).plan(node_key(0), node_key(1), 1, max_fee=0, max_parts=0, now=NOW)
