"""Following a chain block by block, through reorganisations, restarts and outages.

Rules:
- The position moves on every block, also on those that bring nothing: it is durable with the block's effects, in
  one commit by the consumer, before the next block is looked at. So downtime is always caught up, from there on.
- Blocks come in order. When the branch changes, the blocks that left it are removed newest first, down to the common
  ancestor; then the new branch's blocks are added.
- The best branch is judged by its blocks only: an answer that ends below the position removes nothing (the chain
  node may just lag), a different block at a known height does.
- A consumer that raises stops the follower; nothing is skipped. The next run hands out the same step again.

`advance` is the pure core, `Follower` the trio shell. `tallystick.settlement.moments` stores the position.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import msgspec
import trio

from tallystick.settlement.chain import Block, Chain, Header
from tallystick.settlement.errors import ChainError, ChainUnavailable

HEADERS_KEPT = 128
"""Headers remembered: the deepest reorganisation that can be followed, in blocks."""

BATCH = 128
"""Blocks asked for at once while catching up."""

BACKOFF_FIRST = 0.5
"""Seconds until the first new attempt after the chain node did not answer; doubles up to BACKOFF_MAX."""

BACKOFF_MAX = 30.0
"""Seconds between attempts at most."""


class BlockAdded(msgspec.Struct, frozen=True):
    """The next block of the best branch."""

    block: Block


class BlockRemoved(msgspec.Struct, frozen=True):
    """The newest block that was followed is on the best branch no more: undo what it had brought."""

    header: Header


Step: TypeAlias = BlockAdded | BlockRemoved
OnStep: TypeAlias = Callable[[Step], Awaitable[None]]


class Followed(msgspec.Struct, frozen=True):
    """How far a chain was followed: its last headers in order. The last one is the position."""

    start: int
    """Number of the first block to follow; what was before is of no interest."""
    headers: tuple[Header, ...] = ()
    kept: int = HEADERS_KEPT

    @property
    def next(self) -> int:
        """Number of the next block to follow."""
        return self.headers[-1].number + 1 if self.headers else self.start

    @property
    def position(self) -> Header | None:
        """The newest block that was followed."""
        return self.headers[-1] if self.headers else None

    def known(self, header: Header) -> bool:
        """Whether this very block is among the remembered ones."""
        if not self.headers:
            return False
        index = header.number - self.headers[0].number
        return 0 <= index < len(self.headers) and self.headers[index].hash == header.hash


def apply(state: Followed, step: Step) -> Followed:
    """Return the state after one step."""
    match step:
        case BlockRemoved():
            return msgspec.structs.replace(state, headers=state.headers[:-1])
        case BlockAdded(block):
            return msgspec.structs.replace(state, headers=(*state.headers, block.header)[-state.kept :])


def advance(state: Followed, blocks: Sequence[Block]) -> tuple[Followed, tuple[Step, ...]] | None:
    """Return the state and the steps that lead onto the branch of `blocks`, which start at or below the position.

    Return None if none of the blocks is known, so that the common ancestor lies further back. Raise ChainError if
    it lies below everything that is remembered, or if the blocks do not form a chain.
    """
    _check_chain(blocks)
    if not blocks:
        return state, ()
    ancestor = max((i for i, block in enumerate(blocks) if state.known(block.header)), default=-1)
    if ancestor >= 0:
        kept_up_to = blocks[ancestor].header.number
    elif not state.headers or _covers_all(state, blocks[0].header.number):
        kept_up_to = state.start - 1
    elif blocks[0].header.number > state.headers[0].number:
        return None
    else:
        raise ChainError(
            f"the chain was reorganised below block {state.headers[0].number}, deeper than the {len(state.headers)} "
            "blocks that are remembered; stop using this chain node, find out which branch is right, and if it is the "
            "new one, follow the chain again from its start with an empty position"
        )
    fresh = [block for block in blocks[ancestor + 1 :] if block.header.number > kept_up_to]
    if not fresh:
        return state, ()
    steps: list[Step] = [BlockRemoved(header) for header in reversed(state.headers) if header.number > kept_up_to]
    steps += [BlockAdded(block) for block in fresh]
    for step in steps:
        state = apply(state, step)
    return state, tuple(steps)


def _covers_all(state: Followed, first: int) -> bool:
    """Whether nothing was ever followed below what is remembered, and the blocks start where following started."""
    return state.headers[0].number == state.start and first <= state.start


def _check_chain(blocks: Sequence[Block]) -> None:
    for before, after in itertools.pairwise(blocks):
        if after.header.parent != before.header.hash or after.header.number != before.header.number + 1:
            raise ChainError(
                f"the chain node's answer is no chain: block {after.header.number} does not follow block "
                f"{before.header.number}; use another chain node"
            )


class FollowerStatistics(msgspec.Struct, frozen=True):
    """How the following goes."""

    position: int
    """Number of the newest block that was followed, -1 if none."""
    lag: int
    """Blocks between the position and the head, as last seen."""
    silent: float
    """Seconds since the chain node last answered."""
    removed: int
    """Blocks removed by reorganisations."""
    faults: int
    """Times that the chain node did not answer."""


class Follower:
    """Hands every step of a chain to one consumer, in order, each exactly once between two restarts.

    The consumer stores the step's effects and `moments.step_moment` in one commit before it returns. `jitter` returns
    a number in [0, 1), to spread the attempts of many followers after an outage.
    """

    def __init__(self, chain: Chain, followed: Followed, on_step: OnStep, *, jitter: Callable[[], float]) -> None:
        self._chain = chain
        self._on_step = on_step
        self._jitter = jitter
        self._head = followed.next - 1
        self._heard: float | None = None
        self._head_time = 0
        self._lost: float | None = None
        """Since when the chain node has not answered."""
        self._removed = 0
        self._faults = 0
        self._moved = trio.Event()
        self.followed = followed

    async def run(self) -> None:
        """Follow until cancelled. Raise ChainError when the chain cannot be followed, and what the consumer raises."""
        self._heard = trio.current_time()
        backoff = BACKOFF_FIRST
        while True:
            try:
                head = await self._chain.head()
                self._hear(head)
                backoff = BACKOFF_FIRST
                if not await self._catch_up(head):
                    await self._chain.wait(head.hash)
            except ChainUnavailable:
                self._faults += 1
                self._lost = trio.current_time() if self._lost is None else self._lost
                await trio.sleep(backoff * (1 + self._jitter()) / 2)
                backoff = min(2 * backoff, BACKOFF_MAX)

    async def reached(self, number: int) -> None:
        """Wait until the block of that number was followed."""
        while self.followed.next <= number:
            await self._moved.wait()

    async def _catch_up(self, head: Header) -> bool:
        """Follow the next blocks; return whether there were any."""
        overlap = min(max(1, self.followed.next - head.number), max(1, len(self.followed.headers)))
        while True:
            first = max(self.followed.start, self.followed.next - overlap)
            blocks = await self._chain.blocks(first, overlap + BATCH)
            if blocks and blocks[0].header.number != first:
                raise ChainError(
                    f"the chain node was asked for block {first} and sent {blocks[0].header.number}; use another one"
                )
            answer = advance(self.followed, blocks)
            if answer is not None:
                break
            overlap = min(2 * overlap, len(self.followed.headers))
        for step in answer[1]:
            await self._on_step(step)
            self._take(step)
        return bool(answer[1])

    def _take(self, step: Step) -> None:
        self.followed = apply(self.followed, step)
        self._removed += isinstance(step, BlockRemoved)
        self._head = max(self._head, self.followed.next - 1)
        self._moved.set()
        self._moved = trio.Event()

    def _hear(self, head: Header) -> None:
        self._head, self._head_time = head.number, head.time
        self._heard, self._lost = trio.current_time(), None

    def is_behind(self, seconds: float) -> bool:
        """Whether known blocks of more than that much chain time are yet to follow, or the chain node is long silent.

        True as well while nothing was followed.
        """
        position = self.followed.position
        silent = self._lost is not None and trio.current_time() - self._lost > seconds
        return silent or position is None or self._head_time - position.time > seconds

    def statistics(self) -> FollowerStatistics:
        """Return the figures of this moment. Must be called within trio."""
        return FollowerStatistics(
            position=self.followed.next - 1,
            lag=max(0, self._head - self.followed.next + 1),
            silent=0.0 if self._heard is None else trio.current_time() - self._heard,
            removed=self._removed,
            faults=self._faults,
        )

    def __repr__(self) -> str:
        return f"<Follower at block {self.followed.next - 1} of {self._head}>"
