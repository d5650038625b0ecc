"""Stakes in apps on chain: what the outcome that both players signed takes of each (docs/apps.md).

Kept of a stake is when the chain first heard of its instance, and how much goes to the other player. A lock counts on
what was heard of at or before its own expiry, which the instance's terms need not share: else a lock that went back to
its sender could be decided again.
"""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.apps import APP, OutcomeProof, instance_id, stake_condition
from tallystick.channels.protocol.objects import Lock
from tallystick.settlement.contract.verdicts.rules import KEPT_BITS, PlainVerdict
from tallystick.settlement.errors import Revert, Reverted


class AppVerdict(PlainVerdict):
    """What is kept of a stake is a block time, above the amount that it pays."""

    number = APP
    early = True
    wide = True

    def keep(self, condition: bytes, proof: bytes, known: int, time: int) -> int:
        """Take the first outcome that both players of the instance signed, up to its expiry."""
        try:
            outcome = OutcomeProof.decode(proof)
        except InvalidInput as error:
            raise Reverted(Revert.BAD_PROOF, str(error)) from error
        instance = instance_id(outcome.terms)
        player = next((each for each in (0, 1) if stake_condition(instance, each) == condition), None)
        if player is None:
            raise Reverted(Revert.BAD_PROOF, "this outcome is not one of that stake's instance")
        if known:
            raise Reverted(Revert.ALREADY_REGISTERED, f"since {known >> KEPT_BITS} this stake is decided")
        if time > outcome.terms.expiry:
            raise Reverted(Revert.EXPIRED, f"outcomes of this instance counted until {outcome.terms.expiry}")
        if not outcome.holds():
            raise Reverted(Revert.BAD_SIGNATURE, "the outcome pays more than was staked, or not both players signed it")
        return time << KEPT_BITS | outcome.paid[player]

    def due(self, lock: Lock, time: int, kept: int) -> int | None:
        """Return what the outcome takes of it, if the chain heard of that at or before the expiry."""
        heard, paid = divmod(kept, 1 << KEPT_BITS)
        if heard and heard <= lock.expiry:
            return min(paid, lock.amount)
        return None if time <= lock.expiry else 0
