"""How much a peer has paid that too few watchtowers have: what the payee loses if it is cheated in its sleep.

What counts is the peer's simplex alone, as an old one of ours does us no harm: what was transferred since the newest
state that towers have, and what was locked for us since. It never comes out too low: a lock that towers had, and that
was unlocked since, counts once more until they have that, too.
"""

from __future__ import annotations

from typing import NamedTuple

from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.objects import Address
from tallystick.channels.protocol.operations import AddLock, Operation, Pay, Unlock

FINENESS = 128
"""Of so many updates since the last receipt, one state is remembered: what is exposed comes out a little too high."""


class Mark(NamedTuple):
    """A state of the peer's simplex."""

    seq: int = 0
    transferred: int = 0
    next_lock: int = 0


class Uncovered:
    """Of one channel. `amount` is in the asset's smallest unit."""

    def __init__(self, asset: Address) -> None:
        self.asset = asset
        self.amount = 0
        self._marks = [Mark()]
        """The newest state that towers have, or an older one, and states since."""

    def reckon(self, channel: Channel, covered: int) -> None:
        """Take in the channel as it is, and up to which of the peer's updates towers have it."""
        simplex, marks = channel.theirs.simplex, self._marks
        newest = Mark(simplex.proof.seq, simplex.proof.transferred, simplex.next_lock)
        if newest[1:] != marks[-1][1:] and (newest.seq - marks[-1].seq) * FINENESS >= newest.seq - marks[0].seq:
            marks.append(newest)
        if covered >= newest.seq:
            marks[:] = [newest]
        else:
            while len(marks) > 1 and marks[1].seq <= covered:
                del marks[0]
        base = marks[0]
        locked = sum(lock.amount for lock in simplex.locks if lock.id >= base.next_lock)
        self.amount = newest.transferred - base.transferred + locked


def worth(operation: Operation) -> int:
    """Return how much more is at risk by an operation of the peer's, at most: a cancel brings nothing."""
    if type(operation) is Pay:
        return sum(operation.amounts)
    if type(operation) is AddLock:
        return operation.lock.amount
    return operation.amount if type(operation) is Unlock else 0
