"""What a client answers with: a credential, which repeats the challenge and proves the payment; and its receipt."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from tallystick.channels.values.discretion import Discreet
from tallystick.paid.errors import MalformedPayment
from tallystick.paid.scheme.challenges import PaymentChallenge, challenge_of
from tallystick.paid.scheme.encoding import SIZE_MAX, read_object, write_object

_CREDENTIAL = re.compile(r"(?:^|,)\s*payment[ \t]+([A-Za-z0-9._~+/-]+=*)\s*(?=,|$)", re.IGNORECASE)
_RECEIPT_FIELDS = {
    "method": "method",
    "reference": "reference",
    "timestamp": "timestamp",
    "intent": "intent",
    "challengeId": "challenge_id",
    "externalId": "external_id",
}


class PaymentCredential(Discreet, msgspec.Struct, frozen=True, kw_only=True):
    """A payment's proof for one challenge."""

    challenge: PaymentChallenge
    proof: dict[str, Any]
    """By the method's rules (`payload` on the wire)."""
    source: str = ""
    """Who pays, if it is said: a DID, or what the method has instead."""

    def to_header(self) -> str:
        """Return it as the value of `Authorization`, or of the field that the challenge names."""
        whole: dict[str, Any] = {"challenge": self.challenge.written(), "payload": self.proof}
        return "Payment " + write_object(whole | ({"source": self.source} if self.source else {}))


def parse_credential(values: Iterable[str]) -> PaymentCredential | None:
    """Return the credential in the values of a header, beside credentials of other schemes; None if there is none.

    Raise MalformedPayment if there is one that cannot be read, or more than one.
    """
    found = [text for value in values if len(value) <= SIZE_MAX for text in _CREDENTIAL.findall(value)]
    if not found:
        return None
    if len(found) > 1:
        raise MalformedPayment("a request has one credential of the scheme Payment")
    whole = read_object(found[0])
    challenge, proof, source = whole.get("challenge"), whole.get("payload"), whole.get("source") or ""
    if not isinstance(challenge, dict) or not isinstance(proof, dict) or not isinstance(source, str):
        raise MalformedPayment("a credential has a challenge and a payload, which are objects, and perhaps a source")
    return PaymentCredential(challenge=challenge_of(challenge), proof=proof, source=source)


class CallReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """That a call was paid for, and its answer sent (`Payment-Receipt`). There is none for a failure."""

    method: str
    reference: str
    """The method's name of the payment."""
    timestamp: str
    """RFC 3339: when it was settled."""
    intent: str = ""
    challenge_id: str = ""
    external_id: str = ""
    """The seller's own number of what it sold."""
    more: dict[str, Any] = {}
    """Fields that the scheme does not know."""

    def to_header(self) -> str:
        """Return it as the value of `Payment-Receipt`."""
        known = {name: text for name, field in _RECEIPT_FIELDS.items() if (text := getattr(self, field))}
        return write_object(self.more | {"status": "success"} | known)


def parse_receipt(value: str) -> CallReceipt:
    """Return the receipt in the value of `Payment-Receipt`. Raise MalformedPayment if it is none."""
    whole = read_object(value.strip())
    if whole.pop("status", None) != "success":
        raise MalformedPayment("a receipt has the status success")
    known = {field: whole.pop(name) for name, field in _RECEIPT_FIELDS.items() if whole.get(name) is not None}
    if not all(isinstance(text, str) for text in known.values()):
        raise MalformedPayment("the fields of a receipt are texts")
    if not all(known.get(name) for name in ("method", "reference", "timestamp")):
        raise MalformedPayment("a receipt has a method, a reference and a timestamp")
    return CallReceipt(**known, more=whole)
