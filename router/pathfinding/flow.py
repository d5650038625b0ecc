"""Many parts: the cheapest flow of an amount through the network, and the paths that it is made of.

The more a channel is asked for, the less probable it is to carry it: −log P grows faster than the amount. A plan over
all channels at once is a min-cost flow with convex costs, which successive shortest paths solve exactly once each
channel's cost is made of straight pieces:

    cost per unit = fee + worth of time + hop + base fee · parts / amount + risk · slope of its piece / uncertain range

The pieces are never built: where a channel's flow stands says which piece comes next and which may be taken back. A
search backwards from the payee gives every node its distance; with these as potentials, each search forwards meets
little but the nodes of the next path. What fees add on the way is not part of the flow: the planner adds it.

Pickhardt and Richter (2021) have the model; Ahuja, Magnanti and Orlin, "Network Flows" (1993), section 14.5, the
method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

import msgspec

from tallystick.router.pathfinding.beliefs import Prior
from tallystick.router.pathfinding.columns import Column, Columns
from tallystick.router.pathfinding.search import FOREVER

ROUNDS_MAX = 100
"""Paths found for one plan, at most."""

_MARKS = (0.25, 0.5, 0.7, 0.85, 0.95)
"""Where a channel's pieces end, as shares of what is uncertain of it. The last twentieth is never planned with."""


class Pieces(msgspec.Struct, frozen=True):
    """A convex cost in straight pieces, for an uncertain range of 1: piece k ends at `ends[k]`, with `slopes[k]`."""

    ends: tuple[float, ...]
    slopes: tuple[float, ...]


def pieces_of(prior: Prior) -> Pieces:
    """Return the lower convex hull of −log P of a channel of which nothing is known."""
    points = [(0.0, 0.0)]
    for mark in _MARKS:
        point = (mark, -math.log(1.0 - prior.below(mark)))
        while len(points) > 1 and _rise(points[-2], points[-1]) >= _rise(points[-1], point):
            points.pop()
        points.append(point)
    steps = list(pairwise(points))
    return Pieces(tuple(end for _, (end, _) in steps), tuple(_rise(one, other) for one, other in steps))


def _rise(one: tuple[float, float], other: tuple[float, float]) -> float:
    return (other[1] - one[1]) / (other[0] - one[0])


class Demand(NamedTuple):
    """Who is to pay whom how much, and what is weighed against fees."""

    nodes: int
    """All indices of nodes are below this."""
    source: int
    target: int
    amount: float
    """In units."""
    unit: float
    """Of the asset: flows are whole numbers of units."""
    risk: float
    """What a failure of the whole costs."""
    hop: float
    """For each unit of the asset."""
    spread: float
    """Parts / amount: how much of a base fee a unit of the asset bears."""
    least: float
    """Channels that carry less in one lock are not used."""
    rounds: int
    """Paths that are looked for, at most."""
    ends: Column
    slopes: Column
    """The pieces of what is risked."""


class Flow(NamedTuple):
    """How far a search for the cheapest flow has come."""

    far: list[float]
    """By node: how far the target is: the potentials."""
    near: list[float]
    """By node: how far the source is, in this round, by reduced costs."""
    came: list[int]
    """By node: the slot that leads there, or whose flow is taken back."""
    spare: list[float]
    """By node: the units that this can be."""
    inward: list[bool]
    """By node: whether anything flows there."""
    heap: list[tuple[float, int]]
    settled: list[int]
    """The nodes that this round has done with."""
    touched: list[int]
    """The nodes that it has met."""
    flows: list[float]
    """By slot, in units."""
    used: list[int]
    """The slots that ever had some."""
    left: list[float]
    """One figure: the units that do not flow yet."""
    stage: list[int]
    """One number: `PRICING`, or the rounds that have begun."""


PRICING = -1


def cheapest_flow(columns: Columns, demand: Demand) -> list[tuple[int, float]]:
    """Return (slot, units that flow through it) of the cheapest flow of `amount` units, or of as many as can flow.

    No channel is used for more than one lock can carry.
    """
    state = begin_flow(columns, demand)
    advance_flow(columns, demand, state, FOREVER)
    return what_flows(columns, demand, state)


def begin_flow(columns: Columns, demand: Demand) -> Flow:
    """Return where the search begins."""
    count, target = demand.nodes, demand.target
    far, near = [math.inf] * count, [math.inf] * count
    far[target] = 0.0
    settled, touched, used = [target], [target], [target]
    settled.clear()
    touched.clear()
    used.clear()
    return Flow(
        far, near, [-1] * count, [0.0] * count, [False] * count, [(0.0, target)],
        settled, touched, [0.0] * len(columns.base), used, [demand.amount], [PRICING],
    )  # fmt: skip


def advance_flow(columns: Columns, demand: Demand, state: Flow, budget: int) -> bool:
    """Price the nodes, then let one path after the other be found and take what it can; return whether that is all."""
    looked = 0
    if state.stage[0] == PRICING:
        looked = price(columns, demand, state, budget)
        if looked < 0:
            return False
        horizon = state.far[demand.source]
        if horizon == math.inf:
            return True
        for node in range(demand.nodes):
            state.far[node] = min(state.far[node], horizon)
        state.stage[0] = 0
        if not begin_round(demand, state):
            return True
    while True:
        looked = find_path(columns, demand, state, looked, budget)
        if looked < 0:
            return False
        if state.near[demand.target] == math.inf:
            return True
        take_path(columns, demand, state)
        if not begin_round(demand, state):
            return True


def price(columns: Columns, demand: Demand, state: Flow, budget: int) -> int:
    """Find how far each node is from the target with nothing flowing; return how many slots were looked at.

    -1: the budget was spent before that.
    """
    c, far, heap = columns, state.far, state.heap
    first_in, next_in, only_before, tails = c.first_in, c.next_in, c.only_before, c.source
    base, weight = c.base, c.weight
    minimum, limit, lower, upper, held = c.minimum, c.limit, c.lower, c.upper, c.held
    source, unit, risk, hop, spread, least = (
        demand.source, demand.unit, demand.risk, demand.hop, demand.spread, demand.least,
    )  # fmt: skip
    ends, slopes, whole, looked = demand.ends, demand.slopes, demand.amount * demand.unit, 0
    pieces = len(ends)
    while len(heap) > 0:
        if looked >= budget:
            return -1
        reached, node = heappop(heap)
        if reached > far[source]:
            break
        if reached > far[node]:
            continue
        slot = first_in[node]
        while slot >= 0:
            this, slot = slot, next_in[slot]
            looked += 1
            other = tails[this]
            if minimum[this] > whole or limit[this] < least or (only_before[other] == node and other != source):
                continue
            cost = reached + hop
            if other != source:
                cost += weight[this] + base[this] * spread
            if cost >= far[other] or cost >= far[source]:
                continue
            if lower[this] - held[this] < unit:
                width = upper[this] - max(lower[this], held[this])
                if width * ends[pieces - 1] < unit:
                    continue
                piece = 0
                while width * ends[piece] < unit:
                    piece += 1
                cost += risk * slopes[piece] / width
                if cost >= far[other]:
                    continue
            far[other] = cost
            heappush(heap, (cost, other))
    return looked


def begin_round(demand: Demand, state: Flow) -> bool:
    """Begin to look for another path; return whether there is anything to look for."""
    if state.stage[0] >= demand.rounds or state.left[0] < 1.0:
        return False
    state.stage[0] += 1
    for node in state.touched:
        state.near[node] = math.inf
    state.touched.clear()
    state.settled.clear()
    state.near[demand.source] = 0.0
    state.touched.append(demand.source)
    state.heap.clear()
    state.heap.append((0.0, demand.source))
    return True


def find_path(  # noqa: PLR0912, PLR0915  a call for every slot would cost as much as the slot
    columns: Columns, demand: Demand, state: Flow, looked: int, budget: int
) -> int:
    """Find the cheapest path on which something more can flow; return `looked` with the slots that were looked at.

    -1: the budget was spent before that.
    """
    c = columns
    first_out, next_out, only_next, heads = c.first_out, c.next_out, c.only_next, c.target
    base, weight = c.base, c.weight
    minimum, limit, lower, upper, held = c.minimum, c.limit, c.lower, c.upper, c.held
    source, target, unit, risk, hop, spread, least = (
        demand.source, demand.target, demand.unit, demand.risk, demand.hop, demand.spread, demand.least,
    )  # fmt: skip
    ends, slopes, whole = demand.ends, demand.slopes, demand.amount * demand.unit
    pieces = len(ends)
    far, near, came, spare, inward, heap, settled, touched, flows = (
        state.far, state.near, state.came, state.spare, state.inward, state.heap,
        state.settled, state.touched, state.flows,
    )  # fmt: skip
    while len(heap) > 0:
        if looked >= budget:
            return -1
        reached, node = heappop(heap)
        if reached > near[node]:
            continue
        if node == target:
            break
        settled.append(node)
        here = far[node]
        slot = first_out[node]
        while slot >= 0:
            this, slot = slot, next_out[slot]
            looked += 1
            other = heads[this]
            if minimum[this] > whole or limit[this] < least or (only_next[other] == node and other != target):
                continue
            cost = reached + hop + far[other] - here
            if node != source:
                cost += weight[this] + base[this] * spread
            if cost >= near[other]:
                continue
            flow = flows[this]
            free = math.floor(max(0.0, lower[this] - held[this]) / unit)
            room = free - flow
            if room < 1.0:
                width = upper[this] - max(lower[this], held[this])
                if width * ends[pieces - 1] < unit:
                    continue
                piece = 0
                while piece < pieces and flow >= free + math.floor(width * ends[piece] / unit):
                    piece += 1
                if piece == pieces:
                    continue
                room = free + math.floor(width * ends[piece] / unit) - flow
                cost += risk * slopes[piece] / width
            cost = max(cost, reached)
            room = min(room, math.floor(limit[this] / unit) - flow)
            if cost < near[other] and room >= 1.0:
                if near[other] == math.inf:
                    touched.append(other)
                near[other], came[other], spare[other] = cost, this, room
                heappush(heap, (cost, other))
        if inward[node]:
            looked += look_back(columns, demand, state, reached, node)
    return looked


def look_back(columns: Columns, demand: Demand, state: Flow, reached: float, node: int) -> int:
    """See what flows to a node and might be taken back; return how many slots were looked at."""
    c, far, near, flows = columns, state.far, state.near, state.flows
    tails, heads, lower, upper, held = c.source, c.target, c.lower, c.upper, c.held
    unit, ends, slopes = demand.unit, demand.ends, demand.slopes
    for this in state.used:
        if heads[this] != node or flows[this] < 1.0:
            continue
        other, flow = tails[this], flows[this]
        cost = reached - demand.hop + far[other] - far[node]
        if other != demand.source:
            cost -= c.weight[this] + c.base[this] * demand.spread
        free = math.floor(max(0.0, lower[this] - held[this]) / unit)
        room = flow
        if flow > free:
            width = upper[this] - max(lower[this], held[this])
            piece, start = 0, free
            while flow > free + math.floor(width * ends[piece] / unit):
                start = free + math.floor(width * ends[piece] / unit)
                piece += 1
            room = flow - start
            cost -= demand.risk * slopes[piece] / width
        cost = max(cost, reached)
        if cost < near[other]:
            if near[other] == math.inf:
                state.touched.append(other)
            near[other], state.came[other], state.spare[other] = cost, this, room
            heappush(state.heap, (cost, other))
    return len(state.used)


def take_path(columns: Columns, demand: Demand, state: Flow) -> None:
    """Let as much flow along the path that was found as it can carry, and move the potentials on."""
    tails, heads = columns.source, columns.target
    far, near, came, flows, used = state.far, state.near, state.came, state.flows, state.used
    source, target = demand.source, demand.target
    for node in state.settled:
        far[node] += near[target] - min(near[node], near[target])
    step, node = state.left[0], target
    while node != source:
        step = min(step, state.spare[node])
        node = tails[came[node]] if heads[came[node]] == node else heads[came[node]]
    node = target
    while node != source:
        this = came[node]
        if heads[this] == node:
            if flows[this] == 0.0 and this not in used:
                used.append(this)
            flows[this] += step
            state.inward[node] = True
            node = tails[this]
        else:
            flows[this] -= step
            node = heads[this]
    state.left[0] -= step


def what_flows(columns: Columns, demand: Demand, state: Flow) -> list[tuple[int, float]]:
    """Return the slots through which something flows, and how much."""
    return [(this, state.flows[this]) for this in state.used if state.flows[this] > 0.0]


def split(
    flows: Sequence[tuple[int, int]], ends: dict[int, tuple[int, int]], source: int
) -> list[tuple[list[int], int]]:
    """Return the paths (slots from `source` on, units) that flows are made of, the largest first.

    `ends` are the tail and the head of each slot.
    """
    left = dict(flows)
    leaving: dict[int, list[int]] = {}
    for slot in left:
        leaving.setdefault(ends[slot][0], []).append(slot)
    paths: list[tuple[list[int], int]] = []
    while any(left[slot] for slot in leaving.get(source, ())):
        path, node, passed = [], source, {source}
        while any(left[slot] for slot in leaving.get(node, ())):
            slot = max(leaving[node], key=lambda slot: (left[slot], slot))
            path.append(slot)
            node = ends[slot][1]
            if node in passed:
                break
            passed.add(node)
        width = min(left[slot] for slot in path)
        for slot in path:
            left[slot] -= width
        if node not in leaving:
            paths.append((path, width))
    paths.sort(key=lambda item: -item[1])
    return paths
