"""Stakes in apps on chain: what the court makes of their instances (`contract.court`, docs/apps.md).

Kept of a stake is the expiry of its instance's terms, until when the court takes anything about it, and how much goes
to the other player. It counts for locks that expire no earlier than the terms. The court takes an instance up until
then, and so a lock that went back to its sender is never decided again; and it decides within `COURT_MOST` of then, so
that no lock is held for longer after its own expiry, whatever terms two players make up: who passes locks on does not
see them.
"""

from __future__ import annotations

from collections.abc import Callable

from tallystick.channels.limits import PROOF_MAX
from tallystick.channels.protocol.apps import APP, instance_id, stake_condition
from tallystick.channels.protocol.objects import Lock
from tallystick.settlement.chain import ProofRegistered, RegisterProofCall
from tallystick.settlement.contract.court import CourtRecord, decided, pack, read_outcome, unpack
from tallystick.settlement.contract.verdicts.rules import Registration, Verdict
from tallystick.settlement.errors import Revert, Reverted


class AppVerdict(Verdict):
    """What is kept of a stake is what `court.pack` makes of it."""

    number = APP
    call = RegisterProofCall
    early = True
    wide = True

    def registration(self, lock: Lock, proof: bytes) -> RegisterProofCall:
        """Return the call that brings the outcome to court."""
        return RegisterProofCall(APP, lock.condition, proof)

    def register(self, call: RegisterProofCall, kept: Callable[[bytes], int], time: int) -> Registration:
        """Take an outcome that both players signed, before the court has decided: it decides both stakes."""
        if len(call.proof) > PROOF_MAX:
            raise Reverted(Revert.BAD_PROOF, f"a proof has at most {PROOF_MAX} bytes")
        outcome = read_outcome(call.proof)
        instance = instance_id(outcome.terms)
        stakes = stake_condition(instance, 0), stake_condition(instance, 1)
        if call.condition not in stakes:
            raise Reverted(Revert.BAD_PROOF, "this outcome is not one of that stake's instance")
        expiry, until, _ = unpack(kept(call.condition))
        now = decided(CourtRecord(expiry, until, (0, 0)) if expiry else None, outcome, time)
        event = ProofRegistered(call.condition, APP, call.proof, time)
        player = stakes.index(call.condition)
        return Registration(call.condition, pack(now, player), event, ((stakes[1 - player], pack(now, 1 - player)),))

    def due(self, lock: Lock, time: int, kept: int) -> int | None:
        """Return what goes to the other player, once that is decided: not while the instance is in court."""
        return due_in_court(lock, time, kept)


def due_in_court(lock: Lock, time: int, kept: int) -> int | None:
    """Return what a lock pays by what the court keeps of its condition, None while that is open."""
    expiry, until, paid = unpack(kept)
    if expiry and expiry <= lock.expiry:
        return min(paid, lock.amount) if time > until else None
    return None if time <= lock.expiry else 0
