"""Following a rollup on its chain: all that was told goes to disk, and then to a watcher's core, which knows the state.

A reorganisation takes back what was told of the blocks that are gone, and the core is made anew from what is left: it
holds nothing that the chain's events do not give.
"""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput
from tallystick.channels.storage.store import Store
from tallystick.sdk.rollup.chain import BLOCKS_MAX, RollupChain, ToldLog
from tallystick.sdk.rollup.schema import (
    HEADS_KEPT,
    FollowedHead,
    KeptLog,
    LogsFollowed,
    LogsUndone,
    read_heads,
    read_logs,
)
from tallystick.settlement.chain import Header
from tallystick.settlement.errors import ChainError
from tallystick.settlement.rollup.events import RollupEvent
from tallystick.settlement.rollup.rules import Place
from tallystick.settlement.rollup.watcher import RollupWatcher


class RollupFollower:
    """Follows one rollup from a block on. What is on disk is believed as far as the chain still has its blocks."""

    def __init__(self, chain: RollupChain, store: Store, place: Place, start: int = 0) -> None:
        self._chain = chain
        self._store = store
        self._place = place
        self.start = start
        """A block not after the rollup's first one."""
        self._heads = read_heads(store)
        self.remade = 0
        """How many times the core was made anew."""
        self.core = self._rebuilt()

    @property
    def head(self) -> FollowedHead:
        """The block up to which it knows everything."""
        return self._heads[-1] if self._heads else FollowedHead(self.start - 1, b"", 0)

    async def follow(self) -> bool:
        """Look at the chain; return whether anything has changed. Raise ChainUnavailable or ChainError."""
        newest = await self._chain.head()
        if self._heads and newest.hash == self.head.hash:
            return False
        await self._go_back(newest)
        changed = False
        while self.head.number < newest.number:
            if not await self._step(min(newest.number, self.head.number + BLOCKS_MAX)):
                break  # the branch changed meanwhile: the next look sees to it
            changed = True
        return changed

    async def _go_back(self, newest: Header) -> None:
        """Forget what was told of blocks that the chain has no more."""
        gone = False
        while self._heads and not await self._stands(self.head, newest):
            self._heads.pop()
            gone = True
        if gone:
            self._store.commit([LogsUndone(self.head.number)])
            self.core = self._rebuilt()
            self.remade += 1

    async def _stands(self, head: FollowedHead, newest: Header) -> bool:
        if head.number > newest.number:
            return False
        found = newest if head.number == newest.number else await self._chain.header(head.number)
        return found is not None and found.hash == head.hash

    async def _step(self, last: int) -> bool:
        """Follow up to a block; return whether all of it was of one branch, on top of what is known."""
        target = await self._chain.header(last)
        logs = await self._chain.logs(self.head.number + 1, last)
        again = await self._chain.header(last)
        if target is None or again is None or again.hash != target.hash:
            return False
        if self._heads and not await self._stands(self.head, await self._chain.head()):
            return False
        head = FollowedHead(target.number, target.hash, target.time)
        ours = [log for log in logs if self._chain.event(log) is not None]
        try:
            for log in ours:
                self._tell(self.core, log)
        except ChainError:
            self._begin_anew()
            raise
        self._store.commit([LogsFollowed(head, tuple(KeptLog(*log) for log in ours))])
        self._heads.append(head)
        del self._heads[:-HEADS_KEPT]
        return True

    def _begin_anew(self) -> None:
        """Forget everything: the chain node has left something out, now or earlier, and nobody can say where."""
        self._heads.clear()
        self._store.commit([LogsUndone(self.start - 1)])
        self.core = self._rebuilt()
        self.remade += 1

    def _rebuilt(self) -> RollupWatcher:
        core = RollupWatcher(self._place)
        for log in read_logs(self._store):
            self._tell(core, ToldLog(*log))
        return core

    def events(self) -> list[RollupEvent]:
        """Return all that was told, in order, from the disk."""
        logs = [ToldLog(*log) for log in read_logs(self._store)]
        return [event for log in logs if (event := self._chain.event(log)) is not None]

    def _tell(self, core: RollupWatcher, log: ToldLog) -> None:
        event = self._chain.event(log)
        if event is None:
            return
        try:
            core.on_event(event)
        except InvalidInput as error:
            raise ChainError(f"{error}: is block {self.start} after the rollup's first one?") from error
