"""Received payments as an async iterator over the journal: the disk is the buffer, so no reader can be too slow.

A cursor is `<position>.<index>`: the journal row of the update and the payment's place in it. If payments behind a
cursor were pruned, its reader gets `HistoryGone` instead of missing them silently. Who wants what is left begins behind
the cursor `oldest`; as long as a reader has not passed what was pruned then, its cursors say that it knows of it
(`<position>.<index>~<position>.<index>`). Behind `newest` there is only what comes from now on.
"""

from __future__ import annotations

from collections import deque

import msgspec
import trio

from tallystick.channels.errors import HistoryGone, InvalidInput
from tallystick.channels.protocol.messages import Update, decode
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.protocol.operations import Pay
from tallystick.channels.storage.schema import Journaled, Pruned, last_received, pruned_of, received_after
from tallystick.channels.storage.store import Store

OLDEST, NEWEST = "oldest", "newest"
"""Cursors before everything that is left, and behind everything that is there."""

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
        self.news = trio.Event()
        """What the next commit of payments sets."""

    def notify(self) -> None:
        """Say that payments were committed."""
        self.news.set()
        self.news = trio.Event()

    def newest(self) -> str:
        """Return the cursor of the newest payment."""
        return f"{last_received(self._store)}.{2**32}"

    def payments(self, after: str, channel: ChannelId | None) -> ReceivedPayments:
        """Return an iterator over the payments behind the cursor `after`; raise InvalidInput if it is none."""
        if after == OLDEST:
            return ReceivedPayments(self, channel, 0, 0, pruned_of(self._store, channel))
        place, _, known = (self.newest() if after == NEWEST else after).partition("~")
        return ReceivedPayments(self, channel, *_parse(place), Pruned(*_parse(known)))

    def rows(self, position: int, skip: int, channel: ChannelId | None, known: Pruned) -> list[Journaled]:
        """Return the updates from `position` on if `skip` of its payments were handled, else (0: all) those behind it.

        Raise HistoryGone if payments that should come next were pruned, unless the reader has `known` that.
        """
        after = position - 1 if skip else position
        pruned = pruned_of(self._store, channel)
        while True:
            rows = received_after(self._store, after, ROWS, channel)
            before, pruned = pruned, pruned_of(self._store, channel)
            if before == pruned:  # so it was when the rows were read
                break
        if pruned > max(known, Pruned(position, skip) if skip else Pruned(position, 2**63)):
            raise HistoryGone(
                f"payments behind the cursor {position}.{skip} were pruned: begin behind the cursor {OLDEST!r} for "
                f"what is left, or {NEWEST!r} for what comes from now on; the channel's balance counts them all"
            )
        return rows


class ReceivedPayments:
    """An async iterator over received payments, for ever. It holds nothing open: just stop using it."""

    def __init__(self, journal: Journal, channel: ChannelId | None, position: int, skip: int, known: Pruned) -> None:
        self._journal = journal
        self._channel = channel
        self._position = position
        self._skip = skip
        """How many payments of the row at `position` were handled before; 0: all of it."""
        self._known = known
        """What the reader knows to be pruned, though it would come next."""
        self._waiting: deque[IncomingPayment] = deque()

    def __aiter__(self) -> ReceivedPayments:
        return self

    async def __anext__(self) -> IncomingPayment:
        """Return the next payment, once there is one."""
        while not self._waiting:
            await trio.lowlevel.checkpoint()
            news = self._journal.news
            if not self._fetch():
                await news.wait()
        return self._waiting.popleft()

    def take(self, limit: int) -> list[IncomingPayment]:
        """Return up to `limit` payments that are there now, without waiting."""
        while len(self._waiting) < limit and self._fetch():
            pass
        return [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]

    def _fetch(self) -> bool:
        """Read on in the journal; return whether there was anything behind the position."""
        handled, first = self._position, self._skip
        rows = self._journal.rows(handled, first, self._channel, self._known)
        for row in rows:
            known = self._known if self._known.position > row.position else Pruned()
            self._waiting.extend(_payments_in(row, known)[first if row.position == handled else 0 :])
            self._position, self._skip = row.position, 0
        return bool(rows)


def _parse(cursor: str) -> tuple[int, int]:
    """Return (position, how many payments of that row were handled)."""
    if not cursor:
        return 0, 0
    position, dot, index = cursor.partition(".")
    if not (dot and all(part.isascii() and part.isdigit() and len(part) < 19 for part in (position, index))):
        raise InvalidInput(f"{cursor!r} is no cursor: pass one that an incoming payment carried, or nothing")
    return int(position), int(index)


def _payments_in(row: Journaled, known: Pruned) -> list[IncomingPayment]:
    suffix = f"~{known.position}.{known.payments}" if known.position else ""
    update = decode(row.frame)
    found: list[IncomingPayment] = []
    if isinstance(update, Update):
        for run in update.operations:
            if isinstance(run, Pay):
                for offset, amount in enumerate(run.amounts):
                    memo = run.memos[offset] if run.memos else b""
                    cursor = f"{row.position}.{len(found) + 1}{suffix}"
                    found.append(IncomingPayment(row.channel, run.first + offset, amount, memo, row.time, cursor))
    return found
