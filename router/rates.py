"""How much of something per second: a token bucket that is told the time. Pure."""

from __future__ import annotations


class TokenBucket:
    """Holds up to `burst` tokens, gains `rate` of them per second, and starts full."""

    __slots__ = ("_at", "burst", "level", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self.level = float(burst)
        """Tokens at the time of the last call; below 0 after a `charge` beyond what there was."""
        self._at = now

    def settle(self, now: float) -> float:
        """Return the tokens that are there now. Time that runs backwards gives none and takes none."""
        self.level = min(self.burst, self.level + max(0.0, now - self._at) * self.rate)
        self._at = now
        return self.level

    def take(self, cost: float, now: float) -> bool:
        """Take `cost` tokens if there are as many; return whether there were."""
        if self.settle(now) < cost:
            return False
        self.level -= cost
        return True

    def charge(self, cost: float, now: float) -> None:
        """Take `cost` tokens whether they are there or not, down to an empty bucket's debt of one burst."""
        self.level = max(-self.burst, self.settle(now) - cost)

    def __repr__(self) -> str:
        return f"<TokenBucket {self.level:g} of {self.burst:g}>"
