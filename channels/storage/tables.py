"""How a subject says what is kept of it, in words of no engine: its tables, and how its moments change their rows.

A *subject* (channels, circuits, invoices…) stands in one module: its moments, its tables, what each moment does to
rows, and its typed reads: functions that make a `TableQuery`, and values out of its rows. An *engine* keeps the rows:
SQLite (`storage.sqlite`), or dictionaries in memory (`testing.memory`). All that an engine has to know is here and in
`store`.

A row is a tuple of bytes, text, numbers and None. None equals None alone, comes before everything in an order, and no
comparison holds with it. True and False are kept as 1 and 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from tallystick.channels.errors import InvalidInput, MalformedMessage, StoreDamaged
from tallystick.channels.protocol.codec import Codec

Value = TypeVar("Value")
Row = tuple[Any, ...]

CAME = "rowid"
"""To order by when rows first came."""

COUNT = "count(*)"
"""To order groups by how many rows they have."""

ADVICE = (
    "nothing was done; check the disk and the memory, keep the file, and see 'Damage' in docs/operations.md: an old "
    "copy must not take its place"
)


class Condition(NamedTuple):
    """What a column's value has to be."""

    column: str
    relation: str
    """=, !=, <, <=, > or >=."""
    value: Any


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one kind of thing. Make it with `table`."""

    name: str
    columns: tuple[str, ...]
    keys: int = 1
    """How many of the columns, from the first on, are the key: no two rows have the same."""
    unique: tuple[tuple[str, ...], ...] = ()
    """Further columns in whose values no two rows agree, unless by None."""
    numbered: bool = False
    """The engine gives each row its key, one above the highest there is: it is added without."""
    history: str = ""
    """Of a history: the column by which rows are new. An engine need not look at old ones before they are read."""
    learned: bool = False
    """What it says is learned anew: a damaged row is dropped."""
    hot: bool = False
    """Every payment writes it: rows come whole (`update` is not for them)."""

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the key."""
        return self.columns[: self.keys]

    def rows(
        self,
        *where: Condition,
        columns: str = "",
        order: Sequence[str] = (),
        limit: int | None = None,
        joined: Table | None = None,
        **equal: Any,
    ) -> TableQuery:
        """Return a query for the rows that fit all conditions, in `order`: columns, with a "-" from the last down.

        Without `order` they come in that of their keys. `columns`: these alone, by their names with blanks between.
        `joined` adds the columns of a table with the same key.
        """
        names = tuple(columns.split()) if columns else self.columns
        return TableQuery(self, conditions(where, equal), names, tuple(order or self.key), limit, joined)

    def groups(
        self, *where: Condition, columns: str = "", order: Sequence[str] = (), limit: int | None = None, **equal: Any
    ) -> TableQuery:
        """Return a query for the different values of `columns`, each with how many rows have them, last.

        Without `columns` it is one row: how many fit.
        """
        names = tuple(columns.split())
        return TableQuery(self, conditions(where, equal), names, tuple(order or names), limit, None, True)


class TableQuery(NamedTuple):
    """What to read. Make it with `Table.rows` or `Table.groups`."""

    table: Table
    where: tuple[Condition, ...]
    columns: tuple[str, ...]
    order: tuple[str, ...]
    limit: int | None
    joined: Table | None = None
    counted: bool = False


class Reader(Protocol):
    """What rows can be read from."""

    def read(self, query: TableQuery) -> list[Row]:
        """Return the rows of a query."""


class Rows(Reader, Protocol):
    """What a moment may do to rows, within its commit: it reads what was changed before it in there."""

    def add(self, table: Table, *row: Any) -> None:
        """Add a row; the commit fails with StoreError if there is one of its key, or that agrees in `unique`."""

    def put(self, table: Table, *row: Any) -> None:
        """Add a row, or replace the one of its key in its place."""

    def keep(self, table: Table, *row: Any) -> None:
        """Add a row unless there is one of its key."""

    def update(self, table: Table, changes: Mapping[str, Any], *where: Condition, **equal: Any) -> None:
        """Change these columns of all rows that fit."""

    def delete(self, table: Table, *where: Condition, **equal: Any) -> None:
        """Delete all rows that fit."""


def table(name: str, columns: str, **how: Any) -> Table:
    """Return a table with these columns, named with blanks between; `how`: see `Table`."""
    return Table(name=name, columns=tuple(columns.split()), **how)


def _relation(sign: str) -> Callable[[str, Any], Condition]:
    return lambda column, value: Condition(column, sign, value)


equals, other = _relation("="), _relation("!=")
"""What a column is, or is not."""
below, at_most, above, at_least = map(_relation, ("<", "<=", ">", ">="))
"""Between what it is."""


def beginning(column: str, digits: str) -> tuple[Condition, Condition]:
    """Return the conditions that 32 bytes begin with these hex digits."""
    low, high = (bytes.fromhex(digits.ljust(64, end)) for end in "0f")
    return at_least(column, low), at_most(column, high)


def conditions(where: tuple[Condition, ...], equal: Mapping[str, Any]) -> tuple[Condition, ...]:
    """Return all conditions, those of equality too."""
    return (*[Condition(column, "=", value) for column, value in equal.items()], *where)


def find(source: Reader, table: Table, *key: Any) -> Row | None:
    """Return the row of a key, None if there is none."""
    where = tuple([Condition(column, "=", value) for column, value in zip(table.key, key, strict=True)])
    rows = source.read(TableQuery(table, where, table.columns, (), None))
    return rows[0] if rows else None


def last(source: Reader, table: Table, column: str) -> int:
    """Return the highest value in a column of whole numbers, 0 if there is none."""
    rows = source.read(table.rows(other(column, None), columns=column, order=("-" + column,), limit=1))
    return int(rows[0][0]) if rows else 0


def decode_column(codec: Codec[Value], data: Any, table: str, *key: Any) -> Value:
    """Return what a row holds; raise StoreDamaged, naming it, if that is nothing that was ever written."""
    try:
        return codec.decode(data)
    except (MalformedMessage, InvalidInput, TypeError) as error:
        raise damage(table, key) from error


def damage(table: str, key: Sequence[Any]) -> StoreDamaged:
    """Return the error for a row that is not what was written."""
    words = ", ".join(f"0x{part.hex()}" if isinstance(part, bytes) else str(part) for part in key)
    return StoreDamaged(f"the row ({words}) of the table {table} is damaged: {ADVICE}")
