"""What a rollup's programs keep, in SQLite."""

from __future__ import annotations

from tallystick.channels.storage.sqlite.channels import IDENTITY_SCHEMA
from tallystick.channels.storage.sqlite.schemas import Schema
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

WATCHER_SCHEMAS = (IDENTITY_SCHEMA, _WATCHING)
"""What is in a watcher's store."""

OPERATOR_SCHEMAS = (IDENTITY_SCHEMA, _WATCHING, _OPERATING)
"""What is in an operator's store."""

USER_SCHEMAS = (IDENTITY_SCHEMA, _SIGNING)
"""What is in a user's store."""
