"""Who may stay: a bounded number of connections. One more ends that of whom it harms least. Sans-IO.

Nobody is refused for being new: when all places are taken, the address with the most of them gives one back, and of its
connections the one that has been there the longest, those first that have no channel under way. Whoever gets a funded
channel is a stranger no more and takes no place. So whoever floods from a few addresses drives out its own connections,
and silent ones keep nobody out.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable

import msgspec

from tallystick.channels.protocol.core import Channel, Phase


class Rank(enum.IntEnum):
    """What a peer is to us."""

    STRANGER = 0
    """It has no channel with us."""
    OPENING = 1
    """A channel was agreed, and is not funded yet."""
    PARTNER = 2
    """It has a funded channel with us, or else something that cost it."""


def rank_of(channels: Iterable[Channel]) -> Rank:
    """Return what a peer is to us with whom we have these channels."""
    found = Rank.STRANGER
    for channel in channels:
        if channel.phase is not Phase.GONE:
            if channel.phase is not Phase.OPENING or channel.deposits != (0, 0):
                return Rank.PARTNER
            found = Rank.OPENING
    return found


class Guest(msgspec.Struct, frozen=True, eq=False):
    """One connection."""

    source: str
    """The address that it comes from (`turns.source_of`)."""
    rank: Callable[[], Rank]
    end: Callable[[], None]
    """Ends the connection; it must not call back at once."""


class Guests:
    """The connections that take a place. Who ends by itself must `leave`."""

    def __init__(self, most: int, spared: Callable[[str], int] = lambda source: 0) -> None:
        """`most`: places; `spared`: how many of an address do not count when it is looked who has the most."""
        self._most = max(1, most)
        self._spared = spared
        self._places: dict[str, dict[Guest, None]] = {}
        """By address, the oldest first."""
        self._count = 0
        self.ended = 0
        """Connections that had to make room."""

    def __len__(self) -> int:
        """How many places are taken."""
        return self._count

    def holds(self, guest: Guest) -> bool:
        """Whether a connection has a place."""
        return guest in self._places.get(guest.source, {})

    def admit(self, guest: Guest) -> None:
        """Give a connection a place, and take one from another if there are too many."""
        self._places.setdefault(guest.source, {})[guest] = None
        self._count += 1
        while self._count > self._most:
            victim = self._least(guest)
            if victim is not None:
                self.leave(victim)
                self.ended += 1
                victim.end()

    def leave(self, guest: Guest) -> None:
        """Take the place of a connection back, if it has one."""
        mine = self._places.get(guest.source, {})
        if guest in mine:
            del mine[guest]
            self._count -= 1
            if not mine:
                del self._places[guest.source]

    def _least(self, newest: Guest) -> Guest | None:
        """Return who has to make room; None if a place was found that its holder needs no more."""
        greediest = max(self._places, key=lambda source: len(self._places[source]) - self._spared(source))
        opening = None
        for guest in self._places[greediest]:
            rank = guest.rank()
            if rank is Rank.PARTNER:
                self.leave(guest)
                return None
            if rank is Rank.STRANGER and guest is not newest:
                return guest
            opening = opening or guest
        return opening
