"""Both engines of the store, for tests that compare them: SQLite, and dictionaries in memory."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from tallystick.channels.errors import StoreError
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.channels.storage.store import Moment, Store
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.memory import MemoryDisk
from tallystick.sdk.node.sqlite import SCHEMAS
from tallystick.settlement.simulated.sqlite import SCHEMA as LEDGER_SCHEMA
from tallystick.watchtower.sqlite import TOWER_COVERS_SCHEMA, TOWER_SCHEMA

ALL = (*SCHEMAS, TOWER_SCHEMA, TOWER_COVERS_SCHEMA, LEDGER_SCHEMA)
"""What a node, a tower and a chain keep."""


def memory_disk(schemas: Sequence[Schema]) -> MemoryDisk:
    """Return a disk of the other engine's for the same subjects."""
    return MemoryDisk([schema.subject for schema in schemas])


def is_taken(store: Store, moments: Sequence[Moment]) -> bool:
    """Commit; return whether the store took it."""
    try:
        store.commit(moments)
    except StoreError:
        return False
    return True


@functools.cache
def created() -> dict[str, str]:
    """Return how SQLite made each table."""
    disk = SimulatedDisk(ALL)
    disk.open()
    return dict(disk._connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall())
