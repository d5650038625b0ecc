"""Helpers that are threads: for an interpreter without the lock, where nothing has to be handed over.

They are threads of a `concurrent.futures` pool, not of trio, because a block is built in one synchronous step, which
cannot await. The pool lives as long as `open_crew`'s block: whoever opens it, a shell or a benchmark, owns it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from tallystick.settlement.execution.ahead import Ahead
from tallystick.settlement.execution.prepared import Bundles, Preparation


class ThreadCrew:
    """Threads of a pool, all of which help."""

    def __init__(self, pool: ThreadPoolExecutor, size: int) -> None:
        self._pool = pool
        self._size = size

    def share(self, preparation: Preparation, bundles: Sequence[Sequence[bytes]]) -> Bundles:
        """Return the bundles prepared, in order: iterate it once."""
        return Ahead(preparation.prepare, bundles, self._help)

    def each(self, act: Callable[[], object]) -> None:
        """Let every thread call `act` once, and wait until all have, while no block is built: for measurements."""
        here: list[Future[None]] = [Future() for _ in range(self._size)]

        def call(own: Future[None]) -> None:
            own.set_result(None)
            for each in here:  # else one that is quick would call it twice
                each.result()
            act()

        for called in [self._pool.submit(call, own) for own in here]:
            called.result()

    def _help(self, work: Callable[[], object]) -> None:
        """Let every thread that is free work."""
        for _ in range(self._size):
            self._pool.submit(work)


@contextmanager
def open_threads(count: int) -> Iterator[ThreadCrew]:
    """Give a crew of so many threads. At the end of the block they are waited for."""
    with ThreadPoolExecutor(count, thread_name_prefix="tallystick block") as pool:
        yield ThreadCrew(pool, count)
