"""The chain as one node sees it: followed block by block, kept in the index, and judged whether it is up to date.

One block is one commit: its events, what the node makes of them, and the position.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence

import trio

from tallystick.channels.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.objects import Address
from tallystick.channels.store import Moment
from tallystick.channels.transport import backoff
from tallystick.channels.writer import Writer
from tallystick.sdk.options import Config
from tallystick.settlement.chain import Chain
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.follower import BlockAdded, Follower, Step
from tallystick.settlement.index import ChainIndex, EventsSeen
from tallystick.settlement.moments import read_followed, step_moment

BEHIND_SECONDS = 30
"""How far our view of the chain may be behind, or the chain node silent, to count as up to date. Well below the margin
up to which secrets are paid for."""

TIMES_KEPT = 256
"""Blocks whose times are remembered."""


class Following:
    """How a node follows its chain. Run `run` in a nursery; `catch_up` returns once the head was reached."""

    def __init__(
        self,
        *,
        account: Address,
        chain: Chain,
        writer: Writer,
        config: Config,
        rng: random.Random,
        alarm: OnAlarm,
        react: Callable[[Step, Sequence[EventsSeen]], Sequence[Moment]],
        changed: Callable[[], None],
    ) -> None:
        """`react` takes in a block with what of it concerns us, and returns what to store with it.

        `alarm` is told what a person should know; `changed` is called after each block's commit.
        """
        self._chain = chain
        self._writer = writer
        self._config = config
        self._rng = rng
        self._alarm = alarm
        self._react = react
        self._changed = changed
        self.market: int | None = None
        """What a unit of gas costs, as far as is known."""
        self.wants_market: Callable[[], bool] = lambda: True
        """Whether there is something whose worth must be held against its fee."""
        self.index = ChainIndex(account, writer.store)
        followed = read_followed(writer.store, chain.chain_id, config.start_block)
        self.follower = Follower(chain, followed, self._on_step, jitter=rng.random)
        self._times = {header.number: header.time for header in followed.headers}
        if followed.position is not None:
            self.index.head_number, self.index.head_time = followed.position.number, followed.position.time

    async def catch_up(self) -> None:
        """Follow the chain to its head of now: before that, the node listens to nobody.

        A node that was down may not know yet that a channel was closed or a lock has expired.
        """
        attempt = 0
        while True:
            try:
                head = await self._chain.head()
                self.market = await self._chain.fee_price()  # before locks come: what may be lost depends on it
            except ChainUnavailable as error:
                if attempt == 0:
                    text = f"the chain node cannot be reached, so no peer is connected to yet: {error}"
                    self._alarm(Alarm(AlarmKind.CHAIN_UNREACHABLE, text))
                await trio.sleep(backoff(attempt, self._rng, ceiling=5.0))
                attempt += 1
            else:
                return await self.follower.reached(head.number)

    async def run(self) -> None:
        """Follow the chain until cancelled. A chain node's nonsense is told, and asked about again: it ends nothing."""
        attempt, told = 0, ""
        while True:
            before = self.follower.followed.next
            try:
                await self.follower.run()
            except ChainError as error:
                if str(error) != told:
                    self._alarm(Alarm(AlarmKind.CHAIN_NONSENSE, f"the chain cannot be followed: {error}"))
                told = str(error)
            attempt = 0 if self.follower.followed.next != before else attempt + 1
            await trio.sleep(backoff(attempt, self._rng, ceiling=30.0))

    @property
    def fresh(self) -> bool:
        """Whether our view of the chain is up to date: on the word of an old one no secret is paid for."""
        return not self.follower.is_behind(BEHIND_SECONDS)

    @property
    def final_number(self) -> int:
        """The newest block that counts as confirmed."""
        return self.index.head_number - self._config.confirmations + 1

    @property
    def final_time(self) -> int:
        """The time of the newest block that counts as confirmed; 0 if it is not known."""
        return self._time_of(self.final_number)

    def _time_of(self, number: int) -> int:
        """Return the time of a recent block, 0 if it is older than what is kept: time never runs ahead of the truth."""
        return self._times.get(number, 0)

    async def _on_step(self, step: Step) -> None:
        """Follow one block: its events, what follows from them, and the position, in one commit."""
        await self._ask_market()
        moments: list[Moment] = [step_moment(self._chain.chain_id, step)]
        seen: list[EventsSeen] = []
        if isinstance(step, BlockAdded):
            seen = self.index.add(step.block)
            moments += seen
            self._times[step.block.header.number] = step.block.header.time
            self._times.pop(step.block.header.number - TIMES_KEPT, None)
        else:
            moments += self.index.remove(step.header.number)
            self._times.pop(step.header.number, None)
            self.index.head_time = self._time_of(self.index.head_number)
        moments += self._react(step, seen)
        await self._writer.commit(moments)
        self._changed()

    async def _ask_market(self) -> None:
        """Ask what gas costs, while that may matter."""
        if self.wants_market():
            with contextlib.suppress(ChainError):  # the last answer, or none, has to do
                self.market = await self._chain.fee_price()
