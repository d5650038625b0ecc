"""A ticket is one payment, or a run of payments, on its way; a receipt is what it becomes.

A payment is *accepted* when it has a place in the outbox, *signed* when an update that carries it is stored, and
*secured* when the payee's countersignature is stored. Only then is there a receipt.
"""

from __future__ import annotations

import msgspec
import trio

from tallystick.channels.errors import TallystickError
from tallystick.channels.objects import ChannelId


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


class Ticket:
    """One payment, or a run of payments without memos, that was accepted. `wait` gives the receipt."""

    __slots__ = (
        "__weakref__",
        "_event",
        "accepted",
        "amount",
        "amounts",
        "channel",
        "error",
        "key",
        "memo",
        "payment",
        "receipt",
        "size",
        "withdrawn",
    )

    def __init__(self, channel: ChannelId, amounts: tuple[int, ...], memo: bytes, key: str, accepted: float) -> None:
        self.channel = channel
        self.amounts = amounts
        self.amount = amounts[0] if len(amounts) == 1 else sum(amounts)
        self.memo = memo
        self.key = key
        self.accepted = accepted
        self.payment: int | None = None
        """Its (first) number, once it is signed."""
        self.size = 0
        """Estimated bytes within an update; the outbox fills it in."""
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
                self.give_up()
                raise
        if self.error is not None:
            raise self.error
        if self.receipt is None:
            raise TallystickError("this ticket was resolved without a receipt; please report it")
        return self.receipt

    def give_up(self) -> None:
        """Take the payment back if it is not signed yet; nothing happens if it is."""
        if self.payment is None and not self.done:
            self.withdrawn = True

    def resolve(self, seq: int, secured: float) -> None:
        """Give the receipt out. Called after the commit that holds the countersignature."""
        if self.payment is not None:
            self.receipt = Receipt(
                self.channel, self.payment, self.amount, self.memo, seq, self.accepted, secured, len(self.amounts)
            )
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
