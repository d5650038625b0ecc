"""Into how many locks a payment may be split: as many as a channel has room for, and as the payee takes."""

from __future__ import annotations

import msgspec
import pytest

from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.errors import PaymentFailed, Unpaid
from tallystick.router.invoices.invoice import decode_invoice
from tallystick.sdk.testing.world import open_world


def test_a_payment_goes_round_a_channel_of_ours_that_has_no_room_for_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.channels.session.session.LOCKS_MAX", 1)
    monkeypatch.setattr("tallystick.channels.session.view.LOCKS_MAX", 1)

    async def main() -> None:
        async with open_world(1) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            for deposit in (90_000_000, 10_000_000):
                await alice.open_channel(world.address("bob"), deposit)
            plans = 0
            route = alice.routing.maps.of(NATIVE).planner.route

            def counted(*question: object, **more: object) -> object:
                nonlocal plans
                plans += 1
                return route(*question, **more)  # type: ignore[arg-type]  # as it came

            alice.routing.maps.of(NATIVE).planner.route = counted  # type: ignore[method-assign,assignment]
            held = await bob.create_invoice(5_000, hold=True)
            world.attempt("alice", lambda node: node.pay(held.text))
            assert await world.until(lambda: bool(bob.routing.receiving.held_payments), 30)
            receipt = await alice.pay((await bob.create_invoice(5_000)).text)
            assert receipt.amount == 5_000 and plans < 10

    simulate(main, 1)


@pytest.mark.parametrize(("features", "paid"), [(0, False), (1 << 16, True)])
def test_whoever_takes_no_parts_is_sent_none(features: int, paid: bool) -> None:
    async def main() -> None:
        async with open_world(1) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            for _ in range(2):
                await alice.open_channel(world.address("bob"), 10_000_000)
            secret = b"s" * 32
            held = await bob.create_invoice(15_000_000, payment_hash=digest_of(secret))
            invoice = msgspec.structs.replace(decode_invoice(held.text), features=features)
            if not paid:
                with pytest.raises(PaymentFailed) as failed:
                    await alice.pay(invoice)
                assert failed.value.reason is Unpaid.NO_LIQUIDITY
                return
            world.attempt("alice", lambda node: node.pay(invoice))
            assert await world.until(lambda: bool(bob.routing.receiving.held_payments), 30)

    simulate(main, 1)
