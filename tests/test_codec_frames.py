"""Peer bytes: whatever they are, decoding them gives a message or MalformedMessage, and gives it quickly."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.court_bench import TERMS as APP_TERMS
from tallystick.channels.errors import Fault, InvalidInput, MalformedMessage
from tallystick.channels.limits import AMOUNT_MAX, MESSAGE_MAX, UINT64_MAX
from tallystick.channels.protocol.app_messages import AppMove, AppOffer, AppProposal
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.messages import (
    Ack,
    CloseOffer,
    Error,
    Hello,
    Message,
    OpenProposal,
    OpenRequest,
    Ping,
    Reestablish,
    Update,
    decode,
    encode,
)
from tallystick.channels.protocol.objects import (
    NATIVE,
    Address,
    BalanceProof,
    ChannelId,
    CooperativeClose,
    Lock,
    SignedProof,
    Terms,
)
from tallystick.channels.protocol.operations import AddLock, Cancel, Pay, Unlock

ID = ChannelId(b"c" * 32)
NUMBERS = st.one_of(st.integers(0, 100), st.integers(0, UINT64_MAX), st.integers(0, AMOUNT_MAX))
AMOUNTS = st.one_of(st.integers(1, 100), st.integers(1, AMOUNT_MAX))
OPERATIONS = st.one_of(
    st.builds(Pay, NUMBERS, st.lists(AMOUNTS, min_size=1, max_size=5).map(tuple)),
    st.builds(AddLock, st.builds(Lock, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.binary(max_size=40)), st.binary()),
    st.builds(Unlock, NUMBERS, st.binary(max_size=64), NUMBERS),
    st.builds(Cancel, NUMBERS),
)
PROOFS = st.builds(
    SignedProof,
    st.builds(BalanceProof, st.just(ID), st.integers(0, 1), NUMBERS, NUMBERS, NUMBERS, st.just(bytes(32)), NUMBERS),
    st.binary(min_size=64, max_size=64),
    st.binary(min_size=64, max_size=64),
)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, NUMBERS, NUMBERS, st.just(Address(bytes(20)))),
    st.builds(Error, st.just(b""), NUMBERS, st.text(max_size=50)),
    st.builds(Reestablish, st.just(ID), NUMBERS, st.none() | PROOFS, st.none() | PROOFS, NUMBERS),
    st.builds(
        Update,
        st.just(ID),
        NUMBERS,
        NUMBERS,
        st.lists(OPERATIONS, min_size=1, max_size=4).map(tuple),
        st.just(bytes(64)),
    ),
    st.builds(Ack, st.just(ID), NUMBERS, st.just(bytes(64))),
    st.builds(AppProposal, st.just(APP_TERMS), st.binary(max_size=99)),
    st.builds(AppMove, st.just(ID), NUMBERS, st.binary(max_size=99), st.just(bytes(64))),
    st.builds(AppOffer, st.just(ID), st.tuples(NUMBERS, NUMBERS), st.just(bytes(64))),
    st.builds(CloseOffer, st.builds(CooperativeClose, st.just(ID), NUMBERS, NUMBERS, NUMBERS), st.just(bytes(64))),
)


def attempt(frame: bytes) -> Message | None:
    try:
        return decode(frame)
    except MalformedMessage as error:
        assert error.code in (Fault.MALFORMED, Fault.TOO_LARGE)
        return None


@given(MESSAGES)
def test_every_message_survives_the_wire(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_random_bytes_are_a_message_or_malformed(frame: bytes) -> None:
    attempt(frame)


@given(MESSAGES, st.data())
@settings(max_examples=300)
def test_mutated_messages_are_a_message_or_malformed(message: Message, data: st.DataObject) -> None:
    frame = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    attempt(bytes(frame))


@given(MESSAGES, st.data())
def test_a_truncated_or_prolonged_message_is_malformed(message: Message, data: st.DataObject) -> None:
    frame = encode(message)
    assert attempt(frame[: data.draw(st.integers(0, len(frame) - 1))]) is None
    assert attempt(frame + b"\x00") is None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(st.integers(0, 25), st.lists(JSON, max_size=7))
@settings(max_examples=300)
def test_well_formed_messagepack_of_the_wrong_shape_is_a_message_or_malformed(number: int, fields: list[Any]) -> None:
    attempt(msgpack.packb([number, *fields]))


HOSTILE = {
    "nothing": b"",
    "an array of 2**32 - 1": b"\xdd\xff\xff\xff\xff",
    "a map of 2**32 - 1": b"\xdf\xff\xff\xff\xff",
    "4 GB of bytes": b"\xc6\xff\xff\xff\xff",
    "a map with an array as key": b"\x81\x91\x91\x01\x01",
    "arrays 60,000 deep": b"\x91" * 60_000 + b"\xc0",
    "maps 30,000 deep": b"\x81\xa1a" * 20_000 + b"\xc0",
    "a timestamp": b"\xd7\xff" + b"\xff" * 8,
    "an unknown extension": b"\xd8\x07" + bytes(16),
    "a small number as a wide one": b"\x92\x03\xd8\x01" + bytes(15) + b"\x07",
    "a wide number that is too short": b"\x92\x03\xd7\x01" + b"\xff" * 8,
    "an update with 2**32 - 1 operations": b"\x96\x06\xc4\x20" + bytes(32) + b"\x01\x00\xdd\xff\xff\xff\xff",
    "a payment run of 2**32 - 1": b"\x96\x06\xc4\x20" + bytes(32) + b"\x01\x00\x91\x94\x01\x00\xdd\xff\xff\xff\xff",
    "a negative number": b"\x92\x03\xff",
    "an unknown message": b"\x92\x63\x01",
    "one field too many": encode(Ping(1)).replace(b"\x92", b"\x93", 1) + b"\x01",
    "too many bytes": encode(Ping(1)) + bytes(MESSAGE_MAX),
}


@pytest.mark.parametrize("frame", HOSTILE.values(), ids=HOSTILE)
def test_hostile_frames_are_malformed_at_once(frame: bytes) -> None:
    began = time.perf_counter()
    with pytest.raises(MalformedMessage):
        decode(frame)
    assert time.perf_counter() - began < 0.5


def test_objects_inside_messages_are_bounded_too() -> None:
    proof = BalanceProof(ID, 0, 1)
    wrong: list[Message] = [
        Reestablish(ID, 0, SignedProof(BalanceProof(ID, 0, 9, -1), bytes(64), bytes(64)), None, 0),
        Reestablish(ID, 0, SignedProof(BalanceProof(ID, 2, 9), bytes(64), bytes(64)), None, 0),
        Reestablish(ID, 0, SignedProof(BalanceProof(ID, 0, 9, locks_root=b""), bytes(64), bytes(64)), None, 0),
        CloseOffer(CooperativeClose(ChannelId(b"x" * 60_000), 1, 1, 1), bytes(64)),
        CloseOffer(CooperativeClose(ID, -1, 1, 1), bytes(64)),
        OpenRequest(terms(), -1, 1),
        OpenProposal(terms(), -1),
    ]
    for message in wrong:
        with pytest.raises(MalformedMessage):
            decode(msgspec.msgpack.encode(message))
        with pytest.raises(InvalidInput):
            encode(message)
    assert proof.sender == 0


def terms() -> Terms:
    one, two = Address(b"\x01" * 20), Address(b"\x02" * 20)
    return Terms(1, Address(bytes(20)), (one, two), NATIVE, 0, 3600, bytes(32))


def test_terms_that_cannot_be_are_malformed() -> None:
    frame = encode(OpenProposal(terms(), 1))
    assert decode(frame) == OpenProposal(terms(), 1)
    with pytest.raises(MalformedMessage):
        decode(frame.replace(b"\x01" * 20, b"\x03" * 20))


def test_amounts_beyond_128_bits_cannot_be_encoded() -> None:
    with pytest.raises(InvalidInput):
        Codec[list[int]](list[int]).encode([AMOUNT_MAX + 1])
    codec: Codec[dict[str, int]] = Codec(dict[str, int])
    assert codec.decode(codec.encode({"wide": AMOUNT_MAX})) == {"wide": AMOUNT_MAX}


def test_a_thousand_random_frames_take_no_time() -> None:
    rng, began = random.Random(1), time.perf_counter()
    for _ in range(1_000):
        attempt(rng.randbytes(rng.randrange(2_000)))
    assert time.perf_counter() - began < 2


NESTED = """
import sys
from tallystick.channels.errors import MalformedMessage
from tallystick.channels.protocol.messages import decode
sys.setrecursionlimit(1_000_000)
for frame in (b"\\x91" * 60_000 + b"\\xc0", b"\\x81\\xa1a" * 20_000 + b"\\xc0", b"\\x92\\x03" + b"\\x91" * 60_000):
    try:
        decode(frame)
    except MalformedMessage:
        print("refused")
"""


def test_nesting_is_bounded_even_where_a_library_has_raised_the_recursion_limit() -> None:
    done = subprocess.run([sys.executable, "-Ic", NESTED], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["refused"] * 3), done.stderr
