"""Paid invoices as an async iterator: the disk is the buffer, so no reader can be too slow, and none is missed.

Claims are counted in the order of their commits (`InvoiceRecord.paid`). A program that stores the count of the last one
that it handled, together with what it did, and begins behind it when it starts again, handles each exactly once.
"""

from __future__ import annotations

from collections import deque

import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.storage.store import Store
from tallystick.router.receiving.issued import InvoiceRecord, paid_after

ROWS = 64
"""Invoices read from the disk at a time."""


class PaidJournal:
    """Reads what was claimed, and wakes those who wait for more."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.news = trio.Event()
        """What the next claim sets."""
        self._asked: dict[bytes, trio.Event] = {}

    def notify(self, payment_hash: bytes) -> None:
        """Say that an invoice was claimed, cancelled, or is held now, and that this is committed."""
        self.news.set()
        self.news = trio.Event()
        asked = self._asked.pop(payment_hash, None)
        if asked is not None:
            asked.set()

    async def news_of(self, payment_hash: bytes) -> None:
        """Wait for the next thing that happens to one invoice."""
        event = self._asked.setdefault(payment_hash, trio.Event())
        try:
            await event.wait()
        finally:
            if self._asked.get(payment_hash) is event and not event.statistics().tasks_waiting:
                del self._asked[payment_hash]

    def after(self, position: int) -> PaidInvoices:
        """Return an iterator over what was claimed behind a position; raise InvalidInput if it is none."""
        if not 0 <= position < 1 << 62:
            raise InvalidInput(
                f"{position} is no position: pass the `paid` of an invoice, or 0 to begin with the first"
            )
        return PaidInvoices(self, position)


class PaidInvoices:
    """An async iterator over paid invoices and keysends, for ever. It holds nothing open: just stop using it."""

    def __init__(self, journal: PaidJournal, position: int) -> None:
        self._journal = journal
        self._position = position
        self._waiting: deque[InvoiceRecord] = deque()

    def __aiter__(self) -> PaidInvoices:
        return self

    async def __anext__(self) -> InvoiceRecord:
        """Return the next one, once there is one."""
        while not self._waiting:
            await trio.lowlevel.checkpoint()
            news = self._journal.news
            if not self._fetch(ROWS):
                await news.wait()
        return self._waiting.popleft()

    def take(self, limit: int) -> list[InvoiceRecord]:
        """Return up to `limit` that are there now, without waiting."""
        if len(self._waiting) < limit:
            self._fetch(limit - len(self._waiting))
        return [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]

    def _fetch(self, limit: int) -> bool:
        rows = paid_after(self._journal.store, self._position, limit)
        self._waiting.extend(rows)
        if rows:
            self._position = rows[-1].paid
        return bool(rows)
