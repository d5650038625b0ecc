"""What SQLite has of its own in statements: its truth values, and seals that are written with rows and compared."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from tallystick.channels.errors import StoreError
from tallystick.channels.storage.sqlite.seals import seal
from tallystick.channels.storage.statements import StatementRows
from tallystick.channels.storage.tables import Condition, Row, Table, TableQuery, damage


class SqliteRows(StatementRows):
    """`tables.Rows` on a connection. Errors are SQLite's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self._connection = connection

    def read(self, query: TableQuery, *more: str) -> list[Row]:
        """Return the rows of a query. Those of a history are compared with their seals: a start sees new ones alone."""
        table = query.table
        if table.history == "" or query.columns != table.columns or query.counted:
            return super().read(query, *more)
        return [_checked(table, row) for row in super().read(query, *more, "seal")]

    def fetched(self, statement: str, values: Sequence[Any]) -> list[Row]:
        return self._connection.execute(statement, values).fetchall()

    def written(self, table: Table, columns: Sequence[str], statement: str, values: Sequence[Any]) -> None:
        self._connection.execute(statement, values)

    def insertion(self, table: Table, otherwise: str) -> str:
        columns = [*(table.columns[1:] if table.numbered else table.columns), *(["seal"] if table.hot else [])]
        return self.inserting(table, columns, [self.mark] * len(columns), otherwise)

    def _insert(self, table: Table, row: Row, otherwise: str) -> None:
        super()._insert(table, (*row, seal(*row)) if table.hot else row, otherwise)

    def update(self, table: Table, changes: Mapping[str, Any], *where: Condition, **equal: Any) -> None:
        """Change these columns of all rows that fit. Raise StoreError if their seals would be left behind."""
        if table.hot:
            raise StoreError(f"rows of the table {table.name} are written whole, with their seals: put them")
        super().update(table, changes, *where, **equal)

    def term(self, table: Table, condition: Condition) -> str:
        column, relation, value = condition
        if isinstance(value, bool):
            return column if value == (relation == "=") else f"NOT {column}"
        return super().term(table, condition)


def _checked(table: Table, row: Row) -> Row:
    """Return a row of a history without its seal, which covers all but its number."""
    if seal(*row[1:-1]) != row[-1]:
        raise damage(table.name, row[:1])
    return row[:-1]
