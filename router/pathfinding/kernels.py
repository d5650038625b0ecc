"""The hot loops: as plain Python always, compiled by numba (`pip install tallystick[fast]`) where it is installed.

A kernel is a few functions in the part of Python that numba compiles: it begins, advances as long as a budget of slots
lasts, and says what it has found. As plain Python it pauses whenever the budget is spent (`steps`). Compiled, all of it
is one function that runs without the GIL, in one step; its machine code is cached on disk: the first use on a machine
takes a few seconds. Measured on Lightning's graph beside one long generator over 26 columns:
plain as fast (0.98 to 1.03), compiled 0.94 to 1.08, with some 10 µs for each call, however long it takes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec

from tallystick.router.pathfinding import flow, search
from tallystick.router.pathfinding.columns import Columns
from tallystick.router.pathfinding.steps import Steps

PAUSE = 6_000
"""Slots after which a plain search pauses: some 5 ms of work."""

Q = TypeVar("Q")
S = TypeVar("S")
T = TypeVar("T")

Search = Callable[[Columns, Q, int], Steps[T]]
"""Answers a question by columns, in steps of so many slots."""


class Kernel(msgspec.Struct, Generic[Q, S, T], frozen=True):
    """A question Q is answered with a T by way of states S, which change in place."""

    whole: Callable[[Columns, Q], T]
    begin: Callable[[Columns, Q], S]
    advance: Callable[[Columns, Q, S, int], bool]
    """Go on until the budget is spent; return whether it has ended."""
    result: Callable[[Columns, Q, S], T]
    helpers: tuple[Callable[..., Any], ...] = ()
    """What these call."""

    def plain(self, columns: Columns, question: Q, budget: int) -> Steps[T]:
        """Run it, and pause whenever the budget is spent."""
        state = self.begin(columns, question)
        while not self.advance(columns, question, state, budget):
            yield
        return self.result(columns, question, state)


TWO_SIDED = Kernel(
    search.two_sided, search.begin_meeting, search.advance_meeting, search.joined_path, (search.look_around,)
)
ONE_SIDED = Kernel(search.one_sided, search.begin_backwards, search.advance_backwards, search.path_onwards)
CHEAPEST_FLOW = Kernel(
    flow.cheapest_flow,
    flow.begin_flow,
    flow.advance_flow,
    flow.what_flows,
    (flow.price, flow.begin_round, flow.find_path, flow.look_back, flow.take_path),
)


class Kernels(msgspec.Struct, frozen=True):
    """The loops in one form. `compiled`: over numpy arrays; otherwise over lists."""

    compiled: bool
    two_sided: Search[search.Question, list[int]]
    one_sided: Search[search.Question, list[int]]
    cheapest_flow: Search[flow.Demand, list[tuple[int, float]]]


PLAIN = Kernels(False, TWO_SIDED.plain, ONE_SIDED.plain, CHEAPEST_FLOW.plain)


class Compiled(Generic[Q, T]):
    """A kernel as machine code (`code`), to be called like its plain form."""

    def __init__(self, kernel: Kernel[Q, S, T]) -> None:
        import numba
        from numba.extending import register_jitable

        parts: tuple[Callable[..., Any], ...] = (kernel.begin, kernel.advance, kernel.result, *kernel.helpers)
        for part in parts:
            register_jitable(part)
        try:
            self.code: Any = numba.njit(nogil=True, cache=True)(kernel.whole)
        except RuntimeError:  # nowhere to write a cache to
            self.code = numba.njit(nogil=True)(kernel.whole)

    def __call__(self, columns: Columns, question: Q, budget: int) -> Steps[T]:
        """Run it, in one step."""
        yield from ()
        found: T = self.code(columns, question)
        return found


def compilable() -> bool:
    """Whether numba and numpy are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("numba", "numpy"))


@cache
def compiled_kernels() -> Kernels:
    """Return the compiled form. Raise ImportError without numba."""
    return Kernels(True, Compiled(TWO_SIDED), Compiled(ONE_SIDED), Compiled(CHEAPEST_FLOW))
