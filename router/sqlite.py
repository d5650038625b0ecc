"""What the router keeps, in SQLite: how each subject's tables are made, and were brought from version to version."""

from __future__ import annotations

from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.router.forwarding.circuits import CIRCUITS
from tallystick.router.gossip.schema import GOSSIP
from tallystick.router.onion.replay import ONIONS
from tallystick.router.pathfinding.beliefs import LIQUIDITY
from tallystick.router.receiving.issued import INVOICES
from tallystick.router.sending.payments import PAYMENTS

_WITH_ASSET = f"ADD COLUMN asset BLOB NOT NULL DEFAULT x'{NATIVE.hex()}'"

_CIRCUITS_1 = """
CREATE TABLE circuits (
    channel BLOB NOT NULL, lock INTEGER NOT NULL, body BLOB NOT NULL, reason BLOB NOT NULL,
    PRIMARY KEY (channel, lock)) WITHOUT ROWID;
CREATE TABLE forwards (
    position INTEGER PRIMARY KEY, body BLOB NOT NULL, outcome INTEGER NOT NULL, time INTEGER NOT NULL);
CREATE INDEX forwards_by_time ON forwards (time);
CREATE TABLE reputations (peer BLOB PRIMARY KEY, worth REAL NOT NULL, earned REAL NOT NULL, time INTEGER NOT NULL);
CREATE TABLE policies (channel BLOB PRIMARY KEY, body BLOB NOT NULL)
"""
_CIRCUITS_2 = "CREATE TABLE bars (peer BLOB PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID"
CIRCUITS_SCHEMA = Schema(CIRCUITS, (_CIRCUITS_1, _CIRCUITS_2))

_ONIONS_1 = (
    "CREATE TABLE onions (tag BLOB PRIMARY KEY, channel BLOB NOT NULL, lock INTEGER NOT NULL, "
    "expiry INTEGER NOT NULL) WITHOUT ROWID; CREATE INDEX onions_by_expiry ON onions (expiry)"
)
ONIONS_SCHEMA = Schema(ONIONS, (_ONIONS_1,))

_PAYMENTS_1 = """
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
# The kinds of older payments, by their orders in MessagePack: c4 20 is 32 bytes, a4 and a5 begin short texts.
_PAYMENTS_2 = """
ALTER TABLE payments ADD COLUMN kind TEXT NOT NULL DEFAULT 'invoice';
UPDATE payments SET kind = CASE
    WHEN instr(body, CAST('keysend' AS BLOB) || x'c420') THEN 'keysend'
    WHEN instr(body, CAST('first_channel' AS BLOB) || x'c420') THEN 'rebalance'
    WHEN instr(body, x'a46d656d6fa570726f6265') AND instr(body, CAST('invoice' AS BLOB) || x'a0') THEN 'probe'
    ELSE 'invoice' END;
CREATE INDEX payments_but_probes ON payments (position) WHERE kind != 'probe'
"""
PAYMENTS_SCHEMA = Schema(PAYMENTS, (_PAYMENTS_1, _PAYMENTS_2))

_INVOICES_1 = """
CREATE TABLE invoices (
    hash BLOB PRIMARY KEY, position INTEGER NOT NULL, payment_secret BLOB NOT NULL, secret BLOB NOT NULL,
    amount BLOB NOT NULL, hold INTEGER NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,
    memo TEXT NOT NULL, text TEXT NOT NULL, ended INTEGER, received BLOB NOT NULL) WITHOUT ROWID;
CREATE UNIQUE INDEX invoices_by_position ON invoices (position)
"""
_INVOICES_2 = """
ALTER TABLE invoices ADD COLUMN paid INTEGER;
UPDATE invoices SET paid = position WHERE received > zeroblob(16);
CREATE UNIQUE INDEX invoices_by_claim ON invoices (paid) WHERE paid IS NOT NULL
"""
_INVOICES_3 = """
ALTER TABLE invoices ADD COLUMN own INTEGER NOT NULL DEFAULT 0;
CREATE INDEX invoices_of_others ON invoices (position) WHERE NOT own
"""
_INVOICES_4 = f"ALTER TABLE invoices {_WITH_ASSET}"
INVOICES_SCHEMA = Schema(INVOICES, (_INVOICES_1, _INVOICES_2, _INVOICES_3, _INVOICES_4))

_LIQUIDITY_1 = """
CREATE TABLE liquidity (
    channel BLOB PRIMARY KEY, lower BLOB NOT NULL, upper BLOB NOT NULL, time REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX liquidity_by_time ON liquidity (time)
"""
_LIQUIDITY_2 = f"ALTER TABLE liquidity {_WITH_ASSET}"
LIQUIDITY_SCHEMA = Schema(LIQUIDITY, (_LIQUIDITY_1, _LIQUIDITY_2))

_GOSSIP_1 = """
CREATE TABLE gossip_channels (channel BLOB PRIMARY KEY, facts BLOB NOT NULL, verified REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE gossip_updates (
    channel BLOB NOT NULL, side INTEGER NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (channel, side)) WITHOUT ROWID;
CREATE TABLE gossip_nodes (key BLOB PRIMARY KEY, digest BLOB NOT NULL, body BLOB NOT NULL) WITHOUT ROWID
"""
_GOSSIP_2 = "CREATE TABLE gossip_markets (key BLOB PRIMARY KEY, digest BLOB NOT NULL, body BLOB NOT NULL) WITHOUT ROWID"
GOSSIP_SCHEMA = Schema(GOSSIP, (_GOSSIP_1, _GOSSIP_2))

SCHEMAS = (CIRCUITS_SCHEMA, ONIONS_SCHEMA, PAYMENTS_SCHEMA, INVOICES_SCHEMA, LIQUIDITY_SCHEMA, GOSSIP_SCHEMA)
