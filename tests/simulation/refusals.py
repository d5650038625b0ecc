"""Payouts that are refused: what the contract then owes an account."""

from __future__ import annotations

from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import Address
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.world import World

TOKEN = Address(b"\x70" * 20)


async def refuse_payout(world: World, asset: Address, left: int) -> Node:
    """Let a channel of Alice's end, and her be refused what is left to her in it, in the coin or in `TOKEN`."""
    world.give_everybody(TOKEN)
    alice = await world.start("alice")
    await world.start("bob")
    channel = await alice.open_channel(world.address("bob"), left // 7 * 10, asset=asset)
    await channel.pay(left // 7 * 3)
    world.chain.refuse(alice.address, asset)
    await channel.close()
    assert await world.until(lambda: channel.phase is Phase.GONE, 900)
    return alice
