"""A second engine of the store: dictionaries, made from what the subjects declare (`storage.tables`) and nothing else.

It shows that the packages above know no engine, and says in plain Python what each query and change means: SQLite is
compared with it. Nothing is sealed, and nothing indexed but by key: it is for worlds of some thousand rows.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

from tallystick.channels.errors import StoreError
from tallystick.channels.storage.store import Moment, Subject, Write
from tallystick.channels.storage.tables import CAME, COUNT, Condition, Row, Table, TableQuery, conditions
from tallystick.channels.testing.disk import SimulatedStore

Kept = dict[Row, Row]
"""A table's rows by their keys, in the order in which they first came."""

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class MemoryRows:
    """`tables.Rows` over tables that are copied at their first change: who made this takes `changed`, or drops it."""

    def __init__(self, tables: Mapping[str, Table], kept: Mapping[str, Kept]) -> None:
        self._tables = tables
        self._kept = kept
        self.changed: dict[str, Kept] = {}

    def read(self, query: TableQuery) -> list[Row]:
        """Return the rows of a query; AssertionError if its order leaves open which of two rows comes first."""
        table, names = self._tables[query.table.name], (*self._tables[query.table.name].columns, CAME)
        rows = self._found(table, query.where if query.joined is None else ())
        if query.joined is not None:
            more, keys = self._rows(query.joined), table.keys
            names += self._tables[query.joined.name].columns[keys:]
            joined = ((*row, *more[row[:keys]][keys:]) for row in rows if row[:keys] in more)
            rows = [row for row in joined if _fits(row, names, query.where)]
        if query.counted:
            groups = Counter(_picked(row, names, query.columns) for row in rows)
            names = (*query.columns, COUNT)
            rows = [(*values, count) for values, count in groups.items()] if query.columns else [(len(rows),)]
        for name in reversed(query.order):
            place = names.index(name.removeprefix("-"))
            rows.sort(key=lambda row: (row[place] is not None, row[place]), reverse=name.startswith("-"))
        picked = [_picked(row, names, names if query.counted else query.columns) for row in rows]
        places = [name.removeprefix("-") for name in query.order]
        for (one, row), (other, following) in pairwise(zip(rows, picked, strict=True)):
            if row != following and _picked(one, names, places) == _picked(other, names, places):
                raise AssertionError(f"the order {query.order} of the table {table.name} does not tell rows apart")
        return picked[: query.limit]

    def add(self, table: Table, *row: Any) -> None:
        """Add a row; StoreError if there is one of its key, or that agrees in what is unique."""
        rows = self._draft(table)
        if table.numbered:
            row = (next(reversed(rows), (0,))[0] + 1, *row)
        if row[: table.keys] in rows:
            raise StoreError(f"the store could not write: the table {table.name} has a row of that key")
        self._set(table, row)

    def put(self, table: Table, *row: Any) -> None:
        """Add a row, or replace the one of its key in its place."""
        self._set(table, row)

    def keep(self, table: Table, *row: Any) -> None:
        """Add a row unless there is one of its key."""
        if row[: table.keys] not in self._rows(table):
            self._set(table, row)

    def update(self, table: Table, changes: Mapping[str, Any], *where: Condition, **equal: Any) -> None:
        """Change these columns of all rows that fit."""
        if table.hot:
            raise StoreError(f"rows of the table {table.name} are written whole: put them")
        for row in self._found(table, conditions(where, equal)):
            self._set(table, tuple(map(changes.get, table.columns, row)))

    def delete(self, table: Table, *where: Condition, **equal: Any) -> None:
        """Delete all rows that fit."""
        for row in self._found(table, conditions(where, equal)):
            del self._draft(table)[row[: table.keys]]

    def _rows(self, table: Table) -> Kept:
        return self.changed.get(table.name, self._kept[table.name])

    def _draft(self, table: Table) -> Kept:
        if table.name not in self.changed:
            self.changed[table.name] = dict(self._kept[table.name])
        return self.changed[table.name]

    def _set(self, table: Table, row: Row) -> None:
        rows, names = self._draft(table), table.columns
        for columns in table.unique:
            said = _picked(row, names, columns)
            if None not in said and any(
                said == _picked(other, names, columns) for key, other in rows.items() if key != row[: table.keys]
            ):
                raise StoreError(f"the store could not write: the table {table.name} has a row with that {columns}")
        if not all(isinstance(value, bytes | str | int | float | None) for value in row):
            raise StoreError(f"the store could not write: {row} is no row")
        rows[row[: table.keys]] = row

    def _found(self, table: Table, where: Sequence[Condition]) -> list[Row]:
        """Return the rows that fit, each with when it came behind its values."""
        rows, names = self._rows(table), (*table.columns, CAME)
        equal = {condition.column: condition.value for condition in where if condition.relation == "="}
        key = tuple(map(equal.get, table.key))
        if key in rows:
            numbered = [(*rows[key], list(rows).index(key))]
        else:
            numbered = [(*row, number) for number, row in enumerate(rows.values())] if None in key else []
        return [row for row in numbered if _fits(row, names, where)]


def _fits(row: Row, names: Sequence[str], where: Sequence[Condition]) -> bool:
    """Return whether a row keeps all conditions: None equals itself alone, and does not compare."""
    for column, relation, value in where:
        said = row[names.index(column)]
        if relation == "=" or value is None:
            fits = (said == value) == (relation == "=")
        else:
            fits = said is not None and _COMPARISONS[relation](said, value)
        if not fits:
            return False
    return True


def _picked(row: Row, names: Sequence[str], columns: Sequence[str]) -> Row:
    return tuple(row[names.index(column)] for column in columns)


class MemoryEngine:
    """A `Store` in memory."""

    healed: tuple[str, ...] = ()

    def __init__(self, subjects: Sequence[Subject], kept: dict[str, Kept]) -> None:
        """Keep rows in `kept`, which has a dictionary for each table: it is changed in whole commits."""
        self._tables = {table.name: table for subject in subjects for table in subject.tables}
        self._writes: dict[type[Moment], Write] = dict(chain(*(subject.writes.items() for subject in subjects)))
        self._kept = kept
        self.commits = 0

    def commit(self, moments: Sequence[Moment]) -> None:
        """Write all moments, or none if one cannot be written: then StoreError."""
        rows = MemoryRows(self._tables, self._kept)
        for moment in moments:
            self._writes[type(moment)](rows, moment)
        self._kept.update(rows.changed)
        self.commits += 1

    def read(self, query: TableQuery) -> list[Row]:
        """Return the rows of a query."""
        return MemoryRows(self._tables, self._kept).read(query)

    def close(self) -> None:
        """Nothing is held."""


class MemoryDisk:
    """What survives of a node, as `disk.SimulatedDisk`: commits, and an image of them."""

    def __init__(self, subjects: Sequence[Subject], image: Mapping[str, Kept] | None = None) -> None:
        """Make an empty disk, or one with the contents of an `image` taken earlier."""
        self._subjects = tuple(subjects)
        tables = (table.name for subject in self._subjects for table in subject.tables)
        self._kept: dict[str, Kept] = {name: dict((image or {}).get(name, {})) for name in tables}
        self._store: SimulatedStore | None = None

    def open(self) -> SimulatedStore:
        """Return a store for a node that starts now; the store of the one before is dead."""
        if self._store is not None:
            self._store.kill()
        self._store = SimulatedStore(MemoryEngine(self._subjects, self._kept), self)
        return self._store

    def image(self) -> dict[str, Kept]:
        """Return everything that is durable, for a disk that is to be restored from it later."""
        return {name: dict(rows) for name, rows in self._kept.items()}

    def close(self) -> None:
        """Forget everything."""
        self._kept.clear()
