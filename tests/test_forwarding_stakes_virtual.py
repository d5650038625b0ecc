"""A hub between the players of a virtual channel, who bring balances to court and show it outcomes: it never loses."""

from __future__ import annotations

from typing import Any

import pytest

from simulation.line import CONFIRMED
from simulation.line_stakes import StakesLine
from simulation.line_virtual import LIFETIME, PERIOD, VirtualLine
from tallystick.channels.protocol.conditions import BY_COURT
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Ack, Message, Update
from tallystick.channels.protocol.operations import Unlock
from tallystick.channels.protocol.virtual import VirtualTerms
from tallystick.channels.session.chaintime import MARGIN
from tallystick.channels.session.inputs import PayLock
from tallystick.router.forwarding.circuits import forwards_after, load_circuits
from tallystick.router.forwarding.forwarder import ForwardOutcome
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.forwarding.stakes import StakeLimits

STAKES = (50_000, 70_000)
HAD = 2_000_000


def begun() -> tuple[VirtualLine, VirtualTerms]:
    """Both stakes have come to the other player."""
    world = VirtualLine(options=RoutingOptions(stakes=StakeLimits(percent=50)))
    terms = world.terms(STAKES)
    for player in (0, 1):
        world.lock(terms, player)
    world.settle()
    return world, terms


@pytest.mark.parametrize("moved", [20_000, 50_000])
@pytest.mark.parametrize("waits", [CONFIRMED, CONFIRMED + PERIOD])
def test_an_outcome_that_pays_nothing_is_left_aside_while_the_court_decides_by_balances(moved: int, waits: int) -> None:
    """A brings balances to court by which C gets something, and unlocks its stake by an outcome that says nothing."""
    world, terms = begun()
    assert world.judge(terms, (moved, 0))
    world.pass_time(waits)
    world["A"].engine.apply(world.channel("AB"), PayLock(0, world.outcome(terms, (0, 0))))
    world.settle()
    world.pass_time(LIFETIME + PERIOD)
    assert world.redeemed("B") == HAD and world.redeemed("C") == HAD // 2 + moved


def test_what_balances_in_court_say_is_nothing_to_pay_by_while_newer_ones_may_follow() -> None:
    world, terms = begun()
    assert world.judge(terms, (20_000, 0))
    world.pass_time(CONFIRMED)
    world["A"].engine.apply(world.channel("AB"), PayLock(0, world.outcome(terms, (20_000, 0))))
    world.settle()
    assert world.judge(terms, (50_000, 0))
    world.pass_time(LIFETIME + PERIOD)
    assert world.redeemed("B") == HAD and world.redeemed("C") == HAD // 2 + 50_000


def test_an_outcome_in_court_is_taken_for_just_what_it_pays() -> None:
    world, terms = begun()
    assert world.judge(terms, (50_000, 0))
    world.pass_time(60)
    assert world.judge(terms, (20_000, 0), world.outcome(terms, (20_000, 0)))
    world.pass_time(CONFIRMED)
    world.settle()
    world.pass_time(LIFETIME)
    world.settle()
    assert world.pending() == [] and world.wealth("B") == HAD and world.wealth("C") == HAD // 2 + 20_000


# --- by the word of the court -------------------------------------------------------------------------------------

COURTS = pytest.mark.parametrize("court", [StakesLine, VirtualLine])
MOVED = 20_000
DECIDED = {"A": HAD // 2 - MOVED, "B": HAD, "C": HAD // 2 + MOVED}


def disputed(court: type[StakesLine] | type[VirtualLine]) -> Any:
    """Both stakes have arrived, and states or balances in court give a part of A's to C, a period from now."""
    world: Any = court(options=RoutingOptions(stakes=StakeLimits(percent=50)))
    terms = world.agreed = world.terms(STAKES)
    for player in (0, 1):
        world.lock(terms, player)
    world.settle()
    assert world.judge(terms, (MOVED, 0), decides=world.time + PERIOD + 1)
    return world


def decided(world: Any) -> None:
    """What the court decided is confirmed long enough for those to pay by it who owe."""
    world.pass_time(PERIOD + 1 + CONFIRMED + MARGIN)


def all_open(world: Any) -> bool:
    return all(
        session.channel.phase is Phase.OPEN
        for member in world.members.values()
        for session in member.engine.sessions.values()
    )


def wealth(world: Any) -> dict[str, int]:
    return {name: world.wealth(name) for name in "ABC"}


def over(world: Any) -> bool:
    return world.pending() == [] and load_circuits(world["B"].store) == [] and all_open(world) and not world.faults


def by_the_word(message: Message) -> bool:
    return isinstance(message, Update) and any(
        isinstance(each, Unlock) and each.proof == BY_COURT for each in message.operations
    )


@COURTS
def test_what_the_court_gave_goes_over_the_hub_and_every_channel_stays_open(court: Any) -> None:
    world = disputed(court)
    world.pass_time(PERIOD + CONFIRMED + MARGIN)
    world.settle()
    assert len(world.pending()) == 4, "it is not decided for long enough"
    world.pass_time(1)
    world.settle()
    assert over(world) and wealth(world) == DECIDED
    outcomes = sorted(forward.outcome for forward in forwards_after(world["B"].store, 0, 9))
    assert outcomes == [ForwardOutcome.PAID, ForwardOutcome.EXPIRED]


@COURTS
@pytest.mark.parametrize("away", ["AB", "BC"])
def test_whichever_side_is_away_the_hub_is_even_once_it_is_back(court: Any, away: str) -> None:
    """What is owed for the one lock does not wait for what is owed by the other: the court decided both alike."""
    world = disputed(court)
    world.disconnect(world[away[0]], world[away[1]])
    decided(world)
    world.settle()
    assert world.redeemed("B") == HAD and len(world.pending()) == 2
    world.crash(world["B"])
    world.connect()
    world.settle()
    assert over(world) and wealth(world) == DECIDED


@COURTS
def test_a_player_that_withholds_what_the_court_gave_is_owed_it_and_gains_nothing(court: Any) -> None:
    world = disputed(court)
    world["A"].mute = by_the_word
    decided(world)
    world.settle()
    assert world.wealth("C") == DECIDED["C"] and world.redeemed("B") == HAD
    world["A"].mute = lambda message: False
    world.connect()
    world.settle()
    assert over(world) and wealth(world) == DECIDED


@COURTS
def test_a_player_that_takes_what_the_court_gave_and_does_not_say_so_gets_it_once(court: Any) -> None:
    world = disputed(court)
    world["C"].mute = lambda message: isinstance(message, Ack)
    decided(world)
    world.settle()
    world["C"].mute = lambda message: False
    world.crash(world["B"])
    world.connect()
    world.settle()
    assert over(world) and wealth(world) == DECIDED


@COURTS
@pytest.mark.parametrize("takes_effect", [False, True])
def test_the_hub_may_die_in_each_commit_of_it(court: Any, takes_effect: bool) -> None:
    for number in range(20):
        world, seen = disputed(court), 0
        decided(world)
        while possible := world.moments():
            member, what = possible[0]
            if member is world["B"] and what == "round":
                seen += 1
                if seen == number + 1:
                    world.crash_in_commit(member, takes_effect=takes_effect)
                    world.connect()
                    continue
            world.do(member, what)
        assert over(world) and wealth(world) == DECIDED
        if seen <= number:
            assert number > 2
            return
    raise AssertionError("the hub has no end of commits")


@COURTS
def test_an_outcome_that_is_shown_after_the_court_has_decided_pays_no_more(court: Any) -> None:
    """C asks for all of A's stake by an outcome that both signed, when the hub was paid what the court gave."""
    world = disputed(court)
    world.disconnect(world["B"], world["C"])
    decided(world)
    world.settle()
    with_all = world.outcome(world.agreed, (STAKES[0], 0))
    world["C"].channels.reveal(world.channel("BC"), 0, with_all)
    world.connect()
    world.settle()
    assert over(world) and wealth(world) == DECIDED
