"""A short form of the campaign of payments between two chains (`simulation.crossings`), and that it sees a loss."""

from __future__ import annotations

import msgspec
import pytest

from simulation import crossings
from simulation.crossings import play
from simulation.one_crossing import SEATS, Case, Death, Nothing, Rewrite, Seat, Stop, Way
from simulation.seeds import Failed
from tallystick.sdk.chains.carrying import Carrier
from tallystick.sdk.chains.crossings import CrossingEnd
from tallystick.sdk.testing.gates import RECEIVE

EVERY = 4


@pytest.mark.parametrize("seat", SEATS, ids=lambda seat: f"{seat.name} on {seat.chain}")
def test_who_dies_at_any_step_of_a_crossing_loses_nothing(seat: Seat) -> None:
    dry = play(Case(Way.HANDS, Nothing(), 0), 1)
    assert dry.paid == crossings.AT_ONCE
    struck = 0
    kinds = list(enumerate(dry.effects[seat]))
    points = [(number, after) for number, kind in kinds for after in (False, True) if not (after and kind == RECEIVE)]
    for number, after in points[::EVERY]:
        outcome = play(Case(Way.HANDS, Death(seat, number, after, both=seat.name == "hub"), 0), 1)
        assert outcome.paid == crossings.AT_ONCE, "who is back goes on with it"
        struck += outcome.struck
    assert struck == len(points[::EVERY])


@pytest.mark.parametrize("chain", [0, 1])
def test_no_reorganisation_around_a_registration_and_no_chain_that_stops_costs_anybody_anything(chain: int) -> None:
    for fault in (Rewrite(chain, 3, 1, keep=False), Stop(chain, "shown", 190.0)):
        outcome = play(Case(Way.REGISTRY, fault, chain), 1)
        assert outcome.struck and outcome.paid == crossings.AT_ONCE


def test_what_the_payee_refuses_is_paid_by_nobody_though_a_chain_stops() -> None:
    assert play(Case(Way.REFUSED, Stop(1, "begun", 190.0), 0), 1).paid == 0


def test_a_maker_that_gives_back_what_it_was_to_keep_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def settle(self: Carrier, secret: bytes) -> CrossingEnd:
        return await self._give_back()

    monkeypatch.setattr(Carrier, "_settle", settle)
    with pytest.raises(
        Failed, match=r"Violation.*\n.*\nreplay: PYTHONPATH=tests python -m simulation.crossings --seed 1"
    ):
        play(Case(Way.HANDS, Nothing(), 0), 1)


def test_the_line_of_a_failure_plays_its_case_again(capsys: pytest.CaptureFixture[str]) -> None:
    case = Case(Way.HANDS, Death(SEATS[2], 3, True), 1)
    text = msgspec.json.encode(case).decode()
    assert crossings.main(["--seed", "4", "--at-once", "2", "--case", text]) == 0
    assert capsys.readouterr().out == "2 were paid\n"
