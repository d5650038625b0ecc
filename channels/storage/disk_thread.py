"""A thread that waits for the disk, so that the event loop does not: one call at a time, handed over and back cheaply.

`trio.to_thread` would do, but each hand-over there passes through a lock, a limiter and two turns of the event loop.
A payment that meets no other waits for three commits in a row, so here a call goes out through a queue and its end
comes back as a byte in a pipe: a third of the price.

A byte says that some call has ended, a counter says which: who waits for a call whose predecessor's wait was broken off
(Ctrl-C) does not take that one's end for its own. The thread closes its end of the pipe itself, at the very last.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from queue import SimpleQueue

import trio

Call = Callable[[], None]


class DiskThread:
    """One thread, for one task: `run` may not be called again before it has returned. Made by `open_disk_thread`."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._asked = self._made = 0
        self._failure: BaseException | None = None
        self._ended, self._tell = os.pipe()

    async def run(self, call: Call) -> None:
        """Make the call in the thread and return at its end; raise what it raises. It cannot be cancelled."""
        self._asked += 1
        number = self._asked
        self._calls.put(call)
        await self._news()  # at least one byte for each call, or they would fill the pipe
        while self._made < number:
            await self._news()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def _news(self) -> bytes:
        """Wait until the thread says something; return nothing at its end."""
        with trio.CancelScope(shield=True):
            await trio.lowlevel.wait_readable(self._ended)
        return os.read(self._ended, 1)

    async def stop(self) -> None:
        """End the thread."""
        self._calls.put(None)
        while await self._news():
            pass
        os.close(self._ended)

    def work(self) -> None:
        """Be the thread."""
        while (call := self._calls.get()) is not None:
            try:
                call()
            except BaseException as error:  # whatever it is, it is raised where the call was asked for
                self._failure = error
            self._made += 1
            os.write(self._tell, b"\0")
        os.close(self._tell)


@asynccontextmanager
async def open_disk_thread() -> AsyncIterator[DiskThread]:
    """Give a thread that lives as long as the block."""
    thread = DiskThread()
    trio.lowlevel.start_thread_soon(thread.work, lambda outcome: None, "tallystick disk")
    try:
        yield thread
    finally:
        await thread.stop()
