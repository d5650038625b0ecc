"""Long computations in steps: generators that pause now and then, so that whoever runs them can let others work.

Where the pauses are depends on how much was looked at, never on time: so the same question pauses at the same places on
every machine, and simulated runs stay what their seeds say. A generator that pauses yields nothing and returns its
result; `finish` runs one to its end at once.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

Steps: TypeAlias = Generator[None, None, T]
"""A computation of a T that pauses."""


def finish(steps: Steps[T]) -> T:
    """Run a computation to its end without letting anybody else work; return its result."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
