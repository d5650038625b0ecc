"""Three nodes in a line, every moment in hand: a payment is made everywhere or nowhere, whatever crashes and when."""

from __future__ import annotations

import hashlib

import pytest

from simulation.line import Line
from simulation.line_payments import AMOUNTS, SECRET, WEALTH, paid, unpaid
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Ack, Message, Reestablish
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.session.inputs import PhaseReached, RejectLock
from tallystick.router.codes import Code
from tallystick.router.forwarding.circuits import forwards_after, load_circuits
from tallystick.router.forwarding.forwarder import ForwardOutcome
from tallystick.router.onion.failures import Failure, notice
from tallystick.router.onion.sphinx import onions_of


def test_a_payment_goes_through_and_earns_its_fee() -> None:
    world = Line()
    world["C"].secrets[digest_of(SECRET)] = SECRET
    world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    paid(world)
    assert world["A"].receipts == {SECRET}
    (forward,) = forwards_after(world["B"].store, 0, 10)
    assert (forward.outcome, forward.circuit.fee) == (ForwardOutcome.PAID, 100)
    assert world["B"].router.statistics().earned == {"0x" + NATIVE.hex(): 100}


def test_a_payment_that_the_payee_refuses_comes_back_and_only_the_payer_can_read_why() -> None:
    world = Line()
    built = world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    (final,) = world["C"].finals
    world["C"].locks.refuse(final, Failure(Code.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS))
    world.settle()
    unpaid(world)
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (1, Code.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS)
    (forward,) = forwards_after(world["B"].store, 0, 10)
    assert forward.outcome is ForwardOutcome.FAILED


@pytest.mark.parametrize("lie", [False, True])
def test_a_forwarder_whose_onion_was_not_opened_names_the_one_that_it_sent_whatever_its_peer_says(lie: bool) -> None:
    world = Line()
    built = world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    (final,) = world["C"].finals
    sent = list(onions_of(built))[1]
    said = notice(Code.INVALID_ONION_HMAC, b"another one" if lie else sent)
    world["C"].engine.apply(final.channel, RejectLock(final.lock.id, said))
    world.settle()
    unpaid(world)
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (0, Code.INVALID_ONION_HMAC)
    assert found[1].onion_hash == hashlib.sha256(sent).digest(), "else the forwarder would be blamed for it"


# --- ways on ------------------------------------------------------------------------------------------------------


def test_another_channel_with_the_same_peer_carries_what_the_named_one_cannot() -> None:
    world = Line(twins=("BC",))
    first, second = world.channel("BC", 0), world.channel("BC", 1)
    world["B"].engine.pay(first, 950_000)
    world["C"].secrets[digest_of(SECRET)] = SECRET
    world.settle()
    world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    assert world["B"].engine.session(second).channel.ours.simplex.proof.transferred == AMOUNTS[1]
    assert world["A"].receipts == {SECRET} and world.pending() == []


def test_nothing_goes_back_over_the_channel_that_it_came_from() -> None:
    world = Line()
    built = world.send("ABA", (100_100, 100_000), SECRET)
    world.settle()
    unpaid(world)
    found = world.failure("A", built)
    assert found is not None and found[0] == 0


def test_two_payments_with_one_hash_are_two_payments() -> None:
    world = Line()
    world.send("ABC", AMOUNTS, SECRET, seed=b"1")
    world.send("ABC", AMOUNTS, SECRET, seed=b"2")
    world.settle()
    assert len(world["C"].finals) == 2 and len(load_circuits(world["B"].store)) == 2
    world["C"].locks.reveal(world["C"].finals[0].channel, world["C"].finals[0].lock.id, SECRET)
    world.settle()
    assert world.wealth("C") == WEALTH["C"] + AMOUNTS[1]
    assert len(load_circuits(world["B"].store)) == 1
    world["C"].locks.reveal(world["C"].finals[1].channel, world["C"].finals[1].lock.id, SECRET)
    world.settle()
    paid(world, times=2)


def mute_acks(message: Message) -> bool:
    return isinstance(message, Ack)


# --- secrets ------------------------------------------------------------------------------------------------------


def test_a_secret_goes_on_before_the_peer_acknowledges_that_it_was_paid() -> None:
    world = Line()
    world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    world["C"].mute = mute_acks
    final = world["C"].finals[0]
    world["C"].locks.reveal(final.channel, final.lock.id, SECRET)
    world.settle()
    assert world["A"].receipts == {SECRET}
    assert world.wealth("A") == WEALTH["A"] - AMOUNTS[0]
    assert len(world["B"].engine.session(world.channel("BC")).channel.flight) == 1
    world["C"].mute = lambda message: False
    world.connect()
    world.settle()
    paid(world)


def test_a_reject_alone_releases_nothing() -> None:
    """Until the peer countersigns the cancellation it can go to the chain with the lock."""
    world = Line()
    built = world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    world["C"].mute = lambda message: isinstance(message, Ack | Reestablish)  # the greeting is an acknowledgement too
    world["C"].locks.refuse(world["C"].finals[0], Failure(Code.MPP_TIMEOUT))
    world.settle()
    assert world["A"].ended == []
    world.crash(world["B"])  # the reason survives as well
    world.connect()
    world.settle()
    assert world["A"].ended == []
    world["C"].mute = lambda message: False
    world.connect()
    world.settle()
    unpaid(world)
    found = world.failure("A", built)
    assert len(world["A"].ended) == 1
    assert found is not None and (found[0], found[1].code) == (1, Code.MPP_TIMEOUT)


@pytest.mark.parametrize("late", [-1, 0, 1])
def test_a_secret_on_chain_counts_up_to_the_last_second_and_pays_everybody_or_nobody(late: int) -> None:
    world = Line()
    world.send("ABC", AMOUNTS, SECRET, lifetime=600)
    world.settle()
    for one, other in world.links:
        world.disconnect(one, other)
    world.pass_time(600)
    world.register(SECRET, world.time + late)
    world.pass_time(100)
    world.connect()
    world.settle()
    if late <= 0:
        paid(world)
    else:
        unpaid(world)
    (forward,) = forwards_after(world["B"].store, 0, 10)
    assert forward.outcome is (ForwardOutcome.PAID if late <= 0 else ForwardOutcome.EXPIRED)


@pytest.mark.parametrize("phase", [Phase.CLOSED, Phase.GONE])
@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("crash", [True, False])
def test_an_outgoing_channel_on_chain_is_decided_by_the_chain(phase: Phase, registered: bool, crash: bool) -> None:
    world = Line()
    b = world["B"]
    world.send("ABC", AMOUNTS, SECRET, lifetime=600)
    world.settle()
    world.disconnect(b, world["C"])
    session = b.engine.session(world.channel("BC"))
    b.engine.apply(session.channel.id, PhaseReached(Phase.CLOSED))
    b.step()
    if phase is Phase.GONE:
        if registered:
            world.register(SECRET)  # what was redeemed by a secret is gone only after that secret
            world.time += 20
        b.engine.apply(session.channel.id, PhaseReached(Phase.GONE))
        b.step()
    if crash:
        world.crash(b)
        world.connect()
        world.settle()
    if registered:
        world.register(SECRET)
    world.pass_time(100)
    world.settle()
    ended = world["A"].ended
    if registered:
        assert [end.secret for end in ended] == [SECRET]
    elif phase is Phase.GONE:
        assert [end.secret for end in ended] == [b""], "nothing is left that could be paid"
    else:
        assert ended == []
        world.pass_time(600)
        world.settle()
        assert [end.secret for end in ended] == [b""]
    assert world["B"].alarms == []


def test_a_lock_that_expires_while_the_peer_is_away_is_released() -> None:
    world = Line()
    built = world.send("ABC", AMOUNTS, SECRET, lifetime=600)
    world.settle()
    world.disconnect(world["B"], world["C"])
    world.pass_time(613)
    world.settle()
    assert [end.secret for end in world["A"].ended] == [b""]
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (0, Code.TEMPORARY_CHANNEL_FAILURE)
    world.pass_time(60)
    world.connect()
    world.settle()
    unpaid(world)
