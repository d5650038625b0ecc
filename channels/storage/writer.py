"""The one writer of a store: gathers moments from everybody, commits them together, then lets things happen.

`add(moments, then)` returns at once; `then` runs on the loop after the commit that covers its moments, in the order
of the adds. While one commit is on its way to the disk (in a thread of its own), the next one gathers: the group grows
with load by itself. If the disk refuses, nothing that waited happens, ever: the writer fails with StoreError, its
nursery ends, and the node must be restarted from what is durable.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec
import trio

from tallystick.channels.errors import EngineStopped, StoreError
from tallystick.channels.storage.disk_thread import DiskThread, open_disk_thread
from tallystick.channels.storage.store import Moment, Store
from tallystick.channels.storage.stored_types import check_types

Then = Callable[[], None]

QUEUE_MAX = 10_000
"""Moments that may wait for the disk before `room` makes producers wait."""

REST_MIN = 0.002
"""Seconds of rest that are not worth the while."""

REST_MAX = 1.0
"""Seconds of rest between two rounds, at most."""

IDLE = 0.0001
"""Seconds within which two turns of the event loop are over if nobody has anything to do."""


class Round(msgspec.Struct):
    """What one transaction writes, and what happens once it is durable."""

    moments: list[Moment] = []
    thens: list[Then] = []
    rest: float = 0.0
    """Seconds that everybody else should have before the next round (`Writer.rest`)."""

    def release(self) -> None:
        """Let what waited for the commit happen, in order."""
        for then in self.thens:
            then()


class Writer:
    """Group commit over one `Store`. Run `run` in a nursery; `inline` commits on the loop, for virtual time."""

    def __init__(self, store: Store, *, inline: bool = False) -> None:
        self.store = store
        self._inline = inline
        self._moments: list[Moment] = []
        self._thens: list[Then] = []
        self._sources: list[Callable[[], Round]] = []
        self._rest = 0.0
        self._wake = trio.Event()
        self._round_done = trio.Event()
        self._failure: StoreError | None = None

    def before_commit(self, prepare: Callable[[], Round]) -> None:
        """Ask `prepare` at the start of each round for its part of it: there an engine signs what has gathered."""
        self._sources.append(prepare)

    def wake(self) -> None:
        """Ask for a round although no moment was added: something will be at `prepare`'s turn."""
        self._wake.set()

    def rest(self, seconds: float) -> None:
        """Let everybody else work for that long before the next round, or until they have nothing to do.

        That is REST_MAX at most, and no less than nothing: the clock may have been set while it was measured.
        """
        self._rest += min(max(0.0, seconds), REST_MAX)

    def add(self, moments: Sequence[Moment], then: Then | None = None) -> None:
        """Queue moments for the next commit and `then` for after it.

        Raise EngineStopped after a failure, InvalidInput for a moment that the store would not give back as it is.
        """
        self._take(moments, () if then is None else (then,))
        self._wake.set()

    def _take(self, moments: Sequence[Moment], thens: Sequence[Then]) -> None:
        self.require_running()
        for moment in moments:
            check_types(moment)
        self._moments.extend(moments)
        self._thens.extend(thens)

    async def commit(self, moments: Sequence[Moment]) -> None:
        """Queue moments and wait until they are durable (and everything added before them has happened)."""
        done = trio.Event()
        self.add(moments, done.set)
        while not done.is_set():
            self.require_running()
            await self._round_done.wait()

    async def room(self) -> None:
        """Wait while more than QUEUE_MAX moments are waiting: backpressure for whoever reads from a socket."""
        while len(self._moments) > QUEUE_MAX and self._failure is None:
            await self._round_done.wait()

    def require_running(self) -> None:
        """Raise EngineStopped once the disk has refused: nothing new is taken on."""
        if self._failure is not None:
            raise EngineStopped(str(self._failure)) from self._failure

    async def run(self) -> None:
        """Commit rounds until cancelled. Raise StoreError when the disk refuses."""
        async with contextlib.nullcontext() if self._inline else open_disk_thread() as thread:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                await self.round(thread)
                seconds, self._rest = self._rest, 0.0
                await _rest(seconds)

    async def round(self, thread: DiskThread | None = None) -> None:
        """Prepare, commit (in `thread`, if there is one) and release everything that has gathered: one transaction."""
        due = self.gather()
        if thread is None or not due.moments:
            self.finish(due)
            await trio.lowlevel.checkpoint()
        else:
            with self._ending():
                await thread.run(partial(self.store.commit, due.moments))
                due.release()

    def gather(self) -> Round:
        """Ask the sources, and take all that has gathered. Half of a round, for who must come between the halves."""
        for prepare in self._sources:
            part = prepare()
            if part.moments or part.thens:
                self._take(part.moments, part.thens)
            self.rest(part.rest)
        due = Round(self._moments, self._thens)
        self._moments, self._thens = [], []
        return due

    def finish(self, due: Round) -> None:
        """Commit what was gathered, here and now, and release what waits for it. Raise StoreError, and nothing is."""
        with self._ending():
            if due.moments:
                self.store.commit(due.moments)
            due.release()

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            self._failure = error
            raise
        finally:
            self._round_done.set()
            self._round_done = trio.Event()


async def _rest(seconds: float) -> None:
    if seconds < REST_MIN:
        return
    now = trio.current_time()
    end = now + seconds
    while now < end:
        began = now
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()  # the order of tasks within a turn is random: two surely hold a whole one
        now = trio.current_time()
        if now - began < IDLE:
            return
