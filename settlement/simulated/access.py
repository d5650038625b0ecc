"""Which entries of the state a transaction reads and writes: what says which ones could have run beside each other.

Recording is done by the layer that a block is built in, so that a block that is not recorded pays nothing for it:
`state = RecordingLayer(world); build_block(state, plan, (), state.each(candidates))`, and then `state.accesses`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from tallystick.channels.protocol.objects import NATIVE
from tallystick.settlement.simulated.ledger import MINER
from tallystick.settlement.simulated.world import Layer, Value, balance_key

Candidate = TypeVar("Candidate")

FEES = frozenset((balance_key(NATIVE, MINER),))
"""What every transaction adds to, and none looks at: left out where conflicts are counted."""


class Access(NamedTuple):
    """What one transaction looked at and changed, as far as that was there before it, and is after it."""

    reads: set[bytes]
    writes: set[bytes]

    def is_disjoint(self, other: Access, without: Collection[bytes] = FEES) -> bool:
        """Whether both come to the same in either order: neither writes what the other reads or writes."""
        mine, others = self.writes.difference(without), other.writes.difference(without)
        return mine.isdisjoint(other.reads | others) and others.isdisjoint(self.reads)


class _Changes(dict[bytes, Value | None]):
    """The changes of a recording layer."""

    def __init__(self) -> None:
        self.written: set[bytes] = set()

    def __setitem__(self, key: bytes, value: Value | None) -> None:
        self.written.add(key)
        super().__setitem__(key, value)

    def update(self, *changes: Any, **others: Any) -> None:
        for each in changes:
            self.written.update(each)
        super().update(*changes, **others)


class RecordingLayer(Layer):
    """A layer that remembers what is read through it and written into it, transaction by transaction."""

    def __init__(self, below: Mapping[bytes, Value] | Layer) -> None:
        super().__init__(below)
        self.changes = self._changes = _Changes()
        self._read: set[bytes] = set()
        self.accesses: list[Access] = []
        """Of each candidate in order, such as came into no block included."""

    def get(self, key: bytes) -> Value | None:
        """Return the value as seen from here, None if there is none."""
        self._read.add(key)
        return super().get(key)

    def number(self, key: bytes) -> int:
        """Return a number, 0 if there is none."""
        self._read.add(key)
        return super().number(key)

    def take(self) -> Access:
        """Return what was read and written since it was asked last."""
        access = Access(self._read, self._changes.written)
        self._read, self._changes.written = set(), set()
        return access

    def each(self, candidates: Iterable[Candidate]) -> Iterator[Candidate]:
        """Yield the candidates of a block, and record what is done between two of them."""
        self.take()
        for candidate in candidates:  # what is looked at to choose the next one is its own
            yield candidate
            self.accesses.append(self.take())


class Contention(NamedTuple):
    """How far the transactions of a block depend on each other, fees aside."""

    dependent: float
    """The part of them that read what an earlier one wrote."""
    longest: int
    """Transactions of the longest row of which each depends on the one before: what no executor can run at once."""


def contention(accesses: Sequence[Access], without: Collection[bytes] = FEES) -> Contention:
    """Return what no order of execution can help, even with several versions of each entry."""
    depths: dict[bytes, int] = {}
    dependent = longest = 0
    for access in accesses:
        depth = max((depths.get(key, 0) for key in access.reads if key not in without), default=0)
        dependent += depth > 0
        longest = max(longest, depth + 1)
        for key in access.writes:
            depths[key] = depth + 1
    return Contention(dependent / max(1, len(accesses)), longest)
