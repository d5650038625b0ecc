"""Channels that gossip does not tell of: what their ends ask for, how invoices name them, what payers learn of them.

    told      the two ends of a channel tell each other, and nobody else, what they ask for (`Told`, message 38), when
              their channel is ready and when it changes (BOLT 7: a channel_update for the channel's peer alone), and
              whether they announce it: an end announces nothing before the other says that it does so, too. What is
              heard is kept in memory: it is told anew on each connection, and a peer that is away carries nothing
    offered   a payee puts what its peers ask for into its invoices, as edges from them to itself: a few, best first
    learned   a forwarder's failure may carry its newest policy; a payer believes it about a hint of its own payments if
              the key that the hint names signed it

Nothing here is told on. What a payee writes into a hint is its own word: a lie makes it unpayable, within the payer's
limits, and says nothing of channels that exist or that lead to others (`AssetGraph.believes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from tallystick.channels.errors import InvalidInput, PeerError
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.objects import Address, ChannelId, Id
from tallystick.channels.transport.rates import Paces
from tallystick.router.forwarding.policies import Policies
from tallystick.router.gossip.announcements import ChannelUpdate, digest_of, sign_update, verify_announcement
from tallystick.router.gossip.policy import GossipPolicy
from tallystick.router.gossip.private_updates import encode_update
from tallystick.router.network.node import LocalNode
from tallystick.router.objects import Edge, ForwardingPolicy, NodeKey
from tallystick.router.pathfinding.graph import Graph

OFFERED = 3
"""Hints that an invoice of ours carries at most."""


class Told(msgspec.Struct, frozen=True, array_like=True, tag=38, forbid_unknown_fields=True):
    """What the sender asks for carrying payments over a channel with the receiver, to the receiver."""

    channel: Id
    policy: ForwardingPolicy
    announces: bool
    """Whether the sender tells the network of the channel: only then may the receiver, who would give it away."""


TOLD_TAG = 38

TOLD: Codec[Told] = Codec(Told)
_UPDATE: Codec[ChannelUpdate] = Codec(ChannelUpdate)


class InboundChannel(msgspec.Struct, frozen=True):
    """A channel of ours as a way in."""

    edge: Edge
    """From the peer to us, with what the peer asks for."""
    inbound: int
    """What the peer could send over it now."""
    ready: bool
    """Whether the peer is connected and in step."""


def choose_hints(candidates: Iterable[InboundChannel], amount: int | None, most: int = OFFERED) -> tuple[Edge, ...]:
    """Return the ways in that an invoice should name, the best first; `amount` is what it asks for, None: any.

    Those whose peers are there come first, then those that can carry all of it, cheap ones before dear ones; then those
    that can carry most of it. What carries nothing at all is left out.
    """

    def rank(candidate: InboundChannel) -> tuple[bool, int, int, bytes]:
        policy = candidate.edge.policy
        carried = min(candidate.inbound, policy.maximum or candidate.inbound)
        enough = carried if amount is None else min(carried, amount)
        return (not candidate.ready, -enough, policy.fee(amount or carried), candidate.edge.channel)

    def is_useful(candidate: InboundChannel) -> bool:
        policy = candidate.edge.policy
        least = candidate.inbound if amount is None else min(candidate.inbound, amount)
        return policy.enabled and candidate.inbound > 0 and least >= policy.minimum

    return tuple(candidate.edge for candidate in sorted(filter(is_useful, candidates), key=rank)[:most])


class HintUpdates:
    """What failures teach about hints that are in the graph now. Each may change as often as gossip lets a channel."""

    def __init__(self, graph: Graph, domain: bytes) -> None:
        """`domain` is the EIP-712 domain separator of the adjudicator."""
        self._graph = graph
        self._domain = domain
        self._limits = GossipPolicy()
        self._paces = Paces(self._limits.update_every, self._limits.update_burst)

    def learn(self, update: bytes, now: float) -> bool:
        """Take in an encoded update out of a failure; return whether it is sound and changed a hint."""
        try:
            found = _UPDATE.decode(update)
            edges = map(self._graph.edge, self._graph.slots_of(ChannelId(found.channel)))
            hints = (edge for edge in edges if self._graph.is_hint(edge.channel, edge.target))
            edge = next((edge for edge in hints if edge.source == found.key), None)
            timely = now - self._limits.stale < found.timestamp <= now + self._limits.skew
            if edge is None or edge.policy == found.policy or not timely:
                return False
            verify_announcement(found, digest_of(self._domain, found))
        except PeerError:
            return False
        self._paces.sweep(now)
        if not self._paces.take((found.channel, found.key), now):
            return False
        self._graph.revise(msgspec.structs.replace(edge, policy=found.policy))
        return True


class PrivateChannels:
    """Our channels as ways in, and what their peers ask for: see the module's docstring. Made by `Routing`."""

    def __init__(
        self,
        node: LocalNode,
        policies: Policies,
        *,
        is_known: Callable[[ChannelId, Address], bool],
        announced: Callable[[ChannelId], bytes],
    ) -> None:
        """`is_known`: whether the network knows a channel of an asset as a way to us; `announced`: by what update."""
        self._node = node
        self._policies = policies
        self._is_known = is_known
        self._announced = announced
        self._told: dict[ChannelId, Told] = {}

    def tell(self, channel: ChannelId) -> None:
        """Tell a channel's peer, and nobody else, what we ask for: its invoices may have to name the channel."""
        told = Told(channel, self._policies.policy_of(channel), self._node.options.announce)
        self._node.peers.say(self._node.engine.views.channel(channel).peer_key, TOLD.encode(told))

    def receive(self, peer: bytes, frame: bytes) -> ChannelId | None:
        """Take in what a peer asks for, and return for which channel; raise MalformedMessage.

        What it says of others' channels is left aside.
        """
        told = TOLD.decode(frame)
        channel = ChannelId(told.channel)
        view = self._node.engine.views.get(channel)
        if view is None or view.channel.peer_key != peer:
            return None
        self._told[channel] = told
        return channel

    def may_announce(self, channel: ChannelId) -> bool:
        """Whether to tell the network of a channel: if its peer does so, too, or we did before and it is away now."""
        told = self._told.get(channel)
        return self._node.options.announce and (told.announces if told is not None else bool(self._announced(channel)))

    def peer_policy(self, channel: ChannelId) -> ForwardingPolicy | None:
        """Return what the peer of a channel asks for, None if it has not said so since we started."""
        told = self._told.get(channel)
        return told.policy if told is not None else None

    def now(self, asset: Address) -> list[InboundChannel]:
        """Return the channels in an asset that lead to us although the network does not know of them."""
        found: list[InboundChannel] = []
        for identity, told in list(self._told.items()):
            view = self._node.engine.views.get(identity)
            if view is None:  # an opening that came to nothing
                del self._told[identity]
                continue
            channel = view.channel
            if (
                not view.payable
                or channel.is_virtual
                or channel.terms.asset != asset
                or self._is_known(identity, asset)
            ):
                continue
            edge = Edge(identity, NodeKey(channel.peer_key), self._node.own, capacity_of(channel), told.policy)
            inbound = channel.balances()[channel.peer_side] - channel.theirs.simplex.proof.locked
            inbound -= channel.coming_reserve  # the peer's is the same
            found.append(InboundChannel(edge, max(0, inbound), view.ready))
        return found

    def update_of(self, channel: ChannelId) -> bytes:
        """Return our newest update of a channel, for a failure: of one that we do not announce, signed for this one."""
        announced = self._announced(channel)
        if announced or self._node.engine.views.get(channel) is None:
            return announced
        try:
            return encode_update(self._sign(channel, self._policies.policy_of(channel)))
        except PeerError:  # a policy of the options that could not be announced either
            return b""

    def check(self, channel: ChannelId, policy: ForwardingPolicy) -> None:
        """Raise InvalidInput if a policy for a channel cannot be told to anybody, or the channel is unknown."""
        try:
            self._sign(channel, policy)
        except PeerError as error:
            raise InvalidInput(str(error)) from error

    def _sign(self, channel: ChannelId, policy: ForwardingPolicy) -> ChannelUpdate:
        side = self._node.engine.views.channel(channel).side
        return sign_update(self._node.engine.key, self._node.domain, channel, side, int(self._node.clock()), policy)


def capacity_of(channel: Channel) -> int:
    """Return what both sides have put into a channel."""
    return sum(max(0, channel.funding(side)) for side in (0, 1))
