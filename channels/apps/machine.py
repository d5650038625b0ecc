"""What an instance does when something happens to it: an input, and the next state with what is to be sent and told.

    propose, hear ──▶ PROPOSED ─yes─▶ AGREED ─our stake─▶ LOCKING ─both stakes─▶ PLAYING ─final─▶ ENDING ──▶ ENDED
                                                                        └──the owner──▶ DISPUTED ──court──▶ ENDED

`process` is pure: it raises and nothing has happened, InvalidInput for what our own side asks, InvalidUpdate for what
the other says; or it returns a `AppStep`. Whoever calls it stores the state, then sends, then tells (docs/apps.md).

- A number is signed once: a state's by who moves there, and by the other once the rules allow it.
- Before a state 0 is signed, both stakes are locked, and there is time left to bring it to court.
- Of outcomes, a player offers one by itself, which never lapses. Player 0 signs no other one but what the rules say of
  a final state that both signed; and from when a player has signed a final state, it signs nothing else. So no two
  different outcomes ever have both signatures, though both may be offered at once.
- In what is repeated after a reconnect offers come first, so that nobody goes on from what it could have known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from tallystick.channels.apps.inputs import (
    Agree,
    AppEnv,
    AppInput,
    AppStep,
    CourtDecided,
    LinkBack,
    MakeMove,
    OfferOutcome,
    Proven,
    Resign,
    StakeLocked,
    StakeQueued,
    StakeReturned,
    TakeOffer,
    TakeToCourt,
    Withdraw,
)
from tallystick.channels.apps.instance import (
    NOTHING,
    AppInstance,
    AppPhase,
    OwnMove,
    SignedOffer,
    follow,
    require_sensible,
    rules_of,
    turn_of,
)
from tallystick.channels.apps.interface import Paid
from tallystick.channels.errors import Fault, InvalidInput, InvalidUpdate
from tallystick.channels.limits import ERROR_TEXT_MAX
from tallystick.channels.protocol.app_court import AppStands, check_court
from tallystick.channels.protocol.app_messages import (
    AppAnswer,
    AppMessage,
    AppMove,
    AppOffer,
    AppProposal,
    AppSigned,
)
from tallystick.channels.protocol.apps import MOVE_MAX, AppState, AppTerms, OutcomeProof, SignedState
from tallystick.channels.protocol.keys import keccak

BEFORE = (AppPhase.PROPOSED, AppPhase.AGREED, AppPhase.LOCKING)
"""Phases in which we have not signed state 0."""
OPEN = (AppPhase.PLAYING, AppPhase.DISPUTED)


# --- beginning --------------------------------------------------------------------------------------------------


def propose(terms: AppTerms, start: bytes, env: AppEnv) -> AppStep:
    """Propose an instance as player 0; raise InvalidInput if it makes no sense."""
    if terms.players[0] != env.key.address:
        raise InvalidInput("who proposes is player 0")
    return AppStep(_new(terms, start, 0, env), (AppProposal(terms, start),))


def hear(proposal: AppProposal, env: AppEnv) -> AppInstance:
    """Return what the other proposes, as player 1; raise InvalidInput if nobody here would play that."""
    if proposal.terms.players[1] != env.key.address:
        raise InvalidInput("who is asked is player 1")
    return _new(proposal.terms, proposal.state, 1, env)


def _new(terms: AppTerms, start: bytes, player: int, env: AppEnv) -> AppInstance:
    app = rules_of(terms)
    if keccak(start) != terms.start:
        raise InvalidInput("this is not the first state that the terms name")
    if env.late(terms):
        raise InvalidInput(f"the stakes would expire too soon: at least {env.margin} s are needed")
    try:
        app.check(start, terms.stakes, terms.expiry)
        check_court(terms, app.moves_most)
    except InvalidInput:
        raise
    except Exception as error:  # rules of anybody's: they must not stop a node
        raise InvalidInput(f"the rules of {app.name} make no sense of this: {error}") from error
    require_sensible(app, start, terms)
    return AppInstance(terms=terms, player=player, start=start)


# --- the machine ------------------------------------------------------------------------------------------------


def process(held: AppInstance, happened: AppInput, env: AppEnv) -> AppStep:
    """Return what follows of one input: see the module's docstring."""
    return HANDLERS[type(happened)](held, happened, env)


def _towards(held: AppInstance, happened: Agree | StakeQueued | StakeLocked, env: AppEnv) -> AppStep:
    """Come nearer to the beginning."""
    messages: tuple[AppMessage, ...] = ()
    if isinstance(happened, Agree):
        if held.phase is not AppPhase.PROPOSED or held.player == 0:
            raise InvalidInput("only what another proposed can be agreed to, once")
        if env.late(held.terms):
            raise InvalidInput(f"the stakes would expire too soon: at least {env.margin} s are needed")
        held = replace(held, phase=AppPhase.AGREED)
        messages = (AppAnswer(held.instance, True),)
    elif isinstance(happened, StakeQueued):
        if held.phase is not AppPhase.AGREED:
            raise InvalidInput("a stake is locked once, after both have agreed")
        if env.late(held.terms):
            raise InvalidInput("it is too late to lock a stake")
        held = replace(held, phase=AppPhase.LOCKING)
    else:
        locked = (happened.there, held.locked[1]) if happened.player == 0 else (held.locked[0], happened.there)
        held = replace(held, locked=locked)
        if happened.there and happened.player == held.other and (held.phase, held.player) == (AppPhase.PROPOSED, 0):
            held = replace(held, phase=AppPhase.AGREED)  # as good as the yes, which was lost
    begun = _begin(held, env)
    return AppStep(begun.held, (*messages, *begun.messages))


def _begin(held: AppInstance, env: AppEnv) -> AppStep:
    """Sign state 0 if both stakes are locked, and there is time."""
    if held.phase is not AppPhase.LOCKING or not held.both_locked or env.late(held.terms):
        return AppStep(held)
    ours = env.key.sign(held.digest(0, held.start))
    theirs = held.begun[held.other]
    said = AppSigned(held.instance, 0, held.terms.start, ours)
    held = replace(held, phase=AppPhase.PLAYING, begun=held.in_order(ours, theirs))
    return _with_both(held, (said,), env)


def _with_both(held: AppInstance, messages: tuple[AppMessage, ...], env: AppEnv) -> AppStep:
    """Let it begin, if both signatures are there."""
    if not all(held.begun):
        return AppStep(held, messages)
    return _agreed(held, 0, held.start, held.begun, messages, env)


def _agreed(
    held: AppInstance,
    number: int,
    state: bytes,
    signatures: tuple[bytes, bytes],
    messages: tuple[AppMessage, ...],
    env: AppEnv,
) -> AppStep:
    """Both have signed a newer state: if it is final, sign what the rules say of it, and take it if that is offered."""
    held = held.with_agreed(number, state, signatures)
    app = held.app
    if turn_of(app, state) is not None:
        return AppStep(held, messages)
    return _close(held, app.outcome(state, held.terms.stakes), messages, env)


def _close(held: AppInstance, paid: Paid, messages: tuple[AppMessage, ...], env: AppEnv) -> AppStep:
    """Sign what was decided without us."""
    ours = env.key.sign(held.digest_paid(paid))
    messages = (*messages, AppOffer(held.instance, paid, ours))
    if held.theirs is not None and held.theirs.paid == paid:
        return AppStep(held.with_outcome(paid, ours, held.theirs.signature), messages)
    phase = held.phase if held.phase in (AppPhase.DISPUTED, AppPhase.ENDED) else AppPhase.ENDING
    return AppStep(replace(held, phase=phase, closing=SignedOffer(paid, ours)), messages)


# --- what our own side asks -------------------------------------------------------------------------------------


def _move(held: AppInstance, move: bytes, env: AppEnv) -> AppStep:
    agreed = held.agreed
    if held.phase not in OPEN or agreed is None:
        raise InvalidInput(f"nobody moves in an app that is {held.phase.name.lower()}")
    if held.move is not None:
        raise InvalidInput(f"our move to state {held.move.number} was signed and is not acknowledged: wait for that")
    if len(move) > MOVE_MAX:
        raise InvalidInput(f"a move has at most {MOVE_MAX} bytes")
    number = agreed.state.number + 1
    after = follow(held, held.state, move, held.player)
    signature = env.key.sign(held.digest(number, after))
    held = replace(held, move=OwnMove(number, held.state, move, after, signature))
    return AppStep(held, (AppMove(held.instance, number, move, signature),))


def _withdraw(held: AppInstance, text: str, env: AppEnv) -> AppStep:
    """Sign no state 0 any more. What was not agreed yet is only said; else both sign that nothing is paid."""
    if held.phase not in BEFORE:
        raise InvalidInput("it has begun, as we have signed state 0: offer an outcome instead")
    if held.phase is AppPhase.PROPOSED:
        answer = AppAnswer(held.instance, False, text[: ERROR_TEXT_MAX // 4])
        return AppStep(replace(held, phase=AppPhase.ENDED, paid=NOTHING, text=text), (answer,))
    return _give_up(held, text, env)


def _returned(held: AppInstance, text: str, env: AppEnv) -> AppStep:
    """Our stake came back before both had begun: sign that nothing is paid.

    That is safe even if we have signed state 0. Nothing of ours is locked: whoever begins now can only lose its own.
    """
    if held.phase in (AppPhase.AGREED, AppPhase.LOCKING, AppPhase.PLAYING) and held.agreed is None:
        return _give_up(held, text, env)
    return AppStep(held)


def _give_up(held: AppInstance, text: str, env: AppEnv) -> AppStep:
    ours = env.key.sign(held.digest_paid(NOTHING))
    if held.theirs is not None and held.theirs.paid == NOTHING:
        return _ended_by(replace(held, text=text), held.theirs, env)
    held = replace(held, phase=AppPhase.ENDING, closing=SignedOffer(NOTHING, ours), text=text)
    return AppStep(held, (AppOffer(held.instance, NOTHING, ours),))


def _offer(held: AppInstance, paid: Paid, env: AppEnv) -> AppStep:
    if held.phase not in OPEN or held.agreed is None:
        raise InvalidInput("an outcome is offered once it has begun: withdraw before")
    if held.turn is None:
        raise InvalidInput("of a final state only what the rules say is signed")
    if held.offer is not None:
        raise InvalidInput(f"we offered {held.offer.paid}, which never lapses: nothing else can be offered")
    if not all(0 <= one <= stake for one, stake in zip(paid, held.terms.stakes, strict=True)):
        raise InvalidInput(f"an outcome pays from 0 to all of each stake: at most {held.terms.stakes}")
    ours = env.key.sign(held.digest_paid(paid))
    said = (AppOffer(held.instance, paid, ours),)
    if held.theirs is not None and held.theirs.paid == paid:
        return AppStep(held.with_outcome(paid, ours, held.theirs.signature), said)
    return AppStep(replace(held, offer=SignedOffer(paid, ours)), said)


def _take(held: AppInstance, env: AppEnv) -> AppStep:
    if held.theirs is None or held.phase not in OPEN:
        raise InvalidInput("the other offers nothing that could be taken now")
    if not _may_take(held, held.theirs.paid):
        raise InvalidInput(f"we cannot take {held.theirs.paid}: we offered another outcome, or the rules have decided")
    return _ended_by(held, held.theirs, env)


def _may_take(held: AppInstance, paid: Paid) -> bool:
    """Whether two outcomes could not come to have both signatures if we sign that one."""
    if held.turn is None:
        return False
    return held.player == 1 or held.offer is None or held.offer.paid == paid


def _ended_by(held: AppInstance, theirs: SignedOffer, env: AppEnv) -> AppStep:
    """Sign what the other offers."""
    ours = env.key.sign(held.digest_paid(theirs.paid))
    ended = held.with_outcome(theirs.paid, ours, theirs.signature)
    return AppStep(ended, (AppOffer(held.instance, theirs.paid, ours),))


def _resign(held: AppInstance, env: AppEnv) -> AppStep:
    if not held.is_ours:
        raise InvalidInput("only whose turn it is can resign: offer an outcome instead")
    return _offer(held, held.app.forfeit(held.state, held.terms.stakes), env)


def _dispute(held: AppInstance) -> AppStep:
    if held.agreed is None or held.phase not in (*OPEN, AppPhase.ENDING):
        raise InvalidInput("there is nothing that the court could decide: no state has both signatures, or it is over")
    return AppStep(replace(held, phase=AppPhase.DISPUTED))


# --- what the other says ----------------------------------------------------------------------------------------


def _on_answer(held: AppInstance, answer: AppAnswer) -> AppStep:
    if answer.agrees:
        if held.player == 1:
            raise InvalidUpdate("player 0 has nothing to agree to", Fault.REFUSED)
        if held.phase is AppPhase.ENDED and held.agreed is None:
            return AppStep(held, (AppAnswer(held.instance, False, held.text[: ERROR_TEXT_MAX // 4]),))
        return AppStep(replace(held, phase=AppPhase.AGREED) if held.phase is AppPhase.PROPOSED else held)
    if held.phase is AppPhase.PROPOSED or (held.player == 1 and held.phase in BEFORE):
        return AppStep(replace(held, phase=AppPhase.ENDED, paid=NOTHING, text=answer.text))
    return AppStep(held)  # of an instance that it has forgotten, as nothing of it is open


def _on_signed(held: AppInstance, said: AppSigned, env: AppEnv) -> AppStep:
    if held.phase is AppPhase.ENDED:
        return AppStep(held)
    own, agreed = held.move, held.agreed
    if said.number == 0:
        if said.state != held.terms.start or not held.is_theirs(held.digest(0, held.start), said.signature):
            raise InvalidUpdate("state 0 is another one, or is not signed by the other player", Fault.BAD_SIGNATURE)
        if agreed is not None or held.begun[held.other]:
            return AppStep(held)
        ours = held.begun[held.player]
        return _with_both(replace(held, begun=held.in_order(ours, said.signature)), (), env)
    if own is not None and said.number == own.number:
        signature = said.signature
        if said.state != keccak(own.after) or not held.is_theirs(held.digest(own.number, own.after), signature):
            raise InvalidUpdate(f"this does not acknowledge our move to state {own.number}", Fault.BAD_SIGNATURE)
        return _agreed(held, own.number, own.after, held.in_order(own.signature, signature), (), env)
    if agreed is not None and said.number <= agreed.state.number:
        return AppStep(held)
    raise InvalidUpdate(f"we made no move to state {said.number}", Fault.WRONG_SEQ)


def _on_move(held: AppInstance, number: int, move: bytes, signature: bytes, env: AppEnv) -> AppStep:
    """Take a move of the other's: on the newest state that both signed, or on our own move, which accepts that."""
    if held.phase is AppPhase.ENDED:
        return AppStep(held)
    agreed = held.agreed
    if agreed is None:
        raise InvalidUpdate("nobody moves before both have signed state 0", Fault.WRONG_PHASE)
    if number <= agreed.state.number:
        return AppStep(held, (_acknowledged(held, agreed),) if number == agreed.state.number else ())
    before, base = (held.state, agreed.state.number) if held.move is None else (held.move.after, held.move.number)
    if number != base + 1:
        raise InvalidUpdate(f"the next state has number {base + 1}, not {number}", Fault.WRONG_SEQ)
    try:
        after = follow(held, before, move, held.other)
    except InvalidInput as error:
        raise InvalidUpdate(f"this move to state {number} is not allowed: {error}", Fault.REFUSED) from error
    digest = held.digest(number, after)
    if not held.is_theirs(digest, signature):
        raise InvalidUpdate(f"the move to state {number} is not signed by whose it is", Fault.BAD_SIGNATURE)
    ours = env.key.sign(digest)
    said = AppSigned(held.instance, number, keccak(after), ours)
    return _agreed(held, number, after, held.in_order(ours, signature), (said,), env)


def _on_offer(held: AppInstance, theirs: SignedOffer, env: AppEnv) -> AppStep:
    if held.outcome is not None:
        return AppStep(held)
    within = all(0 <= one <= stake for one, stake in zip(theirs.paid, held.terms.stakes, strict=True))
    if not within or not held.is_theirs(held.digest_paid(theirs.paid), theirs.signature):
        raise InvalidUpdate("this outcome pays more than was staked, or the other did not sign it", Fault.BAD_SIGNATURE)
    for ours in (held.offer, held.closing):
        if ours is not None and ours.paid == theirs.paid:
            return AppStep(held.with_outcome(ours.paid, ours.signature, theirs.signature))
    if held.phase is AppPhase.ENDED:
        unsigned = held.agreed is None and not held.begun[held.player] and theirs.paid == NOTHING
        return _ended_by(held, theirs, env) if unsigned else AppStep(held)
    held = replace(held, theirs=theirs)
    if held.agreed is None:  # it has not begun for us: nothing is better, for both
        return _ended_by(held, theirs, env) if theirs.paid == NOTHING else AppStep(held)
    resigned = held.turn == held.other and theirs.paid == held.app.forfeit(held.newest, held.terms.stakes)
    if resigned and held.phase in OPEN and _may_take(held, theirs.paid):
        return _ended_by(held, theirs, env)
    return AppStep(held)


def _acknowledged(held: AppInstance, agreed: SignedState) -> AppSigned:
    return AppSigned(held.instance, agreed.state.number, agreed.state.state, agreed.signatures[held.player])


def _repeated(held: AppInstance) -> tuple[AppMessage, ...]:
    """Return what the other may not have."""
    instance, found = held.instance, list[AppMessage]()
    if held.outcome is not None:
        return (AppOffer(instance, held.outcome.paid, held.outcome.signatures[held.player]),)
    if held.phase is AppPhase.PROPOSED and held.player == 0:
        found.append(AppProposal(held.terms, held.start))
    if held.phase in (AppPhase.AGREED, AppPhase.LOCKING) and held.player == 1:
        found.append(AppAnswer(instance, True))
    if held.offer is not None:
        found.append(AppOffer(instance, *msgspec.structs.astuple(held.offer)))
    if held.agreed is not None:
        found.append(_acknowledged(held, held.agreed))
    elif held.begun[held.player]:
        found.append(AppSigned(instance, 0, held.terms.start, held.begun[held.player]))
    if held.move is not None:
        found.append(AppMove(instance, held.move.number, held.move.move, held.move.signature))
    if held.closing is not None:
        found.append(AppOffer(instance, *msgspec.structs.astuple(held.closing)))
    return tuple(found)


# --- what the chain shows ---------------------------------------------------------------------------------------


def _on_court(held: AppInstance, stands: AppStands, env: AppEnv) -> AppStep:
    """Take what the other told the court alone: its signature under our move, or a move of its own."""
    if held.phase is AppPhase.ENDED or stands.instance != held.instance:
        return AppStep(held)
    newest = -1 if held.agreed is None else held.agreed.state.number
    if stands.number <= newest:
        return AppStep(held)
    signatures = (stands.signature0, stands.signature1)
    if stands.is_agreed:
        state = SignedState(AppState(held.instance, stands.number, keccak(stands.state)), signatures)
        if not state.holds(held.terms):
            return AppStep(held)
        phase = AppPhase.PLAYING if held.phase in BEFORE else held.phase
        return _agreed(replace(held, phase=phase), stands.number, stands.state, signatures, (), env)
    signature = signatures[held.other]
    if not signature:
        return AppStep(held)  # our own move
    try:
        return _on_move(held, stands.number, stands.move, signature, env)
    except InvalidUpdate:
        return AppStep(held)  # it stands on something older: the court is shown the newer one


def _decided(held: AppInstance, paid: Paid, env: AppEnv) -> AppStep:
    """What is decided for ever is signed too, so that no channel has to close for it."""
    if held.phase is AppPhase.ENDED:
        return AppStep(held)
    held = replace(held, phase=AppPhase.ENDED, paid=paid)
    return _close(held, paid, (), env) if held.agreed is not None else AppStep(held)


def _proven(held: AppInstance, outcome: OutcomeProof) -> AppStep:
    if held.outcome is not None or outcome.terms != held.terms or not outcome.holds():
        return AppStep(held)
    return AppStep(replace(held, phase=AppPhase.ENDED, outcome=outcome, paid=outcome.paid))


HANDLERS: dict[type, Callable[[AppInstance, Any, AppEnv], AppStep]] = {
    Agree: _towards,
    StakeQueued: _towards,
    StakeLocked: _towards,
    Withdraw: lambda held, asked, env: _withdraw(held, asked.text, env),
    StakeReturned: lambda held, told, env: _returned(held, told.text, env),
    MakeMove: lambda held, asked, env: _move(held, asked.move, env),
    OfferOutcome: lambda held, asked, env: _offer(held, asked.paid, env),
    TakeOffer: lambda held, _, env: _take(held, env),
    Resign: lambda held, _, env: _resign(held, env),
    TakeToCourt: lambda held, *_: _dispute(held),
    LinkBack: lambda held, *_: AppStep(held, _repeated(held)),
    AppProposal: lambda held, *_: AppStep(held),  # what we answered to it is repeated with the link
    AppAnswer: lambda held, said, _: _on_answer(held, said),
    AppMove: lambda held, said, env: _on_move(held, said.number, said.move, said.signature, env),
    AppSigned: _on_signed,
    AppOffer: lambda held, said, env: _on_offer(held, SignedOffer(said.paid, said.signature), env),
    AppStands: _on_court,
    CourtDecided: lambda held, told, env: _decided(held, told.paid, env),
    Proven: lambda held, told, _: _proven(held, told.outcome),
}
"""Who answers to what."""
