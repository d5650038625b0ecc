"""All that can happen to an instance of an app, and what follows of it: the inputs of `machine`, on one page.

Owner   Agree, Withdraw, MakeMove, OfferOutcome, TakeOffer, Resign, TakeToCourt
Stakes  StakeQueued, StakeLocked, StakeReturned
Peer    what is in `protocol.app_messages`, LinkBack
Chain   AppStands (something is in court), CourtDecided, Proven
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec

from tallystick.channels.apps.instance import AppInstance
from tallystick.channels.protocol.app_court import AppStands
from tallystick.channels.protocol.app_messages import AppMessage
from tallystick.channels.protocol.apps import AppTerms, OutcomeProof
from tallystick.channels.protocol.keys import PrivateKey


class AppEnv(NamedTuple):
    """What a step may know besides."""

    key: PrivateKey
    """Ours."""
    now: int
    """Chain time."""
    margin: int
    """Seconds before the expiry within which nothing begins: so long it may take to have the court hear of it."""

    def late(self, terms: AppTerms) -> bool:
        """Whether it is too late to begin."""
        return self.now + self.margin > terms.expiry


# --- inputs -----------------------------------------------------------------------------------------------------


class Agree(msgspec.Struct, frozen=True):
    """Our owner says yes to what the other proposed."""


class Withdraw(msgspec.Struct, frozen=True):
    """Our owner, or what stands in the way of our stake, says no before we have signed anything."""

    text: str = ""


class StakeQueued(msgspec.Struct, frozen=True):
    """Our stake's lock is being signed, in this very commit; or we have no stake."""


class StakeLocked(msgspec.Struct, frozen=True):
    """A fitting lock that is a player's stake has the signatures of both sides of its channel, or has it no more."""

    player: int
    there: bool = True


class StakeReturned(msgspec.Struct, frozen=True):
    """Our stake is agreed gone, unpaid, in every channel, and is not sent again."""

    text: str = ""


class MakeMove(msgspec.Struct, frozen=True):
    """Move, if it is our turn."""

    move: bytes


class OfferOutcome(msgspec.Struct, frozen=True):
    """Offer to end it so: to give this player's stake, and that one's. It never lapses."""

    paid: tuple[int, int]


class TakeOffer(msgspec.Struct, frozen=True):
    """End it as the other offers."""


class Resign(msgspec.Struct, frozen=True):
    """Offer what the rules say if we do not move any more. It must be our turn."""


class TakeToCourt(msgspec.Struct, frozen=True):
    """Let the court decide."""


class LinkBack(msgspec.Struct, frozen=True):
    """The other is connected: say again what it may not have."""


class CourtDecided(msgspec.Struct, frozen=True):
    """The chain has decided, for ever; or nobody went there before the stakes went back, which pays nothing."""

    paid: tuple[int, int]


class Proven(msgspec.Struct, frozen=True):
    """An outcome that both signed was found: under an unlock, or in court."""

    outcome: OutcomeProof


AppInput: TypeAlias = (
    Agree
    | Withdraw
    | StakeQueued
    | StakeLocked
    | StakeReturned
    | MakeMove
    | OfferOutcome
    | TakeOffer
    | Resign
    | TakeToCourt
    | LinkBack
    | CourtDecided
    | Proven
    | AppStands
    | AppMessage
)


class AppStep(NamedTuple):
    """What follows: store `held` if it has changed, then send, then tell that it has."""

    held: AppInstance
    messages: tuple[AppMessage, ...] = ()
