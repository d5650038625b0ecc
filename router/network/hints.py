"""Channels that gossip does not tell of: how they come into invoices, and what payers learn of them. Pure.

    told      the two ends of a channel tell each other, and nobody else, what they ask for (`Told`, message 38), when
              their channel is ready and when it changes (BOLT 7: a channel_update for the channel's peer alone), and
              whether they announce it: an end announces nothing before the other says that it does so, too
    offered   a payee puts what its peers ask for into its invoices, as edges from them to itself: a few, best first
    learned   a forwarder's failure may carry its newest policy; a payer believes it about a hint of its own payments if
              the key that the hint names signed it

Nothing here is told on. What a payee writes into a hint is its own word: a lie makes it unpayable, within the payer's
limits, and says nothing of channels that exist or that lead to others (`AssetGraph.believes`).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tallystick.channels.errors import PeerError
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import ChannelId, Id
from tallystick.channels.transport.rates import Paces
from tallystick.router.gossip.announcements import ChannelUpdate, digest_of, verify_announcement
from tallystick.router.gossip.policy import GossipPolicy
from tallystick.router.objects import Edge, ForwardingPolicy
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
            edge = self._hint_of(found)
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

    def _hint_of(self, update: ChannelUpdate) -> Edge | None:
        for slot in self._graph.slots_of(ChannelId(update.channel)):
            edge = self._graph.edge(slot)
            if edge.source == update.key and self._graph.is_hint(edge.channel, edge.target):
                return edge
        return None
