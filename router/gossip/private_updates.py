"""Updates that forwarders send back with failures of our own payments (BOLT 4): for our graph and nobody else. Pure.

A forwarder could make an update for one payment alone. Whoever kept it as gossip, and so told it on, would thereby say
that it is the payer. So it stands apart from the store until it comes as gossip, too.
"""

from __future__ import annotations

from collections import OrderedDict

from tallystick.channels.errors import PeerError
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.transport.rates import Paces
from tallystick.router.gossip.announcements import ChannelUpdate, check_signer, digest_of, replaces, verify_announcement
from tallystick.router.gossip.policy import GossipPolicy
from tallystick.router.gossip.reconciliation import ItemId
from tallystick.router.gossip.store import GossipStore, KeptAnnouncement, item_of

_UPDATE: Codec[ChannelUpdate] = Codec(ChannelUpdate)


def encode_update(update: ChannelUpdate) -> bytes:
    """Return an update as failures carry it."""
    return _UPDATE.encode(update)


class PrivateUpdates:
    """What was learned from failures, a bounded number of updates."""

    def __init__(self, domain: bytes, policy: GossipPolicy, store: GossipStore, paces: Paces) -> None:
        self._domain = domain
        self._policy = policy
        self._store = store
        self._paces = paces
        self._heard: OrderedDict[ItemId, KeptAnnouncement] = OrderedDict()

    def learn(self, update: bytes, now: float, date: float) -> ChannelUpdate | None:
        """Tell the graph of an encoded update that is sound and news, and return it; None for anything else."""
        try:
            found = _UPDATE.decode(update)
            facts = self._store.facts(found.channel)
            kept = KeptAnnouncement(found, digest_of(self._domain, found))
            timely = date - self._policy.stale < found.timestamp <= date + self._policy.skew
            if facts is None or not timely or not self._is_news(kept) or not self._paces.ready(item_of(found), now):
                return None
            check_signer(found, facts.participants)
            verify_announcement(found, kept.digest)
        except PeerError:
            return None
        self._paces.take(item_of(found), now)
        self._heard[item_of(found)] = kept
        self._heard.move_to_end(item_of(found))
        while len(self._heard) > self._policy.private_max:
            self._heard.popitem(last=False)
        self._store.tell_apart(found)
        return found

    def _is_news(self, kept: KeptAnnouncement) -> bool:
        heard = self._heard.get(item_of(kept.announcement))
        return self._store.newer(kept.announcement, kept.digest) and (
            heard is None
            or replaces(kept.announcement.timestamp, kept.digest, heard.announcement.timestamp, heard.digest)
        )
