"""What waits to be signed in one channel: payments in a bounded queue, lock operations beside it.

Batches take what has gathered, payments as one run. A payment whose caller gave up before it was signed is left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from tallystick.channels.errors import TallystickError
from tallystick.channels.limits import BATCH_BYTES_MAX, BATCH_PAYMENTS_MAX, OPERATIONS_MAX, STREAM_LENGTH_MAX
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.protocol.operations import AddLock, Cancel, Operation, Pay, Unlock
from tallystick.channels.session.tickets import Ticket

_PAYMENT_BYTES = 9
"""Most payments' encoded size: an amount below 2**64 (a wider one counts 18)."""

_NO_MEMO_BYTES = 2
"""Encoded size of an empty memo, which a payment needs if another one of its run has a memo."""

_LOCKS_WORTH = 64
"""Lock operations that are worth an update of their own, even while another is in flight. A simplex holds so few locks
that they would hardly ever fill one: both sides would take turns instead of working at the same time."""

_LOCK_BYTES = 160
"""Encoded size of a lock operation without its onion, and of an unlock with a short proof."""

_END_BYTES = 64
"""Encoded size of an unlock without its proof."""


class Outbox:
    """The operations that wait. `total` is the amount that they will commit."""

    def __init__(self) -> None:
        self.tickets: deque[Ticket] = deque()
        self.locks: deque[AddLock] = deque()
        self.ends: dict[int, tuple[Unlock | Cancel, int]] = {}
        """By lock, with how many hashes the peer takes to follow it."""
        self._bytes = 0
        self.payments = 0
        """How many payments wait."""
        self.total = 0

    def __len__(self) -> int:
        return len(self.tickets) + len(self.locks) + len(self.ends)

    @property
    def full_batch(self) -> bool:
        """Whether so much waits that it is worth an update before the last one is acknowledged."""
        return (
            self.payments >= BATCH_PAYMENTS_MAX
            or self._bytes >= BATCH_BYTES_MAX
            or len(self.locks) + len(self.ends) >= _LOCKS_WORTH
        )

    def add_payment(self, ticket: Ticket) -> None:
        """Queue a payment, or a run of at most `run_limit` payments."""
        ticket.size = _size(ticket)
        self.tickets.append(ticket)
        self._bytes += ticket.size
        self.payments += len(ticket.amounts)
        self.total += ticket.amount

    def add_lock(self, added: AddLock) -> None:
        """Queue a new lock."""
        self.locks.append(added)
        self._bytes += _operation_size(added)
        self.total += added.lock.amount

    def drop_locks(self, unwanted: Callable[[Lock], bool]) -> list[Lock]:
        """Remove and return the queued locks from the newest back to the first that is wanted: numbers leave no gap."""
        dropped: list[Lock] = []
        while self.locks and unwanted(self.locks[-1].lock):
            added = self.locks.pop()
            self._bytes -= _operation_size(added)
            self.total -= added.lock.amount
            dropped.append(added.lock)
        return dropped

    def end_lock(self, end: Unlock | Cancel, steps: int = 0) -> None:
        """Queue the end of a pending lock, which the peer follows in so many hashes (`LockKind.steps`).

        Ends go first: they free capacity and never need any.
        """
        self.ends[end.id] = (end, steps)
        self._bytes += _end_size(end)

    @property
    def withdrawn(self) -> tuple[int, ...]:
        """The places of payments that were given up, and are left out when their turn comes."""
        return tuple(place for place, ticket in enumerate(self.tickets) if ticket.withdrawn)

    @property
    def queued_locks(self) -> int:
        """How many new locks wait."""
        return len(self.locks)

    def has_lock(self, condition: bytes) -> bool:
        """Whether a new lock with that condition waits."""
        return any(added.lock.condition == condition for added in self.locks)

    def is_ending(self, lock_id: int) -> bool:
        """Whether an unlock or cancel of that lock waits already."""
        return lock_id in self.ends

    def take(self, first: int, allowance: int) -> tuple[list[Operation], list[Ticket]]:
        """Remove and return one update's operations (perhaps none) and the tickets that they carry.

        `first` is the number of the first payment; `allowance` is what new payments and locks may commit together:
        what does not fit stays queued, in order.
        """
        operations: list[Operation] = []
        size = steps = 0
        while self.ends and len(operations) < OPERATIONS_MAX - 1 and size < BATCH_BYTES_MAX:
            end, hashes = next(iter(self.ends.values()))
            steps += hashes
            if steps > STREAM_LENGTH_MAX:
                break
            del self.ends[end.id]
            operations.append(end)
            size += _end_size(end)
        self._bytes -= size
        while self.locks and len(operations) < OPERATIONS_MAX - 1 and size < BATCH_BYTES_MAX:
            if self.locks[0].lock.amount > allowance:
                break
            added = self.locks.popleft()
            size += _operation_size(added)
            self._bytes -= _operation_size(added)
            self.total -= added.lock.amount
            allowance -= added.lock.amount
            operations.append(added)
        tickets = self._take_payments(allowance, size)
        if tickets:
            operations.append(_run(first, tickets))
        return operations, tickets

    def _take_payments(self, allowance: int, size: int) -> list[Ticket]:
        waiting, tickets, memos, count, left = self.tickets, list[Ticket](), False, 0, allowance
        while waiting:
            ticket = waiting[0]
            if ticket.withdrawn:
                self._leave_out(waiting.popleft())
                continue
            payments, grown = len(ticket.amounts), size + ticket.size
            if memos and not ticket.memo:
                grown += _NO_MEMO_BYTES * payments
            elif ticket.memo and not memos:
                grown += _NO_MEMO_BYTES * count
            if ticket.amount > left or grown > BATCH_BYTES_MAX or count + payments > BATCH_PAYMENTS_MAX:
                break
            memos = memos or bool(ticket.memo)
            size = grown
            left -= ticket.amount
            count += payments
            tickets.append(waiting.popleft())
        self.total -= allowance - left
        self.payments -= count
        self._bytes -= sum([ticket.size for ticket in tickets])
        return tickets

    def _leave_out(self, ticket: Ticket) -> None:
        self.total -= ticket.amount
        self.payments -= len(ticket.amounts)
        self._bytes -= ticket.size
        ticket.fail(TallystickError("this payment was given up before it was signed: it was not made"))

    def fail_payments(self, error: TallystickError) -> None:
        """End every waiting payment with `error` and drop new locks: nothing of it was signed. Ends of locks stay."""
        tickets = list(self.tickets)
        self.tickets.clear()
        self.locks.clear()
        self._bytes = sum(_end_size(end) for end, _ in self.ends.values())
        self.total = self.payments = 0
        for ticket in tickets:
            ticket.fail(error)

    def fail_all(self, error: TallystickError) -> None:
        """The same, and forget the ends of locks: this channel signs nothing any more."""
        self.fail_payments(error)
        self.ends.clear()
        self._bytes = 0


def run_limit(amounts: Sequence[int]) -> int:
    """Return how many payments of such amounts fit into one update for certain."""
    return BATCH_BYTES_MAX // (2 * _PAYMENT_BYTES) if max(amounts) >> 64 else BATCH_PAYMENTS_MAX


def _run(first: int, tickets: list[Ticket]) -> Pay:
    """Return the operation that carries these tickets' payments."""
    if len(tickets) == 1:
        amounts = tickets[0].amounts
    else:
        amounts = tuple([amount for ticket in tickets for amount in ticket.amounts])
    if not any(ticket.memo for ticket in tickets):
        return Pay(first, amounts)
    return Pay(first, amounts, tuple([ticket.memo for ticket in tickets for _ in ticket.amounts]))


def _size(ticket: Ticket) -> int:
    each = _PAYMENT_BYTES * (2 if ticket.amount >> 64 and max(ticket.amounts) >> 64 else 1)
    return each * len(ticket.amounts) + (len(ticket.memo) + 3 if ticket.memo else 0)


def _end_size(end: Unlock | Cancel) -> int:
    return max(_LOCK_BYTES, _END_BYTES + len(end.proof)) if isinstance(end, Unlock) else _LOCK_BYTES


def _operation_size(added: AddLock) -> int:
    return _LOCK_BYTES + len(added.onion)
