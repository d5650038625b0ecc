"""A long history of a real chain is followed by its events; the newest blocks one by one."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from simulation.evm_nodes import AT, FIXTURE, FakeChain, FakeInternet, FakeNode, SyntheticHost
from simulation.following import one_by_one
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.sdk.bench import synthetic_chain
from tallystick.sdk.bench.synthetic_chain import FIRST, HistoryOptions, SyntheticChain
from tallystick.sdk.bench.synthetic_events import LocksHeld
from tallystick.settlement.chain import Block, ChannelOpened, Deposited
from tallystick.settlement.errors import ChainError
from tallystick.settlement.ethereum.event_logs import encode_event
from tallystick.settlement.ethereum.evm import blocks as blocks_module
from tallystick.settlement.ethereum.evm.client import EvmChain, open_evm_chain
from tallystick.settlement.ethereum.rpc_shapes import quantity
from tallystick.settlement.following.checked import with_checks
from tallystick.settlement.following.follower import HEADERS_KEPT, BlockAdded, Followed, Follower, Step
from tallystick.settlement.sending.moments import read_followed, step_moment
from tallystick.settlement.sending.sqlite import SCHEMA

OPENED = encode_event(ChannelOpened(FIXTURE.id, FIXTURE.terms))
FINAL = 100
"""Blocks that the head is above what is final."""


class FinalNode(FakeNode):
    """One that calls a block final."""

    def eth_getBlockByNumber(self, which: str, full: bool) -> dict[str, object] | None:
        if which == "finalized":
            return self.known[max(0, len(self.known) - 1 - FINAL)]
        return super().eth_getBlockByNumber(which, full)


def long_chain(length: int, seed: int = 1) -> tuple[FakeChain, list[int]]:
    """Return a chain in which some blocks hold events, and their numbers."""
    rng, chain, holding = random.Random(seed), FakeChain(1), []
    for number in range(1, length):
        if rng.random() < 0.02:
            chain.add(*(encode_event(Deposited(FIXTURE.id, 0, number + index)) for index in range(rng.randrange(1, 4))))
            holding.append(number)
        else:
            chain.add()
    return chain, holding


@asynccontextmanager
async def following(chain: EvmChain, followed: Followed) -> AsyncIterator[tuple[Follower, list[Step]]]:
    steps: list[Step] = []

    async def on_step(step: Step) -> None:
        steps.append(step)

    follower = Follower(with_checks(chain), followed, one_by_one(on_step), jitter=lambda: 0.5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        yield follower, steps
        nursery.cancel_scope.cancel()


def added(steps: list[Step]) -> list[Block]:
    assert all(isinstance(step, BlockAdded) for step in steps)
    return [step.block for step in steps if isinstance(step, BlockAdded)]


async def test_history_comes_by_its_events_and_the_newest_blocks_one_by_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fake, holding = long_chain(1_500)
    node = FinalNode(fake)
    node.range_max = 400
    async with (
        open_evm_chain(["http://one"], AT, jitter=lambda: 0.5, transport=FakeInternet(one=node)) as chain,
        following(chain, Followed(0)) as (follower, steps),
    ):
        await follower.wait_reached(1_499)
        blocks = added(steps)
        numbers = [block.header.number for block in blocks]
        assert [block.header.number for block in blocks if block.events] == holding, "no event is missed or told twice"
        assert numbers == sorted(set(numbers))
        assert numbers[-HEADERS_KEPT // 2 :] == list(range(1_500 - HEADERS_KEPT // 2, 1_500))
        assert len(numbers) < 400, "blocks without events are not asked for, but the newest"
        asked = sum(method == "eth_getBlockByNumber" for method, _ in node.asked)
        assert asked < 500
        fake.fork(3, 5)  # and a reorganisation of the newest is followed as ever
        await follower.wait_reached(1_501)
        assert follower.followed.position is not None and follower.statistics().removed == 3


async def test_two_nodes_tell_what_one_has_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    fake, holding = long_chain(1_000)
    forgetful, whole = FinalNode(fake), FinalNode(fake)
    forgetful.hides = True
    net = FakeInternet(forgetful=forgetful, whole=whole)
    urls = ["http://forgetful", "http://whole"]
    async with (
        open_evm_chain(urls, AT, jitter=lambda: 0.5, transport=net) as chain,
        following(chain, Followed(0)) as (follower, steps),
    ):
        await follower.wait_reached(999)
        blocks = added(steps)
        assert [block.header.number for block in blocks if block.events] == holding


async def test_following_goes_on_after_a_restart_in_the_middle_of_a_history(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    fake, holding = long_chain(1_000)
    node = FinalNode(fake)
    store = open_store(tmp_path, [SCHEMA], owner="test")
    try:
        async with open_evm_chain(["http://one"], AT, jitter=lambda: 0.5, transport=FakeInternet(one=node)) as chain:
            seen: list[int] = []
            for _ in range(6):
                followed = read_followed(store, AT.chain_id, 0)
                stop = trio.Event()
                count = 0

                async def on_step(step: Step, stop: trio.Event = stop) -> None:
                    nonlocal count
                    assert isinstance(step, BlockAdded)
                    count += 1
                    if count > 60:
                        stop.set()
                        await trio.sleep_forever()
                    store.commit([step_moment(AT.chain_id, step)])
                    if step.block.events:
                        seen.append(step.block.header.number)

                follower = Follower(with_checks(chain), followed, one_by_one(on_step), jitter=lambda: 0.5)
                with trio.move_on_after(60):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(follower.run)
                        await stop.wait()
                        nursery.cancel_scope.cancel()
        assert seen == holding
        again = read_followed(store, AT.chain_id, 0)
        assert again.position is not None and again.position.number == 999
        assert again.root is not None
    finally:
        store.close()


async def test_a_history_that_is_not_in_order_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    fake, _ = long_chain(300)
    node = FinalNode(fake)
    async with open_evm_chain(["http://one"], AT, jitter=lambda: 0.5, transport=FakeInternet(one=node)) as chain:
        history = await chain.history(0)
        assert history is not None and len(history.blocks) > 2
        for wrong in (history.blocks[::-1], history.blocks[:1] * 2):

            async def lie(first: int, wrong: tuple[Block, ...] = wrong) -> object:
                return msgspec.structs.replace(history, blocks=wrong)

            chain.history = lie  # type: ignore[method-assign, assignment]
            with pytest.raises(ChainError, match="not in order"):
                await with_checks(chain).history(0)


async def test_logs_of_other_blocks_than_were_asked_for_move_nobody_past_what_was_not_told(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks_module, "LOGS_MANY", 3)
    fake, holding = long_chain(600)
    node = FinalNode(fake)
    honest = node.eth_getLogs

    def lie(which: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**log, "blockNumber": quantity(int(log["blockNumber"], 16) + 10_000)} for log in honest(which)]

    async with open_evm_chain(["http://one"], AT, jitter=lambda: 0.5, transport=FakeInternet(one=node)) as chain:
        node.answers["eth_getLogs"] = lie
        with pytest.raises(ChainError, match="of other blocks"):
            await chain.history(0)
        node.answers.clear()
        first, found = 0, list[int]()
        while (piece := await chain.history(first)) is not None:
            assert len(piece.blocks) <= 3
            found += [block.header.number for block in piece.blocks]
            first = piece.last.number + 1
        assert found == [number for number in holding if number < 600 - FINAL]


@pytest.mark.parametrize("length", (30_000, pytest.param(1_000_000, marks=pytest.mark.soak)))
async def test_a_vast_history_is_followed_in_some_seconds(length: int, autojump_clock: trio.testing.MockClock) -> None:
    vast = SyntheticChain(HistoryOptions(blocks=length, channels=length // 100))
    host, at = SyntheticHost(vast), synthetic_chain.AT
    async with (
        open_evm_chain(["http://one"], at, jitter=lambda: 0.5, transport=FakeInternet(one=host)) as chain,
        following(chain, Followed(FIRST)) as (follower, steps),
    ):
        await follower.wait_reached(vast.head)
        told = sum(len(block.events) for block in added(steps))
        happened = (what for each in vast.channels.values() for _, what in each.happenings)
        assert told == sum(not isinstance(what, LocksHeld) for what in happened)
        assert host.node.requests < length // 1_000 + 100
