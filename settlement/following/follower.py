"""Following a chain block by block, through reorganisations, restarts and outages.

Rules:
- The position moves on every block, also on those that bring nothing: it is durable with the block's effects, in
  one commit by the consumer, before a further block is asked for. So downtime is always caught up, from there on.
- Who is behind takes in as many blocks in one commit as it can within HOLD_SECONDS, in order, as if one by one.
- Blocks come in order; of a history that no reorganisation reaches, only those with events, and the last one, where the
  chain tells it so. When the branch changes, the blocks that left it are removed newest first, down to the common
  ancestor; then the new branch's blocks are added.
- The best branch is judged by its blocks only: an answer that ends below the position removes nothing (the chain
  node may just lag), a different block at a known height does.
- A consumer that raises stops the follower; nothing is skipped. The next run hands out the same step again.
- No answer of the chain node stops it: what cannot be right is counted, and asked about again.
- The newest blocks are asked for again with every new one, and compared: what a single answer said wrongly is taken
  back as a reorganisation is. Chain nodes forget events rather than make them up, so an answer that only lacks some of
  those that are known changes nothing.

`advance` is the pure core, `Follower` the trio shell. `tallystick.settlement.sending.moments` stores the position.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TypeAlias

import msgspec
import trio

from tallystick.channels.ports import Clock, Elapsed
from tallystick.channels.transport.retries import Jitter, Pauses, Retry
from tallystick.settlement.chain import Block, Header
from tallystick.settlement.errors import ChainError, ChainUnavailable, WrongChain
from tallystick.settlement.following import freshness
from tallystick.settlement.following.vigil import FollowerStatistics, Sight
from tallystick.settlement.port import Chain, ChainFigures

HEADERS_KEPT = 128
"""Headers remembered, at least: the deepest reorganisation that can be followed, in blocks."""

BATCH = 128
"""Blocks asked for at once while catching up."""

FOLLOW_AGAIN = Pauses("following the chain", 0.5, 8.0)
"""At most less than what makes a view old."""

POLL = Pauses("asking for a new head", 2.0, 2.0)
"""Where the chain node does not wait for one."""

CERTAIN = 3
"""Times on end that a chain node must show another chain, until it is believed."""

CATCH_UP_SECONDS = 20.0
"""For so long what is there already is about to be followed; after that, what is known has to do."""

RECHECKED = 3
"""Blocks that are asked for again with every new one, at least: no fewer than it takes to confirm one."""


HOLD_SECONDS = 0.02
"""How long blocks are taken in at once, while nobody else has a turn."""


def headers_kept(figures: ChainFigures, confirmations: int = 0) -> int:
    """Return how many headers are remembered of a chain: all that a reorganisation may reach, or that are confirmed."""
    return max(HEADERS_KEPT, figures.final_blocks, confirmations)


class BlockAdded(msgspec.Struct, frozen=True):
    """The next block of the best branch."""

    block: Block


class BlockRemoved(msgspec.Struct, frozen=True):
    """The newest block that was followed is on the best branch no more: undo what it had brought."""

    header: Header


Step: TypeAlias = BlockAdded | BlockRemoved
OnSteps: TypeAlias = Callable[[Sequence[Step]], Awaitable[int]]
"""Takes in the first of these steps, one at least; returns how many are durable now."""


def for_a_while(steps: Sequence[Step]) -> Iterator[Step]:
    """Yield the first of these steps, until HOLD_SECONDS have passed."""
    began = trio.current_time()
    for step in steps:
        yield step
        if trio.current_time() - began > HOLD_SECONDS:
            break


class Followed(msgspec.Struct, frozen=True):
    """How far a chain was followed: its last headers in order. The last one is the position."""

    start: int
    """Number of the first block to follow; what was before is of no interest."""
    headers: tuple[Header, ...] = ()
    kept: int = HEADERS_KEPT
    newest: tuple[Block, ...] = ()
    """The last `rechecked` blocks with their events, as far as they were followed since the start."""
    root: Header | None = None
    """A block too deep to leave the chain: where it is another one, the chain is."""
    rechecked: int = RECHECKED
    """Blocks that are asked for again with every new one."""

    @property
    def next(self) -> int:
        """Number of the next block to follow."""
        return self.headers[-1].number + 1 if self.headers else self.start

    @property
    def position(self) -> Header | None:
        """The newest block that was followed."""
        return self.headers[-1] if self.headers else None

    def remembers(self, header: Header) -> bool:
        """Whether this very header is among the last ones."""
        index = header.number - self.headers[0].number if self.headers else -1
        return 0 <= index < len(self.headers) and self.headers[index] == header

    def is_known(self, block: Block) -> bool:
        """Whether this very block is among the remembered ones, with all that it says."""
        return self.remembers(block.header) and all(
            set(map(repr, block.events)) <= set(map(repr, before.events))
            for before in self.newest
            if before.header == block.header and before.events != block.events
        )


def apply(state: Followed, step: Step) -> Followed:
    """Return the state after one step."""
    match step:
        case BlockRemoved():
            newest = tuple(block for block in state.newest if block.header.number < state.headers[-1].number)
            return msgspec.structs.replace(state, headers=state.headers[:-1], newest=newest)
        case BlockAdded(block) if block.header.number != state.next:  # of a history, which stays
            return msgspec.structs.replace(
                state, headers=(block.header,), newest=(block,), root=state.root or block.header
            )
        case BlockAdded(block):
            headers, newest = (*state.headers, block.header)[-state.kept :], (*state.newest, block)[-state.rechecked :]
            root = state.root or (headers[0] if headers[0].number == 0 or len(headers) == state.kept else None)
            return msgspec.structs.replace(state, headers=headers, newest=newest, root=root)


def advance(state: Followed, blocks: Sequence[Block]) -> tuple[Followed, tuple[Step, ...]] | None:
    """Return the state and the steps that lead onto the branch of `blocks`, which start at or below the position.

    Return None if none of the blocks is known, so that the common ancestor lies further back. Raise WrongChain if it
    lies below everything that is remembered, or if the chain was begun anew; ChainError if the blocks form no chain.
    """
    _check_chain(blocks)
    if not blocks:
        return state, ()
    ancestor = _last_known(state, blocks)
    if ancestor >= 0:
        kept_up_to = blocks[ancestor].header.number
    elif not state.headers or blocks[0].header.number <= state.start == state.headers[0].number:
        # nothing was ever followed below what is remembered, and the blocks start where following started
        kept_up_to = state.start - 1
    elif blocks[0].header.number > state.headers[0].number:
        return None
    else:
        raise WrongChain(
            f"the chain was reorganised below block {state.headers[0].number}, deeper than the {len(state.headers)} "
            "blocks that are remembered; stop using this chain node, find out which branch is right, and if it is the "
            "new one, follow the chain again from its start with an empty position"
        )
    if state.root is not None and kept_up_to < state.root.number:
        raise begun_anew(state.root)
    fresh = [block for block in blocks[ancestor + 1 :] if block.header.number > kept_up_to]
    if not fresh:
        return state, ()
    steps: list[Step] = [BlockRemoved(header) for header in reversed(state.headers) if header.number > kept_up_to]
    steps += [BlockAdded(block) for block in fresh]
    for step in steps:
        state = apply(state, step)
    return state, tuple(steps)


def _last_known(state: Followed, blocks: Sequence[Block]) -> int:
    """Return the last of the blocks up to which all are known, -1 if none is. Those before the memory do not count.

    A block that says more than it did is not known: it is followed anew, and with it what comes after.
    """
    found = -1
    for index, block in enumerate(blocks):
        if state.is_known(block):
            found = index
        elif found >= 0 or state.remembers(block.header):
            break
    return found


def begun_anew(root: Header) -> WrongChain:
    """Return the error for a chain whose block `root` is another one than it was."""
    return WrongChain(
        f"block {root.number} of the chain is another one than it was: the chain was begun anew, or the chain node "
        "serves another one with the same number. What was in channels there is not on this one. Use the right node; "
        "if the old chain is gone for good, go on in a new data directory (the same keystore may be used)"
    )


def _check_chain(blocks: Sequence[Block]) -> None:
    for before, after in itertools.pairwise(blocks):
        if after.header.parent != before.header.hash or after.header.number != before.header.number + 1:
            raise ChainError(
                f"the chain node's answer is no chain: block {after.header.number} does not follow block "
                f"{before.header.number}; use another chain node"
            )


@dataclass(eq=False, repr=False)
class Follower:
    """Hands every step of a chain to one consumer, in order, each exactly once between two restarts.

    The consumer stores the effects of those that it takes, and each one's `moments.step_moment`, in one commit before
    it returns.
    """

    chain: Chain
    followed: Followed
    on_steps: OnSteps
    _: KW_ONLY
    jitter: Jitter
    """Spreads the attempts of many followers after an outage."""
    elapsed: Elapsed = trio.current_time
    """A clock that cannot be set and counts sleep."""
    clock: Clock | None = None
    """The wall clock, with which the chain is compared (None: with none)."""
    on_current: Callable[[], None] = lambda: None
    """Is called when `is_current` has become true."""

    def __post_init__(self) -> None:
        self._head = self.followed.next - 1
        self._head_time = 0
        self._batch = BATCH
        self._freshness: freshness.Freshness | None = None
        self._answered: float | None = None
        """When (by our clock) the newest answer that was right had been asked for."""
        self._removed = 0
        self._faults = 0
        self.fault: Exception | None = None
        """What went wrong last, None if the last answer was right."""
        self._wrong = 0
        self._behind_since: float | None = None
        """Since when there have been blocks to follow; None: there are none."""
        self._turned = False
        """Whether the chain node gave a right answer since the start."""
        self._moved = trio.Event()
        self.is_current = False
        """Whether the chain, when last asked, showed no block that is not followed. While several are, it is false:
        what seems due by one of them may be done in the next."""

    async def run(self) -> None:
        """Follow until cancelled. Raise what the consumer raises, but for its troubles with the chain."""
        if self._freshness is None:
            self._freshness, self._answered = freshness.Freshness(self._wall()), self.elapsed()
        retry, hasty, last = Retry(FOLLOW_AGAIN, self.jitter), False, b""
        while True:
            try:
                asked, head = await self._turn()
            except (ChainUnavailable, ChainError) as error:
                self._faults += 1
                self.fault = error
                self._wrong = self._wrong + 1 if isinstance(error, WrongChain) else 0
                self._batch = max(1, self._batch // 2)
                await retry.pause()
                continue
            self.fault, self._answered, self._wrong = None, asked, 0
            if not self._turned:
                self._turned = True
                self._move()
            retry.on_success()
            self._batch = min(2 * self._batch, BATCH)
            if head is not None:
                if hasty and head.hash == last:  # its wait does not wait
                    await trio.sleep(POLL.after(0, self.jitter))
                hasty, last = await self._wait(head), head.hash

    async def wait_reached(self, number: int) -> None:
        """Wait until the block of that number was followed, and the chain node has shown that it knows the position."""
        while not self._turned or self.followed.next <= number:
            await self._moved.wait()

    async def _turn(self) -> tuple[float, Header | None]:
        """Ask for the head, and follow the next blocks; return when that was, and it if nothing is left to follow."""
        assert self._freshness is not None
        asked = self.elapsed()
        head = await self.chain.head()
        self._head, self._head_time = head.number, head.time
        if self._behind_since is None:
            self._behind_since = asked
        if self.followed.headers and head.number < self.followed.headers[0].number:
            await self.check_root()
        if head.number - self.followed.next > self.followed.kept and await self._skip(asked):
            return asked, None
        try:
            moved = await self._catch_up(head, asked)
        except WrongChain:
            await self.check_root()
            raise
        position = self.followed.position
        if not self.is_current and (not moved or (position is not None and position.number >= head.number)):
            self.is_current = True
            self.on_current()
        if position is not None and position.number >= head.number:
            self._behind_since = None
        if position is not None and position.hash == head.hash:
            if not moved:
                self._freshness = freshness.with_head_confirmed(self._freshness, position, asked, self._wall())
            return asked, head
        return asked, None if moved else head

    async def _skip(self, asked: float) -> bool:
        """Follow blocks that stay by their events alone, if the chain tells them so; return whether there were any."""
        history, position = await self.chain.history(self.followed.next), self.followed.position
        if history is None:
            return False
        self.is_current = False
        if position is not None and await self.chain.header(position.number) != position:
            return False  # it may have left the branch: that is seen block by block
        blocks = history.blocks
        if not blocks or blocks[-1].header != history.last:
            blocks = (*blocks, Block(history.last, ()))
        await self._hand_out([BlockAdded(block) for block in blocks], asked)
        return True

    async def check_root(self) -> None:
        """Raise WrongChain, with what to do, if the chain is another one than was followed."""
        root = self.followed.root
        found = None if root is None else await self.chain.header(root.number)
        if root is not None and found is not None and found.hash != root.hash:
            raise begun_anew(root)

    async def _wait(self, head: Header) -> bool:
        """Wait for a new head; return whether that was over so soon that the chain node may not wait at all."""
        began = trio.current_time()
        with contextlib.suppress(ChainUnavailable, ChainError):
            await self.chain.wait(head.hash)
        return trio.current_time() - began < POLL.first

    async def _catch_up(self, head: Header, asked: float) -> bool:
        """Follow the next blocks; return whether there were any."""
        known = max(1, len(self.followed.headers))
        overlap = min(max(self.followed.rechecked, self.followed.next - head.number), known)
        while True:
            first = max(self.followed.start, self.followed.next - overlap)
            blocks = await self.chain.blocks(first, overlap + self._batch)
            if blocks and blocks[0].header.number != first:
                raise ChainError(
                    f"the chain node was asked for block {first} and sent {blocks[0].header.number}; use another one"
                )
            answer = advance(self.followed, blocks)
            if answer is not None:
                break
            overlap = min(2 * overlap, len(self.followed.headers))
        self.is_current = self.is_current and len(answer[1]) <= 1
        await self._hand_out(answer[1], asked)
        return bool(answer[1])

    async def _hand_out(self, steps: Sequence[Step], asked: float) -> None:
        while steps:
            taken = await self.on_steps(steps)
            for step in steps[:taken]:
                self._take(step, asked)
            steps = steps[taken:]

    def _take(self, step: Step, asked: float) -> None:
        assert self._freshness is not None
        self.followed = apply(self.followed, step)
        match step:
            case BlockAdded(block):
                self._freshness = freshness.with_block(self._freshness, block.header, asked, self._wall())
            case BlockRemoved(header):
                self._freshness = freshness.without_block(self._freshness, header)
                self._removed += 1
        self._head = max(self._head, self.followed.next - 1)
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

    def _wall(self) -> float:
        """Return the wall clock's offset to ours."""
        return -math.inf if self.clock is None else self.clock() - self.elapsed()

    # --- how old the view is -------------------------------------------------------------------------------------

    def behind(self) -> float:
        """Return how old our view of the chain is in seconds, infinite while nothing is known of it."""
        position = self.followed.position
        if position is None or self._freshness is None:
            return math.inf
        known = self._head_time - position.time
        return max(known, freshness.behind(self._freshness, position, self.elapsed()))

    def is_behind(self, seconds: float) -> bool:
        """Whether our view of the chain is older than that, or nothing is known of it."""
        return self.behind() > seconds

    def is_catching_up(self, number: int) -> bool:
        """Whether blocks above that number are there, and about to be followed: what seems due may be done in one."""
        since = self._behind_since
        return number < self._head and since is not None and self.elapsed() < since + CATCH_UP_SECONDS

    @property
    def silent(self) -> float:
        """Seconds since the chain node last answered with something that could be right."""
        return 0.0 if self._answered is None else self.elapsed() - self._answered

    @property
    def lost(self) -> Exception | None:
        """Why the chain is another one than was followed, as was said CERTAIN times on end; None if it was not."""
        return self.fault if self._wrong >= CERTAIN else None

    def sight(self, at_stake: float | None) -> Sight:
        """Return how the following goes, for whoever tells a person of it (`vigil`)."""
        lost = self.lost is not None
        return Sight(self.elapsed(), self.behind(), self.silent, self.fault, lost=lost, at_stake=at_stake)

    def statistics(self) -> FollowerStatistics:
        """Return the figures of this moment. Must be called within trio."""
        behind = self.behind()
        return FollowerStatistics(
            position=self.followed.next - 1,
            lag=max(0, self._head - self.followed.next + 1),
            silent=self.silent,
            removed=self._removed,
            faults=self._faults,
            behind=None if math.isinf(behind) else behind,
            fault="" if self.fault is None else str(self.fault),
        )

    def __repr__(self) -> str:
        return f"<Follower at block {self.followed.next - 1} of {self._head}>"
