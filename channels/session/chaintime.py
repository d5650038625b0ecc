"""What a session knows of the chain: its time, and the secrets that it registered."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tallystick.channels.protocol.objects import Lock, Puzzle
from tallystick.channels.values.discretion import Discreet

LEAD = 3_600
"""Seconds that the head may be ahead of the newest confirmed block for its time to be taken at its word."""


class ChainTime(Discreet, msgspec.Struct, frozen=True):
    """What time the chain says it is, and which of the proofs that matter here it registered (confirmed)."""

    now: int = 0
    """Of the head."""
    final: int = 0
    """Of the newest confirmed block: what is before it does not change."""
    proofs: Mapping[Puzzle, tuple[int, bytes]] = {}
    """Puzzle of a pending lock to (block time, what an unlock carries: of a stream, the deepest link)."""

    @property
    def sure(self) -> int:
        """The head's time as far as what is confirmed bears it out: by what we set dates.

        One block of a chain node that lies may be years ahead, and a lock that is made then would bind coins for as
        long. Whether a date has passed is another question: there, to believe a lie is the smaller harm.
        """
        return min(self.now, self.final + LEAD) if self.final else self.now

    def registered_in_time(self, lock: Lock) -> bytes | None:
        """Return what the chain registered by the lock's expiry to have it paid, None if there is nothing."""
        found = self.proofs.get(lock.puzzle)
        return found[1] if found and found[0] <= lock.expiry else None
