"""Reading a store that another process may have open: what is durable at one moment, and nothing is changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from tallystick.channels.errors import StoreError, StoreVersion
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.channels.storage.sqlite.statements import SqliteRows
from tallystick.channels.storage.tables import Reader, Row, TableQuery
from tallystick.channels.values.arguments import checked


class _Snapshot:
    """Rows of one moment."""

    def __init__(self, connection: sqlite3.Connection, directory: Path) -> None:
        self._rows = SqliteRows(connection)
        self._directory = directory

    def read(self, query: TableQuery) -> list[Row]:
        try:
            return self._rows.read(query)
        except sqlite3.Error as error:
            raise StoreError(f"the store in {self._directory} could not be read: {error}") from error


@checked
@contextmanager
def open_snapshot(directory: Path, schemas: Iterable[Schema]) -> Iterator[Reader]:
    """Give what is durable in the store in `directory` now. Do not keep it for long: its owner's log grows meanwhile.

    Raise StoreError if there is no store, StoreVersion if it is not of the version that this program writes.
    """
    path = directory / "tally.db"
    if not path.is_file():
        raise StoreError(f"there is no store in {directory}: name the data directory of a tower that has run")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            for schema in schemas:
                found = connection.execute("SELECT version FROM schemas WHERE name = ?", (schema.name,)).fetchone()
                if found is None or found[0] != len(schema.migrations):
                    raise StoreVersion(
                        f"the store in {directory} was written by another version, or by another kind of program: "
                        "start the program that it belongs to once, in this version, then try again"
                    )
            yield _Snapshot(connection, directory)
    except sqlite3.Error as error:
        raise StoreError(f"the store in {directory} cannot be read: {error}") from error
