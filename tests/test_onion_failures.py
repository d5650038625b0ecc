"""Failures on the way back: BOLT 4's published vector, and who can be blamed for what."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.limits import AMOUNT_MAX, REASON_MAX, UINT64_MAX
from tallystick.router.codes import Code, interpret
from tallystick.router.errors import InvalidOnion
from tallystick.router.onion.failures import (
    MESSAGE_MAX,
    TRIES,
    Failure,
    attribute,
    decode_failure,
    encode_failure,
    first_wrap,
    notice,
    refusal,
    wrap,
)

SECRETS = [
    bytes.fromhex(text)
    for text in (
        "53eb63ea8a3fec3b3cd433b85cd62a4b145e1dda09391b348c4e1cd36a03ea66",
        "a6519e98832a0b179f62123b3567c106db99ee37bef036e783263602f3488fae",
        "3a6b412548762f0dbccce5c7ae7bb8147d1caf9b5471c34120b30bc9c04891cc",
        "21e13c2d7cfe7e18836df50872466117a295783ab8aab0e7ecc8c725503ad02d",
        "b5756b9b542727dbafc6765a49488b023a725d631af688fc031217e90770c328",
    )
]
PUBLISHED = (  # "error packet for node 0" of BOLT 4's test vector: node 4 answers temporary_node_failure
    "9c5add3963fc7f6ed7f148623c84134b5647e1306419dbe2174e523fa9e2fbed3a06a19f899145610741c83ad40b7712aefaddec8c6baf7325d9"
    "2ea4ca4d1df8bce517f7e54554608bf2bd8071a4f52a7a2f7ffbb1413edad81eeea5785aa9d990f2865dc23b4bc3c301a94eec4eabebca66be5c"
    "f638f693ec256aec514620cc28ee4a94bd9565bc4d4962b9d3641d4278fb319ed2b84de5b665f307a2db0f7fbb757366067d88c50f7e829138fd"
    "e4f78d39b5b5802f1b92a8a820865af5cc79f9f30bc3f461c66af95d13e5e1f0381c184572a91dee1c849048a647a1158cf884064deddbf1b0b8"
    "8dfe2f791428d0ba0f6fb2f04e14081f69165ae66d9297c118f0907705c9c4954a199bae0bb96fad763d690e7daa6cfda59ba7f2c8d11448b604"
    "d12d"
)
GAVE_UP = Failure(Code.TEMPORARY_NODE_FAILURE)

failures = st.builds(
    Failure,
    st.sampled_from(Code),
    amount=st.none() | st.integers(0, AMOUNT_MAX),
    time=st.none() | st.integers(0, UINT64_MAX),
    channel=st.binary(max_size=32),
    update=st.binary(max_size=300),
    onion_hash=st.binary(max_size=32),
    type=st.none() | st.integers(0, UINT64_MAX),
    offset=st.none() | st.integers(0, 65_535),
)


def carried_back(hop: int, reason: bytes) -> bytes:
    for secret in reversed(SECRETS[:hop]):
        reason = wrap(secret, reason)
    return reason


def test_the_published_vector() -> None:
    reason = carried_back(4, first_wrap(SECRETS[4], GAVE_UP))
    assert reason.hex() == PUBLISHED
    assert attribute(SECRETS, reason) == (4, GAVE_UP)


@given(st.integers(0, 4), failures)
def test_the_payer_learns_who_failed_and_why(hop: int, failure: Failure) -> None:
    reason = carried_back(hop, first_wrap(SECRETS[hop], failure))
    assert len(reason) in (292, REASON_MAX)
    assert attribute(SECRETS, reason) == (hop, failure)


@given(st.integers(0, 4), st.integers(0, 3), st.integers(0, 292 * 8 - 1))
def test_a_failure_that_was_damaged_on_its_way_blames_nobody(hop: int, liar: int, bit: int) -> None:
    broken = bytearray(carried_back(hop, first_wrap(SECRETS[hop], GAVE_UP)))
    broken[bit // 8] ^= 1 << bit % 8
    assert attribute(SECRETS, bytes(broken)) is None


@given(st.binary(min_size=292, max_size=292))
def test_noise_blames_nobody(noise: bytes) -> None:
    assert attribute(SECRETS, noise) is None


def test_a_hop_can_blame_itself_only() -> None:
    forged = first_wrap(b"\x09" * 32, GAVE_UP)  # a secret that no hop shares with the payer
    assert attribute(SECRETS, carried_back(3, forged)) is None
    for liar in range(4):  # what a liar writes under its own key is read as its own, wherever it says it comes from
        assert attribute(SECRETS, carried_back(liar, first_wrap(SECRETS[liar], GAVE_UP))) == (liar, GAVE_UP)


def test_the_number_of_tries_does_not_depend_on_the_route(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    def counted(secret: bytes, packet: bytes) -> bytes:
        nonlocal tries
        tries += 1
        return hide(secret, packet)

    from tallystick.router.onion import failures as module

    hide = module._hide
    monkeypatch.setattr(module, "_hide", counted)
    for length in (1, 3, 5):
        for reason in (first_wrap(SECRETS[0], GAVE_UP), bytes(292)):
            tries = 0
            attribute(SECRETS[:length], reason)
            assert tries == TRIES


def test_the_dummy_tries_blame_nobody() -> None:
    reason = bytes(first_wrap(bytes(32), GAVE_UP))  # all zeros is the key of the tries beyond the route
    for secret in reversed(SECRETS):
        reason = wrap(secret, reason)
    assert attribute(SECRETS, reason) is None


def test_an_onion_that_could_not_be_opened_is_reported_by_the_hop_before() -> None:
    packet = b"\x00" * 1366
    said = notice(Code.INVALID_ONION_HMAC, packet)
    assert len(said) == 34
    expected = Failure(Code.INVALID_ONION_HMAC, onion_hash=hashlib.sha256(packet).digest())
    assert attribute(SECRETS, said) == (0, expected)
    for hop in range(1, 5):
        assert attribute(SECRETS, carried_back(hop, said)) == (hop - 1, expected)
    with pytest.raises(InvalidInput, match="UNKNOWN_NEXT_PEER"):
        notice(Code.UNKNOWN_NEXT_PEER, packet)


@pytest.mark.parametrize("reason", [b"", b"no", bytes(34), bytes(291), bytes(293), bytes(REASON_MAX - 1)])
def test_a_reject_without_a_packet_counts_against_that_channel(reason: bytes) -> None:
    assert attribute(SECRETS, carried_back(3, reason)) == (2, Failure(Code.TEMPORARY_CHANNEL_FAILURE))
    assert attribute(SECRETS, reason) == (0, GAVE_UP)


def test_what_a_refused_onion_is_answered_with() -> None:
    closed = InvalidOnion("cannot be opened", Code.INVALID_ONION_KEY)
    assert refusal(closed, b"packet") == notice(Code.INVALID_ONION_KEY, b"packet")
    opened = Failure(Code.INVALID_ONION_PAYLOAD)
    for error, secret in (
        (InvalidOnion("bad", Code.INVALID_ONION_PAYLOAD, SECRETS[0]), b""),
        (InvalidOnion("bad", Code.INVALID_ONION_PAYLOAD), SECRETS[0]),
    ):
        assert attribute(SECRETS, refusal(error, b"packet", secret)) == (0, opened)


def test_an_update_that_does_not_fit_is_left_out() -> None:
    failure = Failure(Code.FEE_INSUFFICIENT, amount=7, channel=b"\x0c" * 32, update=bytes(MESSAGE_MAX))
    with pytest.raises(InvalidInput, match="at most"):
        encode_failure(failure)
    found = attribute(SECRETS, first_wrap(SECRETS[0], failure))
    assert found == (0, Failure(Code.FEE_INSUFFICIENT, amount=7, channel=b"\x0c" * 32))


@given(st.binary(max_size=60))
def test_a_hop_that_signs_nonsense_counts_as_failing(message: bytes) -> None:
    try:
        failure = decode_failure(message)
    except MalformedMessage:
        failure = GAVE_UP
    assert isinstance(failure.code, Code)


def test_authentic_nonsense_is_attributed(monkeypatch: pytest.MonkeyPatch) -> None:
    for message in (b"", b"\x10", b"\x10\x07\x06", b"\x10\x07\xfc\x00"):
        monkeypatch.setattr("tallystick.router.onion.failures.encode_failure", lambda failure, message=message: message)
        assert attribute(SECRETS, carried_back(2, first_wrap(SECRETS[2], GAVE_UP))) == (2, GAVE_UP)


def test_an_unknown_code_means_what_its_flags_say() -> None:
    assert interpret(0x2FFF) is Code.TEMPORARY_NODE_FAILURE
    assert interpret(0x6FFF) is Code.PERMANENT_NODE_FAILURE
    assert interpret(0x4FFF) is Code.PERMANENT_CHANNEL_FAILURE
    assert interpret(0x1FFF) is Code.TEMPORARY_CHANNEL_FAILURE
    assert interpret(0x0FFF) is Code.TEMPORARY_CHANNEL_FAILURE
    assert decode_failure(b"\x4f\xff").code is Code.PERMANENT_CHANNEL_FAILURE


def test_every_code_has_a_sentence_and_the_flags_of_bolt_4() -> None:
    assert all(code.meaning for code in Code)
    assert len({code.meaning for code in Code}) == len(Code)
    assert [code.name for code in Code if code.bad_onion] == [
        "INVALID_ONION_VERSION",
        "INVALID_ONION_HMAC",
        "INVALID_ONION_KEY",
    ]
    assert {code.name for code in Code if code.of_policy} == {
        "TEMPORARY_CHANNEL_FAILURE",
        "AMOUNT_BELOW_MINIMUM",
        "FEE_INSUFFICIENT",
        "INCORRECT_EXPIRY",
        "EXPIRY_TOO_SOON",
        "CHANNEL_DISABLED",
    }
    assert int(Code.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS) == 0x400F and Code.UNKNOWN_NEXT_PEER.permanent
    assert Code.TEMPORARY_NODE_FAILURE.of_node and not Code.TEMPORARY_NODE_FAILURE.permanent
    assert str(Failure(Code.CHANNEL_DISABLED, channel=b"\xab" * 32)) == (
        "the next channel takes no payments just now (channel abababababababab…)"
    )
