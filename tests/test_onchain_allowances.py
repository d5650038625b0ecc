"""Several calls of one node may spend one token at once: what one was allowed is not taken by, or from, another."""

from __future__ import annotations

import trio

from tallystick.channels.protocol.objects import Address
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.testing.world import open_world

TOKEN = Address(b"\x70" * 20)


def test_channels_in_one_token_are_opened_and_topped_up_at_once() -> None:
    async def main() -> None:
        async with open_world(1) as world:
            world.give_everybody(TOKEN)
            alice = await world.start("alice")
            for name in ("bob", "carol", "mallory"):
                await world.start(name)

            async def open_with(name: str, deposit: int) -> None:
                await alice.open_channel(world.address(name), deposit, asset=TOKEN)

            async with trio.open_nursery() as nursery:
                for name, deposit in (("bob", 1_000), ("carol", 5_000)):
                    nursery.start_soon(open_with, name, deposit)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_with, "mallory", 70)
                for channel in alice.channels:
                    nursery.start_soon(channel.deposit, 300)
            assert sorted(channel.balances[0] for channel in alice.channels) == [70, 1_300, 5_300]
            world.chain.check_conservation()

    simulate(main, 1)
