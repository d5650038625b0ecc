"""Type-length-value records as BOLT 1 has them: the encoding of onion payloads, failures and invoices.

A stream is a sequence of records: type (BigSize), length (BigSize), value. Rules, all of them checked on reading:

- types strictly increase, so no type comes twice and a set of records has one encoding;
- BigSize and truncated integers are minimal, so a number has one encoding;
- it is OK to be odd: an unknown odd type is skipped, an unknown even one is refused.

What is wrong raises `MalformedMessage`; callers turn it into their own error.
Source: BOLT 1, "Type-Length-Value Format".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.limits import UINT64_MAX

UINT64_BYTES = 8
UINT128_BYTES = 16
"""Longest truncated integers: times and bits, and amounts."""

_WIDTHS = {0xFD: 2, 0xFE: 4, 0xFF: 8}


def encode_bigsize(value: int) -> bytes:
    """Return the one encoding of an integer below 2**64: 1, 3, 5 or 9 bytes, big-endian."""
    if not 0 <= value <= UINT64_MAX:
        raise InvalidInput(f"a BigSize is from 0 to 2**64 - 1, not {value}")
    if value < 0xFD:
        return value.to_bytes(1, "big")
    for marker, width in _WIDTHS.items():
        if value < 1 << 8 * width:
            return bytes([marker]) + value.to_bytes(width, "big")
    raise AssertionError("unreachable: the value has at most 8 bytes")


def read_bigsize(data: bytes, offset: int) -> tuple[int, int]:
    """Return the integer at `offset` and the offset after it. Raise MalformedMessage if it is cut off or too long."""
    if offset >= len(data):
        raise MalformedMessage("a number is cut off")
    first = data[offset]
    if first not in _WIDTHS:
        return first, offset + 1
    end = offset + 1 + _WIDTHS[first]
    value = int.from_bytes(data[offset + 1 : end], "big")
    if end > len(data):
        raise MalformedMessage("a number is cut off")
    if len(encode_bigsize(value)) != end - offset:
        raise MalformedMessage(f"the number {value} is not encoded in the fewest bytes")
    return value, end


def encode_integer(value: int) -> bytes:
    """Return a truncated integer: big-endian without leading zeros; 0 is empty."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def decode_integer(data: bytes, size: int) -> int:
    """Return a truncated integer of at most `size` bytes; raise MalformedMessage if it is longer or not minimal."""
    if len(data) > size:
        raise MalformedMessage(f"an integer of {len(data)} bytes stands where {size} are the most")
    if data[:1] == b"\0":
        raise MalformedMessage("an integer has leading zeros")
    return int.from_bytes(data, "big")


def encode_records(records: Mapping[int, bytes]) -> bytes:
    """Return the stream of these records, in ascending order of type."""
    return b"".join(
        encode_bigsize(kind) + encode_bigsize(len(records[kind])) + records[kind] for kind in sorted(records)
    )


def decode_records(data: bytes, known: Collection[int]) -> dict[int, bytes]:
    """Return the records of `known` types. Raise MalformedMessage for any other even type, or a broken stream."""
    records: dict[int, bytes] = {}
    offset, before = 0, -1
    while offset < len(data):
        kind, offset = read_bigsize(data, offset)
        size, offset = read_bigsize(data, offset)
        if kind <= before:
            raise MalformedMessage(f"record {kind} comes after record {before}; types must increase")
        if size > len(data) - offset:
            raise MalformedMessage(f"record {kind} says that it has {size} bytes, but {len(data) - offset} are left")
        if kind in known:
            records[kind] = data[offset : offset + size]
        elif kind % 2 == 0:
            raise MalformedMessage(f"record {kind} is unknown here, and even types must be understood")
        offset, before = offset + size, kind
    return records
