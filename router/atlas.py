"""What a node knows of the network, put to use for its own payments: graph, beliefs, own channels, avoided nodes.

One `Atlas` for each asset that a node uses; `Atlas.map_for(order)` is the `payer.Map` of one payment. Own channels are
known exactly: what they can carry is asked anew before every plan. They are in the graph whether they are announced or
not; the channels that an invoice names are there as long as its payment lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.objects import Address, ChannelId
from tallystick.router.errors import NoRoute, Unpaid
from tallystick.router.liquidity import Knowledge
from tallystick.router.objects import Edge, ForwardingPolicy, Hop, NodeKey, Route
from tallystick.router.payload import HOPS_MAX, FinalPayload, ForwardPayload, encode_payload
from tallystick.router.payments import Order
from tallystick.router.planner import Planner
from tallystick.router.sphinx import room


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


class Atlas:
    """See the module's docstring."""

    def __init__(
        self,
        source: NodeKey,
        planner: Planner,
        own_channels: Callable[[], Iterable[OwnChannel]],
        learn_policy: Callable[[bytes], bool],
    ) -> None:
        """`learn_policy` takes an encoded channel update out of a failure and says whether it was valid and news."""
        self.source = source
        self.planner = planner
        self.learn_policy = learn_policy
        self._own_channels = own_channels
        self._known: dict[ChannelId, OwnChannel] = {}

    @property
    def knowledge(self) -> Knowledge:
        """What was learned of others' channels."""
        return self.planner.knowledge

    def refresh(self) -> None:
        """Look at our own channels."""
        graph, knowledge = self.planner.graph, self.knowledge
        now = {own.channel: own for own in self._own_channels()}
        for channel in sorted(self._known.keys() - now.keys()):
            knowledge.own(channel, self._known[channel].peer, None)
            graph.remove(channel, self._known[channel].peer)
        for channel, own in now.items():
            if self._known.get(channel) != own or graph.get(channel, own.peer) is None:
                graph.put(Edge(channel, self.source, own.peer, own.capacity, ForwardingPolicy()))
            knowledge.own(channel, own.peer, own.spendable + knowledge.reserved(channel, own.peer))
        self._known = now

    def believes(self, hint: Edge, payee: NodeKey) -> bool:
        """Whether a channel that `payee` names may be there: one that leads to it, and is neither ours nor of others.

        A payee's word is in the graph for all payments: it must not draw them from channels that exist, nor say what
        those of others cost.
        """
        ends, graph = {hint.source, hint.target}, self.planner.graph
        known = [graph.edge(slot) for slot in graph.slots_of(hint.channel)]
        other = hint.target == payee and hint.source != payee and self.source not in ends
        return other and all({edge.source, edge.target} == ends for edge in known)

    def map_for(self, order: Order) -> OrderMap:
        """Return the map for one payment; `close` it when the payment has ended."""
        return OrderMap(self, order)

    def estimate(self, target: NodeKey, amount: int, *, now: float) -> Route:
        """Return the route that a payment of `amount` would begin with, whatever it costs; raise NoRoute."""
        self.refresh()
        return self.planner.route(self.source, target, amount, max_fee=2**127, now=now)


class OrderMap:
    """The `payer.Map` of one payment."""

    def __init__(self, atlas: Atlas, order: Order) -> None:
        self._atlas = atlas
        self._order = order
        self._hops_max = _hops_beside(order)
        self._hints = tuple(edge for edge in order.hints if atlas.believes(edge, order.target))
        atlas.planner.graph.hint(self._hints)

    def close(self) -> None:
        """Take back the channels that only this payment's invoice named."""
        self._atlas.planner.graph.unhint(self._hints)
        self._hints = ()

    def plan(self, target: NodeKey, amount: int, *, max_fee: int, max_parts: int, now: float) -> tuple[Route, ...]:
        """Return routes that deliver `amount` together; raise NoRoute."""
        if self._order.last_channel is not None:
            return (self.route(target, amount, max_fee=max_fee, now=now),)
        self._atlas.refresh()
        source, planner = self._atlas.source, self._atlas.planner
        routes = planner.plan(source, target, amount, max_fee=max_fee, max_parts=max_parts, now=now)
        return tuple(map(self._fitting, routes))

    def route(self, target: NodeKey, amount: int, *, max_fee: int, now: float) -> Route:
        """Return one route; raise NoRoute."""
        self._atlas.refresh()
        if self._order.first_channel is not None and self._order.last_channel is not None:
            return self._circle(self._order.first_channel, self._order.last_channel, amount, max_fee, now)
        return self._fitting(self._atlas.planner.route(self._atlas.source, target, amount, max_fee=max_fee, now=now))

    def _fitting(self, route: Route) -> Route:
        """Return a route, unless an onion has no room for it beside what the payee is to get."""
        if len(route.hops) <= self._hops_max:
            return route
        raise NoRoute(
            f"the best way has {len(route.hops)} hops, and the {len(self._order.metadata)} bytes of metadata in the "
            f"invoice leave room for {self._hops_max}: ask for one with less, or open a channel nearer to the payee"
        )

    def _circle(self, first: ChannelId, last: ChannelId, amount: int, max_fee: int, now: float) -> Route:
        """Return the route out over one channel of ours and back over another."""
        atlas, graph, knowledge = self._atlas, self._atlas.planner.graph, self._atlas.knowledge
        out, back = atlas._known.get(first), atlas._known.get(last)
        edge = graph.get(last, atlas.source)
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
            knowledge.avoid_node(atlas.source, now + 1)
            between = atlas.planner.route(out.peer, back.peer, carried, max_fee=max_fee, now=now).hops
            carried = between[0].amount + _fee_of(graph.get(between[0].channel, between[0].node), between[0].amount)
        route = Route((Hop(first, out.peer, carried), *between, Hop(last, atlas.source, amount)))
        if route.fee > max_fee or carried > out.spendable:
            raise NoRoute(f"the way round costs {route.fee} and carries {carried}; that is more than is allowed")
        return route

    def reserve(self, route: Route) -> None:
        """A part goes this way."""
        self._atlas.knowledge.reserve(route)

    def release(self, route: Route) -> None:
        """The part has ended."""
        self._atlas.knowledge.release(route)

    def passed(self, channel: ChannelId, node: NodeKey, amount: int, now: float) -> None:
        """The direction carried `amount`."""
        self._atlas.knowledge.passed(channel, node, amount, now)

    def failed(self, channel: ChannelId, node: NodeKey, amount: int, now: float) -> None:
        """The direction could not carry `amount`."""
        self._atlas.knowledge.failed(channel, node, amount, now)

    def settled(self, route: Route, now: float) -> None:
        """The part was paid."""
        self._atlas.knowledge.settled(route, now)

    def avoid(self, channel: ChannelId, node: NodeKey, until: float) -> None:
        """Plan no part over this direction until then."""
        self._atlas.knowledge.avoid(channel, node, until)

    def avoid_node(self, node: NodeKey, until: float) -> None:
        """Plan no part over this node until then."""
        self._atlas.knowledge.avoid_node(node, until)

    def allows(self, hop: Hop, fee: int) -> bool:
        """Whether what is known now lets `hop` be sent for that fee."""
        edge = self._atlas.planner.graph.get(hop.channel, hop.node)
        return edge is not None and edge.policy.carries(hop.amount) and edge.policy.fee(hop.amount) <= fee

    def learn_policy(self, update: bytes) -> bool:
        """Take in a channel update from a failure."""
        return self._atlas.learn_policy(update)


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
