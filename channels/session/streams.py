"""The streams of one channel: many tiny payments under one lock of kind 2, a link each (PROTOCOL section 3). Sans-IO.

    payer   a stream asks for units; once per round the newest link is stored, then sent: it covers all before it;
            a bounded number of units may be without acknowledgement
    payee   each link is hashed back to the last one; once per round the newest is stored, then acknowledged and told
    proof   the payer unlocks with its deepest link: when the stream is closed, when its channel is, when time runs out
            (`Policy.stream_margin`), and when a link shows up on chain; a payee that is not paid in time registers its
            deepest link itself (`settlement.enforcement.duties`)

Links travel outside the numbered stream: they are cumulative and repeated after each reconnect, so any may be lost. The
payee says then what it holds, with the link itself: proof for a payer whose disk is an old copy of what it forgot. A
link is released only while its lock is agreed and nobody is ending it, and an unlock that pays less than the deepest
link that the payee holds is refused: it can never become right.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NoReturn

from tallystick.channels.errors import ChannelNotReady, Fault, InsufficientFunds, InvalidInput, InvalidUpdate
from tallystick.channels.limits import UINT64_MAX
from tallystick.channels.protocol.conditions import STREAM
from tallystick.channels.protocol.core import CloseInitiator, Phase
from tallystick.channels.protocol.hashchain import HashChain, StreamProof, StreamTerms, stream_seed
from tallystick.channels.protocol.messages import CloseRequest, Links, LinksAck, LinksHeld
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.protocol.operations import AddLock, Operation, Unlock
from tallystick.channels.session.effects import StreamReceived
from tallystick.channels.session.inputs import SubmitLock
from tallystick.channels.session.port import SessionPort
from tallystick.channels.session.streamed import IncomingStreamState, OutgoingStreamState
from tallystick.channels.storage.schema import StreamEnded, StreamSaved

FRAMES_MAX = 4
"""Links of one stream that may be on their way at once: what comes meanwhile gathers, as payments do."""

_ENDED = "this stream has ended or is about to: open another one"


class Streams:
    """Part of a `Session`: its streams, by the id of their lock."""

    def __init__(self, session: SessionPort) -> None:
        self._session = session
        self.outgoing: dict[int, OutgoingStreamState] = {}
        self.incoming: dict[int, IncomingStreamState] = {}
        self.paid = 0

    @property
    def streamed(self) -> int:
        """What all our streams have paid: those that ended, and what is released of the others. Only grows."""
        return self.paid + sum(stream.released * stream.terms.unit for stream in self.outgoing.values())

    def restore(self, rows: Iterable[StreamSaved], paid: int) -> None:
        """Bring back what was durable; what never became a lock is left out. `paid`: by those of ours that ended."""
        channel = self._session.channel
        self.paid = paid
        for row in rows:
            proof = StreamProof.decode(row.proof)
            own = row.sender == channel.side
            # An unlock may be in flight.
            states = [*reversed(channel.flight), channel.ours] if own else [channel.theirs]
            lock = next(filter(None, (state.simplex.lock(row.lock) for state in states)), None)
            if lock is None or not proof.terms.fit(lock):
                continue
            if own:
                bound = self._session.policy.stream_unsecured
                stream = OutgoingStreamState(lock, proof.terms, None, bound, proof.depth)
                stream.link = proof.link
                stream.signed = True
                stream.closing = channel.phase is not Phase.OPEN or not self._pends(stream)
                self.outgoing[lock.id] = stream
            else:
                self.incoming[lock.id] = IncomingStreamState(lock.id, lock.expiry, proof)

    def claims(self) -> dict[int, StreamProof]:
        """Return what the peer's pending locks owe us by the links that we hold."""
        return {lock: stream.proof for lock, stream in self.incoming.items() if stream.depth}

    # --- the payer -----------------------------------------------------------------------------------------------

    def open(self, chain: HashChain, unit: int, expiry: int) -> OutgoingStreamState:
        """Queue the lock of a stream over a chain that was made for the next lock; raise as `Session.add_lock` does."""
        session = self._session
        margin = 2 * session.policy.stream_margin
        if expiry < session.chain.now + margin:
            raise InvalidInput(f"a stream must last at least {margin} s, or there is no time to settle it")
        if expiry > UINT64_MAX:
            raise InvalidInput("a stream must expire before 2**64: that is the last time that there is")
        terms = StreamTerms(chain.tip, unit, chain.length)
        condition = terms.condition(expiry)
        number = session.add_lock(SubmitLock(terms.amount, expiry, condition, terms.encode(), STREAM))
        self._forget_unsigned()
        lock = Lock(number, terms.amount, expiry, STREAM, condition)
        stream = self.outgoing[number] = OutgoingStreamState(lock, terms, chain, session.policy.stream_unsecured)
        self._save(session.channel.side, number, stream.proof)
        return stream

    def find(self, lock: int, condition: bytes) -> OutgoingStreamState:
        """Return our stream on that lock; raise ChannelNotReady if it has ended."""
        stream = self.outgoing.get(lock)
        if stream is None or stream.condition != condition:
            raise ChannelNotReady(_ENDED)
        return stream

    def finish(self, lock: int, condition: bytes) -> None:
        """Take no more units of our stream on that lock, and unlock it as soon as possible."""
        stream = self.outgoing.get(lock)
        if stream is not None and stream.condition == condition:
            stream.closing = True

    def submit(self, stream: OutgoingStreamState, units: int) -> int:
        """Ask for more units to be paid; return the depth that covers them.

        Raise InvalidInput, InsufficientFunds or ChannelNotReady, and nothing was done.
        """
        wanted = stream.wanted + units
        if units < 1 or stream.closing or wanted > stream.limit:
            self.refuse(stream, units)
        stream.wanted = wanted
        return wanted

    def refuse(self, stream: OutgoingStreamState, units: int) -> NoReturn:
        """Raise why a stream does not take so many units more."""
        left = stream.terms.length - stream.wanted
        if units < 1:
            raise InvalidInput(f"units are whole numbers from 1 on, not {units}")
        if stream.closing:
            raise ChannelNotReady(_ENDED)
        if units > left:
            raise InsufficientFunds(f"this stream has {left} units left, not {units}: open another one")
        raise ChannelNotReady("too many units wait for the payee's acknowledgement: wait for room")

    def freeze(self) -> None:
        """The channel signs nothing any more: take no more units."""
        for stream in self.outgoing.values():
            stream.freeze()

    def abandon(self) -> None:
        """The channel is settled on chain: end every stream of ours with what the payee acknowledged."""
        for stream in self.outgoing.values():
            stream.end(stream.acked * stream.terms.unit)

    def _advance(self, stream: OutgoingStreamState) -> None:
        """Release what is wanted, or unlock, as far as both is possible now."""
        session = self._session
        channel = session.channel
        stream.closing |= channel.shutdown is not CloseInitiator.NONE or self._is_late(stream.expiry)
        if not self._pends(stream) or session.outbox.is_ending(stream.lock):
            return
        if stream.closing:
            self._release(stream)
            end = Unlock(stream.lock, stream.proof.encode(), stream.proof.amount)
            session.outbox.end_lock(end, stream.released)
        elif (
            stream.wanted > stream.released
            and len(stream.frames) < FRAMES_MAX
            and channel.ours.simplex.lock(stream.lock) is not None
        ):
            self._release(stream)
            self._say(stream)

    def _pends(self, stream: OutgoingStreamState) -> bool:
        """Whether its lock does. One that was dropped unsigned leaves its id to another lock."""
        lock = self._session.channel.newest.lock(stream.lock)
        pends = lock is not None and lock.condition == stream.condition
        stream.signed |= pends
        return pends

    def _forget_unsigned(self) -> None:
        """End every stream whose lock was dropped from the outbox: nothing was paid."""
        outbox = self._session.outbox
        for stream in list(self.outgoing.values()):
            if not self._pends(stream) and not stream.signed and not outbox.has_lock(stream.condition):
                del self.outgoing[stream.lock]
                self._session.effects.store(
                    StreamEnded(self._session.channel.id, self._session.channel.side, stream.lock)
                )
                stream.end(0)

    def _is_late(self, expiry: int) -> bool:
        return self._session.chain.now > expiry - self._session.policy.stream_margin

    def _release(self, stream: OutgoingStreamState) -> None:
        if stream.wanted > stream.released:
            if stream.chain is None:
                seed = stream_seed(self._session.key, self._session.channel.id, stream.lock)
                stream.chain = HashChain.built(seed, stream.terms.length)
            stream.released, stream.link = stream.wanted, stream.chain.link(stream.wanted)
            self._save(self._session.channel.side, stream.lock, stream.proof)

    def _say(self, stream: OutgoingStreamState) -> None:
        stream.frames.append(stream.released)
        self._session.send(Links(self._session.channel.id, stream.lock, stream.released, stream.link))

    def on_ack(self, message: LinksAck) -> None:
        """The payee holds our stream up to that depth; raise InvalidUpdate if it cannot."""
        stream = self.outgoing.get(message.lock)
        if stream is None:
            return
        if message.depth > stream.released:
            raise InvalidUpdate(f"stream {message.lock} was never released that far here", Fault.STATE_MISMATCH)
        stream.acknowledge(message.depth)

    def on_held(self, message: LinksHeld) -> None:
        """The payee shows the deepest link that it holds of our stream; raise InvalidUpdate if it is none.

        One that we do not know to have released proves that our disk is an old copy: it is owed, and we recover.
        """
        session, stream = self._session, self.outgoing.get(message.lock)
        if stream is None:
            return
        if message.depth > stream.released:
            proof = StreamProof(message.link, message.depth, stream.terms)
            if not proof.follows(stream.proof):
                raise InvalidUpdate(f"the link held of stream {message.lock} is not ours", Fault.BAD_PROOF)
            self._adopt(stream, proof)
            if session.channel.phase in (Phase.OPEN, Phase.FROZEN):
                session.enter(Phase.RECOVERING)
                session.send(CloseRequest(session.channel.id))
        stream.acknowledge(message.depth)

    def _adopt(self, stream: OutgoingStreamState, proof: StreamProof) -> None:
        """Take over a link of ours that we had forgotten."""
        stream.wanted, stream.released, stream.link = max(stream.wanted, proof.depth), proof.depth, proof.link
        self._save(self._session.channel.side, stream.lock, proof)

    def on_time(self, lock: Lock) -> None:
        """Settle a stream of ours that is on chain or runs out of time.

        A registered link that is deeper than what we know of is owed all the same: our disk must be an old one.
        """
        stream = self.outgoing.get(lock.id)
        registered = self._session.chain.registered_in_time(lock)
        if stream is None or not self._pends(stream) or (registered is None and not self._is_late(lock.expiry)):
            return
        stream.closing = True
        proof = StreamProof.decode(registered) if registered is not None else stream.proof
        if proof.depth > stream.released:
            self._adopt(stream, proof)

    # --- the payee -----------------------------------------------------------------------------------------------

    def begin(self, added: AddLock) -> None:
        """Follow the peer's new lock if it is a stream."""
        if added.lock.kind == STREAM:
            terms = StreamTerms.decode(added.onion)
            proof = StreamProof(terms.tip, 0, terms)
            self.incoming[added.lock.id] = IncomingStreamState(added.lock.id, added.lock.expiry, proof)
            self._save(self._session.channel.peer_side, added.lock.id, proof)

    def on_links(self, message: Links) -> None:
        """Take in a link of the peer's; raise InvalidUpdate if it does not lead to the one before."""
        stream = self.incoming.get(message.lock)
        if stream is None or not self._is_followed(stream):
            return
        stream.shown = max(stream.shown, message.depth)
        if message.depth <= stream.depth:
            stream.must_ack = True
        elif not self._is_late_to_claim(stream):
            before = stream.waiting or stream.proof
            proof = StreamProof(message.link, message.depth, stream.terms)
            if message.depth > before.depth:
                if not proof.follows(before):
                    raise InvalidUpdate(
                        f"the link does not continue the stream of lock {message.lock}", Fault.BAD_PROOF
                    )
                stream.waiting = proof
            self._take_waiting(stream)

    def _take_waiting(self, stream: IncomingStreamState) -> None:
        """Take the link that waits if it can be claimed by ourselves; while we cannot tell, it goes on to wait."""
        session, proof = self._session, stream.waiting
        if proof is None or not session.chain.now or not session.locks.fresh():
            return
        stream.waiting = None
        if self._is_followed(stream) and not self._is_late_to_claim(stream):
            stream.depth, stream.link, stream.must_ack = proof.depth, proof.link, True

    def _is_followed(self, stream: IncomingStreamState) -> bool:
        """Whether its links count. Of one that we rejected we hold nothing: its payer may take it back."""
        channel = self._session.channel
        rejected = any(rejection.lock == stream.lock for rejection in channel.rejections)
        return channel.phase is Phase.OPEN and not rejected

    def _is_late_to_claim(self, stream: IncomingStreamState) -> bool:
        return self._session.chain.now > stream.expiry - self._session.policy.link_margin

    def on_chain_moved(self) -> None:
        """Look again at the links that wait for our view of the chain."""
        for stream in self.incoming.values():
            self._take_waiting(stream)

    def check_unlocks(self, operations: Iterable[Operation]) -> None:
        """Raise InvalidUpdate if the peer would end a stream for less than we hold."""
        for operation in operations:
            stream = self.incoming.get(operation.id) if isinstance(operation, Unlock) else None
            if stream is not None and isinstance(operation, Unlock) and operation.amount < stream.proof.amount:
                raise InvalidUpdate(
                    f"lock {operation.id} is unlocked for {operation.amount}, its stream has come to "
                    f"{stream.proof.amount}",
                    Fault.BAD_AMOUNT,
                )

    def holds_links(self, lock: int) -> bool:
        """Whether the peer's stream on that lock has paid anything."""
        stream = self.incoming.get(lock)
        return stream is not None and stream.depth > 0

    # --- both ----------------------------------------------------------------------------------------------------

    def store(self) -> None:
        """Store the newest links that came, and tell the application after the commit. Called once per round."""
        self._forget_unsigned()
        for stream in self.incoming.values():
            if stream.depth > stream.stored:
                self._save(self._session.channel.peer_side, stream.lock, stream.proof)
                self._tell(stream, stream.depth, None)

    def flush(self) -> None:
        """Acknowledge what is stored with this round, and go on with our own. The channel is open and in step."""
        for stream in self.incoming.values():
            if stream.must_ack:
                stream.must_ack = False
                self._session.send(LinksAck(self._session.channel.id, stream.lock, stream.depth))
        for own in self.outgoing.values():
            self._advance(own)

    def on_disconnected(self) -> None:
        """Say nothing on the next connection that was to be said on this one: it begins with what is held."""
        for stream in self.incoming.values():
            stream.must_ack, stream.shown = False, 0

    @property
    def is_forgotten(self) -> bool:
        """Whether the peer has not shown, on this connection, a link of its own that we hold."""
        return any(stream.shown < stream.depth for stream in self.incoming.values())

    def repeat(self) -> None:
        """Say again what the peer may not have: the newest link of each stream, paid or received."""
        channel = self._session.channel.id
        for held in self.incoming.values():
            if held.depth:
                self._session.send(LinksHeld(channel, held.lock, held.depth, held.link))
        for stream in self.outgoing.values():
            stream.frames.clear()
            if stream.released and self._pends(stream):
                self._say(stream)

    def on_ended(self, sender: int, lock: Lock, paid: int) -> None:
        """A lock is gone, and paid this."""
        if lock.kind != STREAM:
            return
        session = self._session
        session.effects.store(StreamEnded(session.channel.id, sender, lock.id, paid))
        if sender == session.channel.side:
            self.paid += paid
            own = self.outgoing.pop(lock.id, None)
            if own is not None:
                own.closing = True
                session.effects.acts.append(partial(own.end, paid))
        else:
            stream = self.incoming.pop(lock.id, None)
            if stream is not None:
                self._tell(stream, max(stream.stored, paid // stream.terms.unit), paid)

    def _tell(self, stream: IncomingStreamState, depth: int, paid: int | None) -> None:
        units, stream.stored = depth - stream.stored, depth
        self._session.effects.acts.append(partial(stream.secure, depth, paid))
        if units:
            stream.depth = max(stream.depth, depth)
            amount = units * stream.terms.unit
            self._session.effects.emit(StreamReceived(self._session.channel.id, stream.lock, depth, units, amount))

    def _save(self, sender: int, lock: int, proof: StreamProof) -> None:
        self._session.effects.store(StreamSaved(self._session.channel.id, sender, lock, proof.encode()))
