"""Streams end to end, in virtual time: nodes, chain and crashes; nobody loses a unit that was acknowledged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from simulation.invariants import check_always, check_settled, histories, unsettled
from tallystick.channels.errors import ChannelNotReady, MalformedMessage
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Update, decode
from tallystick.channels.protocol.operations import Unlock
from tallystick.channels.session.effects import StreamReceived
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.streams import OutgoingStream
from tallystick.sdk.testing.world import World, open_world
from tallystick.settlement.chain import LinkRegistered

DEPOSIT = 1_000_000
UNIT = 10
LENGTH = 1_000
Act = Callable[[World, ChannelHandle, OutgoingStream], Awaitable[None]]


def chain_time(world: World) -> int:
    return world.chain.newest.header.time


async def links_on_chain(world: World) -> list[int]:
    blocks = await world.chain.blocks(0, 10_000)
    return [event.depth for block in blocks for event in block.events if isinstance(event, LinkRegistered)]


def play(act: Act, *, lifetime: int = 3_000, payer: str = "alice", payee: str = "bob", seed: int = 3) -> None:
    """Open a channel and a stream in it, and `act`."""

    async def main() -> None:
        async with open_world(seed) as world:
            alice = await world.start(payer)
            await world.start(payee)
            channel = await alice.open_channel(world.address(payee), DEPOSIT)
            stream = await channel.open_stream(UNIT, LENGTH, expiry=chain_time(world) + lifetime)
            await act(world, channel, stream)
            check_always(world, None, frozenset({"mallory"}))

    simulate(main, seed)


async def settled(world: World, payee: str = "bob") -> tuple[int, int]:
    """Wait until the payee's only channel is gone; return what the chain paid its sides (payer's, payee's)."""
    handle = world.node(payee).channels[0]

    def over() -> bool:
        return world.node(payee).channels[0].phase is Phase.GONE and not unsettled(world, [payee])

    assert await world.until(over, 12_000)
    paid = histories(world)[0][handle.id].paid
    side = handle.view.channel.side
    return paid[1 - side], paid[side]


def test_a_stream_is_paid_by_the_unit_and_closed() -> None:
    async def act(world: World, channel: ChannelHandle, stream: OutgoingStream) -> None:
        bob = world.node("bob").channels[0]
        (incoming,) = bob.streams[1]
        income: list[int] = []

        async def listen() -> None:
            async for units in incoming.income():
                income.append(units)

        with world.node("bob").events() as events:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                assert await stream.pay() == 1
                for _ in range(99):
                    stream.submit()
                await stream.wait(100)
                assert (stream.secured, incoming.received, bob.balances[0]) == (100, 100, 0)
                assert await stream.close() == 100 * UNIT
                await world.until(lambda: incoming.ended)
            assert sum(income) == 100
            told = 0
            while told < 100:
                event = await anext(events)
                told += event.units if isinstance(event, StreamReceived) else 0
        assert bob.balances[0] == 100 * UNIT and channel.balances[0] == DEPOSIT - 100 * UNIT
        assert channel.streams == bob.streams == ([], [])
        with pytest.raises(ChannelNotReady):
            stream.submit()
        await channel.close()
        await channel.wait_gone()
        assert await world.until(lambda: not unsettled(world, ["alice", "bob"]))
        check_settled(world, ["alice", "bob"])
        assert await links_on_chain(world) == []

    play(act)


def test_a_payer_that_crashes_goes_on_with_its_stream_where_it_was() -> None:
    async def act(world: World, channel: ChannelHandle, stream: OutgoingStream) -> None:
        await stream.pay(30)
        stream.submit(5)
        alice = await world.restart("alice")
        (again,) = alice.channels[0].streams[0]
        await alice.channels[0].wait_usable()
        assert await again.pay(10) in (40, 45)
        bob = await world.restart("bob")
        await alice.channels[0].wait_usable()
        (incoming,) = bob.channels[0].streams[1]
        assert incoming.received == again.secured
        paid = await again.close()
        assert bob.channels[0].balances[0] == paid in (40 * UNIT, 45 * UNIT)

    play(act)


def test_a_payer_that_disappears_has_paid_what_was_acknowledged() -> None:
    async def act(world: World, channel: ChannelHandle, stream: OutgoingStream) -> None:
        await stream.pay(70)
        expiry = stream._stream.expiry
        await world.crash("alice")
        await trio.sleep(expiry - chain_time(world) + 60)
        assert await links_on_chain(world) == [70]
        await world.node("bob").channels[0].force_close()
        assert await settled(world) == (DEPOSIT - 70 * UNIT, 70 * UNIT)

    play(act)


@pytest.mark.parametrize("closer", ["alice", "bob"])
def test_a_stream_that_is_open_at_a_force_close_is_registered_and_redeemed(closer: str) -> None:
    async def act(world: World, channel: ChannelHandle, stream: OutgoingStream) -> None:
        await stream.pay(40)
        stream.submit(3)
        await world.node(closer).channels[0].force_close()
        payer, payee = await settled(world)
        assert payer + payee == DEPOSIT and payee in (40 * UNIT, 43 * UNIT)
        assert [payee // UNIT] == await links_on_chain(world)

    play(act)


def test_a_payee_that_sleeps_through_most_of_it_registers_after_it_wakes() -> None:
    async def act(world: World, channel: ChannelHandle, stream: OutgoingStream) -> None:
        await stream.pay(40)
        await world.crash("bob")
        await channel.force_close()
        await trio.sleep(1_500)
        await world.start("bob")
        assert await settled(world) == (DEPOSIT - 40 * UNIT, 40 * UNIT)

    play(act)


def test_a_stream_that_nobody_closes_is_paid_out_before_it_expires_without_the_chain() -> None:
    async def act(world: World, channel: ChannelHandle, stream: OutgoingStream) -> None:
        await stream.pay(8)
        assert await world.until(lambda: stream.ended, 3_000)
        assert chain_time(world) < stream._stream.expiry - 120
        assert channel.balances[0] == DEPOSIT - 8 * UNIT
        assert await links_on_chain(world) == []

    play(act)


def test_a_payer_that_withholds_its_unlock_is_made_to_pay_by_the_registry() -> None:
    async def act(world: World, channel: ChannelHandle, stream: OutgoingStream) -> None:
        await stream.pay(25)

        def withhold(message: bytes) -> list[bytes]:
            try:
                read = decode(message)
            except MalformedMessage:
                return [message]  # gossip is none of the channel's
            ends = isinstance(read, Update) and any(isinstance(op, Unlock) for op in read.operations)
            return [] if ends else [message]

        world.seats["mallory"].tamper = withhold
        alice = world.node("alice").channels[0]
        assert await world.until(lambda: chain_time(world) > stream._stream.expiry + 120, 6_000)
        assert await links_on_chain(world) == [25]
        await alice.force_close()
        assert await settled(world, "alice") == (DEPOSIT - 25 * UNIT, 25 * UNIT)

    play(act, payer="mallory", payee="alice")
