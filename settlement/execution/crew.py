"""Who helps to prepare blocks on this machine: the fastest that can be had, found out by itself.

Under the interpreter's lock these are processes; on an interpreter without it, threads, which need nothing handed over.
Both were measured (docs/scale.md). Whoever opens a crew, a shell or a benchmark, owns it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tallystick.settlement.execution.prepared import Alone, Crew
from tallystick.settlement.execution.processes import open_processes
from tallystick.settlement.execution.threads import open_threads


def further_cores() -> int:
    """Return how many cores the process may use beside the caller's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores - 1


def has_lock() -> bool:
    """Whether this interpreter runs one thread at a time."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


@contextmanager
def open_crew(helpers: int | None = None) -> Iterator[Crew]:
    """Give a crew of so many helpers; None: one for each further core."""
    count = further_cores() if helpers is None else helpers
    if count < 1:
        yield Alone()
    elif has_lock():
        with open_processes(count) as processes:
            yield processes
    else:
        with open_threads(count) as threads:
            yield threads
