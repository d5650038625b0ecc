"""Trying again: pauses that double up to a bound. Of each a random half to whole is taken, so that those who lost the
same thing do not come back together.

    pauses   what is pure: how long after so many failures
    retry    one thing that is being tried, in trio's time (virtual in tests); it may be cancelled at any moment
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

import msgspec
import trio

from tallystick.channels.errors import InvalidInput

T = TypeVar("T")

Jitter: TypeAlias = Callable[[], float]
"""Returns a random number in [0, 1)."""


class Pauses(msgspec.Struct, frozen=True):
    """How long to wait before something is tried again."""

    name: str
    """What is tried, in words."""
    first: float
    """Seconds after the first failure, at most."""
    most: float
    """Seconds after any, at most."""
    tries: int | None = None
    """How often it is tried in all; None: for ever."""

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.most or (self.tries is not None and self.tries < 1):
            raise InvalidInput(
                f"pauses ({self.name}) grow from above zero to a bound, and something is tried at least once"
            )

    def after(self, failures: int, jitter: Jitter) -> float:
        """Return how many seconds to wait after a failure that `failures` others came before."""
        return min(self.most, self.first * 2.0 ** min(failures, 64)) * (1 + jitter()) / 2


class Retry:
    """One thing that is tried again and again. `failures` counts those since it last succeeded."""

    def __init__(self, pauses: Pauses, jitter: Jitter) -> None:
        self._pauses = pauses
        self._jitter = jitter
        self.failures = 0

    def __repr__(self) -> str:
        return f"<Retry of {self._pauses.name} after {self.failures} failures>"

    def on_success(self) -> None:
        """Begin with the shortest pause again."""
        self.failures = 0

    async def pause(self) -> None:
        """Wait, after it has failed."""
        seconds = self._pauses.after(self.failures, self._jitter)
        self.failures += 1
        await trio.sleep(seconds)

    async def until_done(
        self,
        act: Callable[[], Awaitable[T]],
        *faults: type[Exception],
        on_fault: Callable[[Exception], None] = lambda error: None,
    ) -> T:
        """Return what `act` returns, once it raises none of these; raise the last one when it was tried often enough.

        `on_fault` is told each of them before the pause that follows; what it raises ends the trying.
        """
        while True:
            try:
                result = await act()
            except faults as error:
                on_fault(error)
                if self._pauses.tries is not None and self.failures + 1 >= self._pauses.tries:
                    raise
            else:
                self.on_success()
                return result
            await self.pause()
