"""The best way of a lock that pays no fee: the fewest hops, and of these the likeliest to carry it. Pure.

Beside the channels that the network knows, its receiver may have named some that lead to it (`LockWanted.ways`): they
are taken at its word, for this lock alone, as long as they disagree with nothing that is known. The lock may have to go
over certain nodes in a certain order (`LockWanted.over`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heappop, heappush

from tallystick.channels.session.expected import LockWanted
from tallystick.router.objects import Edge, ForwardingPolicy, Hop, NodeKey, Route
from tallystick.router.pathfinding.graph import Direction
from tallystick.router.sending.asset_graph import AssetGraph

HOPS_MOST = 6
"""Channels that such a lock goes over at most: each binds its amount until its end."""
EDGES_MOST = 50_000
"""Channels that one search looks at."""
_UNLIKELY = 20.0
"""What a channel costs at most, in hops, for being unlikely to carry an amount."""


def find_way(
    graph: AssetGraph, source: NodeKey, wanted: LockWanted, ahead: int, failed: set[Direction]
) -> Route | None:
    """Return the best way of a lock that expires in `ahead` seconds, None if there is none.

    Fewest hops first, as each costs one and its unlikeliness more; `failed` directions are not taken.
    """
    target, amount = NodeKey(wanted.target), wanted.amount
    stops = (target, *map(NodeKey, reversed(wanted.over)), source)
    hinted = _hinted(graph, wanted)
    heap: list[tuple[float, int, NodeKey]] = [(0.0, 0, target)]
    least, onwards, looked = {target: 0.0}, dict[NodeKey, Edge](), 0
    while heap:
        cost, hops, node = heappop(heap)
        if node == source:
            return _route(onwards, source, target, amount)
        if cost > least[node] or hops == HOPS_MOST:
            continue
        for edge in _reaching(graph, node, hinted):
            looked += 1
            if looked > EDGES_MOST:
                return None
            if (edge.channel, edge.target) in failed or (wanted.indirect and (edge.source, node) == (source, target)):
                continue
            if wanted.over and edge.source != stops[hops + 1]:
                continue
            doubt = _doubt(graph, edge, source, amount, ahead)
            if doubt is None:
                continue
            step = cost + 1 + doubt
            if step < least.get(edge.source, math.inf):
                least[edge.source], onwards[edge.source] = step, edge
                heappush(heap, (step, hops + 1, edge.source))
    return None


def _hinted(graph: AssetGraph, wanted: LockWanted) -> dict[NodeKey, list[Edge]]:
    """Return the channels that the receiver names, by where they lead: those that the network does not know."""
    target, network = NodeKey(wanted.target), graph.planner.graph
    named = (Edge(way.channel, NodeKey(way.hub), target, 0, ForwardingPolicy()) for way in wanted.ways)
    return {
        target: [edge for edge in named if graph.believes(edge, target) and network.slot(edge.channel, target) is None]
    }


def _reaching(graph: AssetGraph, node: NodeKey, hinted: dict[NodeKey, list[Edge]]) -> Iterator[Edge]:
    if node in graph.planner.graph:
        yield from graph.planner.graph.reaching(node)
    yield from hinted.get(node, ())


def _doubt(graph: AssetGraph, edge: Edge, source: NodeKey, amount: int, ahead: int) -> float | None:
    """Return how unlikely a channel is to carry such a lock, in hops; None: it may not be asked to, or cannot."""
    policy, knowledge = edge.policy, graph.knowledge
    if edge.source != source and not (policy.enabled and policy.carries(amount) and policy.margin <= ahead):
        return None
    if graph.planner.graph.get(edge.channel, edge.target) is None:
        return 0.0  # by the receiver's word
    if knowledge.room(edge) < amount:
        return None
    chance = knowledge.chance(Hop(edge.channel, edge.target, amount))
    return _UNLIKELY if chance <= 0 else min(_UNLIKELY, -math.log(chance))


def _route(onwards: dict[NodeKey, Edge], source: NodeKey, target: NodeKey, amount: int) -> Route:
    hops, node = list[Hop](), source
    while node != target:
        edge = onwards[node]
        hops.append(Hop(edge.channel, edge.target, amount))
        node = edge.target
    return Route(tuple(hops))
