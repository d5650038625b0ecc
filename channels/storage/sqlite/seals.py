"""Checksums of rows: a bit that turned, on the disk or on its way there, is found before anything relies on it.

Each table has a column `seal`, a CRC-32 over the row's other columns. SQLite computes it by itself, as a generated
column, so that no statement can forget it; the few tables that every payment writes (`hot`) have it computed where rows
are written (`statements`), which spares the disk's thread two ways through Python for each row. Tables of older
versions are brought to this form when they are opened.

At each start all rows are compared, of mere history the newest ROWS_MAX, and the file's structure is looked through.
What is damaged is named and nothing is done with it: StoreDamaged. Only rows that are learned anew (gossip,
beliefs) are dropped, and that is said.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable
from typing import Any

import msgspec

from tallystick.channels.errors import StoreDamaged, StoreError
from tallystick.channels.storage.tables import ADVICE, Table, damage

ROWS_MAX = 100_000
"""Rows of a history that are looked at when a store is opened, the newest."""

PAGES_MAX = 2**26
"""Bytes of a file up to which its whole structure is looked through, indices too; else only that of its tables."""

FUNCTION = "tally_seal"

UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite raises over a damaged file; the second if the damage is in the words of its complaint."""

_encode = msgspec.msgpack.Encoder().encode


def seal(*values: Any) -> int:
    """Return the checksum of a row's values (as SQLite holds them: int, float, str, bytes, None), in their order."""
    return zlib.crc32(_encode(values))


def register(connection: sqlite3.Connection) -> None:
    """Let SQLite compute seals on this connection."""
    connection.create_function(FUNCTION, -1, seal, deterministic=True)


class _Column(msgspec.Struct, frozen=True):
    name: str
    kind: str
    required: bool
    default: str | None
    key: int
    """Its place in the primary key, from 1 on; 0: it is not part of it."""


class _Made(msgspec.Struct, frozen=True):
    """How a table is made."""

    name: str
    columns: tuple[_Column, ...]
    sql: str

    @property
    def is_sealed(self) -> bool:
        return any(column.name == "seal" for column in self.columns)

    @property
    def rowless(self) -> bool:
        return self.sql.rstrip().upper().endswith("WITHOUT ROWID")

    @property
    def keys(self) -> tuple[str, ...]:
        keys = sorted((column.key, column.name) for column in self.columns if column.key)
        return tuple(name for _, name in keys)

    @property
    def number(self) -> str:
        """The column that SQLite numbers by itself, if there is one."""
        only = [column for column in self.columns if column.key]
        numbered = len(only) == 1 and only[0].kind.upper() == "INTEGER" and not self.rowless
        return only[0].name if numbered else ""

    @property
    def guarded(self) -> str:
        """What the seal is over: all columns but itself and what SQLite numbers, which an index or the order guards."""
        return ", ".join(column.name for column in self.columns if column.name not in ("seal", self.number))


def _look(connection: sqlite3.Connection, name: str) -> _Made | None:
    row = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)).fetchone()
    if row is None:
        return None
    found = connection.execute(f"PRAGMA table_xinfo({name})").fetchall()
    columns = (
        _Column(column, kind, bool(required), default, key) for _, column, kind, required, default, key, _ in found
    )
    return _Made(name, tuple(columns), row[0])


def _layout(connection: sqlite3.Connection) -> int:
    """Return the checksum of how all tables are made, and of the versions of all parts."""
    made = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"
    parts = "SELECT name, version FROM schemas WHERE name != '' ORDER BY name"
    return seal([*connection.execute(made), *connection.execute(parts)])


def verify_layout(connection: sqlite3.Connection) -> None:
    """Raise StoreDamaged if the tables are not made as they were (data of older versions does not say)."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schemas'").fetchone():
        return
    row = connection.execute("SELECT version FROM schemas WHERE name = ''").fetchone()
    if row is not None and row[0] != _layout(connection):
        raise StoreDamaged(f"the description of the store's tables is damaged: {ADVICE}")


def seal_layout(connection: sqlite3.Connection) -> None:
    """Remember how the tables are made, if there are any."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schemas'").fetchone():
        return
    found = connection.execute("SELECT version FROM schemas WHERE name = ''").fetchone()
    layout = _layout(connection)
    if found is None or found[0] != layout:
        connection.execute("INSERT OR REPLACE INTO schemas VALUES ('', ?)", (layout,))


def install(connection: sqlite3.Connection, tables: Iterable[Table]) -> None:
    """See to it, within a transaction, that the tables carry seals over all columns. Raise StoreError if that fails."""
    for declared in tables:
        table = None if declared.hot else _look(connection, declared.name)
        if table is None or f"{FUNCTION}({table.guarded})" in table.sql:
            continue
        try:
            _rebuild(connection, table)
        except sqlite3.Error as error:
            raise StoreError(f"the table {table.name} could not be given checksums ({error})") from error


def _rebuild(connection: sqlite3.Connection, table: _Made) -> None:
    """Make the table anew, with a seal: SQLite adds no stored column to one that exists."""
    indices = connection.execute(
        "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL", (table.name,)
    ).fetchall()
    draft = f"{table.name}_sealed"
    kept = [column for column in table.columns if column.name != "seal"]
    names = ", ".join(column.name for column in kept)
    parts = [_declaration(column) for column in kept]
    parts.append(f"seal INTEGER NOT NULL GENERATED ALWAYS AS ({FUNCTION}({table.guarded})) STORED")
    parts.append(f"PRIMARY KEY ({', '.join(table.keys)})")
    for _, index, _, origin, _ in connection.execute(f"PRAGMA index_list({table.name})").fetchall():
        if origin == "u":
            unique = [row[2] for row in connection.execute(f"PRAGMA index_info({index})")]
            parts.append(f"UNIQUE ({', '.join(unique)})")
    ending = " WITHOUT ROWID" if table.rowless else ""
    connection.execute(f"CREATE TABLE {draft} ({', '.join(parts)}){ending}")
    order = ", ".join(table.keys) if table.rowless else "rowid"
    connection.execute(f"INSERT INTO {draft} ({names}) SELECT {names} FROM {table.name} ORDER BY {order}")
    connection.execute(f"DROP TABLE {table.name}")
    connection.execute(f"ALTER TABLE {draft} RENAME TO {table.name}")
    for (sql,) in indices:
        connection.execute(sql)


def _declaration(column: _Column) -> str:
    default = "" if column.default is None else f" DEFAULT {column.default}"
    return f"{column.name} {column.kind}{' NOT NULL' if column.required else ''}{default}"


def verify(connection: sqlite3.Connection, tables: Iterable[Table]) -> list[str]:
    """Compare all rows with their seals; return a sentence for each table some of whose rows were dropped.

    Raise StoreDamaged, naming the row, if another one is damaged.
    """
    healed = []
    for declared in tables:
        table = _look(connection, declared.name)
        if table is None or not table.is_sealed:
            continue  # of an older version
        damaged = f"seal IS NOT {FUNCTION}({table.guarded})"
        try:
            if declared.learned:
                dropped = connection.execute(f"DELETE FROM {table.name} WHERE {damaged}").rowcount
                if dropped:
                    healed.append(
                        f"{dropped} damaged rows of the table {table.name} were dropped: they are learned anew"
                    )
                continue
            rows = f"(SELECT * FROM {table.name} ORDER BY {declared.history} DESC LIMIT {ROWS_MAX})"
            source = rows if declared.history else table.name
            found = connection.execute(
                f"SELECT {', '.join(table.keys)} FROM {source} WHERE {damaged} LIMIT 1"
            ).fetchone()
        except UNREADABLE as error:
            raise StoreDamaged(
                f"rows of the table {table.name} are damaged and cannot be read ({error}); {ADVICE}"
            ) from error
        if found is not None:
            raise damage(table.name, found)
    return healed


def verify_structure(connection: sqlite3.Connection, tables: Iterable[Table]) -> None:
    """Look through the structure of the file; raise StoreDamaged with what is wrong with it."""
    (pages,), (size,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    small = pages * size <= PAGES_MAX
    made = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    looks = [f"quick_check({each.name})" for each in tables if each.name in made and not each.history]
    looks = ["integrity_check(1)"] if small else looks
    for look in looks:
        try:
            (found, *_), *_ = connection.execute(f"PRAGMA {look}").fetchall()
        except UNREADABLE as error:
            found = str(error)
        if found != "ok":
            raise StoreDamaged(f"the structure of the store's file is damaged ({found}); {ADVICE}")
