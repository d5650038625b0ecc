"""How many appointments a tower keeps for whom: bounded in all, fair by address, and kept for as long as was promised.

A receipt promises TERM: an appointment is kept for so long after the receipt's time, whatever else asks for room. So
a flood can push nothing out; it is refused instead. An address may hold at most a sixteenth of what is still free: one
that floods gets less and less, and leaves room to others, so that somebody new is always let in. What was not renewed
within the term is dropped when room is short, the oldest first, from the address with the most. Clients renew in time.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from tallystick.channels.protocol.keys import keccak
from tallystick.channels.storage.store import Store
from tallystick.channels.transport.rates import Paces
from tallystick.watchtower.schema import (
    AppointmentsDropped,
    count_appointments,
    count_sources,
    count_timely,
    oldest_of_largest_source,
)

TERM = 30 * 86_400
"""Seconds for which a receipt promises that an appointment is kept, at least."""

RENEW = 10 * 86_400
"""Age in seconds of a receipt at which a client uploads an appointment anew."""

APPOINTMENTS_MAX = 1_000_000
"""Appointments of all clients together: each takes about 1,500 bytes on disk, or 4,600 with many claims."""

SHARE = 16
"""An address may hold what is free divided by this."""

TIMELY_MAX = 16_384
"""Appointments of all clients together that say what is to be registered by a time; an address gets its share."""

NEW_RATE = 2.0
"""New appointments that are taken from one address per second, in the long run."""

NEW_BURST = 1_000.0
"""The same, at once."""

SHORT = 0.9
"""Part of APPOINTMENTS_MAX from which on what is beyond its term is dropped."""

DROPPED_AT_ONCE = 1_000
"""Appointments that are dropped in one go."""

LOOK_EVERY = 60.0
"""Seconds between two looks at what is beyond its term, and at how many there are in all."""


class AppointmentQuota:
    """Decides who may leave a new appointment. Times in seconds of the tower's clock."""

    def __init__(self, store: Store, secret: bytes, most: int, new_rate: float, new_burst: float) -> None:
        """`secret` hides the addresses that are remembered with appointments from who reads the disk alone."""
        self._store = store
        self._secret = secret
        self._most = most
        self._new = Paces(1 / new_rate, new_burst)
        self._total = 0
        self._counted = -math.inf

    def mark(self, source: str) -> bytes:
        """Return what is stored of an address: 16 bytes by which it is known again."""
        return keccak(b"tallystick/tower/source/1" + self._secret + source.encode())[:16]

    def refusal(self, source: str, now: float, coming: int = 0) -> str | None:
        """Return why no new appointment is taken from that address now; None if one is, which counts as taken.

        `coming`: new ones from there that are on their way to the disk.
        """
        if not self._counted <= now < self._counted + LOOK_EVERY:
            self._total, self._counted = count_appointments(self._store), now
            self._new.sweep(now)
        free = max(0, self._most - self._total)
        held = count_sources(self._store, self.mark(source)) + coming
        if held >= max(1, free // SHARE) or not free:
            return f"the tower keeps {held} appointments from your address, and has no room for more from there"
        if not self._new.take(source, now):
            return "the tower takes new appointments of one address at a limited rate: try again in a minute"
        self._total += 1
        return None

    def timely_refusal(self, source: str, coming: int = 0, others: int = 0) -> str | None:
        """Return why nothing more is taken from that address that must be registered by a time; None if it is.

        `coming`: those from there that are on their way to the disk; `others`: all of them.
        """
        free = max(0, TIMELY_MAX - count_timely(self._store) - others)
        held = count_timely(self._store, self.mark(source)) + coming
        if not free or held >= max(1, free // SHARE):
            return f"the tower registers locks for {held} appointments from your address already; send this one without"
        return None

    def overdue(self, now: float, kept: Collection[bytes]) -> AppointmentsDropped | None:
        """Return what to drop because room is short: beyond its term, and not with one of the `kept` locators."""
        if self._total < SHORT * self._most:
            return None
        found = oldest_of_largest_source(self._store, int(now) - TERM, DROPPED_AT_ONCE)
        names = tuple((client, locator) for client, locator in found if locator not in kept)
        self._total -= len(names)
        return AppointmentsDropped(names) if names else None
