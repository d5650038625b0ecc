"""What is brought to the court of a chain about an app's instance, and what that tells (docs/apps.md, "In court").

They are calls and an event as those in `settlement.chain`, and stand here because a player makes and reads them.
"""

from __future__ import annotations

import msgspec

from tallystick.channels.protocol.apps import AppTerms


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
