"""Noise_XK_secp256k1_ChaChaPoly_SHA256: the handshake and the encrypted frames of BOLT 8, without any I/O.

    initiator                     responder
    act one   50 bytes   ──────▶                   e, es     proves that the initiator knows the responder's key
                         ◀──────  act two 50 bytes  e, ee
    act three 66 bytes   ──────▶                   s, se     proves the initiator's key, which stays encrypted

Then each message is a frame: its length (2 bytes) encrypted, 16 bytes MAC, the body encrypted, 16 bytes MAC.

Rules: a key encrypts 1000 times, then it is replaced (every 500 messages in its direction). One byte that is wrong ends
the session for good: nothing after it can be read. The ephemeral key is drawn anew for every handshake.
Source: BOLT 8 (lightning/bolts, 08-transport.md); Noise protocol framework, revision 34; RFC 8439; RFC 5869.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tallystick.channels.errors import HandshakeFailed, InvalidInput, MalformedMessage
from tallystick.channels.limits import MESSAGE_MAX
from tallystick.channels.protocol.keys import PrivateKey, PublicKey

ACT_ONE_SIZE = 50
ACT_TWO_SIZE = 50
ACT_THREE_SIZE = 66
"""Bytes of the handshake's three messages."""

MAC_SIZE = 16
"""Bytes of a Poly1305 tag."""

HEADER_SIZE = 2 + MAC_SIZE
"""Bytes of a frame before its body: the encrypted length and its MAC."""

FRAME_OVERHEAD = HEADER_SIZE + MAC_SIZE
"""Bytes that a frame is longer than its message."""

ROTATION = 1000
"""Encryptions under one key before it is replaced. Even, so a frame's two parts always share a key."""

_PROTOCOL = hashlib.sha256(b"Noise_XK_secp256k1_ChaChaPoly_SHA256").digest()
_PROLOGUE = b"lightning"
_VERSION = b"\x00"
_NONCES = [bytes(4) + number.to_bytes(8, "little") for number in range(ROTATION)]


def _derive(salt: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Return the two 32-byte keys of HKDF-SHA256 with no info (RFC 5869)."""
    base = hmac.digest(salt, secret, "sha256")
    first = hmac.digest(base, b"\x01", "sha256")
    return first, hmac.digest(base, first + b"\x02", "sha256")


class Encryptor:
    """The sending half of a session: turns messages into frames."""

    __slots__ = ("_chaining", "_key", "_nonce", "_seal")

    def __init__(self, chaining: bytes, key: bytes) -> None:
        """Take the two 32-byte secrets with which the handshake ended."""
        self._chaining = chaining
        self._key = key
        self._seal = ChaCha20Poly1305(key).encrypt
        self._nonce = 0

    def encrypt_all(self, messages: Sequence[bytes]) -> bytes:
        """Return the frames of many messages, joined for one write. Raise InvalidInput if one is too long."""
        for message in messages:
            if len(message) > MESSAGE_MAX:
                raise InvalidInput(f"a message has at most {MESSAGE_MAX} bytes, this one has {len(message)}")
        frames = []
        for message in messages:
            if self._nonce == ROTATION:
                self._chaining, self._key = _derive(self._chaining, self._key)
                self._seal = ChaCha20Poly1305(self._key).encrypt
                self._nonce = 0
            nonce, seal = self._nonce, self._seal
            frames.append(seal(_NONCES[nonce], len(message).to_bytes(2, "big"), None))
            frames.append(seal(_NONCES[nonce + 1], message, None))
            self._nonce = nonce + 2
        return b"".join(frames)


class Decryptor:
    """The receiving half of a session: takes bytes as they come and returns the messages that are whole.

    It holds at most one unfinished frame. What it returns does not depend on how the bytes were cut.
    """

    __slots__ = ("_buffer", "_chaining", "_fault", "_key", "_length", "_nonce", "_open")

    def __init__(self, chaining: bytes, key: bytes) -> None:
        """Take the two 32-byte secrets with which the handshake ended."""
        self._chaining = chaining
        self._key = key
        self._open = ChaCha20Poly1305(key).decrypt
        self._nonce = 0
        self._buffer = bytearray()
        self._length: int | None = None  # of the body that is due, once its header was read
        self._fault: MalformedMessage | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that `data` completes, perhaps none.

        Raise MalformedMessage at the first byte that is not the peer's. Messages before it are returned first, and
        the next call raises; after that every call does.
        """
        if self._fault is not None:
            raise self._fault
        self._buffer += data
        if len(self._buffer) < self._due():
            return []
        messages: list[bytes] = []
        try:
            self._consume(messages)
        except InvalidTag as error:
            self._buffer.clear()
            self._fault = MalformedMessage("the connection's bytes were damaged or forged on their way: close it")
            self._fault.__cause__ = error
            if not messages:
                raise self._fault from error
        return messages

    def _due(self) -> int:
        """Bytes that the part which comes next has."""
        return HEADER_SIZE if self._length is None else self._length + MAC_SIZE

    def _consume(self, messages: list[bytes]) -> None:
        """Open every part that is whole and keep the rest."""
        data = bytes(self._buffer)
        start, size = 0, len(data)
        while (end := start + self._due()) <= size:
            if self._nonce == ROTATION:
                self._chaining, self._key = _derive(self._chaining, self._key)
                self._open = ChaCha20Poly1305(self._key).decrypt
                self._nonce = 0
            part = self._open(_NONCES[self._nonce], data[start:end], None)
            self._nonce += 1
            start = end
            if self._length is None:
                self._length = int.from_bytes(part, "big")
            else:
                self._length = None
                messages.append(part)
        self._buffer = bytearray(data[start:])


class NoiseSession(msgspec.Struct, frozen=True):
    """What a handshake yields: the peer's proven key, and a cipher per direction, by what it does."""

    peer: PublicKey
    encrypt_all: Callable[[Sequence[bytes]], bytes]
    feed: Callable[[bytes], list[bytes]]

    def __repr__(self) -> str:
        return f"Session(with {self.peer!r})"


class _Transcript:
    """The symmetric state of the Noise framework: a hash of all that was said, and the keys mixed so far."""

    __slots__ = ("chaining", "digest", "key")

    def __init__(self, responder: PublicKey) -> None:
        self.chaining = _PROTOCOL
        self.key = bytes(32)
        self.digest = hashlib.sha256(_PROTOCOL + _PROLOGUE).digest()
        self.mix(bytes(responder))

    def mix(self, data: bytes) -> None:
        """Make `data` part of what both sides must agree on."""
        self.digest = hashlib.sha256(self.digest + data).digest()

    def mix_secret(self, secret: bytes) -> None:
        """Make the next key depend on a Diffie-Hellman result."""
        self.chaining, self.key = _derive(self.chaining, secret)

    def seal(self, plain: bytes, nonce: int = 0) -> bytes:
        """Encrypt under the current key, bound to everything said so far."""
        sealed = ChaCha20Poly1305(self.key).encrypt(_NONCES[nonce], plain, self.digest)
        self.mix(sealed)
        return sealed

    def open(self, sealed: bytes, nonce: int = 0) -> bytes:
        """The reverse of `seal`; raise HandshakeFailed if the peer's secrets or transcript differ from ours."""
        try:
            plain = ChaCha20Poly1305(self.key).decrypt(_NONCES[nonce], sealed, self.digest)
        except InvalidTag as error:
            raise HandshakeFailed("the peer does not hold the expected key, or somebody changed its bytes") from error
        self.mix(sealed)
        return plain

    def read_key(self, data: bytes) -> PublicKey:
        """Parse a public key that the peer sent; raise HandshakeFailed if it is none."""
        try:
            return PublicKey(data)
        except InvalidInput as error:
            raise HandshakeFailed("the peer's handshake holds bytes that are no public key") from error

    def session(self, peer: PublicKey, sending: bytes, receiving: bytes) -> NoiseSession:
        """Return what begins where the handshake ended, with a key per direction."""
        outgoing, incoming = Encryptor(self.chaining, sending), Decryptor(self.chaining, receiving)
        return NoiseSession(peer, outgoing.encrypt_all, incoming.feed)


def _body(act: bytes, size: int, name: str) -> bytes:
    """Return an act without its version byte, once its form is checked."""
    if len(act) != size:
        raise HandshakeFailed(f"{name} of the handshake has {size} bytes, the peer sent {len(act)}")
    if act[:1] != _VERSION:
        raise HandshakeFailed(f"the peer's handshake has version {act[0]}, this node speaks version 0 only")
    return act[1:]


class Initiator:
    """The side that dials and knows whom: send `act_one`, then give the answer to `read_act_two`."""

    def __init__(self, key: PrivateKey, responder: PublicKey, ephemeral: PrivateKey) -> None:
        """Take this node's key, the key that the other must hold, and a key drawn for this handshake alone."""
        self._key = key
        self._responder = responder
        self._ephemeral = ephemeral
        self._transcript = _Transcript(responder)
        self._transcript.mix(bytes(ephemeral.public))
        self._transcript.mix_secret(ephemeral.shared_secret(responder))
        self.act_one: bytes = _VERSION + bytes(ephemeral.public) + self._transcript.seal(b"")

    def read_act_two(self, act: bytes) -> tuple[bytes, NoiseSession]:
        """Return act three, to be sent, and the session. Raise HandshakeFailed if the peer is not the one wanted."""
        body, transcript = _body(act, ACT_TWO_SIZE, "act two"), self._transcript
        theirs = transcript.read_key(body[:33])
        transcript.mix(body[:33])
        transcript.mix_secret(self._ephemeral.shared_secret(theirs))
        transcript.open(body[33:])

        # The key of act two is used a second time, so its nonce is 1.
        identity = transcript.seal(bytes(self._key.public), nonce=1)
        transcript.mix_secret(self._key.shared_secret(theirs))
        act_three = _VERSION + identity + transcript.seal(b"")
        sending, receiving = _derive(transcript.chaining, b"")
        return act_three, transcript.session(self._responder, sending, receiving)


class Responder:
    """The side that listens: answer act one with what `read_act_one` returns; `read_act_three` ends the handshake."""

    def __init__(self, key: PrivateKey, ephemeral: PrivateKey) -> None:
        """Take this node's key and a key drawn for this handshake alone."""
        self._key = key
        self._ephemeral = ephemeral
        self._transcript = _Transcript(key.public)

    def read_act_one(self, act: bytes) -> bytes:
        """Return act two, to be sent. Raise HandshakeFailed if the peer looks for a node with another key."""
        body, transcript = _body(act, ACT_ONE_SIZE, "act one"), self._transcript
        theirs = transcript.read_key(body[:33])
        transcript.mix(body[:33])
        transcript.mix_secret(self._key.shared_secret(theirs))
        transcript.open(body[33:])

        transcript.mix(bytes(self._ephemeral.public))
        transcript.mix_secret(self._ephemeral.shared_secret(theirs))
        return _VERSION + bytes(self._ephemeral.public) + transcript.seal(b"")

    def read_act_three(self, act: bytes) -> NoiseSession:
        """Return the session, whose `peer` is the key that the initiator proved to hold; raise HandshakeFailed."""
        body, transcript = _body(act, ACT_THREE_SIZE, "act three"), self._transcript
        peer = transcript.read_key(transcript.open(body[:49], nonce=1))
        transcript.mix_secret(self._ephemeral.shared_secret(peer))
        transcript.open(body[49:])
        receiving, sending = _derive(transcript.chaining, b"")
        return transcript.session(peer, sending, receiving)
