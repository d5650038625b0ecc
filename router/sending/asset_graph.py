"""What a node knows of the network, put to use for its own payments: graph, beliefs, own channels, avoided nodes.

One `AssetGraph` for each asset that a node uses; `AssetGraph.routes_for(order)` gives what one payment asks. Own
channels are known exactly: those to which something has happened are asked anew before every search, so that a hub with
thousands of channels pays for the busy ones only. They are in the graph whether they are announced or not; the channels
that an invoice names are there as long as its payment lasts. A way that was found is remembered (`route_cache`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import msgspec

from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.errors import NoRoute, Unpaid
from tallystick.router.objects import Edge, ForwardingPolicy, Hop, NodeKey, Route
from tallystick.router.onion.payload import HOPS_MAX, FinalPayload, ForwardPayload, encode_payload
from tallystick.router.onion.sphinx import room
from tallystick.router.pathfinding.graph import Direction
from tallystick.router.pathfinding.planner import Planner
from tallystick.router.pathfinding.route_cache import RouteCache
from tallystick.router.pathfinding.steps import Steps
from tallystick.router.sending.payments import Order

_FREE = ForwardingPolicy()
"""What we ask ourselves for."""

_SHORT = 8
"""Hops that fit into an onion beside anything that a payee may get."""


class OwnChannel(msgspec.Struct, frozen=True):
    """One of our channels, as a payer sees it."""

    channel: ChannelId
    peer: NodeKey
    capacity: int
    spendable: int
    """0 while it is not usable."""
    asked: ForwardingPolicy | None = None
    """What the peer asks for carrying a payment over it to us, as it told us alone; gossip goes before."""
    away: int = 0
    """What it could carry once its peer is back; 0 while the peer is there."""


class AssetGraph:
    """The network in one asset, for our own payments: see the module's docstring."""

    def __init__(
        self,
        source: NodeKey,
        planner: Planner,
        changed: Callable[[], Iterable[ChannelId]],
        own_channel: Callable[[ChannelId], OwnChannel | None],
        learn_policy: Callable[[bytes], bool],
    ) -> None:
        """Make it.

        `changed` names the channels of ours to which something has happened since it was last asked (at first: all);
        `own_channel` gives one, None if it carries no payments any more. `learn_policy` takes an encoded channel update
        out of a failure and says whether it was valid and news.
        """
        self.source = source
        self.planner = planner
        self.knowledge = planner.knowledge
        self.route_cache = RouteCache(planner)
        self.learn_policy = learn_policy
        self._changed = changed
        self.own_channel = own_channel
        self._again: set[ChannelId] = set()
        """What parts under way take of these has changed."""
        self._known: dict[ChannelId, OwnChannel] = {}

    def refresh(self) -> None:
        """Look at those of our own channels to which something has happened. In the middle of a search, it waits."""
        if self.planner.graph.paused:
            return
        again, self._again = self._again, set()
        again.update(self._changed())
        for channel in sorted(again):
            self._look_at(channel)

    def _look_at(self, channel: ChannelId) -> None:
        graph, knowledge = self.planner.graph, self.knowledge
        known, own = self._known.pop(channel, None), self.own_channel(channel)
        if own is None:
            if known is not None:
                knowledge.own(channel, known.peer, None)
                graph.remove(channel, known.peer)
            return
        self._known[channel] = own
        edge = graph.get(channel, own.peer)
        if edge is None or edge.source != self.source or edge.capacity != own.capacity or edge.policy != _FREE:
            graph.put(Edge(channel, self.source, own.peer, own.capacity, _FREE))
        knowledge.own(channel, own.peer, own.spendable + knowledge.reserved(channel, own.peer))

    def look_again(self, channel: ChannelId) -> None:
        """Look at a channel again before the next search, if it is ours."""
        if channel in self._known:
            self._again.add(channel)

    def away(self) -> dict[Direction, int]:
        """Return what our channels whose peers are away could carry, were they back."""
        return {(own.channel, own.peer): own.away for own in self._known.values() if own.away}

    def believes(self, hint: Edge, payee: NodeKey) -> bool:
        """Whether a channel that `payee` names may be there: one that leads to it, and is neither ours nor of others.

        A payee's word is in the graph for all payments: it must not draw them from channels that exist, nor say what
        those of others cost.
        """
        ends, graph = {hint.source, hint.target}, self.planner.graph
        known = [graph.edge(slot) for slot in graph.slots_of(hint.channel)]
        other = hint.target == payee and hint.source != payee and self.source not in ends
        return other and all({edge.source, edge.target} == ends for edge in known)

    def routes_for(self, order: Order) -> OrderRoutes:
        """Return the routes of one payment; `close` it when the payment has ended."""
        return OrderRoutes(self, order)

    def estimate(self, target: NodeKey, amount: int, *, now: float) -> Route:
        """Return the route that a payment of `amount` would begin with, whatever it costs; raise NoRoute."""
        self.refresh()
        return self.planner.route(self.source, target, amount, max_fee=2**127, now=now)


class RetryPlan(msgspec.Struct, frozen=True):
    """A plan over what is avoided because it was of no use for a moment."""

    routes: tuple[Route, ...]
    since: float
    """When something that it needs was found to be of no use last; -inf: nothing was."""
    away: bool
    """Whether a channel of ours that it needs cannot be used now: the plan can only be waited for."""
    text: str
    """What has to come back, for a person."""


class OrderRoutes:
    """What one payment asks of the planner, and tells it. A direction is a channel and the node that it leads to."""

    def __init__(self, asset_graph: AssetGraph, order: Order) -> None:
        self.knowledge = asset_graph.knowledge
        """What parts that passed, failed or were paid teach, and what is avoided."""
        self.learn_policy = asset_graph.learn_policy
        """Takes in a channel update from a failure; returns whether it was valid and news."""
        self._asset_graph = asset_graph
        self._planner = asset_graph.planner
        self._graph = asset_graph.planner.graph
        self._order = order
        self._hints = tuple(edge for edge in order.hints if asset_graph.believes(edge, order.target))
        self._graph.hint(self._hints)

    def close(self) -> None:
        """The payment has ended: take back the channels that only its invoice named."""
        self._graph.unhint(self._hints)
        self._hints = ()

    def plan(
        self, target: NodeKey, amount: int, *, max_fee: int, max_parts: int, now: float
    ) -> Steps[tuple[Route, ...]]:
        """Find routes that deliver `amount` together for at most `max_fee`; raise NoRoute."""
        if self._order.last_channel is not None:
            return ((yield from self.route(target, amount, max_fee=max_fee, now=now)),)
        self._asset_graph.refresh()
        known = self._asset_graph.route_cache.recall(target, amount, max_fee, now)
        if known is not None and self._fits((known,)):
            return (known,)
        routes = yield from self._planned(target, amount, max_fee, max_parts, now)
        if len(routes) == 1:
            self._asset_graph.route_cache.remember(target, routes[0], now)
        return routes

    def route(self, target: NodeKey, amount: int, *, max_fee: int, now: float) -> Steps[Route]:
        """Find one route that delivers `amount` for at most `max_fee`; raise NoRoute."""
        self._asset_graph.refresh()
        if self._order.first_channel is not None and self._order.last_channel is not None:
            return (yield from self._circle(self._order.first_channel, self._order.last_channel, amount, max_fee, now))

        def one(hops: int) -> Steps[tuple[Route, ...]]:
            source = self._asset_graph.source
            found = yield from self._planner.routing(source, target, amount, max_fee=max_fee, now=now, hops_max=hops)
            return (found,)

        return (yield from self._fitting(one))[0]

    def _planned(
        self, target: NodeKey, amount: int, max_fee: int, max_parts: int, now: float
    ) -> Steps[tuple[Route, ...]]:
        def parts(hops: int) -> Steps[tuple[Route, ...]]:
            return self._planner.planning(
                self._asset_graph.source, target, amount, max_fee=max_fee, max_parts=max_parts, now=now, hops_max=hops
            )

        return self._fitting(parts)

    def retry_plan(
        self, target: NodeKey, amount: int, *, max_fee: int, max_parts: int, now: float
    ) -> Steps[RetryPlan | None]:
        """Find what `plan` would if what failed for a moment were back; then, if our own peers that are away were."""
        self._asset_graph.refresh()
        if self.knowledge.hopes:
            found = yield from self._hope_for(target, amount, max_fee, max_parts, now, {})
            if found is not None:
                return found
        away = self._asset_graph.away()
        if not away:
            return None
        return (yield from self._hope_for(target, amount, max_fee, max_parts, now, away))

    def _hope_for(
        self, target: NodeKey, amount: int, max_fee: int, max_parts: int, now: float, away: dict[Direction, int]
    ) -> Steps[RetryPlan | None]:
        with self.knowledge.hoping(away):
            try:
                if self._order.last_channel is not None:
                    found: tuple[Route, ...] = ((yield from self.route(target, amount, max_fee=max_fee, now=now)),)
                else:
                    found = yield from self._planned(target, amount, max_fee, max_parts, now)
            except NoRoute:
                return None
        return self._hope_of(found, away)

    def _hope_of(self, routes: tuple[Route, ...], away: dict[Direction, int]) -> RetryPlan:
        since, waits_for = -math.inf, {}
        for hop in (hop for route in routes for hop in route.hops):
            failed = self.knowledge.failed_since(hop)
            if failed is not None:
                since = max(since, failed)
                waits_for[hop.node] = f"the way to node {hop.node.hex()[:16]}…, which failed a while ago"
        lost = [route.hops[0] for route in routes if (route.hops[0].channel, route.hops[0].node) in away]
        for hop in lost:
            waits_for[hop.node] = f"our peer {hop.node.hex()[:16]}…, which is not connected"
        return RetryPlan(routes, since, bool(lost), " and ".join(waits_for.values()))

    def _fits(self, routes: tuple[Route, ...]) -> bool:
        """Whether onions have room for routes, beside what the payee is to get."""
        longest = max(len(route.hops) for route in routes)
        return longest <= _SHORT or longest <= _hops_beside(self._order)

    def _fitting(self, find: Callable[[int], Steps[tuple[Route, ...]]]) -> Steps[tuple[Route, ...]]:
        """Return what `find` does for the most hops that there may be; shorter routes if an onion has no room."""
        routes = yield from find(HOPS_MAX)
        if self._fits(routes):
            return routes
        fitting = _hops_beside(self._order)
        try:
            return (yield from find(fitting))
        except NoRoute as error:
            longest = max(len(route.hops) for route in routes)
            raise NoRoute(
                f"the best way has {longest} hops, and the {len(self._order.metadata)} bytes of metadata in the "
                f"invoice leave room for {fitting}: ask for one with less, or open a channel nearer to the payee"
            ) from error

    def _circle(self, first: ChannelId, last: ChannelId, amount: int, max_fee: int, now: float) -> Steps[Route]:
        """Find the route out over one channel of ours and back over another."""
        source, own = self._asset_graph.source, self._asset_graph.own_channel
        out, back, asked = own(first), own(last), self._asked(last, source)
        if out is None or back is None or asked is None:
            raise NoRoute("one of the two channels is not usable now, or its peer has not said what it asks for")
        carried = amount + asked.fee(amount)
        if carried > amount + max_fee:
            raise NoRoute(
                f"the last channel alone costs {carried - amount}, more than the limit of {max_fee}", Unpaid.FEE_LIMIT
            )
        between: tuple[Hop, ...] = ()
        if out.peer != back.peer:
            self.knowledge.avoid_node(source, now + 1)
            found = yield from self._planner.routing(out.peer, back.peer, carried, max_fee=max_fee, now=now)
            between, carried = found.hops, found.hops[0].amount
            ahead = self._graph.get(between[0].channel, between[0].node)
            carried += ahead.policy.fee(carried) if ahead is not None else 0
        route = Route((Hop(first, out.peer, carried), *between, Hop(last, source, amount)))
        if route.fee > max_fee or carried > out.spendable:
            raise NoRoute(f"the way round costs {route.fee} and carries {carried}; that is more than is allowed")
        return route

    def reserve(self, route: Route) -> None:
        """A part goes this way: its amounts are taken."""
        self.knowledge.reserve(route)
        self._asset_graph.look_again(route.hops[0].channel)

    def release(self, route: Route) -> None:
        """The part has ended."""
        self.knowledge.release(route)
        self._asset_graph.look_again(route.hops[0].channel)

    def margin(self, route: Route) -> int:
        """Return the largest margin that is asked for on the way: what its locks must have left."""
        asked = (self._asked(hop.channel, hop.node) for hop in route.hops[1:])
        return max((policy.margin for policy in asked if policy is not None), default=0)

    def _asked(self, channel: ChannelId, node: NodeKey) -> ForwardingPolicy | None:
        """Return what is asked for in a direction: in the graph, or for ways back to us by our peer's own word."""
        edge = self._graph.get(channel, node)
        if edge is not None:
            return edge.policy
        own = self._asset_graph.own_channel(channel)
        return own.asked if own is not None else None

    def allows(self, hop: Hop, fee: int) -> bool:
        """Whether what is known now lets `hop` be sent for that fee: else its policy has changed since the plan."""
        edge = self._graph.get(hop.channel, hop.node)
        return edge is not None and edge.policy.carries(hop.amount) and edge.policy.fee(hop.amount) <= fee


def _hops_beside(order: Order) -> int:
    """Return how many hops always fit into an onion, beside what the payee of this order is to get."""
    final = FinalPayload(
        order.amount, UINT64_MAX, order.payment_secret, order.amount, keysend=order.keysend, metadata=order.metadata
    )
    forward = ForwardPayload(AMOUNT_MAX, UINT64_MAX, ChannelId(bytes(32)))
    sizes = [len(encode_payload(final)), *[len(encode_payload(forward))] * (HOPS_MAX - 1)]
    return next(hops for hops in range(HOPS_MAX, 0, -1) if room(sizes[:hops]) >= 0)
