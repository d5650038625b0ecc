"""Sealed appointments: what a tower holds and cannot read before a unilateral close (PROTOCOL section 7).

Everything follows from the channel's `close_key`, which the two participants share and which a unilateral close
publishes. With it, the tower's address and the client's (`party`), anybody finds the appointment and opens it:

    locator = keccak("tallystick/tower/locator/1" ‖ close_key ‖ tower ‖ party)
    key     = keccak("tallystick/tower/key/1"     ‖ close_key ‖ tower ‖ party)
    blob    = nonce ‖ XChaCha20-Poly1305(key, nonce, associated data = locator, padded appointment)

The nonce is random (24 bytes), since one key seals every revision. All blobs have one size.
"""

from __future__ import annotations

import msgspec
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_aead_xchacha20poly1305_ietf_encrypt
from nacl.exceptions import CryptoError

from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.ports import Entropy
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address, SignedProof, Terms

PLAIN_SIZE = 1_024
"""Bytes of a padded appointment; the largest one takes about 750."""

NONCE_SIZE = 24
BLOB_SIZE = NONCE_SIZE + PLAIN_SIZE + 16
"""Bytes of a sealed appointment."""

_VERSION = 1


class Appointment(msgspec.Struct, frozen=True, array_like=True):
    """What a tower needs to defend one party of one channel."""

    terms: Terms
    proof0: SignedProof | None
    proof1: SignedProof | None
    voucher_signature: bytes
    """The party's, over the voucher that names the tower."""

    @property
    def proofs(self) -> tuple[SignedProof | None, SignedProof | None]:
        """The newest proof of each simplex, None for genesis."""
        return self.proof0, self.proof1


_CODEC: Codec[Appointment] = Codec(Appointment)


def locator_of(close_key: bytes, tower: Address, party: Address) -> bytes:
    """Return the 32 bytes under which the tower keeps the party's appointment."""
    return keccak(b"tallystick/tower/locator/1" + close_key + tower + party)


def _key_of(close_key: bytes, tower: Address, party: Address) -> bytes:
    return keccak(b"tallystick/tower/key/1" + close_key + tower + party)


def seal(appointment: Appointment, close_key: bytes, tower: Address, party: Address, entropy: Entropy) -> bytes:
    """Return the blob of an appointment, BLOB_SIZE bytes that nobody can read without `close_key`."""
    packed = _CODEC.encode(appointment)
    plain = bytes([_VERSION]) + len(packed).to_bytes(2, "big") + packed
    if len(plain) > PLAIN_SIZE:
        raise InvalidInput(f"an appointment takes at most {PLAIN_SIZE} bytes, this one {len(plain)}")
    nonce = entropy(NONCE_SIZE)
    sealed: bytes = crypto_aead_xchacha20poly1305_ietf_encrypt(
        plain.ljust(PLAIN_SIZE, b"\0"),
        locator_of(close_key, tower, party),
        nonce,
        _key_of(close_key, tower, party),
    )
    return nonce + sealed


def unseal(blob: bytes, close_key: bytes, tower: Address, party: Address) -> Appointment:
    """Return the appointment in a blob; raise MalformedMessage if it does not open, or holds something else."""
    if len(blob) != BLOB_SIZE:
        raise MalformedMessage(f"a sealed appointment has {BLOB_SIZE} bytes, this one {len(blob)}")
    try:
        plain: bytes = crypto_aead_xchacha20poly1305_ietf_decrypt(
            blob[NONCE_SIZE:],
            locator_of(close_key, tower, party),
            blob[:NONCE_SIZE],
            _key_of(close_key, tower, party),
        )
    except CryptoError as error:
        raise MalformedMessage("the sealed appointment does not open with this channel's close key") from error
    size = int.from_bytes(plain[1:3], "big")
    if plain[0] != _VERSION or any(plain[3 + size :]):
        raise MalformedMessage("the sealed appointment has another version, or is not padded with zeros")
    return _CODEC.decode(plain[3 : 3 + size])
