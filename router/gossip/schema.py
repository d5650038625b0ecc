"""What gossip keeps on disk, so that a restart needs no full resync: one row per channel, direction and node.

    gossip_channels   what the chain said of each channel, and when
    gossip_updates    the newest update of each direction
    gossip_nodes      the newest announcement of each node
    gossip_markets    what each maker asked for last

Rows follow the store (`router/gossip/store.py`): what it forgets is deleted, so the tables are as bounded as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tallystick.channels.errors import MalformedMessage
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Rows, table
from tallystick.router.gossip.announcements import ChannelUpdate, NodeAnnouncement
from tallystick.router.gossip.markets import MarketAnnouncement, MarketId
from tallystick.router.gossip.store import (
    AnnouncementForgotten,
    Change,
    ChannelFacts,
    FactsForgotten,
    FactsKept,
    KeptAnnouncement,
)


class GossipChanged(Moment, frozen=True):
    """What we believe of the network has changed, in this order."""

    changes: tuple[Change, ...]


_FACTS: Codec[ChannelFacts] = Codec(ChannelFacts, canonical=False)
_UPDATE: Codec[ChannelUpdate] = Codec(ChannelUpdate, canonical=False)
_NODE: Codec[NodeAnnouncement] = Codec(NodeAnnouncement, canonical=False)
_MARKET: Codec[MarketAnnouncement] = Codec(MarketAnnouncement, canonical=False)


_CHANNELS = table("gossip_channels", "channel facts verified", learned=True)
_UPDATES = table("gossip_updates", "channel side digest body", keys=2, learned=True)
_NODES = table("gossip_nodes", "key digest body", learned=True)
_MARKETS = table("gossip_markets", "key digest body", learned=True)


def _changed(rows: Rows, moment: GossipChanged) -> None:
    for change in moment.changes:
        match change:
            case FactsKept(channel, facts, verified):
                rows.put(_CHANNELS, channel, _FACTS.encode(facts), verified)
            case FactsForgotten(channel):
                rows.delete(_CHANNELS, channel=channel)
            case KeptAnnouncement(ChannelUpdate() as update, digest):
                rows.put(_UPDATES, update.channel, update.side, digest, _UPDATE.encode(update))
            case KeptAnnouncement(NodeAnnouncement() as node, digest):
                rows.put(_NODES, node.key, digest, _NODE.encode(node))
            case KeptAnnouncement(MarketAnnouncement() as market, digest):
                rows.put(_MARKETS, market.key, digest, _MARKET.encode(market))
            case AnnouncementForgotten(MarketId(key)):
                rows.delete(_MARKETS, key=key)
            case AnnouncementForgotten((channel, side)):
                rows.delete(_UPDATES, channel=channel, side=side)
            case AnnouncementForgotten(key):
                rows.delete(_NODES, key=key)


GOSSIP = Subject("gossip", (_CHANNELS, _UPDATES, _NODES, _MARKETS), {GossipChanged: _changed})


def load_gossip_channels(store: Store) -> Iterator[FactsKept]:
    """Return the channels that the chain confirmed."""
    for channel, facts, verified in store.read(_CHANNELS.rows()):
        with contextlib.suppress(MalformedMessage):  # of an older version, without checksums: it is told anew
            yield FactsKept(ChannelId(channel), _FACTS.decode(facts), verified)


def load_announcements(store: Store) -> Iterator[KeptAnnouncement]:
    """Return all announcements with their digests, channel updates first."""
    for *_, digest, body in store.read(_UPDATES.rows()):
        with contextlib.suppress(MalformedMessage):
            yield KeptAnnouncement(_UPDATE.decode(body), digest)
    for _, digest, body in store.read(_NODES.rows()):
        with contextlib.suppress(MalformedMessage):
            yield KeptAnnouncement(_NODE.decode(body), digest)
    for _, digest, body in store.read(_MARKETS.rows()):
        with contextlib.suppress(MalformedMessage):
            yield KeptAnnouncement(_MARKET.decode(body), digest)
