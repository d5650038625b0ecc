"""Updates that were signed and not acknowledged yet: what is kept of each in memory until it is."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tallystick.channels.protocol.objects import Lock
from tallystick.channels.protocol.operations import Cancel, Operation, Unlock
from tallystick.channels.protocol.simplex import Simplex
from tallystick.channels.session.tickets import Ticket
from tallystick.channels.values.discretion import Discreet


class EndedLock(Discreet, msgspec.Struct, frozen=True):
    """A lock that an update removes: how much of it was paid, and by which secret (empty: cancelled)."""

    lock: Lock
    paid: int
    secret: bytes


def ended_locks(operations: Iterable[Operation], before: Simplex) -> list[EndedLock]:
    """Return the locks of `before` that `operations` remove."""
    ended = []
    for operation in operations:
        if isinstance(operation, (Unlock, Cancel)):
            lock = before.lock(operation.id)
            if lock is not None:
                paid, secret = (operation.amount, operation.proof) if isinstance(operation, Unlock) else (0, b"")
                ended.append(EndedLock(lock, paid, secret))
    return ended


class SentUpdate(Discreet, msgspec.Struct):
    """An update in flight: its frame, to repeat it, and the tickets that it carries (none after a restart)."""

    seq: int
    frame: bytes
    payments: int
    tickets: list[Ticket]
    ended: list[EndedLock]
    agreed: int
    """Number of the newest agreed update when this one was signed."""
    signed: float
    """When that was."""
