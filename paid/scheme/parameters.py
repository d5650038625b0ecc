"""Reads and writes `WWW-Authenticate`: challenges of several schemes, in one value or in many (RFC 9110, 11.6.1).

A value is cut at those commas that stand in no quoted text. Each piece is a parameter, or begins a challenge with the
name of its scheme. Where a piece is neither, only the challenge that it is in is lost: reading goes on where the next
one of the scheme "Payment" begins. Characters above Latin-1 stand as `\\uXXXX` in quoted text, as the SDKs write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tallystick.channels.errors import InvalidInput
from tallystick.paid.scheme.encoding import SIZE_MAX

CHALLENGES_MAX = 32
"""Challenges that are read of one answer; more are left aside."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PIECE = re.compile(r'[^,"]*(?:"(?:[^"\\]|\\.)*"[^,"]*)*', re.DOTALL)
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))', re.DOTALL)
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+(.*))?", re.DOTALL)
_NEXT = re.compile(r",[ \t]*payment[ \t]+", re.IGNORECASE)
_ESCAPE = re.compile(r"((?:\\u[0-9A-Fa-f]{4})+)|\\(.)", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class _Begun:
    """A challenge while it is read: `parameters` is None once it broke the grammar, or if it is of another scheme."""

    def __init__(self, scheme: str) -> None:
        self.parameters: dict[str, str] | None = {} if scheme.lower() == "payment" else None

    def add(self, parameter: re.Match[str]) -> None:
        name = parameter[1].lower()
        if self.parameters is not None and name not in self.parameters:
            self.parameters[name] = parameter[3] if parameter[2] is None else _unquoted(parameter[2])
        else:  # a name that stands twice could be read in two ways
            self.spoil()

    def spoil(self) -> None:
        """Leave it out: it breaks the grammar."""
        self.parameters = None


def read_payments(values: Iterable[str]) -> list[dict[str, str]]:
    """Return the parameters of each "Payment" challenge in the values of a header, in their order.

    Names are in small letters. Challenges that break the grammar or name a parameter twice are left out, and so are
    values of more than 64 KiB.
    """
    found: list[_Begun] = []
    for value in values:
        if len(value) <= SIZE_MAX:
            _read_value(value, found)
    read = [begun.parameters for begun in found if begun.parameters]
    return read[:CHALLENGES_MAX]


def _read_value(value: str, found: list[_Begun]) -> None:
    at, current, repairs = 0, None, 0
    while at < len(value):
        end = _end_of_piece(value, at)
        piece = value[at:end].strip(" \t\r\n")
        sound = value[end : end + 1] in ("", ",")  # else a quoted text has no end
        if sound and not piece:
            pass
        elif sound and (parameter := _PARAMETER.fullmatch(piece)):
            if current is not None:
                current.add(parameter)
        elif sound and (scheme := _SCHEME.fullmatch(piece)):
            current = _Begun(scheme[1])
            found.append(current)
            if parameter := _PARAMETER.fullmatch(scheme[2] or ""):
                current.add(parameter)
            elif scheme[2]:  # `token68`, or what breaks the grammar: neither is a challenge of this scheme
                current.spoil()
        else:
            if current is not None:
                current.spoil()
            current, repairs = None, repairs + 1
            after = _NEXT.search(value, at)
            if repairs > CHALLENGES_MAX or (after is None and not sound):
                return
            if after and (after.start() < end or not sound):
                end = after.start()
        at = end + 1


def _end_of_piece(value: str, at: int) -> int:
    match = _PIECE.match(value, at)
    return match.end() if match else at


def write_payment(parameters: dict[str, str]) -> str:
    """Return one "Payment" challenge as a header's value. Raise InvalidInput for a line break or another control."""
    return "Payment " + ", ".join(f'{name}="{_quoted(text)}"' for name, text in parameters.items())


def _quoted(text: str) -> str:
    if _CONTROL.search(text):
        raise InvalidInput("a header's value has no line breaks and no other control characters")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(letter if letter <= "\xff" else _escaped(letter) for letter in escaped)


def _escaped(letter: str) -> str:
    try:
        units = letter.encode("utf-16-be").hex()
    except UnicodeEncodeError:
        raise InvalidInput("half of a surrogate pair is no text") from None
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _unquoted(text: str) -> str:
    return _ESCAPE.sub(_plain, text)


def _plain(match: re.Match[str]) -> str:
    if match[1] is None:
        return match[2]
    return bytes.fromhex(match[1].replace("\\u", "")).decode("utf-16-be", "replace")
