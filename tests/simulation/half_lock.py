"""A kind of lock that no package knows: a preimage of any length under keccak, which pays half of the amount."""

from __future__ import annotations

from tallystick.channels.errors import Fault, InvalidUpdate
from tallystick.channels.protocol.conditions.kinds import LockKind
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Lock

HALF = 200


class HalfLock(LockKind):
    """Off chain."""

    number = HALF
    name = "half"

    def amount_paid(self, lock: Lock, proof: bytes) -> int:
        """Return half of the amount, rounded down."""
        if keccak(proof) != lock.condition:
            raise InvalidUpdate(f"this is not the preimage of lock {lock.id}", Fault.BAD_PROOF)
        return lock.amount // 2
