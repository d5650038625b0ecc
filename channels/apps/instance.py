"""One instance of an app as one of its players holds it: what was agreed, what we signed, how it ends. Frozen values.

`machine` says what changes it. Everything here is stored before anything that depends on it is sent, so that what a
player holds after any crash is all that it ever signed, as far as the other may have it:

    agreed, state     the newest state with both signatures: what the court is shown
    move              our own move on it, signed and not yet acknowledged: repeated, and brought to court if need be
    begun             signatures under state 0, while it has not both
    offer, closing    outcomes that we signed: what we offered by ourselves, and what the rules or the court say
    theirs            the outcome that the other offers
    outcome           the one that both signed
"""

from __future__ import annotations

import enum
from functools import lru_cache

import msgspec

from tallystick.channels.apps.interface import App, Paid
from tallystick.channels.apps.table import APPS
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.apps import (
    STATE_MAX,
    AppOutcome,
    AppState,
    AppTerms,
    InstanceId,
    OutcomeProof,
    SignedState,
    digest_outcome,
    digest_state,
    instance_id,
    stake_condition,
)
from tallystick.channels.protocol.keys import is_signed, keccak

NOTHING: Paid = (0, 0)
"""The outcome by which both stakes go back."""


class AppPhase(enum.IntEnum):
    """How far an instance is, as one player sees it. The numbers are stored, and never used for anything else."""

    PROPOSED = 1
    """Its terms were said; player 1 has not agreed, as far as we know."""
    AGREED = 2
    """Both want it: we have yet to lock our stake."""
    LOCKING = 3
    """Our stake is locked, or we have none: we wait until both are, by the signatures of both sides of a channel."""
    PLAYING = 4
    """We have signed state 0."""
    ENDING = 5
    """We have signed the outcome that ends it, and wait for the other's signature."""
    DISPUTED = 6
    """Our owner wants the chain's court to decide."""
    ENDED = 7
    """Nothing is signed any more, by us, but for what was decided."""


class OwnMove(msgspec.Struct, frozen=True):
    """A move that we signed. It may be on its way to the other player, or acknowledged to us any moment."""

    number: int
    """Of the state that follows."""
    before: bytes
    """The state that it is on."""
    move: bytes
    after: bytes
    """The state that follows."""
    signature: bytes
    """Ours, under the state that follows."""


class SignedOffer(msgspec.Struct, frozen=True, array_like=True):
    """An outcome that one player signed."""

    paid: tuple[int, int]
    signature: bytes


class AppInstance(msgspec.Struct, frozen=True, kw_only=True):
    """What a player holds of one instance: see the module's docstring."""

    terms: AppTerms
    player: int
    """Which one we are."""
    start: bytes
    """The first state."""
    phase: AppPhase = AppPhase.PROPOSED
    locked: tuple[bool, bool] = (False, False)
    """Whose stake is locked, by the signatures of both sides of its channel. Who has none needs none."""
    begun: tuple[bytes, bytes] = (b"", b"")
    """Signatures under state 0 by player, empty where there is none."""
    agreed: SignedState | None = None
    """The newest state of which we hold both signatures, None before there is one."""
    state: bytes = b""
    """Its bytes."""
    move: OwnMove | None = None
    """What we signed on that state and the other has not, as far as we know."""
    offer: SignedOffer | None = None
    """What we offered by ourselves: once, as it never lapses."""
    closing: SignedOffer | None = None
    """What we signed as the rules, or the court, say so."""
    theirs: SignedOffer | None = None
    """What the other offers."""
    outcome: OutcomeProof | None = None
    """Once both signed it."""
    paid: tuple[int, int] | None = None
    """What is paid of both stakes; None before that is sure."""
    text: str = ""
    """Why it came to nothing, for people."""

    @property
    def instance(self) -> InstanceId:
        """Its id."""
        return instance_id(self.terms)

    @property
    def app(self) -> App:
        """Its rules; raise InvalidInput if this program does not have them."""
        return rules_of(self.terms)

    @property
    def other(self) -> int:
        """Which player the other one is."""
        return 1 - self.player

    @property
    def newest(self) -> bytes:
        """The newest state that we signed, else the one that it would begin with."""
        if self.move is not None:
            return self.move.after
        return self.start if self.agreed is None else self.state

    @property
    def turn(self) -> int | None:
        """Which player moves in the newest state, None if that is final."""
        return turn_of(self.app, self.newest)

    @property
    def is_ours(self) -> bool:
        """Whether we may move now."""
        plays = self.phase in (AppPhase.PLAYING, AppPhase.DISPUTED) and self.agreed is not None
        return plays and self.move is None and self.turn == self.player

    @property
    def has_stake(self) -> bool:
        """Whether we stake anything."""
        return self.terms.stakes[self.player] > 0

    @property
    def both_locked(self) -> bool:
        """Whether nobody has yet to lock a stake."""
        return all(locked or not stake for locked, stake in zip(self.locked, self.terms.stakes, strict=True))

    def stake(self, player: int) -> bytes:
        """Return the condition of a player's stake."""
        return stake_condition(self.instance, player)

    def digest(self, number: int, state: bytes) -> bytes:
        """Return what is signed for a state, by its bytes."""
        return digest_state(self.terms, AppState(self.instance, number, keccak(state)))

    def digest_paid(self, paid: Paid) -> bytes:
        """Return what is signed for an outcome."""
        return digest_outcome(self.terms, AppOutcome(self.instance, paid))

    def is_theirs(self, digest: bytes, signature: bytes) -> bool:
        """Whether the other player signed that."""
        return is_signed(digest, signature, self.terms.players[self.other])

    def in_order(self, ours: bytes, theirs: bytes) -> tuple[bytes, bytes]:
        """Return our signature and the other's in order of player."""
        return (ours, theirs) if self.player == 0 else (theirs, ours)

    def with_agreed(self, number: int, state: bytes, signatures: tuple[bytes, bytes]) -> AppInstance:
        """Return it with a newer state that both signed."""
        move = self.move if self.move is not None and self.move.number > number else None
        agreed = SignedState(AppState(self.instance, number, keccak(state)), signatures)
        return msgspec.structs.replace(self, agreed=agreed, state=state, move=move, begun=(b"", b""))

    def with_outcome(self, paid: Paid, ours: bytes, theirs: bytes) -> AppInstance:
        """Return it ended by an outcome that both signed."""
        proof = OutcomeProof(self.terms, paid, self.in_order(ours, theirs))
        return msgspec.structs.replace(self, phase=AppPhase.ENDED, outcome=proof, paid=paid)


def rules_of(terms: AppTerms) -> App:
    """Return the rules that terms name; raise InvalidInput if this program does not have them."""
    app = APPS.find(terms.app)
    if app is None:
        raise InvalidInput(f"this program does not have the rules {terms.app.hex()}: register the app before it starts")
    return app


@lru_cache(maxsize=4096)
def turn_of(app: App, state: bytes) -> int | None:
    """Return which player moves, None if the state is final: rules are pure, and this is asked again and again."""
    return app.turn(state)


def require_sensible(app: App, state: bytes, terms: AppTerms) -> None:
    """Raise InvalidInput unless the court would let a state stand (`settlement.contract.court`)."""
    try:
        ends = turn_of(app, state) is None
        paid = app.outcome(state, terms.stakes) if ends else app.forfeit(state, terms.stakes)
        due = 0 if ends else app.due(state)
    except Exception as error:  # rules of anybody's: they must not stop a node
        raise InvalidInput(f"the rules of {app.name} make no sense of this state: {error}") from error
    fits = len(paid) == 2 and all(0 <= one <= stake for one, stake in zip(paid, terms.stakes, strict=True))
    if not fits or due < 0 or len(state) > STATE_MAX:
        raise InvalidInput(f"the rules of {app.name} say of this state what no court would take")


def follow(held: AppInstance, before: bytes, move: bytes, by: int) -> bytes:
    """Return the state that a move leads to; raise InvalidInput if the rules forbid it, or the court would."""
    app = held.app
    try:
        after = app.valid(before, move, by, held.instance)
    except InvalidInput:
        raise
    except Exception as error:  # as above
        raise InvalidInput(f"the rules of {app.name} make no sense of this move: {error}") from error
    require_sensible(app, after, held.terms)
    return after
