"""The fields of a signed transaction in 2 µs instead of 27: one regular expression that takes canonical RLP only.

It takes a part of what `transactions` takes, and finds the same in it: a transaction of type 2 with twelve fields, a
recipient, no access list, and numbers without leading zeros that fit. For all others it says nothing (None): they go
the long way through an RLP decoder, which says what is wrong with them. A property test keeps both equal.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from tallystick.channels.protocol.keys import keccak
from tallystick.settlement.ethereum.rlp_items import list_header

TYPE = b"\x02"
"""Of the transactions that the ledger takes: EIP-1559's."""


class TransactionFields(msgspec.Struct, frozen=True, gc=False):
    """What is in a transaction, and what its sender signed."""

    chain: int
    nonce: int
    priority: int
    """The most per unit of gas above the base fee."""
    fee_max: int
    """The most per unit of gas in all."""
    gas: int
    to: bytes
    value: int
    data: bytes
    parity: int
    signature: bytes
    """r and s, 32 bytes each."""
    digest: bytes


def _number(bytes_max: int) -> bytes:
    """Return what matches a canonical number: its bytes, behind their count unless it is one below 128."""
    longer = b"|".join(
        b"%s[\x01-\xff].{%d}" % (re.escape(bytes([0x80 + size])), size - 1) for size in range(2, bytes_max + 1)
    )
    return b"([\x01-\x80]|\x81[\x80-\xff]|" + longer + b")"


_WORD = b"(\xa0[\x01-\xff].{31}|" + _number(31)[1:]
_HEAD = re.compile(b"".join(map(_number, (8, 8, 16, 16, 8))) + b"\x94(.{20})" + _number(16), re.DOTALL)
"""Chain, nonce, both fees, gas, recipient and value."""
_PLAIN = re.compile(
    b"\x02\xf8(.)%s\x80\xc0([\x01\x80])\xa0([\x01-\xff].{31})\xa0([\x01-\xff].{31})" % _HEAD.pattern, re.DOTALL
)
"""A whole transaction without data, whose r and s have no zero in front: nearly all transfers of coins."""
_HEADERS = tuple(list_header(bytes(size)) for size in range(256))
_TAIL = re.compile(b"\xc0([\x01\x80])" + _WORD + _WORD, re.DOTALL)
"""An empty access list, parity, r and s."""


def read_fields(raw: bytes) -> TransactionFields | None:
    """Return the fields of a transaction that is as most are, None for any other."""
    plain = _PLAIN.fullmatch(raw)
    if plain is not None:
        size, chain, nonce, priority, fee_max, gas, to, value, parity, r, s = plain.groups()
        if size[0] != len(raw) - 3:
            return None
        signed = raw[3 : plain.start(9)]
        digest = keccak(TYPE + _HEADERS[len(signed)] + signed)
        numbers = _value(chain), _value(nonce), _value(priority), _value(fee_max), _value(gas)
        return TransactionFields(*numbers, to, _value(value), b"", parity[0] & 0x7F, r + s, digest)
    start, end = _payload(raw, 1, 0xC0)
    head = _HEAD.match(raw, start)
    if head is None or raw[0] != TYPE[0] or end != len(raw):
        return None
    data, data_end = _payload(raw, head.end(), 0x80)
    tail = _TAIL.fullmatch(raw, data_end)
    if tail is None:
        return None
    chain, nonce, priority, fee_max, gas, to, value = head.groups()
    parity, r, s = tail.groups()
    signed = raw[start : data_end + 1]
    return TransactionFields(
        _value(chain),
        _value(nonce),
        _value(priority),
        _value(fee_max),
        _value(gas),
        to,
        _value(value),
        raw[data:data_end],
        parity[0] & 0x7F,
        _word(r) + _word(s),
        keccak(TYPE + list_header(signed) + signed),
    )


def _payload(raw: bytes, at: int, base: int) -> tuple[int, int]:
    """Return where the payload of the string (`base` 0x80) or list (0xC0) at `at` begins and ends.

    Of one that this module leaves to others, return where nothing is.
    """
    first = raw[at] if at < len(raw) else 0
    if first < 0x80 and base == 0x80:
        return at, at + 1
    size = first - base
    if 0 <= size <= 55:
        begin = at + 1
        if base == 0x80 and size == 1 and raw[begin : begin + 1] < b"\x80":
            return _NOWHERE
        return begin, begin + size
    begin = at + 1 + size - 55
    size_of = raw[at + 1 : begin]
    length = int.from_bytes(size_of, "big")
    if not 0 < size - 55 <= 3 or size_of[:1] == b"\0" or length < 56:
        return _NOWHERE
    return begin, begin + length


_NOWHERE = (2**40, 2**40)


@lru_cache(4_096)  # the same few, again and again
def _value(number: bytes) -> int:
    return int.from_bytes(number[1:], "big") if len(number) > 1 else number[0] & 0x7F


def _word(number: bytes) -> bytes:
    """Return a number as 32 bytes."""
    if len(number) == 33:
        return number[1:]
    return _value(number).to_bytes(32, "big")
