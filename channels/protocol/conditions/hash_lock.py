"""Kind 0: a lock on sha256 of a secret of 32 bytes, which pays all of it."""

from __future__ import annotations

import hashlib

from tallystick.channels.errors import Fault, InvalidUpdate
from tallystick.channels.protocol.conditions.kinds import LockKind
from tallystick.channels.protocol.objects import Lock

HASH = 0
SECRET_SIZE = 32


def digest_of(secret: bytes) -> bytes:
    """Return the condition (32 bytes) of a hash lock that `secret` (32 bytes) satisfies."""
    return hashlib.sha256(secret).digest()


class HashLock(LockKind):
    """Payments through others are made of these."""

    number = HASH
    name = "hash"
    routed = True

    def amount_paid(self, lock: Lock, proof: bytes) -> int:
        """Return all of the amount for the secret; raise InvalidUpdate for anything else."""
        if len(proof) != SECRET_SIZE or digest_of(proof) != lock.condition:
            raise InvalidUpdate(f"the secret does not open lock {lock.id}", Fault.BAD_PROOF)
        return lock.amount
