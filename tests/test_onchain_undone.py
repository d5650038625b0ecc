"""What a node does about a channel's end that is undone, or that it learns of late: what is due, none in vain."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pytest
import trio

from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import NATIVE, ChannelId
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.testing.world import COINS, World, open_world
from tallystick.settlement.chain import CLOSED, GONE
from tallystick.settlement.errors import ChainError
from tallystick.settlement.sending.obligations import Duty

DEPOSIT, PAID = 10**12, 10**11


async def paid_channel(world: World) -> ChannelId:
    """Let Alice open a channel with Bob, and pay him."""
    alice, _ = await world.start("alice"), await world.start("bob")
    channel = await alice.open_channel(world.address("bob"), DEPOSIT)
    await channel.pay(PAID)
    return channel.id


async def closed_by_bob(world: World) -> ChannelId:
    """Let Bob close it without Alice, and settle."""
    identity = await paid_channel(world)
    await world.node("bob").channel(identity).force_close()
    return identity


def test_a_node_that_comes_back_does_nothing_that_was_done_meanwhile() -> None:
    async def main() -> None:
        async with open_world(seed=7) as world:
            identity = await paid_channel(world)
            await world.crash("alice")
            bob = world.node("bob").channel(identity)
            await bob.force_close()
            assert await world.until(lambda: bob.phase is Phase.GONE)
            nonce = await world.chain.nonce(world.seats["alice"].key.address)
            alice = await world.start("alice")
            await world.blocks(8)
            assert alice.channel(identity).phase is Phase.GONE
            assert alice.onchain.sender.statistics().submitted == 0
            assert await world.chain.nonce(world.seats["alice"].key.address) == nonce

    simulate(main, 7)


def test_a_duty_that_is_stored_waits_until_the_known_blocks_are_followed() -> None:
    async def main() -> None:
        async with open_world(seed=8) as world:
            identity = await paid_channel(world)
            alice, bob = world.node("alice").channel(identity), world.node("bob").channel(identity)
            await alice.force_close()
            assert await world.until(lambda: alice.phase is Phase.CLOSED)
            await world.blocks(2)  # that she has to settle is stored
            await world.crash("alice")
            while not await is_gone(world, identity):
                await world.blocks(1)
            assert bob.phase is Phase.CLOSED, "that he settled is not confirmed"
            nonce = await world.chain.nonce(world.seats["alice"].key.address)
            node = await world.start("alice")
            await world.blocks(8)
            assert node.channel(identity).phase is Phase.GONE
            assert await world.chain.nonce(world.seats["alice"].key.address) == nonce

    simulate(main, 8)


def test_what_was_held_is_sent_at_once_when_the_known_blocks_are_followed() -> None:
    async def main() -> None:
        async with open_world(seed=10, interval=60.0) as world:
            identity = await paid_channel(world)
            onchain = world.node("alice").onchain
            before = onchain.sender.statistics().submitted
            onchain.sender.hold = lambda obligation, now: True
            await world.node("alice").channel(identity).force_close()
            await world.blocks(1)
            await trio.sleep(10)
            assert onchain.sender.statistics().submitted == before
            onchain.sender.hold = lambda obligation, now: False
            onchain.follower.on_current()
            await trio.sleep(10)
            assert onchain.sender.statistics().submitted > before, "no block was mined in between"

    simulate(main, 10)


class Following(NamedTuple):
    """A follower that has more to follow, or has not."""

    is_current: bool
    fault: Exception | None = None


@pytest.mark.parametrize(
    ("left", "current", "fault", "held"),
    (
        (None, False, None, True),
        (100_000, False, None, True),
        (60, False, None, False),  # there is no time to find out
        (None, False, ChainError("no logs"), False),  # it may never be
        (None, True, None, False),
    ),
)
def test_a_duty_waits_for_known_blocks_if_there_is_time(
    left: int | None, current: bool, fault: Exception | None, held: bool
) -> None:
    async def main() -> None:
        async with open_world(seed=11) as world:
            identity = await paid_channel(world)
            enforcer = world.node("alice").onchain.enforcer
            await world.node("alice").channel(identity).force_close()
            (close,) = [one for one in enforcer._sender.obligations() if one.duty is Duty.CLOSE]
            follower, now = Following(current, fault), world.chain.newest.header.time
            enforcer._following.follower = follower  # type: ignore[assignment]
            enforcer._index.head_time = now
            duty = msgspec.structs.replace(close, deadline=None if left is None else now + left)
            assert enforcer.hold(duty, now) is held
            enforcer._index.head_time = now - 50_000
            assert enforcer.hold(duty, now) is held, "however old the blocks are that are followed just now"
            assert not enforcer.hold(msgspec.structs.replace(duty, duty=None), now), "what its user asked for"

    simulate(main, 11)


def test_a_settlement_that_is_undone_after_it_was_believed_is_made_again_though_its_maker_is_gone() -> None:
    async def main() -> None:
        async with open_world(seed=9) as world:
            identity = await closed_by_bob(world)
            alice, bob = world.node("alice").channel(identity), world.node("bob").channel(identity)
            assert await world.until(lambda: alice.phase is Phase.GONE and bob.phase is Phase.GONE)
            await world.crash("bob")
            depth = await depth_of_end(world, identity)
            world.chain.reorganise(depth, keep=lambda transaction: False)
            view = await world.chain.channel(identity)
            assert view is not None and view.status == CLOSED
            await world.blocks(20)
            view = await world.chain.channel(identity)
            assert view is not None and view.status == GONE
            left = COINS - await world.chain.balance(world.seats["alice"].key.address, NATIVE)
            assert PAID < left < 2 * PAID  # what she paid, and fees

    simulate(main, 9)


async def is_gone(world: World, channel: ChannelId) -> bool:
    """Return whether nothing of a channel is left on chain."""
    view = await world.chain.channel(channel)
    return view is not None and view.status == GONE


async def depth_of_end(world: World, channel: ChannelId) -> int:
    """Return how many blocks have to go for a channel not to be gone."""
    for block in reversed(await world.chain.blocks(1, world.chain.newest.header.number)):
        if any(getattr(event, "channel", None) == channel for event in block.events):
            return world.chain.newest.header.number - block.header.number + 1
    raise AssertionError("it never ended")
