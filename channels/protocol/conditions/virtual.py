"""Kind 3: a lock that stands for a virtual channel between two players, and pays what its outcome says (`virtual`)."""

from __future__ import annotations

from tallystick.channels.errors import Fault, InvalidInput, InvalidUpdate
from tallystick.channels.protocol.conditions.kinds import LockKind
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.protocol.virtual import VIRTUAL, EndingProof, conditions_of, decode_proof, virtual_id


class VirtualLock(LockKind):
    """Off chain it is decided by the outcome that both players signed, in whatever channel it stands."""

    number = VIRTUAL
    name = "virtual"
    routed = True
    divisible = True
    judged = True
    expected = True

    def amount_paid(self, lock: Lock, proof: bytes) -> int:
        """Return what the outcome takes of this lock; raise InvalidUpdate if it is not about it.

        Balance proofs decide nothing off chain: newer ones may follow for as long as the court takes them.
        """
        try:
            outcome = decode_proof(proof)
        except InvalidInput as error:
            raise InvalidUpdate(f"this is no proof for lock {lock.id}: {error}", Fault.BAD_PROOF) from error
        conditions = conditions_of(virtual_id(outcome.terms))
        if not isinstance(outcome, EndingProof) or lock.condition not in conditions or not outcome.holds():
            raise InvalidUpdate(f"this is no outcome of the virtual channel of lock {lock.id}", Fault.BAD_PROOF)
        if outcome.terms.expiry > lock.expiry:
            raise InvalidUpdate(
                f"lock {lock.id} expires before its virtual channel: no court decides it", Fault.BAD_PROOF
            )
        return min(outcome.paid[conditions.index(lock.condition)], lock.amount)
