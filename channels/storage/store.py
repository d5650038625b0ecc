"""The durable store as all above it see it: moments go in, what is durable is read back. It names no engine.

A *moment* is a frozen fact that must be durable before anything that depends on it happens ("this update was
signed", "this block was followed"). `commit` writes many moments of many channels in one transaction, all or nothing:
that is the group commit. Who calls it, and when, is `writer`'s business. What is kept of a moment its subject says, in
the words of `tables`; `sqlite.store` opens the store of a data directory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from tallystick.channels.storage.tables import Reader, Rows, Table


class Moment(msgspec.Struct, frozen=True):
    """Base of all moments."""


Write = Callable[[Rows, Any], None]


class Subject(msgspec.Struct, frozen=True):
    """One subject's part of a store."""

    name: str
    tables: tuple[Table, ...]
    writes: Mapping[type[Moment], Write]
    """What each moment does to rows, within the transaction of `commit`."""


class Store(Reader, Protocol):
    """What cores' shells need of a disk. It reads what is durable."""

    def commit(self, moments: Sequence[Moment]) -> None:
        """Make all moments durable in one transaction; raise StoreError if not one of them is."""

    @property
    def commits(self) -> int:
        """How many transactions were committed since opening."""

    @property
    def healed(self) -> Sequence[str]:
        """A sentence for each table of which damaged rows were dropped at the opening, as they are learned anew."""

    def close(self) -> None:
        """Release the store. What was committed stays."""
