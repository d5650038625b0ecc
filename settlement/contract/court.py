"""The court: what each call does to an instance of an app on chain (docs/apps.md, "In court"), as pure rules.

`apply` takes what the court keeps of an instance and a call, and returns what it keeps from then on, or raises
`Reverted` and nothing has happened. Anybody may call:

| call            | if the court does not know the instance | if it does, up to `until`                              |
| --------------- | --------------------------------------- | ------------------------------------------------------ |
| register state  | up to the terms' expiry                 | a number above the newest that both signed             |
| move            |                                         | on the state that stands, signed by whose turn it is   |
| outcome         | up to the terms' expiry                 | any that both signed: it decides                       |

With each state that comes to stand the rules of the app are asked what is paid if nothing follows, `outcome` of a final
state and `forfeit` of any other, and that is kept: when `until` is past it is decided, and nobody has to say so. So
whoever passes stakes on needs to know nothing of the app, and no decision waits for a transaction. `until` is never
later than `COURT_MOST` seconds after the terms' expiry, so that it comes, whatever the players go on to sign.

The rules of an app are asked about whatever two players signed. What they make no sense of is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from tallystick.channels.apps.interface import App, InvalidMove, Paid
from tallystick.channels.errors import InvalidInput, InvalidSignature
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.app_court import COURT_MOST, AppStands, CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.apps import (
    MOVE_MAX,
    STATE_MAX,
    AppState,
    AppTerms,
    OutcomeProof,
    digest_state,
    instance_id,
)
from tallystick.channels.protocol.keys import keccak
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.ethereum.signatures import verify_signer

CourtCall: TypeAlias = RegisterStateCall | CourtMoveCall
Apps: TypeAlias = Callable[[bytes], App | None]
"""Finds the rules of an app by its id."""


class CourtRecord(msgspec.Struct, frozen=True):
    """What the court keeps of an instance."""

    expiry: int
    """Of its terms: it counts for no lock that expires before."""
    until: int
    """The last block time at which it takes anything; 0 once an outcome has decided."""
    paid: Paid
    """What is paid of each stake if nothing follows."""
    agreed: int = 0
    """The newest number that both players signed."""
    number: int = 0
    """Of the state that stands: above `agreed` after moves in court."""
    state: bytes = bytes(32)
    """keccak of the state that stands."""


def apply(
    record: CourtRecord | None, call: CourtCall, time: int, apps: Apps, verify: Callable[..., None] = verify_signer
) -> tuple[CourtRecord, AppStands]:
    """Carry a call out in a block of `time`; return what is kept from then on, and what is told. Raise Reverted."""
    if len(call.state) > STATE_MAX:
        raise Reverted(Revert.BAD_PROOF, f"a state has at most {STATE_MAX} bytes")
    app = apps(call.terms.app)
    if app is None:
        raise Reverted(Revert.UNKNOWN_ENTRY, f"no rules are known here for the app {call.terms.app.hex()}")
    if isinstance(call, RegisterStateCall):
        return _register(record, call, time, app, verify)
    return _move(record, call, time, app, verify)


def decided(record: CourtRecord | None, proof: OutcomeProof, time: int) -> CourtRecord:
    """Return what is kept of an instance after an outcome that both players signed; raise Reverted if it is too late.

    The caller has looked at the signatures.
    """
    _check_time(record, proof.terms, time)
    return CourtRecord(expiry=proof.terms.expiry, until=0, paid=proof.paid)


def _register(
    record: CourtRecord | None, call: RegisterStateCall, time: int, app: App, verify: Callable[..., None]
) -> tuple[CourtRecord, AppStands]:
    _check_time(record, call.terms, time)
    if record is not None and call.number <= record.agreed:
        raise Reverted(Revert.NOT_NEWER, f"state {record.agreed} that both signed is known, {call.number} is no newer")
    for player, signature in enumerate(call.signatures):
        _check_signature(call.terms, call.number, call.state, player, signature, verify)
    stands = _standing(call.number, call.number, call.state, time, call.terms, app)
    return stands, _told(stands, call.terms, call.state, b"", call.signatures, time)


def _move(
    record: CourtRecord | None, call: CourtMoveCall, time: int, app: App, verify: Callable[..., None]
) -> tuple[CourtRecord, AppStands]:
    if record is None:
        raise Reverted(Revert.UNKNOWN_ENTRY, "the court does not know this instance: register a state first")
    _check_time(record, call.terms, time)
    if keccak(call.state) != record.state or record.number == UINT64_MAX:
        raise Reverted(Revert.NOT_NEWER, "the move is on another state than the one that stands")
    if len(call.move) > MOVE_MAX:
        raise Reverted(Revert.BAD_PROOF, f"a move has at most {MOVE_MAX} bytes")
    mover, after = _moved(app, call)
    _check_signature(call.terms, record.number + 1, after, mover, call.signature, verify)
    stands = _standing(record.agreed, record.number + 1, after, time, call.terms, app)
    signatures = (call.signature, b"") if mover == 0 else (b"", call.signature)
    return stands, _told(stands, call.terms, after, call.move, signatures, time)


def _moved(app: App, call: CourtMoveCall) -> tuple[int, bytes]:
    """Return who moves, and the state that follows."""
    try:
        mover = app.turn(call.state)
        after = app.valid(call.state, call.move, mover, instance_id(call.terms)) if mover is not None else b""
    except InvalidMove as error:
        raise Reverted(Revert.NOT_ALLOWED, f"the rules of {app.name} forbid this move: {error}") from error
    except (MemoryError, RecursionError):  # of this machine, not of the rules: elsewhere they may be allowed
        raise
    except Exception as error:
        raise _senseless(app) from error
    if mover is None:
        raise Reverted(Revert.NOT_ALLOWED, "the state that stands is final: nobody moves")
    if mover not in (0, 1) or len(after) > STATE_MAX:
        raise _senseless(app)
    return mover, after


def _standing(agreed: int, number: int, state: bytes, time: int, terms: AppTerms, app: App) -> CourtRecord:
    """Return what is kept while a state stands: what is paid if nothing follows, and until when something may."""
    try:
        ends = app.turn(state) is None
        paid = app.outcome(state, terms.stakes) if ends else app.forfeit(state, terms.stakes)
        due = 0 if ends else app.due(state)
        fits = len(paid) == 2 and all(0 <= one <= stake for one, stake in zip(paid, terms.stakes, strict=True))
    except (MemoryError, RecursionError):  # of this machine, not of the rules: elsewhere they may be allowed
        raise
    except Exception as error:  # two players may sign whatever they like; it must not stop a ledger
        raise _senseless(app) from error
    if not fits or due < 0:
        raise _senseless(app)
    until = min(max(time + terms.period, min(due, terms.expiry)), terms.expiry + COURT_MOST, UINT64_MAX)
    return CourtRecord(terms.expiry, until, (paid[0], paid[1]), agreed, number, keccak(state))


def _senseless(app: App) -> Reverted:
    return Reverted(Revert.BAD_PROOF, f"the rules of {app.name} make no sense of this state")


def _told(
    stands: CourtRecord, terms: AppTerms, state: bytes, move: bytes, signatures: tuple[bytes, bytes], time: int
) -> AppStands:
    return AppStands(
        instance_id(terms), stands.number, state, move, *signatures, stands.expiry, stands.until, *stands.paid, time
    )


def _check_time(record: CourtRecord | None, terms: AppTerms, time: int) -> None:
    if record is None and time > terms.expiry:
        raise Reverted(Revert.EXPIRED, f"the court took this instance up until {terms.expiry}: its stakes went back")
    if record is not None and time > record.until:
        raise Reverted(Revert.WINDOW_OVER, "this instance is decided, for ever")


def _check_signature(
    terms: AppTerms, number: int, state: bytes, player: int, signature: bytes, verify: Callable[..., None]
) -> None:
    digest = digest_state(terms, AppState(instance_id(terms), number, keccak(state)))
    try:
        verify(digest, signature, terms.players[player])
    except InvalidSignature as error:
        raise Reverted(Revert.BAD_SIGNATURE, f"player {player} has not signed state {number}: {error}") from error


def read_outcome(proof: bytes) -> OutcomeProof:
    """Return the outcome that a proof tells; raise Reverted if it is none that both players signed."""
    try:
        outcome = OutcomeProof.decode(proof)
    except InvalidInput as error:
        raise Reverted(Revert.BAD_PROOF, str(error)) from error
    if not outcome.holds():
        raise Reverted(Revert.BAD_SIGNATURE, "the outcome pays more than was staked, or not both players signed it")
    return outcome


def pack(record: CourtRecord, player: int) -> int:
    """Return what is kept of a player's stake."""
    return pack_stake(record.expiry, record.until, record.paid[player])


def pack_stake(expiry: int, until: int, paid: int) -> int:
    """Return what is kept of a stake: 64 bits each of `expiry` and `until`, then 128 of what is paid of it."""
    return (expiry << 64 | until) << 128 | paid


def unpack(kept: int) -> tuple[int, int, int]:
    """Return `expiry`, `until`, and what is paid of a stake, out of what is kept of it: zeros if nothing is."""
    return kept >> 192, kept >> 128 & UINT64_MAX, kept & AMOUNT_MAX
