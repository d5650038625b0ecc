"""What a unit of gas costs, as far as a chain node can be believed: no single answer is the market."""

from __future__ import annotations

from collections import deque
from statistics import median_low

from tallystick.settlement.chain import Chain

ANSWERS = 3
"""Answers of which the middle one counts: a single lie changes nothing."""

REMEMBERED = 64
"""Answers that are remembered: of one block each, so some minutes."""


class Market:
    """The price of gas on one chain, asked for now and then."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._answers: deque[int] = deque(maxlen=REMEMBERED)

    @property
    def price(self) -> int | None:
        """In the native coin's smallest unit, None before the first answer."""
        return median_low(list(self._answers)[-ANSWERS:]) if self._answers else None

    @property
    def lowest(self) -> int | None:
        """The lowest of all that are remembered: what is worth this is worth a try, which costs nothing if it fails."""
        return min(self._answers, default=None)

    async def ask(self) -> None:
        """Ask once. Raise ChainUnavailable or ChainError: then the answers before stand."""
        self._answers.append(await self._chain.fee_price())
