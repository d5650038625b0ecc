"""Onion packets: each hop reads its own payload and learns of nobody but its two neighbours (Sphinx, BOLT 4).

    packet   version 0 (1) | ephemeral key (33) | payload area (1300) | HMAC (32)                    1366 bytes, always
    area     for each hop: length (BigSize) | payload | HMAC of the next packet; then filler, as good as noise

Every hop shares a secret with the payer, by Diffie-Hellman with the ephemeral key, which each hop blinds for the next.
Of the secret come the keys of the stream cipher that hides the area (`rho`), of the HMAC that protects it (`mu`), and
of the failures that travel back (`um`, `ammag`: see `failures`). A hop removes its payload from the front and appends
zeros before it decrypts: the payer foresaw the result (the filler), so the next HMAC holds and the length stays. An
HMAC of 32 zeros says that nobody comes after.

Rules: the HMAC covers the associated data (the lock's condition), so an onion cannot move to another payment; it is
compared in constant time, and before anything in the area is believed. A session key is used for one onion only.
Source: BOLT 4, "Packet Structure" to "Filler Generation"; Danezis and Goldberg, Sphinx (2009).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.protocol.keys import Point, PrivateKey, public_of
from tallystick.channels.values.discretion import Discreet
from tallystick.router.codes import Code
from tallystick.router.errors import InvalidOnion
from tallystick.router.objects import NodeKey
from tallystick.router.onion.tlv import encode_bigsize, read_bigsize

VERSION = 0
KEY_SIZE = 33
HMAC_SIZE = 32
AREA_SIZE = 1_300
"""Bytes that the payloads of all hops share, each with its length and an HMAC."""
PACKET_SIZE = 1 + KEY_SIZE + AREA_SIZE + HMAC_SIZE

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_NO_HMAC = bytes(HMAC_SIZE)
_NONCE = bytes(16)


class BuiltOnion(Discreet, msgspec.Struct, frozen=True):
    """An onion to send with the first lock."""

    packet: bytes
    """1366 bytes, for the first hop."""
    secrets: tuple[bytes, ...]
    """What the payer shares with each hop, in order (32 bytes each): for reading failures."""


class Peeled(Discreet, msgspec.Struct, frozen=True):
    """What one hop finds in its onion."""

    payload: bytes
    secret: bytes
    """Shared with the payer (32 bytes): for failures, and for telling an onion that came before."""
    next_packet: bytes | None
    """1366 bytes for the next hop; None: this is the last one."""


def derive(purpose: bytes, secret: bytes) -> bytes:
    """Return the key (32 bytes) for `purpose` ("rho", "mu", "um", "ammag", "pad") that belongs to a shared secret."""
    return hmac.digest(purpose, secret, "sha256")


def obfuscate(key: bytes, data: bytes) -> bytes:
    """Return `data` under the ChaCha20 stream of `key`, from block 0 with nonce 0; applied twice it is `data` again."""
    return Cipher(ChaCha20(key, _NONCE), mode=None).encryptor().update(data)


def room(payload_sizes: Iterable[int]) -> int:
    """Return how many bytes of the area are left beside payloads of these sizes; negative: they do not fit."""
    return AREA_SIZE - sum(len(encode_bigsize(size)) + size + HMAC_SIZE for size in payload_sizes)


def build_onion(
    session_key: bytes, path: Sequence[NodeKey], payloads: Sequence[bytes], associated: bytes
) -> BuiltOnion:
    """Return the onion that carries `payloads[i]` to `path[i]`, bound to `associated`.

    `session_key` is 32 secret random bytes, new for each onion. Raise InvalidInput if a node's key is none, or if the
    payloads do not fit.
    """
    if not path or len(path) != len(payloads):
        raise InvalidInput("an onion needs at least one hop, and a payload for each")
    if room(len(payload) for payload in payloads) < 0:
        raise InvalidInput(
            f"the instructions for {len(path)} hops do not fit into an onion's {AREA_SIZE} bytes; use a shorter route"
        )
    ephemeral, secrets = _agree(session_key, path)
    framed = [encode_bigsize(len(payload)) + payload for payload in payloads]
    keys = [derive(b"rho", secret) for secret in secrets]
    filler = _filler(keys, framed)
    area = obfuscate(derive(b"pad", session_key), bytes(AREA_SIZE))
    code = _NO_HMAC
    for key, secret, payload in zip(reversed(keys), reversed(secrets), reversed(framed), strict=True):
        area = obfuscate(key, (payload + code + area)[:AREA_SIZE])
        if code is _NO_HMAC:
            area = area[: AREA_SIZE - len(filler)] + filler
        code = _authenticate(secret, area, associated)
    return BuiltOnion(_packet(ephemeral, area, code), tuple(secrets))


def peel(key: PrivateKey, packet: bytes, associated: bytes) -> Peeled:
    """Return what the packet holds for the node of `key`. Raise InvalidOnion, which says what to answer, if nothing."""
    if len(packet) != PACKET_SIZE or packet[0] != VERSION:
        raise InvalidOnion(
            f"this is no onion of version {VERSION}, which has {PACKET_SIZE} bytes", Code.INVALID_ONION_VERSION
        )
    ephemeral, area, told = packet[1 : 1 + KEY_SIZE], packet[1 + KEY_SIZE : -HMAC_SIZE], packet[-HMAC_SIZE:]
    try:
        point = Point(ephemeral)
    except InvalidInput as error:
        raise InvalidOnion("the onion's key is no point of the curve", Code.INVALID_ONION_KEY) from error
    secret = key.agree(point)
    if not hmac.compare_digest(_authenticate(secret, area, associated), told):
        raise InvalidOnion(
            "the onion was damaged, or made for another node or another payment", Code.INVALID_ONION_HMAC
        )
    return _open(secret, point, ephemeral, area)


def onions_of(onion: BuiltOnion) -> Iterator[bytes]:
    """Give the packet that each hop must receive, in order: what the hops before it make of the first one."""
    packet: bytes | None = onion.packet
    for secret in onion.secrets:
        if packet is not None:
            yield packet
            ephemeral = packet[1 : 1 + KEY_SIZE]
            packet = _open(secret, Point(ephemeral), ephemeral, packet[1 + KEY_SIZE : -HMAC_SIZE]).next_packet


def _open(secret: bytes, point: Point, ephemeral: bytes, area: bytes) -> Peeled:
    """Return what a packet holds for the hop that shares this secret with the payer; raise InvalidOnion if nothing."""
    clear = obfuscate(derive(b"rho", secret), area + bytes(AREA_SIZE))
    try:
        size, start = read_bigsize(clear, 0)
    except MalformedMessage as error:
        raise InvalidOnion(f"in the onion, {error}", Code.INVALID_ONION_PAYLOAD, secret) from error
    middle = start + size
    end = middle + HMAC_SIZE
    if end > AREA_SIZE:
        raise InvalidOnion(
            f"the onion's payload says that it has {size} bytes, more than fit", Code.INVALID_ONION_PAYLOAD, secret
        )
    payload, code = clear[start:middle], clear[middle:end]
    if code == _NO_HMAC:
        return Peeled(payload, secret, None)
    following = point.blind(_blinding(ephemeral, secret))
    return Peeled(payload, secret, _packet(following, clear[end : end + AREA_SIZE], code))


def _packet(ephemeral: bytes, area: bytes, code: bytes) -> bytes:
    return bytes([VERSION]) + ephemeral + area + code


def _agree(session_key: bytes, path: Sequence[NodeKey]) -> tuple[bytes, list[bytes]]:
    """Return the first ephemeral public key, and the secret shared with each hop."""
    scalar, ephemeral = session_key, public_of(session_key)
    first, secrets = ephemeral, list[bytes]()
    for number, node in enumerate(path):
        try:
            secrets.append(Point(node).agree(scalar))
        except InvalidInput as error:
            raise InvalidInput(f"no onion can be built for node {node.hex()} of the route: {error}") from error
        if number < len(path) - 1:  # the last hop blinds nothing
            factor = _blinding(ephemeral, secrets[-1])
            scalar = (int.from_bytes(scalar, "big") * int.from_bytes(factor, "big") % _ORDER).to_bytes(32, "big")
            ephemeral = public_of(scalar) if number < len(path) - 2 else b""  # nobody asks for the last one
    return first, secrets


def _filler(keys: Sequence[bytes], framed: Sequence[bytes]) -> bytes:
    """Return what the last hop will find at its area's end: zeros that the hops before appended and decrypted."""
    filler = b""
    for key, payload in zip(keys[:-1], framed[:-1], strict=True):
        start = AREA_SIZE - len(filler)
        extended = bytes(start) + filler + bytes(len(payload) + HMAC_SIZE)
        filler = obfuscate(key, extended)[start:]
    return filler


def _authenticate(secret: bytes, area: bytes, associated: bytes) -> bytes:
    return hmac.digest(derive(b"mu", secret), area + associated, "sha256")


def _blinding(ephemeral: bytes, secret: bytes) -> bytes:
    return hashlib.sha256(ephemeral + secret).digest()
