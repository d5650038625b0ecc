"""Two players, A and C, whose stakes go over B: what they sign, what they bring to court, and what that decides.

The court of this chain is as simple as it may be: who speaks first decides, at once, as an outcome does, or later, as a
state that stands does. Which one, tests say. Whatever it says, it says of both locks of a stake.
"""

from __future__ import annotations

from simulation.line_court import CourtLine
from simulation.pair import CHAIN_ID, CONTRACT
from tallystick.channels.apps.tictactoe import TicTacToe
from tallystick.channels.protocol.apps import (
    APP,
    AppOutcome,
    AppTerms,
    OutcomeProof,
    digest_outcome,
    instance_id,
    stake_condition,
)
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.session.chaintime import StakeInCourt
from tallystick.router.onion.sphinx import BuiltOnion

LIFETIME = 3_600


class StakesLine(CourtLine):
    """`terms` of an instance whose players are A and C."""

    def terms(self, stakes: tuple[int, int], nonce: int = 0, lifetime: int = LIFETIME, ends: str = "AC") -> AppTerms:
        """Return the terms of a new instance between the first and the last."""
        players = self[ends[0]].key.address, self[ends[1]].key.address
        times = self.time + lifetime, 600
        return AppTerms(
            CHAIN_ID, CONTRACT, TicTacToe().id, keccak(b"start"), players, stakes, (NATIVE, NATIVE), *times, nonce
        )

    def lock(
        self, terms: AppTerms, player: int, route: str = "ABC", *, amounts: tuple[int, ...] = (), expiry: int = 0
    ) -> BuiltOnion:
        """Let a player lock its stake over `route`, which begins with it; `amounts`: what each hop is told to lock."""
        names, number = route if player == 0 else route[::-1], terms.stakes[player]
        instance = instance_id(terms)
        told = amounts or (number,) * (len(names) - 1)
        expiries = terms.expiry, expiry or terms.expiry
        return self.send_stake(stake_condition(instance, player), APP, instance, names, told, expiries)

    def outcome(self, terms: AppTerms, paid: tuple[int, int], ends: str = "AC") -> bytes:
        """Return an outcome that both players sign: they sign whatever they like."""
        digest = digest_outcome(terms, AppOutcome(instance_id(terms), paid))
        first, second = (self[name].key.sign(digest) for name in ends)
        return OutcomeProof(terms, paid, (first, second)).encode()

    def judge(self, terms: AppTerms, paid: tuple[int, int], proof: bytes = b"", decides: int = 0) -> bool:
        """Let the court hear of an instance, unless it has decided or it is too late; return whether it took it."""
        puzzles = [(APP, stake_condition(instance_id(terms), player)) for player in (0, 1)]
        known = self.said.get(puzzles[0])
        if self.time > terms.expiry if known is None else self.time >= known[-1][1].decides:
            return False
        stakes = [StakeInCourt(terms.expiry, decides or self.time, one) for one in paid]
        self.hear(dict(zip(puzzles, stakes, strict=True)), proof)
        return True
