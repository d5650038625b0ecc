"""One path: the cheapest way to carry an amount, by Dijkstra's algorithm on the graph's columns.

The cost of a hop is a sum, so that the cheapest path is made of cheapest paths:

    fee + worth of the time locked + hop + risk · (−log P(the channel can carry the amount, by all that is known))

`two_sided` searches from both ends at one fixed amount, which a guess of the fees makes large enough; it is several
times as fast as `one_sided`, which goes backwards from the payee with the exact amount at every node. The planner
computes what the first finds again in whole numbers, and asks the second if a limit is not kept.

Both are kernels: they call nothing but `math` and `heapq` and read plain columns, so that numba can compile the same
bodies (`kernels`). They pause whenever they have looked at `pause` slots since the last time, and between two nodes
only. Their prior is that of `liquidity`, given by its `slope`.
Pickhardt and Richter, "Optimally reliable and cheap payment flows on the Lightning Network" (2021), has the −log P.
"""

# ruff: noqa: PLR0912, PLR0915  a kernel calls no function of ours, so it is as long as it is

from __future__ import annotations

import math
from heapq import heappop, heappush

from tallystick.router.pathfinding.graph import Column
from tallystick.router.pathfinding.steps import Steps


def two_sided(
    count: int,
    pause: int,
    source: int,
    target: int,
    amount: float,
    risk: float,
    hop: float,
    slope: float,
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
    per_capacity: Column,
    lower: Column,
    upper: Column,
    share_lower: Column,
    share_upper: Column,
    held: Column,
) -> Steps[list[int]]:
    """Return the slots of the cheapest path from node `source` to node `target`, in order; empty if there is none."""
    ends = math.exp(-slope)
    norm = 0.5 / (1.0 - ends) if slope > 0.0 else 1.0
    ahead, behind = [math.inf] * count, [math.inf] * count
    came, goes = [-1] * count, [-1] * count
    ahead[source] = behind[target] = 0.0
    front, back = [(0.0, source)], [(0.0, target)]
    best, middle, looked = math.inf, -1, 0
    while len(front) > 0 and len(back) > 0 and front[0][0] + back[0][0] < best:
        if looked >= pause:
            looked = 0
            yield
        if len(front) <= len(back):
            reached, node = heappop(front)
            if reached > ahead[node]:
                continue
            paid = 0.0 if node == source else 1.0
            slot = first_out[node]
            while slot >= 0:
                this, slot = slot, next_out[slot]
                looked += 1
                other = heads[this]
                cost = reached + hop + paid * (base[this] + amount * weight[this])
                if cost >= ahead[other] or amount < minimum[this] or amount > limit[this]:
                    continue
                if only_next[other] == node and cost + behind[other] >= best:
                    continue  # leads back here only
                wanted = amount + held[this]
                if wanted > lower[this]:
                    if wanted >= upper[this]:
                        continue
                    part = wanted * per_capacity[this]
                    if slope > 0.0:
                        part = norm * (1.0 - math.exp(-slope * part) + math.exp(slope * (part - 1.0)) - ends)
                    chance = (share_upper[this] - part) / (share_upper[this] - share_lower[this])
                    if chance <= 1e-9:
                        continue
                    if chance < 1.0:
                        cost -= risk * math.log(chance)
                        if cost >= ahead[other]:
                            continue
                if cost + back[0][0] >= best and cost + behind[other] >= best:
                    continue
                ahead[other] = cost
                came[other] = this
                if cost + behind[other] < best:
                    best, middle = cost + behind[other], other
                heappush(front, (cost, other))
        else:
            reached, node = heappop(back)
            if reached > behind[node]:
                continue
            slot = first_in[node]
            while slot >= 0:
                this, slot = slot, next_in[slot]
                looked += 1
                other = tails[this]
                cost = reached + hop
                if other != source:
                    cost += base[this] + amount * weight[this]
                if cost >= behind[other] or amount < minimum[this] or amount > limit[this]:
                    continue
                if only_before[other] == node and cost + ahead[other] >= best:
                    continue  # leads back here only
                wanted = amount + held[this]
                if wanted > lower[this]:
                    if wanted >= upper[this]:
                        continue
                    part = wanted * per_capacity[this]
                    if slope > 0.0:
                        part = norm * (1.0 - math.exp(-slope * part) + math.exp(slope * (part - 1.0)) - ends)
                    chance = (share_upper[this] - part) / (share_upper[this] - share_lower[this])
                    if chance <= 1e-9:
                        continue
                    if chance < 1.0:
                        cost -= risk * math.log(chance)
                        if cost >= behind[other]:
                            continue
                if cost + front[0][0] >= best and cost + ahead[other] >= best:
                    continue
                behind[other] = cost
                goes[other] = this
                if cost + ahead[other] < best:
                    best, middle = cost + ahead[other], other
                heappush(back, (cost, other))
    path = [0]
    path.pop()
    if middle < 0:
        return path
    node = middle
    while node != source:
        path.append(came[node])
        node = tails[came[node]]
    path.reverse()
    node = middle
    while node != target:
        path.append(goes[node])
        node = heads[goes[node]]
    return path


def one_sided(
    count: int,
    pause: int,
    source: int,
    target: int,
    amount: float,
    risk: float,
    hop: float,
    slope: float,
    first_in: Column,
    only_before: Column,
    next_in: Column,
    tails: Column,
    heads: Column,
    base: Column,
    share: Column,
    weight: Column,
    minimum: Column,
    limit: Column,
    per_capacity: Column,
    lower: Column,
    upper: Column,
    share_lower: Column,
    share_upper: Column,
    held: Column,
    inbound_base: Column,
    inbound_share: Column,
    discount_base: Column,
    discount_share: Column,
    eager: float,
) -> Steps[list[int]]:
    """Return what `two_sided` does, found backwards from `target` with the exact amount at every node.

    Inbound fees are in it: what a node asks for the channel by which a payment comes is added, or taken off, where the
    path before it is looked at. Until then nobody knows whether a node gives its discount: with `eager` = 1 the search
    hopes for it, with 0 it does not, and the better one of both ways is the one to take.
    """
    ends = math.exp(-slope)
    norm = 0.5 / (1.0 - ends) if slope > 0.0 else 1.0
    behind, needed, kept, spent = [math.inf] * count, [0.0] * count, [0.0] * count, [0.0] * count
    goes = [-1] * count
    behind[target], needed[target] = 0.0, amount
    heap, looked = [(0.0, target)], 0
    while len(heap) > 0:
        if looked >= pause:
            looked = 0
            yield
        reached, node = heappop(heap)
        if node == source:
            break
        if reached > behind[node]:
            continue
        slot = first_in[node]
        while slot >= 0:
            this, slot = slot, next_in[slot]
            looked += 1
            other = tails[this]
            carried = needed[node]
            extra = 0.0
            if node != target:
                extra = max(inbound_base[this] + carried * inbound_share[this], -kept[node])
                carried += extra
            cost, asked, hoped = spent[node] + hop, 0.0, 0.0
            if other != source:
                asked = base[this] + carried * share[this]
                cost += base[this] + carried * weight[this]
                hoped = eager * min(asked, discount_base[other] + (carried + asked) * discount_share[other])
            cost = max(cost + extra, reached) - hoped
            if cost >= behind[other] or carried < minimum[this] or carried > limit[this]:
                continue
            if only_before[other] == node and other != source:
                continue  # leads back here only
            wanted = carried + held[this]
            if wanted > lower[this]:
                if wanted >= upper[this]:
                    continue
                part = wanted * per_capacity[this]
                if slope > 0.0:
                    part = norm * (1.0 - math.exp(-slope * part) + math.exp(slope * (part - 1.0)) - ends)
                chance = (share_upper[this] - part) / (share_upper[this] - share_lower[this])
                if chance <= 1e-9:
                    continue
                if chance < 1.0:
                    cost -= risk * math.log(chance)
                    if cost >= behind[other]:
                        continue
            behind[other], needed[other], goes[other] = cost, carried + asked, this
            kept[other], spent[other] = asked, cost + hoped
            heappush(heap, (cost, other))
    path = [0]
    path.pop()
    if behind[source] == math.inf:
        return path
    node = source
    while node != target:
        path.append(goes[node])
        node = heads[goes[node]]
    return path
