"""Keys, signatures and terms: what is refused, in words, and what eth-account says of ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidInput, InvalidSignature
from tallystick.channels.protocol.keys import PrivateKey, PublicKey, close_key, is_signed, recover, with_recovery_id
from tallystick.channels.protocol.objects import NATIVE, Address, Terms, check_amount
from tallystick.settlement.ethereum.accounts import Account

ALICE, BOB = PrivateKey(b"\x01" * 32), PrivateKey(b"\x02" * 32)
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
digests = st.binary(min_size=32, max_size=32)


@given(digests)
def test_a_signature_is_eth_accounts_without_v_and_gets_it_back_at_the_edge(digest: bytes) -> None:
    signature = ALICE.sign(digest)
    oracle = Account.unsafe_sign_hash(digest, ALICE.reveal())
    assert signature == oracle.r.to_bytes(32, "big") + oracle.s.to_bytes(32, "big")
    assert with_recovery_id(digest, signature, ALICE.address)[64] == oracle.v
    ALICE.public.verify(digest, signature)
    with pytest.raises(InvalidSignature, match="not that of"):
        BOB.public.verify(digest, signature)
    with pytest.raises(InvalidSignature, match="not that of"):
        with_recovery_id(digest, signature, BOB.address)


@given(digests)
def test_a_signature_with_high_s_is_refused(digest: bytes) -> None:
    signature = ALICE.sign(digest)
    high = ORDER - int.from_bytes(signature[32:], "big")
    with pytest.raises(InvalidSignature):
        ALICE.public.verify(digest, signature[:32] + high.to_bytes(32, "big"))
    assert not is_signed(digest, signature[:32] + high.to_bytes(32, "big"), ALICE.address)


def test_whether_high_s_is_refused_does_not_hang_on_whom_one_has_met() -> None:
    """The same statement is judged alike by a validator that knows the signer's key and by one that does not."""
    stranger, digest = PrivateKey(b"\x0b" * 32), b"\x0c" * 32
    signature = stranger.sign(digest)
    high = signature[:32] + (ORDER - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    before = is_signed(digest, high, stranger.address)
    assert is_signed(digest, signature, stranger.address)
    assert before is is_signed(digest, high, stranger.address) is False


@pytest.mark.parametrize("signature", [b"", b"\x01" * 63, b"\x01" * 65, b"\xff" * 64])
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    with pytest.raises(InvalidSignature):
        ALICE.public.verify(b"\x07" * 32, signature)
    with pytest.raises(InvalidSignature):
        recover(b"\x07" * 32, signature, 0)
    with pytest.raises(InvalidSignature):
        with_recovery_id(b"\x07" * 32, signature, ALICE.address)


@pytest.mark.parametrize("secret", [b"", b"\x01" * 31, bytes(32), b"\xff" * 32])
def test_what_is_no_private_key_is_refused(secret: bytes) -> None:
    with pytest.raises(InvalidInput, match="32 bytes"):
        PrivateKey(secret)


def test_only_digests_are_signed() -> None:
    with pytest.raises(InvalidInput, match="32-byte digest"):
        ALICE.sign(b"a message")


def test_what_is_no_point_is_no_public_key() -> None:
    with pytest.raises(InvalidInput, match="point"):
        PublicKey(b"\x02" + b"\xff" * 32)


def test_keys_compare_and_never_show_their_secret() -> None:
    assert PublicKey(bytes(ALICE.public)) == ALICE.public != BOB.public
    assert len({ALICE.public, PublicKey(bytes(ALICE.public))}) == 1
    assert ALICE.reveal().hex() not in repr(ALICE)


def test_both_participants_derive_one_close_key_and_nobody_else_does() -> None:
    channel = b"\x05" * 32
    assert close_key(ALICE, BOB.public, channel) == close_key(BOB, ALICE.public, channel)
    assert close_key(ALICE, BOB.public, channel) != close_key(ALICE, BOB.public, b"\x06" * 32)
    mallory = PrivateKey(b"\x03" * 32)
    assert close_key(mallory, BOB.public, channel) != close_key(ALICE, BOB.public, channel)


GOOD = (1, Address(b"\x09" * 20), (Address(b"\x01" * 20), Address(b"\x02" * 20)), NATIVE, 0, 600, bytes(32))


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        (1, b"\x09" * 19, "20 bytes"),
        (2, (Address(b"\x02" * 20), Address(b"\x01" * 20)), "ascending"),
        (2, (Address(b"\x01" * 20), Address(b"\x01" * 20)), "must differ"),
        (3, b"", "20 bytes"),
        (6, bytes(31), "32 bytes"),
        (0, 2**64, "chain_id"),
        (4, -1, "number"),
        (5, 2**64, "challenge_period"),
    ],
)
def test_terms_that_cannot_be_are_refused(field: int, value: object, text: str) -> None:
    fields: list[object] = list(GOOD)
    fields[field] = value
    with pytest.raises(InvalidInput, match=text):
        Terms(*fields)  # type: ignore[arg-type]


def test_terms_know_their_sides() -> None:
    terms = Terms(*GOOD)
    assert [terms.side_of(address) for address in terms.participants] == [0, 1]
    with pytest.raises(InvalidInput, match="no part"):
        terms.side_of(ALICE.address)


@pytest.mark.parametrize("amount", [-1, 2**128, 1.0, True, "5", None])
def test_what_is_no_amount_is_refused(amount: object) -> None:
    with pytest.raises(InvalidInput, match="whole number"):
        check_amount(amount)  # type: ignore[arg-type]
