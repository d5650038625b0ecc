"""The simulated ledger in SQLite."""

from __future__ import annotations

from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.settlement.simulated.journal import LEDGER

MIGRATIONS = (
    """
    CREATE TABLE ledger_state (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE ledger_blocks (number INTEGER PRIMARY KEY, record BLOB NOT NULL);
    CREATE TABLE ledger_facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID
    """,
)

SCHEMA = Schema(LEDGER, MIGRATIONS)
