"""Which blocks' logs to ask for at once, where every node has limits of its own and tells them in its own words. Pure.

Nodes limit a range by blocks, by logs, by bytes or by time, and say so in texts that change. So none is read: whatever
a node says against a range of more than one block, half of it is asked for. What worked is doubled after a while. Where
a contract is so busy that an answer is long, less is asked for at once, too: it bounds what is held.
"""

from __future__ import annotations

import msgspec

GROW_AFTER = 4
"""Ranges that were answered in a row until a longer one is tried."""

LOGS_MANY = 2_000
"""Logs that are enough for one answer, and for a piece of history."""


class RangePlan(msgspec.Struct, frozen=True):
    """How many blocks to ask for at once now."""

    size: int
    most: int
    answered: int = 0

    def taken(self, logs: int = 0) -> RangePlan:
        """Return the plan after a range of this size was answered, with so many logs."""
        if logs > LOGS_MANY:
            return self.refused()
        if self.answered + 1 < GROW_AFTER:
            return msgspec.structs.replace(self, answered=self.answered + 1)
        return RangePlan(min(self.most, 2 * self.size), self.most)

    def refused(self) -> RangePlan:
        """Return the plan after it was refused."""
        return RangePlan(max(1, self.size // 2), self.most)


def begin(most: int) -> RangePlan:
    """Return the plan that begins with the longest range."""
    return RangePlan(max(1, most), max(1, most))


def next_range(plan: RangePlan, first: int, last: int) -> tuple[int, int] | None:
    """Return the next range within `first` to `last`, both included; None if nothing is left."""
    return (first, min(last, first + plan.size - 1)) if first <= last else None
