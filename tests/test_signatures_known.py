"""A signature is judged alike whether its signer's key is known from an earlier one or has to be recovered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidSignature
from tallystick.channels.protocol import keys
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.ethereum.signatures import verify_signer

KEY = PrivateKey(keccak(b"known"))
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.fixture(autouse=True)
def own_memory() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_POINTS", {})
        keys._address_of.cache_clear()
        yield
    keys._address_of.cache_clear()


def holds(digest: bytes, signature: bytes, signer: Address) -> bool:
    try:
        verify_signer(digest, signature, signer)
    except InvalidSignature:
        return False
    return True


def judged(digest: bytes, signature: bytes, signer: Address) -> bool:
    """Ask twice: while the signer is a stranger, and when its key is known."""
    keys._POINTS.clear()
    stranger = holds(digest, signature, signer)
    keys._address_of.cache_clear()
    learned = keccak(b"anything")
    for recovery_id in (0, 1):
        keys.recover(learned, KEY.sign(learned), recovery_id)
    assert KEY.address in keys._POINTS
    assert holds(digest, signature, signer) == stranger
    return stranger


@given(st.integers(0, 95), st.integers(0, 255), st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_damage_is_found_either_way(at: int, change: int, high: bool) -> None:
    digest = keccak(bytes([at, change]))
    signature = KEY.sign(digest)
    if high:
        signature = signature[:32] + (ORDER - int.from_bytes(signature[32:])).to_bytes(32)
    damaged = bytearray(digest + signature)
    damaged[at] ^= change
    assert judged(bytes(damaged[:32]), bytes(damaged[32:]), KEY.address) == (not high and not change)


@pytest.mark.parametrize("signature", [b"", bytes(64), b"\xff" * 64, bytes(63), bytes(65)])
def test_what_is_no_signature_is_none_either_way(signature: bytes) -> None:
    assert not judged(keccak(b"x"), signature, KEY.address)


def test_what_is_no_digest_was_signed_by_nobody() -> None:
    assert not judged(b"short", KEY.sign(keccak(b"x")), KEY.address)


def test_an_r_that_began_anew_is_refused_either_way() -> None:
    """Anybody can make such a signature, and a key to it that nobody has: the library's check alone takes it."""
    lib, context = keys.lib, keys._CONTEXT
    parsed = keys.ffi.new("secp256k1_ecdsa_recoverable_signature *")
    key, digest = keys.ffi.new("secp256k1_pubkey *"), keccak(b"z")
    for r in range(1, 100):
        signature = r.to_bytes(32, "big") + (1).to_bytes(32, "big")
        lib.secp256k1_ecdsa_recoverable_signature_parse_compact(context, parsed, signature, 2)
        if lib.secp256k1_ecdsa_recover(context, key, parsed, digest):
            break
    else:
        pytest.fail("no such point was found")
    output, size = keys.ffi.new("unsigned char[65]"), keys.ffi.new("size_t *", 65)
    lib.secp256k1_ec_pubkey_serialize(context, output, size, key, lib.SECP256K1_EC_UNCOMPRESSED)
    point = keys.ffi.buffer(output)[1:]
    plain = keys.ffi.new("secp256k1_ecdsa_signature *")
    lib.secp256k1_ecdsa_signature_parse_compact(context, plain, signature)
    assert lib.secp256k1_ecdsa_verify(context, plain, digest, key), "the library takes it"
    assert not holds(digest, signature, Address(keccak(point)[12:]))
    keys._POINTS[Address(keccak(point)[12:])] = point
    assert not holds(digest, signature, Address(keccak(point)[12:]))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_POINTS_MAX", 3)
    for number in range(8):
        key = PrivateKey(keccak(bytes([number])))
        assert holds(keccak(b"x"), key.sign(keccak(b"x")), key.address)
    assert len(keys._POINTS) <= 3
