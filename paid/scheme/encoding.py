"""How the scheme writes things down: canonical JSON in base64url without padding, and digests of bodies.

JSON is written as RFC 8785 (JCS) says, by `rfc8785`: amounts are text, as no number above 2**53 has a canonical form.
What others wrote is read liberally: with padding or without, in either alphabet of base64. Digests are RFC 9530's,
`sha-256=:…:`; the form without colons, which pympp and mppx write, is read as well.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from typing import Any, NoReturn

import rfc8785

from tallystick.channels.errors import InvalidInput
from tallystick.paid.errors import MalformedPayment

SIZE_MAX = 64 * 1024
"""Characters of one text that is read: a credential has its challenge within, which may have 16 KiB."""
DEPTH_MAX = 32
"""How deep a document of somebody else's may nest."""

_BASE64 = re.compile(r"[A-Za-z0-9_-]*={0,2}")
_DIGEST = re.compile(r"sha-256=(:?)([A-Za-z0-9+/]{43}=)\1")


def to_base64url(data: bytes) -> str:
    """Return bytes in base64url without padding."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def from_base64url(text: str) -> bytes:
    """Return what a text in base64 stands for, of either alphabet, padded or not. Raise MalformedPayment if none."""
    text = text.replace("+", "-").replace("/", "_")
    if not _BASE64.fullmatch(text):
        raise MalformedPayment("a text in base64url has a character that it cannot have")
    text = text.rstrip("=")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise MalformedPayment("a text in base64url has one character too few or too many") from None


def canonical(value: Any) -> bytes:
    """Return a value in canonical JSON. Raise InvalidInput if it has no such form: amounts belong into texts."""
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise InvalidInput(f"this has no canonical JSON: {error}") from error


def write_object(value: dict[str, Any]) -> str:
    """Return an object in canonical JSON in base64url, as challenges, credentials and receipts have it."""
    return to_base64url(canonical(value))


def read_object(text: str) -> dict[str, Any]:
    """Return the JSON object that a text in base64url holds. Raise MalformedPayment if it holds none."""
    if len(text) > SIZE_MAX:
        raise MalformedPayment(f"a text of the scheme has at most {SIZE_MAX} characters, this one has {len(text)}")
    return parse_object(from_base64url(text))


def parse_object(data: bytes) -> dict[str, Any]:
    """Return a JSON object, and refuse what could be read in two ways or not be written again."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_refuse_twice)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # half a surrogate pair can be read, but not written
    except (ValueError, RecursionError) as error:
        raise MalformedPayment("this is not JSON in UTF-8 that names each field once") from error
    if not isinstance(value, dict):
        raise MalformedPayment("a JSON object was expected")
    if _depth(value) > DEPTH_MAX:
        raise MalformedPayment(f"a JSON object may nest {DEPTH_MAX} deep")
    return value


def body_digest(body: bytes) -> str:
    """Return the digest of a request's body, as RFC 9530 writes it."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"


def is_digest_of(text: str, body: bytes) -> bool:
    """Whether a text has a SHA-256 digest of this body, with colons or without; of other kinds none is looked at."""
    shown = [_DIGEST.fullmatch(part.strip()) for part in text.split(",")]
    found = [match[2] for match in shown if match]
    right = base64.b64encode(hashlib.sha256(body).digest()).decode("ascii")
    return bool(found) and all(hmac.compare_digest(digest, right) for digest in found)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a field is named twice")
    return value


def _depth(value: Any) -> int:
    """Return how deep a value nests; it was read by the interpreter's own recursion, so that ends."""
    depth, level = 0, [value]
    while level and depth <= DEPTH_MAX:
        inner = [
            list(item.values()) if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)
        ]
        level = [item for items in inner for item in items]
        depth += bool(inner)
    return depth
