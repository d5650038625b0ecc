"""What gossip keeps of each connected peer, what it answers to its requests, and what it hands to its shell."""

from __future__ import annotations

from collections import deque

import msgspec

from tallystick.channels.errors import PeerError
from tallystick.channels.transport.rates import TokenBucket
from tallystick.router.errors import GossipRefused
from tallystick.router.gossip import wire
from tallystick.router.gossip.announcements import check_signer
from tallystick.router.gossip.policy import GossipPolicy
from tallystick.router.gossip.reconciliation import UPDATE_BUCKETS, ItemId
from tallystick.router.gossip.store import Change, ChannelFacts, GossipStore, GraphEvent, KeptAnnouncement


class GossipEffects(msgspec.Struct):
    """What to store, then to send and to tell, in this order."""

    changes: list[Change] = []
    frames: list[tuple[bytes, bytes]] = []
    """(peer's public key, frame)."""
    events: list[GraphEvent] = []
    faults: list[tuple[bytes, PeerError]] = []
    """Peers whose connections should be ended, and why."""


class GossipStatistics(msgspec.Struct, frozen=True):
    """Sizes now, and counters since the start."""

    channels: int
    announcements: int
    peers: int
    pending: int
    """Channels about which the chain has not answered yet."""
    accepted: int
    repeated: int
    """Announcements that were here already, or newer ones."""
    ignored: int
    """Over a budget."""
    refused: int
    """Too old, too early, or of channels that the chain does not confirm."""
    rounds: int
    """Of reconciliation that ended with all differences fetched."""


class Budgets:
    """What one peer may still send, and get in answer."""

    def __init__(self, policy: GossipPolicy, now: float) -> None:
        self.bytes = TokenBucket(policy.bytes_rate, policy.bytes_burst, now)
        self.items = TokenBucket(policy.items_rate, policy.items_burst, now)
        self.served = TokenBucket(policy.serve_rate, policy.serve_burst, now)


class PeerState:
    """What is going on with one connected peer."""

    def __init__(self, budgets: Budgets, now: float) -> None:
        self.budgets = budgets
        self.news: dict[ItemId, None] = {}
        self.requests: deque[wire.Query | wire.Fill] = deque()
        self.round = 0
        self.queried = False
        """Whether the round's Summary is still to come."""
        self.todo: deque[int] = deque()
        self.asked: set[int] = set()
        self.next_round = now
        self.moved = now
        """When the round last came further."""


def answers_to(request: wire.Query | wire.Fill, store: GossipStore) -> list[bytes]:
    """Return the frames that answer a peer's request of reconciliation."""
    match request:
        case wire.Query(number):
            return [wire.encode(wire.Summary(number, store.buckets.digests()))]
        case wire.Fill(number, bucket, known):
            found = [store.get(item) for item in store.buckets.beyond(bucket, known)]
            frames = wire.frames([kept.announcement for kept in found if kept is not None])
            return [*frames, wire.encode(wire.Filled(number, bucket))]


def fitting(
    pending: dict[bytes, list[KeptAnnouncement]], facts: ChannelFacts, faults: list[tuple[bytes, PeerError]]
) -> list[tuple[bytes, KeptAnnouncement]]:
    """Return what is signed by the right participant, and from whom; anything else is the peer's fault."""
    found = []
    for peer, waiting in pending.items():
        for kept in waiting:
            try:
                check_signer(kept.announcement, facts.participants)
            except GossipRefused as error:
                faults.append((peer, error))
            else:
                found.append((peer, kept))
    return found


def asking_order(buckets: list[int], peer: bytes) -> list[int]:
    """Return buckets in the order to ask a peer for them: names last, and each peer first for another part."""
    updates = [bucket for bucket in buckets if bucket < UPDATE_BUCKETS]
    turn = len(updates) * peer[-1] // 256
    return updates[turn:] + updates[:turn] + buckets[len(updates) :]
