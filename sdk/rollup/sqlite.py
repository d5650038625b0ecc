"""What a rollup's programs keep, in SQLite."""

from __future__ import annotations

from tallystick.channels.storage.sqlite.channels import IDENTITY_SCHEMA
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.sdk.rollup.channel_record import PAYING
from tallystick.sdk.rollup.record import SIGNING
from tallystick.sdk.rollup.schema import OPERATING, WATCHING

_WATCHING = Schema(
    WATCHING,
    (
        """
CREATE TABLE rollup_logs (
    number INTEGER NOT NULL, position INTEGER NOT NULL, topics BLOB NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (number, position)) WITHOUT ROWID;
CREATE TABLE rollup_heads (number INTEGER PRIMARY KEY, hash BLOB NOT NULL, time INTEGER NOT NULL)
""",
    ),
)

_OPERATING = Schema(
    OPERATING,
    (
        """
CREATE TABLE rollup_steps (word BLOB PRIMARY KEY, signatures BLOB NOT NULL, until INTEGER NOT NULL);
CREATE TABLE rollup_batches (name BLOB PRIMARY KEY, number INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX rollup_batches_by_number ON rollup_batches (number)
""",
    ),
)

_SIGNING = Schema(
    SIGNING,
    (
        """
CREATE TABLE rollup_signed (
    digest BLOB PRIMARY KEY, bundle INTEGER NOT NULL, number INTEGER NOT NULL, word BLOB NOT NULL,
    other BLOB NOT NULL, signature BLOB NOT NULL, key TEXT UNIQUE, standing INTEGER NOT NULL,
    until INTEGER NOT NULL, promise BLOB NOT NULL);
CREATE INDEX rollup_signed_by_number ON rollup_signed (number);
CREATE INDEX rollup_signed_by_bundle ON rollup_signed (bundle);
CREATE INDEX rollup_signed_by_standing ON rollup_signed (standing)
""",
    ),
)

_PAYING = Schema(
    PAYING,
    (
        """
CREATE TABLE rollup_proofs (
    channel BLOB NOT NULL, sender INTEGER NOT NULL, seq INTEGER NOT NULL, transferred BLOB NOT NULL,
    seen INTEGER NOT NULL, signature BLOB NOT NULL, countersignature BLOB NOT NULL, name TEXT,
    PRIMARY KEY (channel, sender, seq)) WITHOUT ROWID;
CREATE UNIQUE INDEX rollup_proofs_by_name ON rollup_proofs (channel, name);
CREATE TABLE rollup_endings (channel BLOB PRIMARY KEY, until INTEGER NOT NULL, balance0 BLOB NOT NULL)
""",
    ),
)

WATCHER_SCHEMAS = (IDENTITY_SCHEMA, _WATCHING)
"""What is in a watcher's store."""

OPERATOR_SCHEMAS = (IDENTITY_SCHEMA, _WATCHING, _OPERATING)
"""What is in an operator's store."""

USER_SCHEMAS = (IDENTITY_SCHEMA, _SIGNING)
"""What is in a user's store."""

PAYING_SCHEMAS = (IDENTITY_SCHEMA, _PAYING)
"""What is in the store of a user's channels."""
