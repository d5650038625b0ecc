"""A simulated disk: what was committed survives a crash of its node, and nothing else does.

The disk holds one SQLite database in memory. `open` gives a node its store, and takes it from whoever had it before, as
the end of a process does. A store can be killed, made to fail at a chosen commit, or filled up; an `image` of the disk
can be kept and used later, which is how data gets lost in practice: somebody restores an old backup.
"""

from __future__ import annotations

import contextlib
import sqlite3
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

from tallystick.channels.errors import StoreError
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.channels.storage.sqlite.store import SqliteStore
from tallystick.channels.storage.store import Moment, Store
from tallystick.channels.storage.tables import Row, TableQuery

PAGE = 1_024
"""Bytes of a page: a world may have thousands of disks, whose tables are nearly empty."""

STATEMENTS = 32
"""Compiled statements that a disk keeps: of a node, those of a payment and a block."""


_EMPTY: dict[tuple[int, ...], tuple[Sequence[Schema], bytes]] = {}
"""Images of stores with nothing in them, by the identities of their schemas, which are kept so that those last."""


def _empty(schemas: Sequence[Schema]) -> bytes:
    """Return the image of an empty store: its tables are made once for the thousands of disks that a world may have."""
    key = tuple(map(id, schemas))
    if key not in _EMPTY:
        with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.execute(f"PRAGMA page_size={PAGE}")
            SqliteStore(connection, connection, schemas)
            _EMPTY[key] = schemas, bytes(connection.serialize())
    return _EMPTY[key][1]


class SimulatedStore:
    """A `Store` on a simulated disk, whatever its engine. Make it with `SimulatedDisk.open`."""

    def __init__(self, engine: Store, disk: object) -> None:
        self.engine = engine
        self._disk = disk  # which lives as long as its store does
        self.dead = False
        self.disk: object = None
        """What it is a store on, which must not go away before it."""
        self.full = False
        """While true, every commit fails and writes nothing."""
        self._fail_at: int | None = None
        self._takes_effect = False

    @property
    def commits(self) -> int:
        """How many transactions were committed since opening."""
        return self.engine.commits

    @property
    def healed(self) -> Sequence[str]:
        """What was dropped when it was opened."""
        return self.engine.healed

    def kill(self) -> None:
        """End the life of this store: nothing that its node still tries to write reaches the disk."""
        self.dead = True

    def fail_at(self, commits: int, *, takes_effect: bool = False) -> None:
        """Die at the commit after `commits` more: before it is durable, or just after if it `takes_effect`."""
        self._fail_at, self._takes_effect = self.commits + commits, takes_effect

    def commit(self, moments: Sequence[Moment]) -> None:
        """Write all moments in one transaction, unless this store is dead, full or due to fail: then StoreError."""
        if self.dead:
            raise StoreError("the simulated node was killed: nothing is written any more")
        if self.full:
            raise StoreError("the simulated disk is full: free space, then restart")
        if self._fail_at is None or self.commits < self._fail_at:
            self.engine.commit(moments)
            return
        if self._takes_effect:
            self.engine.commit(moments)
        self.kill()
        raise StoreError("the simulated node died at this commit")

    def read(self, query: TableQuery) -> list[Row]:
        """Return the rows of a query over what is durable."""
        return self.engine.read(query)

    def close(self) -> None:
        """Release the store; the disk keeps what was committed."""
        self.kill()


class _Memory(SqliteStore):
    def _verify(self) -> list[str]:
        return []  # memory does not decay, and there are thousands of these


class Disk(Protocol):
    """What survives of a node. A disk of another engine: `memory.MemoryDisk`."""

    def open(self) -> SimulatedStore:
        """Return a store for a node that starts now; the store of the one before is dead."""

    def image(self) -> Any:
        """Return everything that is durable, for a disk of the same kind that is restored from it later."""


class SimulatedDisk:
    """A disk of SQLite's. Give it the schemas of all packages that write to it."""

    def __init__(self, schemas: Sequence[Schema], image: bytes = b"") -> None:
        """Make an empty disk, or one with the contents of an `image` taken earlier."""
        self._schemas = tuple(schemas)
        self._connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS
        )
        self._store: SimulatedStore | None = None
        weakref.finalize(self, self._connection.close)
        self._connection.deserialize(image or _empty(self._schemas))

    def open(self) -> SimulatedStore:
        """Return a store for a node that starts now; the store of the one before is dead."""
        if self._store is not None:
            self._store.kill()
        self._store = SimulatedStore(_Memory(self._connection, self._connection, self._schemas), self)
        return self._store

    def image(self) -> bytes:
        """Return everything that is durable, for a disk that is to be restored from it later."""
        return bytes(self._connection.serialize())

    def close(self) -> None:
        """Give the memory back; the end of the disk does so too."""
        self._connection.close()
