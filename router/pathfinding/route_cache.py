"""Ways that were found before: a payer who pays the same payee again need not search again.

A way is remembered for a payee and a size of payment (a sixteenth of an octave), and is taken again only while it is as
good as it was: nothing has changed in the graph, its exact amounts keep every limit, and everything weighed it costs no
more than when it was found. What parts under way have taken, what failed and what our channels can carry is in that
weight. So what is missed is at most that another way has become better since, and that for a minute.
"""

from __future__ import annotations

import msgspec

from tallystick.router.objects import NodeKey, Route
from tallystick.router.pathfinding.planner import Planner

LIFETIME = 60.0
"""Seconds after which a way is looked for again."""

WAYS_MAX = 2_000
"""Ways that are remembered; beyond, the oldest is forgotten."""

_WORSE = 1 / 16
"""By how much a way may have become dearer: about what amounts of one size differ by."""


class _CachedRoute(msgspec.Struct, frozen=True):
    slots: tuple[int, ...]
    cost: float
    """Of each unit, everything weighed, when it was found."""
    version: int
    """Of the graph."""
    until: float


class RouteCache:
    """Routes that were found before, by payee: see the module's docstring."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._ways: dict[tuple[NodeKey, int, int], _CachedRoute] = {}

    def __len__(self) -> int:
        return len(self._ways)

    def recall(self, target: NodeKey, amount: int, max_fee: int, now: float) -> Route | None:
        """Return a route over a way that was remembered; None if there is none that is as good as it was."""
        planner, key = self._planner, _key(target, amount)
        way = self._ways.get(key)
        if way is None:
            return None
        if way.version == planner.graph.version and now < way.until:
            route = planner.along(way.slots, amount)
            if route is not None and planner.weigh((route,), amount) <= way.cost * amount * (1 + _WORSE):
                return route if route.fee <= max_fee else None
        del self._ways[key]
        return None

    def remember(self, target: NodeKey, route: Route, now: float) -> None:
        """Remember the way of a route that was found to be the best one for what it delivers."""
        planner, amount = self._planner, route.delivered
        found = [planner.graph.slot(hop.channel, hop.node) for hop in route.hops]
        slots = tuple(slot for slot in found if slot is not None)
        if len(slots) < len(found):
            return
        key = _key(target, amount)
        self._ways.pop(key, None)
        if len(self._ways) >= WAYS_MAX:
            del self._ways[next(iter(self._ways))]
        cost = planner.weigh((route,), amount) / amount
        self._ways[key] = _CachedRoute(slots, cost, planner.graph.version, now + LIFETIME)


def _key(target: NodeKey, amount: int) -> tuple[NodeKey, int, int]:
    bits = amount.bit_length()
    return target, bits, amount >> max(0, bits - 5)
