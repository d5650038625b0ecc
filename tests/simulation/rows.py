"""What is in a store of SQLite's, for tests that look behind the typed reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tallystick.channels.storage.sqlite.store import SqliteStore


def sql(store: SqliteStore, text: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Return the rows of a query in SQL over what is durable."""
    return store._reader.execute(text, parameters).fetchall()
