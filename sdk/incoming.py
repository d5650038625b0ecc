"""Received payments as an async iterator over the journal: the disk is the buffer, so no reader can be too slow.

A cursor is `<position>.<index>`: the journal row of the update and the payment's place in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.messages import Update, decode
from tallystick.channels.objects import ChannelId
from tallystick.channels.operations import Pay
from tallystick.channels.schema import Journaled, received_after
from tallystick.channels.store import Store

ROWS = 64
"""Updates read from the journal at a time."""


class IncomingPayment(msgspec.Struct, frozen=True):
    """One payment that a peer made to us, agreed by both and durable."""

    channel: ChannelId
    payment: int
    """Its number within the peer's simplex: (channel, payment) names it for ever."""
    amount: int
    memo: bytes
    time: float
    """When its update arrived, Unix seconds."""
    cursor: str


class Journal:
    """Reads received payments and wakes those who wait for more."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._news = trio.Event()

    def notify(self) -> None:
        """Say that payments were committed."""
        self._news.set()
        self._news = trio.Event()

    def newest(self) -> str:
        """Return the cursor of the newest payment."""
        return f"{self._store.read('SELECT coalesce(max(position), 0) FROM received')[0][0]}.{2**32}"

    async def payments(self, after: str, channel: ChannelId | None) -> AsyncIterator[IncomingPayment]:
        """Yield payments behind the cursor `after` for ever; raise InvalidInput if it is none."""
        position, skip = _parse(after)
        while True:
            news = self._news
            rows = received_after(self._store, position - 1 if skip else position, ROWS, channel)
            progress = False
            for row in rows:
                first = skip if row.position == position else 0
                for index, payment in enumerate(_payments_in(row)):
                    if index >= first:
                        progress = True
                        yield payment
                position, skip = row.position, 0
            if not progress and len(rows) < ROWS:
                await news.wait()


def _parse(cursor: str) -> tuple[int, int]:
    """Return (position, how many payments of that row were handled)."""
    if not cursor:
        return 0, 0
    position, dot, index = cursor.partition(".")
    if not (dot and position.isascii() and position.isdigit() and index.isascii() and index.isdigit()):
        raise InvalidInput(f"{cursor!r} is no cursor: pass one that an incoming payment carried, or nothing")
    return int(position), int(index)


def _payments_in(row: Journaled) -> list[IncomingPayment]:
    update = decode(row.frame)
    found: list[IncomingPayment] = []
    if isinstance(update, Update):
        for run in update.operations:
            if isinstance(run, Pay):
                for offset, amount in enumerate(run.amounts):
                    memo = run.memos[offset] if run.memos else b""
                    cursor = f"{row.position}.{len(found) + 1}"
                    found.append(IncomingPayment(row.channel, run.first + offset, amount, memo, row.time, cursor))
    return found
