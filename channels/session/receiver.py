"""Taking in a peer's updates: what is refused, what is left aside until it is right, what is accepted. Sans-IO.

    refused     what can never become right: a fault, nothing has changed
    left aside  what may become right with time: the channel is frozen here, or a lock is cancelled that our confirmed
                chain does not see expired yet, or unlocked by what the court has not said there yet; the peer is asked
                to repeat it by another greeting
    accepted    it is countersigned at the end of the round, with everything else that came (`session`)

On top of `session`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tallystick.channels.errors import Fault
from tallystick.channels.protocol import answers, core
from tallystick.channels.protocol.conditions import BY_COURT, is_judged, worth
from tallystick.channels.protocol.eip712 import digest_proof
from tallystick.channels.protocol.messages import Error, Update, encode
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.protocol.operations import AddLock, Cancel, Operation, Pay, Unlock
from tallystick.channels.protocol.simplex import Simplex, extend
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.effects import PaymentsReceived
from tallystick.channels.session.session import Session
from tallystick.channels.session.tickets import ended_locks
from tallystick.channels.storage.schema import UpdateReceived


class Aside(msgspec.Struct, frozen=True):
    """Why an update cannot be taken in yet."""

    code: Fault
    text: str


def on_update(session: Session, message: Update, frame: bytes, now: float) -> None:
    """Take in the peer's update; raise InvalidUpdate or InvalidSignature, and nothing has changed."""
    before = session.channel.theirs.simplex
    if 0 < message.seq <= before.proof.seq:
        session.must_ack = True  # repeated after a reconnect: acknowledge again
        return
    if session.link.missed and message.seq > before.proof.seq + 1:
        session.counting.on_signed(message.seq)
        return
    found = examine(session, message)
    if isinstance(found, Aside):
        leave_aside(session, message, found.code, found.text)
        return
    session.must_ack = True
    _take(session, message, frame, found, now)
    for operation in message.operations:
        if isinstance(operation, AddLock):
            _consider(session, operation)
    session.tell_ended(session.channel.peer_side, ended_locks(message.operations, before))
    session.tidy()


def examine(session: Session, message: Update) -> Simplex | Aside:
    """Return what state the peer's next update leads to, or why not yet; raise as `on_update` does. Changes nothing."""
    if not session.locks.fresh() and session.channel.is_virtual:
        return Aside(Fault.WRONG_PHASE, "this node's view of the chain is old: nothing is taken now")
    rejected, chain = {rejection.lock for rejection in session.channel.rejections}, session.chain
    unpaid = [lock for lock in _cancelled(session, message.operations) if not _is_paid(chain, lock)]
    if any(not chain.went_back(lock) and lock.id not in rejected for lock in unpaid):  # the writer's may be ahead
        return Aside(Fault.CANCEL_REFUSED, "a lock that is cancelled is not known to have expired here yet")
    if not all(session.locks.covers(operation) for operation in message.operations if type(operation) is Unlock):
        text = "a stake that is passed on cannot be unlocked so yet: what it stands for is not settled"
        return Aside(Fault.UNLOCK_REFUSED, text)
    given = _given(session, message.operations)
    if any(given.get(op.id, op.amount) != op.amount for op in message.operations if type(op) is Unlock):
        text = "by this node's confirmed chain the court has not given that much of a stake"
        return Aside(Fault.UNLOCK_REFUSED, text)
    session.streams.check_unlocks(message.operations)
    expired = frozenset(lock.id for lock in unpaid if chain.went_back(lock))
    simplex = core.accept(session.channel, message.seq, message.seen, message.operations, expired, given)
    session.peer.verify(digest_proof(session.domain, simplex.proof), message.signature)
    return simplex


def take_deferred(session: Session, update: Update, now: float) -> None:
    """Take in, once the chain decides, what was countersigned for watchtowers and never acknowledged (`deferring`)."""
    before = session.channel.theirs.simplex
    if update.seq != before.proof.seq + 1:
        return
    _take(session, update, encode(update), extend(before, update.operations, update.seen), now)
    session.seal()
    session.tell_ended(session.channel.peer_side, ended_locks(update.operations, before))
    session.tell_changed()


def _take(session: Session, message: Update, frame: bytes, simplex: Simplex, now: float) -> None:
    """Make the peer's update the channel's state, and tell of its payments."""
    before = session.channel.theirs.simplex
    session.channel = core.with_peer_update(session.channel, simplex, message.signature)
    if session.link.missed:
        session.learn(missed=False)
    session.counting.advance()
    count = simplex.next_payment - before.next_payment
    session.effects.store(UpdateReceived(session.channel.id, message.seq, before.next_payment, count, frame, now))
    if count:
        total = sum(sum(op.amounts) for op in message.operations if type(op) is Pay)
        session.received_payments += count
        session.effects.emit(PaymentsReceived(session.channel.id, before.next_payment, count, total))


def leave_aside(session: Session, message: Update, code: Fault, text: str) -> None:
    """Do not take an update that may become right: the peer is asked to repeat it once time has passed."""
    session.counting.on_signed(message.seq)
    session.learn(missed=True)
    session.send(Error(session.channel.id, code, text))


def _is_paid(chain: ChainTime, lock: Lock) -> bool:
    """Whether the chain shows that something of a lock goes to its receiver."""
    proof = chain.registered_in_time(lock)
    return proof is not None and worth(lock, proof) > 0


def _given(session: Session, operations: Iterable[Operation]) -> dict[int, int | None]:
    """Return what the court gave, by our confirmed chain, of the locks that `operations` unlock by its word.

    Locks that are not there, or that no court decides, are left out: no update with such an unlock can become right.
    """
    names = [op.id for op in operations if type(op) is Unlock and op.proof == BY_COURT]
    locks = [session.channel.theirs.simplex.lock(name) for name in names]
    return {lock.id: session.chain.given_in_court(lock) for lock in locks if lock is not None and is_judged(lock.kind)}


def _cancelled(session: Session, operations: Iterable[Operation]) -> list[Lock]:
    """Return the peer's pending locks that `operations` cancel."""
    locks = [session.channel.theirs.simplex.lock(op.id) for op in operations if type(op) is Cancel]
    return [lock for lock in locks if lock is not None]


def _consider(session: Session, added: AddLock) -> None:
    """Reject the peer's new lock if policy objects, else tell the application."""
    lock, simplex = added.lock, session.channel.theirs.simplex
    if simplex.lock(lock.id) is None:
        return
    objection = answers.policy_objection(lock, simplex, session.policy, session.chain.now)
    objection = objection or session.locks.objection(added)
    if objection is not None:
        session.reject(lock.id, session.locks.refusal(added, objection))
    else:
        session.streams.begin(added)
        session.locks.on_received(added)
