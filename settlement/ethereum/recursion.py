"""Imports of packages that raise Python's recursion limit for the whole process: afterwards it is what it was.

With a limit of tens of thousands a hostile message of many nested arrays overflows a decoder's C stack and kills the
process, where it should be a RecursionError that is answered with a refusal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_recursion_limit() -> Iterator[None]:
    """Put the recursion limit back at the end of the block, in which such a package is imported."""
    limit = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
