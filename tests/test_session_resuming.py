"""A channel goes on after its link was replaced; tickets end with the channel, and wake who waits for them."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from simulation.connected_pair import SECRET, add_lock, connected, paid, pay
from simulation.pair import Pair
from tallystick.channels.errors import ChannelNotReady, Fault
from tallystick.channels.limits import (
    Policy,
)
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Message, Update
from tallystick.channels.session.inputs import (
    ForceClose,
    PhaseReached,
    RevealSecret,
)


@pytest.fixture
def pair() -> Pair:
    return connected()


def test_a_link_that_is_replaced_before_the_ack_left_is_no_fault(pair: Pair) -> None:
    pair.alice.engine.pay(pair.id, 5)
    pair.alice.step()
    pair.deliver(pair.bob)
    pair.connect()
    pair.settle()
    assert paid(pair) == 5 and not pair.alice.channel.flight


def test_what_was_said_while_nobody_listened_does_not_come_before_the_greeting(pair: Pair) -> None:
    lock = add_lock(pair)
    pair.disconnect()
    pair.bob.apply(RevealSecret(lock, SECRET))
    pair.bob.session.counting.tell()
    pair.connect()
    pair.settle()
    assert paid(pair) == 10


def test_a_peer_that_learns_of_the_channel_late_is_greeted_again() -> None:
    pair = Pair()
    known = pair.bob.channel
    pair.bob.engine.sessions.clear()
    pair.connect()
    pair.settle()
    pair.bob.engine.add_channel(known)
    pair.settle()
    assert pay(pair, pair.bob, 5).receipt is not None and pay(pair, pair.alice, 5).receipt is not None


def test_greetings_that_come_in_a_flood_are_answered_once_per_round() -> None:
    said: list[Message] = []
    pair = Pair(sent=lambda party, message: said.append(message))
    pair.connect()
    pair.settle()
    pair.alice.engine.pay(pair.id, 5)
    pair.alice.step()
    pair.bob.session.greet()
    pair.bob.step()
    greeting = pair.alice.incoming[-1]
    said.clear()
    for _ in range(100):
        pair.inject(pair.alice, greeting)
    pair.alice.step()
    assert len([message for message in said if isinstance(message, Update)]) == 1


def test_a_closing_node_answers_and_does_not_break_the_connection(pair: Pair) -> None:
    pair.bob.apply(ForceClose())
    pair.connect()
    pair.alice.fund((2_000, 1_000))
    pair.settle()
    ticket = pay(pair, pair.alice, 5)
    assert pair.faults == [] and pair.connected and ticket.receipt is None
    assert any(getattr(event, "code", None) == Fault.WRONG_PHASE for event in pair.alice.events)
    pair.bob.apply(PhaseReached(Phase.CLOSED))
    pair.bob.apply(PhaseReached(Phase.CLOSED))
    pair.bob.apply(PhaseReached(Phase.SETTLED))
    with pytest.raises(ChannelNotReady):
        pair.bob.apply(PhaseReached(Phase.OPEN))


def test_a_closed_channel_ends_its_tickets(pair: Pair) -> None:
    flying = pair.alice.engine.pay(pair.id, 5)
    pair.alice.step()
    waiting = pair.alice.engine.pay(pair.id, 5)
    pair.alice.apply(PhaseReached(Phase.CLOSED))
    assert isinstance(waiting.error, ChannelNotReady) and not flying.is_done
    pair.alice.apply(PhaseReached(Phase.SETTLED))
    assert isinstance(flying.error, ChannelNotReady)
    assert "SETTLED" in repr(pair.alice.session)


def test_what_was_accepted_is_countersigned_before_a_channel_freezes(pair: Pair) -> None:
    pair.alice.engine.pay(pair.id, 5)
    pair.alice.step()
    pair.deliver(pair.bob)
    pair.bob.apply(ForceClose())
    assert pair.bob.channel.theirs.countersignature
    pair.settle()
    assert not pair.alice.channel.flight


async def test_whoever_pays_waits_while_the_outbox_is_full() -> None:
    pair = Pair(policy=Policy(outbox=2))
    engine = pair.alice.engine
    for _ in range(2):
        await engine.room(pair.id)
        engine.pay(pair.id, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.room, pair.id)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        pair.connect()
        pair.settle()
    assert paid(pair) == 2
    pair.disconnect()
    for _ in range(2):
        engine.pay(pair.id, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.room, pair.id)
        await trio.testing.wait_all_tasks_blocked()
        engine.stop()


async def test_a_ticket_wakes_its_waiters_with_the_receipt_or_the_reason(pair: Pair) -> None:
    ticket = pair.alice.engine.pay(pair.id, 7, b"memo")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticket.wait)
        await trio.testing.wait_all_tasks_blocked()
        assert repr(ticket) == "<Ticket 7 accepted>"
        pair.alice.step()
        assert repr(ticket) == "<Ticket 7 signed>"
        pair.settle()
    receipt = await ticket.wait()
    assert (receipt.amount, receipt.memo, receipt.payment, receipt.seq) == (7, b"memo", 0, 1)
    failed = pair.alice.engine.pay(pair.id, 7)
    pair.alice.apply(ForceClose())
    assert repr(failed) == "<Ticket 7 failed>"
    with pytest.raises(ChannelNotReady):
        await failed.wait()


async def test_giving_up_before_the_signature_means_no_payment_and_after_it_one(pair: Pair) -> None:
    unsigned, signed = pair.alice.engine.pay(pair.id, 1), pair.alice.engine.pay(pair.id, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(unsigned.wait)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    pair.alice.step()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(signed.wait)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    pair.settle()
    assert unsigned.error is not None and signed.receipt is not None and paid(pair) == 2
