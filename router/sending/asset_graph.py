"""What a node knows of the network, put to use for its own payments: graph, beliefs, own channels, avoided nodes.

One `AssetGraph` for each asset that a node uses; `AssetGraph.routes_for(order)` is the `payer.RouteSource` of one
payment. Own channels are known exactly: those to which something has happened are asked anew before every search, so
that a hub with thousands of channels pays for the busy ones only. They are in the graph whether they are announced or
not; the channels that an invoice names are there as long as its payment lasts. A way that was found is remembered
(`route_cache`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import msgspec

from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.router.errors import NoRoute, Unpaid
from tallystick.router.objects import Edge, ForwardingPolicy, Hop, NodeKey, Route
from tallystick.router.onion.payload import HOPS_MAX, FinalPayload, ForwardPayload, encode_payload
from tallystick.router.onion.sphinx import room
from tallystick.router.pathfinding.graph import Direction
from tallystick.router.pathfinding.liquidity import Knowledge
from tallystick.router.pathfinding.planner import Planner
from tallystick.router.pathfinding.route_cache import RouteCache
from tallystick.router.pathfinding.steps import Steps
from tallystick.router.sending.payer import RetryPlan
from tallystick.router.sending.payments import Order

_FREE = ForwardingPolicy()
"""What we ask ourselves for."""

_SHORT = 8
"""Hops that fit into an onion beside anything that a payee may get."""


class OwnChannel(msgspec.Struct, frozen=True):
    """One of our channels, as a payer sees it."""

    channel: ChannelId
    peer: NodeKey
    asset: Address
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
        self.route_cache = RouteCache(planner)
        self.learn_policy = learn_policy
        self._changed = changed
        self.own_channel = own_channel
        self._again: set[ChannelId] = set()
        """What parts under way take of these has changed."""
        self._known: dict[ChannelId, OwnChannel] = {}

    @property
    def knowledge(self) -> Knowledge:
        """What was learned of others' channels."""
        return self.planner.knowledge

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


class OrderRoutes:
    """The `payer.RouteSource` of one payment."""

    def __init__(self, asset_graph: AssetGraph, order: Order) -> None:
        self._asset_graph = asset_graph
        self._order = order
        self._hints = tuple(edge for edge in order.hints if asset_graph.believes(edge, order.target))
        asset_graph.planner.graph.hint(self._hints)

    def close(self) -> None:
        """Take back the channels that only this payment's invoice named."""
        self._asset_graph.planner.graph.unhint(self._hints)
        self._hints = ()

    def plan(
        self, target: NodeKey, amount: int, *, max_fee: int, max_parts: int, now: float
    ) -> Steps[tuple[Route, ...]]:
        """Find routes that deliver `amount` together; raise NoRoute."""
        asset_graph = self._asset_graph
        if self._order.last_channel is not None:
            return ((yield from self.route(target, amount, max_fee=max_fee, now=now)),)
        asset_graph.refresh()
        known = asset_graph.route_cache.recall(target, amount, max_fee, now)
        if known is not None and self._fits((known,)):
            return (known,)
        routes = yield from self._planned(target, amount, max_fee, max_parts, now)
        if len(routes) == 1:
            asset_graph.route_cache.remember(target, routes[0], now)
        return routes

    def route(self, target: NodeKey, amount: int, *, max_fee: int, now: float) -> Steps[Route]:
        """Find one route; raise NoRoute."""
        asset_graph = self._asset_graph
        asset_graph.refresh()
        if self._order.first_channel is not None and self._order.last_channel is not None:
            return (yield from self._circle(self._order.first_channel, self._order.last_channel, amount, max_fee, now))

        def one(hops: int) -> Steps[tuple[Route, ...]]:
            found = yield from asset_graph.planner.routing(
                asset_graph.source, target, amount, max_fee=max_fee, now=now, hops_max=hops
            )
            return (found,)

        return (yield from self._fitting(one))[0]

    def _planned(
        self, target: NodeKey, amount: int, max_fee: int, max_parts: int, now: float
    ) -> Steps[tuple[Route, ...]]:
        def parts(hops: int) -> Steps[tuple[Route, ...]]:
            return self._asset_graph.planner.planning(
                self._asset_graph.source, target, amount, max_fee=max_fee, max_parts=max_parts, now=now, hops_max=hops
            )

        return self._fitting(parts)

    def retry_plan(
        self, target: NodeKey, amount: int, *, max_fee: int, max_parts: int, now: float
    ) -> Steps[RetryPlan | None]:
        """Find what there would be if what failed for a moment were back; then, if our own peers that are away were."""
        asset_graph = self._asset_graph
        asset_graph.refresh()
        if asset_graph.knowledge.hopes:
            found = yield from self._hope_for(target, amount, max_fee, max_parts, now, {})
            if found is not None:
                return found
        away = asset_graph.away()
        if not away:
            return None
        return (yield from self._hope_for(target, amount, max_fee, max_parts, now, away))

    def _hope_for(
        self, target: NodeKey, amount: int, max_fee: int, max_parts: int, now: float, away: dict[Direction, int]
    ) -> Steps[RetryPlan | None]:
        asset_graph = self._asset_graph
        with asset_graph.knowledge.hoping(away):
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
            failed = self._asset_graph.knowledge.failed_since(hop)
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
        asset_graph, graph, knowledge = self._asset_graph, self._asset_graph.planner.graph, self._asset_graph.knowledge
        out, back = asset_graph.own_channel(first), asset_graph.own_channel(last)
        edge = graph.get(last, asset_graph.source)
        asked = edge.policy if edge is not None else back.asked if back is not None else None
        if out is None or back is None or asked is None:
            raise NoRoute("one of the two channels is not usable now, or its peer has not said what it asks for")
        carried = amount + asked.fee(amount)
        if carried > amount + max_fee:
            raise NoRoute(
                f"the last channel alone costs {carried - amount}, more than the limit of {max_fee}", Unpaid.FEE_LIMIT
            )
        if out.peer == back.peer:
            between: tuple[Hop, ...] = ()
        else:
            knowledge.avoid_node(asset_graph.source, now + 1)
            between = (
                yield from asset_graph.planner.routing(out.peer, back.peer, carried, max_fee=max_fee, now=now)
            ).hops
            carried = between[0].amount + _fee_of(graph.get(between[0].channel, between[0].node), between[0].amount)
        route = Route((Hop(first, out.peer, carried), *between, Hop(last, asset_graph.source, amount)))
        if route.fee > max_fee or carried > out.spendable:
            raise NoRoute(f"the way round costs {route.fee} and carries {carried}; that is more than is allowed")
        return route

    def reserve(self, route: Route) -> None:
        """A part goes this way."""
        self._asset_graph.knowledge.reserve(route)
        self._asset_graph.look_again(route.hops[0].channel)

    def release(self, route: Route) -> None:
        """The part has ended."""
        self._asset_graph.knowledge.release(route)
        self._asset_graph.look_again(route.hops[0].channel)

    def on_passed(self, channel: ChannelId, node: NodeKey, amount: int, now: float) -> None:
        """The direction carried `amount`."""
        self._asset_graph.knowledge.on_passed(channel, node, amount, now)

    def on_failed(self, channel: ChannelId, node: NodeKey, amount: int, now: float) -> None:
        """The direction could not carry `amount`."""
        self._asset_graph.knowledge.on_failed(channel, node, amount, now)

    def on_settled(self, route: Route, now: float) -> None:
        """The part was paid."""
        self._asset_graph.knowledge.on_settled(route, now)

    def avoid(self, channel: ChannelId, node: NodeKey, until: float, since: float | None = None) -> None:
        """Plan no part over this direction until then."""
        self._asset_graph.knowledge.avoid(channel, node, until, since)

    def avoid_node(self, node: NodeKey, until: float, since: float | None = None) -> None:
        """Plan no part over this node until then."""
        self._asset_graph.knowledge.avoid_node(node, until, since)

    def margin(self, route: Route) -> int:
        """Return the largest margin that is asked for on the way."""
        return max((self._margin_of(hop) for hop in route.hops[1:]), default=0)

    def _margin_of(self, hop: Hop) -> int:
        edge = self._asset_graph.planner.graph.get(hop.channel, hop.node)
        own = self._asset_graph.own_channel(hop.channel) if edge is None else None
        asked = edge.policy if edge is not None else own.asked if own is not None else None
        return asked.margin if asked is not None else 0

    def allows(self, hop: Hop, fee: int) -> bool:
        """Whether what is known now lets `hop` be sent for that fee."""
        edge = self._asset_graph.planner.graph.get(hop.channel, hop.node)
        return edge is not None and edge.policy.carries(hop.amount) and edge.policy.fee(hop.amount) <= fee

    def learn_policy(self, update: bytes) -> bool:
        """Take in a channel update from a failure."""
        return self._asset_graph.learn_policy(update)


def _fee_of(edge: Edge | None, amount: int) -> int:
    return edge.policy.fee(amount) if edge is not None else 0


def _hops_beside(order: Order) -> int:
    """Return how many hops always fit into an onion, beside what the payee of this order is to get."""
    final = FinalPayload(
        order.amount, UINT64_MAX, order.payment_secret, order.amount, keysend=order.keysend, metadata=order.metadata
    )
    forward = ForwardPayload(AMOUNT_MAX, UINT64_MAX, ChannelId(bytes(32)))
    sizes = [len(encode_payload(final)), *[len(encode_payload(forward))] * (HOPS_MAX - 1)]
    return next(hops for hops in range(HOPS_MAX, 0, -1) if room(sizes[:hops]) >= 0)
