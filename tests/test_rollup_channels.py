"""Two users of a rollup pay each other in a channel, durably, and close it together or alone by the newest payments."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from simulation.rollup_world import STRANGER, USERS, WINDOW, RollupWorld, open_world
from tallystick.channels.errors import InvalidInput, InvalidSignature, StoreError
from tallystick.channels.testing.memory import MemoryDisk
from tallystick.sdk.rollup.channel_record import PAYING
from tallystick.sdk.rollup.channels import LOOK_SECONDS, RollupChannels
from tallystick.sdk.rollup.reading import read_rollup
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.modules.rollups import LAG

CHANNEL = 7
FINAL = 6
"""Blocks that a reorganisation reaches here."""


class Sides:
    """Both, each with a disk."""

    def __init__(self, world: RollupWorld) -> None:
        self.world = world
        self.disks = [MemoryDisk((PAYING,)) for _ in range(2)]
        self.stores: list[Any] = [None, None]
        self.both: list[RollupChannels] = []
        for at in range(2):
            self.start(at)

    def start(self, at: int) -> RollupChannels:
        """Let a side's program start from its disk."""
        self.stores[at] = self.disks[at].open()
        made = RollupChannels(self.world.rollup, self.world.place, USERS[at], self.stores[at])
        self.both[at : at + 1] = [made]
        return made

    async def pay(self, by: int, amount: int) -> bytes:
        """Let a side pay, and the other one sign for it; return the receipt."""
        receipt = await self.both[1 - by].take(await self.both[by].pay(CHANNEL, amount))
        assert receipt is not None and await self.both[by].take(receipt) is None
        return receipt

    async def later(self, seconds: int) -> None:
        """Let time pass on the chain, and everybody look again."""
        self.world.chain.advance(seconds)
        self.world.chain.mine(FINAL + 1)
        await trio.sleep(LOOK_SECONDS + 1)


async def begun(world: RollupWorld) -> Sides:
    """Let two users open a channel with 300 and 200 in it, in a final batch."""
    for at in range(2):
        await world.user(at).deposit(1_000)
    await world.go_on(14)
    await world.user(0).open_channel(CHANNEL, USERS[1].address, 300)
    await world.user(1).fund(CHANNEL, 200)
    await world.go_on(14)
    world.chain.advance(WINDOW + 3_700)
    world.chain.mine(20)
    return Sides(world)


@pytest.fixture(autouse=True)
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.sdk.rollup.chain.LEDGER_FINAL", FINAL)


async def balances(world: RollupWorld) -> list[int]:
    state = (await read_rollup(world.rollup)).state
    return [account.balance for at in range(2) if (account := state.accounts.get(at))]


async def test_sides_pay_each_other_and_close_together_as_the_newest_says(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        sides = await begun(world)
        await sides.pay(0, 300)
        await sides.pay(1, 450)
        with pytest.raises(InvalidInput, match="can give 50 in this channel, and not 51"):
            await sides.both[1].pay(CHANNEL, 51)
        await sides.pay(0, 1)
        until = world.chain.newest.header.time + 600
        signed = [await each.sign_close(CHANNEL, until) for each in sides.both]
        assert [balance0 for balance0, _ in signed] == [449, 449]
        for at in range(2):
            with pytest.raises(InvalidInput, match="closes by agreement until"):
                await sides.both[at].pay(CHANNEL, 1)
        await world.user(0).close(CHANNEL, 449, until, signed[1][1])
        await world.go_on(14)
        assert await balances(world) == [700 + 449, 800 + 51]
        await sides.later(1)
        with pytest.raises(InvalidInput, match="is closed"):
            await sides.both[0].pay(CHANNEL, 1)


async def test_after_a_close_that_nobody_handed_in_payments_go_on_once_it_counts_no_more(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        sides = await begun(world)
        until = world.chain.newest.header.time + 600
        await sides.both[0].sign_close(CHANNEL, until)
        payment = await sides.both[1].pay(CHANNEL, 5)
        for seconds in (0, 601):
            await sides.later(seconds)
            with pytest.raises(InvalidInput, match="closes by agreement"):
                await sides.start(0).take(payment)
        await sides.later(LAG)
        assert await sides.both[0].take(payment)
        assert (await sides.both[0].sign_close(CHANNEL, until + 9_000))[0] == 305


@pytest.mark.parametrize("effect", [False, True])
@pytest.mark.parametrize("who", [0, 1])
async def test_whoever_ends_at_a_commit_pays_once_and_signs_one_statement_of_a_number(
    who: int, effect: bool, autojump_clock: MockClock
) -> None:
    async with open_world() as world:
        sides = await begun(world)
        await sides.pay(0, 10)
        handed = set()
        sides.stores[who].fail_at(0, takes_effect=effect)
        for _ in range(3):
            try:
                payment = await sides.both[0].pay(CHANNEL, 40, key="order 17")
                handed.add(payment)
                receipt = await sides.both[1].take(payment)
                assert receipt is not None
                assert await sides.both[0].take(receipt) is None
            except StoreError:
                sides.start(who)
        assert len(handed) == 1
        assert [(await each.book(CHANNEL)).available(1) for each in sides.both] == [250, 250]
        with pytest.raises(InvalidInput, match="the key of another payment"):
            await sides.both[0].pay(CHANNEL, 41, key="order 17")


async def test_two_payments_at_once_never_get_one_number(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        sides, made = await begun(world), list[bytes]()
        looks = itertools.count(0, int(LOOK_SECONDS) + 1)  # it looks at the chain anew at each step of a payment
        first = RollupChannels(world.rollup, world.place, USERS[0], sides.stores[0], clock=lambda: next(looks))

        async def pay(amount: int) -> None:
            try:
                made.append(await first.pay(CHANNEL, amount))
            except InvalidInput as error:
                assert "waits for the other side" in str(error)

        async with trio.open_nursery() as nursery:
            for amount in (3, 4, 5):
                nursery.start_soon(pay, amount)
        assert len(made) == 1


async def test_what_does_not_count_is_not_signed(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        sides = await begun(world)
        first, second = sides.both
        payment = await first.pay(CHANNEL, 100)

        def changed(at: int, number: int, size: int) -> bytes:
            return payment[:at] + number.to_bytes(size, "big") + payment[at + size :]

        for data, why in (
            (changed(5, 2, 8), "and 1 is next"),
            (changed(13, 1, 8), "each after an earlier one"),
            (changed(21, 301, 16), "can give 300"),
            (changed(21, 0, 16), "can give 300"),
            (changed(0, 8, 4), "no final batch has a channel 8"),
            (changed(4, 2, 1), "no payment"),
            (payment[:-1], "no payment"),
            (changed(5, 2**63, 8), r"below 2\^63"),
            (changed(13, 2**64 - 1, 8), r"below 2\^63"),
        ):
            with pytest.raises(InvalidInput, match=why):
                await second.take(data)
        with pytest.raises(InvalidSignature):
            await second.take(changed(21, 99, 16))
        receipt = await second.take(payment)
        assert receipt is not None and receipt == await second.take(payment)
        with pytest.raises(InvalidSignature):
            await first.take(receipt[:-64] + receipt[-128:-64])
        with pytest.raises(InvalidInput, match="waits for its receipt"):
            await first.sign_close(CHANNEL, 2**39)
        with pytest.raises(InvalidInput, match="another one: it is in our record"):
            await second.take(changed(21, 99, 16))
        other = RollupChannels(world.rollup, world.place, USERS[1], MemoryDisk((PAYING,)).open())
        with pytest.raises(InvalidInput, match="record was lost"):
            await other.take(receipt)
        lost = RollupChannels(world.rollup, world.place, USERS[0], MemoryDisk((PAYING,)).open())
        with pytest.raises(InvalidInput, match="not in this record"):
            await lost.take(receipt)
        with pytest.raises(InvalidInput, match="another one: it is in our record"):
            await second.take(await lost.pay(CHANNEL, 5))
        with pytest.raises(InvalidInput, match="no side"):
            await RollupChannels(world.rollup, world.place, STRANGER, MemoryDisk((PAYING,)).open()).pay(CHANNEL, 1)


async def test_a_side_that_is_left_alone_closes_by_the_newest_and_takes_nothing_more(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        sides = await begun(world)
        await sides.pay(0, 40)
        await sides.pay(1, 15)
        unsigned = await sides.both[0].pay(CHANNEL, 60)  # its receipt never comes
        later = await sides.both[1].pay(CHANNEL, 1)
        await sides.both[0].close_alone(CHANNEL)
        for again in (False, True):
            with pytest.raises(InvalidInput, match=r"closes alone|being closed by one side"):
                await (sides.start(0) if again else sides.both[0]).take(later)
        await sides.later(0)
        with pytest.raises(InvalidInput, match="being closed by one side"):
            await sides.both[1].take(unsigned)
        await world.go_on(2)
        await sides.later(WINDOW + 1)
        assert len(await sides.both[0].answer(CHANNEL)) == 1
        await world.go_on(14)
        assert await balances(world) == [700 + 275, 800 + 225]
        assert not world.told("convict", "stopped", "refuses")


async def test_an_old_copy_loses_all_to_whom_holds_the_newest_or_lets_somebody_answer(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        sides = await begun(world)
        await sides.pay(0, 10)
        old = MemoryDisk((PAYING,), sides.disks[0].image())
        for _ in range(2):
            receipt = await sides.pay(0, 100)
        cheat = RollupChannels(world.rollup, world.place, USERS[0], old.open())
        await cheat.close_alone(CHANNEL)
        other = RollupChannels(world.rollup, world.place, STRANGER, MemoryDisk((PAYING,)).open())
        assert len(await other.answer(CHANNEL, [receipt])) == 1
        assert await sides.both[1].answer(CHANNEL) == []
        await sides.later(WINDOW + 1)
        assert len(await sides.both[1].answer(CHANNEL)) == 1
        await world.go_on(14)
        assert await balances(world) == [700, 800 + 500]


async def test_a_close_alone_that_the_chain_refuses_ends_nothing(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        sides = await begun(world)

        async def refused(channel: int, *proofs: object) -> bytes:
            raise Reverted(Revert.WINDOW_OPEN, "not yet")

        sides.both[0].disputes.close = refused  # type: ignore[method-assign]
        with pytest.raises(Reverted):
            await sides.both[0].close_alone(CHANNEL)
        await sides.pay(1, 5)


async def test_nothing_is_paid_once_the_chain_has_ordered_that_a_channel_ends(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        sides = await begun(world)
        await sides.pay(0, 40)
        await sides.both[0].close_alone(CHANNEL)
        await sides.later(WINDOW + 1)
        assert len(await sides.both[0].answer(CHANNEL)) == 1
        await sides.later(0)  # the operator has not carried it out: the rollup's state says that the channel is open
        with pytest.raises(InvalidInput, match="has ordered that channel 7 is closed"):
            await sides.both[1].pay(CHANNEL, 1)


async def test_a_close_that_was_forced_in_time_ends_a_channel_after_its_time(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        sides = await begun(world)
        until = world.chain.newest.header.time + 60
        signed = [await each.sign_close(CHANNEL, until) for each in sides.both]
        await world.user(0).force_close(CHANNEL, 300, until, signed[1][1])
        await sides.later(LAG + 61)
        with pytest.raises(InvalidInput, match="has ordered that channel 7 is closed"):
            await sides.both[1].pay(CHANNEL, 1)


async def test_a_close_counts_until_its_time_in_a_block_that_stays_and_none_shortens_it(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        sides = await begun(world)
        until = world.chain.newest.header.time + 600
        with pytest.raises(InvalidInput, match="counts until a time"):
            await sides.both[0].sign_close(CHANNEL, 2**63)
        await sides.both[0].sign_close(CHANNEL, until)
        await world.user(1).fund(CHANNEL, 1)
        await world.go_on(14)
        await sides.later(0)
        with pytest.raises(InvalidInput, match="wait until its window is over"):
            await sides.both[0].sign_close(CHANNEL, until - 10)
        world.chain.advance(LAG + 601)  # in a block that may be replaced yet
        with pytest.raises(InvalidInput, match="closes by agreement"):
            await sides.start(0).pay(CHANNEL, 1)
        await sides.later(0)
        assert await sides.both[0].pay(CHANNEL, 1)


async def test_what_was_signed_last_for_a_shorter_time_lets_nothing_be_paid_earlier(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        sides = await begun(world)
        far = world.chain.newest.header.time + 50_000
        await sides.both[0].sign_close(CHANNEL, far)
        await world.user(1).fund(CHANNEL, 1)
        await world.go_on(14)
        await sides.later(WINDOW + LAG + 100)  # now what was paid in is final, and another sum is signed for
        assert (await sides.both[0].sign_close(CHANNEL, far - 30_000))[0] == 300
        await world.user(0).fund(CHANNEL, 2)
        await world.go_on(14)
        await sides.later(WINDOW + LAG + 100)
        assert (await sides.both[0].sign_close(CHANNEL, far - 30_000))[0] == 302
        await sides.later(30_000)
        with pytest.raises(InvalidInput, match="closes by agreement"):
            await sides.both[0].pay(CHANNEL, 1)
