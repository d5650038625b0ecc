"""What a kind of lock is, and the table that holds one entry per kind.

Both sides of a channel, every later start of a node, and the contract must give a kind the same meaning for ever. So a
table belongs to the program, as its messages do, and is no setting that one of many callers could forget to hand on:
whoever brings a kind of its own registers it before the first node is opened. The first question that is asked of a
table closes it, so that no answer can change while anything relies on it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar, Generic, Protocol, TypeVar

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import KIND_MAX
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.protocol.operations import AddLock

BY_COURT = b"court"
"""Stands in an unlock for a proof, where the chain's court has decided a lock and no proof of its amount exists: both
sides look at what their own confirmed chain says (`ChainTime.given_in_court`). No kind has a proof like it."""


class LockKind(ABC):
    """How the locks of one kind are decided off chain. Entries have no state."""

    number: ClassVar[int]
    """`Lock.kind`, 0 to KIND_MAX."""
    name: ClassVar[str]
    revealed: ClassVar[bool] = True
    """Whether the receiver claims a lock with one proof, its secret. If not, the kind has a way of its own."""
    routed: ClassVar[bool] = False
    """Whether a router may pass such locks on: it is asked about those that come with an onion."""
    divisible: ClassVar[bool] = False
    """Whether two proofs may pay differently: then whoever passes it on pays only what it was paid (docs/apps.md)."""
    judged: ClassVar[bool] = False
    """Whether the chain's court decides it, by what it is brought, and perhaps only after the expiry."""

    expected: ClassVar[bool] = False
    """Whether such a lock is taken only by who expects its condition (`channels.session.expected`)."""

    @abstractmethod
    def amount_paid(self, lock: Lock, proof: bytes) -> int:
        """Return how much of the lock's amount `proof` pays; raise InvalidUpdate (BAD_PROOF) if nothing may be paid.

        It must say the same at any time, on both sides, and no less than the contract does.
        """

    def objection(self, added: AddLock) -> str | None:
        """Return why a peer's new lock cannot be followed with what came with it (its onion), None if it can."""
        return None

    def steps(self, proof: bytes) -> int:
        """Return how many hashes a receiver takes to follow `proof`, beyond a few; it may be no proof at all."""
        return 0


class Numbered(Protocol):
    """An entry of a table."""

    @property
    def number(self) -> int:
        """The kind that it is about."""


Entry = TypeVar("Entry", bound=Numbered)


class KindTable(Generic[Entry]):
    """One entry per kind, by its number. Closed by the first look into it."""

    def __init__(self, *entries: Entry) -> None:
        self._entries: dict[int, Entry] = {}
        self._closed = False
        self.find: Callable[[int], Entry | None] = self._first
        """`find(number)` returns the entry of a kind, None if there is none."""
        for entry in entries:
            self.register(entry)

    def __repr__(self) -> str:
        return f"<KindTable {sorted(self._entries)}{' closed' if self._closed else ''}>"

    def register(self, entry: Entry) -> None:
        """Add a kind; raise InvalidInput if its number is taken or none, or if the table is in use already."""
        number = entry.number
        if self._closed:
            raise InvalidInput(f"kind {number} comes too late: register kinds of locks before a node is opened")
        if not 0 <= number <= KIND_MAX or number in self._entries:
            raise InvalidInput(f"kind {number} is taken, or not from 0 to {KIND_MAX}: choose another number")
        self._entries[number] = entry

    def _first(self, number: int) -> Entry | None:
        """Close the table, and find in it; from now on that is all that `find` does, as every lock asks some times."""
        self._close()
        return self.find(number)

    def __iter__(self) -> Iterator[Entry]:
        self._close()
        return iter(self._entries.values())

    def _close(self) -> None:
        self._closed = True
        self.find = self._entries.get
