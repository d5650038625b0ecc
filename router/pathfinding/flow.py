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

# ruff: noqa: PLR0912, PLR0915  a kernel calls no function of ours, so it is as long as it is

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import pairwise

import msgspec

from tallystick.router.pathfinding.graph import Column
from tallystick.router.pathfinding.liquidity import Prior
from tallystick.router.pathfinding.steps import Steps

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


def cheapest_flow(
    count: int,
    pause: int,
    slots: int,
    source: int,
    target: int,
    amount: float,
    unit: float,
    risk: float,
    hop: float,
    spread: float,
    least: float,
    rounds: int,
    ends: Column,
    slopes: Column,
    first_out: Column,
    first_in: Column,
    only_next: Column,
    only_before: Column,
    next_out: Column,
    next_in: Column,
    tails: Column,
    heads: Column,
    base: Column,
    weight: Column,
    minimum: Column,
    limit: Column,
    lower: Column,
    upper: Column,
    held: Column,
) -> Steps[list[tuple[int, float]]]:
    """Return (slot, units that flow through it) of the cheapest flow of `amount` units, or of as many as can flow.

    A unit is `unit` of the asset: flows are whole numbers of units. `hop` and `spread` (parts / amount) are per unit of
    the asset, `risk` is for one: what a failure of the whole costs. Channels that carry less than `least` in one lock
    are not used, and no channel for more than one lock can carry. It pauses as the kernels of `search` do.
    """
    pieces = len(ends)
    whole = amount * unit
    far = [math.inf] * count  # how far the target is: the potentials
    far[target] = 0.0
    heap = [(0.0, target)]
    settled = [target]
    settled.pop()
    looked = 0
    while len(heap) > 0:
        if looked >= pause:
            looked = 0
            yield
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
    horizon = far[source]
    if horizon == math.inf:
        return [(0, 0.0)][:0]
    for node in range(count):
        far[node] = min(far[node], horizon)
    flows = [0.0] * slots
    used = settled[:0]
    inward = [False] * count
    near, came, spare = [math.inf] * count, [-1] * count, [0.0] * count
    touched = settled[:0]
    for _ in range(rounds):
        if amount < 1.0:
            break
        for node in touched:
            near[node] = math.inf
        touched.clear()
        settled.clear()
        near[source] = 0.0
        touched.append(source)
        heap.clear()
        heap.append((0.0, source))
        while len(heap) > 0:
            if looked >= pause:
                looked = 0
                yield
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
                for this in used:
                    looked += 1
                    if heads[this] != node or flows[this] < 1.0:
                        continue
                    other, flow = tails[this], flows[this]
                    cost = reached - hop + far[other] - here
                    if other != source:
                        cost -= weight[this] + base[this] * spread
                    free = math.floor(max(0.0, lower[this] - held[this]) / unit)
                    room = flow
                    if flow > free:
                        width = upper[this] - max(lower[this], held[this])
                        piece, start = 0, free
                        while flow > free + math.floor(width * ends[piece] / unit):
                            start = free + math.floor(width * ends[piece] / unit)
                            piece += 1
                        room = flow - start
                        cost -= risk * slopes[piece] / width
                    cost = max(cost, reached)
                    if cost < near[other]:
                        if near[other] == math.inf:
                            touched.append(other)
                        near[other], came[other], spare[other] = cost, this, room
                        heappush(heap, (cost, other))
        if near[target] == math.inf:
            break
        for node in settled:
            far[node] += near[target] - min(near[node], near[target])
        step, node = amount, target
        while node != source:
            step = min(step, spare[node])
            node = tails[came[node]] if heads[came[node]] == node else heads[came[node]]
        node = target
        while node != source:
            this = came[node]
            if heads[this] == node:
                if flows[this] == 0.0 and this not in used:
                    used.append(this)
                flows[this] += step
                inward[node] = True
                node = tails[this]
            else:
                flows[this] -= step
                node = heads[this]
        amount -= step
    return [(this, flows[this]) for this in used if flows[this] > 0.0]


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
