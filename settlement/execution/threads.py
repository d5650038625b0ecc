"""Helpers that are threads: they gain where the work leaves the interpreter's lock, as a signature's check does.

They are threads of a `concurrent.futures` pool, not of trio, because a block is built in one synchronous step, which
cannot await. The pool lives as long as `open_crew`'s block: whoever opens it, a shell or a benchmark, owns it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tallystick.settlement.execution.ahead import Alone, Crew


class ThreadCrew:
    """Threads of a pool, all of which help."""

    def __init__(self, pool: ThreadPoolExecutor, size: int) -> None:
        self._pool = pool
        self._size = size

    def help(self, work: Callable[[], object]) -> None:
        """Let every thread that is free work."""
        for _ in range(self._size):
            self._pool.submit(work)


@contextmanager
def open_crew(helpers: int | None = None, begin: Callable[[], object] = lambda: None) -> Iterator[Crew]:
    """Give a crew of so many threads beside the caller's; None: one for each further core that the process may use.

    Each thread calls `begin` first. At the end of the block it is waited for them.
    """
    if helpers is None:
        helpers = len(os.sched_getaffinity(0)) - 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) - 1
    if helpers < 1:
        yield Alone()
        return
    with ThreadPoolExecutor(helpers, thread_name_prefix="tallystick block", initializer=begin) as pool:
        yield ThreadCrew(pool, helpers)
