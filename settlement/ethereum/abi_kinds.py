"""Kinds of values that Solidity's ABI knows: how each is written, and read where it is written in the one right way.

Each value has one encoding here, the one that compilers and libraries write: what a list or string of bytes holds
follows directly after what comes before it, in order, padded with zeros, with nothing behind the last. All else is
refused: an offset that points anywhere else, back or beyond a gap, padding that is not zero, bytes left over. So no two
values share their bytes, reading takes time in proportion to the data, and what is read and written again is the same.
Validators agree on blocks by this: no library's release decides what a call is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import Address

_WORD = 32
_LIST = "[]"


class Kind(NamedTuple):
    """How values of one type are written and read."""

    size: int | None
    """Bytes that each takes; None: as many as it takes, behind an offset."""
    read: Callable[[bytes, int], tuple[Any, int]]
    """Returns the value that begins there, and where it ends; raises InvalidInput."""
    write: Callable[[Any], bytes]
    """Raises InvalidInput if it is no such value."""


def read_kinds(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    """Return the values in data, addresses as their 20 bytes; raise InvalidInput if these are not exactly they."""
    values, end = _read_all([kind_of(each) for each in types], data, 0)
    if end != len(data):
        raise InvalidInput(f"there are {len(data)} bytes, of which {end} are read")
    return values


def write_kinds(types: Sequence[str], values: Sequence[Any]) -> bytes:
    """Return `values` as data; raise InvalidInput if they are not of these types."""
    return _write_all([kind_of(each) for each in types], values)


@cache
def kind_of(type: str) -> Kind:
    """Return a type's kind; raise ValueError for one that is not known here."""
    if type.endswith(_LIST):
        return _list(kind_of(type.removesuffix(_LIST)))
    if type.startswith("("):
        return _tuple([kind_of(each) for each in _members(type[1:-1])])
    if type in ("bytes", "string"):
        return _text() if type == "string" else Kind(None, _read_bytes, _write_bytes)
    if type == "bool":
        return Kind(_WORD, _read_bool, _write_bool)
    if type == "address":
        return Kind(_WORD, _read_address, lambda value: _sized(value, 20).rjust(_WORD, b"\0"))
    if type == "bytes32":
        return Kind(_WORD, lambda data, at: (_word(data, at), at + _WORD), lambda value: _sized(value, _WORD))
    number = re.fullmatch(r"uint(\d+)", type)
    if number is None or int(number[1]) % 8 or not 0 < int(number[1]) <= 256:
        raise ValueError(f"values of the type {type!r} are not read or written here")
    return _number(int(number[1]))


def _members(types: str) -> list[str]:
    """Return the types between the commas that are in no inner brackets."""
    found, depth = [""], 0
    for each in types:
        depth += (each == "(") - (each == ")")
        if each == "," and not depth:
            found.append("")
        else:
            found[-1] += each
    return found


def _read_all(kinds: Sequence[Kind], data: bytes, at: int) -> tuple[tuple[Any, ...], int]:
    """Return the values that begin there, and where they end: first what has a size and offsets, then the others."""
    tail = at + sum(kind.size or _WORD for kind in kinds)
    values, head, start = [], at, at
    for kind in kinds:
        if kind.size is not None:
            value, head = kind.read(data, head)
        else:
            offset = _count(data, head)
            if offset != tail - start:
                raise InvalidInput(f"a value is said to be {offset} bytes further on; it is due after {tail - start}")
            head += _WORD
            value, tail = kind.read(data, tail)
        values.append(value)
    return tuple(values), tail


def _write_all(kinds: Sequence[Kind], values: Any) -> bytes:
    if not isinstance(values, (list, tuple)) or len(values) != len(kinds):
        raise InvalidInput(f"{len(kinds)} values are to be written, and these are others")
    end = sum(kind.size or _WORD for kind in kinds)
    heads, tails = [], []
    for kind, value in zip(kinds, values, strict=True):
        written = kind.write(value)
        if kind.size is None:
            heads.append(end.to_bytes(_WORD, "big"))
            tails.append(written)
            end += len(written)
        else:
            heads.append(written)
    return b"".join(heads + tails)


def _tuple(kinds: Sequence[Kind]) -> Kind:
    sizes = [kind.size for kind in kinds]
    size = None if None in sizes else sum(each for each in sizes if each is not None)
    return Kind(size, lambda data, at: _read_all(kinds, data, at), lambda values: _write_all(kinds, values))


def _list(kind: Kind) -> Kind:
    least = kind.size or _WORD

    def read(data: bytes, at: int) -> tuple[Any, int]:
        count = _count(data, at)
        if count * least > len(data) - at - _WORD:  # before anything is made for each
            raise InvalidInput(f"a list of {count} has no room in {len(data)} bytes")
        return _read_all([kind] * count, data, at + _WORD)

    def write(values: Any) -> bytes:
        if not isinstance(values, (list, tuple)):
            raise InvalidInput(f"{values!r} is no list")
        return len(values).to_bytes(_WORD, "big") + _write_all([kind] * len(values), values)

    return Kind(None, read, write)


def _text() -> Kind:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        written, end = _read_bytes(data, at)
        try:
            return written.decode(), end
        except UnicodeDecodeError as error:
            raise InvalidInput("a text is not UTF-8") from error

    def write(value: Any) -> bytes:
        if not isinstance(value, str):
            raise InvalidInput(f"{value!r} is no text")
        return _write_bytes(value.encode())

    return Kind(None, read, write)


def _number(bits: int) -> Kind:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        value = _count(data, at)
        if value >> bits:
            raise InvalidInput(f"{value} has more than {bits} bits")
        return value, at + _WORD

    def write(value: Any) -> bytes:
        if not isinstance(value, int) or isinstance(value, bool) or value >> bits:  # -1 >> 8 is -1
            raise InvalidInput(f"{value!r} is no number of {bits} bits")
        return value.to_bytes(_WORD, "big")

    return Kind(_WORD, read, write)


def _read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    length = _count(data, at)
    start = at + _WORD
    end = start + length
    padded = end + -length % _WORD
    if padded > len(data):
        raise InvalidInput(f"a string of {length} bytes has no room in {len(data)}")
    if any(data[end:padded]):
        raise InvalidInput("what fills up a string's last word is not zero")
    return data[start:end], padded


def _write_bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise InvalidInput(f"{value!r} is no string of bytes")
    return len(value).to_bytes(_WORD, "big") + value + bytes(-len(value) % _WORD)


def _read_bool(data: bytes, at: int) -> tuple[bool, int]:
    value = _count(data, at)
    if value > 1:
        raise InvalidInput(f"{value} is neither true nor false")
    return bool(value), at + _WORD


def _write_bool(value: Any) -> bytes:
    if not isinstance(value, bool):
        raise InvalidInput(f"{value!r} is neither true nor false")
    return value.to_bytes(_WORD, "big")


def _read_address(data: bytes, at: int) -> tuple[Address, int]:
    word = _word(data, at)
    if any(word[:12]):
        raise InvalidInput(f"0x{word.hex()} is no address")
    return Address(word[12:]), at + _WORD


def _sized(value: Any, size: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise InvalidInput(f"{value!r} is not {size} bytes")
    return bytes(value)


def _word(data: bytes, at: int) -> bytes:
    word = data[at : at + _WORD]
    if len(word) < _WORD:
        raise InvalidInput(f"Tried to read {at + _WORD} bytes, only got {len(data)} bytes")
    return word


def _count(data: bytes, at: int) -> int:
    return int.from_bytes(_word(data, at), "big")
