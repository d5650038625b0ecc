"""A hub passes stakes on and is as well off as before, whatever its two players sign, show it, or bring to court."""

from __future__ import annotations

import pytest

from simulation.line import CONFIRMED
from simulation.line_stakes import LIFETIME, StakesLine
from tallystick.channels.protocol.apps import APP, AppTerms
from tallystick.channels.protocol.messages import Ack, Message, Update
from tallystick.channels.protocol.operations import AddLock, Cancel, Unlock
from tallystick.channels.session.inputs import PayLock, RejectLock
from tallystick.router.codes import Code
from tallystick.router.forwarding.circuits import forwards_after, load_circuits
from tallystick.router.forwarding.forwarder import ForwardOutcome
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.forwarding.stakes import StakeLimits

STAKES = (50_000, 70_000)
LEFT = STAKES[0]
"""What is A's to lose."""
START = {"A": 1_000_000, "B": 2_000_000, "C": 1_000_000}


def begun(**options: int) -> tuple[StakesLine, AppTerms]:
    """Both stakes have come to the other player."""
    limits = {"percent": 50, **options}
    world = StakesLine(options=RoutingOptions(stakes=StakeLimits(**limits)))
    terms = world.terms(STAKES)
    for player in (0, 1):
        world.lock(terms, player)
    world.settle()
    return world, terms


def arrived(world: StakesLine, name: str) -> list[int]:
    (session,) = world[name].engine.sessions.values()
    return [lock.amount for lock in session.channel.theirs.simplex.locks if lock.kind == APP]


def wealth(world: StakesLine) -> dict[str, int]:
    return {name: world.wealth(name) for name in "ABC"}


def unlocks(world: StakesLine, proof: bytes) -> None:
    """A unlocks its stake without being asked."""
    world["A"].engine.apply(world.channel("AB"), PayLock(0, proof))


def mute_end(message: Message) -> bool:
    return isinstance(message, Update) and any(isinstance(each, Unlock | Cancel) for each in message.operations)


# --- what is passed on --------------------------------------------------------------------------------------------


def test_both_stakes_arrive_whole_and_the_loser_s_goes_over_while_the_winner_s_comes_back() -> None:
    world, terms = begun()
    assert arrived(world, "C") == [STAKES[0]] and arrived(world, "A") == [STAKES[1]]
    world["C"].channels.reveal(world.channel("BC"), 0, world.outcome(terms, (LEFT, 0)))
    world["A"].channels.reject(world.channel("AB"), 0, b"lost")
    world.settle()
    assert world.pending() == [] and load_circuits(world["B"].store) == []
    assert wealth(world) == {**START, "A": START["A"] - LEFT, "C": START["C"] + LEFT}
    outcomes = sorted(forward.outcome for forward in forwards_after(world["B"].store, 0, 9))
    assert outcomes == [ForwardOutcome.PAID, ForwardOutcome.FAILED]


def test_a_stake_goes_over_two_hubs() -> None:
    world = StakesLine("ABCD", options=RoutingOptions(stakes=StakeLimits(percent=50)))
    terms = world.terms(STAKES, ends="AD")
    for player in (0, 1):
        world.lock(terms, player, "ABCD")
    world.settle()
    assert arrived(world, "D") == [STAKES[0]] and arrived(world, "A") == [STAKES[1]]
    world["D"].channels.reveal(world.channel("CD"), 0, world.outcome(terms, (LEFT, 0), ends="AD"))
    world["A"].channels.reject(world.channel("AB"), 0, b"")
    world.settle()
    assert world.pending() == [] and world.wealth("D") == 1_000_000 + LEFT
    assert world.wealth("B") == world.wealth("C") == 2_000_000


@pytest.mark.parametrize(
    ("amounts", "later", "code"),
    [((50_001, 50_000), 0, Code.INVALID_ONION_PAYLOAD), ((), -1, Code.INCORRECT_EXPIRY)],
    ids=["less", "sooner"],
)
def test_a_stake_that_would_not_arrive_as_it_left_is_refused(amounts: tuple[int, ...], later: int, code: Code) -> None:
    world = StakesLine()
    terms = world.terms(STAKES)
    built = world.lock(terms, 0, amounts=amounts, expiry=terms.expiry + later)
    world.settle()
    assert world.failure("A", built) is not None and world.failure("A", built)[1].code is code  # type: ignore[index]
    assert wealth(world) == START


@pytest.mark.parametrize("limits", [{"count": 0}, {"percent": 2}, {"expiry_max": LIFETIME - 1}], ids=str)
def test_no_more_is_bound_than_its_owner_allows(limits: dict[str, int]) -> None:
    world = StakesLine(options=RoutingOptions(stakes=StakeLimits(**limits)))
    world.lock(world.terms(STAKES), 0)
    world.settle()
    assert arrived(world, "C") == [] and world.pending() == []


def test_of_one_peer_as_many_as_its_owner_allows() -> None:
    world, _ = begun(count=3)
    for nonce in (1, 2):
        world.lock(world.terms(STAKES, nonce), 0)
        world.settle()
    assert arrived(world, "C") == [STAKES[0]] * 2, "with the one that came from C, three pend"


# --- two outcomes -------------------------------------------------------------------------------------------------


def test_nothing_is_paid_before_it_is_paid() -> None:
    """C shows one outcome to the hub, and A brings another one to court."""
    world, terms = begun()
    world["A"].mute = mute_end
    world["C"].channels.reveal(world.channel("BC"), 0, world.outcome(terms, (LEFT, 0)))
    world.settle()
    assert wealth(world)["B"] == START["B"] and len(world.pending()) == 4
    assert world.judge(terms, (0, 0), world.outcome(terms, (0, 0)))
    world.pass_time(LIFETIME + 60)
    assert world.redeemed("B") == START["B"]


@pytest.mark.parametrize("paid", [0, 1, LEFT - 1])
def test_what_is_unlocked_in_part_is_left_aside_as_the_court_may_still_say_more(paid: int) -> None:
    world, terms = begun()
    unlocks(world, world.outcome(terms, (paid, 0)))
    world.settle()
    assert len(world.pending()) == 4, "A has not got rid of its stake"
    assert world.judge(terms, (LEFT, 0), world.outcome(terms, (LEFT, 0)))
    world.pass_time(CONFIRMED)
    world.settle()
    assert world.redeemed("B") == START["B"]


def test_what_the_court_decided_in_part_is_paid_in_part_on_both_sides() -> None:
    world, terms = begun()
    proof = world.outcome(terms, (20_000, 0))
    assert world.judge(terms, (20_000, 0), proof)
    for _ in range(40):
        world.pass_time(30)
        world.connect()
        world.settle()
    assert world.pending() == [] or all(name == "C" for name, _ in world.pending())
    assert world.redeemed("B") == START["B"] and world.redeemed("C") == START["C"] + 20_000


def test_a_player_that_does_not_acknowledge_gets_no_more_in_court() -> None:
    """A has paid all; C holds the hub's unlock back, and both sign that C gets nothing."""
    world, terms = begun()
    world["C"].mute = lambda message: isinstance(message, Ack)
    world["C"].channels.reveal(world.channel("BC"), 0, world.outcome(terms, (LEFT, 0)))
    world.settle()
    assert world.judge(terms, (0, 0), world.outcome(terms, (0, 0)))
    world.pass_time(LIFETIME + 60)
    assert world.redeemed("B") >= START["B"]


def test_a_stake_that_is_in_court_past_its_expiry_is_given_back_by_nobody() -> None:
    world, terms = begun()
    assert world.judge(terms, (LEFT, 0), decides=terms.expiry + 5_000)
    for _ in range(5):
        world.pass_time(LIFETIME // 4)
        world.connect()
        world.settle()
    assert [lock for name, lock in world.pending() if name in "AB" and lock == 0]
    session = world["B"].engine.session(world.channel("AB"))
    assert session.channel.theirs.simplex.lock(0) is not None and not session.channel.rejections
    world.pass_time(10_000)
    assert world.redeemed("B") == START["B"] and world.redeemed("C") == START["C"] + LEFT


def test_a_stake_is_not_taken_before_what_stands_for_it_is_signed() -> None:
    """C acknowledges nothing, so that a second stake to it waits unsigned behind the first."""
    world = StakesLine(options=RoutingOptions(stakes=StakeLimits(percent=50)))
    world["C"].mute = lambda message: isinstance(message, Ack)
    for nonce in (0, 1):
        terms = world.terms(STAKES, nonce)
        world.lock(terms, 0)
        world.settle()
    world["A"].engine.apply(world.channel("AB"), PayLock(1, world.outcome(terms, (LEFT, 0))))
    world.settle()
    assert world["B"].engine.session(world.channel("AB")).channel.theirs.simplex.lock(1) is not None
    world["C"].mute = lambda message: False
    world["B"].step()
    for _ in range(8):
        world.pass_time(30)
        world.connect()
        world.settle()
    assert world.wealth("B") >= START["B"] and world.wealth("A") >= START["A"] - LEFT


# --- crashes ------------------------------------------------------------------------------------------------------


def story(world: StakesLine, terms: AppTerms) -> None:
    world["C"].channels.reveal(world.channel("BC"), 0, world.outcome(terms, (LEFT, 0)))
    world["A"].engine.apply(world.channel("AB"), RejectLock(0, b""))


@pytest.mark.parametrize("takes_effect", [False, True])
def test_the_hub_may_die_in_each_of_its_commits(takes_effect: bool) -> None:
    for number in range(40):
        world = StakesLine(options=RoutingOptions(stakes=StakeLimits(percent=50)))
        terms, seen = world.terms(STAKES), 0
        for player in (0, 1):
            world.lock(terms, player)

        def work(world: StakesLine = world, number: int = number) -> None:
            nonlocal seen
            while possible := world.moments():
                member, what = possible[0]
                if member is world["B"] and what == "round":
                    seen += 1
                    if seen == number + 1:
                        world.crash_in_commit(member, takes_effect=takes_effect)
                        world.connect()
                        continue
                world.do(member, what)

        work()
        begun_again = arrived(world, "C") == [STAKES[0]] and arrived(world, "A") == [STAKES[1]]
        if begun_again:
            story(world, terms)
            work()
            world.connect()
            work()
            assert wealth(world) == {**START, "A": START["A"] - LEFT, "C": START["C"] + LEFT}
            assert world.pending() == [] and load_circuits(world["B"].store) == []
        assert wealth(world)["B"] == START["B"] and world.faults == []
        if seen <= number:
            return
    raise AssertionError("the hub has no end of commits")


def test_what_is_owed_for_a_stake_is_remembered_while_its_player_is_away() -> None:
    world, terms = begun()
    world["A"].mute = mute_end
    world["C"].channels.reveal(world.channel("BC"), 0, world.outcome(terms, (LEFT, 0)))
    world.settle()
    world["A"].mute = lambda message: False
    world.connect()
    world.disconnect(world["B"], world["C"])
    world.settle()
    assert world.wealth("A") == START["A"] - LEFT
    world.crash(world["B"])
    world.connect()
    world.settle()
    assert world.wealth("C") == START["C"] + LEFT and world.wealth("B") == START["B"]


def test_a_stake_is_added_with_its_kind() -> None:
    world, _ = begun()
    locks = world["B"].engine.session(world.channel("BC")).channel.newest.locks
    assert [(lock.kind, lock.amount) for lock in locks] == [(APP, STAKES[0])]
    assert AddLock(locks[0]).lock.expiry == world.time + LIFETIME
