"""The chain as one node sees it: followed block by block, kept in the index, and judged whether it is up to date.

One block is one commit: its events, what the node makes of them, and the position.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import trio

from tallystick.channels.node.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.node.engine import Engine
from tallystick.channels.node.views import Views
from tallystick.channels.ports import Clock, Elapsed
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.storage.store import Moment
from tallystick.channels.transport.retries import Pauses, Retry
from tallystick.settlement.chain import Header
from tallystick.settlement.enforcement.apps import AppHeld
from tallystick.settlement.enforcement.budgets import DutyPolicy
from tallystick.settlement.enforcement.claims import pending_puzzles, time_left
from tallystick.settlement.enforcement.depths import DepthPolicy, Depths
from tallystick.settlement.enforcement.virtual import VirtualHeld
from tallystick.settlement.errors import ChainError, ChainUnavailable, WrongChain
from tallystick.settlement.following.checked import CheckedChain, Market
from tallystick.settlement.following.follower import (
    CERTAIN,
    RECHECKED,
    BlockAdded,
    BlockRemoved,
    Follower,
    Step,
    for_a_while,
    headers_kept,
)
from tallystick.settlement.following.freshness import BOUND
from tallystick.settlement.following.index import ChainIndex, EventsSeen, puzzles_of
from tallystick.settlement.following.vigil import TICK, again_after, begin_vigil, first_after, kind_of, look, spell
from tallystick.settlement.port import Chain
from tallystick.settlement.sending.moments import read_followed, step_moment

BEHIND_SECONDS = int(BOUND)
"""How old our view of the chain may be to count as up to date."""

PRICE_SECONDS = 60.0
"""How long a node waits at its start for the price of gas: what may be lost depends on it."""

PRICE_AGAIN = Pauses("asking what gas costs", 10.0, 10.0)
"""After it was not told."""

FIRST_ANSWER = Pauses("the chain node's first answer", 0.5, 5.0)

HEAD_SECONDS = 5.0
"""How long the head of one answer is striven for at the start, before the chain node is asked for it again."""

RECENT = 8
"""Blocks below our position among which the parent of a head is looked for, before more is asked."""

MEANS = "this node pays for no secret that the chain does not show, and forwards nothing,"
"""What an old view means."""

TIMES_KEPT = 128
"""Blocks whose times are remembered besides those whose headers are."""


@dataclass(frozen=True, kw_only=True, repr=False)
class EnforcingNode:
    """What a node gives to its side of the chain: who it is, its channels, its disk, its owner's wishes."""

    chain: Chain
    engine: Engine
    policy: DutyPolicy
    confirmations: int
    """Depth at which anything counts."""
    depths: DepthPolicy
    """How deep has to be what moves money."""
    start_block: int
    close_key: Callable[[Channel], bytes]
    """Returns what opens a channel's `close_hash` (`claims.close_keys`)."""
    rng: random.Random
    alarm: OnAlarm
    """Is told what a person should know."""
    clock: Clock
    elapsed: Elapsed
    apps: Callable[[], Iterable[AppHeld]] = tuple
    """Returns what the node holds of each app's instance that is not over. It is asked with every block, and is stored
    before it is told."""
    virtuals: Callable[[], Iterable[VirtualHeld]] = tuple
    """Returns what it holds of each virtual channel that is not over, likewise."""

    @property
    def views(self) -> Views:
        """Its channels."""
        return self.engine.views

    @property
    def time_left(self) -> float | None:
        """Seconds within which something may have to be done on chain; None if nothing is there."""
        return time_left(self.views.channels, self.engine.chain.now)

    @property
    def has_channels(self) -> bool:
        """Whether there is something whose worth must be held against its fee."""
        return any(channel.phase is not Phase.GONE for channel in self.views.channels)


class SameChain(CheckedChain):
    """The chain for whoever sends: it has no head while it is another one than was followed, or seems to be."""

    def __init__(self, chain: Chain, follower: Follower) -> None:
        super().__init__(chain)
        self._follower = follower

    async def head(self) -> Header:
        """The newest block. Raise WrongChain."""
        if isinstance(self._follower.fault, WrongChain):
            raise self._follower.fault
        head = await super().head()
        if not any(known.hash in (head.hash, head.parent) for known in self._follower.followed.headers[-RECENT:]):
            await self._follower.check_root()
        return head


class ChainFollowing:
    """How a node follows its chain. Run `run` in a nursery; `catch_up` returns once the head was reached."""

    def __init__(
        self,
        node: EnforcingNode,
        react: Callable[[Step, Sequence[EventsSeen]], Sequence[Moment]],
        changed: Callable[[], None],
        current: Callable[[], None],
    ) -> None:
        """`react` takes in a block with what of it concerns us, and returns what to store with it.

        `changed` is called after each block's commit, `current` when all blocks that are known were followed.
        """
        self._node = node
        self._react = react
        self._changed = changed
        self.market = Market(node.chain)
        self.waiting_for = ""
        """What the node waits for before it speaks to peers; empty once the chain was reached."""
        store, chain, rechecked = node.engine.writer.store, node.chain, max(RECHECKED, node.confirmations)
        kept = headers_kept(chain.figures, node.confirmations)
        followed = read_followed(store, chain.chain_id, node.start_block, rechecked, kept)
        self.index = ChainIndex(node.engine.key.address, store, followed.position)
        self.depths = Depths(self.index, chain.figures.depths, node.depths, node.confirmations)
        self.follower = Follower(
            chain,
            followed,
            self._on_steps,
            jitter=node.rng.random,
            elapsed=node.elapsed,
            clock=node.clock,
            on_current=current,
        )
        self._vigil = begin_vigil(node.elapsed())
        self._block = trio.Event()
        self._priced = trio.Event()
        self._times = {header.number: header.time for header in followed.headers}

    async def catch_up(self) -> None:
        """Follow the chain to its head of now: before that, the node listens to nobody.

        A node that was down may not know yet that a channel was closed or a lock has expired. Raise WrongChain if the
        chain node serves another chain.
        """
        self.waiting_for = "the first answer of its chain node"
        reached = False
        while not reached:
            head = await self._first_head()
            with trio.move_on_after(HEAD_SECONDS):  # then it is asked again: one answer may be far off
                await self.follower.wait_reached(head.number)
                reached = True
            if self.follower.lost is not None:
                raise self.follower.lost
            fault = self.follower.fault
            self.waiting_for = f"the chain up to block {head.number}" if fault is None else f"its chain node: {fault}"
        self.waiting_for = ""
        if self._node.has_channels:
            with trio.move_on_after(PRICE_SECONDS):
                await self._priced.wait()

    async def _first_head(self) -> Header:
        wrong, retry = 0, Retry(FIRST_ANSWER, self._node.rng.random)
        while True:
            try:
                return await self._node.chain.head()
            except (ChainUnavailable, ChainError) as error:
                wrong += isinstance(error, WrongChain)
                if wrong >= CERTAIN:
                    raise
                self.waiting_for = f"its chain node: {error}"
                if self._vigil.told is None and not wrong:
                    kind, text = kind_of(error), "no peer is connected to yet, as the node waits for"
                    self._node.alarm(Alarm(kind, f"{text} {self.waiting_for}"))
                    self._vigil = begin_vigil(self._node.elapsed(), kind)
                await retry.pause()

    async def run(self) -> None:
        """Follow the chain until cancelled. A chain node's nonsense is told, and asked about again: it ends nothing."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.follower.run)
            nursery.start_soon(self._watch)
            nursery.start_soon(self._watch_market)
            if self.depths.has_ladder:
                nursery.start_soon(self._watch_final)

    async def _watch(self) -> None:
        """Tell the owner when the chain is not followed, in time for what is at stake."""
        while True:
            await trio.sleep(TICK)
            self._vigil, alarms = look(self._vigil, self.follower.sight(self._node.time_left), MEANS)
            for alarm in alarms:
                self._node.alarm(alarm)

    async def _watch_market(self) -> None:
        """Ask what gas costs with every block, while that may matter. The last answers have to do until it is told."""
        since, told, times = None, -math.inf, 0
        while True:
            if not self._node.has_channels or await self._ask_market():
                since, times = None, 0
                await self._block.wait()
                continue
            now = self._node.elapsed()
            since = now if since is None else since
            due = max(since + first_after(self._node.time_left), told + again_after(self._node.time_left, times))
            if now >= due and self.fresh:
                text = f"the chain node has not told for {spell(now - since)} what gas costs: this node's transactions"
                self._node.alarm(Alarm(AlarmKind.PRICE_UNKNOWN, f"{text} may offer too little or too much"))
                told, times = now, times + 1
            await trio.sleep(PRICE_AGAIN.after(times, self._node.rng.random))

    async def _watch_final(self) -> None:
        """Ask with every block which ones are final, while something waits for that. An old answer has to do."""
        while True:
            await self.wait_block()
            if self.depths.asks_for_finality:
                with contextlib.suppress(ChainUnavailable, ChainError):
                    self.depths.on_final(await self._node.chain.final_number())

    async def _ask_market(self) -> bool:
        """Ask once; return whether there was an answer."""
        try:
            await self.market.ask()
        except (ChainUnavailable, ChainError):
            return False
        self._priced.set()
        return True

    async def wait_block(self) -> None:
        """Return once a block was taken in, or taken back."""
        await self._block.wait()

    @property
    def fresh(self) -> bool:
        """Whether our view of the chain is up to date: on the word of an old one no secret is paid for."""
        return not self.follower.is_behind(BEHIND_SECONDS)

    @property
    def is_lost(self) -> bool:
        """Whether the chain is another one than was followed: it knows none of our channels."""
        return self.follower.lost is not None

    @property
    def final_number(self) -> int:
        """The newest block that counts as confirmed."""
        return self.index.head_number - self._node.confirmations + 1

    @property
    def final_time(self) -> int:
        """The time of the newest block that counts as confirmed; 0 if it is not known."""
        return self._times.get(self.final_number, 0)  # 0: time never runs ahead of the truth

    async def _on_steps(self, steps: Sequence[Step]) -> int:
        """Follow blocks: the events of each, what follows from them, and the position, in one commit.

        A block of which anything follows is the last one of its commit: what later blocks are judged by is read from
        disk as well (the proofs that were registered, among others), and has to be there.
        """
        moments, taken = list[Moment](), 0
        for step in for_a_while(steps):
            more, matters = self._on_step(step)
            moments += more
            taken += 1
            if matters:
                break
        await self._node.engine.writer.commit(moments)
        self._block.set()
        self._block = trio.Event()
        self._changed()
        return taken

    def _on_step(self, step: Step) -> tuple[list[Moment], bool]:
        """Take in one block; return what to store, and whether anything follows from it."""
        moments: list[Moment] = [step_moment(self._node.chain.chain_id, step, self.follower.followed.kept)]
        seen: list[EventsSeen] = []
        if isinstance(step, BlockAdded):
            seen = self.index.add(step.block)
            moments += seen
            self._times[step.block.header.number] = step.block.header.time
            if len(self._times) > TIMES_KEPT + self.follower.followed.kept:
                del self._times[next(iter(self._times))]
        else:
            self._times.pop(step.header.number, None)
            moments += self.index.remove(step.header.number, self._times.get(step.header.number - 1, 0))
        reaction = self._react(step, seen)
        matters = bool(reaction) or self._node.engine.has_effects or isinstance(step, BlockRemoved)
        return [*moments, *reaction], matters or any(map(self._concerns_us, seen))

    def _concerns_us(self, seen: EventsSeen) -> bool:
        """Whether that is of our channels, or solves a lock in one."""
        if seen.sightings or not seen.registered:
            return bool(seen.sightings)
        pending = pending_puzzles(self._node.engine.views.channels)
        return any(not pending.isdisjoint(puzzles_of(event)) for event in seen.registered)
