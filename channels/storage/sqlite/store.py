"""The durable store: SQLite in WAL mode with `synchronous=FULL`.

There is one writer per data directory; a second process that opens it is refused by name.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from tallystick.channels.errors import StoreError, StoreForeign, StoreVersion
from tallystick.channels.storage.directory import lock_directory
from tallystick.channels.storage.sqlite.log_check import verify_log
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.channels.storage.sqlite.seals import (
    UNREADABLE,
    install,
    register,
    seal_layout,
    verify,
    verify_layout,
    verify_structure,
)
from tallystick.channels.storage.sqlite.statements import SqliteRows
from tallystick.channels.storage.store import Moment, Write
from tallystick.channels.storage.tables import Row, TableQuery
from tallystick.channels.values.arguments import checked

LOG_SIZE = 2**22
"""Bytes of the write-ahead log at which SQLite moves what is in it into the database, nearly (1,000 pages)."""


class SqliteStore:
    """A `Store` in one SQLite file. Make it with `open_store`."""

    def __init__(self, writer: sqlite3.Connection, reader: sqlite3.Connection, schemas: Iterable[Schema]) -> None:
        self._writer = writer
        self._reader = reader
        self._rows = SqliteRows(writer)
        self._durable = SqliteRows(reader)
        self._writes: dict[type[Moment], Write] = {}
        self._opened = contextlib.ExitStack()
        """Its connections and the lock of its directory."""
        self.commits = 0
        schemas = tuple(schemas)
        self.tables = tuple(table for schema in schemas for table in schema.subject.tables)
        register(writer)
        _require_known(writer, schemas)
        self.healed = self._verify()
        """A sentence for each table of which damaged rows were dropped."""
        for schema in schemas:
            self._writes.update(schema.subject.writes)
        self._bring_up(schemas)

    def _bring_up(self, schemas: tuple[Schema, ...]) -> None:
        """Bring all parts to their newest versions, all or nothing: half way, their checksums would not be theirs."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for schema in schemas:
                _migrate(self._writer, schema)
            install(self._writer, self.tables)
            seal_layout(self._writer)
            self._writer.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            raise

    def _verify(self) -> list[str]:
        """Look for damage before anything else is done; return what was healed. Raise StoreDamaged."""
        verify_layout(self._writer)
        verify_structure(self._writer, self.tables)
        return verify(self._writer, self.tables)

    def commit(self, moments: Sequence[Moment]) -> None:
        """Write all moments in one transaction and sync it. Raise StoreError, with nothing written, if that fails."""
        connection, rows, writes = self._writer, self._rows, self._writes
        try:
            connection.execute("BEGIN IMMEDIATE")
            for moment in moments:
                writes[type(moment)](rows, moment)
            connection.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StoreError(
                    f"the store could not write ({error}); free space or fix the disk, then restart"
                ) from error
            raise
        self.commits += 1

    def read(self, query: TableQuery) -> list[Row]:
        """Return the rows of a query over what is durable."""
        try:
            return self._durable.read(query)
        except sqlite3.Error as error:
            raise StoreError(f"the store could not be read ({error}); check the disk, then restart") from error

    def close(self) -> None:
        """Close the file and give up the data directory."""
        self._opened.close()

    def __repr__(self) -> str:
        return f"<SqliteStore commits={self.commits}>"


def _require_known(connection: sqlite3.Connection, schemas: Iterable[Schema]) -> None:
    """Raise StoreForeign, with nothing changed, if there are parts that whoever opens the store does not know."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schemas'").fetchone():
        return
    known = {schema.name for schema in schemas}
    found = connection.execute("SELECT name FROM schemas WHERE name != '' ORDER BY name")
    unknown = [str(name) for (name,) in found if name not in known]
    if unknown:
        raise StoreForeign(
            f"the data has parts ({', '.join(unknown)}) that this program does not know: it is of another kind of "
            "program (a node, a tower and a chain each need a directory of their own) or of a newer version"
        )


def _migrate(connection: sqlite3.Connection, schema: Schema) -> None:
    """Bring the part to its newest version, within a transaction."""
    connection.execute("CREATE TABLE IF NOT EXISTS schemas (name TEXT PRIMARY KEY, version INTEGER NOT NULL)")
    row = connection.execute("SELECT version FROM schemas WHERE name = ?", (schema.name,)).fetchone()
    version = row[0] if row else 0
    if version > len(schema.migrations):
        raise StoreVersion(
            f"the data's {schema.name} part has version {version}, this program knows up to {len(schema.migrations)}; "
            "use the newer program that wrote it"
        )
    for number in range(version, len(schema.migrations)):
        try:
            for statement in schema.migrations[number].split(";"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute("INSERT OR REPLACE INTO schemas VALUES (?, ?)", (schema.name, number + 1))
        except sqlite3.Error as error:
            raise StoreError(f"the store's {schema.name} part could not be brought to version {number + 1}") from error


def _lay_out_log(path: Path) -> None:
    """Give the write-ahead log its full size now: a commit that makes its file grow takes twice as long to sync.

    SQLite overwrites the log from its start after each checkpoint, and takes what follows its last commit for nothing,
    zeros included. Without room for it the node works all the same, until the disk is full.
    """
    with contextlib.suppress(OSError), open(f"{path}-wal", "r+b") as log:
        missing = LOG_SIZE - log.seek(0, os.SEEK_END)
        log.write(bytes(max(0, missing)))
        log.flush()
        os.fsync(log.fileno())


@checked
def open_store(directory: Path, schemas: Iterable[Schema], *, owner: str, durable: bool = True) -> SqliteStore:
    """Open or create the store in `directory` for `owner` (a name for error messages).

    `durable=False` turns syncing off, for throw-away experiments only. Raise StoreInUse, StoreVersion or StoreError.
    """
    with contextlib.ExitStack() as opened:
        opened.enter_context(lock_directory(directory, owner))
        path = directory / "tally.db"
        if durable:
            verify_log(directory / "tally.db-wal")
        try:
            writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
            opened.callback(writer.close)
            writer.execute("PRAGMA journal_mode=WAL")
            writer.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
            path.chmod(0o600)
            reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
            opened.callback(reader.close)
            reader.execute("PRAGMA query_only=ON")
            store = SqliteStore(writer, reader, schemas)
            if durable:
                _lay_out_log(path)
        except UNREADABLE as error:
            raise StoreError(f"the store in {directory} cannot be opened: {error}") from error
        store._opened = opened.pop_all()
        return store
