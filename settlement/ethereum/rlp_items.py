"""Recursive length prefixes (RLP): `encode_item` and `decode_item` are inverse to each other.

What is not canonical is refused. No library reads it: what validators take must not depend on which release of one they
have. Source: Ethereum yellow paper, appendix B.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from tallystick.channels.errors import InvalidInput

Item: TypeAlias = "bytes | int | Sequence[Item]"
"""What can be written: an integer from 0 on stands for its bytes, without leading zeros."""


DEPTH_MAX = 32
"""Lists within lists: transactions and proofs have three."""


def encode_item(item: Item) -> bytes:
    """Return the one encoding of an item; raise InvalidInput for a negative number."""
    if isinstance(item, int):
        if item < 0:
            raise InvalidInput(f"only numbers from 0 on can be written, not {item}")
        item = item.to_bytes((item.bit_length() + 7) // 8, "big")
    if isinstance(item, bytes):
        return item if len(item) == 1 and item < b"\x80" else _header(len(item), 0x80) + item
    return list_header(payload := b"".join(map(encode_item, item))) + payload


def list_header(payload: bytes) -> bytes:
    """Return what stands before the items of a list."""
    return _header(len(payload), 0xC0)


def decode_item(raw: bytes) -> Any:
    """Return bytes, or a list of such; raise InvalidInput for all that is not the encoding of one item."""
    item, end = _read(raw, 0, len(raw), DEPTH_MAX)
    if end != len(raw):
        raise _uncanonical("there is more after it")
    return item


def _read(raw: bytes, at: int, end: int, depth: int) -> tuple[Any, int]:
    """Return the item that begins there, and where it ends."""
    start, stop, is_list = _extent(raw, at, end)
    if not is_list:
        return raw[start:stop], stop
    if not depth:
        raise _uncanonical(f"its lists are more than {DEPTH_MAX} deep")
    items = []
    while start < stop:
        item, start = _read(raw, start, stop, depth - 1)
        items.append(item)
    return items, stop


def _extent(raw: bytes, at: int, end: int) -> tuple[int, int, bool]:
    """Return where the payload of the item that begins there begins and ends, and whether it is a list."""
    if at >= end:
        raise _uncanonical("it ends early")
    first, start = raw[at], at + 1
    if first < 0x80:
        return at, start, False
    is_list = first >= 0xC0
    size = first - (0xC0 if is_list else 0x80)
    if size > 55:
        length = raw[start : start + size - 55]
        start += size - 55
        size = int.from_bytes(length, "big")
        if length[:1] == b"\0" or size <= 55:
            raise _uncanonical("a length is longer than it need be")
    stop = start + size
    if stop > end:
        raise _uncanonical("it ends early")
    if not is_list and size == 1 and raw[start] < 0x80:
        raise _uncanonical("a byte below 128 stands for itself")
    return start, stop, is_list


def _uncanonical(why: str) -> InvalidInput:
    return InvalidInput(f"it is no canonical RLP: {why}")


def _header(size: int, base: int) -> bytes:
    if size <= 55:
        return bytes([base + size])
    size_of = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([base + 55 + len(size_of)]) + size_of
