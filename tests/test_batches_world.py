"""Whole nodes with many channels: what is due at once goes in few transactions, through crashes and reorganisations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from tallystick.channels.protocol.core import Phase
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Config
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world
from tallystick.settlement.chain import BatchCall, Call, CooperativeCloseCall, SettleCall
from tallystick.settlement.ethereum.abi import Deployment, decode_call
from tallystick.settlement.ethereum.transactions import decode_transaction, gas_of

CONFIG = Config(challenge_period=600, duties=CLAIM_ALL)
DEPOSIT = 10_000_000
COUNT = 6


def play(story: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_world(1, config=CONFIG, interval=12.0) as world:
            await story(world)

    simulate(main, 1)


async def many_channels(world: World) -> list[ChannelHandle]:
    alice, _ = await world.start("alice"), await world.start("bob")
    return [await alice.open_channel(world.address("bob"), DEPOSIT) for _ in range(COUNT)]


def mined(world: World, name: str) -> list[Call]:
    """What a role had mined, in order."""
    chain = world.chain
    at = Deployment(chain.chain_id, chain.contract)
    records = [chain.record(number) for number in range(chain.newest.header.number + 1)]
    raws = [entry.raw for record in records if record is not None for entry in record.entries]
    found = [decode_transaction(raw, chain.chain_id) for raw in raws]
    return [decode_call(each.envelope, at) for each in found if each.sender == world.seats[name].key.address]


def gas_for(calls: list[Call], kind: type[Call]) -> tuple[int, int]:
    """What such calls took, alone and in batches, and what they would have taken alone."""
    own = [call for call in calls if isinstance(call, kind | BatchCall)]
    single = [one for call in own for one in (call.calls if isinstance(call, BatchCall) else (call,))]
    assert {type(one) for one in single} == {kind}
    return sum(map(gas_of, own)), sum(map(gas_of, single))


def test_a_hub_that_closes_all_its_channels_pays_for_few_transactions() -> None:
    async def story(world: World) -> None:
        channels = await many_channels(world)
        async with trio.open_nursery() as nursery:
            for channel in channels:
                nursery.start_soon(channel.close)
        assert all(channel.phase is Phase.GONE for channel in channels)
        took, alone = gas_for(mined(world, "alice")[COUNT:], CooperativeCloseCall)
        assert alone == COUNT * gas_of(single_close(world)) and took < alone * 9 // 10
        alice = world.node("alice")
        await world.blocks(140)
        assert alice.onchain.sender.obligations() == ()
        assert alice.onchain.sender.statistics().quarantined == 0

    play(story)


def single_close(world: World) -> CooperativeCloseCall:
    calls = [one for call in mined(world, "alice") for one in (call.calls if isinstance(call, BatchCall) else (call,))]
    return next(call for call in calls if isinstance(call, CooperativeCloseCall))


@pytest.mark.parametrize("crash", [2, 5])
def test_settlements_that_are_due_at_one_time_go_together_whatever_happens(crash: int) -> None:
    async def story(world: World) -> None:
        channels = await many_channels(world)
        names = [channel.id for channel in channels]
        for channel in channels:
            await channel.force_close()
        assert await world.until(lambda: all(channel.phase is Phase.CLOSED for channel in channels), 600)
        alice = world.node("alice")
        life = world.seats["alice"].life
        assert life is not None
        assert await world.until(lambda: any(o.members for o in alice.onchain.sender.obligations()), 1_200)
        for _ in range(crash):
            await trio.lowlevel.checkpoint()
        alice = await world.restart("alice")
        await world.blocks(2)
        world.chain.reorganise(2, keep=lambda transaction: crash % 2 == 0)
        assert await world.until(lambda: all(alice.channel(name).phase is Phase.GONE for name in names), 1_200)
        settled = [call for call in mined(world, "alice") if isinstance(call, BatchCall | SettleCall)]
        assert any(isinstance(call, BatchCall) for call in settled)
        await world.blocks(140)
        assert alice.onchain.sender.obligations() == ()
        assert alice.onchain.sender.statistics().quarantined == 0

    play(story)
