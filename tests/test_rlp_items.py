"""Items as RLP: what we write is what the package `rlp` writes, and all that it refuses is refused in a sentence."""

from __future__ import annotations

from typing import Any

import pytest
import rlp
from hypothesis import example, given
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidInput
from tallystick.settlement.ethereum.rlp_items import decode_item, encode_item

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


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(InvalidInput, match="from 0 on"):
        encode_item([-1])
