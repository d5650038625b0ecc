"""The follower's shell: position stored on every block, restarts, outages, handlers that raise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from simulation.following import one_by_one
from tallystick.channels.errors import TallystickError
from tallystick.channels.storage.sqlite.store import SqliteStore, open_store
from tallystick.settlement.chain import Block, Header
from tallystick.settlement.errors import ChainUnavailable
from tallystick.settlement.following.follower import BlockAdded, BlockRemoved, Follower, Step
from tallystick.settlement.sending.moments import read_followed, step_moment
from tallystick.settlement.sending.sqlite import SCHEMA

CHAIN_ID = 31_337


class Branch:
    """A chain of empty blocks that can grow, fork and fall silent: the part of `Chain` that a follower uses."""

    chain_id = CHAIN_ID

    def __init__(self) -> None:
        self.line = [Block(Header(0, bytes(32), bytes(32), 0), ())]
        self.silent = False
        self.asked = 0
        self.changed = trio.Event()

    def grow(self, count: int, *, salt: int = 0, drop: int = 0) -> None:
        """Drop the last blocks and add others."""
        del self.line[len(self.line) - drop :]
        for _ in range(count):
            parent = self.line[-1].header
            header = Header(parent.number + 1, bytes([salt]) * 28 + len(self.line).to_bytes(4, "big"), parent.hash, 0)
            self.line.append(Block(header, ()))
        self.changed.set()
        self.changed = trio.Event()

    async def history(self, first: int) -> None:
        await trio.lowlevel.checkpoint()

    async def _answer(self) -> None:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.silent:
            raise ChainUnavailable("no answer")

    async def head(self) -> Header:
        await self._answer()
        return self.line[-1].header

    async def blocks(self, first: int, limit: int) -> tuple[Block, ...]:
        await self._answer()
        return tuple(self.line[first : first + limit])

    async def wait(self, known: bytes) -> None:
        await self._answer()
        while self.line[-1].header.hash == known:
            await self.changed.wait()


class Consumer:
    """Stores each step's position, and remembers which blocks stand."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.standing: list[int] = []
        self.steps: list[Step] = []
        self.fail_at: int | None = None

    async def __call__(self, step: Step) -> None:
        await trio.lowlevel.checkpoint()
        if isinstance(step, BlockAdded) and step.block.header.number == self.fail_at:
            raise TallystickError("the handler failed")
        self.store.commit([step_moment(CHAIN_ID, step)])
        self.steps.append(step)


def make(store: SqliteStore, chain: Branch) -> tuple[Follower, Consumer]:
    consumer = Consumer(store)
    follower = Follower(chain, read_followed(store, CHAIN_ID, 0), one_by_one(consumer), jitter=lambda: 0.5)  # type: ignore[arg-type]  # Branch has what a follower uses of a Chain
    return follower, consumer


async def during(follower: Follower, then: Callable[[], object], number: int) -> None:
    """Run the follower; call `then`; wait until the block of that number was followed."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        then()
        await follower.wait_reached(number)
        nursery.cancel_scope.cancel()


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return open_store(tmp_path, [SCHEMA], owner="a test", durable=False)


async def test_the_position_is_stored_on_every_block_also_on_empty_ones(store: SqliteStore) -> None:
    chain = Branch()
    chain.grow(300)
    follower, consumer = make(store, chain)
    await during(follower, lambda: None, 300)
    assert store.commits == 301
    stored = read_followed(store, CHAIN_ID, 0)
    assert stored.headers == follower.followed.headers
    assert stored.next == 301
    assert len(stored.headers) == 128
    assert [step.block.header.number for step in consumer.steps if isinstance(step, BlockAdded)] == list(range(301))
    store.close()


async def test_downtime_without_any_match_before_it_is_caught_up(store: SqliteStore) -> None:
    chain = Branch()
    chain.grow(5)
    follower, _ = make(store, chain)
    await during(follower, lambda: None, 5)
    chain.grow(7)
    follower, consumer = make(store, chain)
    await during(follower, lambda: None, 12)
    assert [step.block.header.number for step in consumer.steps if isinstance(step, BlockAdded)] == list(range(6, 13))
    store.close()


class Restless(Branch):
    """A chain that has two new blocks whenever it is asked for some: they come faster than its answers."""

    async def blocks(self, first: int, limit: int) -> tuple[Block, ...]:
        self.grow(2)
        return await super().blocks(first, limit)


async def test_who_is_never_at_the_newest_block_of_a_fast_chain_is_current_all_the_same(store: SqliteStore) -> None:
    chain = Restless()
    follower, _ = make(store, chain)
    told: list[int] = []
    follower.on_current = lambda: told.append(follower.followed.next)
    await during(follower, lambda: None, 40)
    assert follower.is_current and len(told) > 10
    store.close()


async def test_a_fork_during_downtime_is_walked_back_from_the_stored_headers(store: SqliteStore) -> None:
    chain = Branch()
    chain.grow(20)
    follower, _ = make(store, chain)
    await during(follower, lambda: None, 20)
    chain.grow(8, salt=1, drop=7)
    follower, consumer = make(store, chain)
    await during(follower, lambda: None, 21)
    removed = [step.header.number for step in consumer.steps if isinstance(step, BlockRemoved)]
    assert removed == list(range(20, 13, -1))
    assert follower.statistics().removed == 7
    assert read_followed(store, CHAIN_ID, 0).headers == tuple(block.header for block in chain.line)
    store.close()


async def test_a_fork_to_a_lower_head_is_seen_at_once(store: SqliteStore) -> None:
    chain = Branch()
    chain.grow(20)
    follower, consumer = make(store, chain)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        await follower.wait_reached(20)
        chain.grow(2, salt=1, drop=7)
        while follower.followed.position != chain.line[-1].header:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert sum(isinstance(step, BlockRemoved) for step in consumer.steps) == 7
    store.close()


async def test_a_handler_that_raises_loses_no_block(store: SqliteStore) -> None:
    chain = Branch()
    chain.grow(9)
    follower, consumer = make(store, chain)
    consumer.fail_at = 6
    with pytest.raises(TallystickError, match="the handler failed"):
        await follower.run()
    assert follower.followed.next == read_followed(store, CHAIN_ID, 0).next == 6
    follower, consumer = make(store, chain)
    await during(follower, lambda: None, 9)
    assert isinstance(consumer.steps[0], BlockAdded)
    assert consumer.steps[0].block.header.number == 6
    store.close()


async def test_an_unavailable_chain_is_waited_for_with_growing_pauses(
    store: SqliteStore, autojump_clock: trio.testing.MockClock
) -> None:
    chain = Branch()
    chain.grow(3)
    chain.silent = True
    follower, _ = make(store, chain)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        await trio.sleep(100)
        assert follower.statistics().silent >= 100
        assert 5 <= chain.asked <= 25
        assert chain.asked == follower.statistics().faults
        chain.silent = False
        await follower.wait_reached(3)
        assert follower.statistics().lag == 0
        assert follower.statistics().silent < 1
        nursery.cancel_scope.cancel()
    store.close()


async def test_an_answer_from_another_height_is_refused_and_asked_for_again(
    store: SqliteStore, autojump_clock: trio.testing.MockClock
) -> None:
    chain = Branch()
    chain.grow(9)
    whole, chain.line = chain.line, chain.line[3:]
    follower, _ = make(store, chain)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        await trio.sleep(60)
        assert "asked for block 0" in follower.statistics().fault and follower.followed.position is None
        chain.line = whole
        await follower.wait_reached(9)
        await trio.sleep(1)
        assert follower.fault is None
        nursery.cancel_scope.cancel()
    store.close()
