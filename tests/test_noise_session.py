"""Sessions: any cut of the bytes, any damage, limits, and keys that must not match."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.errors import HandshakeFailed, InvalidInput, MalformedMessage
from tallystick.channels.limits import MESSAGE_MAX
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.transport.noise import FRAME_OVERHEAD, Decryptor, Encryptor, Initiator, NoiseSession, Responder

ALICE, BOB, MALLORY = (PrivateKey(bytes([number]) * 32) for number in (1, 2, 3))
EPHEMERALS = PrivateKey(b"\x04" * 32), PrivateKey(b"\x05" * 32)
SECRETS = b"\x06" * 32, b"\x07" * 32


def sessions() -> tuple[NoiseSession, NoiseSession]:
    """Alice's and Bob's ends of one session."""
    initiator, responder = Initiator(ALICE, BOB.public, EPHEMERALS[0]), Responder(BOB, EPHEMERALS[1])
    act_three, alice = initiator.read_act_two(responder.read_act_one(initiator.act_one))
    return alice, responder.read_act_three(act_three)


def chunks(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut data into pieces of these sizes, over and over."""
    pieces, start, turn = [], 0, 0
    while start < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(data[start : start + size])
        start, turn = start + size, turn + 1
    return pieces


def test_both_directions_carry_messages_independently() -> None:
    alice, bob = sessions()
    assert (alice.peer, bob.peer) == (BOB.public, ALICE.public)
    assert bob.feed(alice.encrypt_all([b"to bob"])) == [b"to bob"]
    assert alice.feed(bob.encrypt_all([b"one", b"", b"three"])) == [b"one", b"", b"three"]
    assert bob.feed(alice.encrypt_all([b"again"])) == [b"again"]


@given(
    messages=st.lists(st.binary(max_size=300), max_size=20),
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=8),
)
def test_messages_do_not_depend_on_how_the_bytes_were_cut(messages: list[bytes], sizes: list[int]) -> None:
    data = Encryptor(*SECRETS).encrypt_all(messages)
    decryptor = Decryptor(*SECRETS)
    assert [message for piece in chunks(data, sizes) for message in decryptor.feed(piece)] == messages


@given(
    messages=st.lists(st.binary(max_size=60), min_size=1, max_size=6),
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=4),
    place=st.integers(0, 10_000),
    mask=st.integers(1, 255),
)
def test_one_changed_byte_stops_the_session_after_the_messages_before_it(
    messages: list[bytes], sizes: list[int], place: int, mask: int
) -> None:
    data = bytearray(Encryptor(*SECRETS).encrypt_all(messages))
    place %= len(data)
    data[place] ^= mask
    intact, end = 0, 0
    while (end := end + len(messages[intact]) + FRAME_OVERHEAD) <= place:
        intact += 1

    decryptor = Decryptor(*SECRETS)
    received: list[bytes] = []
    with pytest.raises(MalformedMessage):
        for piece in [*chunks(bytes(data), sizes), b""]:
            received += decryptor.feed(piece)
    assert received == messages[:intact]
    with pytest.raises(MalformedMessage):
        decryptor.feed(Encryptor(*SECRETS).encrypt_all([b"good again"]))


def test_a_frame_cannot_be_replayed_dropped_or_reordered() -> None:
    encryptor = Encryptor(*SECRETS)
    first, second = encryptor.encrypt_all([b"first"]), encryptor.encrypt_all([b"second"])
    for stream in (second, second + first):
        with pytest.raises(MalformedMessage):
            Decryptor(*SECRETS).feed(stream)
    decryptor = Decryptor(*SECRETS)
    assert decryptor.feed(first + first) == [b"first"]
    with pytest.raises(MalformedMessage):
        decryptor.feed(b"")


def test_the_longest_message_passes_and_one_byte_more_changes_nothing() -> None:
    alice, bob = sessions()
    longest = bytes(range(256)) * 255 + bytes(255)
    assert len(longest) == MESSAGE_MAX
    with pytest.raises(InvalidInput, match="65535"):
        alice.encrypt_all([b"never sent", longest + b"x"])
    frame = alice.encrypt_all([longest])
    assert len(frame) == MESSAGE_MAX + FRAME_OVERHEAD
    assert bob.feed(frame[:-1]) == []
    assert bob.feed(frame[-1:]) == [longest]


def test_an_initiator_that_looks_for_somebody_else_is_refused_at_act_one() -> None:
    with pytest.raises(HandshakeFailed, match="expected key"):
        Responder(MALLORY, EPHEMERALS[1]).read_act_one(Initiator(ALICE, BOB.public, EPHEMERALS[0]).act_one)


def test_an_impostor_who_answers_act_one_is_refused_at_act_two() -> None:
    initiator = Initiator(ALICE, BOB.public, EPHEMERALS[0])
    forged = Responder(MALLORY, EPHEMERALS[1]).read_act_one(Initiator(ALICE, MALLORY.public, EPHEMERALS[0]).act_one)
    with pytest.raises(HandshakeFailed):
        initiator.read_act_two(forged)


@given(place=st.integers(0, 165), mask=st.integers(1, 255))
def test_one_changed_byte_in_any_act_fails_the_handshake(place: int, mask: int) -> None:
    def damage(act: bytes, start: int) -> bytes:
        return bytes(byte ^ mask if start + index == place else byte for index, byte in enumerate(act))

    initiator, responder = Initiator(ALICE, BOB.public, EPHEMERALS[0]), Responder(BOB, EPHEMERALS[1])
    with pytest.raises(HandshakeFailed):
        act_two = responder.read_act_one(damage(initiator.act_one, 0))
        act_three, _ = initiator.read_act_two(damage(act_two, 50))
        responder.read_act_three(damage(act_three, 100))


def test_no_secret_shows_in_a_repr() -> None:
    alice, _ = sessions()
    assert repr(alice) == f"Session(with {BOB.public!r})"
