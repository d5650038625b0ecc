"""How long payments took, in little memory: millions of them, of which a run shares one latency."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any


class Latencies:
    """Latencies in seconds."""

    def __init__(self) -> None:
        self._singles = array("d")
        self._runs: list[tuple[float, int]] = []
        self.one = self._singles.append
        """Add the latency of one payment."""

    def run(self, seconds: float, count: int) -> None:
        """Add `count` payments that took so long, each."""
        self._runs.append((seconds, count))

    def __len__(self) -> int:
        return len(self._singles) + sum(count for _, count in self._runs)

    def percentile(self, percent: int) -> float:
        """Return the latency that so many percent of the payments stay below; 0 if there are none."""
        left = len(self) * percent // 100
        for seconds, count in self._ordered():
            left -= count
            if left < 0:
                return seconds
        return 0.0

    def _ordered(self) -> Iterator[tuple[float, int]]:
        if self._runs:
            yield from sorted([*self._runs, *((seconds, 1) for seconds in self._singles)])
        else:
            for seconds in sorted(self._singles):
                yield seconds, 1


def timing(latencies: Latencies, seconds: float) -> dict[str, Any]:
    """Return count, rate and percentiles (milliseconds) of payments that took `seconds` in all."""
    count = len(latencies)
    return {
        "count": count,
        "seconds": seconds,
        "per_second": count / seconds if seconds else 0.0,
        "p50_ms": 1e3 * latencies.percentile(50),
        "p99_ms": 1e3 * latencies.percentile(99),
    }
