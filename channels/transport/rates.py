"""How much of something per second: token buckets that are told the time. Pure."""

from __future__ import annotations

from collections.abc import Hashable


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


class Paces:
    """How often each of many things may change: a bucket for each that has changed lately."""

    def __init__(self, every: float, burst: float) -> None:
        """Allow a change per `every` seconds in the long run, and `burst` of them at once."""
        self._rate = 1 / every
        self._burst = burst
        self._buckets: dict[Hashable, TokenBucket] = {}

    def __len__(self) -> int:
        """How many things have changed lately."""
        return len(self._buckets)

    def ready(self, item: Hashable, now: float) -> bool:
        """Whether it may change now."""
        bucket = self._buckets.get(item)
        return bucket is None or bucket.settle(now) >= 1

    def take(self, item: Hashable, now: float) -> bool:
        """Count a change, if it may change now; return whether it may."""
        if item not in self._buckets:
            self._buckets[item] = TokenBucket(self._rate, self._burst, now)
        return self._buckets[item].take(1, now)

    def sweep(self, now: float) -> None:
        """Forget what has not changed for so long that all is allowed again."""
        for item in [item for item, bucket in self._buckets.items() if bucket.settle(now) >= bucket.burst]:
            del self._buckets[item]
