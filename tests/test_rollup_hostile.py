"""A rollup's programs among those who would hurt them: desks that never end, chain nodes that leave things out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from simulation.rollup_world import FEE, OPERATOR, STRANGER, USERS, WATCHER, WINDOW, RollupWorld, open_world
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.testing.memory import MemoryDisk
from tallystick.sdk.errors import CallFailed
from tallystick.sdk.rollup import leaving, operating
from tallystick.sdk.rollup.asking import RollupDesk
from tallystick.sdk.rollup.calls import MODULE, RollupCall, RollupPlace, post_call
from tallystick.sdk.rollup.chain import ToldLog
from tallystick.sdk.rollup.follower import RollupFollower
from tallystick.sdk.rollup.reading import read_rollup
from tallystick.sdk.rollup.schema import WATCHING, BatchesForgotten, BatchMade, read_batches, read_steps
from tallystick.sdk.rollup.watching import SILENCE, WatcherPolicy, Watching
from tallystick.settlement.errors import ChainError
from tallystick.settlement.ethereum.abi import Envelope
from tallystick.settlement.ethereum.module_calls import write_call
from tallystick.settlement.modules import rollups
from tallystick.settlement.rollup.batches import Batch
from tallystick.settlement.rollup.steps import RollupTransfer, encode_step


async def begun(world: RollupWorld) -> None:
    """Let two users deposit, and the operator take that up."""
    await world.user(0).deposit(1_000_000)
    await world.user(1).deposit(500_000)
    await world.go_on(14)
    assert (await world.rollup.facts()).batches == 1


async def _for_ever(request: httpx.Request) -> httpx.Response:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await trio.sleep(1)

    return httpx.Response(200, content=parts())


async def _too_much(request: httpx.Request) -> httpx.Response:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield bytes(65_536)
            await trio.lowlevel.checkpoint()

    return httpx.Response(200, content=parts())


async def _too_deep(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=b"[" * 500_000)


@pytest.mark.parametrize("answer", [_for_ever, _too_much, _too_deep])
async def test_no_desk_keeps_a_watcher_from_convicting(answer: Any, autojump_clock: MockClock) -> None:
    async with open_world(5) as world:
        await begun(world)
        await world.user(0).exit(1)
        await world.go_on(14)
        transport = httpx.MockTransport(answer)
        world.desk = RollupDesk(httpx.AsyncClient(transport=transport, base_url="http://desk"))
        await world.start_watcher()
        with trio.fail_after(60):
            await world.watching.step()  # two batches, and nothing of their signatures
        core = await read_rollup(world.rollup)
        theft = RollupTransfer(0, 1, 5, 77)
        after = core.state.copy()
        data = core.state.root + encode_step(theft) + after.root
        bad = Batch(world.chain.newest.header.time, 2, after.accounts.root, after.channels.root, data)
        await world.rollup.act(OPERATOR, post_call(bad))
        with trio.fail_after(60):
            await world.watching.step()
        assert world.told("convicted batch 2")


async def test_a_silent_desk_is_not_asked_for_each_batch(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await begun(world)
        for _ in range(5):
            await world.user(0).exit(1)
            await world.go_on(14)
        asked: list[int] = []

        async def ask(number: int) -> None:
            asked.append(number)
            await trio.sleep(SILENCE)

        watching = Watching(world.rollup, world.watching._follower, WATCHER, world.said.append, ask)
        await watching.step()
        assert asked == [0], "a watcher with thousands of batches to read would see nothing of the chain for days"
        world.chain.advance(WINDOW // 2 + 100)
        await watching.step()
        assert asked == [0, 0] and len(world.told("demanded the signatures")) == 5


async def test_what_a_chain_node_left_out_blinds_nobody(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await begun(world)
        rollup = world.rollup
        follower = RollupFollower(rollup, MemoryDisk((WATCHING,)).open(), world.place)
        await follower.follow()
        logs = rollup.logs

        async def none(first: int, last: int) -> list[ToldLog]:
            return []

        rollup.logs = none  # type: ignore[method-assign]
        await world.user(0).exit(1)
        await world.go_on(14)
        await follower.follow()
        assert follower.core.count == 1, "one of many nodes behind one URL, which has not these blocks yet"
        rollup.logs = logs  # type: ignore[method-assign]
        await world.user(0).exit(1)
        await world.go_on(14)
        with pytest.raises(ChainError, match="told of batch 2, and 1 is next"):
            await follower.follow()
        await follower.follow()
        assert (follower.core.count, len(follower.core.standing)) == (3, 3)


async def test_batches_that_do_not_fit_into_one_answer_are_asked_for_by_halves(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await begun(world)
        ask, last = world.rollup._ask, world.chain.newest.header.number

        async def narrow(method: str, *params: Any) -> Any:
            if method == "eth_getLogs" and int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) > 2:
                raise ChainError("the chain node sent more than 67108864 bytes")
            return await ask(method, *params)

        whole = await world.rollup.logs(0, last)
        world.rollup._ask = narrow  # type: ignore[method-assign]
        assert await world.rollup.logs(0, last) == whole != []


async def test_steps_in_batches_leave_room_for_others(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operating, "PENDING_MAX", 2)
    async with open_world() as world:
        await begun(world)
        for _ in range(3):  # more than may wait, long before the first one is final
            await world.user(0).exit(1)
            await world.user(0).exit(1)
            with pytest.raises(CallFailed, match="2 steps are on their way"):
                await world.user(0).exit(1)
            await world.go_on(14)
        assert len(read_steps(world.disks["operator"].open())) == 6


async def test_a_batch_that_has_another_number_after_a_reorganisation_is_still_shown(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        await begun(world)
        await world.user(0).exit(1)
        await world.go_on(14)
        store = world.disks["operator"].open()
        (made,) = read_batches(store, 1)
        store.commit([BatchesForgotten(2), BatchMade(replace(made, number=2))])
        await world.start_operator()
        await world.rollup.act(STRANGER, RollupCall("demand", (1, 0), FEE))
        await world.go_on(2)
        assert world.told("showed the signatures of step 0 of batch 1")
        assert await world.desk.signatures(1) == made.signatures


async def test_a_flood_of_demands_does_not_hold_up_batches_and_the_first_due_is_answered_first(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        await begun(world)
        for _ in range(12):
            await world.user(0).exit(1)
        await world.go_on(14)
        for position in reversed(range(12)):
            await world.rollup.act(STRANGER, RollupCall("demand", (1, position), FEE))
        await world.user(1).exit(1)
        world.chain.advance(12)
        await world.operating.step()
        told = world.told("showed", "posted batch 2")
        assert told == [f"showed the signatures of step {at} of batch 1" for at in range(11, 3, -1)] + [
            "posted batch 2 of 1 steps"
        ]


async def test_nobody_signs_for_a_rollup_whose_signatures_count_on_another_chain(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        call = write_call(MODULE.name, "createRollup", [world.rollup.chain_id + 1, 1, 1, 1, 1, 1])
        await world.rollup._mined(await world.rollup._send(STRANGER, Envelope(call.module, 0, call.data)))
        world.rollup.at = RollupPlace(1)
        with pytest.raises(InvalidInput, match="takes signatures of chain"):
            await world.rollup.rules_of()


@pytest.mark.parametrize("stopped", [False, True])
async def test_users_leave_though_more_batches_wait_than_one_call_makes_final(
    stopped: bool, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (rollups, leaving):
        monkeypatch.setattr(module, "FINAL_MAX", 2)
    async with open_world() as world:
        await begun(world)
        for _ in range(6):
            await world.user(0).exit(1)
            await world.go_on(14)
        await world.user(1).exit(400)
        await world.go_on(14)
        await world.user(0).deposit(5)
        world.chain.advance(WINDOW + 1)
        if stopped:
            await world.watching.step()
            world.chain.advance(WINDOW + 1)
        assert (await world.rollup.facts()).batches - (await world.rollup.facts()).final > 4
        assert await world.user(1).withdraw() is not None
        assert (await read_rollup(world.rollup)).paid == {(world.user(1).address, NATIVE): 500_000 if stopped else 400}


async def test_an_operator_that_shows_signatures_on_the_chain_alone_does_not_live_off_a_watcher(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        await begun(world)
        for _ in range(12):
            await world.user(0).exit(1)
        await world.go_on(14)
        world.chain.advance(WINDOW // 2 + 100)

        async def none(number: int) -> None:
            return None

        policy = WatcherPolicy(demands=3, per_batch=5)
        for _ in range(4):
            follower = RollupFollower(world.rollup, world.disks["watcher"].open(), world.place)  # it starts anew
            watching = Watching(world.rollup, follower, WATCHER, world.said.append, none, policy)
            await watching.step()
            world.chain.mine()
        told = [each for each in world.told("demanded the signatures") if each.endswith("of batch 1")]
        assert len(told) == len(set(told)) == 5
        assert told != sorted(told), "nobody knows which ones come first"
        assert len(world.told("demanded the signatures")) == 5


async def test_who_watches_demands_first_what_its_own_key_should_have_signed(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await begun(world)
        for _ in range(12):
            await world.user(0).exit(1)
        await world.user(1).exit(1)
        await world.go_on(14)
        world.chain.advance(WINDOW // 2 + 100)

        async def none(number: int) -> None:
            return None

        policy = WatcherPolicy(demands=1, per_batch=0)
        watching = Watching(world.rollup, world.watching._follower, USERS[1], world.said.append, none, policy)
        await watching.step()
        assert world.told("demanded the signatures") == ["demanded the signatures of step 12 of batch 1"]
        world.chain.mine()
        await watching.step()
        assert len(world.told("demanded the signatures")) == 1
