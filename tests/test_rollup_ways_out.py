"""Ways out of a rollup that a user takes by the chain alone, and how an operator ends one."""

from __future__ import annotations

from trio.testing import MockClock

from simulation.rollup_world import FEE, OPERATOR, STRANGER, USERS, WATCHER, WINDOW, RollupWorld, open_world
from tallystick.channels.protocol.eip712 import digest_cooperative_close
from tallystick.channels.protocol.objects import CooperativeClose
from tallystick.sdk.rollup.calls import RollupCall
from tallystick.sdk.rollup.leaving import RollupLeaving
from tallystick.settlement.modules.rollups import BURNT
from tallystick.settlement.rollup.rules import channel_name

FAR = 2**39


async def begun(world: RollupWorld) -> None:
    """Let two users deposit and open a channel, and the operator post that."""
    for at in range(2):
        await world.user(at).deposit(1_000)
    await world.go_on(14)
    await world.user(0).open_channel(7, USERS[1].address, 300)
    await world.go_on(14)


def signed(world: RollupWorld, balance0: int, total: int) -> bytes:
    """Return the second side's signature of a close, who asks nobody."""
    name = channel_name(world.place, USERS[0].address, USERS[1].address, 7)
    close = CooperativeClose(name, balance0, total - balance0, FAR)
    return USERS[1].sign(digest_cooperative_close(world.place.domain, close))


async def test_a_channel_of_a_rollup_that_stopped_is_reclaimed_and_everybody_and_the_bond_leave(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        await begun(world)
        operator = RollupLeaving(world.rollup, OPERATOR)
        await operator.stop()
        first, second = world.user(0), world.user(1)
        await first.force_close(7, 100, FAR, signed(world, 100, 300))
        world.chain.advance(WINDOW + 1)
        await second.leaving.reclaim(7)
        assert [(await world.rollup.account(user.address))[2] for user in (first, second)] == [100, 200]
        for user in (first, second):
            assert await user.withdraw() is not None
            assert await user.leaving.claim() is not None and await user.leaving.claim() is None
        assert [(await world.rollup.account(user.address))[1] for user in (first, second)] == [700, 1_000]
        await operator.unbond()
        await operator.claim()
        facts = await world.rollup.facts()
        assert await world.rollup.balance(facts.vault) == (await world.rollup.account(BURNT))[2] == 0


async def test_what_a_demand_cost_is_given_back_when_another_one_ends_its_batch(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await begun(world)
        for _ in range(2):
            await world.user(0).exit(1)
        await world.go_on(14)
        await world.watching.step()
        await world.rollup.act(WATCHER, RollupCall("demand", (2, 1), FEE))
        await world.rollup.act(STRANGER, RollupCall("demand", (2, 0), FEE))
        world.chain.advance(WINDOW)
        await world.rollup.act(STRANGER, RollupCall("silence", (2, 0)))
        await world.watching.step()
        assert world.told("got back what 1 demands cost", "claimed") == [
            "got back what 1 demands cost: their batch is gone",
            "claimed what it earned",
        ]
        await world.start_watcher()
        await world.watching.step()
        assert len(world.told("got back")) == 1
        stranger = RollupLeaving(world.rollup, STRANGER)
        assert await stranger.refund() == 0, "the silence was paid for with the conviction"
        assert await stranger.claim() is not None
