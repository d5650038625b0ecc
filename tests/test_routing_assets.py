"""The payment network carries one asset: tokens of another are no way to pay an invoice, and no way that it is paid."""

from __future__ import annotations

import pytest
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.objects import Address
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.errors import PaymentFailed, Unpaid
from tallystick.router.invoice import decode_invoice
from tallystick.router.objects import NodeKey
from tallystick.router.payload import FinalPayload, encode_payload
from tallystick.router.sphinx import build_onion
from tallystick.sdk.testing.world import open_world

TOKEN = Address(b"\x70" * 20)


def test_worthless_tokens_do_not_pay_an_invoice() -> None:
    async def main() -> None:
        async with open_world(1) as world:
            world.chain.fund(world.seats["alice"].key.address, 1_000_000, TOKEN)
            alice, bob = await world.start("alice"), await world.start("bob")
            channel = await alice.open_channel(world.address("bob"), 1_000_000, asset=TOKEN)
            record = await bob.routing.create_invoice(5_000)
            expiry = alice.engine.chain.now + 3_600
            final = FinalPayload(5_000, expiry, decode_invoice(record.text).payment_secret, 5_000)
            onion = build_onion(
                b"\x11" * 32, [NodeKey(bytes(bob.key.public))], [encode_payload(final)], record.payment_hash
            )
            lock = alice.router.send_lock(channel.id, 5_000, expiry, record.payment_hash, onion.packet)
            with trio.fail_after(60):
                await alice.until(lambda: channel.session.channel.newest.next_lock > lock)
                await alice.until(lambda: not channel.session.channel.newest.locks)
            assert bob.routing.invoice(record.payment_hash).received == 0
            assert bob.channels[0].balances[0] == 0

    simulate(main, 1)


def test_an_invoice_is_not_paid_with_tokens_of_another_asset() -> None:
    async def main() -> None:
        async with open_world(1) as world:
            world.chain.fund(world.seats["alice"].key.address, 1_000_000, TOKEN)
            alice, bob = await world.start("alice"), await world.start("bob")
            channel = await alice.open_channel(world.address("bob"), 1_000_000, asset=TOKEN)
            record = await bob.routing.create_invoice(5_000)
            with pytest.raises(PaymentFailed) as caught:
                await alice.routing.pay(record.text, timeout=30)
            assert caught.value.reason in (Unpaid.NO_ROUTE, Unpaid.NO_LIQUIDITY)
            assert channel.session.channel.newest.next_lock == 0, "nothing was even tried"
            with pytest.raises(InvalidInput, match="asset"):
                await bob.routing.create_invoice(5_000, asset=TOKEN)

    simulate(main, 1)
