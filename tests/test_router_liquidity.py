"""What payments teach: bounds hold the balance, are mirrored, fade, survive restarts; parts take theirs."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.channels.storage.sqlite.store import open_store
from tallystick.router.errors import NoRoute
from tallystick.router.objects import Edge, ForwardingPolicy, Hop, NodeKey, Route
from tallystick.router.pathfinding.beliefs import BIMODAL, UNIFORM, Prior, load_beliefs
from tallystick.router.pathfinding.graph import Graph
from tallystick.router.pathfinding.liquidity import FORGET_AFTER, HALF_LIFE, Knowledge
from tallystick.router.pathfinding.planner import Planner
from tallystick.router.pathfinding.steps import finish
from tallystick.router.sqlite import LIQUIDITY_SCHEMA
from tallystick.router.testing.networks import HiddenBalances, channel_id, node_key, quantile, random_network

CAPACITY = 10_000
NOW = 1000.0
CHANNEL, ONE, OTHER = channel_id(1), node_key(1), node_key(2)


def pair(capacity: int = CAPACITY) -> list[Edge]:
    return [
        Edge(CHANNEL, ONE, OTHER, capacity, ForwardingPolicy()),
        Edge(CHANNEL, OTHER, ONE, capacity, ForwardingPolicy()),
    ]


def knowledge(prior: Prior = BIMODAL, **options: int) -> Knowledge:
    return Knowledge(Graph(pair()), prior=prior, **options)


def bounds(known: Knowledge, node: NodeKey, now: float = NOW) -> tuple[int, int]:
    found = known.bounds(CHANNEL, node, now)
    assert found is not None
    return found


def over(node: NodeKey, amount: int) -> Route:
    return Route((Hop(CHANNEL, node, amount),))


@settings(max_examples=200, deadline=None)
@given(
    balance=st.integers(0, CAPACITY),
    steps=st.lists(st.tuples(st.booleans(), st.integers(1, CAPACITY), st.booleans()), max_size=30),
)
def test_bounds_learned_from_what_happens_always_hold_the_balance(
    balance: int, steps: list[tuple[bool, int, bool]]
) -> None:
    known = knowledge()
    now = NOW
    for forwards, amount, pays in steps:
        node = OTHER if forwards else ONE
        there = balance if forwards else CAPACITY - balance
        if amount <= there:
            if pays:
                known.on_settled(over(node, amount), now)
                balance += -amount if forwards else amount
            else:
                known.on_passed(CHANNEL, node, amount, now)
        else:
            known.on_failed(CHANNEL, node, amount, now)
        now += 7
        for end, is_there in ((OTHER, balance), (ONE, CAPACITY - balance)):
            lower, upper = bounds(known, end, now)
            assert lower <= is_there < upper


def test_what_is_learned_of_one_direction_is_mirrored_onto_the_other() -> None:
    known = knowledge()
    known.on_passed(CHANNEL, OTHER, 3000, NOW)
    known.on_failed(CHANNEL, OTHER, 7000, NOW)
    assert bounds(known, OTHER) == (3000, 7000)
    assert bounds(known, ONE) == (3001, 7001)


def test_a_search_reads_the_bounds_and_believes_more_of_what_passed() -> None:
    known = knowledge()
    graph = known.graph
    slot = graph.slot(CHANNEL, OTHER)
    finish(known.refreshing(NOW))
    known.on_failed(CHANNEL, OTHER, 7000, NOW)
    assert graph.columns.upper[slot] == 7000 and graph.columns.share_upper[slot] == BIMODAL.below(0.7)
    known.on_passed(CHANNEL, OTHER, 3000, NOW)
    assert graph.columns.lower[slot] == 3000 and graph.columns.share_lower[slot] == BIMODAL.below(0.3)


def test_news_that_contradicts_replaces_what_was_known() -> None:
    known = knowledge()
    known.on_passed(CHANNEL, OTHER, 5000, NOW)
    known.on_failed(CHANNEL, OTHER, 4000, NOW)
    assert bounds(known, OTHER) == (0, 4000)
    known.on_passed(CHANNEL, OTHER, 6000, NOW)
    assert bounds(known, OTHER) == (6000, CAPACITY + 1)


def test_beliefs_fade_by_half_in_a_half_life_and_are_forgotten_in_the_end() -> None:
    known = knowledge()
    known.on_passed(CHANNEL, OTHER, 4000, NOW)
    known.on_failed(CHANNEL, OTHER, 6001, NOW)
    assert bounds(known, OTHER, NOW + HALF_LIFE) == (2000, 8001)
    finish(known.refreshing(NOW + HALF_LIFE))
    assert known.graph.columns.upper[known.graph.slot(CHANNEL, OTHER)] == 8001
    finish(known.refreshing(NOW + (FORGET_AFTER + 1) * HALF_LIFE))
    assert len(known) == 0 and bounds(known, OTHER) == (0, CAPACITY + 1)
    assert known.graph.columns.upper[known.graph.slot(CHANNEL, OTHER)] == CAPACITY


@pytest.mark.parametrize("prior", [BIMODAL, UNIFORM, Prior(3.0)])
def test_a_prior_is_a_distribution_and_symmetric(prior: Prior) -> None:
    shares = [at / 100 for at in range(101)]
    below = [prior.below(share) for share in shares]
    assert below[0] == 0 and below[-1] == pytest.approx(1) and below == sorted(below)
    assert all(one == pytest.approx(1 - other) for one, other in zip(below, reversed(below), strict=True))
    for share in (0.01, 0.3, 0.9):
        assert quantile(prior, prior.below(share)) == pytest.approx(share)


def test_parts_under_way_take_what_they_take_until_they_are_released() -> None:
    known = knowledge()
    edge = pair()[0]
    part = over(OTHER, 4000)
    known.reserve(part)
    known.reserve(over(OTHER, 1000))
    assert known.room(edge) == CAPACITY - 5000
    assert known.graph.columns.held[known.graph.slot(CHANNEL, OTHER)] == 5000
    known.on_failed(CHANNEL, OTHER, 2000, NOW)
    assert bounds(known, OTHER) == (0, 7000)
    known.release(part)
    known.release(over(OTHER, 1000))
    assert known.reserved(CHANNEL, OTHER) == 0
    assert known.graph.columns.held[known.graph.slot(CHANNEL, OTHER)] == 0


def test_our_own_balance_is_known_exactly_and_parts_under_way_count() -> None:
    known = knowledge()
    who = Planner(known.graph, known)
    known.own(CHANNEL, OTHER, 6000)
    assert who.route(ONE, OTHER, 6000, max_fee=0, now=NOW).delivered == 6000
    with pytest.raises(NoRoute):
        who.route(ONE, OTHER, 6001, max_fee=0, now=NOW)
    known.reserve(over(OTHER, 5000))
    with pytest.raises(NoRoute):
        who.route(ONE, OTHER, 1001, max_fee=0, now=NOW)
    assert who.route(ONE, OTHER, 1000, max_fee=0, now=NOW).delivered == 1000
    known.on_failed(CHANNEL, OTHER, 1000, NOW)
    with pytest.raises(NoRoute):
        who.route(ONE, OTHER, 1000, max_fee=0, now=NOW)
    known.own(CHANNEL, OTHER, None)
    assert bounds(known, OTHER) == (0, CAPACITY + 1)


def test_what_is_avoided_is_not_used_until_the_time_is_over() -> None:
    for avoid in ("channel", "node"):
        known = knowledge()
        who = Planner(known.graph, known)
        if avoid == "channel":
            known.avoid(CHANNEL, OTHER, NOW + 10)
        else:
            known.avoid_node(OTHER, NOW + 10)
        known.graph.put(pair()[0])  # gossip does not undo it
        with pytest.raises(NoRoute):
            who.route(ONE, OTHER, 1, max_fee=0, now=NOW)
        assert who.route(OTHER, ONE, 1, max_fee=0, now=NOW).delivered == 1
        assert who.route(ONE, OTHER, 1, max_fee=0, now=NOW + 10).delivered == 1
        known.avoid(CHANNEL, OTHER, math.inf)
        with pytest.raises(NoRoute):
            who.route(ONE, OTHER, 1, max_fee=0, now=NOW + 10**9)


def test_a_channel_that_gossip_brings_back_is_known_again() -> None:
    known = knowledge()
    known.on_failed(CHANNEL, OTHER, 500, NOW)
    known.graph.drop(CHANNEL)
    for edge in pair():
        known.graph.put(edge)
    finish(known.refreshing(NOW))
    assert known.graph.columns.upper[known.graph.slot(CHANNEL, OTHER)] == 500


def test_beliefs_and_exclusions_are_bounded_and_the_oldest_go_first() -> None:
    edges = random_network(random.Random(1), 50, 400)
    known = Knowledge(Graph(edges), beliefs_max=100)
    for number, edge in enumerate(edges[::2]):
        known.on_passed(edge.channel, edge.target, 5, NOW + number)
        known.avoid(edge.channel, edge.target, math.inf)
        known.avoid_node(node_key(number), math.inf)
    assert 80 <= len(known) <= 113
    assert known.bounds(edges[-2].channel, edges[-2].target, NOW + 399) == (5, edges[-2].capacity + 1)
    first = known.graph.get(edges[0].channel, edges[0].target)
    assert first is not None and "avoided=100" in repr(known)


def test_beliefs_survive_a_restart_and_the_forgotten_ones_stay_forgotten(tmp_path: Path) -> None:
    edges = random_network(random.Random(1), 50, 200, capacity=10**35)
    known = Knowledge(Graph(edges), beliefs_max=64)
    store = open_store(tmp_path, [LIQUIDITY_SCHEMA], owner="test")
    for number, edge in enumerate(edges):
        known.on_failed(edge.channel, edge.target, edge.capacity // 3, NOW + number)
        if number % 10 == 0:
            store.commit(known.changes())
    store.commit(known.changes())
    assert known.changes() == []
    store.close()
    store = open_store(tmp_path, [LIQUIDITY_SCHEMA], owner="test")
    again = Knowledge(Graph(edges), beliefs_max=64)
    again.restore(load_beliefs(store))
    store.close()
    assert len(again) == len(known) > 0
    for edge in edges:
        assert again.bounds(edge.channel, edge.target, NOW) == known.bounds(edge.channel, edge.target, NOW)


def test_hidden_balances_keep_what_is_in_a_channel_together() -> None:
    edges = pair()
    hidden = HiddenBalances(edges, BIMODAL, random.Random(1))
    there = hidden.balances[CHANNEL, OTHER]
    assert there + hidden.balances[CHANNEL, ONE] == CAPACITY
    assert hidden.lock(over(OTHER, there + 1)) == 0 and hidden.balances[CHANNEL, OTHER] == there
    assert hidden.lock(over(OTHER, there)) is None and hidden.balances[CHANNEL, OTHER] == 0
    hidden.unlock(over(OTHER, there))
    assert hidden.lock(over(OTHER, there)) is None
    hidden.settle(over(OTHER, there))
    assert hidden.balances[CHANNEL, ONE] == CAPACITY
