"""A channel that is about to close is shown as that and takes nothing new; what is paid out is counted once."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

import pytest
import trio

from tallystick.channels.errors import ChannelNotReady
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.cli.invoice import too_little_to_come
from tallystick.sdk.cli.tables import show_channel, show_channels
from tallystick.sdk.control.describe import channel_info
from tallystick.sdk.control.lookup import channel_to_pay
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.holdings import holdings
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.world import World, open_world

DEPOSIT = 10**6


def run(act: Callable[[World, Node, Node, ChannelHandle], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_world(5) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            channel = await alice.open_channel(world.address("bob"), DEPOSIT)
            await channel.pay(100_000)
            await act(world, alice, bob, channel)

    simulate(main, 5)


async def wait_to_close(world: World, bob: Node, channel: ChannelHandle) -> None:
    """Let a close be asked for while a lock of the other's pends, so that it has to wait."""
    expiry = world.chain.newest.header.time + 3_000
    await bob.channel(channel.id).lock(500, expiry, hashlib.sha256(b"nobody knows").digest())
    await trio.sleep(2)
    world.attempt("alice", lambda node: node.channel(channel.id).close())
    await trio.sleep(2)
    assert channel.phase is Phase.OPEN


def test_both_sides_show_it_and_refuse_what_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    async def act(world: World, alice: Node, bob: Node, channel: ChannelHandle) -> None:
        assert not channel.closing and channel_info(channel).closing is False
        await wait_to_close(world, bob, channel)
        theirs = bob.channel(channel.id)
        for node, handle in ((alice, channel), (bob, theirs)):
            assert handle.closing and handle.spendable == 0
            info = channel_info(handle)
            assert (info.phase, info.closing, info.spendable) == ("open", True, 0)
            assert "about to close" in repr(handle)
            show_channel(info)
            show_channels([info])
            shown = capsys.readouterr().out
            assert shown.count("open, about to close") == 2
            assert "nobody can pay this yet" in too_little_to_come(1, [info])
            before = await node.balance()
            for refused in (
                handle.deposit(10),
                handle.pay(1),
                handle.pay_many([1, 2]),
                handle.withdraw(1),
            ):
                with pytest.raises(ChannelNotReady, match="about to close"):
                    await refused
            with pytest.raises(ChannelNotReady, match="about to close: open another one"):
                channel_to_pay(node, bytes(handle.peer).hex(), 1, NATIVE, "")
            assert await node.balance() == before

    run(act)


def test_another_channel_with_the_peer_is_taken_instead() -> None:
    async def act(world: World, alice: Node, bob: Node, channel: ChannelHandle) -> None:
        await wait_to_close(world, bob, channel)
        other = await alice.open_channel(world.address("bob"), 1_000)
        assert channel_to_pay(alice, bytes(channel.peer).hex(), 1, NATIVE, "").id == other.id

    run(act)


@pytest.mark.parametrize("alone", [False, True])
def test_what_a_closing_pays_out_is_counted_once_at_every_block(alone: bool) -> None:
    async def act(world: World, alice: Node, bob: Node, channel: ChannelHandle) -> None:
        fees = 10**7
        seen = [sum(await holdings(alice, NATIVE))]
        assert await holdings(alice, NATIVE) == (await alice.balance(), DEPOSIT - 100_000)
        deposit = world.attempt("alice", lambda node: node.channel(channel.id).deposit(10**8))
        while not deposit.ended.is_set():
            seen.append(sum(await holdings(alice, NATIVE)))
            await trio.sleep(0.7)
        if alone:
            await channel.force_close()
            world.chain.advance(700)
        else:
            world.attempt("alice", lambda node: node.channel(channel.id).close())
        while channel.phase is not Phase.GONE:
            seen.append(sum(await holdings(alice, NATIVE)))
            await trio.sleep(0.7)
        seen.append(sum(await holdings(alice, NATIVE)))
        assert len(seen) > 20 and max(seen) == seen[0] and min(seen) > seen[0] - fees
        assert await holdings(alice, NATIVE) == (seen[-1], 0)

    run(act)


def test_an_opening_and_a_withdrawal_are_counted_once_at_every_block() -> None:
    async def act(world: World, alice: Node, bob: Node, channel: ChannelHandle) -> None:
        seen = [sum(await holdings(alice, NATIVE))]
        opening = world.attempt("alice", lambda node: node.open_channel(world.address("carol"), 10**8))
        taking = world.attempt("alice", lambda node: node.channel(channel.id).withdraw(500_000))
        while not (opening.ended.is_set() and taking.ended.is_set()):
            seen.append(sum(await holdings(alice, NATIVE)))
            await trio.sleep(0.7)
        assert opening.error is taking.error is None
        assert len(seen) > 10 and max(seen) == seen[0] and min(seen) > seen[0] - 10**7

    async def with_carol(world: World, alice: Node, bob: Node, channel: ChannelHandle) -> None:
        await world.start("carol")
        await act(world, alice, bob, channel)

    run(with_carol)
