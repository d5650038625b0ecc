"""Sealed appointments: what a tower holds and cannot read before a unilateral close (PROTOCOL section 7).

Everything follows from the channel's `close_key`, which the two participants share and which a unilateral close
publishes. With it, the tower's address and the client's (`party`), anybody finds the appointment and opens it:

    locator = keccak("tallystick/tower/locator/1" ‖ close_key ‖ tower ‖ party)
    key     = keccak("tallystick/tower/key/1"     ‖ close_key ‖ tower ‖ party)
    blob    = nonce ‖ XChaCha20-Poly1305(key, nonce, associated data = locator, padded appointment)

The nonce is random (24 bytes), since one key seals every revision. Blobs have one of two sizes: the smaller one, but
for appointments with more claims than fit (two or three). Of more than the larger one takes (about thirty), those of
the highest worth are in it. The first byte within is the version: 1 has no claims, 2 has some, 3 has the locks of both
states, too, if they fit, for a client that has lost them; a tower reads all of these. Version 4 is a page of the list
of a client's channels (`listing`), which none but the client can open.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_aead_xchacha20poly1305_ietf_encrypt
from nacl.exceptions import CryptoError

from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.ports import Entropy
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address, Lock, SignedProof, Terms
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

_VERSION_BARE, _VERSION_CLAIMS, _VERSION, _VERSION_PAGE = 1, 2, 3, 4

PendingLocks: TypeAlias = tuple[tuple[Lock, ...], tuple[Lock, ...]]
"""The locks that pend in both states of a channel, by the side that writes the state."""


class BareAppointment(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An appointment as version 1 writes it."""

    terms: Terms
    proof0: SignedProof | None
    proof1: SignedProof | None
    voucher_signature: bytes


class ClaimingAppointment(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An appointment as version 2 writes it."""

    terms: Terms
    proof0: SignedProof | None
    proof1: SignedProof | None
    voucher_signature: bytes
    claims: tuple[LockClaim, ...]


class Appointment(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a tower needs to defend one party of one channel."""

    terms: Terms
    proof0: SignedProof | None
    proof1: SignedProof | None
    voucher_signature: bytes
    """The party's, over the voucher that names the tower."""
    claims: tuple[LockClaim, ...] = ()
    """What pays for the peer's pending locks."""
    pending: PendingLocks = ((), ())
    """All locks of both states, for the client itself; none if they did not fit."""

    @property
    def proofs(self) -> tuple[SignedProof | None, SignedProof | None]:
        """The newest proof of each simplex, None for genesis."""
        return self.proof0, self.proof1


_BARE: Codec[BareAppointment] = Codec(BareAppointment)
_CLAIMING: Codec[ClaimingAppointment] = Codec(ClaimingAppointment)
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
    return _sealed(_plain(appointment), close_key, tower, party, entropy)


def seal_page(packed: bytes, close_key: bytes, tower: Address, party: Address, entropy: Entropy) -> bytes:
    """Return the blob of a page of the list of channels, of the sizes that appointments have. Raise InvalidInput."""
    return _sealed(_padded(_VERSION_PAGE, packed), close_key, tower, party, entropy)


def _sealed(plain: bytes, close_key: bytes, tower: Address, party: Address, entropy: Entropy) -> bytes:
    nonce = entropy(NONCE_SIZE)
    sealed: bytes = crypto_aead_xchacha20poly1305_ietf_encrypt(
        plain,
        locator_of(close_key, tower, party),
        nonce,
        _key_of(close_key, tower, party),
    )
    return nonce + sealed


def _plain(appointment: Appointment) -> bytes:
    """Return a padded appointment: with all that pends, if it fits."""
    if any(appointment.pending):
        packed = _CODEC.encode(appointment)
        if HEAD_SIZE + len(packed) <= PLAIN_SIZES[-1]:
            return _padded(_VERSION, packed)
    named = appointment.terms, appointment.proof0, appointment.proof1, appointment.voucher_signature
    packed = _BARE.encode(BareAppointment(*named))
    if not appointment.claims:
        return _padded(_VERSION_BARE, packed)
    room = PLAIN_SIZES[-1] - HEAD_SIZE - len(packed) - 1
    return _padded(_VERSION_CLAIMS, _CLAIMING.encode(ClaimingAppointment(*named, fitting(appointment.claims, room))))


def _padded(version: int, packed: bytes) -> bytes:
    plain = bytes([version]) + len(packed).to_bytes(2, "big") + packed
    size = next((size for size in PLAIN_SIZES if len(plain) <= size), None)
    if size is None:
        raise InvalidInput(f"an appointment takes at most {PLAIN_SIZES[-1]} bytes, this one {len(plain)}")
    return plain.ljust(size, b"\0")


def unseal(blob: bytes, close_key: bytes, tower: Address, party: Address) -> Appointment:
    """Return the appointment in a blob; raise MalformedMessage if it does not open, or holds something else."""
    version, packed = _open(blob, close_key, tower, party)
    match version:
        case 1:
            bare = _BARE.decode(packed)
            return Appointment(bare.terms, bare.proof0, bare.proof1, bare.voucher_signature)
        case 2:
            old = _CLAIMING.decode(packed)
            return Appointment(old.terms, old.proof0, old.proof1, old.voucher_signature, old.claims)
        case 3:
            return _CODEC.decode(packed)
        case _:
            raise MalformedMessage(f"the sealed appointment has another version, {version}, or is none")


def unseal_page(blob: bytes, close_key: bytes, tower: Address, party: Address) -> bytes:
    """Return the page in a blob; raise MalformedMessage if it does not open, or is none."""
    version, packed = _open(blob, close_key, tower, party)
    if version != _VERSION_PAGE:
        raise MalformedMessage("what the tower holds is no page of the list of channels")
    return packed


def _open(blob: bytes, close_key: bytes, tower: Address, party: Address) -> tuple[int, bytes]:
    """Return the version and the content of a blob."""
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
    if any(padding):
        raise MalformedMessage("the sealed appointment has another version, or is not padded with zeros")
    return plain[0], packed
