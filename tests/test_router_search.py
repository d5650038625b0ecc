"""Paths are the cheapest ones, keep every limit to the last unit, and are the same in plain and in compiled form."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidInput
from tallystick.router.errors import NoRoute, Unpaid
from tallystick.router.objects import Edge, ForwardingPolicy, Hop, NodeKey, Route
from tallystick.router.onion.payload import HOPS_MAX
from tallystick.router.pathfinding.beliefs import BIMODAL, UNIFORM, Prior
from tallystick.router.pathfinding.graph import LOCK_RATE, Graph
from tallystick.router.pathfinding.kernels import PAUSE, PLAIN, Compiled, Kernels, compilable, compiled_kernels
from tallystick.router.pathfinding.liquidity import Knowledge
from tallystick.router.pathfinding.planner import Costs, Planner, warm_up
from tallystick.router.pathfinding.search import Question
from tallystick.router.pathfinding.steps import finish
from tallystick.router.testing.networks import channel_id, node_key, random_network

COSTS = Costs()
NOW = 1000.0


def planner(edges: Sequence[Edge], prior: Prior = BIMODAL, *, numba: bool = False) -> Planner:
    graph = Graph(edges, compiled=numba)
    return Planner(graph, Knowledge(graph, prior=prior), COSTS)


def cost(edges: Sequence[Edge], route: Route, prior: Prior) -> float:
    """Return what a route costs by the definition in `search`, with its exact amounts."""
    by_direction = {(edge.channel, edge.target): edge for edge in edges}
    amount = route.delivered
    total = float(route.fee)
    for at, hop in enumerate(route.hops):
        edge = by_direction[hop.channel, hop.node]
        total += hop.amount * edge.policy.margin * LOCK_RATE * (at > 0) + amount * COSTS.hop_ppm / 1e6
        total -= amount * COSTS.risk_ppm / 1e6 * math.log(1 - prior.below(hop.amount / edge.capacity))
    return total


def paths(edges: Sequence[Edge], source: NodeKey, target: NodeKey, amount: int) -> list[Route]:
    """Return all routes without loops that keep all limits, found the slow way."""
    found: list[Route] = []

    def extend(node: NodeKey, amount: int, hops: tuple[Hop, ...], visited: frozenset[NodeKey]) -> None:
        if node == source:
            found.append(Route(hops))
            return
        for edge in edges:
            if edge.target == node and edge.source not in visited and edge.policy.carries(amount):
                if amount >= edge.capacity:
                    continue
                fee = edge.policy.fee(amount) if edge.source != source else 0
                hop = Hop(edge.channel, edge.target, amount)
                extend(edge.source, amount + fee, (hop, *hops), visited | {edge.source})

    extend(target, amount, (), frozenset({target}))
    return found


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.sampled_from([1e-4, 1e-2, 0.1, 0.4, 0.9]), numba=st.booleans())
def test_a_route_costs_what_the_cheapest_of_all_paths_costs_and_keeps_all_limits(
    seed: int, share: float, numba: bool
) -> None:
    rng = random.Random(seed)
    edges = random_network(rng, 6, rng.randint(5, 10))
    prior = rng.choice((BIMODAL, UNIFORM))
    amount = max(1, int(10**7 * share))
    source, target = node_key(0), node_key(1)
    possible = paths(edges, source, target, amount)
    try:
        route = planner(edges, prior, numba=numba).route(source, target, amount, max_fee=10**9, now=NOW)
    except NoRoute:
        assert not possible
        return
    assert route in possible
    best = min(cost(edges, other, prior) for other in possible)
    assert cost(edges, route, prior) <= best * 1.001 + 2  # floors of fees


@pytest.mark.parametrize("numba", [False, True])
@pytest.mark.parametrize("prior", [BIMODAL, UNIFORM])
def test_both_searches_find_the_same_costs_in_larger_networks(numba: bool, prior: Prior) -> None:
    rng = random.Random(3)
    edges = random_network(rng, 300, 1200)
    graph = Graph(edges, compiled=numba)
    kernels: Kernels = compiled_kernels() if numba else PLAIN
    found = 0
    for _ in range(60):
        one, other = rng.sample(graph.nodes, 2)
        amount = 10 ** rng.uniform(3, 6)
        start, end = graph.index(one), graph.index(other)
        assert start is not None and end is not None
        ask = Question(graph.count, start, end, amount, amount / 1000, amount / 100_000, prior.slope)
        both = finish(kernels.two_sided(graph.columns, ask, PAUSE))
        exact = finish(kernels.one_sided(graph.columns, ask, PAUSE))
        assert bool(both) == bool(exact)
        if exact:
            found += 1
            assert running(graph, both, amount, prior) == pytest.approx(running(graph, exact, amount, prior), rel=1e-3)
    assert found > 30


def running(graph: Graph, slots: Sequence[int], amount: float, prior: Prior) -> float:
    """Return the cost of a path, with the amounts as they grow backwards, in floats."""
    total, delivered = 0.0, amount
    for number, slot in enumerate(reversed(slots)):
        edge = graph.edge(slot)
        first = number == len(slots) - 1
        fee = 0.0 if first else edge.policy.base_fee + amount * edge.policy.fee_ppm / 1e6
        total += fee + delivered / 100_000
        total += 0 if first else amount * edge.policy.margin * LOCK_RATE
        total -= delivered / 1000 * math.log(1 - prior.below(amount / edge.capacity))
        amount += fee
    return total


def test_plain_and_compiled_searches_return_the_same_routes() -> None:
    edges = random_network(random.Random(8), 100, 400)
    plain, fast = planner(edges), planner(edges, numba=True)
    rng = random.Random(1)
    for _ in range(40):
        source, target = rng.sample(sorted(plain.graph.nodes), 2)
        answers = []
        for who in (plain, fast):
            try:
                answers.append(str(who.route(source, target, 10**5, max_fee=10**4, now=NOW)))
            except NoRoute as error:
                answers.append(error.reason)
        assert answers[0] == answers[1]


def line(*policies: ForwardingPolicy, capacity: int = 10**6) -> list[Edge]:
    """Return a line of channels from node 0 on, with these policies on the way."""
    return [
        Edge(channel_id(at), node_key(at), node_key(at + 1), capacity, policy) for at, policy in enumerate(policies)
    ]


def test_amounts_are_exact_backwards_from_the_payee_and_our_own_channel_is_free() -> None:
    edges = line(
        ForwardingPolicy(base_fee=999), ForwardingPolicy(base_fee=1, fee_ppm=333), ForwardingPolicy(fee_ppm=77)
    )
    route = planner(edges).route(node_key(0), node_key(3), 100_003, max_fee=100, now=NOW)
    assert [hop.amount for hop in route.hops] == [100_044, 100_010, 100_003]
    assert route.fee == 7 + 34


def test_amounts_beyond_what_floats_can_hold_stay_exact() -> None:
    amount = 10**30 + 1
    edges = line(ForwardingPolicy(), ForwardingPolicy(base_fee=7, fee_ppm=1), capacity=10**31)
    route = planner(edges).route(node_key(0), node_key(2), amount, max_fee=10**27, now=NOW)
    assert [hop.amount for hop in route.hops] == [amount + 7 + amount // 10**6, amount]


def test_a_limit_that_the_guessed_fees_would_break_but_the_exact_ones_keep_is_used_fully() -> None:
    edges = line(ForwardingPolicy(maximum=1001), ForwardingPolicy(base_fee=1, maximum=1000))
    route = planner(edges).route(node_key(0), node_key(2), 1000, max_fee=1, now=NOW)
    assert [hop.amount for hop in route.hops] == [1001, 1000]
    with pytest.raises(NoRoute) as caught:
        planner(edges).route(node_key(0), node_key(2), 1001, max_fee=1, now=NOW)
    assert caught.value.reason is Unpaid.NO_LIQUIDITY


def test_with_a_tight_fee_limit_a_riskier_and_cheaper_path_is_taken() -> None:
    sure = [
        Edge(channel_id(0), node_key(0), node_key(1), 10**9, ForwardingPolicy()),
        Edge(channel_id(1), node_key(1), node_key(3), 10**9, ForwardingPolicy(fee_ppm=200)),
    ]
    cheap = [
        Edge(channel_id(2), node_key(0), node_key(2), 10**6, ForwardingPolicy()),
        Edge(channel_id(3), node_key(2), node_key(3), 10**6, ForwardingPolicy(fee_ppm=1)),
    ]
    who = planner([*sure, *cheap], UNIFORM)
    assert who.route(node_key(0), node_key(3), 500_000, max_fee=1000, now=NOW).fee == 100
    assert who.route(node_key(0), node_key(3), 500_000, max_fee=10, now=NOW).fee == 0
    with pytest.raises(NoRoute, match="more than the limit of 0") as caught:
        who.route(node_key(0), node_key(3), 2_000_000, max_fee=0, now=NOW)
    assert caught.value.reason is Unpaid.FEE_LIMIT


def test_why_there_is_no_route_is_told_apart() -> None:
    who = planner(line(ForwardingPolicy(), ForwardingPolicy()))
    for target, amount, reason in (
        (node_key(2), 10**7, Unpaid.NO_LIQUIDITY),
        (node_key(9), 1, Unpaid.NO_ROUTE),
    ):
        with pytest.raises(NoRoute) as caught:
            who.route(node_key(0), target, amount, max_fee=10, now=NOW)
        assert caught.value.reason is reason
    with pytest.raises(NoRoute) as caught:  # channels carry one way only
        who.route(node_key(2), node_key(0), 1, max_fee=10, now=NOW)
    assert caught.value.reason is Unpaid.NO_ROUTE


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((50, 900, 900), "lead from the payer can carry 50 at most, not 100"),
        ((900, 900, 50), "lead to the payee can carry 50 at most, not 100"),
        ((900, 50, 900), "no path that could carry 100 is known"),
    ],
)
def test_a_payer_is_told_at_which_end_an_amount_does_not_fit(sizes: tuple[int, ...], said: str) -> None:
    edges = [
        Edge(channel_id(at), node_key(at), node_key(at + 1), size, ForwardingPolicy()) for at, size in enumerate(sizes)
    ]
    with pytest.raises(NoRoute, match=said) as caught:
        planner(edges).route(node_key(0), node_key(3), 100, max_fee=10, now=NOW)
    assert caught.value.reason is Unpaid.NO_LIQUIDITY


def test_a_route_is_never_longer_than_an_onion_can_hold() -> None:
    free = line(*[ForwardingPolicy()] * (HOPS_MAX + 1))
    with pytest.raises(NoRoute):
        planner(free).route(node_key(0), node_key(HOPS_MAX + 1), 1000, max_fee=10, now=NOW)
    dear = Edge(channel_id(99), node_key(0), node_key(HOPS_MAX), 10**6, ForwardingPolicy())
    toll = Edge(channel_id(98), node_key(HOPS_MAX), node_key(HOPS_MAX + 1), 2000, ForwardingPolicy(base_fee=500))
    free = [*free[:-1], Edge(channel_id(97), *node_pair(HOPS_MAX), 10**6, ForwardingPolicy()), toll]
    assert len(planner([*free, dear]).route(node_key(0), node_key(HOPS_MAX + 1), 1000, max_fee=500, now=NOW).hops) == 2


def node_pair(number: int) -> tuple[NodeKey, NodeKey]:
    return node_key(number), node_key(number + 1)


@pytest.mark.parametrize("amount", [0, -1, 2**128, 1.5])
def test_amounts_that_are_none_are_refused(amount: int) -> None:
    with pytest.raises(InvalidInput):
        planner(line(ForwardingPolicy())).route(node_key(0), node_key(1), amount, max_fee=1, now=NOW)


def test_a_payment_to_oneself_is_refused() -> None:
    with pytest.raises(InvalidInput, match="oneself"):
        planner(line(ForwardingPolicy())).route(node_key(0), node_key(0), 1, max_fee=1, now=NOW)


def test_warming_up_leaves_nothing_to_compile() -> None:
    warm_up()
    kernels = compiled_kernels()
    for kernel in (kernels.two_sided, kernels.one_sided, kernels.cheapest_flow):
        assert isinstance(kernel, Compiled) and kernel.code.signatures


def test_without_numba_everything_works_in_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("numba", "numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    assert not compilable()
    who = planner(random_network(random.Random(8), 100, 400))
    source, target = sorted(who.graph.nodes)[:2]
    assert who.plan(source, target, 10**6, max_fee=10**5, max_parts=4, now=NOW)
    with pytest.raises(ImportError):
        Graph(compiled=True)
