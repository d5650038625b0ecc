"""Our channels as ways in: what their peers ask for, as the two ends tell each other alone (`router.network.hints`).

Every node tells the peer of each channel its own policy once they are in step, and when it changes. What is heard is
kept in memory: it is told anew on each connection, and a peer that is away carries nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from tallystick.channels.errors import InvalidInput, PeerError
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.router.forwarding.policies import Policies
from tallystick.router.gossip.announcements import ChannelUpdate, sign_update
from tallystick.router.gossip.private_updates import encode_update
from tallystick.router.network.hints import TOLD, InboundChannel, Told
from tallystick.router.network.node import LocalNode
from tallystick.router.objects import Edge, ForwardingPolicy, NodeKey


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
            if not view.payable or channel.terms.asset != asset or self._is_known(identity, asset):
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
        return sign_update(self._node.key, self._node.domain, channel, side, int(self._node.clock()), policy)


def capacity_of(channel: Channel) -> int:
    """Return what both sides have put into a channel."""
    return sum(max(0, channel.funding(side)) for side in (0, 1))
