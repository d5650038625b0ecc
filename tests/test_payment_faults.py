"""A payment over three hops, and one thing that goes wrong on its way. In the end nobody has lost or was paid twice.

`live_through` waits for rest after each, and holds all nodes' disks to each other (`simulation.solvency`).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from simulation.journeys import AMOUNT, DEPOSIT, LOCK_SECONDS, Journey, live_through
from simulation.mallory import garble_onions, garble_reasons, withhold
from tallystick.channels.errors import InvalidInput
from tallystick.channels.node.peers import EXTENSION_TAGS, number_of
from tallystick.channels.protocol.messages import Ack, Message, Reject, Reveal, channel_of, decode
from tallystick.channels.protocol.objects import NATIVE
from tallystick.router.codes import Code
from tallystick.router.errors import PaymentFailed, Unpaid
from tallystick.router.objects import ForwardingPolicy
from tallystick.router.onion.failures import Failure
from tallystick.router.pathfinding.beliefs import BeliefLearned

FEE = 50
"""What each of the two forwarders asks for AMOUNT."""
PAID = (DEPOSIT - AMOUNT - 2 * FEE, DEPOSIT + FEE, DEPOSIT + FEE, AMOUNT)
UNPAID = (DEPOSIT, DEPOSIT, DEPOSIT, 0)


def channel_between(journey: Journey, one: str, other: str) -> bytes:
    (channel,) = journey.world.channels_between(one, other)
    return channel


# --- lost messages ----------------------------------------------------------------------------------------------


def lose(pair: tuple[str, str], number: int) -> tuple[Journey, int]:
    """Make the payment; the message of this number on one channel is lost, and its link ends with it."""
    seen = 0

    async def fault(journey: Journey) -> None:
        invoice = await journey.invoice()
        channel, world = channel_between(journey, *pair), journey.world

        def tamper(frame: bytes) -> list[bytes]:
            nonlocal seen
            if number_of(frame) in EXTENSION_TAGS or channel_of(decode(frame)) != channel:
                return [frame]
            seen += 1
            if seen != number + 1:
                return [frame]
            world.network.cut(*[world.seats[name].key.public for name in pair])
            return []

        for name in pair:
            world.seats[name].tamper = tamper
        await journey.insist(invoice)

    return live_through(fault), seen


@pytest.mark.parametrize("pair", [("alice", "bob"), ("bob", "carol"), ("carol", "dave")], ids="-".join)
def test_each_message_may_be_lost_with_its_connection(pair: tuple[str, str]) -> None:
    _, messages = lose(pair, -1)
    assert messages >= 5, "an update, its ack, a reveal, an update, its ack"
    for number in range(messages):
        journey, seen = lose(pair, number)
        assert journey.final == PAID and seen > number


# --- time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [1, 0, -1], ids="{:+} s".format)
@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
def test_a_secret_that_comes_at_the_last_second_pays_everybody_and_one_that_comes_later_nobody(
    early: int, apart: bool
) -> None:
    """The last second is the one in which the payee would let the lock go. `apart`: only the chain can tell of it."""

    async def fault(journey: Journey) -> None:
        invoice = await journey.held()
        world, dave = journey.world, journey.node("dave")
        (lock,) = dave.channels[0].view.channel.theirs.simplex.locks
        last = lock.expiry - dave.config.payments.patience.claim // 2
        world.chain.advance(last - early - world.chain.newest.header.time)
        await dave.until(lambda: dave.onchain.index.head_number == world.chain.newest.header.number)
        if apart:
            world.network.partition(world.seats["dave"].key.public)
        if early >= 0:
            await dave.routing.invoicing.settle_invoice(dave.routing.invoicing.invoice(invoice.payment_hash).secret)
        else:
            with pytest.raises(InvalidInput, match="too near to their expiry"):
                await dave.routing.invoicing.settle_invoice(dave.routing.invoicing.invoice(invoice.payment_hash).secret)
        await world.blocks(60)
        world.heal()

    journey = live_through(fault, interval=5.0)
    assert journey.final == (PAID if early >= 0 else UNPAID)
    assert bool(journey.receipts) == (early >= 0)


def test_a_payee_that_never_answers_gives_nothing_back_and_keeps_nothing() -> None:
    async def fault(journey: Journey) -> None:
        invoice = await journey.invoice(hold=True)
        began = journey.world.chain.newest.header.time
        journey.world.seats["dave"].tamper = withhold(Reject, Reveal)
        journey.ask(invoice)
        await journey.until_held()
        await journey.world.until(lambda: bool(journey.errors), 2 * LOCK_SECONDS)
        assert journey.world.chain.newest.header.time > began + LOCK_SECONDS

    journey = live_through(fault)
    assert journey.final == UNPAID
    (error,) = journey.errors
    assert error.reason is Unpaid.TIMEOUT and "in the time" in str(error)


# --- fees -------------------------------------------------------------------------------------------------------


def test_a_fee_that_rises_while_the_payment_is_planned_is_learned_from_the_failure() -> None:
    async def fault(journey: Journey) -> None:
        invoice = await journey.invoice()
        carol = journey.node("carol")
        out = next(channel.id for channel in carol.channels if channel.peer == journey.world.seats["dave"].key.public)
        await carol.routing.set_policy(out, ForwardingPolicy(fee_ppm=2_000))
        journey.ask(invoice)
        await journey.world.until(lambda: bool(journey.receipts or journey.errors), 60)

    journey = live_through(fault)
    (receipt,) = journey.receipts
    assert receipt.fee == 50 + 100


def test_a_fee_that_changes_while_a_lock_is_held_does_not_change_the_lock() -> None:
    async def fault(journey: Journey) -> None:
        invoice = await journey.held()
        for name in ("bob", "carol"):
            node = journey.node(name)
            for channel in node.channels:
                await node.routing.set_policy(channel.id, ForwardingPolicy(fee_ppm=50_000))
        await journey.world.restart("bob")
        dave = journey.node("dave")
        await dave.routing.invoicing.settle_invoice(dave.routing.invoicing.invoice(invoice.payment_hash).secret)

    assert live_through(fault).final == PAID


# --- one hash, twice --------------------------------------------------------------------------------------------


def test_one_invoice_is_paid_once_whoever_pays_it_and_however_often() -> None:
    others: list[Unpaid] = []

    async def fault(journey: Journey) -> None:
        invoice = await journey.invoice()

        async def compete() -> None:
            try:
                await journey.node("bob").routing.paying.pay(invoice.text)
            except PaymentFailed as error:
                others.append(error.reason)
            else:
                others.append(Unpaid.CANCELLED)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                journey.ask(invoice)
            nursery.start_soon(compete)
        await journey.world.until(lambda: len(journey.receipts) + len(journey.errors) == 3, 60)

    journey = live_through(fault)
    if journey.receipts:
        assert journey.final == PAID and others == [Unpaid.PAYEE_REFUSES]
        assert len(journey.receipts) == 3 and len(set(journey.receipts)) == 1
    else:
        assert others == [Unpaid.CANCELLED] and {error.reason for error in journey.errors} == {Unpaid.PAYEE_REFUSES}


# --- forwarders that cheat --------------------------------------------------------------------------------------


def cheated(name: str, tamper: Callable[[bytes], list[bytes]], *, cancelled: bool = False) -> Journey:
    """Let Alice try once while a forwarder cheats (`cancelled`: Dave does not want the payment)."""

    async def fault(journey: Journey) -> None:
        journey.dishonest = (name,)
        invoice = await journey.invoice()
        if cancelled:
            await journey.node("dave").routing.invoicing.cancel_invoice(invoice.payment_hash)
        journey.world.seats[name].tamper = tamper
        journey.ask(invoice)
        await journey.world.until(lambda: bool(journey.receipts or journey.errors), 2 * LOCK_SECONDS)
        journey.world.seats[name].tamper = None
        journey.world.network.cut(journey.world.seats[name].key.public)  # what was withheld is in the next greeting
        await journey.world.until(lambda: bool(journey.receipts or journey.errors), 2 * LOCK_SECONDS)

    return live_through(fault)


@pytest.mark.parametrize("name", ["bob", "carol"])
def test_a_forwarder_that_damages_the_onion_gets_nothing_and_the_channel_behind_it_is_blamed(name: str) -> None:
    journey = cheated(name, garble_onions)
    assert journey.final == UNPAID
    (error,) = journey.errors
    assert "no path that could carry 50000 is known" in str(error) and "an onion that was damaged" in str(error)


@pytest.mark.parametrize("name", ["bob", "carol"])
def test_a_forwarder_that_garbles_the_failure_leaves_the_payer_with_what_it_knows(name: str) -> None:
    journey = cheated(name, garble_reasons, cancelled=True)
    assert journey.final == UNPAID
    (error,) = journey.errors
    assert "unreadable" in str(error)


LIES = [
    (Code.UNKNOWN_NEXT_PEER, ("bob", "carol")),
    (Code.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS, ("bob", "carol")),
    (Code.FINAL_INCORRECT_AMOUNT, ("bob", "carol")),
    (Code.TEMPORARY_CHANNEL_FAILURE, ("carol", "dave")),
    (Code.PERMANENT_CHANNEL_FAILURE, ("carol", "dave")),
    (Code.PERMANENT_NODE_FAILURE, ("carol", "dave")),
    (Code.FEE_INSUFFICIENT, ("carol", "dave")),
    (Code.INVALID_ONION_HMAC, ("alice", "bob")),
]


@pytest.mark.parametrize(("code", "pair"), LIES)
def test_a_forwarder_that_blames_others_is_avoided_itself(code: Code, pair: tuple[str, str]) -> None:
    """Bob forwards nothing, and says that somebody else's channel, node or onion is to blame, or the payee."""

    async def fault(journey: Journey) -> None:
        invoice = await journey.invoice()
        router = journey.node("bob").routing.router
        lie = Failure(code, channel=channel_between(journey, *pair))
        relay = router._relay
        relay._forward = lambda channel, lock, order, peeled: relay._fail(peeled, lie)  # type: ignore[method-assign]
        journey.ask(invoice)
        await journey.world.until(lambda: bool(journey.errors), 60)
        knowledge = journey.node("alice").routing.maps.of(NATIVE).knowledge
        blamed = {learned.channel for learned in knowledge.changes() if isinstance(learned, BeliefLearned)}
        assert channel_between(journey, "carol", "dave") not in blamed, "his word counts for his own channels only"
        await journey.world.restart("bob")
        await trio.sleep(700)
        await journey.insist(invoice)

    journey = live_through(fault)
    assert journey.final == PAID
    assert journey.errors[0].reason is Unpaid.NO_LIQUIDITY, "a forwarder's word about others counts for nothing"


@pytest.mark.parametrize("name", ["bob", "carol"])
def test_a_forwarder_that_takes_a_lock_and_sends_nothing_on_binds_money_and_takes_none(name: str) -> None:
    async def fault(journey: Journey) -> None:
        invoice = await journey.invoice()
        began = journey.world.chain.newest.header.time
        router = journey.node(name).routing.router
        router._decide = lambda *lock, **how: []  # type: ignore[method-assign]  # the lock is taken, and that is all
        journey.ask(invoice)
        await journey.world.until(lambda: bool(journey.errors), 2 * LOCK_SECONDS)
        assert journey.world.chain.newest.header.time > began + LOCK_SECONDS
        assert sum(journey.balances()) == sum(UNPAID), "all is as it was, but for time"
        await journey.world.restart(name)
        await trio.sleep(700)
        await journey.insist(invoice)

    journey = live_through(fault)
    assert journey.final == PAID
    assert [error.reason for error in journey.errors] == [Unpaid.TIMEOUT]


@pytest.mark.parametrize("name", ["bob", "carol"])
@pytest.mark.parametrize("kind", [Ack, Reveal])
def test_a_forwarder_that_withholds_acks_or_secrets_harms_nobody_else(name: str, kind: type[Message]) -> None:
    journey = cheated(name, withhold(kind))
    assert journey.final in (PAID, UNPAID)
    assert len(journey.receipts) + len(journey.errors) == 1
