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
from tallystick.settlement.ethereum.abi_kinds import _members, read_kinds, write_kinds
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
    "bytes": b"\x01" * 33,
    "string": "tally",
    "(bytes32,address[])[]": ((b"\xfe" * 32, (Address(b"\xad" * 20),)),),
}


def test_values_are_written_and_read_without_eth_abi() -> None:
    program = (
        "import sys; from tallystick.settlement.ethereum.abi_values import decode_values, encode_values\n"
        f"one = {ONE_OF_EACH!r}; data = encode_values(list(one), list(one.values()))\n"
        "assert decode_values(tuple(one), data) == tuple(one.values()), data\n"
        "print(*(name for name in ('eth_abi', 'eth_utils', 'pydantic', 'rlp') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-Ic", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("\n", "")


PLAIN: dict[str, st.SearchStrategy[Any]] = {
    **{f"uint{bits}": st.integers(0, 2**bits - 1) for bits in (8, 64, 128, 256)},
    "bool": st.booleans(),
    "address": st.binary(min_size=20, max_size=20).map(Address),
    "bytes32": st.binary(min_size=32, max_size=32),
    "bytes": st.binary(max_size=70),
    "string": st.text(max_size=20),
}


def of_kind(kind: str) -> st.SearchStrategy[Any]:
    """Values of a type, as they are read."""
    if kind.endswith("[]"):
        return st.lists(of_kind(kind[:-2]), max_size=3).map(tuple)
    return st.tuples(*map(of_kind, _members(kind[1:-1]))) if kind[0] == "(" else PLAIN[kind]


KINDS = st.recursive(
    st.sampled_from(sorted(PLAIN)),
    lambda inner: (
        inner.map("{}[]".format) | st.lists(inner, min_size=1, max_size=3).map(lambda each: f"({','.join(each)})")
    ),
    max_leaves=4,
)
SHAPES = st.lists(KINDS, min_size=1, max_size=4).map(tuple)


@given(st.data())
@settings(deadline=None)
def test_lists_and_strings_are_written_and_read_as_eth_abi_does_it(data: st.DataObject) -> None:
    types = data.draw(SHAPES)
    values = data.draw(st.tuples(*map(of_kind, types)))
    written = write_kinds(types, values)
    assert written == encode_values(types, values) == eth_abi.encode(types, tuple(map(theirs, types, values)))
    assert read_kinds(types, written) == decode_values(types, written) == values
    assert tuple(map(theirs, types, values)) == eth_abi.decode(types, written)


def theirs(kind: str, value: Any) -> Any:
    """Return a value as `eth_abi` has it: addresses as text."""
    if kind.endswith("[]"):
        return tuple(theirs(kind[:-2], each) for each in value)
    if kind[0] == "(":
        return tuple(map(theirs, _members(kind[1:-1]), value))
    return f"0x{value.hex()}" if kind == "address" else value


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_what_is_read_is_what_would_be_written_to_the_byte_and_all_else_is_refused(data: st.DataObject) -> None:
    types = data.draw(SHAPES)
    written = bytearray(write_kinds(types, data.draw(st.tuples(*map(of_kind, types)))))
    at = data.draw(st.integers(0, len(written)))
    match data.draw(st.sampled_from(("byte", "word", "cut", "more"))):
        case "byte" if at < len(written):
            written[at] = data.draw(st.integers(0, 255))
        case "word":
            word = data.draw(st.sampled_from([0, 1, 31, 32, 33, 64, 96, 2**64, 2**255, 2**256 - 32]))
            written[at // 32 * 32 : at // 32 * 32 + 32] = word.to_bytes(32, "big")
        case "cut":
            del written[at:]
        case _:
            written[at:at] = data.draw(st.sampled_from((b"\0", bytes(32), b"\1" * 32)))
    try:
        values = read_kinds(types, bytes(written))
    except InvalidInput:
        return
    assert write_kinds(types, values) == written
    assert eth_abi.decode(types, bytes(written)) == tuple(map(theirs, types, values))


WORD = [number.to_bytes(32, "big") for number in range(200)]
OTHERWISE = {
    "a byte behind the last": (("bytes",), WORD[32] + WORD[1] + b"a".ljust(32, b"\0") + b"\0"),
    "a word behind the last": (("uint64[]",), WORD[32] + WORD[1] + WORD[7] + WORD[0]),
    "padding that is not zero": (("bytes",), WORD[32] + WORD[1] + b"ab".ljust(32, b"\0")),
    "padding that is not there": (("bytes",), WORD[32] + WORD[1] + b"a"),
    "a gap before it": (("bytes",), WORD[64] + WORD[0] + WORD[1] + b"a".ljust(32, b"\0")),
    "two that are one": (("bytes", "bytes"), WORD[64] + WORD[64] + WORD[1] + b"a".ljust(32, b"\0")),
    "two in the other order": (("bytes", "bytes"), WORD[96] + WORD[64] + WORD[0] + WORD[0]),
    "an offset into the heads": (("bytes",), WORD[0]),
    "a text that is not UTF-8": (("string",), WORD[32] + WORD[1] + b"\xff".ljust(32, b"\0")),
}


@pytest.mark.parametrize("what", sorted(OTHERWISE))
def test_what_is_not_written_in_the_one_way_is_refused(what: str) -> None:
    types, data = OTHERWISE[what]
    with pytest.raises(InvalidInput):
        decode_values(types, data)


@pytest.mark.parametrize("types", [("bytes[]",), ("uint64[]",), ("(bytes,bytes)[]",)])
def test_a_list_of_more_than_there_is_room_for_is_refused_before_anything_is_made(types: tuple[str, ...]) -> None:
    for count in (4, 2**40, 2**256 - 1):
        with pytest.raises(InvalidInput, match="no room"):
            decode_values(types, WORD[32] + count.to_bytes(32, "big") + WORD[0] + WORD[0] + WORD[0])


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("uint64", 2**64),
        ("uint64", -1),
        ("uint64", True),
        ("bytes", "a"),
        ("string", b"a"),
        ("bool", 1),
        ("address", "0x" + "ad" * 20),
        ("bytes32", b"a"),
        ("uint8[]", b"ab"),
        ("(uint8,uint8)", (1,)),
    ],
)
def test_what_is_not_plainly_of_its_type_is_not_written(kind: str, value: object) -> None:
    with pytest.raises(InvalidInput):
        write_kinds([kind], [value])


@pytest.mark.parametrize("kind", ["uint7", "uint264", "int8", "bytes3", "uint8[2]", ""])
def test_types_that_no_call_has_are_not_known(kind: str) -> None:
    with pytest.raises(ValueError, match="not read or written"):
        read_kinds((kind,), bytes(64))
