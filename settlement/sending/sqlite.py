"""What following a chain and sending transactions keep, in SQLite."""

from __future__ import annotations

from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.settlement.sending.moments import SETTLEMENT

_MIGRATION_1 = """
CREATE TABLE followed_headers (
    chain_id INTEGER NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, parent BLOB NOT NULL,
    time INTEGER NOT NULL, PRIMARY KEY (chain_id, number)) WITHOUT ROWID;
CREATE TABLE obligations (
    chain_id INTEGER NOT NULL, account BLOB NOT NULL, id TEXT NOT NULL, resting INTEGER NOT NULL,
    highest_nonce INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (chain_id, account, id));
CREATE INDEX obligations_at_work ON obligations (chain_id, account) WHERE resting = 0
"""

SCHEMA = Schema(SETTLEMENT, (_MIGRATION_1,))
"""Include it in `open_store` of whatever follows a chain or sends transactions."""
