"""What gossip keeps, in SQLite."""

from __future__ import annotations

from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.router.gossip.schema import GOSSIP

GOSSIP_SCHEMA = Schema(
    GOSSIP,
    (
        """
CREATE TABLE gossip_channels (channel BLOB PRIMARY KEY, facts BLOB NOT NULL, verified REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE gossip_updates (
    channel BLOB NOT NULL, side INTEGER NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (channel, side)) WITHOUT ROWID;
CREATE TABLE gossip_nodes (key BLOB PRIMARY KEY, digest BLOB NOT NULL, body BLOB NOT NULL) WITHOUT ROWID
""",
    ),
)
