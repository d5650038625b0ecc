"""What a server asks: a challenge, its id bound to it by an HMAC, so that the server knows it again without a store.

    id = base64url(HMAC-SHA256(key, realm|method|intent|request|expires|digest|[header|]opaque))

Slots that are left out are empty; `header`, which pympp and mppx have and the draft has not, is there only if it is
named. The text of `request` and of `opaque` counts as it was sent: nobody has to write it the same way twice.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.paid.errors import MalformedPayment
from tallystick.paid.scheme.encoding import read_object, to_base64url, write_object
from tallystick.paid.scheme.parameters import read_payments, write_payment

KEY_MIN = 32
"""Bytes of the key under which ids are made."""

_NEEDED = ("id", "realm", "method", "intent", "request")
_NAMES = (*_NEEDED, "description", "digest", "expires", "header", "opaque")


class PaymentChallenge(msgspec.Struct, frozen=True, kw_only=True):
    """A challenge, as it is sent and as it comes back in a credential. What is left out is empty."""

    id: str = ""
    """Bound to the rest; empty until `bind` made it."""
    realm: str
    method: str
    intent: str
    request: str
    """What to pay, by the method's rules: JSON in base64url, as it was sent."""
    expires: str = ""
    """RFC 3339: when it is too late to answer."""
    digest: str = ""
    """Of the request's body, in RFC 9530's form or in the SDKs' without colons."""
    opaque: str = ""
    """The server's own, which comes back: JSON in base64url, as it was sent."""
    header: str = ""
    """In which field the credential is to come; empty for Authorization."""
    description: str = ""
    """For people. Not bound."""

    def bind(self, key: bytes) -> PaymentChallenge:
        """Return it with its id. Raise InvalidInput if the key is short or a slot has the mark between them within."""
        if len(key) < KEY_MIN:
            raise InvalidInput(f"the key for challenges has {KEY_MIN} bytes at least, this one has {len(key)}")
        if any("|" in slot for slot in self._slots()):
            raise InvalidInput(
                "no part of a challenge has '|' within: it stands between them in what the id is made of"
            )
        return msgspec.structs.replace(self, id=self._mac(key))

    def is_bound(self, key: bytes) -> bool:
        """Whether the id was made with this key for all that is bound."""
        if any("|" in slot for slot in self._slots()):
            return False
        return hmac.compare_digest(self._mac(key).encode(), self.id.encode("utf-8", "replace"))

    def is_expired(self, now: float) -> bool:
        """Whether it is too late to answer, by a time in seconds since 1970. MalformedPayment if unclear."""
        return bool(self.expires) and read_time(self.expires) <= now

    def details(self) -> dict[str, Any]:
        """Return the request as an object. Raise MalformedPayment if it is none."""
        return read_object(self.request)

    def own(self) -> dict[str, Any]:
        """Return what the server had for itself in it, as an object; nothing if it had nothing."""
        return read_object(self.opaque) if self.opaque else {}

    def written(self) -> dict[str, str]:
        """Return the parts that are there, by their names on the wire: what a credential repeats."""
        return {name: text for name in _NAMES if (text := getattr(self, name))}

    def to_header(self) -> str:
        """Return it as a value of `WWW-Authenticate`."""
        return write_payment(self.written())

    def _slots(self) -> list[str]:
        """Return what the id is bound to, in its order."""
        named = [self.header] if self.header and self.header.lower() != "authorization" else []
        return [self.realm, self.method, self.intent, self.request, self.expires, self.digest, *named, self.opaque]

    def _mac(self, key: bytes) -> str:
        text = "|".join(self._slots()).encode("utf-8", "surrogatepass")
        return to_base64url(hmac.digest(key, text, hashlib.sha256))


def parse_challenges(values: Iterable[str]) -> list[PaymentChallenge]:
    """Return the challenges in the values of `WWW-Authenticate`; what cannot be read as one is left out."""
    return [challenge_of(parts) for parts in read_payments(values) if all(parts.get(name) for name in _NEEDED)]


def challenge_of(parts: dict[str, Any]) -> PaymentChallenge:
    """Return a challenge by the names of its parts. Raise MalformedPayment if one is missing or no text.

    An `opaque` that is an object, as some servers over MCP and some older clients have it, is written again.
    """
    known = {name: parts[name] for name in _NAMES if parts.get(name) is not None}
    if isinstance(known.get("opaque"), dict):
        known["opaque"] = write_object(known["opaque"])
    for name in _NEEDED:
        if not known.get(name):
            raise MalformedPayment(f"the challenge has no {name}")
    for name, text in known.items():
        if not isinstance(text, str):
            raise MalformedPayment(f"the challenge's {name} is not text")
    return PaymentChallenge(**known)


def write_time(seconds: float) -> str:
    """Return a time in seconds since 1970 as RFC 3339 has it, in UTC and whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_time(text: str) -> float:
    """Return what a time of RFC 3339 is in seconds since 1970. Raise MalformedPayment if it is none, or of no zone."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise MalformedPayment("a time of the scheme is written as in 2026-08-07T12:00:00Z") from None
    if read.tzinfo is None:
        raise MalformedPayment("a time of the scheme names its zone, as in 2026-08-07T12:00:00Z")
    return read.timestamp()
