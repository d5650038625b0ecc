"""A rollup's user whose partner is gone, or cheats: the chain alone is enough, and a tower may answer."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from simulation.rollup_paying import PaidChannel
from simulation.rollup_world import STRANGER, USERS, WINDOW, RollupWorld, open_world
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import BalanceProof
from tallystick.sdk.rollup.disputing import RollupDisputes
from tallystick.sdk.rollup.leaving import RollupLeaving
from tallystick.sdk.rollup.reading import read_rollup
from tallystick.settlement.errors import Revert, Reverted

CHANNEL = 7


async def begun(world: RollupWorld) -> PaidChannel:
    """Let two users open a channel with 300 and 200 in it, and the operator post that; none is final yet."""
    for at in range(2):
        await world.user(at).deposit(1_000)
    await world.go_on(14)
    await world.user(0).open_channel(CHANNEL, USERS[1].address, 300)
    await world.user(1).fund(CHANNEL, 200)
    await world.go_on(14)
    parties = await world.user(0).disputes.parties(CHANNEL)
    return PaidChannel(parties, (world.user(0), world.user(1)))


def without_desk(world: RollupWorld, at: int) -> RollupDisputes:
    """Return a user who has the chain and nothing else."""
    return RollupDisputes(world.rollup, world.place, USERS[at])


async def test_whoever_is_left_alone_gets_its_money_by_its_newest_proof(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        paid = await begun(world)
        older = paid.pay(0, 40)
        newest = [paid.pay(1, 15), paid.pay(0, 60), older]  # in whatever order: the newest of either side is shown
        second = without_desk(world, 1)
        with pytest.raises(Reverted) as refused:
            await second.close(CHANNEL, *newest)
        assert refused.value.code == Revert.WINDOW_OPEN, "no final batch has the channel"
        world.chain.advance(WINDOW + 1)
        await second.close(CHANNEL, *newest)
        assert await second.answer(CHANNEL, *newest) == [], "it stands already, and the window is open"
        await world.go_on(2)
        world.chain.advance(WINDOW + 1)
        assert len(await second.answer(CHANNEL)) == 1
        assert await second.answer(CHANNEL) == []
        await world.go_on(14)
        state = (await read_rollup(world.rollup)).state
        assert [account.balance for at in range(2) if (account := state.accounts.get(at))] == [915, 1_085]
        assert not world.told("convict", "stopped", "refuses")


async def test_an_old_proof_loses_all_to_whom_a_tower_answers_for_though_the_operator_is_gone(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        paid = await begun(world)
        old = paid.pay(0, 10)
        paid.pay(0, 100)
        newest = paid.pay(0, 100)
        assert newest.proof.seen > old.proof.seq, "whoever signed it knew that the old one was replaced"
        world.chain.advance(WINDOW + 1)
        await without_desk(world, 0).close(CHANNEL, old)
        tower = RollupDisputes(world.rollup, world.place, STRANGER)
        assert len(await tower.answer(CHANNEL, newest)) == 1
        assert await tower.answer(CHANNEL, newest) == []
        world.chain.advance(WINDOW + 1)
        assert len(await tower.answer(CHANNEL, newest)) == 1
        world.chain.advance(WINDOW + 1)
        await world.watching.step()
        assert world.told("stopped everything")
        world.chain.advance(WINDOW + 1)
        leaving = RollupLeaving(world.rollup, USERS[1])
        await leaving.reclaim(CHANNEL)
        assert (await world.rollup.account(USERS[1].address))[2] == 500
        assert (await world.rollup.account(USERS[0].address))[2] == 0
        assert await leaving.claim() is not None


async def test_a_proof_that_counts_for_nothing_is_neither_signed_nor_sent(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        paid = await begun(world)
        disputes, name = without_desk(world, 0), paid.parties.name(world.place)
        for proof in (
            BalanceProof(name, 0, 1, 5, 5, b"\x01" * 32),
            BalanceProof(type(name)(bytes(32)), 0, 1, 5),
        ):
            with pytest.raises(InvalidInput, match="counts for nothing"):
                disputes.sign(paid.parties, proof)
        with pytest.raises(InvalidInput, match="no side"):
            without_desk(world, 2).sign(paid.parties, BalanceProof(name, 0, 1, 5))
        with pytest.raises(InvalidInput, match="there is no channel 8"):
            await disputes.close(8)
        assert await disputes.answer(8) == []
