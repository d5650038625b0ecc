"""One direction of a channel: the state that its single writer extends, as a pure fold over operations.

    payments:  transferred grows by their sum            unlock:  locked falls, transferred grows by what is paid
    lock:      locked grows, the lock joins the list     cancel:  locked falls, nothing is transferred

Conservation: transferred + locked changes by exactly what payments and new locks add, less what unlocks and cancels
give back to the writer. Both sides run this same function, so they can only agree or notice.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from operator import attrgetter

import msgspec

from tallystick.channels.errors import Fault, InvalidUpdate
from tallystick.channels.limits import AMOUNT_MAX, LOCKS_MAX, STREAM_LENGTH_MAX, UINT64_MAX
from tallystick.channels.protocol.conditions import BY_COURT, kind_of
from tallystick.channels.protocol.eip712 import locks_root
from tallystick.channels.protocol.objects import BalanceProof, ChannelId, Lock
from tallystick.channels.protocol.operations import AddLock, Cancel, Operation, Pay, Unlock

_id_of = attrgetter("id")


class Simplex(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The state behind one balance proof."""

    proof: BalanceProof
    locks: tuple[Lock, ...] = ()
    """Pending, in order of id."""
    next_lock: int = 0
    next_payment: int = 0
    """How many payments this simplex has carried; the id of the next one."""

    @property
    def committed(self) -> int:
        """What the writer has given or promised: transferred and locked."""
        return self.proof.transferred + self.proof.locked

    def lock(self, lock_id: int) -> Lock | None:
        """The pending lock with that id."""
        index = bisect_left(self.locks, lock_id, key=_id_of)
        return self.locks[index] if index < len(self.locks) and self.locks[index].id == lock_id else None


class OlderState(msgspec.Struct, frozen=True):
    """The locks of a state that was left behind."""

    locks: tuple[Lock, ...]
    """In order of id."""
    proofs: dict[int, bytes]
    """What satisfied them later, by lock: those of them that were paid."""


def genesis(channel: ChannelId, sender: int) -> Simplex:
    """The state at which each simplex starts: seq 0, all zeros, valid without signatures."""
    return Simplex(BalanceProof(channel, sender))


def extend(simplex: Simplex, operations: Iterable[Operation], seen: int) -> Simplex:
    """Return the state after one update; raise InvalidUpdate if any operation breaks a rule that needs no context.

    What needs context (capacity, who consented to a cancel, what the court said) is the core's to check.
    """
    fold = _Fold(simplex)
    for operation in operations:
        if type(operation) is Pay:
            fold.pay(operation)
        elif type(operation) is AddLock:
            fold.add(operation.lock)
        elif type(operation) is Unlock:
            fold.unlock(operation)
        elif type(operation) is Cancel:
            fold.cancel(operation)
    return fold.result(seen)


class _Fold:
    """The running totals of one `extend`."""

    def __init__(self, simplex: Simplex) -> None:
        self._before = simplex
        self._transferred = simplex.proof.transferred
        self._locked = simplex.proof.locked
        self._locks: dict[int, Lock] | None = None
        self._steps = 0
        self._next_lock = simplex.next_lock
        self._next_payment = simplex.next_payment

    @property
    def _pending(self) -> dict[int, Lock]:
        if self._locks is None:
            self._locks = {lock.id: lock for lock in self._before.locks}
        return self._locks

    def pay(self, run: Pay) -> None:
        if run.first != self._next_payment:
            raise InvalidUpdate(
                f"the next payment of this simplex is number {self._next_payment}, not {run.first}",
                Fault.WRONG_PAYMENT_ID,
            )
        if run.memos and len(run.memos) != len(run.amounts):
            raise InvalidUpdate("a run of payments has either no memos or one for each", Fault.MALFORMED)
        if min(run.amounts) <= 0:
            raise InvalidUpdate("a payment must be of at least one unit", Fault.BAD_AMOUNT)
        self._transferred += sum(run.amounts)
        self._next_payment += len(run.amounts)

    def add(self, lock: Lock) -> None:
        kind_of(lock)  # raises if it is none
        if lock.id != self._next_lock:
            raise InvalidUpdate(
                f"the next lock of this simplex has id {self._next_lock}, not {lock.id}", Fault.BAD_LOCK
            )
        if not 0 < lock.amount <= AMOUNT_MAX or not 0 <= lock.expiry <= UINT64_MAX:
            raise InvalidUpdate(f"lock {lock.id} has an amount or an expiry out of range", Fault.BAD_LOCK)
        if len(self._pending) >= LOCKS_MAX:
            raise InvalidUpdate(f"a simplex holds at most {LOCKS_MAX} pending locks", Fault.TOO_MANY_LOCKS)
        self._pending[lock.id] = lock
        self._locked += lock.amount
        self._next_lock += 1

    def unlock(self, unlock: Unlock) -> None:
        lock = self._take(unlock.id)
        kind = kind_of(lock)
        self._steps += kind.steps(unlock.proof)
        if self._steps > STREAM_LENGTH_MAX:
            raise InvalidUpdate(
                f"the unlocks of one update follow at most {STREAM_LENGTH_MAX} links, these {self._steps}",
                Fault.BAD_PROOF,
            )
        if unlock.proof == BY_COURT and kind.judged:
            if not 0 < unlock.amount <= lock.amount:
                raise InvalidUpdate(f"no court gives {unlock.amount} of lock {lock.id}", Fault.BAD_AMOUNT)
            paid = unlock.amount
        else:
            paid = kind.amount_paid(lock, unlock.proof)
        if unlock.amount != paid:
            raise InvalidUpdate(
                f"the proof for lock {lock.id} pays {paid}, the update says {unlock.amount}", Fault.BAD_AMOUNT
            )
        self._transferred += paid

    def cancel(self, cancel: Cancel) -> None:
        self._take(cancel.id)

    def _take(self, lock_id: int) -> Lock:
        lock = self._pending.pop(lock_id, None)
        if lock is None:
            raise InvalidUpdate(f"there is no pending lock {lock_id} in this simplex", Fault.BAD_LOCK)
        self._locked -= lock.amount
        return lock

    def result(self, seen: int) -> Simplex:
        before, old = self._before, self._before.proof
        if self._transferred + self._locked > AMOUNT_MAX or old.seq >= UINT64_MAX:
            raise InvalidUpdate("the totals of this simplex would not fit into their fields", Fault.BAD_AMOUNT)
        locks, root = before.locks, old.locks_root
        if self._locks is not None:
            locks = tuple(self._locks.values())
            root = locks_root(locks)
        proof = BalanceProof(old.channel, old.sender, old.seq + 1, self._transferred, self._locked, root, seen)
        return Simplex(proof, locks, self._next_lock, self._next_payment)
