"""What gossip keeps on disk, so that a restart needs no full resync: one row per channel, direction and node.

    gossip_channels   what the chain said of each channel, and when
    gossip_updates    the newest update of each direction
    gossip_nodes      the newest announcement of each node

Rows follow the book (`router/gossip/store.py`): what it forgets is deleted, so the tables are as bounded as it is.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from tallystick.channels.errors import MalformedMessage
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.storage.seals import Sealed
from tallystick.channels.storage.store import Moment, Schema, Store
from tallystick.router.gossip.announcements import ChannelUpdate, NodeAnnouncement
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


def _changed(connection: sqlite3.Connection, moment: GossipChanged) -> None:
    for change in moment.changes:
        match change:
            case FactsKept(channel, facts, verified):
                connection.execute(
                    "INSERT OR REPLACE INTO gossip_channels VALUES (?, ?, ?)",
                    (channel, _FACTS.encode(facts), verified),
                )
            case FactsForgotten(channel):
                connection.execute("DELETE FROM gossip_channels WHERE channel = ?", (channel,))
            case KeptAnnouncement(ChannelUpdate() as update, digest):
                connection.execute(
                    "INSERT OR REPLACE INTO gossip_updates VALUES (?, ?, ?, ?)",
                    (update.channel, update.side, digest, _UPDATE.encode(update)),
                )
            case KeptAnnouncement(NodeAnnouncement() as node, digest):
                connection.execute(
                    "INSERT OR REPLACE INTO gossip_nodes VALUES (?, ?, ?)", (node.key, digest, _NODE.encode(node))
                )
            case AnnouncementForgotten((channel, side)):
                connection.execute("DELETE FROM gossip_updates WHERE channel = ? AND side = ?", (channel, side))
            case AnnouncementForgotten(key):
                connection.execute("DELETE FROM gossip_nodes WHERE key = ?", (key,))


GOSSIP_SCHEMA = Schema(
    "gossip",
    (
        """
CREATE TABLE gossip_channels (channel BLOB PRIMARY KEY, facts BLOB NOT NULL, verified REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE gossip_updates (
    channel BLOB NOT NULL, side INTEGER NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (channel, side)) WITHOUT ROWID;
CREATE TABLE gossip_nodes (key BLOB PRIMARY KEY, digest BLOB NOT NULL, body BLOB NOT NULL) WITHOUT ROWID
""",
    ),
    {GossipChanged: _changed},
    tuple(Sealed(table, heal=True) for table in ("gossip_channels", "gossip_updates", "gossip_nodes")),
)


def load_gossip_channels(store: Store) -> Iterator[FactsKept]:
    """Return the channels that the chain confirmed."""
    for channel, facts, verified in store.read("SELECT channel, facts, verified FROM gossip_channels ORDER BY channel"):
        with contextlib.suppress(MalformedMessage):  # of an older version, without checksums: it is told anew
            yield FactsKept(ChannelId(channel), _FACTS.decode(facts), verified)


def load_announcements(store: Store) -> Iterator[KeptAnnouncement]:
    """Return all announcements with their digests, channel updates first."""
    for digest, body in store.read("SELECT digest, body FROM gossip_updates ORDER BY channel, side"):
        with contextlib.suppress(MalformedMessage):
            yield KeptAnnouncement(_UPDATE.decode(body), digest)
    for digest, body in store.read("SELECT digest, body FROM gossip_nodes ORDER BY key"):
        with contextlib.suppress(MalformedMessage):
            yield KeptAnnouncement(_NODE.decode(body), digest)
