"""One node's gossip core with what it is told and answered recorded: for tests of the core alone."""

from __future__ import annotations

from typing import Any

from simulation.gossip_fixtures import DOMAIN, ChainTruth, person
from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.gossip import wire
from tallystick.router.gossip.announcements import Announcement
from tallystick.router.gossip.core import Gossip
from tallystick.router.gossip.peer_state import GossipEffects
from tallystick.router.gossip.policy import GossipPolicy
from tallystick.router.gossip.store import EdgeKnown, GraphEvent
from tallystick.router.objects import Edge

NOW = 1_750_000_000
PEER, OTHER = b"peer", b"other"


class House:
    """One node's gossip, whose questions are answered at once unless told otherwise."""

    def __init__(self, truth: ChainTruth, number: int = 99, **policy: Any) -> None:
        self.truth = truth
        self.gossip = Gossip(person(number), DOMAIN, GossipPolicy(**policy))
        self.told: list[GraphEvent] = []
        self.sent: list[tuple[bytes, wire.Message]] = []
        self.faults: list[bytes] = []
        self.now = float(NOW)
        for peer in (PEER, OTHER):
            self.gossip.on_connected(peer, self.now)

    def take(self) -> GossipEffects:
        effects = self.gossip.take()
        self.told += effects.events
        self.sent += [(peer, wire.decode(frame)) for peer, frame in effects.frames]
        self.faults += [peer for peer, _ in effects.faults]
        return effects

    def answer(self) -> int:
        """Let the chain answer all questions; return how many there were."""
        asked = 0
        while (channel := self.gossip.pending.next_question(self.now)) is not None:
            asked += 1
            self.gossip.answer(channel, self.truth.facts(channel), self.now)
        self.take()
        return asked

    def hear(self, *announcements: Announcement, peer: bytes = PEER) -> None:
        for frame in wire.frames(list(announcements)):
            list(self.gossip.receiving(peer, frame, self.now))
        self.answer()

    def pass_time(self, seconds: float, step: float = 1) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += step
            self.gossip.tick(self.now)
            self.answer()

    def relayed(self, peer: bytes) -> list[Announcement]:
        found: list[Announcement] = []
        for to, message in self.sent:
            if to == peer and isinstance(message, wire.Updates):
                found += message.updates
            elif to == peer and isinstance(message, wire.Nodes):
                found += message.nodes
            elif to == peer and isinstance(message, wire.Markets):
                found += message.markets
        return found

    def graph(self) -> dict[tuple[ChannelId, bytes], Edge]:
        """What a path search that heard the events sees."""
        edges: dict[tuple[ChannelId, bytes], Edge] = {}
        for event in self.told:
            if isinstance(event, EdgeKnown):
                edges[event.edge.channel, event.edge.source] = event.edge
            else:
                edges = {key: edge for key, edge in edges.items() if key[0] != event.channel}
        return edges

    def contents(self) -> dict[Any, bytes]:
        buckets, store = self.gossip.store.buckets, self.gossip.store
        found = {}
        for number in range(512):
            for item in buckets.items(number):
                kept = store.get(item)
                assert kept is not None
                found[item] = kept.digest
        return found

    def check(self) -> None:
        """The incremental graph is the one computed from scratch (I10)."""
        scratch = {(edge.channel, bytes(edge.source)): edge for edge in self.gossip.store.edges().values()}
        assert self.graph() == scratch
