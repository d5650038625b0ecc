"""The hot loops: as plain Python always, compiled by numba (`pip install tallystick[fast]`) where it is installed.

A kernel is one function that calls nothing of ours, in the part of Python that numba compiles. Compiled, it runs
without the GIL, and its machine code is cached on disk: the first use on a machine takes a few seconds.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec

from tallystick.router import flow, search


class Kernels(msgspec.Struct, frozen=True):
    """The loops in one form. `compiled`: over numpy arrays; otherwise over lists."""

    compiled: bool
    two_sided: Callable[..., list[int]]
    one_sided: Callable[..., list[int]]
    cheapest_flow: Callable[..., list[tuple[int, float]]]


PLAIN = Kernels(False, search.two_sided, search.one_sided, flow.cheapest_flow)


def compilable() -> bool:
    """Whether numba and numpy are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("numba", "numpy"))


@cache
def compiled() -> Kernels:
    """Return the compiled form. Raise ImportError without numba."""
    return Kernels(True, _made(search.two_sided), _made(search.one_sided), _made(flow.cheapest_flow))


def _made(kernel: Callable[..., Any]) -> Callable[..., Any]:
    import numba

    try:
        made: Callable[..., Any] = numba.njit(nogil=True, cache=True)(kernel)
    except RuntimeError:  # nowhere to write a cache to
        made = numba.njit(nogil=True)(kernel)
    return made
