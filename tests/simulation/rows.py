"""What is in a store of SQLite's, for tests that look behind the typed reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tallystick.channels.storage.sqlite.store import SqliteStore
from tallystick.channels.storage.store import Store
from tallystick.channels.testing.disk import SimulatedStore


def sqlite_of(store: Store) -> SqliteStore:
    """Return the SQLite under a store."""
    engine = store.engine if isinstance(store, SimulatedStore) else store
    assert isinstance(engine, SqliteStore)
    return engine


def sql(store: Store, text: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Return the rows of a query in SQL over what is durable."""
    return sqlite_of(store)._reader.execute(text, parameters).fetchall()
