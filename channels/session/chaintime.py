"""What a session knows of the chain: its time, and the secrets that it registered."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tallystick.channels.protocol.conditions import HASH, STREAM
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.values.discretion import Discreet

LEAD = 3_600
"""Seconds that the head may be ahead of the newest confirmed block for its time to be taken at its word."""


class ChainTime(Discreet, msgspec.Struct, frozen=True):
    """What time the chain says it is, and what it registered (confirmed) of the secrets that matter here."""

    now: int = 0
    """Of the head."""
    final: int = 0
    """Of the newest confirmed block: what is before it does not change."""
    secrets: Mapping[bytes, tuple[int, bytes]] = {}
    """Condition of a pending lock to (block time, secret); of a stream, to its deepest link as an unlock carries it."""

    @property
    def sure(self) -> int:
        """The head's time as far as what is confirmed bears it out: by what we set dates.

        One block of a chain node that lies may be years ahead, and a lock that is made then would bind coins for as
        long. Whether a date has passed is another question: there, to believe a lie is the smaller harm.
        """
        return min(self.now, self.final + LEAD) if self.final else self.now

    def registered_in_time(self, lock: Lock) -> bytes | None:
        """Return the secret, or the proof of a stream, if the chain registered it by the lock's expiry."""
        found = self.secrets.get(lock.condition)
        return found[1] if found and lock.kind in (HASH, STREAM) and found[0] <= lock.expiry else None
