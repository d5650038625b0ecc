"""What a maker keeps, in SQLite: in a store of its own, beside those of its nodes."""

from __future__ import annotations

from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.sdk.chains.crossings import MAKER

MAKER_SCHEMA = Schema(
    MAKER,
    (
        """
CREATE TABLE crossings (hash BLOB PRIMARY KEY, body BLOB NOT NULL, ended TEXT NOT NULL);
CREATE INDEX crossings_open ON crossings (hash) WHERE ended = '';
CREATE TABLE rates (pair BLOB PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE quotes (
    nonce BLOB PRIMARY KEY, until INTEGER NOT NULL, peer BLOB NOT NULL, body BLOB NOT NULL, used INTEGER NOT NULL
)
""",
    ),
)
