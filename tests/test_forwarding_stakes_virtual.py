"""A hub between the players of a virtual channel, who bring balances to court and show it outcomes: it never loses."""

from __future__ import annotations

import pytest

from simulation.line import CONFIRMED
from simulation.line_virtual import LIFETIME, PERIOD, VirtualLine
from tallystick.channels.protocol.virtual import VirtualTerms
from tallystick.channels.session.inputs import PayLock
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
