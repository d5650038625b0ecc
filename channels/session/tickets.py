"""A ticket is one payment, or a run of payments, on its way; a receipt is what it becomes.

A payment is *accepted* when it has a place in the outbox, *signed* when an update that carries it is stored, and
*secured* when the payee's countersignature is stored. Only then is there a receipt. Until an update of ours is
acknowledged, it is kept in memory with its tickets.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

import msgspec
import trio

from tallystick.channels.errors import TallystickError
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.protocol.operations import Cancel, Operation, Unlock
from tallystick.channels.protocol.simplex import Simplex
from tallystick.channels.values.discretion import Discreet


class Receipt(msgspec.Struct, frozen=True):
    """A payment, or a run of payments, that both sides hold durably and the payee has countersigned."""

    channel: ChannelId
    payment: int
    """Number of the (first) payment within our simplex: (channel, payment) names it for ever."""
    amount: int
    """Of all payments of the run together."""
    memo: bytes
    seq: int
    """The update that carried it."""
    accepted: float
    """When it got its place, Unix seconds."""
    secured: float
    """When the countersignature was stored, Unix seconds."""
    count: int = 1
    """How many payments, numbered consecutively."""


class Ticket(msgspec.Struct, gc=False, eq=False):
    """One payment, or a run of payments without memos, that was accepted. `wait` gives the receipt.

    Tens of thousands wait in a full outbox: the garbage collector would look at each of them again and again, and stop
    everything meanwhile. So it does not know them, and no ticket may be part of a cycle that lasts (see `wait`).
    """

    channel: ChannelId
    amounts: tuple[int, ...]
    memo: bytes
    key: str
    accepted: float
    amount: int = 0
    """Of all payments together."""
    payment: int | None = None
    """Its (first) number, once it is signed."""
    size: int = 0
    """Estimated bytes within an update; the outbox fills it in."""
    error: TallystickError | None = None
    withdrawn: bool = False
    secured: tuple[int, float] | None = None
    """The update that carried it and when that was secured."""
    event: trio.Event | None = None
    """Set at the end, if anybody waits for it."""

    def __post_init__(self) -> None:
        self.amount = self.amounts[0] if len(self.amounts) == 1 else sum(self.amounts)

    @property
    def is_done(self) -> bool:
        """Whether there is a receipt or an error."""
        return self.secured is not None or self.error is not None

    @property
    def receipt(self) -> Receipt | None:
        """What the payment became, None before it is secured. Made when it is asked for: a round holds thousands."""
        if self.secured is None or self.payment is None:
            return None
        seq, secured = self.secured
        return Receipt(
            self.channel, self.payment, self.amount, self.memo, seq, self.accepted, secured, len(self.amounts)
        )

    async def wait(self) -> Receipt:
        """Return the receipt once the payment is secured.

        Raise the error if it ends otherwise. If the waiting is cancelled before the payment is signed, it is not made;
        once it is signed it will be made, whether anyone waits or not.
        """
        if not self.is_done:
            if self.event is None:
                self.event = trio.Event()
            try:
                await self.event.wait()
            except trio.Cancelled:
                self.give_up()
                raise
        if self.error is not None:
            raise copy(self.error)  # what is raised holds the frames that it passed, and they hold this ticket
        receipt = self.receipt
        if receipt is None:
            raise TallystickError("this ticket was resolved without a receipt; please report it")
        return receipt

    def give_up(self) -> None:
        """Take the payment back if it is not signed yet; nothing happens if it is."""
        if self.payment is None and not self.is_done:
            self.withdrawn = True

    def resolve(self, secured: tuple[int, float]) -> None:
        """Give the receipt out, by the update and the time of securing. Called after the commit that holds it."""
        self.secured = secured
        if self.event is not None:
            self.event.set()

    def fail(self, error: TallystickError) -> None:
        """End without a receipt."""
        self.error = error
        if self.event is not None:
            self.event.set()

    def __repr__(self) -> str:
        unsecured = "accepted" if self.payment is None else "signed"
        state = "secured" if self.secured else "failed" if self.error else unsecured
        return f"<Ticket {self.amount} {state}>"


class EndedLock(Discreet, msgspec.Struct, frozen=True):
    """A lock that an update removes: how much of it was paid, and by which secret (empty: cancelled)."""

    lock: Lock
    paid: int
    secret: bytes


def ended_locks(operations: Iterable[Operation], before: Simplex) -> list[EndedLock]:
    """Return the locks of `before` that `operations` remove."""
    ended = []
    for operation in operations:
        if isinstance(operation, (Unlock, Cancel)) and (lock := before.lock(operation.id)) is not None:
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
