"""What goes with the locks of one channel: companions of ours, onions of the peer's, and whoever decides about them.

    ours      a lock may have a companion, a moment that becomes durable with the signature of its lock: never before,
              never after; a lock that is given up unsigned takes its companion with it, and is told (LockDropped). Such
              locks do not wait for a peer that goes away: whoever sent them finds another way
    theirs    the onion of a pending lock is kept until the lock is gone, so that it can be decided about again after
              a crash
    ends      a lock of ours is unlocked when the peer reveals in time, or the chain registered the secret in time, or
              its court decided it; it is cancelled when the peer rejects it, or when it expired unsatisfied by the
              confirmed chain (`timing`)
    secrets   what satisfies a lock of ours is told as soon as it is known, by the peer or by the chain, whatever the
              channel's phase: whoever forwards a payment must not wait for the peer's acknowledgement

A `LockKeeper` is asked in the very step in which something happens. What it returns, and what it does to other
channels of the engine meanwhile, is part of the same commit: so a payment that is forwarded is in one transaction with
the update that brought it. Sans-IO, on top of `session`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from tallystick.channels.errors import Fault, InvalidUpdate
from tallystick.channels.protocol import answers
from tallystick.channels.protocol.conditions import kind_of, worth
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Reject, Reveal
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.protocol.operations import AddLock, Cancel, Operation, Unlock
from tallystick.channels.session.effects import LockDropped, LockEnded, LockReceived, LockRejected, SecretLearned
from tallystick.channels.session.expected import ExpectedLocks
from tallystick.channels.session.port import SessionPort
from tallystick.channels.storage.schema import OnionDropped, OnionKept
from tallystick.channels.storage.store import Moment


class LockKeeper(Protocol):
    """Decides about incoming locks and remembers what outgoing ones are for: a router.

    Every method is called at once when something happens, and must neither wait nor raise. Returned moments are stored
    in the commit of what happened. After a crash some may be called again for the same lock.
    """

    def on_lock_received(self, channel: ChannelId, added: AddLock) -> Sequence[Moment]:
        """The peer added a lock for us to route, to which policy does not object: decide now or later."""

    def refusal(self, channel: ChannelId, added: AddLock, objection: str) -> bytes:
        """Return the reason with which the peer's new lock, to which policy objects, is rejected."""

    def on_secret_learned(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        """The secret of our lock is known, in time: the peer will be paid."""

    def stands_for(self, channel: ChannelId, lock: int) -> bool:
        """Whether our lock, of a divisible kind, stands for one that came in: then it is paid by `PayLock` alone."""

    def on_proof_shown(self, channel: ChannelId, lock: Lock, proof: bytes) -> Sequence[Moment]:
        """The peer asks for our lock, which stands for another one. The proof is one, whatever it pays."""

    def covers(self, channel: ChannelId, lock: Lock, paid: int) -> bool:
        """Whether the peer's lock, of a divisible kind, may be unlocked for that much now: else it is left aside."""

    def on_lock_rejected(self, channel: ChannelId, lock: Lock, reason: bytes) -> Sequence[Moment]:
        """The peer gives our lock back. Nothing may build on it before `on_lock_ended`."""

    def on_lock_ended(self, channel: ChannelId, sender: int, lock: Lock, paid: int, secret: bytes) -> Sequence[Moment]:
        """Both agree that the lock of side `sender` is gone; `secret` is empty if it was cancelled."""

    def on_lock_dropped(self, channel: ChannelId, lock: Lock) -> Sequence[Moment]:
        """Our lock was given up before it was signed: it never existed. Add no lock to the same channel in here."""

    def on_channel_ready(self, channel: ChannelId) -> Sequence[Moment]:
        """The peer is connected and in step: the channel can carry locks."""

    def on_chain_moved(self) -> Sequence[Moment]:
        """Chain time has passed in all channels; secrets that the chain shows were told before."""


class Locks:
    """Part of a `Session`."""

    def __init__(self, session: SessionPort) -> None:
        self._session = session
        self.keeper: LockKeeper | None = None
        self.expected = ExpectedLocks()
        self.fresh: Callable[[], bool] = lambda: True
        """Whether our view of the chain is up to date: no secret is paid for on the word of an old one."""
        self.companions: dict[int, Moment] = {}
        self.onions: dict[int, bytes] = {}
        self.learned: set[int] = set()
        self.early: dict[int, bytes] = {}
        """Secrets that the peer revealed while our view of the chain was old."""

    def restore(self, rows: Iterable[OnionKept]) -> None:
        """Bring back the onions of the peer's pending locks."""
        self.onions = {row.lock: row.onion for row in rows}

    def undecided_locks(self) -> list[AddLock]:
        """Return the peer's pending locks that wait for a router to decide about them, with onions."""
        channel = self._session.channel
        decided = {known.lock for known in channel.secrets} | {rejected.lock for rejected in channel.rejections}
        return [
            AddLock(lock, self.onions.get(lock.id, b""))
            for lock in channel.theirs.simplex.locks
            if kind_of(lock).routed and lock.id not in decided
        ]

    # --- ours ----------------------------------------------------------------------------------------------------

    def attach(self, lock: int, companion: Moment | None) -> None:
        """Let a moment be stored with the signature of our queued lock."""
        if companion is not None:
            self.companions[lock] = companion

    def on_signed(self, operations: Iterable[Operation]) -> None:
        """Store the companions of the locks that are being signed."""
        if not self.companions:
            return
        for operation in operations:
            if type(operation) is AddLock:
                companion = self.companions.pop(operation.lock.id, None)
                if companion is not None:
                    self._session.effects.store(companion)

    def drop(self, *, accompanied: bool = False) -> None:
        """Give up the locks that wait unsigned, newest first; `accompanied`: as far back as all have companions."""
        dropped = self._session.outbox.drop_locks(lambda lock: not accompanied or lock.id in self.companions)
        for lock in dropped:
            self.companions.pop(lock.id, None)
        for lock in dropped:
            if self.keeper is not None and kind_of(lock).routed:
                self._store(self.keeper.on_lock_dropped(self._session.channel.id, lock))
            if kind_of(lock).expected:
                self.expected.on_dropped(lock)
            self._session.effects.emit(LockDropped(self._session.channel.id, lock))

    # --- theirs --------------------------------------------------------------------------------------------------

    def objection(self, added: AddLock) -> str | None:
        """Return why the peer's new lock cannot be followed, None if it can."""
        kind = kind_of(added.lock)
        if kind.expected and not (kind.routed and added.onion and self.keeper is not None):
            return self.expected.objection(self._session.channel, added.lock)
        return kind.objection(added)

    def on_received(self, added: AddLock) -> None:
        """Tell of the peer's new lock, and keep its onion unless it was revealed or rejected in this very step."""
        channel = self._session.channel.id
        self._session.effects.emit(LockReceived(channel, added.lock, added.onion))
        if self.keeper is None or not kind_of(added.lock).routed:
            return
        self._store(self.keeper.on_lock_received(channel, added))
        if added.onion and not answers.is_answered(self._session.channel, added.lock.id):
            self.onions[added.lock.id] = added.onion
            self._session.effects.store(OnionKept(channel, added.lock.id, added.onion))

    def refusal(self, added: AddLock, objection: str) -> bytes:
        """Return the reason of the rejection of a lock that policy objects to."""
        if self.keeper is None or not kind_of(added.lock).routed:
            return objection.encode()
        return self.keeper.refusal(self._session.channel.id, added, objection)

    # --- ours, by what the peer and the chain say ----------------------------------------------------------------

    def on_reveal(self, message: Reveal) -> None:
        """Pay for a secret, while there is still time to register it ourselves; raise InvalidUpdate if it is wrong."""
        channel = self._session.channel
        lock = channel.newest.lock(message.lock)
        if lock is None or channel.phase is not Phase.OPEN:  # what waited for a fresh view comes here again
            return
        kind = kind_of(lock)
        if not kind.revealed:
            raise InvalidUpdate(f"lock {lock.id} has no secret that could be revealed", Fault.BAD_PROOF)
        amount = kind.amount_paid(lock, message.secret)
        if kind.divisible and self.keeper is not None and self.keeper.stands_for(channel.id, lock.id):
            self._store(self.keeper.on_proof_shown(channel.id, lock, message.secret))
            return
        registered = self._session.chain.registered_in_time(lock) is not None
        if registered or self._may_pay(lock, message.secret):
            self.pay(lock, message.secret, amount)

    def on_reject(self, message: Reject) -> None:
        """Take back a lock that the peer consented to cancel."""
        channel = self._session.channel
        lock = channel.newest.lock(message.lock)
        if lock is None or not self.end(Cancel(lock.id)):
            return
        if self.keeper is not None and kind_of(lock).routed:
            self._store(self.keeper.on_lock_rejected(channel.id, lock, message.reason))
        self._session.effects.emit(LockRejected(channel.id, lock, message.reason))

    def pay(self, lock: Lock, secret: bytes, amount: int) -> None:
        """Unlock, unless the lock is ending already."""
        if self.end(Unlock(lock.id, secret, amount), kind_of(lock).steps(secret)):
            self._learned_of(lock, secret)

    def unlock(self, number: int, proof: bytes) -> None:
        """Pay for a pending lock of ours by a proof; raise InvalidUpdate if it is none. One that is gone stays so."""
        lock = self._session.channel.newest.lock(number)
        if lock is not None:
            self.pay(lock, proof, kind_of(lock).amount_paid(lock, proof))

    def show(self, number: int, proof: bytes) -> None:
        """Show the peer a proof for its lock, if both are there; raise InvalidUpdate if it is none."""
        channel = self._session.channel
        lock = channel.theirs.simplex.lock(number)
        if lock is not None and self._session.link.ready and not answers.is_answered(channel, number):
            kind_of(lock).amount_paid(lock, proof)
            self._session.send(Reveal(channel.id, number, proof))

    def covers(self, unlock: Unlock) -> bool:
        """Whether the peer may end its lock so now."""
        channel = self._session.channel
        lock = channel.theirs.simplex.lock(unlock.id)
        if lock is None or self.keeper is None or not kind_of(lock).divisible:
            return True
        return self.keeper.covers(channel.id, lock, unlock.amount)

    def end(self, operation: Unlock | Cancel, steps: int = 0) -> bool:
        """Queue the end of a pending lock of ours; return whether that is possible, and new."""
        session = self._session
        if session.channel.phase is not Phase.OPEN or session.outbox.is_ending(operation.id):
            return False
        session.outbox.end_lock(operation, steps)
        return True

    # --- both ----------------------------------------------------------------------------------------------------

    def ready(self) -> None:
        """The peer is connected and in step."""
        if self.keeper is not None:
            self._store(self.keeper.on_channel_ready(self._session.channel.id))

    def on_ended(self, sender: int, lock: Lock, paid: int, secret: bytes) -> None:
        """Both agree that a lock is gone."""
        channel = self._session.channel
        if sender == channel.side:
            self.learned.discard(lock.id)
            self.early.pop(lock.id, None)
        elif self.onions.pop(lock.id, None) is not None:
            self._session.effects.store(OnionDropped(channel.id, lock.id))
        if self.keeper is not None and kind_of(lock).routed:
            self._store(self.keeper.on_lock_ended(channel.id, sender, lock, paid, secret))
        self._session.effects.emit(LockEnded(channel.id, sender, lock, paid, secret))

    def _learned_of(self, lock: Lock, secret: bytes) -> None:
        """The secret of our lock is known, in time: tell it once, with the commit that stores what follows from it."""
        kind = kind_of(lock)
        if not kind.revealed or lock.id in self.learned:
            return
        self.learned.add(lock.id)
        channel = self._session.channel.id
        if self.keeper is not None and kind.routed:
            self._store(self.keeper.on_secret_learned(channel, lock, secret))
        self._session.effects.emit(SecretLearned(channel, lock, secret))

    def _may_pay(self, lock: Lock, secret: bytes) -> bool:
        """Whether there is time yet to register a revealed secret ourselves. An old view of the chain cannot tell.

        What it cannot tell is asked again with the next block.
        """
        session = self._session
        if not self.fresh():
            self.early[lock.id] = secret
            return False
        return 0 < session.chain.now <= lock.expiry - session.policy.reveal_margin

    def on_time(self) -> None:
        """Tell secrets that the chain shows, of locks in any state that may yet be enforced; ask again of others."""
        session = self._session
        channel = session.channel
        early, self.early = self.early, {}
        for number, secret in early.items():
            self.on_reveal(Reveal(channel.id, number, secret))
        if channel.phase is Phase.GONE:
            for number in list(self.onions):
                del self.onions[number]
                session.effects.store(OnionDropped(channel.id, number))
        for state in (channel.ours, *channel.flight):
            for lock in state.simplex.locks:
                secret_seen = session.chain.registered_in_time(lock)
                if secret_seen is not None and kind_of(lock).revealed and worth(lock, secret_seen):
                    self._learned_of(lock, secret_seen)

    def _store(self, moments: Sequence[Moment]) -> None:
        for moment in moments:
            self._session.effects.store(moment)
