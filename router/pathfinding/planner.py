"""From the network and what was learned of it to routes: one path, or a plan of many parts.

The planner looks for paths with the kernels, computes their amounts again in whole numbers backwards from the payee,
and holds them to every limit: policies, capacities, what is known of liquidity, the fee limit. What it returns is
exact. Same graph, same knowledge, same question: same answer.

`routing` and `planning` are in steps: in a large network they pause after some ms of work and between any two searches,
so that whoever runs them can let others work. Until they have come to their end, changes of graph and knowledge wait
(`Graph.paused`). One of them runs at a time; what is asked meanwhile with `route` is answered from the same state,
without a pause.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeVar

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import ChannelId, check_amount
from tallystick.router.errors import NoRoute, Unpaid
from tallystick.router.objects import MILLION, Edge, ForwardingPolicy, Hop, NodeKey, Route
from tallystick.router.onion.payload import HOPS_MAX
from tallystick.router.pathfinding.columns import floats
from tallystick.router.pathfinding.flow import ROUNDS_MAX, Demand, pieces_of, split
from tallystick.router.pathfinding.graph import Graph, limit_of
from tallystick.router.pathfinding.inbound import InboundFee, fee_asked
from tallystick.router.pathfinding.kernels import PAUSE, PLAIN, Kernels, Search, compiled_kernels
from tallystick.router.pathfinding.liquidity import Knowledge
from tallystick.router.pathfinding.search import Question
from tallystick.router.pathfinding.steps import Steps, finish

Q = TypeVar("Q")
T = TypeVar("T")


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What is weighed against fees. All in parts of the amount, so that they fit every asset."""

    risk_ppm: int = 300
    """What a failed attempt is worth."""
    hop_ppm: int = 5
    """What a hop less is worth."""
    part_ppm: int = 30
    """What a part less is worth."""
    guess_ppm: int = 1000
    """What fees probably add to an amount: a search from both ends has to settle on one."""


_RISKS = (1.0, 0.1, 0.0)
"""If the fee limit is not kept: how much less to care for the chance of success, until only fees count."""

_LONG = (1e3, 1e6)
"""If a route is too long: how much more a hop counts, and if it still is, so much that hardly anything else does."""

_FLOW_BITS = 48
"""Flows are whole numbers of units that floats hold exactly: amounts of more bits are planned in coarser units."""

_SPREAD = 4
"""How many parts a plan probably has: what base fees are spread over."""

_LARGE = 100
"""Nodes from which on a plan pauses between any two searches."""

_CRUMB = 100
"""A path that would carry less than this fraction of the amount is not worth a part."""


def warm_up() -> None:
    """Compile what is to be compiled, or load it from numba's cache: seconds the first time, so do it in a thread."""
    nodes = [NodeKey(b"\x02" + bytes([number]) * 32) for number in range(3)]
    amount, policy = 10**6, ForwardingPolicy(maximum=10**6)  # with guessed fees it is too much: both searches run
    edges = [
        Edge(ChannelId(bytes([number]) * 32), nodes[number], nodes[number + 1], 10 * amount, policy)
        for number in range(2)
    ]
    graph = Graph(edges, compiled=True)
    Planner(graph, Knowledge(graph)).plan(nodes[0], nodes[2], amount, max_fee=0, max_parts=2, now=0.0)


class _Wanted(NamedTuple):
    """What a plan is made for."""

    source: NodeKey
    target: NodeKey
    amount: int
    max_parts: int
    hops_max: int


class Planner:
    """Finds routes on one graph, by what is known of liquidity: see the module's docstring."""

    def __init__(self, graph: Graph, knowledge: Knowledge, costs: Costs | None = None) -> None:
        self.graph = graph
        self.knowledge = knowledge
        self.costs = costs or Costs()
        self._kernels: Kernels = compiled_kernels() if graph.compiled else PLAIN
        pieces = pieces_of(knowledge.prior)
        self._worked = False
        """Whether there was a search since the last pause between two."""
        self._ends = floats(pieces.ends, compiled=graph.compiled)
        self._slopes = floats(pieces.slopes, compiled=graph.compiled)

    def route(self, source: NodeKey, target: NodeKey, amount: int, *, max_fee: int, now: float) -> Route:
        """Return the best single path that delivers `amount` for at most `max_fee`; raise NoRoute."""
        return finish(self.routing(source, target, amount, max_fee=max_fee, now=now))

    def plan(
        self, source: NodeKey, target: NodeKey, amount: int, *, max_fee: int, max_parts: int, now: float
    ) -> tuple[Route, ...]:
        """Return at most `max_parts` routes that deliver `amount` together for at most `max_fee`; raise NoRoute."""
        return finish(self.planning(source, target, amount, max_fee=max_fee, max_parts=max_parts, now=now))

    def routing(
        self, source: NodeKey, target: NodeKey, amount: int, *, max_fee: int, now: float, hops_max: int = HOPS_MAX
    ) -> Steps[Route]:
        """Find what `route` returns, with at most `hops_max` hops, in steps."""
        found = self.planning(source, target, amount, max_fee=max_fee, max_parts=1, now=now, hops_max=hops_max)
        return (yield from found)[0]

    def planning(
        self,
        source: NodeKey,
        target: NodeKey,
        amount: int,
        *,
        max_fee: int,
        max_parts: int,
        now: float,
        hops_max: int = HOPS_MAX,
    ) -> Steps[tuple[Route, ...]]:
        """Find what `plan` returns, with at most `hops_max` hops each, in steps."""
        check_amount(amount, "amount", 1)
        check_amount(max_fee, "max_fee")
        if source == target:
            raise InvalidInput("a payment to oneself leads nowhere; name another payee")
        if max_parts < 1:
            raise InvalidInput("a plan needs at least one part: raise max_parts")
        steps = self._within(max_fee, _Wanted(source, target, amount, max_parts, hops_max), now)
        graph = self.graph
        if graph.paused:  # in the middle of another search
            return finish(steps)
        self._worked = False
        try:
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    routes: tuple[Route, ...] = end.value
                    return routes
                if not graph.is_crowded:
                    graph.paused = True  # what it reads stays as it is meanwhile
                    yield
                    graph.paused = False
        finally:
            graph.settle()
            steps.close()  # takes back what an abandoned plan has penciled in
            self.knowledge.settle()

    def _paced(self, search: Search[Q, T], question: Q) -> Steps[T]:
        """Run one search of a plan, after a pause if another one went before."""
        if self._worked and self.graph.count >= _LARGE:
            yield
        found = yield from search(self.graph.columns, question, PAUSE)
        self._worked = True
        return found

    def _within(self, max_fee: int, wanted: _Wanted, now: float) -> Steps[tuple[Route, ...]]:
        """Return the best plan for the largest weight of risk at which the fee limit is kept."""
        if not self.graph.paused:
            yield from self.knowledge.refreshing(now)
        cheapest = -1
        for factor in _RISKS:
            routes = yield from self._parts(wanted, factor)
            if not routes:
                break
            fee = sum(route.fee for route in routes)
            if fee <= max_fee:
                return routes
            cheapest = fee if cheapest < 0 else min(fee, cheapest)
        if cheapest < 0:
            raise (yield from self._unreachable(wanted))
        raise NoRoute(
            f"the cheapest way for {wanted.amount} costs {cheapest}, more than the limit of {max_fee}; allow more",
            Unpaid.FEE_LIMIT,
        )

    # --- searching -----------------------------------------------------------------------------------------------

    def _search(self, wanted: _Wanted, amount: int, factor: float) -> Steps[Route | None]:
        """Return the cheapest route for `amount`, weighing risk by `factor`; None if nothing keeps all limits."""
        start, end = self.graph.index(wanted.source), self.graph.index(wanted.target)
        if start is None or end is None:
            return None
        costs = self.costs
        ask = Question(
            nodes=self.graph.count,
            source=start,
            target=end,
            amount=float(amount),
            risk=factor * amount * costs.risk_ppm / MILLION,
            hop=amount * costs.hop_ppm / MILLION + 1e-9,
            slope=self.knowledge.prior.slope,
        )
        path: list[int] = []
        if not self.graph.inbound:
            guess = ask._replace(amount=amount * (1.0 + costs.guess_ppm / MILLION))
            path = yield from self._paced(self._kernels.two_sided, guess)
        route = self.along(path, amount)
        if not path and not (yield from self._paced(self._kernels.two_sided, ask)):
            return None  # not even without fees
        if route is None:
            path = yield from self._paced(self._kernels.one_sided, ask)
            route = self.along(path, amount)
        if self.graph.inbound:
            hopeful = yield from self._paced(self._kernels.one_sided, ask._replace(eager=1.0))
            other = self.along(hopeful, amount)
            if other is not None and (
                route is None or self.weigh((other,), amount, factor) < self.weigh((route,), amount, factor)
            ):
                path, route = hopeful, other
        for weight in _LONG:
            if len(path) > wanted.hops_max:
                path = yield from self._paced(self._kernels.one_sided, ask._replace(hop=ask.hop * weight))
                route = self.along(path, amount)
        return route if route is not None and len(route.hops) <= wanted.hops_max else None

    def along(self, slots: Sequence[int], amount: int) -> Route | None:
        """Return the path as a route with exact amounts, None if there is none or it breaks a limit."""
        edges = [self.graph.edge(slot) for slot in slots]
        hops: list[Hop] = []
        outbound: ForwardingPolicy | None = None
        for edge in reversed(edges):
            if outbound is not None:
                amount += fee_asked(outbound.fee(amount), self.graph.inbound.get((edge.channel, edge.target)), amount)
            if not edge.policy.carries(amount) or amount > self.knowledge.room(edge):
                return None
            hops.append(Hop(edge.channel, edge.target, amount))
            outbound = edge.policy
        return Route(tuple(reversed(hops))) if hops else None

    # --- many parts ----------------------------------------------------------------------------------------------

    def _parts(self, wanted: _Wanted, factor: float) -> Steps[tuple[Route, ...]]:
        """Return the better one of a single path and a plan along the cheapest flow; none if neither can be."""
        amount = wanted.amount
        single = yield from self._search(wanted, amount, factor)
        many: tuple[Route, ...] = ()
        if wanted.max_parts > 1:
            many = yield from self._along_flow(wanted, factor)
        if single is None or (many and self.weigh(many, amount, factor) < self.weigh((single,), amount, factor)):
            return many
        return (single,)

    def weigh(self, routes: Sequence[Route], amount: int, factor: float = _RISKS[0]) -> float:
        """Return what a plan costs, everything weighed, by what is known now."""
        costs, parts = self.costs, len(routes)
        hops = sum(hop.amount for route in routes for hop in route.hops)
        doubt = -sum(math.log(max(1e-9, self.knowledge.chance(hop))) for route in routes for hop in route.hops)
        weighed = factor * costs.risk_ppm * doubt * amount + costs.hop_ppm * hops + costs.part_ppm * parts * amount
        return sum(route.fee for route in routes) + weighed / MILLION

    def _along_flow(self, wanted: _Wanted, factor: float) -> Steps[tuple[Route, ...]]:
        """Return routes along the cheapest flow, and along single paths for what it leaves; none if it cannot be."""
        routes: list[Route] = []
        left, max_parts = wanted.amount, wanted.max_parts
        flow = yield from self._flow(wanted, factor)
        if not flow:
            return ()
        try:
            for path, share in flow:
                route = self._fitting(path, min(share, left)) if len(path) <= wanted.hops_max else None
                if route is not None and len(routes) < max_parts - 1 and route.delivered * _CRUMB >= wanted.amount:
                    self.knowledge.pencil_in(route)
                    routes.append(route)
                    left -= route.delivered
            waiting = [left] if left else []
            while waiting:
                piece = waiting.pop()
                found = yield from self._search(wanted, piece, factor)
                if found is not None:
                    self.knowledge.pencil_in(found)
                    routes.append(found)
                elif piece > 1 and len(routes) + len(waiting) + 2 <= max_parts:
                    waiting += [piece - piece // 2, piece // 2]
                else:
                    return ()
        finally:
            for route in routes:
                self.knowledge.erase(route)
        return tuple(routes)

    def _flow(self, wanted: _Wanted, factor: float) -> Steps[list[tuple[list[int], int]]]:
        """Return the paths of the cheapest flow and what each should deliver, the largest first."""
        amount, start, end = wanted.amount, self.graph.index(wanted.source), self.graph.index(wanted.target)
        if start is None or end is None or not self._wide_enough(wanted):
            return []
        unit = max(1, amount >> _FLOW_BITS)
        costs, columns = self.costs, self.graph.columns
        demand = Demand(
            nodes=self.graph.count,
            source=start,
            target=end,
            amount=float(amount // unit),
            unit=float(unit),
            risk=factor * amount * costs.risk_ppm / MILLION,
            hop=costs.hop_ppm / MILLION + 1e-12,
            spread=_SPREAD / amount,
            least=amount / wanted.max_parts / _SPREAD,
            rounds=ROUNDS_MAX,
            ends=self._ends,
            slopes=self._slopes,
        )
        flows = yield from self._paced(self._kernels.cheapest_flow, demand)
        ends = {slot: (int(columns.source[slot]), int(columns.target[slot])) for slot, _ in flows}
        paths = split([(slot, int(units)) for slot, units in flows], ends, start)
        return [
            (path, units * unit + (amount % unit if not number else 0)) for number, (path, units) in enumerate(paths)
        ]

    def _wide_enough(self, wanted: _Wanted) -> bool:
        """Whether the channels at both ends together could carry it all: most plans that cannot be fail here."""
        ends = self.graph.leaving(wanted.source), self.graph.reaching(wanted.target)
        rooms = ((max(0, self.knowledge.room(edge)) for edge in edges) for edges in ends)
        return all(any(wide >= wanted.amount for wide in accumulate(end)) for end in rooms)

    def _fitting(self, path: Sequence[int], wanted: int) -> Route | None:
        """Return the route along a path that delivers as much of `wanted` as every limit allows, None if nothing."""
        carried, before = -1, None
        for slot in path:
            edge = self.graph.edge(slot)
            most = min(limit_of(edge), self.knowledge.room(edge))
            if before is not None:
                most = min(most, _passed_on(carried, edge.policy, self.graph.inbound.get(before)))
            carried, before = most, (edge.channel, edge.target)
            if carried <= 0:
                return None
        return self.along(path, min(wanted, carried))

    # --- explaining ----------------------------------------------------------------------------------------------

    def _unreachable(self, wanted: _Wanted) -> Steps[NoRoute]:
        if (yield from self._connected(wanted.source, wanted.target)):
            return NoRoute(self._too_much(wanted), Unpaid.NO_LIQUIDITY)
        return NoRoute("no path to the payee is known; wait for gossip, or ask for an invoice with route hints")

    def _too_much(self, wanted: _Wanted) -> str:
        """Say where an amount does not fit, if that is at one of both ends.

        The payer knows its own channels; of the payee's, only what is public counts here, not what was learned.
        """
        own, theirs, amount = self.graph.leaving(wanted.source), self.graph.reaching(wanted.target), wanted.amount
        for way, most in (
            ("from the payer", sum(max(0, min(limit_of(edge), self.knowledge.room(edge))) for edge in own)),
            ("to the payee", sum(map(limit_of, theirs))),
        ):
            if 0 < most < amount:
                return (
                    f"the channels that lead {way} can carry {most} at most, not {amount}: pay less at a time, or put "
                    "more into them"
                )
        return f"no path that could carry {amount} is known; try a smaller amount"

    def _connected(self, source: NodeKey, target: NodeKey) -> Steps[bool]:
        """Whether a path exists at all, whatever it can carry: in breadth, from the smaller side."""
        if source not in self.graph or target not in self.graph:
            return False
        sides = ({source}, {target})
        edges: list[dict[NodeKey, None]] = [{source: None}, {target: None}]
        looked = 0
        while edges[0] and edges[1]:
            side = 0 if len(edges[0]) <= len(edges[1]) else 1
            found: dict[NodeKey, None] = {}
            for node in edges[side]:
                before = looked
                for other in self._beside(node, side):
                    found[other] = None
                    looked += 1
                if looked // PAUSE > before // PAUSE:
                    yield
            edges[side] = {node: None for node in found if node not in sides[side]}
            if not sides[1 - side].isdisjoint(edges[side]):
                return True
            sides[side].update(edges[side])
        return False

    def _beside(self, node: NodeKey, side: int) -> Iterator[NodeKey]:
        if side == 0:
            return (edge.target for edge in self.graph.leaving(node))
        return (edge.source for edge in self.graph.reaching(node))


def _passed_on(carried: int, policy: ForwardingPolicy, inbound: InboundFee | None) -> int:
    """Return about how much a node sends on of what comes to it; a discount may leave it something more."""
    taken = 0 if inbound is None else max(0, inbound.fee(carried))
    return (carried - taken - policy.base_fee) * MILLION // (MILLION + policy.fee_ppm)
