"""Searches that wait for each other: one at a time, in steps, so that nothing holds up the node's loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import trio

from tallystick.channels.errors import EngineStopped, StoreError
from tallystick.router.pathfinding.steps import Steps

TURN = 8
"""Searches, with what follows from them, after which others have their turn: some 3 ms, while ways are remembered."""

K = TypeVar("K")
T = TypeVar("T")


class SearchQueue(Generic[K, T]):
    """Searches for T, each on behalf of a K, in the order in which they were asked for."""

    def __init__(self, found: Callable[[K, T], None], failed: Callable[[K, Exception], None], *, inline: bool) -> None:
        """`found` gets each result, `failed` whatever a search raises, but for what ends the node.

        `inline`: nobody will call `run`; searches are done at once, however long it takes.
        """
        self._found = found
        self._failed = failed
        self._inline = inline
        self._searches: deque[tuple[K, Steps[T]]] = deque()
        self._working = False
        self._credit = 0
        """Searches that may still begin before `run` has its turn."""
        self._wanted = trio.Event()

    async def run(self) -> None:
        """Go on with the searches, and let others work in between, until cancelled."""
        try:
            while True:
                self._credit = TURN
                await self._wanted.wait()
                self._wanted = trio.Event()
                while self._searches:
                    left = TURN
                    while left and self._searches and self._work():
                        left -= 1
                    await trio.lowlevel.checkpoint()
        finally:
            self._credit = 0
            for _, steps in self._searches:
                steps.close()
            self._searches.clear()

    def look(self, key: K, steps: Steps[T]) -> None:
        """Queue a search; begin it now, if nothing else waits."""
        self._searches.append((key, steps))
        if self._inline:
            while self._searches and not self._working:
                self._work()
            return
        self._wanted.set()
        if self._credit and len(self._searches) == 1 and not self._working:
            self._credit -= 1
            self._work()

    def _work(self) -> bool:
        """Go on with the first search until it pauses; return whether it has ended."""
        key, steps = self._searches[0]
        self._working = True
        try:
            next(steps)
        except StopIteration as end:
            self._searches.popleft()
            self._found(key, end.value)
            return True
        except (EngineStopped, StoreError):
            raise
        except Exception as error:  # an order that cannot be planned, now or at any start, harms nobody else
            self._searches.popleft()
            self._failed(key, error)
            return True
        finally:
            self._working = False
        return False
