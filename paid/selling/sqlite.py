"""What was sold, in a file of its own in SQLite: one answer for each payment, for ever. One process has it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from tallystick.channels.errors import StoreError, StoreInUse
from tallystick.channels.ports import system_entropy

Row = tuple[Any, ...]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (one INTEGER PRIMARY KEY CHECK (one = 1), key BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS answers (
    hash TEXT PRIMARY KEY, call TEXT NOT NULL, amount TEXT NOT NULL, status INTEGER NOT NULL, headers BLOB NOT NULL,
    body BLOB NOT NULL, sold INTEGER
) STRICT, WITHOUT ROWID;
"""


class StoredAnswer(msgspec.Struct, frozen=True):
    """An answer that was made for a payment."""

    call: str
    amount: int
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    sold: int | None = None
    """When its payment was taken, in seconds since 1970; None: it was not, and so the answer was sent to nobody."""


class AnswerFile:
    """The file. Its calls wait for the disk: call them in a thread, one at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.touch(mode=0o600)  # nobody else reads it: what is in it is worth an answer
            self._database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_SCHEMA)
            self._database.execute("INSERT OR IGNORE INTO keys VALUES (1, ?)", (system_entropy(32),))
            (self.key,) = self._database.execute("SELECT key FROM keys").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StoreInUse(f"another process sells from {path}: each needs a file of its own") from error
            raise StoreError(f"{path} cannot be used ({error}); free space or fix the disk") from error
        except (sqlite3.DatabaseError, OSError) as error:
            raise StoreError(f"{path} is no file of what was sold, or is damaged ({error})") from error

    def close(self) -> None:
        """Give the file up."""
        self._database.close()

    def find(self, payment_hash: str) -> StoredAnswer | None:
        """Return what was made for a payment."""
        rows = self._do("SELECT call, amount, status, headers, body, sold FROM answers WHERE hash = ?", (payment_hash,))
        return _read(rows[0]) if rows else None

    def put(self, payment_hash: str, answer: StoredAnswer) -> None:
        """Keep what was made for a payment; the first one stays."""
        headers = msgspec.msgpack.encode(answer.headers)
        values = (payment_hash, answer.call, str(answer.amount), answer.status, headers, answer.body, answer.sold)
        self._do("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def mark(self, payment_hash: str, sold: int) -> None:
        """Note that a payment was taken."""
        self._do("UPDATE answers SET sold = ? WHERE hash = ? AND sold IS NULL", (sold, payment_hash))

    def sales(self, limit: int = 100) -> list[tuple[str, StoredAnswer]]:
        """Return what was sold, newest first, by the hash of its payment."""
        rows = self._do(
            "SELECT call, amount, status, headers, body, sold, hash FROM answers WHERE sold IS NOT NULL"
            " ORDER BY sold DESC, hash LIMIT ?",
            (limit,),
        )
        return [(row[6], _read(row)) for row in rows]

    def _do(self, statement: str, values: Row) -> list[Row]:
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"what was sold cannot be kept or read ({error}); free space or fix the disk") from error


def _read(row: Row) -> StoredAnswer:
    pairs = msgspec.msgpack.decode(row[3], type=tuple[tuple[bytes, bytes], ...])
    return StoredAnswer(row[0], int(row[1]), row[2], pairs, row[4], row[5])
