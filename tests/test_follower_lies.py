"""What a single answer of the chain node said wrongly is taken back with the next one; nothing ends the following."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec
import pytest
import trio

from simulation.following import one_by_one
from tallystick.channels.testing.clock import virtual_clock
from tallystick.settlement.chain import Block, Deposited, Header
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.following.checked import CheckedChain
from tallystick.settlement.following.follower import BlockAdded, Followed, Follower, Step
from tallystick.settlement.testing.local import LocalChain

EVENT = Deposited(bytes(32), 0, 5)  # type: ignore[arg-type]  # any id
Twist: TypeAlias = Callable[[Sequence[Block]], Sequence[Block]]


class Twisted(LocalChain):
    """A chain whose next answer of blocks can be twisted, once; every block holds an event."""

    def __init__(self) -> None:
        super().__init__()
        self.twist: Twist | None = None
        self.told = 0
        self.frozen: Header | None = None

    async def head(self) -> Header:
        return self.frozen or await super().head()

    async def blocks(self, first: int, limit: int) -> tuple[Block, ...]:
        found = [Block(block.header, (EVENT,)) for block in await super().blocks(first, limit)]
        if self.frozen is not None:
            found = [block for block in found if block.header.number <= self.frozen.number]
        if self.twist is None or not found or found[-1].header != self.newest.header:
            return tuple(found)
        twist, self.twist = self.twist, None
        self.told += 1
        return tuple(twist(found))

    async def wait(self, known: bytes) -> None:
        if self.frozen is None:
            await super().wait(known)


class Watcher:
    """Keeps what stands of the blocks that were handed out."""

    def __init__(self) -> None:
        self.standing: dict[int, Block] = {}

    async def __call__(self, step: Step) -> None:
        await trio.lowlevel.checkpoint()
        if isinstance(step, BlockAdded):
            self.standing[step.block.header.number] = step.block
        else:
            assert self.standing.pop(step.header.number).header == step.header


def last(blocks: Sequence[Block], **header: int) -> list[Block]:
    changed = msgspec.structs.replace(blocks[-1].header, **header)
    return [*blocks[:-1], Block(changed, blocks[-1].events)]


@pytest.mark.parametrize(
    "twist",
    [
        pytest.param(lambda blocks: last(blocks, time=blocks[-1].header.time + 2 * 86_400), id="future"),
        pytest.param(lambda blocks: last(blocks, time=2**63), id="absurd time"),
        pytest.param(lambda blocks: last(blocks, number=2**63), id="absurd number"),
        pytest.param(lambda blocks: last(blocks, time=0), id="past"),
        pytest.param(lambda blocks: [*blocks[:-1], Block(blocks[-1].header, ())], id="omitted events"),
        pytest.param(lambda blocks: [Block(block.header, ()) for block in blocks], id="omitted all events"),
        pytest.param(lambda blocks: blocks[:-1], id="truncated"),
        pytest.param(lambda blocks: [*blocks[:1], *blocks[2:]], id="a block lacks"),
        pytest.param(lambda blocks: list(reversed(blocks)), id="reversed"),
        pytest.param(lambda blocks: [], id="empty"),
        pytest.param(lambda blocks: [*blocks, *blocks], id="twice"),
        pytest.param(lambda blocks: blocks[1:], id="from another height"),
    ],
)
async def test_a_lie_about_blocks_is_gone_with_the_next_answer(
    twist: Twist, autojump_clock: trio.testing.MockClock
) -> None:
    chain, watcher = Twisted(), Watcher()
    chain.mine(3)
    checked = CheckedChain(chain)
    follower = Follower(checked, Followed(0), one_by_one(watcher), jitter=lambda: 0.5, clock=virtual_clock())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        nursery.start_soon(chain.run)
        await trio.sleep(10)
        chain.twist = twist
        await trio.sleep(20)
        assert chain.told == 1
        for number in range(chain.newest.header.number):
            record = chain.record(number)
            assert record is not None and watcher.standing[number] == Block(record.header, (EVENT,))
        assert not follower.is_behind(30)
        nursery.cancel_scope.cancel()


async def test_an_answer_that_only_lacks_events_takes_nothing_back(autojump_clock: trio.testing.MockClock) -> None:
    chain, watcher = Twisted(), Watcher()
    chain.mine(3)
    follower = Follower(CheckedChain(chain), Followed(0), one_by_one(watcher), jitter=lambda: 0.5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        await follower.wait_reached(3)
        chain.twist = lambda blocks: [*(Block(block.header, ()) for block in blocks[:-1]), blocks[-1]]
        chain.mine()
        await follower.wait_reached(4)
        assert chain.told == 1 and follower.statistics().removed == 0
        assert all(block.events == (EVENT,) for block in watcher.standing.values())
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("rechecked", "found"), [(3, False), (6, True)])
async def test_events_that_were_left_out_show_up_as_long_as_a_block_is_asked_for_again(
    rechecked: int, found: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """A node that waits for six confirmations asks for six blocks again: what counts is looked at until then."""
    chain, watcher = Twisted(), Watcher()
    follower = Follower(CheckedChain(chain), Followed(0, rechecked=rechecked), one_by_one(watcher), jitter=lambda: 0.5)

    def without(number: int) -> Twist:
        return lambda blocks: [b if b.header.number != number else Block(b.header, ()) for b in blocks]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        await follower.wait_reached(0)
        for height in range(1, 6):  # block 1 is without its event in every answer, until it is five deep
            chain.twist = without(1)
            chain.mine()
            await follower.wait_reached(height)
        assert chain.told == 5 and watcher.standing[1].events == ()
        chain.mine()
        await follower.wait_reached(6)
        await trio.testing.wait_all_tasks_blocked()
        assert (watcher.standing[1].events == (EVENT,)) is found
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("error", [ChainError("the chain node answers with HTTP status 403"), ChainUnavailable("gone")])
@pytest.mark.parametrize("method", ["head", "blocks", "wait"])
async def test_no_number_of_errors_ends_the_following(
    method: str, error: Exception, autojump_clock: trio.testing.MockClock
) -> None:
    chain, watcher = Twisted(), Watcher()
    honest = getattr(chain, method)

    async def refuse(*arguments: object) -> object:
        raise error

    follower = Follower(
        CheckedChain(chain), Followed(0), one_by_one(watcher), jitter=lambda: 0.5, clock=virtual_clock()
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chain.run)
        nursery.start_soon(follower.run)
        await trio.sleep(30)
        setattr(chain, method, refuse)
        await trio.sleep(900)
        assert follower.is_behind(30) is (method != "wait"), "a wait that fails is no reason not to follow"
        setattr(chain, method, honest)
        await trio.sleep(15)
        assert not follower.is_behind(30)
        nursery.cancel_scope.cancel()


async def test_a_head_that_stands_still_or_is_below_our_position_is_old(
    autojump_clock: trio.testing.MockClock,
) -> None:
    chain, watcher = Twisted(), Watcher()
    follower = Follower(
        CheckedChain(chain), Followed(0), one_by_one(watcher), jitter=lambda: 0.5, clock=virtual_clock()
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chain.run)
        nursery.start_soon(follower.run)
        await trio.sleep(300)
        assert not follower.is_behind(5)
        for record in (chain.newest, chain.record(chain.newest.header.number - 224)):
            assert record is not None
            chain.frozen = record.header
            await trio.sleep(29)
            assert not follower.is_behind(31)
            await trio.sleep(600)
            assert follower.is_behind(600)
            assert follower.statistics().fault == "" and follower.silent < 30, "it answers all the time"
            chain.frozen = None
            await trio.sleep(5)
            assert not follower.is_behind(5)
        nursery.cancel_scope.cancel()


async def test_after_sleep_a_view_is_old_until_a_newer_block_was_asked_for_and_heard(
    autojump_clock: trio.testing.MockClock,
) -> None:
    chain, slept = Twisted(), 0.0
    follower = Follower(
        CheckedChain(chain),
        Followed(0),
        one_by_one(Watcher()),
        jitter=lambda: 0.5,
        elapsed=lambda: trio.current_time() + slept,
        clock=virtual_clock(),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chain.run)
        nursery.start_soon(follower.run)
        await trio.sleep(60)
        assert not follower.is_behind(30)
        slept = 300.0  # the machine slept: nothing of ours ran, and the chain went on
        assert follower.is_behind(299)
        chain.advance(300)
        await trio.sleep(10)
        assert not follower.is_behind(30)
        nursery.cancel_scope.cancel()


async def test_an_answer_that_waited_while_the_machine_slept_is_as_old_as_its_question(
    autojump_clock: trio.testing.MockClock,
) -> None:
    chain, slept, sleepy = Twisted(), 0.0, False
    honest = chain.head

    async def head() -> Header:
        nonlocal slept, sleepy
        found = await honest()
        if sleepy:  # the answer is there already, and is read after the sleep
            slept, sleepy = 300.0, False
        return found

    chain.head = head  # type: ignore[method-assign]
    follower = Follower(
        CheckedChain(chain),
        Followed(0),
        one_by_one(Watcher()),
        jitter=lambda: 0.5,
        elapsed=lambda: trio.current_time() + slept,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        chain.mine(3)
        await follower.wait_reached(3)
        assert not follower.is_behind(30)
        sleepy = True
        chain.mine()
        await follower.wait_reached(4)
        assert slept and follower.is_behind(299)
        chain.mine()
        await follower.wait_reached(5)
        assert not follower.is_behind(30)
        nursery.cancel_scope.cancel()
