"""Resuming a channel on a new connection: who is how far, what must be repeated, and whether somebody lost data.

Both sides say Reestablish first, with their newest doubly signed proofs. A proof serves as the ack that got lost; a
valid one above what its addressee knows proves that the addressee lost data, and puts the channel into RECOVERING.
Sans-IO, on top of `session`.
"""

from __future__ import annotations

import contextlib

import msgspec

from tallystick.channels.errors import Fault, InvalidSignature, InvalidUpdate, StoreError
from tallystick.channels.protocol import core, offers
from tallystick.channels.protocol.conditions import require_known
from tallystick.channels.protocol.core import Channel, CloseInitiator, Phase
from tallystick.channels.protocol.eip712 import digest_proof
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.protocol.messages import (
    CloseOffer,
    CloseRequest,
    Error,
    Message,
    Reestablish,
    Reject,
    Reveal,
    Update,
    WithdrawRequest,
    decode,
)
from tallystick.channels.protocol.objects import ChannelId, SignedProof
from tallystick.channels.protocol.simplex import extend
from tallystick.channels.session.effects import CloseRequested
from tallystick.channels.session.link_state import LinkState
from tallystick.channels.session.session import Session
from tallystick.channels.session.tickets import SentUpdate, ended_locks
from tallystick.channels.storage import schema
from tallystick.channels.storage.schema import Journaled
from tallystick.channels.storage.store import Store

_GREETING = (Phase.OPENING, Phase.OPEN, Phase.FROZEN)


def restore(session: Session, store: Store) -> None:
    """Bring back, after a restart, what is kept beside the channel itself; raise StoreError if it does not fit."""
    channel = session.channel
    restore_flight(session, schema.load_flight(store, channel))
    for state in (session.channel.ours, *session.channel.flight, session.channel.theirs):
        require_known(state.simplex.locks)
    paid = schema.load_streamed(store, channel.id, channel.side)
    session.streams.restore(schema.load_streams(store, channel.id), paid)
    session.locks.restore(schema.load_onions(store, channel.id))


def restore_flight(session: Session, rows: list[Journaled]) -> None:
    """Bring back, after a restart, what was signed and not yet agreed; raise StoreError if the journal has a gap."""
    for row in rows:
        update = decode(row.frame)
        if not isinstance(update, Update) or update.seq != session.channel.newest.proof.seq + 1:
            raise StoreError(f"the journal of channel {row.channel.hex()[:8]} has a gap: restore the data directory")
        before = session.channel.newest
        simplex = extend(before, update.operations, update.seen)
        session.channel = core.with_proposal(session.channel, simplex, update.signature)
        ended = ended_locks(update.operations, before)
        session.sent.append(SentUpdate(update.seq, row.frame, row.count, [], ended, session.channel.ours.seq, row.time))


def on_connected(session: Session) -> None:
    """A link to the peer is up: greet, if this channel has anything to say."""
    on_disconnected(session)
    session.seal()
    session.must_ack = False  # the greeting says it
    _forget_shutdown(session)
    if session.channel.phase in _GREETING:
        session.greet()
    elif session.channel.phase is Phase.RECOVERING:
        session.send(
            CloseRequest(session.channel.id)
        )  # a greeting might show all, by what towers held: no reason not to


def on_disconnected(session: Session) -> None:
    """The link is gone: what was said on it does not count any more."""
    session.link = LinkState()
    session.patience.forget()
    session.streams.on_disconnected()
    session.locks.drop(accompanied=True)
    session.window.forget()


def succeed(session: Session, old: Session) -> None:
    """Take over what the peer has said already, on this connection, of a channel that is proposed anew."""
    said = old.link
    session.learn(
        ready=said.ready,
        funding=said.funding,
        deposits=said.deposits,
        taken=said.taken,
        deposits_behind=said.deposits_behind,
        heard=said.heard,
    )


def on_reestablish(session: Session, message: Reestablish) -> None:
    """Compare where both sides are, and repeat what the peer lacks; raise InvalidUpdate or InvalidSignature."""
    channel = session.channel
    if (
        _check(session, message.ours, channel.peer_side)
        or _check(session, message.theirs, channel.side)
        or channel.phase is Phase.RECOVERING
    ):
        recover(session)
        return
    if session.link.greeted:
        _forget_shutdown(session)
    else:
        on_connected(session)
    session.counting.on_reestablish(message)
    if session.ready:  # it asks anew, and may not know any more what we count
        session.counting.tell()
    session.learn(ready=True, peer_behind=_is_behind(channel, message))
    known = message.theirs.proof.seq if message.theirs else 0
    if message.theirs is not None and known > channel.ours.seq:
        session.agree(known, message.theirs.countersignature)
    session.learn(repeat_above=known)
    session.locks.ready()


def _is_behind(channel: Channel, message: Reestablish) -> bool:
    """Whether a greeting shows less than its sender must have stored: it countersigned ours, and signed its own."""
    countersigned = message.theirs.proof.seq if message.theirs else 0
    return countersigned < channel.ours.seq or message.signed_seq < channel.theirs.seq


def recover(session: Session) -> None:
    """We lost data: sign nothing from now on, and ask the peer to close."""
    session.enter(Phase.RECOVERING)
    session.send(CloseRequest(session.channel.id))


def _forget_shutdown(session: Session) -> None:
    """A greeting starts the talk about closing anew: whoever still wants to close says so again."""
    session.learn(shutdown_said=False, peer_final=None)
    if session.channel.shutdown is CloseInitiator.PEER and session.channel.phase is Phase.OPEN:
        session.change(msgspec.structs.replace(session.channel, shutdown=CloseInitiator.NONE))


def _check(session: Session, statement: SignedProof | None, side: int) -> bool:
    """Return whether a statement about `side`'s simplex proves that we lost data; raise if it cannot be true."""
    if statement is None:
        return False
    channel, proof = session.channel, statement.proof
    if proof.channel != channel.id or proof.sender != side:
        raise InvalidUpdate("a proof in Reestablish is about another channel or side", Fault.STATE_MISMATCH)
    mine = side == channel.side
    newest = channel.newest if mine else channel.theirs.simplex
    if proof.seq > newest.proof.seq:
        _verify_statement(session, statement)
        return True
    known = newest.proof if proof.seq == newest.proof.seq else None
    if mine and proof.seq == channel.ours.seq:
        known = channel.ours.simplex.proof
    elif mine and proof.seq > channel.ours.seq:
        flight = core.in_flight(channel, proof.seq)
        known = flight.simplex.proof if flight else None
    if known is not None and proof.seq and known != proof:
        raise InvalidUpdate(
            f"the peer's state number {proof.seq} differs from ours: it cannot be used", Fault.STATE_MISMATCH
        )
    return False


def _verify_statement(session: Session, statement: SignedProof) -> None:
    """Raise InvalidSignature unless both participants signed `statement`."""
    digest = digest_proof(session.domain, statement.proof)
    writer, receiver = session.key.public, session.peer
    if statement.proof.sender != session.channel.side:
        writer, receiver = receiver, writer
    writer.verify(digest, statement.signature)
    receiver.verify(digest, statement.countersignature)


def proves_loss(message: Reestablish, ours: PublicKey, domain: bytes) -> bool:
    """Return whether a greeting about a channel that we do not know carries our own signature: we lost it entirely."""
    for statement, ours_of_it in ((message.ours, "countersignature"), (message.theirs, "signature")):
        if statement is not None and statement.proof.channel == message.channel:
            with contextlib.suppress(InvalidSignature):
                ours.verify(digest_proof(domain, statement.proof), getattr(statement, ours_of_it))
                return True
    return False


def answer_unknown(channel: ChannelId, message: Message, ours: PublicKey, domain: bytes) -> Message:
    """Return what to say to a message about a channel that we do not know with its sender."""
    if isinstance(message, Reestablish) and proves_loss(message, ours, domain):
        return CloseRequest(channel)
    return Error(channel, Fault.UNKNOWN_CHANNEL, "this node has no such channel with you")


def repeat(session: Session) -> None:
    """Say again, once per round, what the peer may not have: updates, reveals, rejects, open offers."""
    known = session.link.repeat_above
    if known is None:
        return
    session.learn(repeat_above=None)
    if session.channel.phase is Phase.RECOVERING:
        return
    channel = session.channel
    for sent in session.sent:
        if sent.seq > known:
            session.effects.frames.append((channel.peer_key, sent.frame))
    session.streams.repeat()
    for secret in channel.secrets:
        session.send(Reveal(channel.id, secret.lock, secret.secret))
    for rejection in channel.rejections:
        session.send(Reject(channel.id, rejection.lock, rejection.reason))
    if channel.offer is not None and not channel.offer.peer_signature:
        session.send(CloseOffer(channel.offer.close, channel.offer.signature))
    pending = channel.withdrawals[channel.side]
    if pending is not None and not pending.peer_signature:
        session.send(WithdrawRequest(pending.withdrawal, pending.signature))


def on_close_request(session: Session) -> None:
    """The peer says that it lost its data: let the node decide to close for it, unless its own greeting disproves it.

    Who has not greeted on this connection may know nothing of the channel any more.
    """
    if session.ready and not session.link.peer_behind and not session.streams.is_forgotten:
        text = "your greeting shows all that you ever signed here: close with our consent, or alone"
        session.send(Error(session.channel.id, Fault.REFUSED, text))
    else:
        session.effects.emit(CloseRequested(session.channel.id))


def set_funding(session: Session, deposits: tuple[int, int], withdrawn: tuple[int, int]) -> None:
    """Take in what the chain confirmed; open the channel if it was opening, and tell the peer what we count."""
    before = session.channel
    after = offers.with_confirmed_funding(before, deposits, withdrawn)
    if after.phase is Phase.OPENING:
        after = core.move(after, Phase.OPEN)
    if after == before:
        return
    session.change(after)
    session.counting.reckon()
    session.counting.heed()
    session.tell_changed()
    session.counting.tell()
    session.resume(before.phase)
