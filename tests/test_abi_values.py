"""Values as the ABI writes them: those of a word each are written and read as `eth_abi` does it, and without it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import eth_abi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.ethereum.abi_values import decode_values, encode_values

WORDS = st.sampled_from(("uint8", "uint64", "uint128", "uint256", "bool", "address", "bytes32"))
VALUES = (
    st.integers(0, 300) | st.sampled_from([1 << bits for bits in (8, 64, 128, 160, 255)]) | st.integers(0, 2**256 - 1)
)


@given(st.lists(WORDS, max_size=6), st.lists(VALUES, max_size=7), st.binary(max_size=3))
@settings(deadline=None)
def test_values_of_a_word_each_are_read_as_eth_abi_reads_them(kinds: list[str], values: list[int], rest: bytes) -> None:
    data = b"".join(value.to_bytes(32, "big") for value in values) + rest
    try:
        found = eth_abi.decode(kinds, data)
    except eth_abi.exceptions.DecodingError:
        with pytest.raises(InvalidInput):
            decode_values(tuple(kinds), data)
    else:
        told = zip(kinds, found, strict=True)
        expected = tuple(bytes.fromhex(value[2:]) if kind == "address" else value for kind, value in told)
        assert decode_values(tuple(kinds), data) == expected


@given(st.lists(st.tuples(WORDS, VALUES | st.booleans() | st.binary(max_size=33) | st.none()), max_size=4))
@settings(deadline=None)
def test_values_of_a_word_each_are_written_as_eth_abi_writes_them(pairs: list[tuple[str, Any]]) -> None:
    kinds, values = [kind for kind, _ in pairs], [value for _, value in pairs]
    try:
        expected = eth_abi.encode(kinds, values)
    except eth_abi.exceptions.EncodingError:
        with pytest.raises(InvalidInput):
            encode_values(kinds, values)
    else:
        assert encode_values(kinds, values) == expected


ONE_OF_EACH = {
    **{f"uint{bits}": 2**bits - 1 for bits in (8, 64, 128, 256)},
    "bool": True,
    "address": Address(b"\xad" * 20),
    "bytes32": b"\xfe" * 32,
}


def test_words_are_written_and_read_without_eth_abi() -> None:
    program = (
        "import sys; from tallystick.settlement.ethereum.abi_values import decode_values, encode_values\n"
        f"one = {ONE_OF_EACH!r}; data = encode_values(list(one), list(one.values()))\n"
        "assert decode_values(tuple(one), data) == tuple(one.values()), data\n"
        "print(*(name for name in ('eth_abi', 'eth_utils', 'pydantic', 'rlp') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-Ic", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("\n", "")
