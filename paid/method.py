"""The payment method `tallystick`, intent `charge`: an invoice in the challenge, and what shows that it was paid.

    request  {"amount": "5", "currency": "native" or "0x…", "methodDetails":
                 {"chainId": "1337", "delivery": "hold", "invoice": "tally1337…", "paymentHash": "…"}}
    payload  {"paymentHash": "…"} or {"secret": "…"}

With `"delivery": "hold"` the seller takes the payment only once it has the answer: the payer sends its credential while
the payment is held, when it cannot know the secret yet, and what it shows is the challenge, which nobody but it and the
seller has seen. Without, the payer has the secret before it sends. Neither is ever taken alone: every forwarder learns
both hash and secret, but not the challenge's id.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.objects import NATIVE
from tallystick.paid.errors import MalformedPayment
from tallystick.paid.scheme.challenges import PaymentChallenge
from tallystick.router.invoices.invoice import Invoice, decode_invoice

METHOD = "tallystick"
INTENT = "charge"
HOLD = "hold"

_DIGITS = re.compile(r"[1-9][0-9]{0,38}")
_HASH = re.compile(r"[0-9a-f]{64}")
_CURRENCY = re.compile(r"native|0x[0-9a-f]{40}")


class CallCharge(msgspec.Struct, frozen=True, kw_only=True):
    """What one call costs, as a challenge of this method says it."""

    amount: int
    """In the asset's smallest unit."""
    currency: str
    """`native`, or a token's address as `0x` and 40 hex digits."""
    chain_id: str
    invoice: str
    payment_hash: str
    """64 hex digits."""
    is_held: bool
    """Whether the seller takes the payment only once it has the answer."""

    def to_request(self) -> dict[str, Any]:
        """Return it as the challenge's request."""
        details = {"chainId": self.chain_id, "invoice": self.invoice, "paymentHash": self.payment_hash}
        details |= {"delivery": HOLD} if self.is_held else {}
        return {"amount": str(self.amount), "currency": self.currency, "methodDetails": details}


def charge_for(text: str, *, is_held: bool) -> CallCharge:
    """Return what an invoice with an amount asks for. Raise InvalidInput if it is none."""
    invoice = decode_invoice(text)
    if invoice.amount is None:
        raise InvalidInput("a charge says how much it is: the invoice needs an amount")
    return CallCharge(
        amount=invoice.amount,
        currency=currency_of(invoice),
        chain_id=str(invoice.chain_id),
        invoice=text,
        payment_hash=invoice.payment_hash.hex(),
        is_held=is_held,
    )


def read_charge(challenge: PaymentChallenge) -> CallCharge:
    """Return what a challenge of this method asks for. Raise MalformedPayment if it does not say so.

    The invoice counts: what is written beside it must say the same, and so must the hash, if there is one.
    """
    request = challenge.details()
    details = request.get("methodDetails")
    amount, currency = request.get("amount"), request.get("currency")
    if not isinstance(details, dict) or not isinstance(amount, str) or not isinstance(currency, str):
        raise MalformedPayment("a charge has an amount and a currency, which are texts, and methodDetails")
    if not _DIGITS.fullmatch(amount) or int(amount) > AMOUNT_MAX or not _CURRENCY.fullmatch(currency.lower()):
        raise MalformedPayment("a charge's amount is a whole number above 0 in digits, its currency native or 0x…")
    text, chain_id, told = details.get("invoice"), details.get("chainId"), details.get("paymentHash")
    if not isinstance(text, str) or isinstance(chain_id, bool) or not isinstance(chain_id, str | int):
        raise MalformedPayment("a charge of this method has an invoice and a chainId in methodDetails")
    try:
        asked = charge_for(text, is_held=details.get("delivery") == HOLD)
    except InvalidInput as error:
        raise MalformedPayment(f"the charge's invoice cannot be paid: {error}") from error
    same = (asked.amount, asked.currency, asked.chain_id) == (int(amount), currency.lower(), str(chain_id))
    if not same or told not in (None, asked.payment_hash):
        raise MalformedPayment("the charge says something else than its invoice")
    return asked


def currency_of(invoice: Invoice) -> str:
    """Return an invoice's asset as a charge writes it."""
    return "native" if invoice.asset == NATIVE else "0x" + invoice.asset.hex()


def shows_payment(proof: dict[str, Any], charge: CallCharge) -> bool:
    """Whether a credential's payload is for this charge: by its secret, or, where it is held, by its hash alone."""
    secret, told = proof.get("secret"), proof.get("paymentHash")
    if isinstance(secret, str) and _HASH.fullmatch(secret):
        return hashlib.sha256(bytes.fromhex(secret)).hexdigest() == charge.payment_hash
    return charge.is_held and secret is None and told == charge.payment_hash
