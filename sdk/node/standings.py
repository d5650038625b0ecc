"""How others kept their word across chains: stored by each node, fading with time, bounded. Pure.

Whoever has a quote or an agreement has an option: it may wait and see, and walk away if the rate has turned out badly
for it. That cannot be told from bad luck in one case; it can in many. So a node notes of each peer, apart for what it
does as a maker and as a taker, how often its word was kept and how often it was not, and both fade: half of it counts
after a day. `excess` is what was not kept beyond a first time and beyond one in `KEPT_PER_FAULT` that were kept. A
maker with some is ranked as if it were that much dearer; from `EXCESS_MAX` on a peer is left out, until it has faded.

Keys cost nothing, so this bounds only whoever wants to be known. Amounts are no part of it: a fault is a fault.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from fractions import Fraction

import msgspec

from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Rows, at_most, find, table

HALF_LIFE = 86_400
"""Seconds after which what was noted counts half."""

KEPT_PER_FAULT = 4
"""So many words kept make up for one that was not."""

EXCESS_MAX = 8
"""Faults in excess from which on a peer is left out."""

DEARER_BY = Fraction(1, 10)
"""By so much of its price a maker is ranked dearer for each fault in excess."""

STANDINGS_MAX = 2_000
"""Peers of which something is kept, in each role; those of whom nothing was noted for longest go first."""

UNIT = 1_000_000
"""In what counts are kept, so that fading needs no fractions."""


class Role(enum.StrEnum):
    """What a peer did. The values stand in stores, and never change."""

    MAKER = "maker"
    TAKER = "taker"


class TradeStanding(msgspec.Struct, frozen=True):
    """What was noted of a peer in one role; both counts in millionths, as of `time`."""

    kept: int = 0
    broken: int = 0
    time: int = 0

    def at(self, now: int) -> TradeStanding:
        """Return what is left of it; a clock that went back fades nothing."""
        halves, rest = divmod(max(0, now - self.time), HALF_LIFE)

        def faded(count: int) -> int:
            count >>= min(halves, 64)
            return count - count * rest // (2 * HALF_LIFE)  # a line from the whole to its half

        return TradeStanding(faded(self.kept), faded(self.broken), max(now, self.time))

    def noted(self, now: int, *, kept: bool) -> TradeStanding:
        """Return it with one more word that was kept, or not."""
        left = self.at(now)
        return msgspec.structs.replace(left, kept=left.kept + UNIT * kept, broken=left.broken + UNIT * (not kept))

    def excess(self, now: int) -> Fraction:
        """Return the faults that nothing makes up for."""
        left = self.at(now)
        return max(Fraction(0), Fraction(left.broken - left.kept // KEPT_PER_FAULT, UNIT) - 1)

    def is_refused(self, now: int) -> bool:
        """Whether nothing more is agreed on with this peer."""
        return self.excess(now) >= EXCESS_MAX

    def factor(self, now: int) -> Fraction:
        """Return how many times its price a maker is ranked at."""
        return 1 + DEARER_BY * self.excess(now)


class WordNoted(Moment, frozen=True):
    """A peer kept its word in that role, or did not, at that time by this node's clock."""

    peer: bytes
    role: Role
    kept: bool
    now: int


_STANDINGS = table("standings", "role peer kept broken time", keys=2, learned=True)


def _noted(rows: Rows, moment: WordNoted) -> None:
    role, peer = moment.role.value, moment.peer
    known = rows.read(_STANDINGS.rows(role=role, peer=peer))
    if not known:
        [(count,)] = rows.read(_STANDINGS.groups(role=role))
        if count >= STANDINGS_MAX:
            [oldest] = rows.read(_STANDINGS.rows(columns="time", order=("time",), limit=1, role=role))
            rows.delete(_STANDINGS, at_most("time", oldest[0]), role=role)
    found = TradeStanding(*known[0][2:]) if known else TradeStanding(time=moment.now)
    told = found.noted(moment.now, kept=moment.kept)
    rows.put(_STANDINGS, role, peer, told.kept, told.broken, told.time)


STANDINGS = Subject("standings", (_STANDINGS,), {WordNoted: _noted})


def find_standing(store: Store, role: Role, peer: bytes) -> TradeStanding:
    """Return what was noted of a peer in a role."""
    row = find(store, _STANDINGS, role.value, peer)
    return TradeStanding(*row[2:]) if row else TradeStanding()


def load_standings(store: Store) -> Iterator[tuple[Role, bytes, TradeStanding]]:
    """Return all that was noted."""
    for role, peer, *counts in store.read(_STANDINGS.rows()):
        yield Role(role), peer, TradeStanding(*counts)
