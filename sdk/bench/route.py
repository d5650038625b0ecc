"""`tally bench route`: how long the planner takes for one path, and for a plan of many parts, on a real network.

Random pairs of nodes, nothing learned, one pinned process, as plain Python and compiled. The times are those of the
planner's calls, exact amounts included, whether a route exists or not.
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from tallystick.router.errors import NoRoute
from tallystick.router.objects import Edge, NodeKey
from tallystick.router.pathfinding.graph import Graph
from tallystick.router.pathfinding.imports import MSAT
from tallystick.router.pathfinding.kernels import compilable
from tallystick.router.pathfinding.liquidity import Knowledge
from tallystick.router.pathfinding.planner import Planner
from tallystick.sdk.bench.control import capacity_control
from tallystick.sdk.bench.graphs import connected_nodes, percentile, random_pairs, read_edges

PARTS = 16
NOW = 1e9
WARM_UP = 3
"""Calls before the first measured one: compiled code is loaded, or made."""


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Of one kind of call."""

    median_ms: float
    p99_ms: float
    calls: int
    found_pct: float
    """Calls that found a route or a plan; the others are measured as well."""


class FormTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Times in both forms of the code."""

    amount: int
    """In satoshi."""
    python: Times
    numba: Times | None = None
    note: str = ""


class RouteResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints."""

    control: float
    """Capacity control, the lower of before and after."""
    nodes: int
    channels: int
    build_ms: float
    """What making the plain graph took, from edges in memory."""
    single: FormTimes
    multi: FormTimes


def run_route(
    graph_file: Path, *, single: int, multi: int, pairs: int, seed: int, say: Callable[[str], None]
) -> RouteResult:
    """Measure `pairs` calls of each kind (a tenth of plans in plain Python), for these amounts in satoshi."""
    edges = read_edges(graph_file)
    before = capacity_control()
    with _pinned():
        began = time.perf_counter()
        plain = _planner(edges, compiled=False)
        build = time.perf_counter() - began
        chosen = random_pairs(connected_nodes(plain.graph), pairs, random.Random(seed))
        few = chosen[: max(1, pairs // 10)]
        say("plain Python")
        python = _single(plain, chosen, single), _multi(plain, few, multi)
        numba: tuple[Times | None, Times | None] = (None, None)
        if compilable():
            say("compiled")
            fast = _planner(edges, compiled=True)
            numba = _single(fast, chosen, single), _multi(fast, chosen, multi)
    note = "" if compilable() else "numba is not installed: pip install tallystick[fast]"
    return RouteResult(
        control=min(before, capacity_control()),
        nodes=len(plain.graph.nodes),
        channels=len({edge.channel for edge in edges}),
        build_ms=build * 1000,
        single=FormTimes(amount=single, python=python[0], numba=numba[0], note=note),
        multi=FormTimes(amount=multi, python=python[1], numba=numba[1], note=note),
    )


def _planner(edges: Sequence[Edge], *, compiled: bool) -> Planner:
    graph = Graph(edges, compiled=compiled)
    return Planner(graph, Knowledge(graph))


def _single(planner: Planner, pairs: Sequence[tuple[NodeKey, NodeKey]], amount: int) -> Times:
    return _times(pairs, lambda one, other: planner.route(one, other, amount * MSAT, max_fee=amount * MSAT, now=NOW))


def _multi(planner: Planner, pairs: Sequence[tuple[NodeKey, NodeKey]], amount: int) -> Times:
    return _times(
        pairs,
        lambda one, other: planner.plan(one, other, amount * MSAT, max_fee=amount * MSAT, max_parts=PARTS, now=NOW),
    )


def _times(pairs: Sequence[tuple[NodeKey, NodeKey]], call: Callable[[NodeKey, NodeKey], object]) -> Times:
    for one, other in pairs[:WARM_UP]:
        with contextlib.suppress(NoRoute):
            call(one, other)
    spent: list[float] = []
    found = 0
    for one, other in pairs:
        began = time.perf_counter()
        with contextlib.suppress(NoRoute):
            call(one, other)
            found += 1
        spent.append((time.perf_counter() - began) * 1000)
    spent.sort()
    return Times(
        median_ms=statistics.median(spent),
        p99_ms=percentile(spent, 99),
        calls=len(spent),
        found_pct=100 * found / len(spent),
    )


@contextlib.contextmanager
def _pinned() -> Iterator[None]:
    """Stay on one core, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
