"""A kind of lock that no package knows: a preimage of any length under keccak, which pays half of the amount."""

from __future__ import annotations

from tallystick.channels.errors import Fault, InvalidUpdate
from tallystick.channels.protocol.conditions.kinds import LockKind
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Lock
from tallystick.settlement.contract.verdicts.rules import PlainVerdict
from tallystick.settlement.errors import Revert, Reverted

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


class HalfVerdict(PlainVerdict):
    """On chain: kept is the block time at which the preimage became public."""

    number = HALF
    early = True

    def keep(self, condition: bytes, proof: bytes, known: int, time: int) -> int:
        """Take a preimage once."""
        if keccak(proof) != condition:
            raise Reverted(Revert.BAD_PROOF, "this is not the preimage of that condition")
        if known:
            raise Reverted(Revert.ALREADY_REGISTERED, f"this preimage is public since {known}")
        return time

    def due(self, lock: Lock, time: int, kept: int) -> int | None:
        """Return half of the amount if the preimage was public in time."""
        if kept and kept <= lock.expiry:
            return lock.amount // 2
        return None if time <= lock.expiry else 0
