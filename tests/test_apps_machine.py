"""Whatever is lost, and whoever crashes: both come to one state, sign nothing twice, and hold what a court needs."""

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

from simulation.app_players import EXPIRY, INSTANCE, MARGIN, Match, in_court, paid_in, refuses
from simulation.court_bench import GAME, KEYS, START, TERMS, signed
from simulation.court_players import after, legal
from tallystick.channels.apps import inputs, machine
from tallystick.channels.apps.instance import AppInstance, AppPhase
from tallystick.channels.errors import InvalidInput, InvalidUpdate, MalformedMessage
from tallystick.channels.protocol import messages
from tallystick.channels.protocol.app_court import AppStands
from tallystick.channels.protocol.app_messages import AppAnswer, AppMove, AppOffer, AppProposal, AppSigned
from tallystick.channels.protocol.apps import PERIOD_MOST, AppOutcome, OutcomeProof, digest_outcome
from tallystick.channels.protocol.keys import keccak

PLAYER = st.integers(0, 1)
CRASH = st.sampled_from([False, False, False, True])


class Playing(RuleBasedStateMachine):
    """One instance."""

    @initialize()
    def begin(self) -> None:
        self.match = Match()

    def held(self, player: int) -> AppInstance | None:
        return self.match.players[player].held

    def tries(self, player: int, happened: inputs.AppInput, crash: bool) -> None:
        """Ask for something that may not be allowed now."""
        before = self.held(player)
        if before is None:
            return
        try:
            self.match.happens(player, happened, crash=crash)
        except InvalidInput:
            assert self.held(player) == before

    # --- the link ----------------------------------------------------------------------------------------------------

    @rule(player=PLAYER, crash=CRASH)
    def a_message_comes(self, player: int, crash: bool) -> None:
        if self.match.ways[player]:
            self.match.deliver(player, crash=crash)

    @rule(count=st.integers(1, 8))
    def messages_come(self, count: int) -> None:
        for _ in range(count):
            for player in (0, 1):
                self.a_message_comes(player, False)

    @rule()
    def the_link_is_lost(self) -> None:
        self.match.cut()

    @precondition(lambda self: not self.match.up)
    @rule()
    def they_connect(self) -> None:
        self.match.connect()

    @rule(seconds=st.sampled_from([1, 60, 2_000]))
    def time_passes(self, seconds: int) -> None:
        self.match.now += seconds

    # --- their owners ------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.held(1) is not None and self.held(1).phase is AppPhase.PROPOSED)
    @rule(crash=CRASH)
    def player_1_agrees(self, crash: bool) -> None:
        self.tries(1, inputs.Agree(), crash)

    @rule(player=PLAYER, crash=CRASH)
    def a_stake_is_queued(self, player: int, crash: bool) -> None:
        held = self.held(player)
        if held is not None and held.phase is AppPhase.AGREED:
            self.tries(player, inputs.StakeQueued(), crash)
            queued = self.held(player)
            self.match.players[player].locked = queued is not None and queued.phase is AppPhase.LOCKING

    @rule(sees=PLAYER, whose=PLAYER, crash=CRASH)
    def a_stake_is_seen(self, sees: int, whose: int, crash: bool) -> None:
        if self.match.players[whose].locked:
            self.tries(sees, inputs.StakeLocked(whose), crash)

    @rule(crash=CRASH)
    def it_begins(self, crash: bool) -> None:
        """All that leads there, without troubles: else few games would."""
        if self.match.up:
            self.messages_come(3)
            if self.held(1) is not None and self.held(1).phase is AppPhase.PROPOSED:  # type: ignore[union-attr]
                self.player_1_agrees(False)
            self.messages_come(2)
            for player in (0, 1):
                self.a_stake_is_queued(player, False)
            for player in (0, 1):
                for whose in (0, 1):
                    self.a_stake_is_seen(player, whose, crash and player == whose == 1)

    @rule(player=PLAYER, cell=st.integers(0, 8), crash=CRASH)
    def somebody_moves(self, player: int, cell: int, crash: bool) -> None:
        self.tries(player, inputs.MakeMove(bytes([cell])), crash)

    @rule(count=st.integers(1, 9), pick=st.integers(0, 8))
    def they_play(self, count: int, pick: int) -> None:
        for _ in range(count):
            for player in (0, 1):
                held = self.held(player)
                if held is not None and held.is_ours:
                    cells = legal(held.state)
                    self.tries(player, inputs.MakeMove(bytes([cells[pick % len(cells)]])), False)
            self.messages_come(1)

    @rule(player=PLAYER, paid=st.sampled_from([(0, 0), (50, 0), (0, 70), (20, 30), (51, 0)]), crash=CRASH)
    def somebody_offers(self, player: int, paid: tuple[int, int], crash: bool) -> None:
        self.tries(player, inputs.OfferOutcome(paid), crash)

    @rule(player=PLAYER, crash=CRASH)
    def somebody_takes_an_offer(self, player: int, crash: bool) -> None:
        self.tries(player, inputs.TakeOffer(), crash)

    @rule(player=PLAYER, crash=CRASH)
    def somebody_resigns(self, player: int, crash: bool) -> None:
        self.tries(player, inputs.Resign(), crash)

    @rule(player=PLAYER, crash=CRASH, really=st.integers(0, 5))
    def somebody_withdraws(self, player: int, crash: bool, really: int) -> None:
        held = self.held(player)
        if really == 0 and held is not None and not (player == 1 and held.phase is AppPhase.PROPOSED):
            self.tries(player, inputs.Withdraw("no"), crash)

    @rule(player=PLAYER, crash=CRASH)
    def somebody_disputes(self, player: int, crash: bool) -> None:
        self.tries(player, inputs.TakeToCourt(), crash)

    # --- one of them cheats ------------------------------------------------------------------------------------------

    @rule(victim=PLAYER, cell=st.integers(0, 9), ahead=st.integers(0, 2))
    def a_move_that_is_not_allowed(self, victim: int, cell: int, ahead: int) -> None:
        """With the right signature: what is refused is the move."""
        held = self.held(victim)
        if held is None or held.agreed is None:
            return
        board = bytearray(held.newest + b"\0")
        free = cell < 9 and not board[cell]
        base = held.move.number if held.move is not None else held.agreed.state.number
        if held.turn == 1 - victim and free and ahead == 1:
            return  # that one is allowed
        board[cell] = 2 - victim
        number, state = base + ahead, bytes(board[: max(9, cell + 1)])
        if number <= held.agreed.state.number:
            return
        assert refuses(self.match, victim, AppMove(INSTANCE, number, bytes([cell]), signed(1 - victim, number, state)))

    @rule(victim=PLAYER, cell=st.integers(0, 8))
    def a_move_that_nobody_signed(self, victim: int, cell: int) -> None:
        held = self.held(victim)
        if held is None or held.agreed is None or held.turn != 1 - victim or held.newest[cell]:
            return
        base = held.move.number if held.move is not None else held.agreed.state.number
        state = after(held.newest, cell)
        message = AppMove(INSTANCE, base + 1, bytes([cell]), signed(victim, base + 1, state))
        assert refuses(self.match, victim, message)

    # --- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def boards_are_those_of_games(self) -> None:
        for player in self.match.players:
            if player.held is not None and player.held.agreed is not None:
                number, board = player.held.agreed.state.number, player.held.state
                assert 9 - board.count(0) == number
                GAME.turn(board)

    @invariant()
    def one_outcome_at_most_has_both_signatures(self) -> None:
        first, second = self.match.players
        assert len(first.outcomes & second.outcomes) <= 1

    @invariant()
    def nobody_begins_before_both_have_locked(self) -> None:
        if not all(player.locked for player in self.match.players):
            assert not any(player.signed for player in self.match.players)

    @invariant()
    def the_court_gives_what_the_rules_give(self) -> None:
        """Of the newest state that one has signed, or of one that the other alone has, and that follows from it."""
        for player, other in (self.match.players, self.match.players[::-1]):
            held = player.held
            if held is None or held.agreed is None or held.outcome is not None:
                continue
            record, newest = in_court(player, other), held.newest
            assert record is not None
            if record.state == keccak(newest):
                assert record.paid == paid_in(newest)
            else:
                assert other.held is not None and record.number > max(player.signed), "an old state stands"
                assert record.paid == paid_in(other.held.newest)

    def teardown(self) -> None:
        if not hasattr(self, "match"):
            return
        self.match.settle()
        self.the_court_gives_what_the_rules_give()
        first, second = (player.held for player in self.match.players)
        assert first is not None
        if second is None or AppPhase.PROPOSED in (first.phase, second.phase):
            assert first.agreed is None and (second is None or second.agreed is None)
            return
        assert (first.outcome, first.paid) == (second.outcome, second.paid)
        if first.outcome is None:
            assert first.move is None and second.move is None
            assert first.agreed == second.agreed
            if first.agreed is not None:
                assert GAME.turn(first.state) is not None, "a game that is over is over for both"


# --- single cases ---------------------------------------------------------------------------------------------------


def begun() -> Match:
    match = Match()
    match.deliver(1)
    match.happens(1, inputs.Agree())
    match.deliver(0)
    for player in (0, 1):
        match.happens(player, inputs.StakeQueued())
    for player in (0, 1):
        for whose in (0, 1):
            match.happens(player, inputs.StakeLocked(whose))
    match.settle()
    return match


def test_a_game_is_played_to_its_end() -> None:
    match = begun()
    for count, cell in enumerate((0, 3, 1, 4, 2)):
        match.happens(count % 2, inputs.MakeMove(bytes([cell])))
        match.settle()
    for player in match.players:
        assert player.held is not None and player.held.outcome is not None
        assert (player.held.phase, player.held.paid) == (AppPhase.ENDED, (0, 70))


def test_a_stake_that_is_locked_is_as_good_as_a_yes_that_was_lost() -> None:
    match = Match()
    match.deliver(1)
    match.happens(1, inputs.Agree(), crash=True)
    match.happens(1, inputs.StakeQueued())
    match.happens(0, inputs.StakeLocked(1))
    assert match.players[0].held is not None and match.players[0].held.phase is AppPhase.AGREED


def test_a_move_that_builds_on_one_that_was_not_acknowledged_accepts_it() -> None:
    match = begun()
    match.happens(0, inputs.MakeMove(b"\4"))
    held = match.players[0].held
    assert held is not None and held.move is not None
    reply = after(held.move.after, 0)
    match.happens(0, AppMove(INSTANCE, 2, b"\0", signed(1, 2, reply)))
    held = match.players[0].held
    assert held is not None and held.agreed is not None and held.move is None
    assert held.agreed.state.number == 2 and held.state == reply


def test_a_move_that_was_made_in_court_alone_counts_off_chain() -> None:
    match = begun()
    board = after(START, 4)
    stands = AppStands(INSTANCE, 1, board, b"\4", signed(0, 1, board), b"", EXPIRY, 2_000, 0, 0, 1_100)
    match.happens(1, stands)
    held = match.players[1].held
    assert held is not None and held.agreed is not None and held.agreed.state.number == 1


def test_our_move_that_the_other_signed_for_the_court_alone_is_agreed() -> None:
    match = begun()
    match.happens(0, inputs.MakeMove(b"\4"))
    board = after(START, 4)
    stands = AppStands(INSTANCE, 1, board, b"", signed(0, 1, board), signed(1, 1, board), EXPIRY, 2_000, 0, 0, 1_100)
    match.happens(0, stands)
    held = match.players[0].held
    assert held is not None and held.agreed is not None and held.agreed.state.number == 1 and held.move is None


def test_nothing_begins_so_late_that_no_court_would_hear_of_it() -> None:
    match = Match()
    match.deliver(1)
    match.now = EXPIRY - MARGIN + 1
    with pytest.raises(InvalidInput, match="too soon"):
        match.happens(1, inputs.Agree())
    match.now -= 1
    match.happens(1, inputs.Agree())
    match.deliver(0)
    match.happens(0, inputs.StakeQueued())
    match.now += 1
    with pytest.raises(InvalidInput, match="too late"):
        match.happens(1, inputs.StakeQueued())
    for whose in (0, 1):
        match.happens(0, inputs.StakeLocked(whose))
    held = match.players[0].held
    assert held is not None and held.phase is AppPhase.LOCKING and held.begun == (b"", b"")
    match.happens(0, inputs.Withdraw("too late"))
    match.settle()
    for player in match.players:
        assert player.held is not None and player.held.outcome is not None and player.held.paid == (0, 0)


def test_an_outcome_that_is_another_s_or_too_much_is_refused() -> None:
    match = begun()
    for paid, signer in (((51, 0), 1), ((5, 0), 0)):
        offer = AppOffer(INSTANCE, paid, KEYS[signer].sign(digest_outcome(TERMS, AppOutcome(INSTANCE, paid))))
        assert refuses(match, 0, offer)


def test_offers_that_cross_end_it_in_one_way_only() -> None:
    match = begun()
    match.happens(0, inputs.OfferOutcome((0, 0)))
    match.happens(1, inputs.OfferOutcome((10, 0)))
    match.deliver(0)
    match.deliver(1)
    with pytest.raises(InvalidInput, match="we offered another"):
        match.happens(0, inputs.TakeOffer())
    match.happens(1, inputs.TakeOffer())
    match.settle()
    assert {player.held.paid for player in match.players if player.held is not None} == {(0, 0)}


def test_after_a_final_state_nobody_takes_an_old_offer() -> None:
    match = begun()
    for count, cell in enumerate((0, 3, 1, 4)):
        match.happens(count % 2, inputs.MakeMove(bytes([cell])))
        match.settle()
    match.happens(1, inputs.OfferOutcome((0, 0)))
    match.settle()
    match.happens(0, inputs.MakeMove(b"\2"), crash=True)
    with pytest.raises(InvalidInput, match="the rules have decided"):
        match.happens(0, inputs.TakeOffer())
    match.settle()
    assert {player.held.paid for player in match.players if player.held is not None} == {(0, 70)}


def test_who_has_signed_state_0_does_not_withdraw() -> None:
    with pytest.raises(InvalidInput, match="it has begun"):
        begun().happens(0, inputs.Withdraw())


def test_what_was_decided_in_court_is_signed_by_both() -> None:
    match = begun()
    match.happens(0, inputs.TakeToCourt())
    for player in (0, 1):
        match.happens(player, inputs.CourtDecided((50, 0)))
    match.settle()
    for player in match.players:
        assert player.held is not None and player.held.outcome is not None and player.held.paid == (50, 0)


def test_an_outcome_that_is_found_elsewhere_ends_it_if_it_is_one() -> None:
    match = begun()
    digest = digest_outcome(TERMS, AppOutcome(INSTANCE, (1, 2)))
    good = OutcomeProof(TERMS, (1, 2), (KEYS[0].sign(digest), KEYS[1].sign(digest)))
    for wrong in (replace(good, paid=(2, 1)), replace(good, terms=replace(TERMS, nonce=9))):
        match.happens(0, inputs.Proven(wrong))
        assert match.players[0].held is not None and match.players[0].held.outcome is None
    match.happens(0, inputs.Proven(good))
    assert match.players[0].held is not None and match.players[0].held.paid == (1, 2)


def test_proposals_that_nobody_would_play_are_refused() -> None:
    match = Match()
    for terms, state in (
        (replace(TERMS, app=bytes(32)), START),
        (TERMS, after(START, 0)),
        (replace(TERMS, start=keccak(after(START, 0))), after(START, 0)),
        (replace(TERMS, expiry=match.now + MARGIN - 1), START),
        (replace(TERMS, players=TERMS.players[::-1]), START),
        (replace(TERMS, period=PERIOD_MOST), START),
    ):
        with pytest.raises(InvalidInput):
            machine.hear(AppProposal(terms, state), match.env(1))


def test_bytes_that_are_too_many_are_no_message() -> None:
    for wrong in (
        AppProposal(TERMS, bytes(1_025)),
        AppMove(INSTANCE, 1, bytes(513), bytes(64)),
        AppMove(INSTANCE, 1, b"", bytes(63)),
        AppSigned(INSTANCE[1:], 1, bytes(32), bytes(64)),
        AppAnswer(INSTANCE, False, "x" * 513),
        AppOffer(INSTANCE, (-1, 0), bytes(64)),
    ):
        with pytest.raises(InvalidInput):
            messages.encode(wrong)
    frame = messages.encode(AppProposal(TERMS, START))
    with pytest.raises(MalformedMessage):
        messages.decode(frame.replace(TERMS.players[1], TERMS.players[0]))


def test_an_acknowledgement_of_another_state_is_refused() -> None:
    match = begun()
    match.happens(0, inputs.MakeMove(b"\4"))
    other = after(START, 0)
    with pytest.raises(InvalidUpdate, match="does not acknowledge"):
        match.happens(0, AppSigned(INSTANCE, 1, keccak(other), signed(1, 1, other)))


# --- any case ----------------------------------------------------------------------------------------------------


def run(examples: int, steps: int) -> None:
    kept: Any = settings(max_examples=examples, stateful_step_count=steps, deadline=None, report_multiple_bugs=False)
    run_state_machine_as_test(Playing, settings=kept)  # type: ignore[no-untyped-call]


def test_both_come_to_the_same_whatever_is_lost() -> None:
    run(80, 40)


@pytest.mark.soak
def test_both_come_to_the_same_at_length() -> None:
    run(3_000, 80)
