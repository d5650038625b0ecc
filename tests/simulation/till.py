"""A seller's and a buyer's node in one, in memory: real invoices, held payments, and crashes where a test wants."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from tallystick.channels.errors import InvalidInput, TallystickError
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address
from tallystick.router.invoices.invoice import Invoice, decode_invoice, encode_invoice
from tallystick.router.objects import NodeKey

NOW = 1_800_000_000
KEY = PrivateKey(b"\x07" * 32)


class Crash(BaseException):
    """The process ends here."""


class TillInvoice(msgspec.Struct):
    payment_hash: str
    invoice: str
    state: str
    expires: int
    amount: int
    secret: str
    ended: int | None = None


class TillPayment(msgspec.Struct):
    state: str
    secret: str | None
    fee: int
    text: str = ""


class Till:
    """Both ends of a payment. `paid` counts what the buyer has really paid."""

    def __init__(self) -> None:
        self.invoices: dict[str, TillInvoice] = {}
        self.sent: dict[str, int] = {}
        """What the buyer was asked to pay, by the payment's hash: how often."""
        self.fee = 1
        self.broken = False
        self.at: Callable[[str], None] = lambda point: None
        """Called before and after each step; may raise."""

    @property
    def paid(self) -> int:
        return sum(made.amount for made in self.invoices.values() if made.state == "claimed")

    def _reach(self, point: str) -> None:
        self.at(point)
        if self.broken:
            raise TallystickError("the node cannot be reached")

    # --- the seller's node ---------------------------------------------------------------------------------------

    async def create_invoice(
        self, amount: int, memo: str = "", *, lifetime: int, hold: bool, asset: str = "0x" + 40 * "0"
    ) -> TillInvoice:
        self._reach("create")
        secret = hashlib.sha256(b"secret %d" % len(self.invoices)).digest()
        invoice = Invoice(
            payee=NodeKey(bytes(KEY.public)),
            payment_hash=hashlib.sha256(secret).digest(),
            payment_secret=bytes(32),
            chain_id=1337,
            contract=Address(bytes(20)),
            asset=Address(bytes.fromhex(asset[2:])),
            amount=amount,
            created=NOW,
            lifetime=lifetime,
            memo=memo,
        )
        text = encode_invoice(invoice, KEY)
        made = TillInvoice(invoice.payment_hash.hex(), text, "open", invoice.expiry, amount, secret.hex())
        self.invoices[made.payment_hash] = made
        return msgspec.structs.replace(made)

    async def invoice(self, payment_hash: str, *, wait: int = 0) -> TillInvoice:
        self._reach("invoice")
        if payment_hash not in self.invoices:
            raise InvalidInput("no such invoice")
        return msgspec.structs.replace(self.invoices[payment_hash])

    async def settle_invoice(self, payment_hash: str) -> TillInvoice:
        self._reach("settle")
        made = self.invoices[payment_hash]
        if made.state not in ("held", "claimed"):
            raise InvalidInput("nothing is held")
        made.state, made.ended = "claimed", made.ended or NOW + 5
        self._reach("settled")
        return msgspec.structs.replace(made)

    async def cancel_invoice(self, payment_hash: str) -> TillInvoice:
        self._reach("cancel")
        made = self.invoices[payment_hash]
        if made.state == "claimed":
            raise InvalidInput("it was claimed")
        made.state = "cancelled"
        return msgspec.structs.replace(made)

    # --- the buyer's node ----------------------------------------------------------------------------------------

    async def pay_invoice(self, invoice: str, *, max_fee: int, wait: bool) -> TillPayment | None:
        self._reach("pay")
        payment_hash = decode_invoice(invoice).payment_hash.hex()
        if payment_hash not in self.sent and self.invoices[payment_hash].state != "open":
            raise InvalidInput("the invoice has expired")
        self.sent[payment_hash] = self.sent.get(payment_hash, 0) + 1
        made = self.invoices[payment_hash]
        if made.state == "open":
            made.state = "claimed" if wait else "held"  # who waits for its end pays an invoice that is not to hold
        self._reach("payed")
        return TillPayment("paid", made.secret, self.fee) if wait else None

    async def payment(self, payment_hash: str, *, wait: int = 0) -> TillPayment:
        self._reach("payment")
        if payment_hash not in self.sent:
            raise InvalidInput("no such payment")
        made = self.invoices[payment_hash]
        if made.state == "claimed":
            return TillPayment("paid", made.secret, self.fee)
        return TillPayment("failed" if made.state in ("cancelled", "expired") else "pending", None, 0)
