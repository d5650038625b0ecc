"""Queries and changes of rows as SQL: each form of them is one statement, made once and prepared by SQLite once.

Values travel as parameters. What is no choice of the caller's stands in the statement itself, as SQLite uses an index
over some rows only where it sees their condition: None, True and False, members of enums, and equality with zero.
"""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Mapping
from typing import Any

from tallystick.channels.errors import StoreError
from tallystick.channels.storage.sqlite.seals import seal
from tallystick.channels.storage.tables import COUNT, Condition, Row, Table, TableQuery, conditions, damage


class SqliteRows:
    """`tables.Rows` on a connection. Errors are SQLite's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._statements: dict[object, str] = {}

    def read(self, query: TableQuery) -> list[Row]:
        """Return the rows of a query. Those of a history are compared with their seals: a start sees new ones alone."""
        table, where, columns, order, limit, joined, counted = query
        checked = table.history != "" and columns == table.columns and not counted
        shape, values = _parted(where)
        form = (table.name, columns, shape, order, limit is None, joined is not None, counted)
        statement = self._statements.get(form)
        if statement is None:
            shown = (*columns, *([COUNT] if counted else []), *(["seal"] if checked else []))
            statement = f"SELECT {', '.join(shown)} FROM {table.name}"
            if joined is not None:
                statement += f" JOIN {joined.name} USING ({', '.join(table.key)})"
            statement += _where(where)
            if counted and columns:
                statement += f" GROUP BY {', '.join(columns)}"
            if order:
                statement += f" ORDER BY {', '.join(_ordered(name) for name in order)}"
            if limit is not None:
                statement += " LIMIT ?"
            self._statements[form] = statement
        if limit is not None:
            values.append(limit)
        rows = self._connection.execute(statement, values).fetchall()
        return [_checked(table, row) for row in rows] if checked else rows

    def add(self, table: Table, *row: Any) -> None:
        self._insert(table, row, "")

    def put(self, table: Table, *row: Any) -> None:
        self._insert(table, row, "UPDATE")

    def keep(self, table: Table, *row: Any) -> None:
        self._insert(table, row, "NOTHING")

    def _insert(self, table: Table, row: Row, otherwise: str) -> None:
        statement = self._statements.get((table.name, otherwise))
        if statement is None:
            columns = [*(table.columns[1:] if table.numbered else table.columns), *(["seal"] if table.hot else [])]
            statement = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
            if otherwise:
                statement += f" ON CONFLICT ({', '.join(table.key)}) DO {otherwise}"
            if otherwise == "UPDATE":
                statement += f" SET {', '.join(f'{name} = excluded.{name}' for name in columns[table.keys :])}"
            self._statements[table.name, otherwise] = statement
        self._connection.execute(statement, (*row, seal(*row)) if table.hot else row)

    def update(self, table: Table, changes: Mapping[str, Any], *where: Condition, **equal: Any) -> None:
        """Change these columns of all rows that fit. Raise StoreError if their seals would be left behind."""
        if table.hot:
            raise StoreError(f"rows of the table {table.name} are written whole, with their seals: put them")
        where = conditions(where, equal)
        shape, values = _parted(where)
        form = (table.name, tuple(changes), shape)
        statement = self._statements.get(form)
        if statement is None:
            statement = f"UPDATE {table.name} SET {', '.join(f'{name} = ?' for name in changes)}{_where(where)}"
            self._statements[form] = statement
        self._connection.execute(statement, [*changes.values(), *values])

    def delete(self, table: Table, *where: Condition, **equal: Any) -> None:
        where = conditions(where, equal)
        shape, values = _parted(where)
        form = (table.name, shape)
        statement = self._statements.get(form)
        if statement is None:
            statement = self._statements[form] = f"DELETE FROM {table.name}{_where(where)}"
        self._connection.execute(statement, values)


_FIXED = (type(None), bool, enum.Enum)


def _is_fixed(relation: str, value: Any) -> bool:
    return isinstance(value, _FIXED) or (value == 0 and relation == "=")


def _parted(where: tuple[Condition, ...]) -> tuple[object, list[Any]]:
    """Return what conditions with the same statement have in common, and the values that are its parameters."""
    shape: list[str] = []
    values: list[Any] = []
    for column, relation, value in where:
        shape += column, relation
        if type(value) is not bytes and _is_fixed(relation, value):
            shape.append(repr(value))
        else:
            shape.append("?")
            values.append(value)
    return tuple(shape), values


def _where(where: tuple[Condition, ...]) -> str:
    return f" WHERE {' AND '.join(map(_term, where))}" if where else ""


def _term(condition: Condition) -> str:
    column, relation, value = condition
    if value is None:
        return f"{column} IS {'NOT ' if relation == '!=' else ''}NULL"
    if isinstance(value, bool):
        return column if value == (relation == "=") else f"NOT {column}"
    if not _is_fixed(relation, value):
        return f"{column} {relation} ?"
    return f"{column} {relation} {value.value!r}" if isinstance(value, enum.Enum) else f"{column} {relation} 0"


def _ordered(name: str) -> str:
    return f"{name[1:]} DESC" if name.startswith("-") else name


def _checked(table: Table, row: Row) -> Row:
    """Return a row of a history without its seal, which covers all but its number."""
    if seal(*row[1:-1]) != row[-1]:
        raise damage(table.name, row[:1])
    return row[:-1]
