"""Streams that roll over: to the unit, without waiting, with bounded capital, and across crashes of either side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from simulation.invariants import check_always, unsettled
from tallystick.channels.errors import ChannelNotReady, InsufficientFunds, InvalidInput
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.testing.world import World, open_world

UNIT, LENGTH, LIFETIME = 10, 20, 1_200
Act = Callable[[World, ChannelHandle], Awaitable[None]]


def play(act: Act, *, deposit: int = 100_000, seed: int = 3) -> None:
    """Open a channel between Alice and Bob and `act`; at the end all must be at rest."""

    async def main() -> None:
        async with open_world(seed) as world:
            alice = await world.start("alice")
            await world.start("bob")
            await act(world, await alice.open_channel(world.address("bob"), deposit))
            assert await world.until(lambda: not unsettled(world, ["alice", "bob"]), 4_000)
            check_always(world)

    simulate(main, seed)


def got(world: World) -> int:
    """What Bob was paid."""
    return world.node("bob").channels[0].view.channel.theirs.simplex.proof.transferred


def test_it_rolls_over_to_the_unit_with_at_most_two_streams_pending() -> None:
    async def act(world: World, channel: ChannelHandle) -> None:
        rolling = channel.rolling_stream(UNIT, LENGTH, lifetime=LIFETIME)
        pending = 0
        for number in range(76):
            await rolling.pay()
            assert channel.streamed == UNIT * (number + 1)
            pending = max(pending, len(channel.view.channel.newest.locks))
        await rolling.close()
        assert (got(world), pending) == (760, 2)
        assert channel.view.channel.newest.next_lock == 5  # the fifth was there before the fourth was used up

    play(act)


def test_the_next_stream_is_agreed_before_the_last_unit_is_paid() -> None:
    async def act(world: World, channel: ChannelHandle) -> None:
        rolling = channel.rolling_stream(UNIT, LENGTH, lifetime=LIFETIME)
        for _ in range(LENGTH):
            await rolling.pay()
        assert channel.view.channel.ours.simplex.lock(1) is not None
        await rolling.close()

    play(act)


def test_one_payment_may_need_two_streams_and_many_tasks_may_pay() -> None:
    async def act(world: World, channel: ChannelHandle) -> None:
        rolling = channel.rolling_stream(UNIT, LENGTH, lifetime=LIFETIME)
        async with trio.open_nursery() as nursery:
            for units in (13, 13, 20, 1, 7, 20):
                nursery.start_soon(rolling.pay, units)
        await rolling.close()
        assert got(world) == channel.streamed == 740

    play(act)


def test_it_needs_no_more_than_one_stream_at_a_time_if_there_is_no_more() -> None:
    async def act(world: World, channel: ChannelHandle) -> None:
        rolling = channel.rolling_stream(100, 5, lifetime=LIFETIME)
        for _ in range(9):
            await rolling.pay()
        with pytest.raises(InsufficientFunds):
            for _ in range(9):
                await rolling.pay()
        await rolling.close()
        assert got(world) == channel.streamed == 1_000

    play(act, deposit=1_110)


def test_it_goes_on_when_a_streams_time_is_over() -> None:
    async def act(world: World, channel: ChannelHandle) -> None:
        rolling = channel.rolling_stream(UNIT, LENGTH, lifetime=LIFETIME)
        for _ in range(6):
            await rolling.pay()
            await trio.sleep(500)
        await rolling.close()
        assert got(world) == 60
        assert channel.view.channel.newest.next_lock > 2

    play(act)


@pytest.mark.parametrize("effect", range(0, 60, 3))
def test_an_exact_sum_is_paid_whenever_the_payer_crashes(effect: int) -> None:
    async def pay_all(handle: ChannelHandle) -> None:
        rolling = handle.rolling_stream(UNIT, LENGTH, lifetime=LIFETIME)
        while handle.streamed < 450:
            await rolling.pay(min(7, 45 - handle.streamed // UNIT))
        await rolling.close()

    async def act(world: World, channel: ChannelHandle) -> None:
        life = world.seats["alice"].life
        assert life is not None
        life.gate.aim(effect, after=effect % 2 == 0)
        attempt = world.attempt("alice", lambda node: pay_all(node.channels[0]))
        assert await world.until(lambda: life.ended.is_set() or attempt.ended.is_set(), 100)
        if not attempt.ended.is_set():
            alice = await world.start("alice")
            await alice.connect(world.address("bob"))
            await alice.channels[0].wait_usable()
            await pay_all(alice.channels[0])
        assert got(world) == 450
        life.gate.disarm()

    play(act)


def test_what_can_be_no_stream_is_refused() -> None:
    async def act(world: World, channel: ChannelHandle) -> None:
        for unit, length, lifetime in ((0, 20, LIFETIME), (1, 0, LIFETIME), (1, 20, 1_199)):
            with pytest.raises(InvalidInput):
                channel.rolling_stream(unit, length, lifetime=lifetime)
        rolling = channel.rolling_stream(UNIT, LENGTH, lifetime=LIFETIME)
        for units in (0, LENGTH + 1):
            with pytest.raises(InvalidInput):
                await rolling.pay(units)
        await channel.close()
        with pytest.raises(ChannelNotReady):
            await rolling.pay()

    play(act)
