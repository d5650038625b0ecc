"""The graph is the same whether it was made at once or patched step by step (I10), in lists and in arrays."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.objects import Edge, ForwardingPolicy, NodeKey
from tallystick.router.pathfinding.graph import Graph
from tallystick.router.testing.networks import channel_id, node_key, random_network

BY_SLOT = ("base", "share", "weight", "minimum", "limit", "per_capacity", "lower", "upper", "share_upper", "held")


def picture(graph: Graph) -> dict[str, Any]:
    """Return everything that a search could see, without slots and indices."""
    columns = graph.columns
    seen: dict[str, Any] = {}
    for edge in graph:
        slot = graph.slot(edge.channel, edge.target)
        assert slot is not None and graph.edge(slot) == edge
        assert columns.source[slot] == graph.index(edge.source)
        assert columns.target[slot] == graph.index(edge.target)
        seen[f"{edge}"] = [float(getattr(columns, name)[slot]) for name in BY_SLOT]
    for node in graph.nodes:
        seen[node.hex()] = (
            sorted((edge.channel, edge.target) for edge in graph.leaving(node)),
            sorted((edge.channel, edge.source) for edge in graph.reaching(node)),
            only(graph, columns.only_next, node),
            only(graph, columns.only_before, node),
        )
    return seen


def only(graph: Graph, column: Any, node: NodeKey) -> NodeKey | None:
    index = graph.index(node)
    assert index is not None
    found = int(column[index])
    return next((other for other in graph.nodes if graph.index(other) == found), None)


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "drop", "remove"]), st.integers(0, 11), st.integers(0, 2**32)),
    min_size=1,
    max_size=60,
)


def changed(edge: Edge, seed: int) -> Edge:
    rng = random.Random(seed)
    policy = ForwardingPolicy(
        base_fee=rng.randint(0, 5), fee_ppm=rng.randint(0, 5), maximum=rng.randint(0, 5), enabled=rng.random() < 0.7
    )
    return Edge(edge.channel, edge.source, edge.target, rng.choice((edge.capacity, 7)), policy)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, compiled=st.booleans())
def test_a_graph_patched_step_by_step_equals_one_made_at_once(
    steps: list[tuple[str, int, int]], compiled: bool
) -> None:
    possible = random_network(random.Random(5), 5, 6)
    graph = Graph(compiled=compiled)
    known: dict[tuple[ChannelId, NodeKey], Edge] = {}
    for step, number, seed in steps:
        edge = changed(possible[number], seed)
        if step == "put":
            graph.put(edge)
            known[edge.channel, edge.target] = edge
        elif step == "remove":
            graph.remove(edge.channel, edge.target)
            known.pop((edge.channel, edge.target), None)
        else:
            graph.drop(edge.channel)
            known = {key: value for key, value in known.items() if key[0] != edge.channel}
        assert len(graph) == len(known)
    assert sorted(graph, key=str) == sorted(known.values(), key=str)
    assert picture(graph) == picture(Graph(known.values(), compiled=compiled))
    assert picture(graph) == picture(Graph(known.values(), compiled=not compiled))


def test_a_graph_grows_and_takes_slots_and_nodes_again() -> None:
    edges = random_network(random.Random(1), 300, 1000)
    graph = Graph(edges)
    room = len(graph.columns.base)
    for edge in edges:
        graph.remove(edge.channel, edge.target)
    assert len(graph) == 0 and graph.nodes == []
    for edge in edges:
        graph.put(edge)
    assert len(graph.columns.base) == room
    assert picture(graph) == picture(Graph(edges))
    assert all(len(column) in (room, 512) for column in graph.columns)


def test_a_channel_that_is_off_or_carries_nothing_is_met_by_no_search_but_is_known() -> None:
    off = Edge(channel_id(1), node_key(1), node_key(2), 100, ForwardingPolicy(enabled=False))
    narrow = Edge(channel_id(2), node_key(1), node_key(2), 100, ForwardingPolicy(minimum=50, maximum=49))
    graph = Graph([off, narrow])
    assert list(graph.leaving(node_key(1))) == [] and list(graph.reaching(node_key(2))) == []
    assert graph.get(off.channel, off.target) == off
    on = Edge(off.channel, off.source, off.target, 100, ForwardingPolicy())
    graph.put(on)
    assert list(graph.leaving(node_key(1))) == [on]


def test_hints_stay_until_they_are_taken_back_as_often_and_gossip_goes_before() -> None:
    hint = Edge(channel_id(1), node_key(1), node_key(2), 0, ForwardingPolicy(fee_ppm=7))
    graph = Graph()
    graph.hint([hint])
    graph.hint([hint])
    graph.unhint([hint])
    assert graph.get(hint.channel, hint.target) == hint
    graph.unhint([hint])
    assert len(graph) == 0
    announced = Edge(channel_id(1), node_key(1), node_key(2), 5, ForwardingPolicy())
    graph.hint([hint])
    graph.put(announced)
    graph.hint([hint])
    graph.unhint([hint])
    graph.unhint([hint])
    assert list(graph) == [announced]


def test_a_hint_that_gossip_took_away_is_there_again_for_the_next_payment() -> None:
    hint = Edge(channel_id(1), node_key(1), node_key(2), 0, ForwardingPolicy(fee_ppm=7))
    graph = Graph()
    graph.hint([hint])
    graph.drop(hint.channel)
    graph.hint([hint])
    assert graph.get(hint.channel, hint.target) == hint and graph.is_hint(hint.channel, hint.target)
    graph.unhint([hint])
    assert graph.get(hint.channel, hint.target) == hint
    graph.unhint([hint])
    assert graph.get(hint.channel, hint.target) is None


def test_a_direction_whose_other_end_changes_is_replaced() -> None:
    graph = Graph([Edge(channel_id(1), node_key(1), node_key(2), 9, ForwardingPolicy())])
    graph.put(Edge(channel_id(1), node_key(3), node_key(2), 9, ForwardingPolicy()))
    assert set(graph.nodes) == {node_key(3), node_key(2)} and len(graph) == 1


def test_a_channel_to_itself_is_not_taken_in() -> None:
    graph = Graph([Edge(channel_id(1), node_key(1), node_key(1), 9, ForwardingPolicy())])
    assert len(graph) == 0
