"""The index of a chain's events in SQLite."""

from __future__ import annotations

from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.settlement.following.index import INDEX

INDEX_SCHEMA = Schema(
    INDEX,
    (
        """
CREATE TABLE chain_events (
    number INTEGER NOT NULL, position INTEGER NOT NULL, sighting BLOB NOT NULL, PRIMARY KEY (number, position));
CREATE TABLE chain_secrets (
    digest BLOB PRIMARY KEY, secret BLOB NOT NULL, time INTEGER NOT NULL, number INTEGER NOT NULL)
""",
        """
CREATE TABLE chain_links (
    condition BLOB NOT NULL, depth INTEGER NOT NULL, proof BLOB NOT NULL, time INTEGER NOT NULL,
    number INTEGER NOT NULL, PRIMARY KEY (condition, depth))
""",
        """
CREATE TABLE chain_proofs (
    kind INTEGER NOT NULL, condition BLOB NOT NULL, proof BLOB NOT NULL, time INTEGER NOT NULL,
    number INTEGER NOT NULL, PRIMARY KEY (kind, condition, number, proof))
""",
    ),
)
