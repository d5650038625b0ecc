"""A subject's part of the store as SQLite keeps it, and how that is brought from version to version.

What each part is stands beside its subject, in modules `sqlite`: data alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from tallystick.channels.errors import StoreError, StoreForeign, StoreVersion
from tallystick.channels.storage.store import Subject


class Schema(msgspec.Struct, frozen=True):
    """One subject's part of the store, as SQLite keeps it."""

    subject: Subject
    migrations: tuple[str, ...]
    """SQL scripts; script i brings version i to version i + 1. Once released, a script never changes."""

    @property
    def name(self) -> str:
        """The subject's name."""
        return self.subject.name


def require_known(connection: sqlite3.Connection, schemas: Iterable[Schema]) -> None:
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


def migrate(connection: sqlite3.Connection, schema: Schema) -> bool:
    """Bring the part to its newest version, within a transaction; return whether it had another one."""
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
    return version < len(schema.migrations)
