"""No onion is processed for two locks, across restarts too: who repeats an old packet learns nothing from the answer.

An onion is known by a tag of the secret that it shares with us, and belongs to the lock that it came with. After a
crash the same lock is processed again, with the same onion; the same onion in another lock is refused. The record is a
moment, for the commit of the decision about the lock: nothing is answered that would not be remembered.

A tag is kept until its lock has expired. After that the packet is stale by itself: the expiry inside it has passed.
Memory is bounded without anything being forgotten early: one channel may use as much of it as it leaves free, so who
floods a node with locks blocks its own channel first, and there is room for the others. (That is the dynamic threshold
by which switches share their buffers: Choudhury and Hahne, 1998.)
Source: BOLT 4, "Replay Protection".
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable

from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Rows, below, table
from tallystick.router.codes import Code
from tallystick.router.errors import InvalidOnion
from tallystick.router.onion.sphinx import derive

REMEMBERED_MAX = 1_000_000
"""Onions of unexpired locks that are remembered; each takes about 300 bytes of memory."""

TAG_SIZE = 16

_TIME_MAX = 2**63 - 1


class OnionSeen(Moment, frozen=True):
    """A lock's onion was opened; what it asked for is decided in the same commit."""

    tag: bytes
    channel: ChannelId
    lock: int
    expiry: int


class OnionsForgotten(Moment, frozen=True):
    """Every lock that expired before this time is past: so are their onions."""

    before: int


_ONIONS = table("onions", "tag channel lock expiry")


def _seen(rows: Rows, moment: OnionSeen) -> None:
    rows.put(_ONIONS, moment.tag, moment.channel, moment.lock, moment.expiry)


def _forgotten(rows: Rows, moment: OnionsForgotten) -> None:
    rows.delete(_ONIONS, below("expiry", moment.before))


ONIONS = Subject("onions", (_ONIONS,), {OnionSeen: _seen, OnionsForgotten: _forgotten})


def load_onions(store: Store) -> list[OnionSeen]:
    """Return the onions that are remembered."""
    return [OnionSeen(*row) for row in store.read(_ONIONS.rows())]


class Replays:
    """The onions that came. Every change of it is a moment that the caller has to commit."""

    def __init__(self, remembered: Iterable[OnionSeen] = (), limit: int = REMEMBERED_MAX) -> None:
        """Begin with what the store remembers (`load_onions`)."""
        self._limit = limit
        self._seen: dict[bytes, OnionSeen] = {}
        self._counts: Counter[ChannelId] = Counter()
        self._expiries: list[tuple[int, bytes]] = []
        for moment in remembered:
            self._remember(moment)

    def __len__(self) -> int:
        return len(self._seen)

    def __repr__(self) -> str:
        return f"<Replays remembered={len(self)} limit={self._limit}>"

    def check(self, secret: bytes, channel: ChannelId, lock: int, expiry: int) -> OnionSeen | None:
        """Return the moment to commit with what is decided about this lock; None if it was recorded before.

        `secret` is what the onion shares with us (`Peeled.secret`); `expiry` the lock's, which the caller has found to
        be no earlier than the one in the payload. Raise InvalidOnion if the onion came with another lock, or if the
        channel uses up more memory than it leaves free.
        """
        tag = derive(b"seen", secret)[:TAG_SIZE]
        if before := self._seen.get(tag):
            if (before.channel, before.lock) != (channel, lock):
                text = "this onion came before, with another lock; an onion serves once"
                raise InvalidOnion(text, Code.INVALID_ONION_HMAC, secret)
            return None
        if self._counts[channel] >= self._limit - len(self):
            text = f"{self._counts[channel]} onions of this channel are remembered; the next waits until locks expire"
            raise InvalidOnion(text, Code.TEMPORARY_NODE_FAILURE, secret)
        moment = OnionSeen(tag, channel, lock, min(expiry, _TIME_MAX))
        self._remember(moment)
        return moment

    def prune(self, now: int) -> OnionsForgotten | None:
        """Forget the onions of locks that expired before `now` (chain time); return the moment, None if none did."""
        forgotten = False
        while self._expiries and self._expiries[0][0] < now:
            moment = self._seen.pop(heapq.heappop(self._expiries)[1])
            self._counts[moment.channel] -= 1
            if not self._counts[moment.channel]:
                del self._counts[moment.channel]
            forgotten = True
        return OnionsForgotten(now) if forgotten else None

    def _remember(self, moment: OnionSeen) -> None:
        self._seen[moment.tag] = moment
        self._counts[moment.channel] += 1
        heapq.heappush(self._expiries, (moment.expiry, moment.tag))
