"""Keys, addresses and signatures on secp256k1, through coincurve.

A node has one key; its address is its identity. Signatures here are 64 bytes, r and s, deterministic (RFC 6979)
with low s (BIP 62); anything else is refused. A chain also wants `v`: it is added at the chain's edge only
(`with_recovery_id`). Source of the address rule: Ethereum yellow paper, appendix F.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import Any

import coincurve
from coincurve._libsecp256k1 import ffi, lib
from sha3 import keccak_256

from tallystick.channels.errors import InvalidInput, InvalidSignature
from tallystick.channels.protocol.objects import Address

_CONTEXT = coincurve.GLOBAL_CONTEXT.ctx

HALF_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141 // 2
"""Half the order of secp256k1's group: the largest low s."""

_HALF_ORDER = HALF_ORDER.to_bytes(32, "big")


def keccak(data: bytes) -> bytes:
    """Return keccak-256 of `data` (32 bytes), the pre-standard padding that Ethereum uses."""
    digest: bytes = keccak_256(data).digest()
    return digest


class PublicKey:
    """A parsed secp256k1 public key. `bytes(key)` is its compressed form (33 bytes)."""

    __slots__ = ("_compressed", "_parsed", "address")

    def __init__(self, data: bytes) -> None:
        """Parse 33 (compressed) or 65 bytes; raise InvalidInput if they are no point of the curve."""
        try:
            key = coincurve.PublicKey(data)
        except ValueError as error:
            raise InvalidInput("a public key must be 33 bytes that name a point of secp256k1") from error
        self._parsed = key.public_key
        self._compressed: bytes = key.format()
        self.address = Address(keccak(key.format(compressed=False)[1:])[12:])

    def __bytes__(self) -> bytes:
        return self._compressed

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self._compressed == other._compressed

    def __hash__(self) -> int:
        return hash(self._compressed)

    def __repr__(self) -> str:
        return f"PublicKey({self._compressed.hex()})"

    def verify(self, digest: bytes, signature: bytes) -> None:
        """Raise InvalidSignature unless `signature` (64 bytes, low s) is this key's over the 32-byte `digest`."""
        if len(signature) != 64:
            raise InvalidSignature(f"a signature has 64 bytes, this one has {len(signature)}")
        parsed = ffi.new("secp256k1_ecdsa_signature *")
        if not lib.secp256k1_ecdsa_signature_parse_compact(_CONTEXT, parsed, signature):
            raise InvalidSignature("the signature's r or s is out of range")
        # secp256k1_ecdsa_verify accepts low s only.
        if not lib.secp256k1_ecdsa_verify(_CONTEXT, parsed, digest, self._parsed):
            raise InvalidSignature(f"the signature is not that of 0x{self.address.hex()} over this statement")


class PrivateKey:
    """A secp256k1 private key. It never shows its secret in a repr."""

    __slots__ = ("_key", "_secret", "public")

    def __init__(self, secret: bytes) -> None:
        """Take 32 bytes; raise InvalidInput if they are not a number from 1 to the curve's order."""
        if len(secret) != 32:
            raise InvalidInput("a private key must be 32 bytes within the order of secp256k1")
        try:
            self._key = coincurve.PrivateKey(secret)
        except ValueError as error:
            raise InvalidInput("a private key must be 32 bytes within the order of secp256k1") from error
        self._secret: bytes = self._key.secret
        self.public = PublicKey(self._key.public_key.format())

    @property
    def address(self) -> Address:
        """The address that belongs to this key."""
        return self.public.address

    def __repr__(self) -> str:
        return f"PrivateKey(of 0x{self.address.hex()})"

    def reveal(self) -> bytes:
        """Return the 32 secret bytes, for keystores and for signing transactions."""
        return self._secret

    def sign(self, digest: bytes) -> bytes:
        """Return the 64-byte deterministic, low-s signature over the 32-byte `digest`."""
        signature = ffi.new("secp256k1_ecdsa_signature *")
        if len(digest) != 32 or not lib.secp256k1_ecdsa_sign(
            _CONTEXT, signature, digest, self._secret, ffi.NULL, ffi.NULL
        ):
            raise InvalidInput("only a 32-byte digest can be signed")
        output = ffi.new("unsigned char[64]")
        lib.secp256k1_ecdsa_signature_serialize_compact(_CONTEXT, output, signature)
        return bytes(ffi.buffer(output, 64))

    def agree(self, point: Point) -> bytes:
        """Return what `shared_secret` does, with a key that is used for once."""
        return point.agree(self._secret)

    def shared_secret(self, other: PublicKey) -> bytes:
        """Return sha256 of the compressed Diffie-Hellman point with `other` (32 bytes), as BOLT 8's ECDH."""
        secret: bytes = self._key.ecdh(bytes(other))
        return secret


class Point:
    """A public key that is used for one agreement: parsed once, and without the address that a peer's key has."""

    __slots__ = ("_parsed",)

    def __init__(self, data: bytes) -> None:
        """Parse 33 bytes; raise InvalidInput if they are no point of the curve."""
        self._parsed = ffi.new("secp256k1_pubkey *")
        if len(data) != 33 or not lib.secp256k1_ec_pubkey_parse(_CONTEXT, self._parsed, data, 33):
            raise InvalidInput("a public key must be 33 bytes that name a point of secp256k1")

    def agree(self, secret: bytes) -> bytes:
        """Return the Diffie-Hellman secret (32 bytes) with the private key `secret`, as `PrivateKey.shared_secret`.

        Raise InvalidInput if `secret` is no key.
        """
        shared = ffi.new("unsigned char[32]")
        if len(secret) != 32 or not lib.secp256k1_ecdh(_CONTEXT, shared, self._parsed, secret, ffi.NULL, ffi.NULL):
            raise InvalidInput("a private key must be 32 bytes within the order of secp256k1")
        return bytes(ffi.buffer(shared, 32))

    def blind(self, factor: bytes) -> bytes:
        """Return this point times `factor` (32 bytes), compressed; raise InvalidInput if that is no point."""
        copy = ffi.new("secp256k1_pubkey *", self._parsed[0])
        if len(factor) != 32 or not lib.secp256k1_ec_pubkey_tweak_mul(_CONTEXT, copy, factor):
            raise InvalidInput("a point can be blinded by 32 bytes within the order of secp256k1, not 0")
        return _compressed(copy)


def public_of(secret: bytes) -> bytes:
    """Return the public key (33 bytes) of a private key of 32 bytes, used for once; raise InvalidInput."""
    public = ffi.new("secp256k1_pubkey *")
    if len(secret) != 32 or not lib.secp256k1_ec_pubkey_create(_CONTEXT, public, secret):
        raise InvalidInput("a private key must be 32 bytes within the order of secp256k1")
    return _compressed(public)


def _compressed(point: Any) -> bytes:
    output, size = ffi.new("unsigned char[33]"), ffi.new("size_t *", 33)
    lib.secp256k1_ec_pubkey_serialize(_CONTEXT, output, size, point, lib.SECP256K1_EC_COMPRESSED)
    return bytes(ffi.buffer(output, 33))


def close_key(key: PrivateKey, peer: PublicKey, channel: bytes) -> bytes:
    """Return the key (32 bytes) that opens a channel's `close_hash`, which is its keccak (PROTOCOL section 7).

    Both participants derive it, from their Diffie-Hellman secret and the channel's id: nothing needs to be stored,
    and nobody else knows it until a unilateral close publishes it.
    """
    return keccak(b"tallystick close key" + key.shared_secret(peer) + channel)


class _Scratch:
    """What a recovery is made in, one at a time: the library runs without the interpreter's lock."""

    __slots__ = ("key", "output", "point", "signature", "size")

    def __init__(self) -> None:
        self.signature = ffi.new("secp256k1_ecdsa_recoverable_signature *")
        self.key = ffi.new("secp256k1_pubkey *")
        self.output = ffi.new("unsigned char[65]")
        self.size = ffi.new("size_t *", 65)
        self.point = ffi.buffer(self.output + 1, 64)


_FREE: list[_Scratch] = []
"""As many as recovered at once, ever."""


def recover(digest: bytes, signature: bytes, recovery_id: int) -> Address:
    """Return the address that made `signature` over `digest`; raise InvalidSignature if there is none.

    Most of its time is spent without the interpreter's lock, so several threads recover at once.
    """
    if len(signature) != 64 or recovery_id not in (0, 1):
        raise InvalidSignature("a recoverable signature has 64 bytes and a recovery id of 0 or 1")
    try:
        own = _FREE.pop()
    except IndexError:
        own = _Scratch()
    valid = (
        len(digest) == 32
        and lib.secp256k1_ecdsa_recoverable_signature_parse_compact(_CONTEXT, own.signature, signature, recovery_id)
        and lib.secp256k1_ecdsa_recover(_CONTEXT, own.key, own.signature, digest)
        and lib.secp256k1_ec_pubkey_serialize(_CONTEXT, own.output, own.size, own.key, lib.SECP256K1_EC_UNCOMPRESSED)
    )
    point = own.point[:]
    _FREE.append(own)
    if not valid:
        raise InvalidSignature("no key can have made this signature")
    return _address_of(point)


@lru_cache(maxsize=32_768)
def _address_of(point: bytes) -> Address:
    """Return the address of an uncompressed point, without its first byte: the same few sign again and again."""
    address = Address(keccak(point)[12:])
    while len(_POINTS) >= _POINTS_MAX:
        with suppress(KeyError, StopIteration, RuntimeError):  # several threads may do so at once
            del _POINTS[next(iter(_POINTS))]
    _POINTS[address] = point
    return address


_POINTS: dict[Address, bytes] = {}
"""Of addresses that have signed something: a signature is checked faster than its key is recovered."""

_POINTS_MAX = 32_768

_ODD_R = bytes(15)
"""How an r begins that two points on the curve may have: they are above the order, and begin anew. Nobody meets one."""


def is_signed(digest: bytes, signature: bytes, signer: Address) -> bool:
    """Whether `signer` made `signature` (64 bytes, low s) over `digest` (32 bytes): `recover` finds so with 0 or 1."""
    if signature[32:] > _HALF_ORDER:
        return False
    point = _POINTS.get(signer)
    if point is not None and len(signature) == 64 and len(digest) == 32 and signature[:15] != _ODD_R:
        key, parsed = ffi.new("secp256k1_pubkey *"), ffi.new("secp256k1_ecdsa_signature *")
        return bool(
            lib.secp256k1_ec_pubkey_parse(_CONTEXT, key, b"\4" + point, 65)
            and lib.secp256k1_ecdsa_signature_parse_compact(_CONTEXT, parsed, signature)
            and lib.secp256k1_ecdsa_verify(_CONTEXT, parsed, digest, key)
        )
    for recovery_id in (0, 1):
        with suppress(InvalidSignature):
            if recover(digest, signature, recovery_id) == signer:
                return True
    return False


def with_recovery_id(digest: bytes, signature: bytes, signer: Address) -> bytes:
    """Return `signature` as the 65 bytes r ‖ s ‖ v (v = 27 or 28) that a contract's `ecrecover` takes.

    Raise InvalidSignature if `signer` did not make it.
    """
    for recovery_id in (0, 1):
        try:
            if recover(digest, signature, recovery_id) == signer:
                return signature + bytes([27 + recovery_id])
        except InvalidSignature:
            continue
    raise InvalidSignature(f"the signature is not that of 0x{signer.hex()} over this statement")
