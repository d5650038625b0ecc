"""What a pending transaction should offer: fees that rise along a curve and reach the budget in time.

Fee prices are in the native coin's smallest unit per unit of gas, and integers throughout. A transaction starts at
the market's price; as its window passes, its offer rises with the square of the time waited, and reaches what its
budget allows when 60 % of the window is over. Without a deadline, blocks waited take the place of time.
"""

from __future__ import annotations

BUMP = 4
"""A replacement offers at least a BUMP-th more (chain nodes ask for a tenth to an eighth)."""

FULL_AT = (6, 10)
"""The part of the window after which the whole budget is offered."""


def bumped(price: int) -> int:
    """Return the least offer that replaces one of `price`."""
    return price + price // BUMP + 1


def curve(market: int, cap: int, elapsed: int, window: int) -> int:
    """Return the offer after `elapsed` of `window` (both in seconds or both in blocks): from `market` up to `cap`."""
    start = min(market, cap)
    rising = max(1, window * FULL_AT[0] // FULL_AT[1])
    waited = min(max(elapsed, 0), rising)
    return start + (cap - start) * waited * waited // (rising * rising)


def next_price(current: int | None, want: int, cap: int) -> int | None:
    """Return the price of the next attempt, or None to leave the `current` one (None: there is none yet) standing.

    Never strands just below `cap`: where no further replacement would fit under it, the offer is `cap` at once.
    """
    want = min(want, cap)
    if current is not None and (want <= current or want < min(bumped(current), cap) or bumped(current) > cap):
        return None
    return cap if bumped(want) > cap else want
