"""Virtual time and seeded randomness: the clock and entropy ports for simulations. Never for real keys."""

from __future__ import annotations

import random

import trio

from tallystick.channels.ports import Clock, Entropy

EPOCH = 1_750_000_000.0
"""Unix time at which simulations begin unless told otherwise (15 June 2025)."""


def virtual_clock(epoch: float = EPOCH) -> Clock:
    """Return a clock that says `epoch` plus trio's time, so that it advances with trio's MockClock."""

    def clock() -> float:
        return epoch + trio.current_time()

    return clock


class SteppedClock:
    """A virtual clock that can be put forward or back, as people, time servers and empty batteries do."""

    def __init__(self, epoch: float = EPOCH) -> None:
        self._clock = virtual_clock(epoch)
        self.off = 0.0
        """Seconds by which it is ahead of the true time."""

    def __call__(self) -> float:
        """Return what it shows."""
        return self._clock() + self.off

    def step(self, seconds: float) -> None:
        """Put it forward by so many seconds, or back."""
        self.off += seconds


def seeded_entropy(seed: int | str) -> Entropy:
    """Return an entropy source that gives the same bytes for the same seed, in every process.

    Give each node its own, with a seed such as `f"{seed}/alice"`: then one node's draws do not shift another's.
    """
    return random.Random(seed).randbytes
