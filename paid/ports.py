"""What paid calls need of a node, as far as they go: `ControlClient` is both, and tests have their own."""

from __future__ import annotations

from typing import Protocol


class AskedPayment(Protocol):
    """An invoice of ours, and what became of it."""

    @property
    def payment_hash(self) -> str:
        """64 hex digits."""

    @property
    def invoice(self) -> str:
        """The text for the payer."""

    @property
    def state(self) -> str:
        """`open`, `held`, `claimed`, `cancelled` or `expired`."""

    @property
    def expires(self) -> int:
        """Seconds since 1970 from which on it is not to be paid."""

    @property
    def ended(self) -> int | None:
        """When it was claimed or cancelled."""


class SellerNode(Protocol):
    """A node that is paid. A call raises an error below `TallystickError` if it was not done, or may not have been."""

    async def create_invoice(
        self, amount: int, memo: str = "", /, *, lifetime: int, hold: bool, asset: str
    ) -> AskedPayment:
        """Ask for a payment that is held until it is settled or cancelled."""

    async def invoice(self, payment_hash: str, /, *, wait: int = 0) -> AskedPayment:
        """Return an invoice; while it is open, wait so many seconds for its payment."""

    async def settle_invoice(self, payment_hash: str, /) -> AskedPayment:
        """Take a held payment, once however often this is called."""

    async def cancel_invoice(self, payment_hash: str, /) -> AskedPayment:
        """Give a held payment back, and take nothing more."""


class SentPayment(Protocol):
    """A payment of ours."""

    @property
    def state(self) -> str:
        """`pending`, `paid` or `failed`."""

    @property
    def secret(self) -> str | None:
        """Proves the payment; None unless it was made."""

    @property
    def fee(self) -> int:
        """What it cost beside the amount."""

    @property
    def text(self) -> str:
        """Why it failed."""


class BuyerNode(Protocol):
    """A node that pays."""

    async def pay_invoice(self, invoice: str, /, *, max_fee: int, wait: bool) -> SentPayment | None:
        """Pay an invoice, once however often this is called; None if it is on its way."""

    async def payment(self, payment_hash: str, /, *, wait: int = 0) -> SentPayment:
        """Return a payment; if it is pending, wait so many seconds for its end."""
