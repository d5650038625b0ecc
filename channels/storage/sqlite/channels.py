"""The channel layer's tables in SQLite and whose they are, and how older versions were brought to this one."""

from __future__ import annotations

from tallystick.channels.storage.identity import IDENTITY
from tallystick.channels.storage.schema import CHANNELS
from tallystick.channels.storage.sqlite.schemas import Schema

_MIGRATION_1 = """
CREATE TABLE channels (id BLOB PRIMARY KEY, state BLOB NOT NULL);
CREATE TABLE sent (
    position INTEGER PRIMARY KEY, channel BLOB NOT NULL, seq INTEGER NOT NULL,
    first INTEGER NOT NULL, count INTEGER NOT NULL, frame BLOB NOT NULL, time REAL NOT NULL, UNIQUE (channel, seq));
CREATE TABLE received (
    position INTEGER PRIMARY KEY, channel BLOB NOT NULL, seq INTEGER NOT NULL,
    first INTEGER NOT NULL, count INTEGER NOT NULL, frame BLOB NOT NULL, time REAL NOT NULL, UNIQUE (channel, seq));
CREATE TABLE keys (key TEXT PRIMARY KEY, channel BLOB NOT NULL, payment INTEGER NOT NULL)
"""

_MIGRATION_2 = """
CREATE TABLE streams (
    channel BLOB NOT NULL, sender INTEGER NOT NULL, lock INTEGER NOT NULL, proof BLOB NOT NULL,
    PRIMARY KEY (channel, sender, lock)) WITHOUT ROWID
"""

_MIGRATION_3 = """
CREATE TABLE packets (
    channel BLOB NOT NULL, lock INTEGER NOT NULL, onion BLOB NOT NULL, PRIMARY KEY (channel, lock)) WITHOUT ROWID
"""

_MIGRATION_4 = """
CREATE TABLE streamed (
    channel BLOB NOT NULL, sender INTEGER NOT NULL, amount BLOB NOT NULL, PRIMARY KEY (channel, sender)) WITHOUT ROWID
"""

_MIGRATION_5 = """
CREATE TABLE history (
    channel BLOB PRIMARY KEY, chosen INTEGER NOT NULL DEFAULT 0, keep INTEGER,
    position INTEGER NOT NULL DEFAULT 0, payments INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID
"""

_MIGRATION_6 = """
ALTER TABLE channels ADD COLUMN seal INTEGER;
UPDATE channels SET seal = tally_seal(id, state);
ALTER TABLE sent ADD COLUMN seal INTEGER;
UPDATE sent SET seal = tally_seal(channel, seq, first, count, frame, time);
ALTER TABLE received ADD COLUMN seal INTEGER;
UPDATE received SET seal = tally_seal(channel, seq, first, count, frame, time);
ALTER TABLE keys ADD COLUMN seal INTEGER;
UPDATE keys SET seal = tally_seal(key, channel, payment);
ALTER TABLE streams ADD COLUMN seal INTEGER;
UPDATE streams SET seal = tally_seal(channel, sender, lock, proof);
ALTER TABLE packets ADD COLUMN seal INTEGER;
UPDATE packets SET seal = tally_seal(channel, lock, onion)
"""

_MIGRATION_7 = """
CREATE TABLE deferred (
    channel BLOB PRIMARY KEY, frame BLOB NOT NULL, countersignature BLOB NOT NULL) WITHOUT ROWID
"""

SCHEMA = Schema(
    CHANNELS,
    (_MIGRATION_1, _MIGRATION_2, _MIGRATION_3, _MIGRATION_4, _MIGRATION_5, _MIGRATION_6, _MIGRATION_7),
)

IDENTITY_SCHEMA = Schema(
    IDENTITY,
    ("CREATE TABLE identity (account BLOB PRIMARY KEY, chain_id TEXT NOT NULL, contract BLOB NOT NULL) WITHOUT ROWID",),
)
