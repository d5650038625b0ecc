"""What gas costs, from what a chain node says again and again: no single answer is the market."""

from __future__ import annotations

import statistics
from collections import deque

PRICES_KEPT = 64
"""Answers that are remembered: of one block each, so some minutes."""

RECENT = 5
"""Answers that the market's price is the median of."""


class Prices:
    """The last prices of a unit of gas that were heard."""

    def __init__(self) -> None:
        self._heard: deque[int] = deque(maxlen=PRICES_KEPT)

    def hear(self, price: int) -> None:
        """Take in what the chain node says now."""
        self._heard.append(price)

    @property
    def market(self) -> int | None:
        """The median of the last answers, None if there was none."""
        return statistics.median_low(list(self._heard)[-RECENT:]) if self._heard else None

    @property
    def lowest(self) -> int | None:
        """The lowest of all that are remembered. What is worth this is worth a try: it costs nothing if it fails."""
        return min(self._heard, default=None)
