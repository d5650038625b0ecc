"""What stands in a recording for the outcome of an app: that of another instance, whose players are nobody.

A stake is paid by what two players signed about terms that nobody else sees, and its condition is made of these terms.
So in place of an instance stands one with other players, rules and first state, all made of its id; its outcome pays as
much of the same stakes, and is signed anew by those players, or by nobody if it did not hold. Conditions of stakes that
were never shown an outcome are replaced as those of hash locks are.
"""

from __future__ import annotations

from collections.abc import Callable

from tallystick.channels.protocol.apps import (
    PERIOD_LEAST,
    AppOutcome,
    AppTerms,
    OutcomeProof,
    digest_outcome,
    instance_id,
    stake_condition,
)
from tallystick.channels.protocol.keys import PrivateKey

NOBODYS = bytes(64)
"""A signature that is nobody's."""


class StandInApp:
    """The instance that stands for one."""

    def __init__(self, terms: AppTerms, stand_in: Callable[[bytes], bytes]) -> None:
        """`stand_in` gives 32 bytes that stand for others, and lead to them in no way."""
        instance = instance_id(terms)
        self._keys = [PrivateKey(stand_in(instance + bytes([player]))) for player in (0, 1)]
        self.terms = AppTerms(
            chain_id=terms.chain_id,
            contract=terms.contract,
            app=stand_in(instance + b"app"),
            start=stand_in(instance + b"start"),
            players=(self._keys[0].address, self._keys[1].address),
            stakes=terms.stakes,
            assets=terms.assets,
            expiry=terms.expiry,
            period=PERIOD_LEAST,
            nonce=0,
        )
        self.conditions = tuple(
            (stake_condition(instance, player), stake_condition(instance_id(self.terms), player)) for player in (0, 1)
        )
        """Of both stakes: the condition, and what stands for it."""

    def outcome(self, outcome: OutcomeProof) -> OutcomeProof:
        """Return what stands for an outcome of the instance. One that does not hold becomes one that does not."""
        signatures = NOBODYS, NOBODYS
        if outcome.holds():
            digest = digest_outcome(self.terms, AppOutcome(instance_id(self.terms), outcome.paid))
            signatures = self._keys[0].sign(digest), self._keys[1].sign(digest)
        return OutcomeProof(self.terms, outcome.paid, signatures)
