"""A payer that was away while the chain decided what became of its payment learns of that when it is back."""

from __future__ import annotations

import msgspec

from simulation.journeys import AMOUNT, LINE, LOCK_SECONDS, Journey, configuration, live_through
from simulation.mallory import is_one_of
from tallystick.channels.protocol.conditions import HASH
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Ack, channel_of, decode
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.testing.world import CLAIM_ALL, open_world


def test_a_secret_that_the_chain_told_while_the_payer_was_away_is_its_receipt_although_its_peer_never_returns() -> None:
    async def main() -> None:
        config = msgspec.structs.replace(configuration(), duties=CLAIM_ALL)
        async with open_world(1, config=config, interval=20.0, names=LINE) as world:
            journey = Journey(world)
            await journey.build()
            invoice = await journey.held()
            dave = journey.node("dave")
            await world.crash("alice")
            await dave.routing.invoicing.settle_invoice(dave.routing.invoicing.invoice(invoice.payment_hash).secret)
            bob = journey.node("bob")
            await world.until(lambda: (HASH, invoice.payment_hash) in bob.engine.chain.proofs, 2 * LOCK_SECONDS)
            assert (HASH, invoice.payment_hash) in bob.engine.chain.proofs, "Bob had to go to the chain: Alice was away"
            await world.until(lambda: False, LOCK_SECONDS)
            await world.crash("bob")
            alice = await world.start("alice")
            await world.until(lambda: alice.payment(invoice.payment_hash).ended is not None, 60)
            record = alice.payment(invoice.payment_hash)
            assert record.is_paid and (record.order.amount, record.text) == (AMOUNT, "")

    simulate(main, 1)


def test_a_part_that_was_paid_in_an_update_that_nobody_had_acknowledged_before_a_crash_is_not_told_as_failed() -> None:
    async def fault(journey: Journey) -> None:
        world, bob = journey.world, journey.world.seats["bob"]
        (channel,) = world.channels_between("alice", "bob")
        acknowledged: list[bytes] = []

        def tamper(frame: bytes) -> list[bytes]:
            """The ack of the lock passes, that of its end does not."""
            if not is_one_of(frame, Ack) or channel_of(decode(frame)) != channel:
                return [frame]
            acknowledged.append(frame)
            return [frame][len(acknowledged) - 1 :]

        invoice = await journey.invoice()
        bob.tamper = tamper
        journey.ask(invoice)
        assert await world.until(lambda: bool(journey.receipts), 60)
        await world.crash("alice")
        assert len(acknowledged) == 2
        bob.tamper = None
        await world.until(lambda: False, 2 * LOCK_SECONDS)
        await world.start("alice")

    live_through(fault)


def test_a_part_that_was_paid_before_a_crash_stays_paid_if_its_peer_then_closes_the_channel() -> None:
    async def fault(journey: Journey) -> None:
        world, bob = journey.world, journey.world.seats["bob"]
        (channel,) = world.channels_between("alice", "bob")
        invoice = await journey.held()
        dave = journey.node("dave")
        bob.tamper = lambda frame: [] if is_one_of(frame, Ack) and channel_of(decode(frame)) == channel else [frame]
        await dave.routing.invoicing.settle_invoice(dave.routing.invoicing.invoice(invoice.payment_hash).secret)
        assert await world.until(lambda: bool(journey.receipts), 60)
        await world.until(lambda: False, 5)
        await world.crash("alice")
        await journey.node("bob").channel(channel).force_close()
        await world.until(lambda: False, 60)
        bob.tamper = None
        await world.start("alice")

    live_through(fault)


def test_a_forwarder_that_has_claimed_knows_that_after_a_crash_though_the_channel_onwards_is_gone() -> None:
    async def fault(journey: Journey) -> None:
        world = journey.world
        (onwards,) = world.channels_between("bob", "carol")
        invoice = await journey.held()
        dave = journey.node("dave")
        await world.crash("alice")
        carol = world.seats["carol"]
        carol.tamper = lambda frame: [] if is_one_of(frame, Ack) and channel_of(decode(frame)) == onwards else [frame]
        await dave.routing.invoicing.settle_invoice(dave.routing.invoicing.invoice(invoice.payment_hash).secret)
        await world.until(lambda: False, 5)
        await world.crash("bob")
        await journey.node("carol").channel(onwards).force_close()
        await world.until(lambda: False, 60)
        carol.tamper = None
        bob = await world.start("bob")
        assert await world.until(lambda: bob.channel(onwards).phase is Phase.GONE, LOCK_SECONDS - 150)
        await world.start("alice")

    live_through(fault)
