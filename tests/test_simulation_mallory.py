"""Mallory cheats in every way that her proofs allow; Alice, whose node is an honest one, never loses a unit by it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from simulation.invariants import History, check_always, check_settled, histories, unsettled
from simulation.mallory import Mallory
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.testing.clock import EPOCH
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.testing.world import World, open_world
from tallystick.settlement.chain import RegisterSecretCall

DEPOSIT = 1_000_000
PERIOD = 600
SECRET = b"s" * 32
Act = Callable[[World, Mallory, ChannelHandle], Awaitable[None]]


def against_mallory(act: Act, seed: int = 1) -> History:
    """Let Alice and Mallory each pay three times, `act`, and wait until Alice's channel is gone; return its history."""

    async def main() -> History:
        async with open_world(seed) as world:
            alice, hers = await world.start("alice"), await world.start("mallory")
            channel = await alice.open_channel(world.address("mallory"), DEPOSIT, challenge_period=PERIOD)
            for _ in range(3):
                await channel.pay(100_000)
                await hers.channels[0].pay(30_000)
            identity = channel.id
            await act(world, Mallory(world), channel)

            def over() -> bool:
                return world.node("alice").channel(identity).phase is Phase.GONE and not unsettled(world, ["alice"])

            assert await world.until(over, 2 * PERIOD)
            check_settled(world, ["alice"])
            check_always(world, None, frozenset({"mallory"}))
            found = histories(world)[0][identity]
            assert found.closed_at is not None and found.settled_at is not None
            assert found.settled_at <= found.closed_at + PERIOD + 120
            return found

    return simulate(main, seed)


PAIRS = [(own, victims) for own in range(4) for victims in range(4)]


@pytest.mark.parametrize("asleep", [False, True], ids=["awake", "back just before the deadline"])
@pytest.mark.parametrize("seqs", PAIRS, ids=str)
def test_closing_with_any_pair_of_old_proofs_earns_nothing(seqs: tuple[int, int], asleep: bool) -> None:
    async def act(world: World, mallory: Mallory, channel: ChannelHandle) -> None:
        side = channel.view.channel.peer_side
        await world.crash("mallory")
        if asleep:
            await world.crash("alice")
        await mallory.close(channel.id, *(seqs if side == 0 else seqs[::-1]))
        if asleep:
            await trio.sleep(PERIOD - 30)
            await world.start("alice")

    history = against_mallory(act)
    own, victims = seqs
    assert history.closer is not None
    if victims < 3:  # she countersigned newer ones herself
        assert history.convicted and history.paid[history.closer] == 0
    if (own, victims) == (3, 3):
        assert not history.convicted


def test_of_two_closes_only_the_first_counts() -> None:
    async def act(world: World, mallory: Mallory, channel: ChannelHandle) -> None:
        await world.crash("mallory")
        first = await mallory.close(channel.id, 1, 1)
        second = await mallory.close(channel.id, 3, 3)
        await world.blocks(3)
        receipts = [await world.chain.receipt(transaction) for transaction in (first, second)]
        assert [receipt is not None and receipt.success for receipt in receipts] == [True, False]

    assert against_mallory(act).convicted


@pytest.mark.parametrize("payments", [1, 5, 12_500], ids=["one", "some", "more than one update"])
def test_an_honest_closer_whose_acks_are_withheld_is_not_convicted(payments: int) -> None:
    async def act(world: World, mallory: Mallory, channel: ChannelHandle) -> None:
        mallory.withhold_acks()
        for _ in range(payments):
            await channel.submit(10)
        side = channel.view.channel.side
        assert await world.until(lambda: mallory.newest(channel.id, side) > 3, 60)
        assert channel.view.channel.ours.seq == 3
        await channel.force_close()
        await world.until(lambda: channel.phase is Phase.CLOSED, 60)
        await world.crash("mallory")
        await mallory.challenge(channel.id, side, mallory.newest(channel.id, side))

    history = against_mallory(act)
    assert not history.convicted


def test_what_is_said_again_counts_once() -> None:
    async def act(world: World, mallory: Mallory, channel: ChannelHandle) -> None:
        mallory.replay()
        hers = world.node("mallory").channels[0]
        for _ in range(5):
            await hers.pay(7)
            await channel.pay(11)
        assert channel.payments == (8, 8)
        assert channel.balances == (DEPOSIT - 210_000 - 55 + 35, 210_000 + 55 - 35)
        await channel.force_close()

    assert not against_mallory(act).convicted


async def _register(world: World, at: int) -> None:
    """Carol makes the secret public in a block of exactly that time."""
    await trio.sleep_until(at - EPOCH)
    receipt = await world.chain.call(world.seats["carol"].key, RegisterSecretCall(SECRET))
    assert receipt.success and receipt.block.time == at


def _next_free_second(world: World, seconds: int) -> int:
    """Return a time so many seconds from now in which no block falls by itself."""
    at = world.chain.newest.header.time + seconds
    return at + 2 if (at - int(EPOCH)) % 5 in (0, 4) else at


@pytest.mark.parametrize("closed", [False, True], ids=["open channel", "closed channel"])
@pytest.mark.parametrize("late", [0, 1], ids=["at the last second", "a second late"])
def test_a_secret_counts_up_to_the_second_of_its_locks_expiry(late: int, closed: bool) -> None:
    async def act(world: World, mallory: Mallory, channel: ChannelHandle) -> None:
        expiry = _next_free_second(world, 200)
        await channel.lock(50_000, expiry, digest_of(SECRET))
        await world.until(lambda: len(channel.view.channel.ours.simplex.locks) == 1, 60)
        if closed:
            await channel.force_close()
        await _register(world, expiry + late)
        if not closed:
            await world.until(lambda: not channel.view.channel.ours.simplex.locks, 300)
            paid = 50_000 if late == 0 else 0
            assert channel.balances[0] == DEPOSIT - 210_000 - paid
            await channel.force_close()

    history = against_mallory(act)
    paid = 50_000 if late == 0 else 0
    assert sorted(history.paid) == sorted([DEPOSIT - 210_000 - paid, 210_000 + paid])


@pytest.mark.parametrize("seen", range(4))
def test_a_cheater_that_is_caught_twice_loses_once(seen: int) -> None:
    async def act(world: World, mallory: Mallory, channel: ChannelHandle) -> None:
        identity: ChannelId = channel.id
        side = channel.view.channel.side
        await world.crash("mallory")
        await mallory.close(identity, *((0, seen) if side == 0 else (seen, 0)))
        await world.blocks(1)
        await world.restart("alice")  # in the midst of her defence

    history = against_mallory(act)
    assert history.convicted and sum(history.paid) == DEPOSIT
