"""What our own node wants the network to know of it, and when that has to be said (again). Pure.

A policy is said once the chain confirms its channel, when it changes, before it grows stale, and when somebody repeats
a newer statement of our key than we remember: an earlier life of ours made it, and what holds now must replace it.
What we said with a date of the future, by a clock that was ahead, nobody else takes: it is forgotten, and said anew.

`now` is a time that nobody sets, for when to look again; `date` is what the clock shows, for timestamps.
"""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput, PeerError
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.gossip.announcements import (
    Announcement,
    ChannelUpdate,
    Description,
    NodeAnnouncement,
    digest_of,
    sign_market,
    sign_node,
    sign_update,
)
from tallystick.router.gossip.markets import MarketAnnouncement, MarketId, MarketOffer
from tallystick.router.gossip.policy import GossipPolicy
from tallystick.router.gossip.private_updates import encode_update
from tallystick.router.gossip.reconciliation import ItemId
from tallystick.router.gossip.store import GossipStore, KeptAnnouncement
from tallystick.router.objects import ForwardingPolicy, NodeKey


class OwnAnnouncements:
    """Our own announcements. They are signed here, and stand only once they are in the store."""

    def __init__(self, key: PrivateKey, domain: bytes, policy: GossipPolicy, store: GossipStore) -> None:
        self._key = key
        self._own = NodeKey(bytes(key.public))
        self._domain = domain
        self._policy = policy
        self._store = store
        self._wishes: dict[ChannelId, ForwardingPolicy] = {}
        self._due: dict[ChannelId, None] = {}
        self._description: Description | None = None
        self._offers: tuple[MarketOffer, ...] | None = None
        self._next_look = 0.0

    def announce(self, channel: ChannelId, policy: ForwardingPolicy) -> None:
        """Want a policy to be known. Raise InvalidInput if it cannot be announced."""
        try:
            sign_update(self._key, self._domain, channel, 0, 0, policy)
        except PeerError as error:
            raise InvalidInput(str(error)) from error
        self._wishes[channel] = policy
        self._due[channel] = None

    def describe(self, description: Description) -> None:
        """Want a name and addresses to be known. Raise InvalidInput if they are none."""
        try:
            sign_node(self._key, self._domain, 0, description)
        except PeerError as error:
            raise InvalidInput(str(error)) from error
        self._description = description
        self._next_look = 0.0

    def offer(self, offers: tuple[MarketOffer, ...]) -> None:
        """Want it to be known what we ask for as a maker, from now on. Raise InvalidInput if it cannot be told."""
        wanted = tuple(sorted(offers))
        try:
            sign_market(self._key, self._domain, 0, 0, wanted)
        except PeerError as error:
            raise InvalidInput(str(error)) from error
        if wanted != self._offers:
            self._offers = wanted
            self._next_look = 0.0

    def wants(self, channel: ChannelId) -> bool:
        """Whether we announce this channel."""
        return channel in self._wishes

    def said_of(self, channel: ChannelId) -> bytes:
        """Return our newest update of a channel, as failures carry it (BOLT 4); empty if there is none."""
        for side in (0, 1):
            kept = self._store.get((channel, side))
            if kept is not None and kept.announcement.key == self._own and isinstance(kept.announcement, ChannelUpdate):
                return encode_update(kept.announcement)
        return b""

    def forget(self, channel: ChannelId) -> None:
        """Announce this channel no more."""
        self._wishes.pop(channel, None)

    def remember(self, announcement: Announcement) -> None:
        """Take what was stored of ours as what we want, until told otherwise."""
        if announcement.key == self._own and isinstance(announcement, ChannelUpdate):
            self._wishes[announcement.channel] = announcement.policy

    def on_heard(self, announcement: Announcement) -> None:
        """A peer told us this, which is news to us."""
        if announcement.key != self._own:
            return
        if isinstance(announcement, ChannelUpdate):
            self._due[announcement.channel] = None
        else:
            self._next_look = 0.0

    def due(self, now: float, date: float) -> tuple[list[KeptAnnouncement], list[ChannelId]]:
        """Return what is to be said now, a bounded part of it, and the channels that the chain is to confirm first."""
        say: list[KeptAnnouncement] = []
        ask: list[ChannelId] = []
        if now >= self._next_look:
            self._next_look = now + self._policy.check_own
            self._due.update(dict.fromkeys(self._wishes))
            say += self._node(date) + self._market(date)
        for channel in list(self._due)[: self._policy.own_per_tick]:
            del self._due[channel]
            if channel in self._wishes:
                if self._store.facts(channel) is None:
                    ask.append(channel)
                else:
                    say += self.update(channel, date)
        return say, ask

    def update(self, channel: ChannelId, date: float) -> list[KeptAnnouncement]:
        """Return the update of a confirmed channel of ours, signed anew, if what the store has is not what we want."""
        facts = self._store.facts(channel)
        policy = self._wishes.get(channel)
        if facts is None or policy is None:
            return []
        if self._key.address not in facts.participants:
            self.forget(channel)
            return []
        side = facts.participants.index(self._key.address)
        there = self._standing((channel, side), date)
        if self._store.facts(channel) is None:  # it was known by that only: the chain is asked again
            self._due[channel] = None
            return []
        said = _fresh(there, date - self._policy.refresh)
        if isinstance(said, ChannelUpdate) and said.policy == policy:
            return []
        update = sign_update(self._key, self._domain, channel, side, _after(there, date), policy)
        return [KeptAnnouncement(update, digest_of(self._domain, update))]

    def _node(self, date: float) -> list[KeptAnnouncement]:
        wanted = self._description
        if wanted is None or not self._store.owns_channel(self._key.address):
            return []
        there = self._standing(self._own, date)
        said = _fresh(there, date - self._policy.refresh)
        if isinstance(said, NodeAnnouncement) and Description(said.alias, said.addresses, said.features) == wanted:
            return []
        node = sign_node(self._key, self._domain, _after(there, date), wanted)
        return [KeptAnnouncement(node, digest_of(self._domain, node))]

    def _market(self, date: float) -> list[KeptAnnouncement]:
        wanted = self._offers
        if wanted is None or not self._store.owns_channel(self._key.address):
            return []
        there = self._standing(MarketId(self._own), date)
        if there is None and not wanted:
            return []
        said = _fresh(there, date - self._policy.market_refresh) if wanted else there and there.announcement
        if isinstance(said, MarketAnnouncement) and said.offers == wanted:
            return []
        now = _after(there, date)
        market = sign_market(self._key, self._domain, now, now + self._policy.market_life, wanted)
        return [KeptAnnouncement(market, digest_of(self._domain, market))]

    def _standing(self, item: ItemId, date: float) -> KeptAnnouncement | None:
        """Return what the store has of ours; forget it first if it is of the future."""
        there = self._store.get(item)
        if there is not None and there.announcement.timestamp > date + self._policy.skew:
            self._store.drop(item)
            return None
        return there


def _fresh(there: KeptAnnouncement | None, since: float) -> Announcement | None:
    """Return what the store has, if it is younger than that, so need not be renewed yet."""
    if there is None or there.announcement.timestamp <= since:
        return None
    return there.announcement


def _after(there: KeptAnnouncement | None, date: float) -> int:
    """Return a timestamp that replaces what is there."""
    return max(int(date), there.announcement.timestamp + 1 if there is not None else 0)
