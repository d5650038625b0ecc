"""What a node believes of the network: verified channels, their newest updates, nodes; and what a path search sees.

Rules:
- A channel is in the store only with what the chain says of it, and only while an update of it is.
- Of each id the newest version is kept (`announcements.replaces`): merging is commutative, associative and idempotent,
  so stores that were told the same come to hold the same, in whatever order they were told it.
- A node's announcement, and what it asks for as a maker, are kept only while a channel of its is: names cost nothing,
  channels cost money. Makers are bounded in number, too: those with the largest channel in the coin stay.
- Channels are bounded in number asset by asset, those of the largest capacity stay (`quota`): a flood of cheap
  ones, or of ones in worthless tokens, pushes out no dearer one.
- A direction is an edge once its own update and the other end's public key are known. The edges are a function of the
  contents; `events` says how they change, `edges` computes them from scratch.

Signatures are checked before something comes here. Pure: changes to store and events to tell gather in two lists.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, TypeAlias

import msgspec

from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Id
from tallystick.router.gossip.announcements import (
    Announcement,
    ChannelUpdate,
    address_of,
    replaces,
    signer_address,
)
from tallystick.router.gossip.markets import MarketAnnouncement, MarketId
from tallystick.router.gossip.quota import ChannelQuota
from tallystick.router.gossip.reconciliation import Buckets, ItemId, fingerprint
from tallystick.router.objects import Edge, NodeKey

Account = Annotated[Address, msgspec.Meta(min_length=20, max_length=20)]


class ChannelFacts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the chain says of an open channel."""

    participants: tuple[Account, Account]
    capacity: Annotated[int, msgspec.Meta(ge=0)]
    """Deposits less withdrawals, of both sides."""
    asset: Account = NATIVE
    """Rows from before other assets were told of have none."""


# --- what to store ---------------------------------------------------------------------------------------------------


class FactsKept(msgspec.Struct, frozen=True):
    """The chain was asked about a channel at that time, and said this."""

    channel: Id
    facts: ChannelFacts
    verified: float


class FactsForgotten(msgspec.Struct, frozen=True):
    """A channel is of no interest any more; its updates are forgotten with changes of their own."""

    channel: ChannelId


class KeptAnnouncement(msgspec.Struct, frozen=True):
    """The newest version of an announcement, and its digest."""

    announcement: Announcement
    digest: bytes


class AnnouncementForgotten(msgspec.Struct, frozen=True):
    """An announcement is of no interest any more."""

    item: ItemId


Change: TypeAlias = FactsKept | FactsForgotten | KeptAnnouncement | AnnouncementForgotten

# --- what to tell a graph --------------------------------------------------------------------------------------------


class EdgeKnown(msgspec.Struct, frozen=True):
    """A direction of a channel is routable, or its policy or capacity changed."""

    edge: Edge
    asset: Address
    """That the channel carries."""


class ChannelDropped(msgspec.Struct, frozen=True):
    """No direction of the channel is routable any more, but those that are told right after this."""

    channel: ChannelId


GraphEvent: TypeAlias = EdgeKnown | ChannelDropped


def item_of(announcement: Announcement) -> ItemId:
    """Return the id of what an announcement replaces."""
    if isinstance(announcement, ChannelUpdate):
        return (announcement.channel, announcement.side)
    if isinstance(announcement, MarketAnnouncement):
        return MarketId(announcement.key)
    return announcement.key


class GossipStore:
    """The contents. Take `changes` and `events` from their lists after each call."""

    def __init__(self, native: int, other: int, makers: int) -> None:
        """Make an empty store with room for so many channels of the coin, of each other pool (`quota`), and makers."""
        self._quota = ChannelQuota(native, other)
        self.buckets = Buckets()
        self.changes: list[Change] = []
        self.events: list[GraphEvent] = []
        self._channels: dict[ChannelId, FactsKept] = {}
        self._items: dict[ItemId, KeptAnnouncement] = {}
        self._channels_of: dict[Address, dict[ChannelId, None]] = {}
        self._keys: dict[Address, NodeKey] = {}
        self._makers_max = makers
        self._makers: dict[MarketId, None] = {}
        self._uses: dict[Address, int] = {}
        """How many announcements of each address are here: while there are any, its key is known."""
        self._told: dict[ChannelId, tuple[Edge | None, Edge | None]] = {}

    # --- reading -----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._channels)

    @property
    def announcements(self) -> int:
        """How many announcements are here."""
        return len(self._items)

    def get(self, item: ItemId) -> KeptAnnouncement | None:
        """Return the version that is here."""
        return self._items.get(item)

    def facts(self, channel: ChannelId) -> ChannelFacts | None:
        """Return what the chain says of a channel, None if it is not here."""
        kept = self._channels.get(channel)
        return kept.facts if kept is not None else None

    def owns_channel(self, account: Address) -> bool:
        """Whether a channel of this account is here."""
        return account in self._channels_of

    def takes(self, announcement: Announcement) -> bool:
        """Whether what an announcement is about is here: its channel, or a channel of its node."""
        if isinstance(announcement, ChannelUpdate):
            return announcement.channel in self._channels
        return self.owns_channel(signer_address(announcement))

    def verified_since(self, time: float) -> list[ChannelId]:
        """Return the channels about which the chain was asked at that time or later."""
        return [channel for channel, kept in self._channels.items() if kept.verified >= time]

    def unverified_channels(self, bucket: int, since: float, until: float) -> list[ChannelId]:
        """Return the channels of one bucket about which the chain was last asked at no time between these two.

        What was asked later than now was asked when our clock was ahead.
        """
        found = {item[0]: None for item in self.buckets.items(bucket) if isinstance(item, tuple)}
        return [channel for channel in found if not since <= self._channels[channel].verified <= until]

    def markets(self, date: float) -> list[MarketAnnouncement]:
        """Return what makers ask for at that time."""
        found = (self._items[item].announcement for item in self._makers)
        return [said for said in found if isinstance(said, MarketAnnouncement) and said.until >= date]

    def has_room(self, announcement: Announcement) -> bool:
        """Whether this would be kept for its signer's channels; only markets are bounded by them."""
        if not isinstance(announcement, MarketAnnouncement) or len(self._makers) < self._makers_max:
            return True
        ours = MarketId(announcement.key)
        return ours in self._makers or self._size(ours) > min(map(self._size, self._makers))

    def _size(self, item: MarketId) -> tuple[int, bytes]:
        """Return the capacity of the largest channel in the coin of a maker's, and its key, as no two are alike."""
        channels = (self._channels[each].facts for each in self._channels_of.get(address_of(item.key), ()))
        return max((facts.capacity for facts in channels if facts.asset == NATIVE), default=0), item.key

    def newer(self, announcement: Announcement, digest: bytes) -> bool:
        """Whether this version would replace the one that is here, if there is one."""
        kept = self._items.get(item_of(announcement))
        return kept is None or replaces(announcement.timestamp, digest, kept.announcement.timestamp, kept.digest)

    def edges(self, asset: Address | None = None) -> dict[tuple[ChannelId, int], Edge]:
        """Return all routable directions, or those in one asset, computed from the contents alone."""
        found = {}
        for channel, kept in self._channels.items():
            if asset is not None and kept.facts.asset != asset:
                continue
            for side, edge in enumerate(self._derive(channel)):
                if edge is not None:
                    found[channel, side] = edge
        return found

    # --- writing -----------------------------------------------------------------------------------------------------

    def prefer(self, assets: Collection[Address]) -> None:
        """Let these assets have room of their own, besides the coin, and no others."""
        for channel in self._quota.prefer(assets):
            self.drop_channel(channel)

    def put_channel(self, channel: ChannelId, facts: ChannelFacts, verified: float) -> bool:
        """Take in what the chain says of a channel; return False if there is no room beside those of more capacity."""
        poorer = self._quota.put(channel, facts.asset, facts.capacity)
        if poorer is None:
            return False
        for each in poorer:
            self.drop_channel(each)
        kept = self._channels[channel] = FactsKept(channel, facts, verified)
        self.changes.append(kept)
        for account in facts.participants:
            self._channels_of.setdefault(account, {})[channel] = None
        self._tell(channel)
        return True

    def put(self, announcement: Announcement, digest: bytes) -> bool:
        """Take in an announcement whose signature is right; return whether it was news.

        An update must be of a channel that is here, by the participant on its side; a node must have a channel here.
        """
        if not self.newer(announcement, digest):
            return False
        item = item_of(announcement)
        account = self._account(announcement)
        known = item in self._items
        kept = self._items[item] = KeptAnnouncement(announcement, digest)
        self.buckets.put(item, fingerprint(digest))
        self.changes.append(kept)
        if isinstance(item, MarketId) and not known:
            if len(self._makers) >= self._makers_max:
                self.drop(min(self._makers, key=self._size))
            self._makers[item] = None
        if not known:
            self._uses[account] = self._uses.get(account, 0) + 1
            if account not in self._keys:
                self._keys[account] = announcement.key
                for channel in self._channels_of.get(account, ()):
                    self._tell(channel)
        if isinstance(announcement, ChannelUpdate):
            self._tell(announcement.channel)
        return True

    def drop(self, item: ItemId) -> None:
        """Forget an announcement, and what is here only because of it."""
        kept = self._items.pop(item, None)
        if kept is None:
            return
        self.buckets.remove(item)
        if isinstance(item, MarketId):
            del self._makers[item]
        self.changes.append(AnnouncementForgotten(item))
        account = self._account(kept.announcement)
        self._uses[account] -= 1
        if not self._uses[account]:
            del self._uses[account], self._keys[account]
            for channel in self._channels_of.get(account, ()):
                self._tell(channel)
        if isinstance(kept.announcement, ChannelUpdate):
            self._tell(kept.announcement.channel)
            self.tidy(kept.announcement.channel)

    def drop_channel(self, channel: ChannelId) -> None:
        """Forget a channel, its updates, and the nodes that have no other one."""
        kept = self._channels.pop(channel, None)
        if kept is None:
            return
        self._quota.remove(channel, kept.facts.asset)
        self._tell(channel)
        for side in (0, 1):
            self.drop((channel, side))
        self.changes.append(FactsForgotten(channel))
        for account in kept.facts.participants:
            own = self._channels_of[account]
            del own[channel]
            if not own:
                del self._channels_of[account]
                key = self._keys.get(account)
                if key is not None:
                    self.drop(key)
                    self.drop(MarketId(key))

    def tidy(self, channel: ChannelId) -> None:
        """Forget a channel of which no update is here."""
        if (channel, 0) not in self._items and (channel, 1) not in self._items:
            self.drop_channel(channel)

    def drop_beyond(self, bucket: int, first: float, last: float, date: float) -> None:
        """Forget the announcements of one bucket with timestamps outside of these, and markets that ended by `date`.

        What is later was taken in, or signed by us, when our clock was ahead. It would stand in the way of what is true
        now until that time comes.
        """
        for item in self.buckets.items(bucket):
            kept = self._items.get(item)
            if kept is None:
                continue
            said = kept.announcement
            ended = isinstance(said, MarketAnnouncement) and said.until < date
            if ended or not first <= said.timestamp <= last:
                self.drop(item)

    def tell_apart(self, update: ChannelUpdate) -> None:
        """Tell the graph of an update of a channel here that is not taken in. The store's next word replaces it."""
        kept = self._channels[update.channel]
        if (edge := self._edge(kept, update)) is not None:
            self.events.append(EdgeKnown(edge, kept.facts.asset))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _account(self, announcement: Announcement) -> Address:
        """Return the signer's address; of a channel that is here the chain has told it."""
        if isinstance(announcement, ChannelUpdate) and announcement.channel in self._channels:
            return self._channels[announcement.channel].facts.participants[announcement.side]
        return signer_address(announcement)

    def _derive(self, channel: ChannelId) -> tuple[Edge | None, Edge | None]:
        kept = self._channels.get(channel)
        if kept is None:
            return (None, None)
        said = (self._items.get((channel, side)) for side in (0, 1))
        one, other = (None if update is None else self._edge(kept, update.announcement) for update in said)
        return one, other

    def _edge(self, kept: FactsKept, update: Announcement) -> Edge | None:
        if not isinstance(update, ChannelUpdate):
            return None
        target = self._keys.get(kept.facts.participants[1 - update.side])
        return None if target is None else Edge(kept.channel, update.key, target, kept.facts.capacity, update.policy)

    def _tell(self, channel: ChannelId) -> None:
        """Say how the edges of a channel differ from what was said before."""
        before = self._told.get(channel, (None, None))
        now = self._derive(channel)
        if now == before:
            return
        fewer = any(old is not None and new is None for old, new in zip(before, now, strict=True))
        if fewer:
            self.events.append(ChannelDropped(channel))
        for old, new in zip(before, now, strict=True):
            if new is not None and (fewer or new != old):
                self.events.append(EdgeKnown(new, self._channels[channel].facts.asset))
        if now == (None, None):
            del self._told[channel]
        else:
            self._told[channel] = now
