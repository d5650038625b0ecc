"""What is brought to the court of a chain about an app's instance, and what that tells (docs/apps.md, "In court").

They are calls and an event as those in `settlement.chain`, and stand here because a player makes and reads them.

The court decides at `COURT_MOST` seconds after the terms' expiry at the latest, whatever is still brought to it. Else
two players could hold the coins of all who stand between them, by one state after the other that both sign. The court
leaves to the players that a dispute between them fits in: whoever agrees to terms asks `check_court` first.
"""

from __future__ import annotations

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.apps import AppTerms

COURT_MOST = 30 * 86_400
"""Seconds after the expiry of an instance's terms at which the court decides it at the latest."""


def court_seconds(moves_most: int, period: int) -> int:
    """Return for how long after the expiry a dispute can last against a player that answers within a period each time.

    The other player may bring one older state after the other, each at the end of somebody's time, and each
    has to be answered and moved on anew: all told nine calls for two moves, as `tests/test_court_time.py` finds, which
    plays all of it.
    """
    return 5 * (moves_most + 2) * period


def check_court(terms: AppTerms, moves_most: int) -> None:
    """Raise InvalidInput unless every dispute about an app of so many moves fits in the time that the court has."""
    if court_seconds(moves_most, terms.period) > COURT_MOST:
        most = COURT_MOST // court_seconds(moves_most, 1)
        raise InvalidInput(
            f"a period of {terms.period} seconds is too long for an app of up to {moves_most} moves: the court decides "
            f"{COURT_MOST} seconds after the expiry at the latest, so take at most {most}"
        )


class AppStands(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """A state of an app's instance stands in court since the block time `time`: after `until` it decides."""

    instance: bytes
    number: int
    state: bytes
    move: bytes
    """What led to it, if it was made in court; else empty."""
    signature0: bytes
    signature1: bytes
    """Of the players under the state: of both if it was registered, of whose move it was if it was made in court."""
    expiry: int
    """Of the terms: it counts for no lock that expires before."""
    until: int
    paid0: int
    """What player 1 gets of player 0's stake, if nothing follows."""
    paid1: int
    time: int

    @property
    def is_agreed(self) -> bool:
        """Whether both players signed it."""
        return bool(self.signature0 and self.signature1)


class RegisterStateCall(msgspec.Struct, frozen=True, array_like=True, tag=17):
    """Bring a state of an app's instance to court, which both players signed (docs/apps.md)."""

    terms: AppTerms
    number: int
    state: bytes
    signatures: tuple[bytes, bytes]


class CourtMoveCall(msgspec.Struct, frozen=True, array_like=True, tag=18):
    """Make a move on the state that stands in court, with the mover's signature under the state that follows."""

    terms: AppTerms
    state: bytes
    """The one that stands."""
    move: bytes
    signature: bytes
