"""A way that was found is taken again as long as it is as good as it was, and never beyond a limit."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tallystick.router.errors import NoRoute
from tallystick.router.objects import Edge, ForwardingPolicy, Hop, Route
from tallystick.router.pathfinding.graph import Graph
from tallystick.router.pathfinding.liquidity import Knowledge
from tallystick.router.pathfinding.planner import Planner
from tallystick.router.pathfinding.route_cache import LIFETIME, WAYS_MAX, RouteCache
from tallystick.router.testing.networks import channel_id, node_key, random_network

NOW, AMOUNT = 1e9, 10_000
PAYER, LEFT, RIGHT, PAYEE = map(node_key, range(4))
CHEAP, DEAR = ForwardingPolicy(fee_ppm=1_000), ForwardingPolicy(fee_ppm=5_000)
SIZE = 10**7


def edge(number: int, source: int, target: int, policy: ForwardingPolicy = CHEAP) -> Edge:
    return Edge(channel_id(number), node_key(source), node_key(target), SIZE, policy)


class World:
    """Two ways from the payer to the payee, of which the left one is cheaper; it was found and is remembered."""

    def __init__(self) -> None:
        self.graph = Graph([edge(1, 0, 1), edge(2, 1, 3), edge(3, 0, 2), edge(4, 2, 3, DEAR)])
        self.knowledge = Knowledge(self.graph)
        self.planner = Planner(self.graph, self.knowledge)
        self.cache = RouteCache(self.planner)
        self.best = self.search()
        self.cache.remember(PAYEE, self.best, NOW)

    def search(self, amount: int = AMOUNT) -> Route:
        return self.planner.route(PAYER, PAYEE, amount, max_fee=amount, now=NOW)

    def recall(self, amount: int = AMOUNT, max_fee: int = AMOUNT, now: float = NOW) -> Route | None:
        return self.cache.recall(PAYEE, amount, max_fee, now)


def test_a_way_is_taken_again_with_exact_amounts() -> None:
    world = World()
    assert world.recall() == world.best and world.best.hops[0].node == LEFT
    near = AMOUNT + 77
    assert world.recall(near) == world.search(near), "what is nearly as much goes the same way, exactly"
    assert world.recall(2 * AMOUNT) is None and world.cache.recall(RIGHT, AMOUNT, AMOUNT, NOW) is None


def test_many_payments_at_once_do_not_make_a_way_forgotten_that_has_room() -> None:
    world = World()
    for _ in range(5):
        found = world.recall()
        assert found is not None
        world.knowledge.reserve(found)


HAPPENINGS: dict[str, Callable[[World], object]] = {
    "its channel asks for more": lambda world: world.graph.put(edge(2, 1, 3, DEAR)),
    "its channel is switched off": lambda world: world.graph.put(edge(2, 1, 3, ForwardingPolicy(enabled=False))),
    "its channel is gone": lambda world: world.graph.drop(channel_id(2)),
    "another channel asks for less": lambda world: world.graph.put(edge(4, 2, 3, ForwardingPolicy())),
    "there is a new channel": lambda world: world.graph.put(edge(5, 0, 3)),
    "it failed": lambda world: world.knowledge.on_failed(channel_id(2), PAYEE, 2 * AMOUNT, NOW),
    "its channel is avoided": lambda world: world.knowledge.avoid(channel_id(2), PAYEE, NOW + 5),
    "its node is avoided": lambda world: world.knowledge.avoid_node(LEFT, NOW + 5),
    "we have spent our part": lambda world: world.knowledge.own(channel_id(1), LEFT, AMOUNT - 1),
    "parts under way have taken it": lambda world: world.knowledge.reserve(
        Route((Hop(channel_id(1), LEFT, SIZE // 2), Hop(channel_id(2), PAYEE, SIZE // 2)))
    ),
}


@pytest.mark.parametrize("happening", HAPPENINGS.values(), ids=HAPPENINGS.keys())
def test_a_way_that_may_not_be_the_best_any_more_is_forgotten(happening: Callable[[World], object]) -> None:
    world = World()
    happening(world)
    assert world.recall() is None and len(world.cache) == 0


def test_a_way_that_costs_more_than_this_payment_may_is_not_taken() -> None:
    world = World()
    assert world.recall(max_fee=world.best.fee) == world.best
    assert world.recall(max_fee=world.best.fee - 1) is None
    assert world.recall() == world.best, "another payment may cost more"


def test_a_way_is_looked_for_again_after_a_while() -> None:
    world = World()
    assert world.recall(now=NOW + LIFETIME - 1) is not None
    assert world.recall(now=NOW + LIFETIME) is None


def test_ways_are_bounded_and_the_oldest_goes_first() -> None:
    world = World()
    for number in range(WAYS_MAX):
        world.cache.remember(node_key(1_000 + number), world.best, NOW)
    assert len(world.cache) == WAYS_MAX and world.recall() is None


def test_what_is_recalled_keeps_every_limit_and_costs_about_what_a_search_would_find() -> None:
    rng = random.Random(11)
    graph = Graph(random_network(rng, 60, 200))
    knowledge = Knowledge(graph)
    planner = Planner(graph, knowledge)
    ways, recalled = RouteCache(planner), 0
    targets = graph.nodes[1:8]
    for _ in range(300):
        target, amount = rng.choice(targets), rng.randint(9_000, 10_000)
        try:
            best = planner.route(graph.nodes[0], target, amount, max_fee=10**6, now=NOW)
        except NoRoute:
            continue
        found = ways.recall(target, amount, 10**6, NOW)
        if found is None:
            ways.remember(target, best, NOW)
            found = best
        else:
            recalled += 1
            assert found.delivered == amount and found.hops[-1].node == target
            assert planner.weigh((found,), amount) <= planner.weigh((best,), amount) * 1.2
        for hop in found.hops:
            held = graph.get(hop.channel, hop.node)
            assert held is not None and held.policy.carries(hop.amount) and hop.amount <= knowledge.room(held)
        rng.choice((knowledge.reserve, lambda route: knowledge.on_settled(route, NOW)))(found)
    assert recalled > 30
