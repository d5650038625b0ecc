"""From the network and what was learned of it to routes: one path, or a plan of many parts.

The planner looks for paths with the kernels, computes their amounts again in whole numbers backwards from the payee,
and holds them to every limit: policies, capacities, what is known of liquidity, the fee limit. What it returns is
exact. Same graph, same knowledge, same question: same answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.objects import check_amount
from tallystick.router.errors import NoRoute, Unpaid
from tallystick.router.graph import Graph
from tallystick.router.kernels import PLAIN, Kernels, compiled
from tallystick.router.liquidity import Knowledge
from tallystick.router.objects import MILLION, Hop, NodeKey, Route

HOPS_MAX = 12
"""Longest route: an onion has to hold it."""


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What is weighed against fees. All in parts of the amount, so that they fit every asset."""

    risk_ppm: int = 1000
    """What a failed attempt is worth."""
    hop_ppm: int = 10
    """What a hop less is worth."""
    guess_ppm: int = 1000
    """What fees probably add to an amount: a search from both ends has to settle on one."""


_RISKS = (1.0, 0.1, 0.0)
"""If the fee limit is not kept: how much less to care for the chance of success, until only fees count."""

_LONG = 1000
"""If a route is too long: how much more a hop counts."""


class Planner:
    """See the module's docstring."""

    def __init__(self, graph: Graph, knowledge: Knowledge, costs: Costs | None = None) -> None:
        self.graph = graph
        self.knowledge = knowledge
        self.costs = costs or Costs()
        self._kernels: Kernels = compiled() if graph.compiled else PLAIN

    def route(self, source: NodeKey, target: NodeKey, amount: int, *, max_fee: int, now: float) -> Route:
        """Return the best single path that delivers `amount` for at most `max_fee`; raise NoRoute."""
        check_amount(amount, "amount", 1)
        check_amount(max_fee, "max_fee")
        if source == target:
            raise InvalidInput("a payment to oneself leads nowhere; name another payee")
        self.knowledge.refresh(now)
        cheapest: Route | None = None
        for factor in _RISKS:
            found = self._search(source, target, amount, factor)
            if found is None:
                break
            if found.fee <= max_fee:
                return found
            if cheapest is None or found.fee < cheapest.fee:
                cheapest = found
        if cheapest is None:
            raise self._unreachable(source, target, amount)
        raise NoRoute(
            f"the cheapest path for {amount} costs {cheapest.fee}, more than the limit of {max_fee}; allow more",
            Unpaid.FEE_LIMIT,
        )

    # --- searching -----------------------------------------------------------------------------------------------

    def _search(self, source: NodeKey, target: NodeKey, amount: int, factor: float) -> Route | None:
        """Return the cheapest route, weighing risk by `factor`; None if nothing keeps all limits."""
        start, end = self.graph.index(source), self.graph.index(target)
        if start is None or end is None:
            return None
        costs, slope = self.costs, self.knowledge.prior.slope
        risk, hop = factor * amount * costs.risk_ppm / MILLION, amount * costs.hop_ppm / MILLION + 1e-9
        guess = amount * (1.0 + costs.guess_ppm / MILLION)
        path = self._two_sided(start, end, guess, risk, hop, slope)
        route = self._exact(path, amount)
        if route is None:
            path = self._one_sided(start, end, float(amount), risk, hop, slope)
            route = self._exact(path, amount)
        if len(path) > HOPS_MAX:
            route = self._exact(self._one_sided(start, end, float(amount), risk, hop * _LONG, slope), amount)
        return route if route is not None and len(route.hops) <= HOPS_MAX else None

    def _two_sided(self, start: int, end: int, amount: float, risk: float, hop: float, slope: float) -> list[int]:
        c = self.graph.columns
        return self._kernels.two_sided(
            self.graph.count, start, end, amount, risk, hop, slope,
            c.first_out, c.first_in, c.only_next, c.only_before, c.next_out, c.next_in, c.source, c.target,
            c.base, c.weight, c.minimum, c.limit, c.per_capacity, c.lower, c.upper, c.share_lower, c.share_upper,
            c.held,
        )  # fmt: skip

    def _one_sided(self, start: int, end: int, amount: float, risk: float, hop: float, slope: float) -> list[int]:
        c = self.graph.columns
        return self._kernels.one_sided(
            self.graph.count, start, end, amount, risk, hop, slope,
            c.first_in, c.only_before, c.next_in, c.source, c.target, c.base, c.share, c.weight, c.minimum, c.limit,
            c.per_capacity, c.lower, c.upper, c.share_lower, c.share_upper, c.held,
        )  # fmt: skip

    def _exact(self, slots: Sequence[int], amount: int) -> Route | None:
        """Return the path as a route with exact amounts, None if there is none or it breaks a limit."""
        edges = [self.graph.edge(slot) for slot in slots]
        hops: list[Hop] = []
        for edge in reversed(edges):
            if not edge.policy.carries(amount) or amount > self.knowledge.room(edge):
                return None
            hops.append(Hop(edge.channel, edge.target, amount))
            amount += edge.policy.fee(amount)
        return Route(tuple(reversed(hops))) if hops else None

    # --- explaining ----------------------------------------------------------------------------------------------

    def _unreachable(self, source: NodeKey, target: NodeKey, amount: int) -> NoRoute:
        if self._connected(source, target):
            return NoRoute(
                f"no path that could carry {amount} is known; try a smaller amount, or several parts",
                Unpaid.NO_LIQUIDITY,
            )
        return NoRoute("no path to the payee is known; wait for gossip, or ask for an invoice with route hints")

    def _connected(self, source: NodeKey, target: NodeKey) -> bool:
        """Whether a path exists at all, whatever it can carry: in breadth, from the smaller side."""
        if source not in self.graph or target not in self.graph:
            return False
        sides = ({source}, {target})
        edges: list[set[NodeKey]] = [{source}, {target}]
        while edges[0] and edges[1]:
            side = 0 if len(edges[0]) <= len(edges[1]) else 1
            found: set[NodeKey] = set()
            for node in edges[side]:
                found.update(self._beside(node, side))
            edges[side] = found - sides[side]
            if edges[side] & sides[1 - side]:
                return True
            sides[side].update(edges[side])
        return False

    def _beside(self, node: NodeKey, side: int) -> list[NodeKey]:
        if side == 0:
            return [edge.target for edge in self.graph.leaving(node)]
        return [edge.source for edge in self.graph.reaching(node)]
