"""A rollup's programs among those who would hurt them: desks that never end, chain nodes that leave things out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from simulation.rollup_world import OPERATOR, WATCHER, WINDOW, RollupWorld, open_world
from tallystick.channels.testing.memory import MemoryDisk
from tallystick.sdk.rollup.calls import post_call
from tallystick.sdk.rollup.chain import ToldLog
from tallystick.sdk.rollup.follower import RollupFollower
from tallystick.sdk.rollup.schema import WATCHING
from tallystick.sdk.rollup.user import RollupDesk, read_rollup
from tallystick.sdk.rollup.watching import SILENCE, Watching
from tallystick.settlement.errors import ChainError
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
