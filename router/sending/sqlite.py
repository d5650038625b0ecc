"""A payer's payments and their parts in SQLite, and how those of older versions were brought to this one."""

from __future__ import annotations

from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.router.sending.payments import PAYMENTS

_MIGRATION_1 = """
CREATE TABLE payments (
    hash BLOB PRIMARY KEY, position INTEGER NOT NULL, body BLOB NOT NULL, ended REAL, secret BLOB NOT NULL,
    fee BLOB NOT NULL, reason TEXT NOT NULL, text TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX payments_by_position ON payments (position);
CREATE INDEX payments_pending ON payments (hash) WHERE ended IS NULL;
CREATE TABLE parts (
    channel BLOB NOT NULL, lock INTEGER NOT NULL, hash BLOB NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL,
    ended INTEGER NOT NULL, secret BLOB NOT NULL, reason BLOB NOT NULL, PRIMARY KEY (channel, lock)) WITHOUT ROWID;
CREATE INDEX parts_by_payment ON parts (hash, number);
CREATE INDEX parts_pending ON parts (hash) WHERE ended = 0
"""

_MIGRATION_2 = """
ALTER TABLE payments ADD COLUMN kind TEXT NOT NULL DEFAULT 'invoice';
UPDATE payments SET kind = CASE
    WHEN instr(body, CAST('keysend' AS BLOB) || x'c420') THEN 'keysend'
    WHEN instr(body, CAST('first_channel' AS BLOB) || x'c420') THEN 'rebalance'
    WHEN instr(body, x'a46d656d6fa570726f6265') AND instr(body, CAST('invoice' AS BLOB) || x'a0') THEN 'probe'
    ELSE 'invoice' END;
CREATE INDEX payments_but_probes ON payments (position) WHERE kind != 'probe'
"""  # the kinds of older payments, by their orders in MessagePack: c4 20 is 32 bytes, a4 and a5 begin short texts

SCHEMA = Schema(PAYMENTS, (_MIGRATION_1, _MIGRATION_2))
