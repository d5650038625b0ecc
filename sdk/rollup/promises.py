"""An operator's promise that a step comes into a batch in time: signed, so that a broken one can be shown to anybody.

The chain does not judge it: what a promise is for, the chain enforces itself, by its list (`forceClose`, `forceExit`).
"""

from __future__ import annotations

import msgspec

from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.rollup.rules import Place, Statement

_PROMISE = keccak(b"Inclusion(bytes32 step,uint64 until)")


class Promise(msgspec.Struct, frozen=True):
    """The operator's word that a step is in a batch by a time."""

    step: bytes
    """Its word (32 bytes)."""
    until: int
    """Seconds, by the chain's blocks."""
    signature: bytes

    def is_signed(self, place: Place, operator: Address) -> bool:
        """Whether the operator of that rollup gave it."""
        return Statement(operator, digest_promise(place, self.step, self.until)).is_signed(self.signature)


def digest_promise(place: Place, step: bytes, until: int) -> bytes:
    """Return what the operator signs (32 bytes)."""
    return keccak(b"\x19\x01" + place.domain + keccak(_PROMISE + step + until.to_bytes(32, "big")))


def sign_promise(key: PrivateKey, place: Place, step: bytes, until: int) -> Promise:
    """Return a promise."""
    return Promise(step, until, key.sign(digest_promise(place, step, until)))
