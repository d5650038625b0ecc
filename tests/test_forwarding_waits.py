"""Locks that wait for a peer end in time, and a payment is made everywhere or nowhere, whoever crashes and whenever."""

from __future__ import annotations

import pytest

from simulation.line import Line, Member
from simulation.line_payments import AMOUNTS, OTHER, SECRET, WEALTH, paid, unpaid
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Ack, Message, Reject, Update
from tallystick.channels.session.inputs import PhaseReached
from tallystick.router.codes import Code
from tallystick.router.forwarding.circuits import load_circuits
from tallystick.router.forwarding.forwarder import ForwardingLimits
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.onion.failures import Failure


def mute_acks(message: Message) -> bool:
    return isinstance(message, Ack)


def waiting(world: Line) -> None:
    """C acknowledges nothing, so that B's second lock to C waits unsigned behind the first."""
    world["C"].mute = mute_acks
    world.send("ABC", AMOUNTS, OTHER, seed=b"1")
    world.settle()
    world.send("ABC", AMOUNTS, SECRET, seed=b"2")
    world.settle()
    assert len(world["B"].engine.session(world.channel("BC")).outbox) == 1
    assert len(load_circuits(world["B"].store)) == 1


# --- locks that wait ----------------------------------------------------------------------------------------------


def test_a_lock_that_waits_for_a_peer_that_goes_away_comes_back_at_once() -> None:
    world = Line()
    waiting(world)
    world.disconnect(world["B"], world["C"])
    world.settle()
    assert [end.lock for end in world["A"].ended] == [1]


def test_a_lock_that_waits_too_long_is_given_up_unsigned() -> None:
    world = Line(options=RoutingOptions(limits=ForwardingLimits(unsigned_max=60)))
    waiting(world)
    world.pass_time(60)
    world.settle()
    assert world["A"].ended == []
    world.pass_time(1)
    world.settle()
    assert [end.lock for end in world["A"].ended] == [1]
    world["C"].mute = lambda message: False
    world["C"].secrets[digest_of(OTHER)] = OTHER
    world.connect()
    world.settle()
    world["C"].locks.reveal(world["C"].finals[0].channel, world["C"].finals[0].lock.id, OTHER)
    world.settle()
    paid(world)


@pytest.mark.parametrize("crash", [True, False])
def test_nothing_is_sent_on_for_a_lock_whose_own_channel_has_closed(crash: bool) -> None:
    world = Line()
    waiting(world)
    b = world["B"]
    session = b.engine.session(world.channel("AB"))
    world.disconnect(world["A"], b)
    b.engine.apply(session.channel.id, PhaseReached(Phase.CLOSED))
    b.engine.apply(session.channel.id, PhaseReached(Phase.SETTLED))
    if crash:
        b.step()
        world.crash(b)
    world.pass_time(1)
    b.step()
    assert len(b.engine.session(world.channel("BC")).outbox) == 0
    world["C"].mute = lambda message: False
    world.connect()
    world.settle()
    world.pass_time(100)
    world.settle()
    assert b.engine.session(world.channel("BC")).channel.newest.next_lock == 1
    assert [circuit.incoming_lock for circuit, _ in load_circuits(b.store)] == [0], "that one was sent on before"


def test_nothing_is_claimed_for_a_lock_whose_channel_was_paid_out() -> None:
    world = Line()
    world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    c = world["C"]
    session = c.engine.session(world.channel("BC"))
    c.engine.apply(session.channel.id, PhaseReached(Phase.CLOSED))
    c.engine.apply(session.channel.id, PhaseReached(Phase.SETTLED))
    c.step()
    c.secrets[digest_of(SECRET)] = SECRET
    world.crash(c)
    world.connect()
    world.settle()
    assert c.engine.session(world.channel("BC")).channel.secrets == ()


def test_a_peer_that_takes_a_secret_and_does_not_pay_is_served_no_more() -> None:
    world = Line()
    world.send("ABC", AMOUNTS, SECRET, lifetime=600)
    world.settle()
    world["A"].mute = lambda message: isinstance(message, Update)
    world["C"].locks.reveal(world["C"].finals[0].channel, 0, SECRET)
    world.settle()
    world.pass_time(613)  # too little to be claimed on chain
    world.settle()
    world["A"].mute = lambda message: False
    world.pass_time(60)
    world.connect()
    world.settle()
    assert len(world["B"].alarms) == 1
    built = world.send("ABC", AMOUNTS, OTHER)
    world.settle()
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (0, Code.CHANNEL_DISABLED)
    assert len(world["C"].finals) == 1


class Story:
    """One payment from A to C over B; after each crash whoever asked asks again, as far as it can tell."""

    def __init__(self, opens: bool) -> None:
        self.world = Line()
        if opens:
            self.world["C"].secrets[digest_of(SECRET)] = SECRET
        self.opens = opens
        self.world.send("ABC", AMOUNTS, SECRET)

    def act(self) -> None:
        """C refuses what it cannot open."""
        payee = self.world["C"]
        if not self.opens and payee.session(self.world["B"]).locks.undecided_locks():
            payee.locks.refuse(payee.finals[-1], Failure(Code.MPP_TIMEOUT))

    def moments(self) -> list[tuple[Member, str]]:
        self.act()
        return self.world.moments()

    def check(self) -> None:
        world = self.world
        for _ in range(3):
            world.connect()
            world.settle()
            self.act()
            world.settle()
            world.pass_time(30)
        if self.opens and world.wealth("C") != WEALTH["C"]:
            paid(world)
        else:
            unpaid(world)
        assert all(member.alarms == [] for member in world.members.values())


def length(opens: bool) -> int:
    story = Story(opens)
    steps = 0
    while possible := story.moments():
        story.world.do(*possible[0])
        steps += 1
    story.check()
    assert (story.world.wealth("C") != WEALTH["C"]) is opens
    return steps


# --- crashes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opens", [True, False])
@pytest.mark.parametrize("victim", ["A", "B", "C"])
def test_a_crash_at_any_moment_leaves_the_payment_made_everywhere_or_nowhere(victim: str, opens: bool) -> None:
    for at in range(length(opens)):
        for kind in ("before", "after", "unsynced"):
            story = Story(opens)
            world = story.world
            for _ in range(at):
                world.do(*story.moments()[0])
            member, what = story.moments()[0]
            if kind == "unsynced":
                if member.name != victim or what != "round":
                    continue
                world.crash_in_commit(member, takes_effect=False)
            elif kind == "after":
                if member.name == victim and what == "round":
                    world.crash_in_commit(member, takes_effect=True)
                else:
                    world.do(member, what)
                    world.crash(world[victim])
            else:
                world.crash(world[victim])
            story.check()


@pytest.mark.parametrize("opens", [True, False])
def test_two_crashes_of_the_forwarder_are_as_good_as_one(opens: bool) -> None:
    steps = length(opens)
    for first in range(0, steps, 2):
        for second in range(1, 12, 2):
            story = Story(opens)
            world = story.world
            for at in range(first + second):
                if at == first:
                    world.crash(world["B"])
                    world.connect()
                possible = story.moments()
                if not possible:
                    break
                world.do(*possible[0])
            world.crash(world["B"])
            story.check()


def test_a_payer_that_loses_nothing_by_a_mute_forwarder() -> None:
    world = Line()
    world["C"].secrets[digest_of(SECRET)] = SECRET
    world["B"].mute = lambda message: isinstance(message, Reject)
    world.send("ABC", (100_000, 100_000), SECRET, lifetime=600)
    world.settle()
    assert world["A"].ended == []
    world.pass_time(700)
    world.settle()
    unpaid(world)
