"""Kind 1: a lock that is a player's stake in an application, which pays what the app's outcome says of it (`apps`)."""

from __future__ import annotations

from tallystick.channels.errors import Fault, InvalidInput, InvalidUpdate
from tallystick.channels.protocol.apps import APP, OutcomeProof, instance_id, stake_condition
from tallystick.channels.protocol.conditions.kinds import LockKind
from tallystick.channels.protocol.objects import Lock


class AppLock(LockKind):
    """Off chain it is decided by the outcome that both players signed, in whatever channel it stands."""

    number = APP
    name = "app"
    routed = True
    divisible = True
    judged = True
    expected = True

    def amount_paid(self, lock: Lock, proof: bytes) -> int:
        """Return what the outcome takes of this player's stake; raise InvalidUpdate if it is not about this lock."""
        try:
            outcome = OutcomeProof.decode(proof)
        except InvalidInput as error:
            raise InvalidUpdate(f"this is no proof for lock {lock.id}: {error}", Fault.BAD_PROOF) from error
        instance = instance_id(outcome.terms)
        player = next((each for each in (0, 1) if stake_condition(instance, each) == lock.condition), None)
        if player is None or not outcome.holds():
            raise InvalidUpdate(f"the outcome is not one of the app of lock {lock.id}", Fault.BAD_PROOF)
        if outcome.terms.expiry > lock.expiry:
            raise InvalidUpdate(f"lock {lock.id} expires before its app's terms: no court decides it", Fault.BAD_PROOF)
        return min(outcome.paid[player], lock.amount)
