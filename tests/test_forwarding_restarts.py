"""What a forwarder decides anew after a restart, what it leaves alone, and what it remembers."""

from __future__ import annotations

import msgspec
import pytest

from simulation.line import CONFIRMED, Line, Member
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Ack
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session.inputs import PhaseReached, RejectLock, SubmitLock
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.router.codes import Code
from tallystick.router.forwarding.circuits import (
    CircuitClosed,
    ForwardsPruned,
    forwards_after,
    forwards_before,
    load_circuits,
)
from tallystick.router.forwarding.forwarder import Circuit, ForwardingLimits, ForwardOutcome
from tallystick.router.onion.failures import Failure
from tallystick.router.onion.payload import FinalPayload, ForwardPayload, encode_payload
from tallystick.router.onion.replay import load_onions
from tallystick.router.onion.sphinx import BuiltOnion, build_onion
from tallystick.router.sqlite import CIRCUITS_SCHEMA

SECRET, OTHER = b"s" * 32, b"o" * 32
AMOUNTS = (100_100, 100_000)
LIFETIME = 600
UNSIGNED = ForwardingLimits().unsigned_max
START = {"A": 1_000_000, "B": 2_000_000, "C": 1_000_000}


def waiting() -> tuple[Line, BuiltOnion]:
    """B's second lock to C waits unsigned behind the first, which C acknowledges not; C knows its secret."""
    world = Line()
    world["C"].mute = lambda message: isinstance(message, Ack)
    world["C"].secrets[digest_of(SECRET)] = SECRET
    world.send("ABC", AMOUNTS, OTHER, lifetime=LIFETIME, seed=b"1")
    world.settle()
    built = world.send("ABC", AMOUNTS, SECRET, lifetime=LIFETIME, seed=b"2")
    world.settle()
    assert len(world["B"].engine.session(world.channel("BC")).outbox) == 1
    return world, built


def meet(world: Line, one: Member, other: Member) -> None:
    """Connect these two only."""
    links, world.links = world.links, [(one, other)]
    world.connect()
    world.links = links
    world.settle()


# --- decided anew -----------------------------------------------------------------------------------------------


def test_a_lock_that_nothing_was_signed_for_waits_for_its_channel_onwards() -> None:
    world, _ = waiting()
    b = world["B"]
    world.crash(b)
    meet(world, world["A"], b)
    world.pass_time(UNSIGNED)
    world.settle()
    assert world["A"].ended == []
    world["C"].mute = lambda message: False
    meet(world, b, world["C"])
    assert world["A"].receipts == {SECRET}, "as soon as it is there"


def test_a_lock_that_waited_too_long_comes_back() -> None:
    world, built = waiting()
    b = world["B"]
    world.crash(b)
    meet(world, world["A"], b)
    world.pass_time(UNSIGNED + 1)
    world.settle()
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (0, Code.CHANNEL_DISABLED)


def test_an_old_view_of_the_chain_after_a_restart_decides_nothing_until_it_is_fresh() -> None:
    world, _ = waiting()
    b = world["B"]
    b.fresh, world["C"].mute = False, lambda message: False
    world.crash(b)
    world.connect()
    world.settle()
    assert world["A"].ended == [] and len(load_circuits(b.store)) == 1
    b.fresh = True
    world.pass_time(1)
    world.settle()
    assert world["A"].receipts == {SECRET}


def test_a_lock_whose_channel_is_closing_goes_on_no_more_after_a_restart() -> None:
    world, _ = waiting()
    b = world["B"]
    session = b.engine.session(world.channel("AB"))
    b.engine.apply(session.channel.id, PhaseReached(Phase.CLOSED))
    b.step()
    world["C"].mute = lambda message: False
    world.crash(b)
    world.connect()
    world.settle()
    assert len(world["C"].finals) == 1 and b.engine.session(world.channel("BC")).channel.newest.next_lock == 1


def test_an_applications_lock_is_left_alone() -> None:
    """It has no onion: whoever opened and takes it knows what it is for."""
    world = Line()
    world["A"].channels.send_lock(world.channel("AB"), 1_000, world.time + LIFETIME, digest_of(SECRET), b"")
    world.settle()
    world.crash(world["B"])
    world.connect()
    world.settle()
    assert world["A"].ended == [] and len(world.pending()) == 1
    assert world["B"].locks.reveal(world.channel("AB"), 0, SECRET)
    world.settle()
    assert world["A"].receipts == {SECRET}


# --- never signed too late --------------------------------------------------------------------------------------


def test_a_lock_that_expires_unsigned_is_never_signed_though_another_one_stands_behind_it() -> None:
    """An application's lock behind it cannot be given up for it alone; at the expiry both are."""
    world, _ = waiting()
    b, out = world["B"], world.channel("BC")
    session = b.engine.session(out)
    asked = SubmitLock(500, world.time + 10 * LIFETIME, digest_of(b"p" * 32))
    b.engine.apply(session.channel.id, asked)
    world.pass_time(UNSIGNED + 1)
    world.settle()
    assert session.outbox.queued_locks == 2
    world.pass_time(LIFETIME - UNSIGNED - 2)
    assert session.outbox.queued_locks == 2
    world.pass_time(1)
    assert session.outbox.queued_locks == 0
    world["C"].mute = lambda message: False
    world.pass_time(60)
    world.connect()
    world.settle()
    assert session.channel.newest.next_lock == 1 and {name: world.wealth(name) for name in "ABC"} == START


def test_what_was_given_up_unsigned_takes_no_place_any_more() -> None:
    world, _ = waiting()
    world.disconnect(world["B"], world["C"])
    world.settle()
    admission = world["B"].admission
    assert len(world["A"].ended) == 1
    assert len(admission._jamming) == 1 and len(admission.exposure) == 2, "the first payment's two locks"


# --- onions that make no sense ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [True, False])
def test_an_onion_that_ends_in_the_middle_or_goes_on_at_the_end_is_refused(ends: bool) -> None:
    world = Line()
    expiry, condition = world.time + LIFETIME, digest_of(SECRET)
    final = encode_payload(FinalPayload(AMOUNTS[1], expiry, bytes(32), AMOUNTS[1]))
    onward = encode_payload(ForwardPayload(AMOUNTS[1], expiry, world.channel("BC")))
    nodes = [world[name].node for name in ("BC" if ends else "B")]
    built = build_onion(b"\x07" * 32, nodes, [final, final] if ends else [onward], condition)
    world["A"].channels.send_lock(world.channel("AB"), AMOUNTS[0], expiry, condition, built.packet)
    world.settle()
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (0, Code.INVALID_ONION_PAYLOAD)
    assert {name: world.wealth(name) for name in "ABC"} == START and world["B"].finals == []


@pytest.mark.parametrize(("route", "code"), [("AB", Code.FINAL_INCORRECT_EXPIRY), ("ABC", Code.INCORRECT_EXPIRY)])
def test_a_lock_that_expires_before_its_onion_says_is_refused(route: str, code: Code) -> None:
    world = Line()
    expiry, condition = world.time + LIFETIME, digest_of(SECRET)
    world[route[-1]].secrets[condition] = SECRET
    built = world.onion(route[1:], AMOUNTS[: len(route) - 1], expiry, condition)
    world["A"].channels.send_lock(world.channel("AB"), AMOUNTS[0], expiry - 1, condition, built.packet)
    world.settle()
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code, found[1].time) == (0, code, expiry - 1)
    assert {name: world.wealth(name) for name in "ABC"} == START


# --- remembered -------------------------------------------------------------------------------------------------


def test_a_loss_is_told_and_written_down() -> None:
    """B's incoming lock is gone before the outgoing one was paid: as if it ran on old data."""
    world = Line()
    world.send("ABC", AMOUNTS, SECRET, lifetime=LIFETIME)
    world.settle()
    b = world["B"]
    b.engine.apply(world.channel("AB"), RejectLock(0))
    world.settle()
    world["C"].locks.reveal(world.channel("BC"), 0, SECRET)
    world.settle()
    assert len(b.alarms) == 1 and "old copy of its data" in b.alarms[0].text
    (forward,) = forwards_after(b.store, 0, 9)
    assert forward.outcome is ForwardOutcome.LOST and b.router.statistics().earned == {}


def test_reputations_and_onions_are_kept_as_long_as_they_are_of_use() -> None:
    world = Line()
    world["C"].secrets[digest_of(SECRET)] = SECRET
    world.send("ABC", AMOUNTS, SECRET, lifetime=LIFETIME)
    world.settle()
    world.pass_time(0)
    world.settle()
    b, now = world["B"], world.time
    known = b.admission._jamming.reputation(world["A"].node, now)
    assert known.earned == 101, "the fee, and one for the payment"
    world.send("ABC", AMOUNTS, OTHER, lifetime=LIFETIME)
    world.settle()
    world["C"].locks.refuse(world["C"].finals[-1], Failure(Code.MPP_TIMEOUT))
    world.settle()
    known, before = b.admission._jamming.reputation(world["A"].node, now), known
    assert known.earned == before.earned and known.worth > before.worth
    world.pass_time(0)
    world.settle()
    world.crash(b)
    assert b.admission._jamming.reputation(world["A"].node, now) == known
    world.pass_time(LIFETIME + CONFIRMED)
    world.settle()
    assert len(load_onions(b.store)) == 2
    world.pass_time(1)
    world.settle()
    assert load_onions(b.store) == []


def test_history_is_read_in_order_from_any_place_and_pruned_to_the_second() -> None:
    store = SimulatedDisk([CIRCUITS_SCHEMA]).open()
    plain = Circuit(ChannelId(b"i" * 32), 0, ChannelId(b"o" * 32), 0, 11, 10, 900, b"", 100)
    for number in range(5):
        circuit = msgspec.structs.replace(plain, outgoing_lock=number)
        store.commit([CircuitClosed(circuit, ForwardOutcome.PAID, 100 + number)])

    every = forwards_after(store, 0, 9)
    assert [forward.circuit.outgoing_lock for forward in every] == [0, 1, 2, 3, 4]
    assert forwards_after(store, every[1].position, 2) == every[2:4]
    assert forwards_before(store, 0, 2) == [every[4], every[3]]
    assert forwards_before(store, every[3].position, 9) == [every[2], every[1], every[0]]
    store.commit([ForwardsPruned(102)])
    assert forwards_after(store, 0, 9) == every[2:]
    store.commit([ForwardsPruned(1_000)])
    assert forwards_after(store, 0, 9) == every[4:], "positions only grow"
