"""Whatever the other player, the blocks and reorganisations do: who is honest gets what the newest balances give."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from simulation.virtual_players import CHANNEL, EXPIRY, PERIOD, STAKES, VirtualBlocks, VirtualTable, ended
from tallystick.settlement.chain import Call
from tallystick.settlement.contract.verdicts.virtual import VirtualVerdict, record_of
from tallystick.settlement.simulated import registry

SECONDS = st.integers(1, 20)


class Dispute(RuleBasedStateMachine):
    """One virtual channel."""

    @initialize(honest=st.integers(0, 1))
    def begin(self, honest: int) -> None:
        self.blocks, self.table = VirtualBlocks(), VirtualTable(honest)
        self.held_back = False
        self.calm = 5
        """Blocks since the last reorganisation."""
        self.over: tuple[int | None, ...] | None = None

    # --- off chain ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.table.held.outcome is None and self.blocks.court is None)
    @rule(amount=st.integers(1, 60), acknowledged=st.booleans())
    def honest_pays(self, amount: int, acknowledged: bool) -> None:
        if amount <= self.table.balance:
            self.table.pay(amount, acknowledged=acknowledged)

    @precondition(lambda self: self.table.held.outcome is None and self.blocks.court is None)
    @rule(amount=st.integers(1, 60))
    def other_pays(self, amount: int) -> None:
        if amount <= sum(STAKES) - self.table.balance and self.blocks.now < EXPIRY - 300:
            self.table.receive(amount)

    @precondition(lambda self: self.table.held.outcome is None)
    @rule()
    def owner_disputes(self) -> None:
        self.table.held = replace(self.table.held, disputed=True)

    @precondition(lambda self: self.table.held.outcome is None and self.table.signed[0] == self.acknowledged)
    @rule(settles=st.booleans(), tells=st.booleans())
    def both_sign_how_it_ended(self, settles: bool, tells: bool) -> None:
        owes = STAKES[0] - (self.table.balance if self.table.honest == 0 else sum(STAKES) - self.table.balance)
        amounts = [max(0, owes), max(0, -owes)]
        paid = (0, 0, *amounts) if settles else (*amounts, 0, 0)
        self.table.end(ended(*paid))
        if tells:
            self.mine(1, [self.table.other_has[-1]], honest=False)

    @property
    def acknowledged(self) -> int:
        proof = self.table.held.proofs[self.table.honest]
        return 0 if proof is None else proof.proof.seq

    # --- in court ----------------------------------------------------------------------------------------------------

    def mine(self, seconds: int, others: list[Call], *, honest: bool, first: bool = False) -> None:
        wanted = self.table.look(self.blocks.court, self.blocks.now)
        if not honest and wanted and (self.held_back or self.calm < 1):
            honest = True
        self.held_back = not honest and bool(wanted)
        ours = wanted if honest else []
        self.blocks.mine(seconds, [*ours, *others] if first else [*others, *ours])
        self.calm += 1

    @rule(seconds=SECONDS, count=st.integers(1, 60), honest=st.booleans())
    def blocks_pass(self, seconds: int, count: int, honest: bool) -> None:
        for _ in range(count):
            self.mine(seconds, [], honest=honest)

    @precondition(lambda self: bool(self.table.other_has))
    @rule(seconds=SECONDS, which=st.integers(0, 30), first=st.booleans(), honest=st.booleans())
    def other_brings_what_it_holds(self, seconds: int, which: int, first: bool, honest: bool) -> None:
        call = self.table.other_has[which % len(self.table.other_has)]
        self.mine(seconds, [call], honest=honest, first=first)

    @precondition(lambda self: self.calm >= 5 and self.over is None)
    @rule(depth=st.integers(1, 2))
    def blocks_go_away(self, depth: int) -> None:
        self.blocks.reorganise(depth)
        self.calm, self.held_back = 0, True

    # --- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def who_follows_the_chain_knows_what_the_court_keeps(self) -> None:
        court, state = self.blocks.court, self.blocks.state
        kept = record_of(CHANNEL, partial(registry._kept_by, state, VirtualVerdict()))
        assert kept == (None if court is None else court.record)

    @invariant()
    def a_decision_stays(self) -> None:
        now = self.blocks.now
        found = tuple(self.blocks.due(index, now) for index in range(4))
        assert len({paid is None for paid in found}) == 1
        if self.over is not None:
            assert found == self.over
        elif found[0] is not None and self.calm >= 5:
            assert now <= EXPIRY + PERIOD + 60 or self.blocks.court is None
            self.over = found
            self.judge()

    def judge(self) -> None:
        """Who is honest has got what the newest state that it signed gives, or what the outcome says."""
        assert self.over is not None
        ours, theirs = self.table.honest, 1 - self.table.honest
        paid = [each or 0 for each in self.over]
        if self.table.held.outcome is not None:
            allowed = [list(self.table.held.outcome.paid)]
            if self.blocks.court is None:
                allowed.append([0, 0, 0, 0])  # neither brought it: the locks were ended by it off chain
            assert paid in allowed
            return
        got = STAKES[ours] - paid[ours] + paid[theirs]
        assert got >= self.table.balance, (got, self.table.balance)

    def teardown(self) -> None:
        for _ in range(200):
            if self.over is not None:
                return
            self.mine(60, [], honest=True)
            self.a_decision_stays()
        assert self.over is not None, "no decision"


def run(examples: int, steps: int) -> None:
    kept: Any = settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    run_state_machine_as_test(Dispute, settings=kept)  # type: ignore[no-untyped-call]


def test_the_honest_player_gets_what_the_newest_balances_give() -> None:
    run(40, 30)


@pytest.mark.soak
def test_the_honest_player_gets_what_the_newest_balances_give_at_length() -> None:
    run(1_000, 60)
