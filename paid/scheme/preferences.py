"""`Accept-Payment`: what a client can pay with, in its order: `tallystick/charge, x402/*;q=0.5, */session;q=0`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from tallystick.paid.scheme.encoding import SIZE_MAX

Offered = TypeVar("Offered")

FULL = 1_000
"""The weight of what has none, in thousandths."""

_ENTRY = re.compile(r"(\*|[a-z][a-z0-9:_-]*)[ \t]*/[ \t]*(\*|[a-z0-9-]+)")
_WEIGHT = re.compile(r"q[ \t]*=[ \t]*(?:(0)(?:\.(\d{0,3}))?|1(?:\.0{0,3})?)", re.IGNORECASE)


class PaymentPreference(msgspec.Struct, frozen=True):
    """That a client can pay by a method and an intent, `*` for any."""

    method: str
    intent: str
    weight: int = FULL
    """From 0, never, to 1000, in thousandths."""

    def __str__(self) -> str:
        return f"{self.method}/{self.intent}" + ("" if self.weight == FULL else f";q={self.weight / FULL:.3f}")


def parse_preferences(values: Iterable[str]) -> list[PaymentPreference]:
    """Return the entries of the values of `Accept-Payment`; those that cannot be read are left out."""
    entries = [part for value in values if len(value) <= SIZE_MAX for part in value.split(",")]
    return [preference for part in entries if (preference := _read(part))]


def write_preferences(preferences: Sequence[PaymentPreference]) -> str:
    """Return the value of `Accept-Payment`."""
    return ", ".join(map(str, preferences))


def rank(offers: Iterable[tuple[str, str, Offered]], preferences: Sequence[PaymentPreference]) -> list[Offered]:
    """Return the offers, each (method, intent, offer), that a client takes, what it likes best first.

    The closest entry counts for each: a method by its name before `*`. Without any entry all are taken, as they come.
    """
    weighed = [(_weight(method, intent, preferences), offer) for method, intent, offer in offers]
    return [offer for weight, offer in sorted(weighed, key=lambda pair: -pair[0]) if weight]


def _weight(method: str, intent: str, preferences: Sequence[PaymentPreference]) -> int:
    closest = [
        ((entry.method != "*") + (entry.intent != "*"), entry.weight)
        for entry in preferences
        if entry.method in ("*", method) and entry.intent in ("*", intent)
    ]
    return max(closest)[1] if closest else 0 if preferences else FULL


def _read(part: str) -> PaymentPreference | None:
    name, *parameters = (text.strip(" \t") for text in part.split(";"))
    entry = _ENTRY.fullmatch(name)
    if entry is None:
        return None
    weight = FULL
    for parameter in parameters:
        if not parameter.lower().startswith("q"):
            continue
        read = _WEIGHT.fullmatch(parameter)
        if read is None:
            return None
        weight = int((read[2] or "").ljust(3, "0")) if read[1] else FULL
    return PaymentPreference(entry[1], entry[2], weight)
