"""Queries and changes of rows as SQL: each form of them is one statement, made once and prepared by its engine once.

Values travel as parameters. What is no choice of the caller's stands in the statement itself, as engines use an index
over some rows only where they see its condition: None, True and False, members of enums, and equality with zero. How an
engine writes what SQL leaves to it, its own class says (`sqlite.statements`, `postgres.statements`).
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from tallystick.channels.storage.tables import COUNT, Condition, Row, Table, TableQuery, conditions

_FIXED = (type(None), bool, enum.Enum)


class StatementRows(ABC):
    """`tables.Rows` by statements. Errors are the engine's."""

    mark = "?"
    """Where a parameter goes."""

    def __init__(self) -> None:
        self._statements: dict[object, str] = {}

    @abstractmethod
    def fetched(self, statement: str, values: Sequence[Any]) -> list[Row]:
        """Return the rows that a statement selects."""

    @abstractmethod
    def written(self, table: Table, columns: Sequence[str], statement: str, values: Sequence[Any]) -> None:
        """Change rows by a statement whose first parameters are for these columns; others are compared with."""

    def name(self, table: Table, column: str) -> str:
        """Return what the engine calls a column."""
        return column

    def term(self, table: Table, condition: Condition) -> str:
        """Return a condition whose value is fixed."""
        column, relation, value = condition
        if value is None:
            return f"{column} IS {'NOT ' if relation == '!=' else ''}NULL"
        return f"{column} {relation} {value.value!r}" if isinstance(value, enum.Enum) else f"{column} {relation} 0"

    def ordered(self, table: Table, name: str) -> str:
        """Return a term of an order."""
        return f"{self.name(table, name[1:])} DESC" if name.startswith("-") else self.name(table, name)

    def insertion(self, table: Table, otherwise: str) -> str:
        """Return the statement that adds a row; `otherwise`: what to do if there is one of its key, "" for an error."""
        columns = table.columns[1:] if table.numbered else table.columns
        return self.inserting(table, columns, [self.mark] * len(columns), otherwise)

    def inserting(self, table: Table, columns: Sequence[str], values: Sequence[str], otherwise: str) -> str:
        """Return the statement that puts these values into these columns."""
        statement = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join(values)})"
        if otherwise:
            statement += f" ON CONFLICT ({', '.join(table.key)}) DO {otherwise}"
        if otherwise == "UPDATE":
            statement += f" SET {', '.join(f'{name} = excluded.{name}' for name in columns[table.keys :])}"
        return statement

    def read(self, query: TableQuery, *more: str) -> list[Row]:
        """Return the rows of a query, with columns of the engine's own behind the others."""
        table, where, columns, order, limit, joined, counted = query
        shape, values = _parted(where)
        form = (table.name, columns, shape, order, limit is None, joined is not None, counted, more)
        statement = self._statements.get(form)
        if statement is None:
            shown = [self.name(table, column) for column in columns]
            statement = f"SELECT {', '.join((*shown, *([COUNT] if counted else []), *more))} FROM {table.name}"
            if joined is not None:
                statement += f" JOIN {joined.name} USING ({', '.join(table.key)})"
            statement += self._where(table, where)
            if counted and columns:
                statement += f" GROUP BY {', '.join(columns)}"
            if order:
                statement += f" ORDER BY {', '.join(self.ordered(table, name) for name in order)}"
            if limit is not None:
                statement += f" LIMIT {self.mark}"
            self._statements[form] = statement
        if limit is not None:
            values.append(limit)
        return self.fetched(statement, values)

    def add(self, table: Table, *row: Any) -> None:
        self._insert(table, row, "")

    def put(self, table: Table, *row: Any) -> None:
        self._insert(table, row, "UPDATE")

    def keep(self, table: Table, *row: Any) -> None:
        self._insert(table, row, "NOTHING")

    def _insert(self, table: Table, row: Row, otherwise: str) -> None:
        statement = self._statements.get((table.name, otherwise))
        if statement is None:
            statement = self._statements[table.name, otherwise] = self.insertion(table, otherwise)
        self.written(table, table.columns[1:] if table.numbered else table.columns, statement, row)

    def update(self, table: Table, changes: Mapping[str, Any], *where: Condition, **equal: Any) -> None:
        where = conditions(where, equal)
        shape, values = _parted(where)
        form = (table.name, tuple(changes), shape)
        statement = self._statements.get(form)
        if statement is None:
            changed = ", ".join(f"{name} = {self.mark}" for name in changes)
            statement = self._statements[form] = f"UPDATE {table.name} SET {changed}{self._where(table, where)}"
        self.written(table, tuple(changes), statement, [*changes.values(), *values])

    def delete(self, table: Table, *where: Condition, **equal: Any) -> None:
        where = conditions(where, equal)
        shape, values = _parted(where)
        form = (table.name, shape)
        statement = self._statements.get(form)
        if statement is None:
            statement = self._statements[form] = f"DELETE FROM {table.name}{self._where(table, where)}"
        self.written(table, (), statement, values)

    def _where(self, table: Table, where: Sequence[Condition]) -> str:
        terms = [
            self.term(table, each)
            if _is_fixed(each.relation, each.value)
            else f"{self.name(table, each.column)} {each.relation} {self.mark}"
            for each in where
        ]
        return f" WHERE {' AND '.join(terms)}" if terms else ""


def _is_fixed(relation: str, value: Any) -> bool:
    return type(value) is not bytes and (isinstance(value, _FIXED) or (value == 0 and relation == "="))


def _parted(where: Sequence[Condition]) -> tuple[object, list[Any]]:
    """Return what conditions with the same statement have in common, and the values that are its parameters."""
    shape: list[str] = []
    values: list[Any] = []
    for column, relation, value in where:
        shape += column, relation
        if _is_fixed(relation, value):
            shape.append(repr(value))
        else:
            shape.append("?")
            values.append(value)
    return tuple(shape), values
