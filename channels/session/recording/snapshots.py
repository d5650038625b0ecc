"""Taking down all that a session consists of, and making one of it again: without key, disk and event loop."""

from __future__ import annotations

import math
from typing import Any

from tallystick.channels.errors import Fault, InvalidSignature
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.hashchain import HashChain, StreamProof, StreamTerms
from tallystick.channels.protocol.messages import Update, decode, encode
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.session.chaintime import ChainTime, StakeInCourt
from tallystick.channels.session.effects import Effects
from tallystick.channels.session.recording.document import (
    ChannelState,
    EarlySecret,
    Figures,
    FlyingUpdate,
    KeptOnion,
    PaidStream,
    ReceivedStream,
    SeenChain,
    SeenProof,
    SeenStake,
    Snapshot,
    WaitingPayment,
)
from tallystick.channels.session.session import Session
from tallystick.channels.session.streamed import IncomingStreamState, OutgoingStreamState
from tallystick.channels.session.tickets import SentUpdate, Ticket
from tallystick.channels.storage.store import Moment

GOOD, BAD = bytes(64), b"\xff" * 64
"""What stands in a recording for a signature: one that held, one that did not."""


class Companion(Moment, frozen=True):
    """Stands for what was to be stored with a lock."""


class StandInKey:
    """Signs without a key, and believes what was believed when it was recorded."""

    @property
    def public(self) -> StandInKey:
        return self

    def sign(self, digest: bytes) -> bytes:
        return GOOD

    def verify(self, digest: bytes, signature: bytes) -> None:
        if signature == BAD:
            raise InvalidSignature("the signature does not belong to this key and digest", Fault.BAD_SIGNATURE)


def seen(chain: ChainTime, channel: Channel) -> SeenChain:
    """Return what of the chain concerns this channel's own locks."""
    states = (channel.ours, *channel.flight, channel.theirs)
    puzzles = {lock.puzzle for state in states for lock in state.simplex.locks}
    found = [SeenProof(*puzzle, *chain.proofs[puzzle]) for puzzle in sorted(puzzles) if puzzle in chain.proofs]
    stakes = [SeenStake(*puzzle, *chain.stakes[puzzle]) for puzzle in sorted(puzzles) if puzzle in chain.stakes]
    return SeenChain(chain.now, chain.final, tuple(found), tuple(stakes))


def chain_time(chain: SeenChain) -> ChainTime:
    """Return it as a session takes it."""
    proofs = {(one.kind, one.condition): (one.time, one.proof) for one in chain.proofs}
    stakes = {(one.kind, one.condition): StakeInCourt(one.expiry, one.decides, one.paid) for one in chain.stakes}
    return ChainTime(chain.now, chain.final, proofs, stakes)


def _figures(part: object) -> Figures:
    """Return the attributes of a part that are numbers."""
    numbers = {name: value for name, value in vars(part).items() if isinstance(value, (int, float))}
    return {name: None if value == math.inf else value for name, value in numbers.items()}


def _put_back(part: object, figures: Figures) -> None:
    vars(part).update({name: math.inf if value is None else value for name, value in figures.items()})


def snapshot(session: Session) -> Snapshot:
    """Return the session as it is now, secrets included (`redaction` replaces them)."""
    outbox, locks, streams = session.outbox, session.locks, session.streams
    return Snapshot(
        session.channel,
        session.link,
        session.policy,
        session.history,
        session.tidied,
        session.must_ack,
        seen(session.chain, session.channel),
        _figures(session.window),
        _figures(session.patience),
        tuple(WaitingPayment(one.amounts, one.memo, one.accepted) for one in outbox.tickets),
        tuple(outbox.locks),
        tuple(outbox.ends.values()),
        tuple(
            FlyingUpdate(_update(one.frame), one.payments, tuple(one.ended), one.agreed, one.signed)
            for one in session.sent
        ),
        tuple(locks.companions),
        tuple(KeptOnion(*item) for item in locks.onions.items()),
        tuple(sorted(locks.learned)),
        tuple(EarlySecret(*item) for item in locks.early.items()),
        streams.paid,
        tuple(
            PaidStream(
                one.lock,
                one.terms.amount,
                one.expiry,
                one.condition,
                one.terms.tip,  # whose stand-in is a seed
                one.terms.length,
                one.terms.unit,
                _figures(one),
                tuple(one.frames),
            )
            for one in streams.outgoing.values()
        ),
        tuple(
            ReceivedStream(
                one.lock,
                one.expiry,
                one.proof.encode(),
                () if one.waiting is None else (one.waiting.encode(),),
                _figures(one),
            )
            for one in streams.incoming.values()
        ),
    )


def _update(frame: bytes) -> Update:
    update = decode(frame)
    assert isinstance(update, Update)
    return update


def restored(start: Snapshot) -> Session:
    """Return a session that goes on where the recording began."""
    key: Any = StandInKey()
    session = Session(start.channel, key, start.policy, Effects())
    session.peer = key
    session.link, session.history, session.tidied = start.link, start.history, start.tidied
    session.must_ack, session.chain = start.must_ack, chain_time(start.chain)
    _put_back(session.window, start.window)
    _put_back(session.patience, start.patience)
    for one in start.payments:
        session.outbox.add_payment(Ticket(start.channel.id, one.amounts, one.memo, "", one.accepted))
    for added in start.locks:
        session.outbox.add_lock(added)
    for end, steps in start.ends:
        session.outbox.end_lock(end, steps)
    for flying in start.flight:
        update = flying.update
        ended = list(flying.ended)
        session.sent.append(
            SentUpdate(update.seq, encode(update), flying.payments, [], ended, flying.agreed, flying.signed)
        )
    locks, streams = session.locks, session.streams
    locks.companions = {number: Companion() for number in start.companions}
    locks.onions = {one.lock: one.onion for one in start.onions}
    locks.learned, locks.early = set(start.learned), {one.lock: one.secret for one in start.early}
    streams.paid = start.streamed
    streams.outgoing = {one.lock: _paid(one, start.policy.stream_unsecured) for one in start.outgoing}
    streams.incoming = {one.lock: _received(one) for one in start.incoming}
    return session


def _paid(one: PaidStream, bound: int) -> OutgoingStreamState:
    chain = HashChain.built(one.seed, one.length)
    terms = StreamTerms(chain.tip, one.unit, one.length)
    lock = Lock(one.lock, one.amount, one.expiry, 0, one.condition)
    stream = OutgoingStreamState(lock, terms, chain, bound)
    _put_back(stream, one.figures)
    stream.link = chain.link(stream.released)
    stream.frames.extend(one.frames)
    return stream


def _received(one: ReceivedStream) -> IncomingStreamState:
    stream = IncomingStreamState(one.lock, one.expiry, StreamProof.decode(one.proof))
    _put_back(stream, one.figures)
    for proof in one.waiting:
        stream.waiting = StreamProof.decode(proof)
    return stream


def state_of(session: Session) -> ChannelState:
    """Return a channel as it is now."""
    outbox, streams, locks = session.outbox, session.streams, session.locks
    return ChannelState(
        session.channel,
        session.link,
        session.must_ack,
        outbox.payments,
        outbox.total,
        outbox.queued_locks,
        tuple(outbox.ends),
        tuple((sent.seq, sent.payments) for sent in session.sent),
        tuple((s.lock, s.wanted, s.released, s.acked, s.closing) for s in streams.outgoing.values()),
        tuple((s.lock, s.depth, s.stored) for s in streams.incoming.values()),
        tuple(sorted(locks.learned)),
        tuple(locks.early),
        tuple(locks.onions),
        session.window.size,
        session.patience.cuts,
    )
