"""Helpers that are threads: they gain where the work leaves the interpreter's lock, as a signature's check does.

They are threads of a `concurrent.futures` pool, not of trio, because a block is built in one synchronous step, which
cannot await. The pool lives as long as `open_crew`'s block: whoever opens it, a shell or a benchmark, owns it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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

    def _help(self, work: Callable[[], object]) -> None:
        """Let every thread that is free work."""
        for _ in range(self._size):
            self._pool.submit(work)


@contextmanager
def open_threads(count: int, begin: Callable[[], object] = lambda: None) -> Iterator[ThreadCrew]:
    """Give a crew of so many threads, each of which calls `begin` first. At the end they are waited for."""
    with ThreadPoolExecutor(count, thread_name_prefix="tallystick block", initializer=begin) as pool:
        yield ThreadCrew(pool, count)
