"""Searches pause, and what happens meanwhile neither harms them nor is lost: work is counted here, never time."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import pytest

from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.errors import NoRoute
from tallystick.router.objects import Edge, ForwardingPolicy, Hop, NodeKey, Route
from tallystick.router.pathfinding import planner as planner_module
from tallystick.router.pathfinding.columns import floats
from tallystick.router.pathfinding.flow import Demand, pieces_of
from tallystick.router.pathfinding.graph import WAITING_MAX, Graph
from tallystick.router.pathfinding.kernels import CHEAPEST_FLOW, ONE_SIDED, TWO_SIDED, Kernel
from tallystick.router.pathfinding.liquidity import Knowledge
from tallystick.router.pathfinding.planner import Planner
from tallystick.router.pathfinding.search import Question
from tallystick.router.pathfinding.steps import Steps, finish
from tallystick.router.testing.networks import channel_id, node_key, random_network

NOW = 1e9
PAUSE = 50
"""Slots between pauses in these tests."""

DEGREE = 64
"""No node of these networks has more slots in one direction."""


@pytest.fixture(autouse=True)
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_module, "PAUSE", PAUSE)


class Counted(list[int]):
    """A column that counts who reads it."""

    reads = 0

    def __getitem__(self, index: int) -> int:  # type: ignore[override]  # kernels ask for one slot at a time
        self.reads += 1
        return super().__getitem__(index)


def network(nodes: int = 400, channels: int = 1_500, seed: int = 5) -> Planner:
    graph = Graph(random_network(random.Random(seed), nodes, channels))
    return Planner(graph, Knowledge(graph))


def far_ones(who: Planner) -> tuple[Edge, Edge]:
    """Edges whose ends are good questions: whoever is there reaches a good deal of the network."""
    edges = sorted(who.graph, key=lambda edge: edge.channel)
    return edges[0], edges[-1]


def planning(who: Planner, amount: int = 10**7) -> Steps[tuple[Route, ...]]:
    one, other = far_ones(who)
    return who.planning(one.source, other.target, amount, max_fee=amount, max_parts=8, now=NOW)


T = TypeVar("T")


def pauses(steps: Steps[T]) -> int:
    count = 0
    try:
        while True:
            next(steps)
            count += 1
    except StopIteration:
        return count


@pytest.mark.parametrize("amount", [10**5, 10**7])
def test_between_two_pauses_no_search_looks_at_more_than_it_may(amount: int) -> None:
    who = network()
    columns = who.graph.columns
    out, into = Counted(columns.next_out), Counted(columns.next_in)
    who.graph.columns = columns._replace(next_out=out, next_in=into)
    steps, before, most, count = planning(who, amount), 0, 0, 0
    ended = False
    while not ended:
        try:
            next(steps)
        except StopIteration:
            ended = True
        looked = out.reads + into.reads
        most, before, count = max(most, looked - before), looked, count + 1
    assert count > 3, "this search should have paused"
    assert most <= PAUSE + 3 * DEGREE, "and each stretch should have been short"


def test_a_question_pauses_at_the_same_places_whenever_it_is_asked() -> None:
    assert pauses(planning(network())) == pauses(planning(network())) > 3


def test_a_search_that_pauses_finds_what_one_finds_that_does_not() -> None:
    who, other = network(), network()
    assert finish(planning(who)) == finish(planning(other))
    steps = planning(who)
    next(steps)
    assert who.graph.paused
    assert finish(steps) == finish(planning(other)) and not who.graph.paused


def happenings(who: Planner, edges: Sequence[Edge], rng: random.Random) -> None:
    """Some of what may happen to graph and knowledge, chosen without looking at either."""
    graph, knowledge = who.graph, who.knowledge
    known, edge = (rng.choice([edge for edge in edges if edge.channel[-1] % 2 == odd]) for odd in (0, 1))
    amount, fee, number = rng.randint(1, 10**6), rng.randint(0, 9_000), rng.randint(10**6, 10**9)
    route = Route((Hop(known.channel, known.target, amount),))
    graph.put(msgspec.structs.replace(edge, policy=ForwardingPolicy(base_fee=1, fee_ppm=fee, enabled=fee > 1_000)))
    graph.put(Edge(channel_id(number), edge.target, edge.source, 10**8, edge.policy))
    if fee % 3 == 0:
        graph.drop(edge.channel)
    graph.hint((Edge(channel_id(number + 1), edge.source, node_key(9_999), 10**6, edge.policy),))
    rng.choice((knowledge.on_failed, knowledge.on_passed))(known.channel, known.target, amount, NOW)
    knowledge.reserve(route)
    if fee % 2:
        knowledge.release(route)
        knowledge.on_settled(route, NOW)
    if fee % 5 == 0:
        knowledge.avoid(known.channel, known.target, NOW + 5)
    if fee % 7 == 0:
        knowledge.avoid_node(known.target, NOW + 5)


def columns_of(graph: Graph) -> dict[tuple[ChannelId, NodeKey], tuple[float, ...]]:
    """What searches read, by direction."""
    names = ("base", "weight", "minimum", "limit", "lower", "upper", "share_lower", "share_upper", "held")
    edges = [edge for node in graph.nodes for edge in graph.leaving(node)]
    slots = {(edge.channel, edge.target): graph.slot(edge.channel, edge.target) or 0 for edge in edges}
    return {key: tuple(getattr(graph.columns, name)[slot] for name in names) for key, slot in slots.items()}


@pytest.mark.parametrize("seed", range(4))
def test_what_happens_in_a_pause_waits_for_the_end_of_the_search_and_is_not_lost(seed: int) -> None:
    who, calm = network(200, 700, seed), network(200, 700, seed)
    edges = sorted(who.graph, key=lambda edge: (edge.channel, edge.target))
    rng, many = random.Random(seed), 0
    steps = planning(who)
    with contextlib.suppress(StopIteration, NoRoute):  # what is exact knows of the news: a route may not fit any more
        while True:
            next(steps)
            before = [list(column) for column in who.graph.columns]
            happenings(who, edges, rng)
            assert [list(column) for column in who.graph.columns] == before
            many += 1
    rng = random.Random(seed)
    finish(calm.knowledge.refreshing(NOW))
    for _ in range(many):
        happenings(calm, edges, rng)
    for one in (who, calm):
        finish(one.knowledge.refreshing(NOW))
    assert many > 3 and columns_of(who.graph) == columns_of(calm.graph)


def test_a_plan_that_nobody_wants_any_more_leaves_nothing_behind() -> None:
    who = network()
    finish(planning(who))
    before = columns_of(who.graph)
    for stop in range(1, pauses(planning(who)) + 1, 7):
        steps = planning(who)
        for _ in range(stop):
            next(steps)
        steps.close()
        assert not who.graph.paused and columns_of(who.graph) == before


def test_a_question_in_a_pause_is_answered_at_once() -> None:
    who = network()
    one, other = far_ones(who)
    expected = who.route(other.source, one.target, 1_000, max_fee=1_000, now=NOW)
    plan = finish(planning(who))
    steps = planning(who)
    next(steps)
    assert who.route(other.source, one.target, 1_000, max_fee=1_000, now=NOW) == expected
    assert who.graph.paused and finish(steps) == plan


def test_a_search_that_too_much_waits_for_pauses_no_more() -> None:
    who = network()
    steps = planning(who)
    next(steps)
    edge = next(iter(who.graph))
    for _ in range(WAITING_MAX):
        who.graph.put(edge)
    assert pauses(steps) == 0


def test_bringing_many_beliefs_up_to_date_pauses_too() -> None:
    who = network()
    for edge in list(who.graph):
        who.knowledge.on_passed(edge.channel, edge.target, 1, NOW)
    assert len(who.knowledge) > 1_000
    assert pauses(who.knowledge.refreshing(NOW + who.knowledge.half_life)) >= 4
    assert pauses(who.knowledge.refreshing(NOW + who.knowledge.half_life)) == 0


def demand_of(who: Planner, question: Question) -> Demand:
    pieces = pieces_of(who.knowledge.prior)
    return Demand(
        nodes=question.nodes,
        source=question.source,
        target=question.target,
        amount=question.amount,
        unit=1.0,
        risk=question.risk,
        hop=1e-6,
        spread=1e-6,
        least=1.0,
        rounds=50,
        ends=floats(pieces.ends, compiled=False),
        slopes=floats(pieces.slopes, compiled=False),
    )


@pytest.mark.parametrize("budget", [1, 7, 10**9])
@pytest.mark.parametrize("kernel", [TWO_SIDED, ONE_SIDED, CHEAPEST_FLOW])
def test_a_kernel_finds_the_same_in_steps_of_any_size_as_in_one(kernel: Kernel[Any, Any, Any], budget: int) -> None:
    who = network(100, 400)
    one, other = far_ones(who)
    start, end = who.graph.index(one.source), who.graph.index(other.target)
    assert start is not None and end is not None
    question: Any = Question(who.graph.count, start, end, 1e6, 1e3, 1.0, who.knowledge.prior.slope)
    if kernel is CHEAPEST_FLOW:
        question = demand_of(who, question)
    columns = who.graph.columns
    whole = kernel.whole(columns, question)
    assert whole and finish(kernel.plain(columns, question, budget)) == whole
    assert (pauses(kernel.plain(columns, question, budget)) > 10) == (budget < 10)


@pytest.mark.parametrize("numba", [False, True])
@pytest.mark.parametrize(("nodes", "many"), [(50, False), (400, True)])
def test_plans_pause_between_searches_in_large_networks_only(
    nodes: int, many: bool, numba: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner_module, "PAUSE", 10**9)
    graph = Graph(random_network(random.Random(5), nodes, 4 * nodes), compiled=numba)
    who = Planner(graph, Knowledge(graph))
    assert (pauses(planning(who, 10**6)) >= 1) == many
