"""One path: the cheapest way to carry an amount, by Dijkstra's algorithm on the graph's columns.

The cost of a hop is a sum, so that the cheapest path is made of cheapest paths:

    fee + worth of the time locked + hop + risk · (−log P(the channel can carry the amount, by all that is known))

`two_sided` searches from both ends at one fixed amount, which a guess of the fees makes large enough; it is several
times as fast as `one_sided`, which goes backwards from the payee with the exact amount at every node. The planner
computes what the first finds again in whole numbers, and asks the second if a limit is not kept.

Each begins with a state, advances it until it has looked at `budget` slots, between two nodes only, and so on until it
has ended (`kernels`). All of it is in the part of Python that numba compiles. Their prior is that of `liquidity`, given
by its `slope`. It stands in each of the two loops: a call for every slot made the plain ones slower by 4 and 6 %.
Pickhardt and Richter, "Optimally reliable and cheap payment flows on the Lightning Network" (2021), has the −log P.
"""

from __future__ import annotations

import math
from heapq import heappop, heappush
from typing import NamedTuple

from tallystick.router.pathfinding.columns import Column, Columns

FOREVER = 2**62
"""A budget that is never spent."""


class Question(NamedTuple):
    """Who pays whom how much, and what is weighed against fees."""

    nodes: int
    """All indices of nodes are below this."""
    source: int
    target: int
    amount: float
    risk: float
    hop: float
    slope: float
    eager: float = 0.0
    """1: hope for every node's discount (`one_sided`)."""


# --- from both ends ---------------------------------------------------------------------------------------------


class Meeting(NamedTuple):
    """How far a search from both ends has come. By node: what it costs to be there, and the slot that leads there."""

    ahead: list[float]
    behind: list[float]
    came: list[int]
    goes: list[int]
    front: list[tuple[float, int]]
    back: list[tuple[float, int]]
    best: list[float]
    """One figure: the cost of the cheapest whole path yet."""
    middle: list[int]
    """One node: where both ends of that path meet; -1 if there is none."""


_Side = tuple[Column, ...]
"""What a search reads, as seen from one end: first what differs from the other."""


def two_sided(columns: Columns, question: Question) -> list[int]:
    """Return the slots of the cheapest path from source to target, in order; empty if there is none."""
    state = begin_meeting(columns, question)
    advance_meeting(columns, question, state, FOREVER)
    return joined_path(columns, question, state)


def begin_meeting(columns: Columns, question: Question) -> Meeting:
    """Return where a search from both ends begins."""
    count, source, target = question.nodes, question.source, question.target
    ahead, behind = [math.inf] * count, [math.inf] * count
    ahead[source] = behind[target] = 0.0
    return Meeting(ahead, behind, [-1] * count, [-1] * count, [(0.0, source)], [(0.0, target)], [math.inf], [-1])


def advance_meeting(columns: Columns, question: Question, state: Meeting, budget: int) -> bool:
    """Go on from the end where less waits; return whether the search has ended."""
    c = columns
    figures = (
        c.base, c.weight, c.minimum, c.limit, c.per_capacity, c.lower, c.upper, c.share_lower, c.share_upper, c.held,
    )  # fmt: skip
    outwards: _Side = (c.first_out, c.next_out, c.target, c.only_next, *figures)
    inwards: _Side = (c.first_in, c.next_in, c.source, c.only_before, *figures)
    ahead, behind, came, goes, front, back, bests, middles = state
    best, middle, looked, source = bests[0], middles[0], 0, question.source
    while len(front) > 0 and len(back) > 0 and front[0][0] + back[0][0] < best:
        if looked >= budget:
            bests[0], middles[0] = best, middle
            return False
        if len(front) <= len(back):
            cost, node = heappop(front)
            if cost > ahead[node]:
                continue
            paid = 0.0 if node == source else 1.0
            best, middle, more = look_around(
                outwards, question, node, cost, paid, -1, ahead, behind, came, front, back[0][0], best, middle
            )
        else:
            cost, node = heappop(back)
            if cost > behind[node]:
                continue
            best, middle, more = look_around(
                inwards, question, node, cost, 1.0, source, behind, ahead, goes, back, front[0][0], best, middle
            )
        looked += more
    middles[0] = middle
    return True


def look_around(
    side: _Side,
    question: Question,
    node: int,
    reached: float,
    paid: float,
    spared: int,
    near: list[float],
    far: list[float],
    by: list[int],
    heap: list[tuple[float, int]],
    facing: float,
    best: float,
    middle: int,
) -> tuple[float, int, int]:
    """Look from a node to its neighbours; return `best`, `middle`, and how many slots were looked at.

    `paid` is 0 if the node asks no fee, as the payer; nor does the node `spared`. `facing` is how far the other end is.
    """
    (
        first, following, ends, only, base, weight, minimum, limit,
        per_capacity, lower, upper, share_lower, share_upper, held,
    ) = side  # fmt: skip
    amount, risk, slope = question.amount, question.risk, question.slope
    last = math.exp(-slope)
    norm = 0.5 / (1.0 - last) if slope > 0.0 else 1.0
    reached += question.hop
    looked = 0
    slot = first[node]
    while slot >= 0:
        this, slot = slot, following[slot]
        looked += 1
        other = ends[this]
        cost = reached
        if other != spared:
            cost += paid * (base[this] + amount * weight[this])
        if cost >= near[other] or amount < minimum[this] or amount > limit[this]:
            continue
        if only[other] == node and cost + far[other] >= best:
            continue  # leads back here only
        wanted = amount + held[this]
        if wanted > lower[this]:
            if wanted >= upper[this]:
                continue
            part = wanted * per_capacity[this]
            if slope > 0.0:
                part = norm * (1.0 - math.exp(-slope * part) + math.exp(slope * (part - 1.0)) - last)
            chance = (share_upper[this] - part) / (share_upper[this] - share_lower[this])
            if chance <= 1e-9:
                continue
            if chance < 1.0:
                cost -= risk * math.log(chance)
                if cost >= near[other]:
                    continue
        if cost + facing >= best and cost + far[other] >= best:
            continue
        near[other] = cost
        by[other] = this
        if cost + far[other] < best:
            best, middle = cost + far[other], other
        heappush(heap, (cost, other))
    return best, middle, looked


def joined_path(columns: Columns, question: Question, state: Meeting) -> list[int]:
    """Return the path that was found, from the node where both ends met."""
    middle, path = state.middle[0], state.middle[:0]
    if middle < 0:
        return path
    node = middle
    while node != question.source:
        path.append(state.came[node])
        node = columns.source[state.came[node]]
    path.reverse()
    node = middle
    while node != question.target:
        path.append(state.goes[node])
        node = columns.target[state.goes[node]]
    return path


# --- backwards, with exact amounts ------------------------------------------------------------------------------


class Backwards(NamedTuple):
    """How far a search from the payee has come. By node."""

    behind: list[float]
    """What the rest of the way costs, less the discounts that are hoped for."""
    needed: list[float]
    """What has to reach the node."""
    kept: list[float]
    """The outbound fee of it."""
    spent: list[float]
    """What the rest of the way costs without that hope."""
    goes: list[int]
    heap: list[tuple[float, int]]


def one_sided(columns: Columns, question: Question) -> list[int]:
    """Return what `two_sided` does, found backwards from `target` with the exact amount at every node.

    Inbound fees are in it: what a node asks for the channel by which a payment comes is added, or taken off, where the
    path before it is looked at. Until then nobody knows whether a node gives its discount: with `eager` = 1 the search
    hopes for it, with 0 it does not, and the better one of both ways is the one to take.
    """
    state = begin_backwards(columns, question)
    advance_backwards(columns, question, state, FOREVER)
    return path_onwards(columns, question, state)


def begin_backwards(columns: Columns, question: Question) -> Backwards:
    """Return where a search from the payee begins."""
    count, target = question.nodes, question.target
    behind, needed = [math.inf] * count, [0.0] * count
    behind[target], needed[target] = 0.0, question.amount
    return Backwards(behind, needed, [0.0] * count, [0.0] * count, [-1] * count, [(0.0, target)])


def advance_backwards(  # noqa: PLR0912, PLR0915  a call for every slot would cost as much as the slot
    columns: Columns, question: Question, state: Backwards, budget: int
) -> bool:
    """Go on from the nodes that are nearest to the payee; return whether the search has ended."""
    c = columns
    first_in, next_in, only_before, tails, held = c.first_in, c.next_in, c.only_before, c.source, c.held
    base, share, weight, minimum, limit, per_capacity = c.base, c.share, c.weight, c.minimum, c.limit, c.per_capacity
    lower, upper, share_lower, share_upper = c.lower, c.upper, c.share_lower, c.share_upper
    inbound_base, inbound_share = c.inbound_base, c.inbound_share
    discount_base, discount_share = c.discount_base, c.discount_share
    behind, needed, kept, spent, goes, heap = state
    source, target, risk, hop, eager = question.source, question.target, question.risk, question.hop, question.eager
    slope = question.slope
    last, looked = math.exp(-slope), 0
    norm = 0.5 / (1.0 - last) if slope > 0.0 else 1.0
    while len(heap) > 0:
        if looked >= budget:
            return False
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
                    part = norm * (1.0 - math.exp(-slope * part) + math.exp(slope * (part - 1.0)) - last)
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
    return True


def path_onwards(columns: Columns, question: Question, state: Backwards) -> list[int]:
    """Return the path that was found, from the payer on."""
    path, node = state.goes[:0], question.source
    if state.behind[node] == math.inf:
        return path
    while node != question.target:
        path.append(state.goes[node])
        node = columns.target[state.goes[node]]
    return path
