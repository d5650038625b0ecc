"""A rollup's programs: operator, watcher and users, on a simulated chain in one process."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from trio.testing import MockClock

from simulation.rollup_house import CHEATS, Posted, RollupHouse
from simulation.rollup_world import (
    BOND,
    FEE,
    OPERATOR,
    ORDER_TIME,
    STRANGER,
    USERS,
    WATCHER,
    WINDOW,
    RollupWorld,
    open_world,
)
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE
from tallystick.sdk.errors import CallFailed
from tallystick.sdk.rollup.calls import RollupCall, post_call
from tallystick.sdk.rollup.chain import LEDGER_FINAL
from tallystick.sdk.rollup.reading import read_rollup
from tallystick.sdk.rollup.schema import read_batches, read_steps
from tallystick.settlement.errors import Reverted
from tallystick.settlement.rollup.batches import Batch
from tallystick.settlement.rollup.execution import make_batch
from tallystick.settlement.rollup.steps import RollupTransfer, encode_step


async def begun(world: RollupWorld) -> None:
    """Let two users deposit, and the operator take that up."""
    await world.user(0).deposit(1_000_000)
    await world.user(1).deposit(500_000)
    await world.go_on(14)
    assert (await world.rollup.facts()).batches == 1


async def test_users_pay_close_and_leave_and_the_watcher_has_nothing_to_do(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await begun(world)
        first, second = world.user(0), world.user(1)
        step, promise = await first.transfer(second.address, 250)
        assert (await first.where(step)).what == "waiting"
        kept = read_steps(world.disks["operator"].open())
        await world.start_operator()
        signature = kept[encode_step(step)].signed.signatures[0].hex()
        again = await world.desk.ask(
            "/steps", {"steps": [{"step": encode_step(step).hex(), "signatures": [signature]}]}
        )
        assert again["promises"][0]["signature"] == f"0x{promise.signature.hex()}"
        first, second = world.user(0), world.user(1)
        assert (await first.where(step)).what == "waiting", "it is on the disk"
        await first.open_channel(7, second.address, 10_000)
        await second.fund(7, 5_000)
        with pytest.raises(CallFailed, match="signature is not that of"):
            await first.close(7, 4_000, 2**39, bytes(64))
        close, _ = await first.close(7, 4_000, 2**39, await second.sign_close(7, 4_000, 2**39))
        await world.go_on(20)
        assert ((await first.where(close)).what, (await first.where(close)).batch) == ("posted", 1)
        assert world.operating.time <= promise.until
        with pytest.raises(InvalidInput, match="holds 0"):
            await second.sign_close(7, 4_000, 2**39)
        await world.start_operator()
        second = world.user(1)
        assert (await second.where(close)).what == "posted"
        await second.exit(100_000)
        await world.go_on(20)
        assert await second.withdraw() is None, "not final yet"
        world.chain.advance(WINDOW + 1)
        await world.rollup.act(STRANGER, RollupCall("finalise"))
        assert await second.withdraw() is not None
        assert (await read_rollup(world.rollup)).paid == {(second.address, NATIVE): 100_000}
        assert not world.told("demand", "convict", "refuses", "stopped")
        await world.go_on(2)
        assert read_batches(world.disks["operator"].open(), 0), "a reorganisation may open the window again"
        await world.start_operator()
        await world.go_on(LEDGER_FINAL + 2)
        assert not read_batches(world.disks["operator"].open(), 0), "what is final is forgotten"


@pytest.mark.parametrize("kind", CHEATS)
async def test_each_kind_of_wrong_batch_is_convicted_by_the_watcher(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(5) as world:
        await begun(world)
        await world.user(2).deposit(7)
        await world.user(0).deposit(8)
        core = await read_rollup(world.rollup)
        bad = cheat(world, core.entries, core.state, kind)
        if bad is None:
            pytest.skip("this seed has no such batch")
        if bad.queue_end > len(core.entries):
            await world.user(0).deposit(5)
        await world.rollup.act(OPERATOR, post_call(bad))
        before = await world.rollup.balance(WATCHER.address)
        await world.watching.step()
        assert world.told("convicted batch 1")
        assert await world.rollup.balance(WATCHER.address) > before + BOND // 2 - 10**6
        assert (await world.rollup.facts())[8:10] == (0, 1)


def cheat(world: RollupWorld, entries: list, state: object, kind: str) -> Batch | None:  # type: ignore[type-arg]
    """Return the batch of a crooked operator."""
    house = RollupHouse(3, place=world.place)
    house.keys = list(USERS)
    house.by_address = {key.address: key for key in USERS}
    house.state, house.queue, house.time = state, list(entries), world.chain.newest.header.time  # type: ignore[assignment]
    posted: Posted = house.honest(8)
    for at in range(posted.batch.count):
        made = CHEATS[kind](house, posted, at)
        if made is not None:
            return replace(made, time=posted.batch.time)
    return None


async def test_what_nobody_signed_is_demanded_and_ends_the_batch(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await begun(world)
        core = await read_rollup(world.rollup)
        theft = RollupTransfer(0, 1, 500, 0)
        entries = core.entries
        batch, _ = make_batch(core.state, [theft], world.place, world.chain.newest.header.time, 2, entries.__getitem__)
        await world.rollup.act(OPERATOR, post_call(batch))
        for _ in range(3):
            await world.watching.step()  # the desk says nothing of it
        assert not world.told("demanded")
        world.chain.advance(WINDOW // 2 + 1)
        await world.watching.step()
        assert world.told("demanded the signatures of step 0 of batch 1")
        await world.operating.step()
        assert world.told("not on this disk")
        world.chain.advance(1_000)
        await world.watching.step()
        assert world.told("nobody showed the signatures")
        assert (await world.rollup.facts()).batches == 1


async def test_an_honest_operator_shows_what_is_demanded(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await begun(world)
        step, _ = await world.user(0).transfer(USERS[1].address, 250)
        await world.go_on(14)
        number = (await world.user(0).where(step)).batch
        await world.rollup.act(STRANGER, RollupCall("demand", (number, 0), FEE))
        await world.start_operator()
        await world.go_on(2)
        assert world.told(f"showed the signatures of step 0 of batch {number}")
        world.chain.advance(WINDOW)
        with pytest.raises(Reverted, match="nobody waits"):
            await world.rollup.act(STRANGER, RollupCall("silence", (number, 0)))


async def test_an_operator_that_is_gone_is_stopped_and_everybody_leaves_by_the_chain_alone(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        await begun(world)
        first, second = world.user(0), world.user(1)
        await first.force_exit()
        await second.deposit(77)
        world.chain.advance(ORDER_TIME + 1)
        await world.watching.step()
        assert world.told("stopped everything")
        world.chain.advance(WINDOW + 1)
        for user in (first, second):
            assert await user.withdraw() is not None
        facts = await world.rollup.facts()
        assert facts.deposited == 0 or world.rollup.is_ledger
        assert (await read_rollup(world.rollup)).paid == {
            (first.address, NATIVE): 1_000_000,
            (second.address, NATIVE): 500_000,
        }


async def test_a_batch_is_on_disk_before_it_is_posted_and_no_other_takes_its_place(autojump_clock: MockClock) -> None:
    async with open_world(1) as world:
        await begun(world)
        step, _ = await world.user(0).transfer(USERS[1].address, 250)
        world.faults.rate = 0.3
        for _ in range(40):
            await world.go_on()
            store = world.disks["operator"].open()
            await world.start_operator()
            assert len(read_batches(store, 1)) <= 1
        world.faults.rate = 0.0
        await world.go_on(20)
        assert (await world.user(0).where(step)).what == "posted"
        assert not world.told("convict")


async def test_a_list_that_a_reorganisation_has_reordered_makes_another_batch_and_convicts_nobody(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        floor = world.chain.newest.header.number
        await world.user(0).deposit(1_000)
        await world.user(1).deposit(2_000)
        await world.go_on(14)
        assert (await world.rollup.facts()).batches == 1
        posts = {OPERATOR.address}
        depth = world.chain.newest.header.number - floor
        world.chain.reorganise(depth, keep=lambda waiting: waiting.sender in posts)
        await world.user(1).deposit(2_000)
        await world.user(0).deposit(1_000)
        await world.go_on(20)
        facts, core = await world.rollup.facts(), await read_rollup(world.rollup)
        assert (facts.batches, facts.bonded, core.is_wrong) == (1, BOND, False)
        assert [entry.amount0 for entry in core.entries] == [2_000, 1_000] and core.queue_end == 2
        assert len(read_batches(world.disks["operator"].open(), 0)) == 2, "the first one fits no more"
        assert not world.told("convict")


async def test_signatures_are_kept_until_no_reorganisation_can_ask_for_them(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await begun(world)
        await world.user(0).transfer(USERS[1].address, 250)
        await world.go_on(14)
        floor = world.chain.newest.header.number
        world.chain.advance(WINDOW + 1)
        await world.rollup.act(STRANGER, RollupCall("finalise"))
        await world.go_on(LEDGER_FINAL - 10)
        assert (await world.rollup.facts()).final == 2
        world.chain._ahead -= WINDOW  # the other branch is as long, and its blocks came faster
        world.chain.reorganise(world.chain.newest.header.number - floor, keep=lambda _: False)
        await world.rollup.act(STRANGER, RollupCall("demand", (1, 0), FEE))
        await world.go_on(4)
        assert world.told("showed the signatures of step 0 of batch 1")
        world.chain.advance(WINDOW + 1_000)
        await world.rollup.act(STRANGER, RollupCall("finalise"))
        assert ((await world.rollup.facts()).final, (await world.rollup.facts()).bonded) == (2, BOND)


async def test_a_block_that_left_the_chain_makes_nothing_final(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await begun(world)
        floor = world.chain.newest.header.number
        world.chain.advance(WINDOW + 1)
        await world.rollup.act(STRANGER, RollupCall("finalise"))
        await world.go_on(2)
        world.chain._ahead -= WINDOW
        world.chain.reorganise(world.chain.newest.header.number - floor, keep=lambda _: False)
        world.chain.mine(LEDGER_FINAL + 4)
        await world.go_on(2)
        assert (await world.rollup.facts()).final == 0
        assert read_batches(world.disks["operator"].open(), 0)
