"""Items as RLP: what we write is what the package `rlp` writes, and all that it refuses is refused in a sentence."""

from __future__ import annotations

from typing import Any

import pytest
import rlp
from hypothesis import example, given
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidInput
from tallystick.settlement.ethereum.rlp_items import DEPTH_MAX, decode_item, encode_item, list_header

ATOMS = st.binary(max_size=80) | st.integers(0, 2**256)
ITEMS = st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=6), max_leaves=12)


@given(ITEMS)
@example(b"x" * 55)
@example(b"x" * 56)
@example(b"x" * 70_000)
@example([b"x" * 54])
@example([b"x" * 55])
@example([[]] * 300)
def test_every_item_is_written_as_rlp_writes_it_and_read_back(item: Any) -> None:
    raw = encode_item(item)
    assert raw == rlp.encode(item)
    assert encode_item(decode_item(raw)) == raw


@pytest.mark.parametrize(
    "raw", [b"", b"\x81\x05", b"\xb8\x01\x80", b"\xc2\x80", b"\x80\x80", b"\xf8\x01\x80", b"\x82\x01"]
)
def test_what_is_no_canonical_rlp_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput, match="no canonical RLP"):
        decode_item(raw)


@given(ITEMS, st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4), st.integers(0, 5), st.binary())
@example([], [], 0, b"\xf8\x38" + b"\x01" * 56)
@example([], [], 0, b"\xb8\x37" + b"\x01" * 55)
@example([], [], 0, b"\xb9\x00\x38" + b"\x01" * 56)
@example([], [], 0, b"\xbf" + b"\xff" * 8)
def test_what_rlp_takes_is_taken_and_nothing_else(
    item: Any, changes: list[tuple[int, int]], cut: int, junk: bytes
) -> None:
    raw = bytearray(encode_item(item))
    for at, byte in changes:
        raw[at % len(raw)] = byte
    for data in (bytes(raw[: len(raw) - cut]), bytes(raw) + junk, junk):
        try:
            expected = rlp.decode(data)
        except (rlp.exceptions.RLPException, ValueError, IndexError):
            with pytest.raises(InvalidInput, match="no canonical RLP"):
                decode_item(data)
        else:
            assert decode_item(data) == expected


def test_lists_are_so_deep_at_most_that_no_stack_overflows() -> None:
    deep: Any = b""
    for _ in range(DEPTH_MAX):
        deep = [deep]
    assert decode_item(encode_item(deep)) == deep
    for raw in (encode_item([deep]), b"\xfb" + bytes(4)):
        with pytest.raises(InvalidInput, match="no canonical RLP"):
            decode_item(raw)
    nested = b""
    for _ in range(2_000):
        nested = list_header(nested) + nested
    with pytest.raises(InvalidInput, match="deep"):
        decode_item(nested)


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(InvalidInput, match="from 0 on"):
        encode_item([-1])
