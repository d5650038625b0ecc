"""How PostgreSQL makes the tables of a store: as SQLite makes them, whose scripts each subject has.

A subject's scripts are run by SQLite in memory, and what came of them is read back: so there is one description of each
table, and its newest version. Text is kept as the bytes of its UTF-8: PostgreSQL's own takes no zero character, which
peers may send, and orders by a language. A row that SQLite numbers by itself, for tables whose key is no number, has a
column `rowid` of its own. There are no seals: PostgreSQL has checksums of its pages (`initdb --data-checksums`).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing

import msgspec

from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.channels.storage.sqlite.store import SqliteStore
from tallystick.channels.storage.tables import CAME, Table

KINDS = {"BLOB": "bytea", "TEXT": "bytea", "INTEGER": "bigint", "REAL": "double precision"}
"""A column's kind in PostgreSQL by that in SQLite."""


class Made(msgspec.Struct, frozen=True):
    """How a table is made."""

    declared: Table
    kinds: dict[str, str]
    """The kinds of its columns as SQLite has them, by their names, in their order."""
    required: frozenset[str]
    rowless: bool
    unique: tuple[tuple[str, ...], ...]
    indices: tuple[tuple[str, bool, tuple[str, ...], str], ...]
    """Name, whether it is unique, columns, and the condition of its rows ("" for all)."""

    @property
    def number(self) -> str:
        """The column that tells when a row came, "" if none does."""
        key = self.declared.key
        if self.rowless:
            return ""
        return key[0] if len(key) == 1 and self.kinds[key[0]] == "INTEGER" else CAME

    def statements(self) -> Iterator[str]:
        """Give the statements that make it."""
        parts = [self._column(name, kind) for name, kind in self.kinds.items()]
        if self.number == CAME:
            parts.append(f"{CAME} bigint GENERATED ALWAYS AS IDENTITY UNIQUE")
        parts += (f"UNIQUE ({', '.join(columns)})" for columns in self.unique)
        yield f"CREATE TABLE {self.declared.name} ({', '.join(parts)}, PRIMARY KEY ({', '.join(self.declared.key)}))"
        for name, unique, columns, where in self.indices:
            of = f"{self.declared.name} ({', '.join(columns)}){where and ' WHERE ' + where}"
            yield f"CREATE {'UNIQUE ' if unique else ''}INDEX {name} ON {of}"

    def _column(self, name: str, kind: str) -> str:
        return f"{name} {KINDS[kind]}{' NOT NULL' if name in self.required else ''}"


def layout(schemas: Iterable[Schema]) -> dict[str, Made]:
    """Return how all tables are made, by their names."""
    schemas = tuple(schemas)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        SqliteStore(connection, connection, schemas)
        return {table.name: _look(connection, table) for schema in schemas for table in schema.subject.tables}


def _look(connection: sqlite3.Connection, table: Table) -> Made:
    (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (table.name,))
    found = [
        (name, kind, required or name in table.key)
        for _, name, kind, required, *_ in connection.execute(f"PRAGMA table_xinfo({table.name})")
        if name != "seal"
    ]
    unique, indices = [], []
    for _, index, is_unique, origin, _ in connection.execute(f"PRAGMA index_list({table.name})").fetchall():
        columns = tuple(row[2] for row in connection.execute(f"PRAGMA index_info({index})"))
        if origin == "u":
            unique.append(columns)
        elif origin == "c":
            ((made,),) = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'index' AND name = ?", (index,))
            indices.append((index, bool(is_unique), columns, _where(made)))
    return Made(
        table,
        {name: kind for name, kind, _ in found},
        frozenset(name for name, _, required in found if required),
        sql[0].rstrip().upper().endswith("WITHOUT ROWID"),
        tuple(unique),
        tuple(indices),
    )


def _where(made: str) -> str:
    """Return the condition of an index, in PostgreSQL's words: it has truth values, and text is bytes here."""
    _, _, where = made.partition(" WHERE ")
    where = re.sub(r"^NOT (\w+)$", r"\1 = 0", where.strip())
    return re.sub(r"'([^']*)'", lambda found: literal(found[1].encode()), where)


def literal(data: bytes) -> str:
    """Return bytes as they stand in a statement."""
    return f"'\\x{data.hex()}'::bytea"
