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
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Crew(Protocol):
    """Who helps."""

    def help(self, work: Callable[[], object]) -> None:
        """Let each helper call `work`, at once and beside the caller, and return without waiting for any."""


class Alone:
    """Nobody helps."""

    def help(self, work: Callable[[], object]) -> None:
        """Do nothing."""


class Ahead(Generic[Item, Result]):
    """The results of `work` on each of `items`, in order: iterate it once. Errors of `work` are raised there."""

    def __init__(self, work: Callable[[Item], Result], items: Sequence[Item], crew: Crew) -> None:
        self._work = work
        self._items = items
        self._crew = crew
        self._claim = itertools.count().__next__
        self._results: list[tuple[Result] | None] = [None] * len(items)
        self._over = False
        self.made = 0
        """Results that the owner made itself."""
        self.again = 0
        """Of these, such as somebody else may have made as well."""

    def __iter__(self) -> Iterator[Result]:
        results, items = self._results, self._items
        self._crew.help(self._assist)
        try:
            for index, item in enumerate(items):
                found = results[index]
                while found is None and self._step():
                    self.made += 1
                    found = results[index]
                if found is None:  # claimed by a helper that is not ready yet, and nothing else is left to do
                    self.again += 1
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
