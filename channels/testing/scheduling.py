"""Runs an async function in virtual time with a schedule that depends on nothing but a seed.

trio shuffles the tasks that are ready, on purpose. To replay a run, its shuffle must be seeded, and the tasks must be
put in order first. trio has private switches for both and no public one; only this module touches them, and
`tests/test_testing_scheduling.py` guards that they still work.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, TypeVarTuple

import trio
from trio.testing import MockClock

T = TypeVar("T")
Args = TypeVarTuple("Args")


@contextmanager
def deterministic_scheduling(seed: int) -> Iterator[None]:
    """Within this block, a `trio.run` schedules its tasks in an order drawn from `seed`; restored afterwards."""
    scheduler: Any = importlib.import_module("trio._core._run")
    generator, flag = scheduler._r, scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    state = generator.getstate()
    generator.seed(seed)
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    try:
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = flag
        generator.setstate(state)


def simulate(function: Callable[[*Args], Awaitable[T]], seed: int, *args: *Args) -> T:
    """Run `function(*args)` under trio and return its result; the same seed gives the same run.

    Time is virtual: it stands still while any task can run, and jumps to the next deadline when none can. So nothing
    inside may use a worker thread or a socket, whose work takes no virtual time. Call it from synchronous code.
    """
    with deterministic_scheduling(seed):
        return trio.run(function, *args, clock=MockClock(autojump_threshold=0))


@contextmanager
def rare_collections() -> Iterator[None]:
    """Within this block, seldom look for garbage in circles: with hundreds of nodes, a third of the time goes there.

    What is in a `gc.freeze` stays out of it until the end of the block.
    """
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
