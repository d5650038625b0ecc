"""What PostgreSQL has of its own in statements: strict types, nothing at an order's other end, and numbers by request.

A value has to be of its column's kind: a float that PostgreSQL would round to fit a whole number is refused.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from tallystick.channels.errors import StoreError
from tallystick.channels.storage.postgres.layout import Made, literal
from tallystick.channels.storage.statements import StatementRows
from tallystick.channels.storage.tables import CAME, COUNT, Condition, Row, Table, TableQuery


class PostgresRows(StatementRows):
    """`tables.Rows` on a connection. Errors are psycopg's; StoreError for a value that a column cannot hold."""

    mark = "%s"

    def __init__(self, connection: psycopg.Connection[Row], made: Mapping[str, Made]) -> None:
        super().__init__()
        self._connection = connection
        self._cursor = connection.cursor()
        self._made = made

    def read(self, query: TableQuery, *more: str) -> list[Row]:
        """Return the rows of a query."""
        rows = super().read(query, *more)
        kinds = dict(self._made[query.table.name].kinds)
        if query.joined is not None:
            kinds |= self._made[query.joined.name].kinds
        texts = [place for place, name in enumerate(query.columns) if kinds.get(name) == "TEXT"]
        return [_with_text(row, texts) for row in rows] if texts else rows

    def fetched(self, statement: str, values: Sequence[Any]) -> list[Row]:
        cursor = self._connection.cursor(binary=True)  # of its own: within a commit, answers to the other come later
        return cursor.execute(statement.encode(), list(map(_plain, values))).fetchall()

    def written(self, table: Table, columns: Sequence[str], statement: str, values: Sequence[Any]) -> None:
        kinds = self._made[table.name].kinds
        kept = [_kept(table, name, kinds[name], value) for name, value in zip(columns, values, strict=False)]
        self._cursor.execute(statement.encode(), [*kept, *map(_plain, values[len(kept) :])])

    def insertion(self, table: Table, otherwise: str) -> str:
        if not table.numbered:
            return super().insertion(table, otherwise)
        number = f"(SELECT coalesce(max({table.columns[0]}), 0) + 1 FROM {table.name})"
        return self.inserting(table, table.columns, [number, *[self.mark] * (len(table.columns) - 1)], otherwise)

    def update(self, table: Table, changes: Mapping[str, Any], *where: Condition, **equal: Any) -> None:
        """Change these columns of all rows that fit. Raise StoreError where another engine has seals."""
        if table.hot:
            raise StoreError(f"rows of the table {table.name} are written whole: put them")
        super().update(table, changes, *where, **equal)

    def name(self, table: Table, column: str) -> str:
        return self._made[table.name].number or CAME if column == CAME else column

    def term(self, table: Table, condition: Condition) -> str:
        column, relation, value = condition
        if value is None:
            return super().term(table, condition)
        if isinstance(value, bool):
            return f"{column} {'<>' if value == (relation == '=') else '='} 0"
        return f"{column} {relation} {_shown(value)}"

    def ordered(self, table: Table, name: str) -> str:
        term = super().ordered(table, name)
        required = name.removeprefix("-") in self._made[table.name].required | {COUNT, CAME}
        return term if required else term + (" NULLS LAST" if name.startswith("-") else " NULLS FIRST")


_TYPES = {"BLOB": bytes, "TEXT": str, "INTEGER": int, "REAL": float}


def _shown(value: Any) -> str:
    """Return a fixed value as it stands in a statement."""
    plain = value.value if isinstance(value, enum.Enum) else value
    if isinstance(plain, str):
        plain = plain.encode()
    return literal(plain) if isinstance(plain, bytes) else str(int(plain))


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        value = value.value
    return value.encode() if isinstance(value, str) else int(value) if isinstance(value, bool) else value


def _kept(table: Table, column: str, kind: str, value: Any) -> Any:
    """Return a value as a column keeps it. Raise StoreError if it is not of the column's kind."""
    if isinstance(value, enum.Enum):
        value = value.value
    if kind == "REAL" and isinstance(value, int):
        return float(value)
    if kind == "INTEGER" and isinstance(value, float) and value.is_integer():
        return int(value)
    fits = value is None or isinstance(value, _TYPES[kind])
    if fits and not (isinstance(value, int) and not -(2**63) <= value < 2**63):
        return _plain(value)
    raise StoreError(f"the store could not write: {value!r} is nothing for the column {column} of {table.name}")


def _with_text(row: Row, places: Sequence[int]) -> Row:
    values = list(row)
    for place in places:
        if values[place] is not None:
            values[place] = values[place].decode()
    return tuple(values)
