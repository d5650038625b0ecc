"""A channel in which no lock has room is of no use to a payer, however much it could carry."""

from __future__ import annotations

import pytest

from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.testing.world import open_world


def test_a_payment_goes_round_a_channel_of_ours_that_has_no_room_for_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.channels.session.LOCKS_MAX", 1)

    async def main() -> None:
        async with open_world(1) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            for deposit in (90_000_000, 10_000_000):
                await alice.open_channel(world.address("bob"), deposit)
            plans = 0
            route = alice.routing.atlas.planner.route

            def counted(*question: object, **more: object) -> object:
                nonlocal plans
                plans += 1
                return route(*question, **more)  # type: ignore[arg-type]  # as it came

            alice.routing.atlas.planner.route = counted  # type: ignore[method-assign,assignment]
            held = await bob.create_invoice(5_000, hold=True)
            world.attempt("alice", lambda node: node.pay(held.text))
            assert await world.until(lambda: bool(bob.routing.receiving.held), 30)
            receipt = await alice.pay((await bob.create_invoice(5_000)).text)
            assert receipt.amount == 5_000 and plans < 10

    simulate(main, 1)
