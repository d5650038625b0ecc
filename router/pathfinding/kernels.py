"""The hot loops: as plain Python always, compiled by numba (`pip install tallystick[fast]`) where it is installed.

A kernel is one generator that calls nothing of ours, in the part of Python that numba compiles. In plain Python it
pauses now and then (`steps`). Compiled, it is the same body without its pauses, and runs without the GIL; its machine
code is cached on disk: the first use on a machine takes a few seconds.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec

from tallystick.router.pathfinding import flow, search
from tallystick.router.pathfinding.steps import Steps

PAUSE = 6_000
"""Slots after which a plain search pauses: some 5 ms of work."""

T = TypeVar("T")


class Kernels(msgspec.Struct, frozen=True):
    """The loops in one form. `compiled`: over numpy arrays; otherwise over lists."""

    compiled: bool
    two_sided: Callable[..., Steps[list[int]]]
    one_sided: Callable[..., Steps[list[int]]]
    cheapest_flow: Callable[..., Steps[list[tuple[int, float]]]]


PLAIN = Kernels(False, search.two_sided, search.one_sided, flow.cheapest_flow)


class Compiled(Generic[T]):
    """A kernel as machine code (`code`), to be called like its plain form."""

    def __init__(self, kernel: Callable[..., Steps[T]]) -> None:
        import numba

        plain = without_pauses(kernel)
        try:
            self.code: Any = numba.njit(nogil=True, cache=True)(plain)
        except RuntimeError:  # nowhere to write a cache to
            self.code = numba.njit(nogil=True)(plain)

    def __call__(self, *arguments: Any) -> Steps[T]:
        """Run it, in one step."""
        yield from ()
        found: T = self.code(*arguments)
        return found


def compilable() -> bool:
    """Whether numba and numpy are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("numba", "numpy"))


@cache
def compiled() -> Kernels:
    """Return the compiled form. Raise ImportError without numba."""
    return Kernels(True, Compiled(search.two_sided), Compiled(search.one_sided), Compiled(flow.cheapest_flow))


def without_pauses(kernel: Callable[..., Steps[T]]) -> Callable[..., T]:
    """Return a kernel as a function: the same lines of the same file, but those that pause."""
    lines, first = inspect.getsourcelines(kernel)
    tree = ast.increment_lineno(_Straight().visit(ast.parse("".join(lines))), first - 1)
    body = compile(tree, inspect.getfile(kernel), "exec", flags=annotations.compiler_flag)
    names = dict(vars(sys.modules[kernel.__module__]))
    exec(body, names)  # noqa: S102  our own source, as it was imported
    made: Callable[..., T] = names[kernel.__name__]
    return made


class _Straight(ast.NodeTransformer):
    """Puts `pass` where a generator pauses."""

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        return ast.copy_location(ast.Pass(), node) if isinstance(node.value, ast.Yield) else node
