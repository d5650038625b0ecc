"""Whose a data directory is, in SQLite."""

from __future__ import annotations

from tallystick.channels.storage.identity import IDENTITY
from tallystick.channels.storage.sqlite.schemas import Schema

IDENTITY_SCHEMA = Schema(
    IDENTITY,
    ("CREATE TABLE identity (account BLOB PRIMARY KEY, chain_id TEXT NOT NULL, contract BLOB NOT NULL) WITHOUT ROWID",),
)
