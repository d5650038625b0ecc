"""A forwarder's circuits, forwards, policies and what it thinks of peers, in SQLite."""

from __future__ import annotations

from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.router.forwarding.circuits import CIRCUITS

_MIGRATION_1 = """
CREATE TABLE circuits (
    channel BLOB NOT NULL, lock INTEGER NOT NULL, body BLOB NOT NULL, reason BLOB NOT NULL,
    PRIMARY KEY (channel, lock)) WITHOUT ROWID;
CREATE TABLE forwards (
    position INTEGER PRIMARY KEY, body BLOB NOT NULL, outcome INTEGER NOT NULL, time INTEGER NOT NULL);
CREATE INDEX forwards_by_time ON forwards (time);
CREATE TABLE reputations (peer BLOB PRIMARY KEY, worth REAL NOT NULL, earned REAL NOT NULL, time INTEGER NOT NULL);
CREATE TABLE policies (channel BLOB PRIMARY KEY, body BLOB NOT NULL)
"""

_MIGRATION_2 = "CREATE TABLE bars (peer BLOB PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID"

SCHEMA = Schema(CIRCUITS, (_MIGRATION_1, _MIGRATION_2))
