"""Keeping the simulated ledger on disk: every block in one transaction with the state that it leaves.

Opening reads the state as it stands and the blocks' records; nothing is replayed, so it takes milliseconds for
thousands of blocks. The pool of waiting transactions is not kept, as on other chains: whoever wants one mined sends
it again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.storage.seals import Sealed
from tallystick.channels.storage.store import Moment, Schema, Store
from tallystick.settlement.contract.state import ChannelState
from tallystick.settlement.simulated.blocks import BlockRecord
from tallystick.settlement.simulated.world import Value, World

_RECORDS: Codec[BlockRecord] = Codec(BlockRecord, canonical=False)
_VALUES: Codec[Value] = Codec(int | ChannelState)

MIGRATIONS = (
    """
    CREATE TABLE ledger_state (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE ledger_blocks (number INTEGER PRIMARY KEY, record BLOB NOT NULL);
    CREATE TABLE ledger_facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID
    """,
)


class ChainMoved(Moment, frozen=True):
    """Blocks were dropped from the end, or added, or both: all in one step."""

    dropped_from: int
    """Number of the first block that is no more."""
    added: tuple[BlockRecord, ...]
    changes: Mapping[bytes, Value | None]
    salt: int


class ChainFounded(Moment, frozen=True):
    """Which chain the data is of."""

    identity: bytes


def _write_moved(connection: sqlite3.Connection, moment: ChainMoved) -> None:
    connection.execute("DELETE FROM ledger_blocks WHERE number >= ?", (moment.dropped_from,))
    connection.executemany(
        "INSERT INTO ledger_blocks VALUES (?, ?)",
        [(record.header.number, _RECORDS.encode(record)) for record in moment.added],
    )
    gone = [(key,) for key, value in moment.changes.items() if value is None]
    kept = [(key, _VALUES.encode(value)) for key, value in moment.changes.items() if value is not None]
    connection.executemany("DELETE FROM ledger_state WHERE key = ?", gone)
    connection.executemany("INSERT OR REPLACE INTO ledger_state VALUES (?, ?)", kept)
    connection.execute("INSERT OR REPLACE INTO ledger_facts VALUES ('salt', ?)", (moment.salt,))


def _write_founded(connection: sqlite3.Connection, moment: ChainFounded) -> None:
    connection.execute("INSERT INTO ledger_facts VALUES ('identity', ?)", (moment.identity,))


SCHEMA = Schema(
    "ledger",
    MIGRATIONS,
    {ChainMoved: _write_moved, ChainFounded: _write_founded},
    (Sealed("ledger_state"), Sealed("ledger_blocks", order="number"), Sealed("ledger_facts")),
)


def read_identity(store: Store) -> bytes | None:
    """Return which chain the data is of, None if it is new."""
    rows = store.read("SELECT value FROM ledger_facts WHERE name = 'identity'")
    return rows[0][0] if rows else None


def read_salt(store: Store) -> int:
    """Return how often the chain was reorganised."""
    rows = store.read("SELECT value FROM ledger_facts WHERE name = 'salt'")
    return rows[0][0] if rows else 0


def read_world(store: Store) -> World:
    """Return the state as the newest block left it."""
    return {key: _VALUES.decode(value) for key, value in store.read("SELECT key, value FROM ledger_state")}


def read_records(store: Store) -> list[BlockRecord]:
    """Return all blocks in order."""
    return [_RECORDS.decode(row[0]) for row in store.read("SELECT record FROM ledger_blocks ORDER BY number")]
