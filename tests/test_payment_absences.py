"""A payer that was away while the chain decided what became of its payment learns of that when it is back."""

from __future__ import annotations

import msgspec

from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.testing.journeys import AMOUNT, LINE, LOCK_SECONDS, Journey, configuration
from tallystick.sdk.testing.world import CLAIM_ALL, open_world


def test_a_secret_that_the_chain_told_while_the_payer_was_away_is_its_receipt_although_its_peer_never_returns() -> None:
    async def main() -> None:
        config = msgspec.structs.replace(configuration(), duties=CLAIM_ALL)
        async with open_world(1, config=config, interval=20.0, names=LINE) as world:
            journey = Journey(world)
            await journey.build()
            invoice = await journey.invoice(hold=True)
            journey.ask(invoice)
            dave = journey.node("dave")
            assert await world.until(lambda: bool(dave.routing.receiving.held), 60)
            await world.crash("alice")
            await dave.routing.settle_invoice(dave.routing.invoice(invoice.payment_hash).secret)
            bob = journey.node("bob")
            await world.until(lambda: invoice.payment_hash in bob.engine.chain.secrets, 2 * LOCK_SECONDS)
            assert invoice.payment_hash in bob.engine.chain.secrets, "Bob had to go to the chain: Alice was away"
            await world.until(lambda: False, LOCK_SECONDS)
            await world.crash("bob")
            alice = await world.start("alice")
            await world.until(lambda: alice.payment(invoice.payment_hash).ended is not None, 60)
            record = alice.payment(invoice.payment_hash)
            assert record.paid and (record.order.amount, record.text) == (AMOUNT, "")

    simulate(main, 1)
