"""A chain node that shows one block of the day after tomorrow: what is dated by it then is not dated by the lie."""

from __future__ import annotations

import random

import pytest
import trio

from simulation.journeys import LINE, LOCK_SECONDS, Journey, configuration
from simulation.pair import Pair
from tallystick.channels.protocol.core import Phase
from tallystick.channels.session.chaintime import LEAD, ChainTime
from tallystick.channels.session.inputs import Asks, RequestClose, RequestWithdrawal
from tallystick.channels.testing.clock import EPOCH
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.openings import OPENING_SECONDS
from tallystick.sdk.testing.world import open_world
from tallystick.settlement.testing.chaos import Chaos, ChaosChain, Lie

FUTURE = Chaos(lies=(Lie.FUTURE,), rate=1.0, calm=(0.0, 0.0), spell=(15.0, 15.0), ahead=40_000)


def test_a_head_is_believed_as_far_as_what_is_confirmed_bears_it_out() -> None:
    assert ChainTime(now=1_000, final=900).sure == 1_000
    assert ChainTime(now=10**6, final=900).sure == 900 + LEAD
    assert ChainTime(now=1_000).sure == 1_000  # nothing is known to be confirmed: a node that has just begun
    assert LEAD < OPENING_SECONDS


def test_no_coin_is_bound_for_days_because_a_block_was_dated_wrong() -> None:
    async def main() -> None:
        async with open_world(3, config=configuration(), interval=20.0, names=LINE) as world:
            liar = ChaosChain(world.chain, random.Random(1), FUTURE)
            world.seats["alice"].chain_node = liar
            journey = Journey(world)
            await journey.build()
            invoice = await journey.invoice(hold=True)
            alice = journey.node("alice")
            liar.start()
            assert await world.until(lambda: alice.engine.chain.now > world.chain.newest.header.time + 30_000, 60)
            journey.ask(invoice, timeout=120.0)
            for _ in range(120):
                await trio.sleep(1)
                for session in alice.engine.sessions.values():
                    for lock in (*session.channel.newest.locks, *session.channel.ours.simplex.locks):
                        assert lock.expiry < world.chain.newest.header.time + LOCK_SECONDS + 2 * LEAD
            liar.heal()

    simulate(main, 3)


def test_an_opening_is_not_forgotten_because_a_block_was_dated_wrong() -> None:
    async def main() -> None:
        async with open_world(3, interval=20.0, names=("alice", "bob")) as world:
            liar = ChaosChain(world.chain, random.Random(1), FUTURE)
            world.seats["bob"].chain_node = liar
            alice, bob = await world.start("alice"), await world.start("bob")

            async def open_channel(node: Node) -> None:
                await node.open_channel(world.address("bob"), 1_000_000)

            attempt = world.attempt("alice", open_channel)
            assert await world.until(lambda: bool(bob.engine.sessions), 60)
            liar.start()
            assert await world.until(lambda: bob.engine.chain.now > world.chain.newest.header.time + 30_000, 60)
            liar.heal()
            await attempt.ended.wait()
            assert attempt.error is None
            assert await world.until(lambda: [handle.phase for handle in bob.channels] == [Phase.OPEN], 300)
            assert [handle.phase for handle in alice.channels] == [Phase.OPEN]

    simulate(main, 3)


def test_an_opening_that_is_only_talked_about_outlives_a_block_that_was_dated_wrong() -> None:
    async def main() -> None:
        async with open_world(3, interval=20.0, names=("alice", "bob")) as world:
            liar = ChaosChain(world.chain, random.Random(1), FUTURE)
            world.seats["bob"].chain_node = liar
            _, bob = await world.start("alice"), await world.start("bob")

            async def open_channel(node: Node) -> None:
                await node.open_channel(world.address("bob"), 1_000_000)

            world.attempt("alice", open_channel)
            assert await world.until(lambda: bool(bob.engine.sessions), 60)
            await world.crash("alice")  # before the chain hears of it
            liar.start()
            assert await world.until(lambda: bob.engine.chain.now > world.chain.newest.header.time + 30_000, 60)
            number = world.chain.newest.header.number
            assert await world.until(lambda: bob.onchain.index.head_number > number, 60)
            assert [handle.phase for handle in bob.channels] == [Phase.OPENING]

    simulate(main, 3)


@pytest.mark.parametrize("ask", [RequestClose(), RequestWithdrawal(5)])
def test_no_offer_lives_for_days_because_a_block_was_dated_wrong(ask: Asks[object]) -> None:
    pair = Pair((1_000, 1_000))
    pair.connect()
    pair.settle()
    for party in pair.parties:
        party.time(int(EPOCH) + 2 * 86_400, int(EPOCH))  # both hear the same slip
    pair.alice.apply(ask)
    pair.settle()
    channel = pair.alice.channel
    dates = [] if channel.offer is None else [channel.offer.close.valid_until]
    dates += [one.withdrawal.valid_until for one in channel.withdrawals if one is not None]
    assert dates and max(dates) < EPOCH + 2 * LEAD
