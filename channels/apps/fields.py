"""How rules read and write bytes: fields of fixed width one behind the other, numbers as big-endian without a sign."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tallystick.channels.apps.interface import Paid
from tallystick.channels.errors import InvalidInput


def split(data: bytes, *sizes: int) -> list[bytes]:
    """Return the fields of those sizes; raise InvalidInput unless they are all there is."""
    if len(data) != sum(sizes):
        raise InvalidInput(f"{len(data)} bytes are not the {sum(sizes)} that belong here")
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return [data[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def number(field: bytes) -> int:
    """Return the number in a field."""
    return int.from_bytes(field, "big")


def packed(*fields: tuple[int, int]) -> bytes:
    """Return numbers as fields, each with its size in bytes; raise InvalidInput if one does not fit."""
    if not all(0 <= value < 256**size for value, size in fields):
        raise InvalidInput("a number does not fit its field")
    return b"".join(value.to_bytes(size, "big") for value, size in fields)


def given(player: int, amount: int) -> Paid:
    """Return that so much of this player's stake goes to the other, and nothing of the other one's."""
    return (amount, 0) if player == 0 else (0, amount)


def seat(field: bytes) -> int:
    """Return which player a field of one byte names; raise InvalidInput if it names none."""
    if field not in (b"\0", b"\1"):
        raise InvalidInput("a player is 0 or 1")
    return field[0]


class Words:
    """What somebody said in words, of a move or of parameters: each is taken once, and none may be left."""

    def __init__(self, words: dict[str, Any]) -> None:
        self._words = dict(words)

    def __contains__(self, name: str) -> bool:
        return name in self._words

    def number(self, name: str, most: int, least: int = 0, *, default: int | None = None) -> int:
        """Take a whole number; raise InvalidInput if it is missing (without a default), no number or out of range."""
        value = self.value(name, default)
        if type(value) is not int or not least <= value <= most:
            raise InvalidInput(f"{name} is a whole number from {least} to {most}, not {value!r}")
        return value

    def data(self, name: str, size: int) -> bytes:
        """Take bytes of that size, which may be said in hex; raise InvalidInput."""
        return self._bytes(name, self.value(name), size)

    def several(self, name: str, size: int) -> list[bytes]:
        """Take several byte strings of that size; raise InvalidInput."""
        value = self.value(name)
        if isinstance(value, str):
            value = value.split(",")
        if not isinstance(value, Iterable) or isinstance(value, bytes | bytearray):
            raise InvalidInput(f"{name} is a list")
        return [self._bytes(name, each, size) for each in value]

    def choice(self, name: str, *names: str) -> int:
        """Take one of these words, and return its place among them; raise InvalidInput."""
        value = self.value(name)
        if value not in names:
            raise InvalidInput(f"{name} is one of {', '.join(names)}, not {value!r}")
        return names.index(value)

    def end(self) -> None:
        """Raise InvalidInput if anything is left."""
        if self._words:
            raise InvalidInput(f"there is no {', '.join(sorted(self._words))} here")

    def value(self, name: str, default: Any = None) -> Any:
        """Take what was said, whatever it is; raise InvalidInput if it is missing."""
        value = self._words.pop(name, default)
        if value is None:
            raise InvalidInput(f"say {name}=…")
        return value

    def _bytes(self, name: str, value: Any, size: int) -> bytes:
        if isinstance(value, str):
            try:
                value = bytes.fromhex(value.removeprefix("0x"))
            except ValueError as error:
                raise InvalidInput(f"{name} is not hex") from error
        if not isinstance(value, bytes) or len(value) != size:
            raise InvalidInput(f"{name} is {size} bytes, or {2 * size} hex digits")
        return value
