"""Work on a row of items by several, of which one takes the results in order.

Items are claimed one by one, so that the work spreads by itself, and the owner works, too. What comes out depends on
`work` alone, a function of its item: the owner waits for nobody. A result that it needs and that somebody else claimed
but has not handed over yet, it first uses the time to work on another item, and then makes it itself. So helpers that
are slow, stand still or fail can cost time, and nothing else: the owner meets an error of theirs again, in its turn.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Generic, TypeAlias, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


Help: TypeAlias = Callable[[Callable[[], object]], None]
"""Lets each helper call a function, at once and beside the caller, and returns without waiting for any."""


def nobody(work: Callable[[], object]) -> None:
    """Do nothing."""


class Ahead(Generic[Item, Result]):
    """The results of `work` on each of `items`, in order: iterate it once. Errors of `work` are raised there."""

    def __init__(self, work: Callable[[Item], Result], items: Sequence[Item], help: Help = nobody) -> None:
        self._work = work
        self._items = items
        self._help = help
        self._claim = itertools.count().__next__
        self._results: list[tuple[Result] | None] = [None] * len(items)
        self._over = False
        self.again: list[Item] = []
        """What the owner made though somebody else may have, too."""

    def __iter__(self) -> Iterator[Result]:
        results, items = self._results, self._items
        self._help(self._assist)
        try:
            for index, item in enumerate(items):
                found = results[index]
                while found is None and self._step():
                    found = results[index]
                if found is None:  # claimed by a helper that is not ready yet, and nothing else is left to do
                    self.again.append(item)
                    found = (self._work(item),)
                results[index] = None
                yield found[0]
        finally:
            self._over = True

    def _assist(self) -> None:
        """Be a helper: work until nothing is left."""
        while not self._over and self._step():
            pass

    def _step(self) -> bool:
        """Claim the next item and work on it; return whether there was one."""
        index = self._claim()
        if index >= len(self._items):
            return False
        with suppress(Exception):  # whatever it is, the owner meets it in its turn
            self._results[index] = (self._work(self._items[index]),)
        return True
