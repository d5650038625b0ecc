"""Recursive length prefixes (RLP): `encode_item` and `decode_item` are inverse to each other.

What we write is written here. What others wrote is read by the package `rlp`, which refuses all that is not canonical;
it is loaded when the first such item comes, in a fifth of a second. Source: Ethereum yellow paper, appendix B.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from tallystick.channels.errors import InvalidInput

Item: TypeAlias = "bytes | int | Sequence[Item]"
"""What can be written: an integer from 0 on stands for its bytes, without leading zeros."""


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
    import rlp

    try:
        return rlp.decode(raw)
    except (rlp.exceptions.RLPException, RecursionError, ValueError, IndexError) as error:
        raise InvalidInput(f"it is no canonical RLP ({error})") from error


def _header(size: int, base: int) -> bytes:
    if size <= 55:
        return bytes([base + size])
    size_of = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([base + 55 + len(size_of)]) + size_of
