"""A payment whose only ways are of no use for a moment waits for them, within its time, and fails at once otherwise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from simulation.journeys import DEPOSIT, LINE, Journey, configuration
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.errors import PaymentFailed, Unpaid
from tallystick.router.objects import NodeKey
from tallystick.sdk.testing.world import open_world

Story = Callable[[Journey], Awaitable[None]]


def on_the_line(story: Story) -> None:
    async def main() -> None:
        async with open_world(1, config=configuration(), interval=5.0, names=LINE) as world:
            journey = Journey(world)
            await journey.build()
            await story(journey)

    simulate(main, 1)


async def ended(journey: Journey, seconds: float) -> bool:
    """Wait until Alice's payment has ended; return whether it did in that time."""
    return await journey.world.until(lambda: bool(journey.receipts or journey.errors), seconds)


def test_a_payment_waits_for_the_only_forwarder_and_is_made_once_it_is_back() -> None:
    async def story(journey: Journey) -> None:
        invoice = await journey.invoice()
        await journey.world.crash("carol")
        await trio.sleep(2)
        journey.ask(invoice, timeout=60)
        assert not await ended(journey, 20)
        await journey.world.start("carol")
        assert await ended(journey, 40)
        assert journey.receipts and not journey.errors
        knowledge = journey.node("alice").routing.maps.of(NATIVE).knowledge
        assert not knowledge.hopes, "what carried a payment is avoided no longer"

    on_the_line(story)


def test_a_payment_waits_for_our_own_peer_and_goes_on_soon_after_it_is_back() -> None:
    async def story(journey: Journey) -> None:
        invoice = await journey.invoice()
        await journey.world.crash("bob")
        await trio.sleep(2)
        journey.ask(invoice, timeout=60)
        assert not await ended(journey, 20)
        await journey.world.start("bob")
        assert await ended(journey, 20) and journey.receipts

    on_the_line(story)


def test_what_could_not_be_paid_with_everybody_there_fails_at_once_although_a_forwarder_is_away() -> None:
    async def story(journey: Journey) -> None:
        invoice = await journey.invoice(2 * DEPOSIT)
        await journey.world.crash("carol")
        await trio.sleep(2)
        journey.ask(invoice, timeout=60)
        assert await ended(journey, 5)
        assert journey.errors[0].reason is Unpaid.NO_LIQUIDITY

    on_the_line(story)


def test_a_payment_that_waited_until_its_time_was_over_says_what_for() -> None:
    async def story(journey: Journey) -> None:
        invoice = await journey.invoice()
        carol = bytes(journey.node("carol").key.public).hex()
        await journey.world.crash("carol")
        await trio.sleep(2)
        journey.ask(invoice, timeout=30)
        assert not await ended(journey, 25) and await ended(journey, 10)
        (error,) = journey.errors
        assert error.reason is Unpaid.TIMEOUT and carol[:16] in str(error), str(error)

    on_the_line(story)


def test_a_payer_that_dies_while_it_waits_goes_on_when_it_is_back() -> None:
    async def story(journey: Journey) -> None:
        invoice = await journey.invoice()
        world = journey.world
        await world.crash("carol")
        await trio.sleep(2)
        journey.ask(invoice, timeout=90)
        assert not await ended(journey, 10)
        await world.crash("alice")
        await trio.sleep(3)
        alice = await world.start("alice")
        assert not await world.until(lambda: alice.payment(invoice.payment_hash).ended is not None, 10)
        await world.start("carol")
        await world.until(lambda: alice.payment(invoice.payment_hash).ended is not None, 60)
        assert alice.payment(invoice.payment_hash).is_paid

    on_the_line(story)


def test_a_payment_that_waits_is_stopped_at_once() -> None:
    async def story(journey: Journey) -> None:
        invoice = await journey.invoice()
        await journey.world.crash("carol")
        await trio.sleep(2)
        journey.ask(invoice, timeout=60)
        assert not await ended(journey, 10)
        journey.node("alice").routing.outgoing.stop(invoice.payment_hash, Unpaid.CANCELLED, "enough")
        assert await ended(journey, 1) and journey.errors[0].reason is Unpaid.CANCELLED

    on_the_line(story)


def test_whoever_stops_waiting_for_the_receipt_finds_it_later() -> None:
    async def story(journey: Journey) -> None:
        invoice = await journey.invoice()
        alice = journey.node("alice")
        await journey.world.crash("carol")
        await trio.sleep(2)
        with trio.move_on_after(5):
            await alice.routing.paying.pay(invoice.text, timeout=60)
        await journey.world.start("carol")
        receipt = await alice.routing.paying.pay(invoice.text)
        assert receipt.payment_hash == invoice.payment_hash

    on_the_line(story)


def test_a_probe_asks_what_can_be_paid_now_and_waits_for_nobody() -> None:
    async def story(journey: Journey) -> None:
        await journey.world.crash("bob")
        await trio.sleep(2)
        began, dave = trio.current_time(), NodeKey(bytes(journey.node("dave").key.public))
        with pytest.raises(PaymentFailed, match="no path"):
            await journey.node("alice").probe(dave, 1_000)
        assert trio.current_time() - began < 5

    on_the_line(story)
