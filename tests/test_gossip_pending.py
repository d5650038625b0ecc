"""Updates that wait for the chain, and peers that leave meanwhile."""

from __future__ import annotations

import pytest

from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.gossip.announcements import Announcement, ChannelUpdate
from tallystick.router.gossip.pending_updates import PendingUpdates
from tallystick.router.gossip.policy import GossipPolicy
from tallystick.router.gossip.store import KeptAnnouncement
from tallystick.router.objects import ForwardingPolicy, NodeKey

CHANNEL = ChannelId(b"c" * 32)


def kept(side: int) -> KeptAnnouncement:
    update: Announcement = ChannelUpdate(CHANNEL, side, NodeKey(b"k" * 33), 1, ForwardingPolicy())
    return KeptAnnouncement(update, bytes(32))


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("others", [(), (b"other",)], ids=["alone", "with another"])
def test_a_peer_may_leave_while_both_sides_of_a_channel_wait_for_the_chain(
    others: tuple[bytes, ...], asked: bool
) -> None:
    pending = PendingUpdates(GossipPolicy())
    peers = (b"peer", *others)
    for peer in peers:
        pending.join(peer)
        for side in (0, 1):
            assert pending.keep(peer, (CHANNEL, side), kept(side))
    if asked:
        assert pending.next_question(0.0) == CHANNEL
    pending.leave(b"peer")
    assert len(pending) == len(others)
    if not asked:
        assert pending.next_question(0.0) == (CHANNEL if others else None)
    pending.on_answered(CHANNEL)
    found = pending.take(CHANNEL)
    assert found == {peer: [kept(0), kept(1)] for peer in others}
    assert len(pending) == 0 and not pending.curious


def test_strangers_share_a_rate_of_questions_and_partners_and_ourselves_ask_at_once() -> None:
    policy = GossipPolicy(strangers_lookup_rate=2, strangers_lookup_burst=3)
    pending = PendingUpdates(policy, partner=lambda peer: peer == b"partner")
    for peer in (b"one", b"two", b"partner"):
        pending.join(peer)
        for number in range(20):
            channel = ChannelId(peer.ljust(31, b"-") + bytes([number]))
            assert pending.keep(peer, (channel, 0), kept(0))
    pending.ask(CHANNEL)

    def asked(now: float) -> list[bytes]:
        found = []
        while (channel := pending.next_question(now)) is not None:
            found.append(channel[:3])
        return found

    first = asked(100.0)
    assert first[0] == CHANNEL[:3] and first.count(b"par") == 20
    assert len([who for who in first if who in (b"one", b"two")]) == 3
    assert pending.curious and asked(100.4) == []
    assert sorted(asked(101.0)) == [b"one", b"two"]
