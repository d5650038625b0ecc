"""What an onion tells a hop: one encoding each, and nothing unknown is overlooked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.codes import Code
from tallystick.router.errors import InvalidOnion
from tallystick.router.onion.payload import (
    HOPS_MAX,
    FinalPayload,
    ForwardPayload,
    Payload,
    decode_payload,
    encode_payload,
)
from tallystick.router.onion.sphinx import room
from tallystick.router.onion.tlv import (
    decode_integer,
    decode_records,
    encode_bigsize,
    encode_integer,
    encode_records,
    read_bigsize,
)

SECRET, CHANNEL = b"\x24" * 32, ChannelId(b"\x0c" * 32)
amounts = st.integers(1, AMOUNT_MAX)
times = st.integers(0, UINT64_MAX)
bytes32 = st.binary(min_size=32, max_size=32)
forwards = st.builds(ForwardPayload, amounts, times, bytes32.map(ChannelId))
finals = st.tuples(amounts, amounts).flatmap(
    lambda pair: st.builds(
        FinalPayload,
        st.just(min(pair)),
        times,
        bytes32,
        st.just(max(pair)),
        st.one_of(st.just(b""), bytes32),
        st.binary(max_size=256),
    )
)


@given(st.one_of(forwards, finals))
def test_what_is_written_is_read(payload: Payload) -> None:
    assert decode_payload(encode_payload(payload)) == payload


@given(st.one_of(forwards, finals), st.data())
def test_a_payload_that_is_cut_off_is_refused(payload: Payload, data: st.DataObject) -> None:
    encoded = encode_payload(payload)
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    try:
        assert encode_payload(decode_payload(cut)) == cut != encoded  # optional records at its end are gone
    except InvalidOnion as error:
        assert error.failure == Code.INVALID_ONION_PAYLOAD


@given(st.binary(max_size=80))
def test_noise_is_refused_or_is_the_encoding_of_what_was_read(noise: bytes) -> None:
    try:
        payload = decode_payload(noise)
    except InvalidOnion:
        return
    assert decode_payload(encode_payload(payload)) == payload


def test_the_bytes_of_a_payload_are_bolt_4s() -> None:
    forward = ForwardPayload(15_000, 1_500, CHANNEL)
    assert encode_payload(forward).hex() == "02023a98040205dc0620" + "0c" * 32
    final = FinalPayload(10_000, 1_000, SECRET, 10_000, keysend=b"\x05" * 32, metadata=b"m")
    assert encode_payload(final).hex() == (
        "02022710040203e80822" + "24" * 32 + "2710" + "10016d" + "ff0000000146c6616c" + "20" + "05" * 32
    )


@pytest.mark.parametrize(
    ("records", "text"),
    [
        ({2: b"\1", 4: b"\1"}, "record 8 is missing"),
        ({4: b"\1", 6: CHANNEL}, "record 2 is missing"),
        ({2: b"\1", 4: b"\1", 6: CHANNEL, 8: SECRET}, "out of place"),
        ({2: b"\1", 4: b"\1", 6: CHANNEL[1:]}, "a channel's id has 32 bytes"),
        ({2: b"\1", 4: b"\1", 8: SECRET[1:]}, "a payment secret has 32 bytes"),
        ({2: b"", 4: b"\1", 6: CHANNEL}, "amount must be"),
        ({2: b"\0\1", 4: b"\1", 6: CHANNEL}, "leading zeros"),
        ({2: b"\1" * 17, 4: b"\1", 6: CHANNEL}, "17 bytes stands where 16"),
        ({2: b"\1", 4: b"\1" * 9, 6: CHANNEL}, "9 bytes stands where 8"),
        ({2: b"\2", 4: b"\1", 8: SECRET + b"\1"}, "total must be"),
        ({2: b"\1", 4: b"\1", 8: SECRET + b"\1", 16: b""}, "record 16 is empty"),
        ({2: b"\1", 4: b"\1", 8: SECRET + b"\1", 16: bytes(257)}, "metadata has at most"),
        ({2: b"\1", 4: b"\1", 8: SECRET + b"\1", 5482373484: b"\1"}, "a keysend secret"),
        ({2: b"\1", 4: b"\1", 8: SECRET + b"\1", 18: b"\1"}, "record 18 is unknown"),
    ],
)
def test_what_is_missing_wrong_or_unknown_is_refused(records: dict[int, bytes], text: str) -> None:
    with pytest.raises(InvalidOnion, match=text) as caught:
        decode_payload(encode_records(records))
    assert caught.value.failure == Code.INVALID_ONION_PAYLOAD


def test_an_unknown_odd_record_is_skipped() -> None:
    records = {2: b"\1", 4: b"\1", 6: CHANNEL, 7: b"new", 65537: b"newer"}
    assert decode_payload(encode_records(records)) == ForwardPayload(1, 1, CHANNEL)


def test_the_longest_route_fits_with_the_largest_payloads() -> None:
    forward = len(encode_payload(ForwardPayload(AMOUNT_MAX, UINT64_MAX, CHANNEL)))
    final = len(encode_payload(FinalPayload(AMOUNT_MAX, UINT64_MAX, SECRET, AMOUNT_MAX, keysend=SECRET)))
    assert room([forward] * (HOPS_MAX - 1) + [final]) >= 0
    assert room([forward] * HOPS_MAX + [final]) < 0


def test_a_payload_that_could_not_be_read_is_not_written() -> None:
    with pytest.raises(InvalidInput, match="amount"):
        ForwardPayload(0, 1, CHANNEL)
    with pytest.raises(InvalidInput, match="expiry"):
        ForwardPayload(1, 2**64, CHANNEL)
    with pytest.raises(InvalidInput, match="total"):
        FinalPayload(2, 1, SECRET, 1)


@given(st.integers(0, UINT64_MAX))
def test_a_bigsize_has_one_encoding(value: int) -> None:
    encoded = encode_bigsize(value)
    assert read_bigsize(b"x" + encoded + b"x", 1) == (value, 1 + len(encoded))
    for marker, width in ((0xFD, 2), (0xFE, 4), (0xFF, 8)):
        if width + 1 > len(encoded):
            with pytest.raises(MalformedMessage, match="fewest bytes"):
                read_bigsize(bytes([marker]) + value.to_bytes(width, "big"), 0)
    with pytest.raises(MalformedMessage, match="cut off"):
        read_bigsize(encoded[:-1], 0)


def test_bigsizes_as_bolt_1_lists_them() -> None:
    for value, encoded in (
        (0, "00"),
        (252, "fc"),
        (253, "fd00fd"),
        (65535, "fdffff"),
        (65536, "fe00010000"),
        (2**32 - 1, "feffffffff"),
        (2**32, "ff0000000100000000"),
        (UINT64_MAX, "ffffffffffffffffff"),
    ):
        assert encode_bigsize(value).hex() == encoded
    for value in (-1, 2**64):
        with pytest.raises(InvalidInput, match="BigSize"):
            encode_bigsize(value)


@given(st.integers(0, AMOUNT_MAX))
def test_a_truncated_integer_has_one_encoding(value: int) -> None:
    encoded = encode_integer(value)
    assert decode_integer(encoded, 16) == value
    with pytest.raises(MalformedMessage):
        decode_integer(b"\0" + encoded, 17)


def test_records_come_once_and_in_order() -> None:
    for stream in ("0301010101 02".replace(" ", "") + "00", "010001 00".replace(" ", ""), "0300" + "0100"):
        with pytest.raises(MalformedMessage, match="types must increase"):
            decode_records(bytes.fromhex(stream), {1, 2, 3})
    with pytest.raises(MalformedMessage, match="are left"):
        decode_records(bytes.fromhex("010200"), {1})
    with pytest.raises(MalformedMessage, match="cut off"):
        decode_records(b"\1", {1})
