"""What a session knows of the chain: its time, and the secrets that it registered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from tallystick.channels.protocol.objects import Lock, Puzzle
from tallystick.channels.values.discretion import Discreet

LEAD = 3_600
"""Seconds that the head may be ahead of the newest confirmed block for its time to be taken at its word."""

MARGIN = 30
"""Seconds of confirmed chain time after a lock's expiry before its writer cancels it, and after the court's decision
before it unlocks by that: the peer sees it, too."""


class StakeInCourt(NamedTuple):
    """What the chain's court says of a stake in an app: a lock of kind 1 (docs/apps.md)."""

    expiry: int
    """Of the instance's terms."""
    decides: int
    """Block time from which on it is decided, if nothing follows."""
    paid: int
    """What goes to the other player then."""

    def counts_for(self, lock: Lock) -> bool:
        """Whether it decides this lock: one that expires before the terms goes back to its sender."""
        return self.expiry <= lock.expiry

    def is_decided(self, time: int) -> bool:
        """Whether it is decided in a block of that time."""
        return time >= self.decides


class ChainTime(Discreet, msgspec.Struct, frozen=True):
    """What time the chain says it is, and which of the proofs that matter here it registered (confirmed)."""

    now: int = 0
    """Of the head."""
    final: int = 0
    """Of the newest confirmed block: what is before it does not change."""
    proofs: Mapping[Puzzle, tuple[int, bytes]] = {}
    """Puzzle of a pending lock to (block time, what an unlock carries: of a stream, the deepest link)."""

    stakes: Mapping[Puzzle, StakeInCourt] = {}
    """What the court knows of pending stakes in apps (confirmed)."""

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
        stake = self.stakes.get(lock.puzzle)
        if found is None:
            return None
        in_time = stake.counts_for(lock) if stake is not None else found[0] <= lock.expiry
        return found[1] if in_time else None

    def given_in_court(self, lock: Lock, margin: int = 0) -> int | None:
        """Return how much of a lock the court gave to its receiver, for ever; None: it had not decided that, as it was
        certain `margin` seconds ago.

        What was registered alone does not say it: of a virtual channel it may be balances, and newer ones may follow.
        """
        stake = self.stakes.get(lock.puzzle)
        if stake is None or not stake.counts_for(lock) or not stake.is_decided(self.final - margin):
            return None
        return min(stake.paid, lock.amount)

    def went_back(self, lock: Lock, margin: int = 0) -> bool:
        """Whether it is certain, and was `margin` seconds ago, that nothing of a lock is paid.

        A stake in an app does not while its instance is in court, nor if the court gave something of it away.
        """
        stake = self.stakes.get(lock.puzzle)
        if stake is not None and stake.counts_for(lock):
            return stake.paid == 0 and stake.is_decided(self.final - margin)
        return lock.expiry + margin < self.final
