"""Whatever the other player, the blocks and reorganisations do: who is honest gets what the rules give, in time."""

from __future__ import annotations

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

from simulation.court_bench import EXPIRY, GAME, PERIOD, TERMS, signed
from simulation.court_players import Blocks, Table, after, legal
from tallystick.channels.protocol.app_court import CourtMoveCall, court_seconds
from tallystick.channels.protocol.keys import keccak
from tallystick.settlement.chain import Call
from tallystick.settlement.enforcement.apps import brings

SECONDS = st.integers(1, 20)


class Dispute(RuleBasedStateMachine):
    """One game."""

    @initialize(honest=st.integers(0, 1))
    def begin(self, honest: int) -> None:
        self.blocks, self.table = Blocks(), Table(honest)
        self.held_back = False
        self.calm = 5
        """Blocks since the last reorganisation."""
        self.over: tuple[int | None, int | None] | None = None
        self.last_agreed = 0

    # --- off chain ---------------------------------------------------------------------------------------------------

    def is_turn(self, player: int) -> bool:
        _, state = self.table.newest
        return self.table.held.outcome is None and self.table.held.move is None and GAME.turn(state) == player

    @precondition(lambda self: self.is_turn(self.table.honest))
    @rule(pick=st.integers(0, 8), acknowledged=st.booleans())
    def honest_moves(self, pick: int, acknowledged: bool) -> None:
        cells = legal(self.table.newest[1])
        self.table.move(cells[pick % len(cells)])
        if acknowledged:
            self.table.acknowledged()

    @precondition(lambda self: self.is_turn(1 - self.table.honest))
    @rule(pick=st.integers(0, 8))
    def other_moves(self, pick: int) -> None:
        number, state = self.table.newest
        cells = legal(state)
        self.table.take(number + 1, after(state, cells[pick % len(cells)]))

    @rule()
    def other_acknowledges(self) -> None:
        self.table.acknowledged()

    @rule()
    def owner_disputes(self) -> None:
        self.table.held = replace(self.table.held, disputed=True)

    @precondition(lambda self: GAME.turn(self.table.newest[1]) is None and self.table.held.move is None)
    @rule(tells=st.booleans())
    def both_sign_the_outcome(self, tells: bool) -> None:
        call = self.table.outcome(GAME.outcome(self.table.newest[1], TERMS.stakes))
        if tells:
            self.mine(1, [call], honest=False)

    # --- in court ----------------------------------------------------------------------------------------------------

    def mine(self, seconds: int, others: list[Call], *, honest: bool, first: bool = False) -> None:
        wanted = self.table.look(self.blocks.court, self.blocks.now)
        if not honest and wanted and (self.held_back or self.calm < 1):
            honest = True
        self.held_back = not honest and bool(wanted)
        ours = wanted if honest else []
        self.blocks.mine(seconds, [*ours, *others] if first else [*others, *ours])
        self.calm += 1

    @rule(seconds=SECONDS, count=st.integers(1, 40), honest=st.booleans())
    def blocks_pass(self, seconds: int, count: int, honest: bool) -> None:
        for _ in range(count):
            self.mine(seconds, [], honest=honest)

    @rule(seconds=SECONDS, which=st.integers(0, 9), first=st.booleans(), honest=st.booleans())
    def other_registers_what_it_holds(self, seconds: int, which: int, first: bool, honest: bool) -> None:
        call = self.table.other_has[which % len(self.table.other_has)]
        self.mine(seconds, [call], honest=honest, first=first)

    @rule(seconds=SECONDS, pick=st.integers(0, 8), which=st.integers(0, 9), first=st.booleans(), honest=st.booleans())
    def other_moves_in_court(self, seconds: int, pick: int, which: int, first: bool, honest: bool) -> None:
        """On what stands if it may; else it registers an old state where it is its turn, and moves on that at once."""
        court, other = self.blocks.court, 1 - self.table.honest
        calls: list[Call] = []
        stands = court.stands if court is not None else None
        if stands is not None and GAME.turn(stands.state) == other:
            number, state = stands.number, stands.state
        else:
            old = self.table.other_has[which % len(self.table.other_has)]
            number, state = old.number, old.state
            calls.append(old)
        cells = legal(state) if GAME.turn(state) == other else []
        if cells:
            cell = cells[pick % len(cells)]
            follows = after(state, cell)
            calls.append(CourtMoveCall(TERMS, state, bytes([cell]), signed(other, number + 1, follows)))
        self.mine(seconds, calls, honest=honest, first=first)

    @precondition(lambda self: self.calm >= 5 and self.over is None)
    @rule(depth=st.integers(1, 2))
    def blocks_go_away(self, depth: int) -> None:
        self.blocks.reorganise(depth)
        self.calm, self.held_back = 0, True

    # --- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def a_decision_stays(self) -> None:
        now = self.blocks.now
        found = (self.blocks.due(0, now), self.blocks.due(1, now))
        assert (found[0] is None) == (found[1] is None)
        for paid, stake in zip(found, TERMS.stakes, strict=True):
            assert paid is None or 0 <= paid <= stake
        if self.over is not None:
            assert found == self.over
        elif found[0] is not None and self.calm >= 5:
            self.over = found
            self.judge()

    def judge(self) -> None:
        """Who is honest has got what the rules say of a state that followed from the newest that it held."""
        court, held = self.blocks.court, self.table.held
        assert self.over is not None
        if court is None:
            assert self.over == (0, 0) and self.blocks.now > EXPIRY
            assert held.outcome is not None or not brings(held), "a dispute would have brought something"
        elif court.outcome is not None:
            assert held.outcome is not None and self.over == held.outcome.paid
        else:
            stands = court.stands
            assert stands is not None and held.agreed is not None
            number, state = self.table.newest  # the other may have signed our move, and told it the court alone
            ours = ((held.agreed.state.number, held.agreed.state.state), (number, keccak(state)))
            assert any(court.contains(*each) for each in ours)
            ends = GAME.turn(stands.state)
            assert ends != self.table.honest, "who is honest is never late"
            expected = (GAME.outcome if ends is None else GAME.forfeit)(stands.state, TERMS.stakes)
            assert self.over == expected
            assert court.until <= EXPIRY + court_seconds(GAME.moves_most, PERIOD)

    def teardown(self) -> None:
        """Every dispute ends: each number may be registered once, and each state moved on, and each takes a period."""
        if not hasattr(self, "blocks"):
            return
        for _ in range(2 * (EXPIRY + 2 * (1 + GAME.moves_most) * PERIOD) // 20):
            if self.over is not None:
                break
            self.mine(20, [], honest=True)
            self.a_decision_stays()
        assert self.over is not None
        before = self.over
        for call in self.table.other_has:
            self.mine(1, [call], honest=True)
            self.a_decision_stays()
        assert self.over == before


def run(examples: int, steps: int) -> None:
    kept: Any = settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    run_state_machine_as_test(Dispute, settings=kept)  # type: ignore[no-untyped-call]


def test_who_is_honest_gets_what_the_rules_give() -> None:
    run(25, 25)


@pytest.mark.soak
def test_who_is_honest_gets_what_the_rules_give_at_length() -> None:
    run(600, 60)
