"""Sealed appointments: what a tower holds and cannot read before a unilateral close (PROTOCOL section 7).

Everything follows from the channel's `close_key`, which the two participants share and which a unilateral close
publishes. With it, the tower's address and the client's (`party`), anybody finds the appointment and opens it:

    locator = keccak("tallystick/tower/locator/1" ‖ close_key ‖ tower ‖ party)
    key     = keccak("tallystick/tower/key/1"     ‖ close_key ‖ tower ‖ party)
    blob    = nonce ‖ XChaCha20-Poly1305(key, nonce, associated data = locator, padded appointment)

The nonce is random (24 bytes), since one key seals every revision. Blobs have one of two sizes: the smaller one, but
for appointments with more claims than fit (two or three). Of more than the larger one takes (about thirty), those of
the highest worth are in it. The first byte within is the version: 1 has no claims, 2 has some; a tower reads both.
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
from tallystick.watchtower.claims import LockClaim, fitting

PLAIN_SIZES = (1_024, 4_096)
"""Bytes of a padded appointment; the largest one without claims takes about 750."""

HEAD_SIZE = 3
"""Bytes of the version and the length before an appointment."""

NONCE_SIZE = 24
BLOB_SIZES = tuple(NONCE_SIZE + size + 16 for size in PLAIN_SIZES)
"""Bytes of a sealed appointment: one of these."""

BLOB_SIZE = BLOB_SIZES[0]
"""Bytes of one without claims."""

_VERSION_BARE, _VERSION = 1, 2


class BareAppointment(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An appointment as version 1 writes it."""

    terms: Terms
    proof0: SignedProof | None
    proof1: SignedProof | None
    voucher_signature: bytes


class Appointment(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a tower needs to defend one party of one channel."""

    terms: Terms
    proof0: SignedProof | None
    proof1: SignedProof | None
    voucher_signature: bytes
    """The party's, over the voucher that names the tower."""
    claims: tuple[LockClaim, ...] = ()
    """What pays for the peer's pending locks."""

    @property
    def proofs(self) -> tuple[SignedProof | None, SignedProof | None]:
        """The newest proof of each simplex, None for genesis."""
        return self.proof0, self.proof1


_BARE: Codec[BareAppointment] = Codec(BareAppointment)
_CODEC: Codec[Appointment] = Codec(Appointment)


def locator_of(close_key: bytes, tower: Address, party: Address) -> bytes:
    """Return the 32 bytes under which the tower keeps the party's appointment."""
    return keccak(b"tallystick/tower/locator/1" + close_key + tower + party)


def _key_of(close_key: bytes, tower: Address, party: Address) -> bytes:
    return keccak(b"tallystick/tower/key/1" + close_key + tower + party)


def seal(appointment: Appointment, close_key: bytes, tower: Address, party: Address, entropy: Entropy) -> bytes:
    """Return the blob of an appointment, one of BLOB_SIZES, that nobody can read without `close_key`.

    It has the claims that fit. Raise InvalidInput if the rest of it does not.
    """
    plain = _plain(appointment)
    nonce = entropy(NONCE_SIZE)
    sealed: bytes = crypto_aead_xchacha20poly1305_ietf_encrypt(
        plain,
        locator_of(close_key, tower, party),
        nonce,
        _key_of(close_key, tower, party),
    )
    return nonce + sealed


def _plain(appointment: Appointment) -> bytes:
    """Return a padded appointment."""
    bare = BareAppointment(appointment.terms, appointment.proof0, appointment.proof1, appointment.voucher_signature)
    packed, version = _BARE.encode(bare), _VERSION_BARE
    if appointment.claims:
        room = PLAIN_SIZES[-1] - HEAD_SIZE - len(packed) - 1
        claims = fitting(appointment.claims, room)
        packed, version = _CODEC.encode(msgspec.structs.replace(appointment, claims=claims)), _VERSION
    plain = bytes([version]) + len(packed).to_bytes(2, "big") + packed
    size = next((size for size in PLAIN_SIZES if len(plain) <= size), None)
    if size is None:
        raise InvalidInput(f"an appointment takes at most {PLAIN_SIZES[-1]} bytes, this one {len(plain)}")
    return plain.ljust(size, b"\0")


def unseal(blob: bytes, close_key: bytes, tower: Address, party: Address) -> Appointment:
    """Return the appointment in a blob; raise MalformedMessage if it does not open, or holds something else."""
    if len(blob) not in BLOB_SIZES:
        raise MalformedMessage(
            f"a sealed appointment has {' or '.join(map(str, BLOB_SIZES))} bytes, this one {len(blob)}"
        )
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
    packed, padding = plain[HEAD_SIZE : HEAD_SIZE + size], plain[HEAD_SIZE + size :]
    if plain[0] not in (_VERSION_BARE, _VERSION) or any(padding):
        raise MalformedMessage("the sealed appointment has another version, or is not padded with zeros")
    if plain[0] == _VERSION_BARE:
        bare = _BARE.decode(packed)
        return Appointment(bare.terms, bare.proof0, bare.proof1, bare.voucher_signature)
    return _CODEC.decode(packed)
