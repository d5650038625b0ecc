"""A ticket is one payment on its way; a receipt is what it becomes.

A payment is *accepted* when it has a place in the outbox, *signed* when an update that carries it is stored, and
*secured* when the payee's countersignature is stored. Only then is there a receipt.
"""

from __future__ import annotations

import msgspec
import trio

from tallystick.channels.errors import TallystickError
from tallystick.channels.objects import ChannelId


class Receipt(msgspec.Struct, frozen=True):
    """A payment that both sides hold durably and the payee has countersigned."""

    channel: ChannelId
    payment: int
    """Number of the payment within our simplex: (channel, payment) names it for ever."""
    amount: int
    memo: bytes
    seq: int
    """The update that carried it."""
    accepted: float
    """When it got its place, Unix seconds."""
    secured: float
    """When the countersignature was stored, Unix seconds."""


class Ticket:
    """One payment that was accepted. `wait` gives its receipt."""

    __slots__ = (
        "__weakref__",
        "_event",
        "accepted",
        "amount",
        "channel",
        "error",
        "key",
        "memo",
        "payment",
        "receipt",
        "withdrawn",
    )

    def __init__(self, channel: ChannelId, amount: int, memo: bytes, key: str, accepted: float) -> None:
        self.channel = channel
        self.amount = amount
        self.memo = memo
        self.key = key
        self.accepted = accepted
        self.payment: int | None = None
        """Its number, once it is signed."""
        self.receipt: Receipt | None = None
        self.error: TallystickError | None = None
        self.withdrawn = False
        self._event: trio.Event | None = None

    @property
    def done(self) -> bool:
        """Whether there is a receipt or an error."""
        return self.receipt is not None or self.error is not None

    async def wait(self) -> Receipt:
        """Return the receipt once the payment is secured.

        Raise the error if it ends otherwise. If the waiting is cancelled before the payment is signed, it is not made;
        once it is signed it will be made, whether anyone waits or not.
        """
        if not self.done:
            if self._event is None:
                self._event = trio.Event()
            try:
                await self._event.wait()
            except trio.Cancelled:
                if self.payment is None:
                    self.withdrawn = True
                raise
        if self.error is not None:
            raise self.error
        if self.receipt is None:
            raise TallystickError("this ticket was resolved without a receipt; please report it")
        return self.receipt

    def resolve(self, seq: int, secured: float) -> None:
        """Give the receipt out. Called after the commit that holds the countersignature."""
        if self.payment is not None:
            self.receipt = Receipt(self.channel, self.payment, self.amount, self.memo, seq, self.accepted, secured)
        self._wake()

    def fail(self, error: TallystickError) -> None:
        """End without a receipt."""
        self.error = error
        self._wake()

    def _wake(self) -> None:
        if self._event is not None:
            self._event.set()

    def __repr__(self) -> str:
        state = (
            "secured"
            if self.receipt
            else "failed"
            if self.error
            else "signed"
            if self.payment is not None
            else "accepted"
        )
        return f"<Ticket {self.amount} {state}>"
