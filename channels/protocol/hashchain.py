"""Hash chains: what a stream of tiny payments is made of (PROTOCOL section 3, lock kind 2; after PayWord).

    seed ──sha256──▶ … ──sha256──▶ link at depth 2 ──sha256──▶ link at depth 1 ──sha256──▶ tip (depth 0)

A link at depth k hashes to the tip in k steps and is worth k units: who holds it can show that k units were given, and
nobody can find a deeper one. So a payment costs its payer one link and its payee one hash, and the newest link replaces
all before it. The length is bounded, so that a contract can follow a chain to its tip.

The terms of a stream (tip, unit, length, and when it expires) hash to its lock's condition: a registry that is given
them knows without looking anywhere else what a link is worth and until when it may be registered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from math import isqrt

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX, STREAM_LENGTH_MAX
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.values.discretion import Discreet

TERMS_SIZE = 56
PROOF_SIZE = 96
"""Bytes of an encoded proof: link (32) ‖ depth (8) ‖ tip (32) ‖ unit (16) ‖ length (8)."""

_DOMAIN = b"tallystick stream"
_SEED_DOMAIN = b"tallystick stream seed"


def walk(link: bytes, steps: int) -> bytes:
    """Return sha256 applied `steps` times."""
    sha256 = hashlib.sha256
    for _ in range(steps):
        link = sha256(link).digest()
    return link


_FOLLOWED_MAX = 1_024
_FOLLOWED: dict[bytes, tuple[int, bytes]] = {}
"""Links that were found to lead to a tip, with their depth: for speed alone. An unlock is not followed again."""


def _remember(link: bytes, depth: int, tip: bytes) -> None:
    if len(_FOLLOWED) >= _FOLLOWED_MAX:
        del _FOLLOWED[next(iter(_FOLLOWED))]
    _FOLLOWED[link] = (depth, tip)


class StreamTerms(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a stream is worth: `length` links of `unit` each, down from `tip`."""

    tip: bytes
    unit: int
    length: int

    def __post_init__(self) -> None:
        if len(self.tip) != 32:
            raise InvalidInput("the tip of a stream has 32 bytes")
        if not 1 <= self.length <= STREAM_LENGTH_MAX:
            raise InvalidInput(f"a stream has from 1 to {STREAM_LENGTH_MAX} links, not {self.length}")
        if not 1 <= self.unit <= AMOUNT_MAX // self.length:
            raise InvalidInput("the unit of a stream must be positive, and all of them together below 2**128")

    @property
    def amount(self) -> int:
        """What all links together are worth: the amount of the lock."""
        return self.unit * self.length

    def condition(self, expiry: int) -> bytes:
        """Return the condition (32 bytes) of a stream on these terms that expires then."""
        return keccak(_DOMAIN + self.encode() + expiry.to_bytes(8, "big"))

    def encode(self) -> bytes:
        """Return the 56 bytes that travel with the lock, in the place of the onion."""
        return self.tip + self.unit.to_bytes(16, "big") + self.length.to_bytes(8, "big")

    @classmethod
    def decode(cls, data: bytes) -> StreamTerms:
        """Return the terms; raise InvalidInput if these bytes are none."""
        if len(data) != TERMS_SIZE:
            raise InvalidInput(f"the terms of a stream have {TERMS_SIZE} bytes, these are {len(data)}")
        return cls(data[:32], int.from_bytes(data[32:48], "big"), int.from_bytes(data[48:], "big"))

    def fit(self, lock: Lock) -> bool:
        """Whether these are the terms of that lock."""
        return lock.amount == self.amount and lock.condition == self.condition(lock.expiry)


class StreamProof(Discreet, msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A link and what it belongs to: pays `depth` units. At depth 0 the link is the tip, and pays nothing."""

    link: bytes
    depth: int
    terms: StreamTerms

    @property
    def amount(self) -> int:
        """What the receiver gets by it."""
        return self.depth * self.terms.unit

    def holds(self) -> bool:
        """Whether the link is one of this chain, `depth` steps from its tip. Costs that many hashes."""
        if len(self.link) != 32 or not 0 <= self.depth <= self.terms.length:
            return False
        if _FOLLOWED.get(self.link) == (self.depth, self.terms.tip):
            return True
        leads = walk(self.link, self.depth) == self.terms.tip
        if leads:
            _remember(self.link, self.depth, self.terms.tip)
        return leads

    def follows(self, before: StreamProof) -> bool:
        """Whether the link leads to that of `before`, which holds, on the same terms: a hash for each step."""
        steps = self.depth - before.depth
        in_chain = (
            self.terms == before.terms and len(self.link) == 32 and 0 <= steps <= self.terms.length - before.depth
        )
        if not in_chain or walk(self.link, steps) != before.link:
            return False
        _remember(self.link, self.depth, self.terms.tip)
        return True

    def encode(self) -> bytes:
        """Return the 96 bytes that an unlock carries."""
        return self.link + self.depth.to_bytes(8, "big") + self.terms.encode()

    @classmethod
    def decode(cls, data: bytes) -> StreamProof:
        """Return the proof; raise InvalidInput if these bytes are none."""
        if len(data) != PROOF_SIZE:
            raise InvalidInput(f"the proof of a stream has {PROOF_SIZE} bytes, this one has {len(data)}")
        return cls(data[:32], int.from_bytes(data[32:40], "big"), StreamTerms.decode(data[40:]))


def stream_seed(key: PrivateKey, channel: bytes, lock: int) -> bytes:
    """Return the seed of the payer's stream with that lock: from its key alone, so that no crash can lose it."""
    return keccak(_SEED_DOMAIN + key.reveal() + channel + lock.to_bytes(8, "big"))


class HashChain:
    """The payer's side of a chain: every √n-th link is kept, the rest is computed again when it is needed."""

    def __init__(self, seed: bytes, length: int) -> None:
        """`build` follows. Raise InvalidInput unless the length is one of a stream."""
        if not 1 <= length <= STREAM_LENGTH_MAX:
            raise InvalidInput(f"a stream has from 1 to {STREAM_LENGTH_MAX} links, not {length}")
        self.length = length
        self.tip = b""
        self._step = isqrt(length - 1) + 1
        self._kept = [seed]
        self._segment: list[bytes] = []
        self._segment_at = -1

    def build(self) -> Iterator[None]:
        """Hash from the seed to the tip, in slices: whoever builds may let others run between them."""
        last = self.length // self._step
        while len(self._kept) <= last:
            self._kept.append(walk(self._kept[-1], self._step))
            if len(self._kept) % 16 == 0:
                yield
        self.tip = walk(self._kept[-1], self.length - last * self._step)

    @classmethod
    def built(cls, seed: bytes, length: int) -> HashChain:
        """Return a chain that is ready, at once."""
        chain = cls(seed, length)
        for _ in chain.build():
            pass
        return chain

    def link(self, depth: int) -> bytes:
        """Return the link at that depth, 0 (the tip) to `length` (the seed)."""
        number, offset = divmod(self.length - depth, self._step)
        if number != self._segment_at:
            segment = [self._kept[number]]
            for _ in range(self._step - 1):
                segment.append(hashlib.sha256(segment[-1]).digest())
            self._segment, self._segment_at = segment, number
        link = self._segment[offset]
        _remember(link, depth, self.tip)
        return link
