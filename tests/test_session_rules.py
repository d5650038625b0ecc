"""What happens in one channel: locks, limits, offers, and two honest nodes whose views of the chain differ."""

from __future__ import annotations

import pytest

from simulation.connected_pair import CONDITION, NOW, SECRET, add_lock, connected, paid, pay, queue_lock
from simulation.pair import Pair
from tallystick.channels.errors import ChannelNotReady, InsufficientFunds, InvalidInput, TallystickError
from tallystick.channels.limits import (
    AMOUNT_MAX,
    BATCH_BYTES_MAX,
    BATCH_PAYMENTS_MAX,
    LOCKS_MAX,
    MEMO_MAX,
    MESSAGE_MAX,
    ONION_MAX,
    OPERATIONS_MAX,
    UINT64_MAX,
    Policy,
)
from tallystick.channels.protocol.conditions import HASH
from tallystick.channels.protocol.messages import Update, decode, encode
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.protocol.operations import Cancel
from tallystick.channels.session.effects import LockEnded, LockReceived, LockRejected
from tallystick.channels.session.inputs import (
    RejectLock,
    RevealSecret,
    SignDue,
    SubmitLock,
    SubmitPayment,
    SubmitPayments,
)
from tallystick.channels.session.outbox import Outbox
from tallystick.channels.session.tickets import Ticket


@pytest.fixture
def pair() -> Pair:
    return connected()


# --- locks --------------------------------------------------------------------------------------------------------


def test_a_revealed_lock_is_paid(pair: Pair) -> None:
    lock = add_lock(pair)
    assert [event.lock.id for event in pair.bob.events if isinstance(event, LockReceived)] == [lock]
    pair.bob.apply(RevealSecret(lock, SECRET))
    pair.settle()
    assert paid(pair) == 10
    for party in pair.parties:
        (end,) = [event for event in party.events if isinstance(event, LockEnded)]
        assert (end.paid, end.secret, end.sender) == (10, SECRET, 0)


@pytest.mark.parametrize("offline", [False, True])
def test_an_answer_to_a_lock_is_repeated_until_the_writer_has_it(pair: Pair, offline: bool) -> None:
    first, second = add_lock(pair), add_lock(pair)
    if offline:
        pair.disconnect()
    pair.bob.apply(RevealSecret(first, SECRET))
    pair.bob.apply(RejectLock(second, b"why not"))
    if offline:
        pair.connect()
    else:
        pair.bob.step()
        pair.crash(pair.bob)
        pair.connect()
    pair.settle()
    assert paid(pair) == 10
    assert pair.alice.channel.newest.locks == ()
    assert [event.reason for event in pair.alice.events if isinstance(event, LockRejected)] == [b"why not"]


def test_a_lock_against_policy_is_taken_in_and_rejected_at_once(pair: Pair) -> None:
    add_lock(pair, lifetime=30)
    assert pair.alice.channel.newest.locks == () and paid(pair) == 0
    assert not [event for event in pair.bob.events if isinstance(event, LockReceived)]


def test_a_late_reveal_is_not_paid_unless_the_chain_has_it(pair: Pair) -> None:
    lock = add_lock(pair)
    late = NOW + 590
    pair.alice.time(late, late - 12)
    pair.bob.apply(RevealSecret(lock, SECRET))
    pair.settle()
    assert paid(pair) == 0
    pair.alice.time(late, late - 12, {(HASH, CONDITION): (NOW + 300, SECRET)})
    pair.settle()
    assert paid(pair) == 10


def test_a_node_that_does_not_know_the_time_yet_pays_for_no_reveal(pair: Pair) -> None:
    lock = add_lock(pair)
    pair.alice.time(0, 0)
    pair.bob.apply(RevealSecret(lock, SECRET))
    pair.settle()
    assert paid(pair) == 0


def test_a_secret_that_was_registered_too_late_does_not_count(pair: Pair) -> None:
    add_lock(pair)
    after = NOW + 700
    for party in (pair.bob, pair.alice):
        party.time(after, after, {(HASH, CONDITION): (NOW + 601, SECRET)})
    pair.settle()
    assert paid(pair) == 0
    assert pair.alice.channel.newest.locks == ()


def test_a_cancel_that_the_receiver_cannot_confirm_yet_waits_for_its_view_of_the_chain(pair: Pair) -> None:
    add_lock(pair)
    pair.alice.time(NOW + 700, NOW + 688)
    pay(pair, pair.alice, 5)
    assert pair.alice.channel.flight and pair.connected
    pair.bob.time(NOW + 650, NOW + 638)
    pair.settle()
    assert paid(pair) == 5
    assert pair.bob.channel.theirs.simplex.locks == () and not pair.alice.channel.flight


def test_a_cancel_of_a_lock_that_was_registered_in_time_ends_the_connection(pair: Pair) -> None:
    lock = add_lock(pair)
    pair.bob.time(NOW + 700, NOW + 690, {(HASH, CONDITION): (NOW, SECRET)})
    pair.bob.step()
    pair.alice.session.outbox.end_lock(Cancel(lock))
    pair.alice.apply(SignDue())
    pair.settle()
    ((accuser, fault),) = pair.faults
    assert accuser is pair.bob and "cancelled" in str(fault)
    assert pair.bob.channel.theirs.simplex.locks


def test_locks_that_cannot_be_are_refused_before_anything_is_signed(pair: Pair) -> None:
    for amount, expiry, condition, onion in (
        (0, NOW + 600, CONDITION, b""),
        (10, NOW, CONDITION, b""),
        (10, UINT64_MAX + 1, CONDITION, b""),
        (10, NOW + 600, b"short", b""),
        (10, NOW + 600, CONDITION, bytes(ONION_MAX + 1)),
        (1_001, NOW + 600, CONDITION, b""),
    ):
        with pytest.raises(InvalidInput):
            pair.alice.apply(SubmitLock(amount, expiry, condition, onion))
    for _ in range(LOCKS_MAX):
        pair.alice.apply(SubmitLock(1, NOW + 600, CONDITION, bytes(ONION_MAX)))
    with pytest.raises(ChannelNotReady):
        pair.alice.apply(SubmitLock(1, NOW + 600, CONDITION))
    pair.settle()
    assert len(pair.bob.channel.theirs.simplex.locks) == LOCKS_MAX and pair.faults == []
    for lock in pair.bob.channel.theirs.simplex.locks:
        pair.bob.apply(RevealSecret(lock.id, SECRET))
    pair.settle()
    assert paid(pair) == LOCKS_MAX


# --- limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [1, 2**32, UINT64_MAX, AMOUNT_MAX])
@pytest.mark.parametrize("every", [0, 1, 7, BATCH_PAYMENTS_MAX])
def test_no_batch_is_larger_than_a_message(amount: int, every: int) -> None:
    """With no memos, with one for each payment, for some, and for the last one alone."""
    outbox = Outbox()
    total = BATCH_PAYMENTS_MAX + 500
    for number in range(total):
        memo = bytes(MEMO_MAX) if every and number % every == every - 1 else b""
        outbox.add_payment(Ticket(ChannelId(bytes(32)), (amount,), memo, "", 0.0))
    first = 0
    while len(outbox):
        operations, tickets = outbox.take(first, AMOUNT_MAX * total)
        first += len(tickets)
        frame = encode(Update(ChannelId(bytes(32)), UINT64_MAX, UINT64_MAX, tuple(operations), bytes(64)))
        assert len(frame) <= MESSAGE_MAX
        assert isinstance(decode(frame), Update)
    assert first == total and outbox.total == 0


@pytest.mark.parametrize("amount", [1, AMOUNT_MAX >> 40])
def test_runs_are_split_so_that_each_fits_and_are_numbered_through(amount: int) -> None:
    pair = connected((AMOUNT_MAX >> 10, 0))
    session = pair.alice.session
    pair.alice.apply(SubmitPayment(7, b"a memo"))
    tickets = pair.alice.apply(SubmitPayments((amount,) * 15_000))
    pair.alice.apply(SubmitPayment(8))
    assert session.outbox.payments == 15_002
    pair.settle()
    receipts = [ticket.receipt for ticket in tickets]
    assert all(receipt is not None for receipt in receipts)
    spans = [(receipt.payment, receipt.count, receipt.amount) for receipt in receipts if receipt]
    assert sum(count for _, count, _ in spans) == 15_000
    assert all(total == count * amount for _, count, total in spans)
    assert [first for first, _, _ in spans] == [1 + sum(c for _, c, _ in spans[:i]) for i in range(len(spans))]
    assert session.outbox.payments == session.outbox.total == 0
    assert paid(pair) == 15 + 15_000 * amount


@pytest.mark.parametrize("amounts", [(), (0,), (1, -1), (1, 2.0), (True,), (1, AMOUNT_MAX)])
def test_runs_of_what_are_no_payments_are_refused_whole(amounts: tuple[int, ...]) -> None:
    alice = connected((1_000, 0)).alice
    with pytest.raises(InvalidInput):
        alice.apply(SubmitPayments(amounts))
    assert len(alice.session.outbox) == 0


def test_a_batch_of_locks_fits_too() -> None:
    outbox = Outbox()
    for number in range(OPERATIONS_MAX + 200):
        outbox.end_lock(Cancel(number))
    assert outbox.full_batch and outbox.is_ending(5) and not outbox.is_ending(5_000)
    counts = []
    while len(outbox):
        counts.append(len(outbox.take(0, 0)[0]))
    assert sum(counts) == OPERATIONS_MAX + 200 and max(counts) * 160 <= BATCH_BYTES_MAX + 160


def test_a_payment_that_was_given_up_is_left_out_and_says_so() -> None:
    outbox = Outbox()
    tickets = [Ticket(ChannelId(bytes(32)), (amount,), b"", "", 0.0) for amount in (1, 2, 3)]
    for ticket in tickets:
        outbox.add_payment(ticket)
    tickets[1].withdrawn = True
    assert outbox.take(0, 10)[1] == [tickets[0], tickets[2]]
    assert isinstance(tickets[1].error, TallystickError)
    assert tickets[0].error is None


def test_totals_end_at_128_bits_and_the_payer_is_told_before_anything_is_signed() -> None:
    pair = connected((2**127, 2**127))
    pay(pair, pair.alice, 2**127)
    pay(pair, pair.bob, 2**127)
    assert pair.alice.session.spendable == 2**127 - 1
    pay(pair, pair.alice, 2**127 - 1)
    assert paid(pair) == AMOUNT_MAX
    pay(pair, pair.bob, 1)
    with pytest.raises(InsufficientFunds):
        pair.alice.engine.pay(pair.id, 1)


def test_payments_wait_until_the_peer_counts_the_deposit(pair: Pair) -> None:
    pair.alice.fund((1_500, 1_000))
    ticket = pay(pair, pair.alice, 1_200)
    assert ticket.receipt is None and pair.alice.session.outbox.payments == 1
    pair.bob.fund((1_500, 1_000))
    pair.settle()
    assert ticket.receipt is not None and paid(pair) == 1_200


def test_a_key_stands_for_one_payment(pair: Pair) -> None:
    pair.alice.engine.pay(pair.id, 5, b"", "order 1")
    with pytest.raises(InvalidInput):
        pair.alice.engine.pay(pair.id, 5, b"", "order 1")
    pair.settle()
    with pytest.raises(InvalidInput):
        pair.alice.engine.pay(pair.id, 5, b"", "order 1")
    assert paid(pair) == 5


def test_with_an_update_in_flight_payments_gather(pair: Pair) -> None:
    pair.alice.engine.pay(pair.id, 1)
    pair.alice.step()
    for _ in range(100):
        pair.alice.engine.pay(pair.id, 1)
    pair.alice.step()
    assert len(pair.alice.channel.flight) == 1
    pair.settle()
    assert pair.bob.channel.theirs.seq == 2 and paid(pair) == 101


def test_locks_that_are_worth_an_update_do_not_wait_for_the_last_ack(pair: Pair) -> None:
    queue_lock(pair)
    pair.alice.step()
    for _ in range(63):
        queue_lock(pair)
    pair.alice.step()
    assert len(pair.alice.channel.flight) == 1
    queue_lock(pair)
    pair.alice.step()
    assert len(pair.alice.channel.flight) == 2
    pair.settle()
    assert len(pair.bob.channel.theirs.simplex.locks) == 65


def test_full_batches_fly_up_to_the_window() -> None:
    pair = connected((10**6, 0), policy=Policy(window=3))
    for _ in range(5 * BATCH_PAYMENTS_MAX):
        pair.alice.apply(SubmitPayment(1))
    pair.alice.step()
    assert len(pair.alice.channel.flight) == 3
    pair.crash(pair.alice)
    pair.connect()
    pair.settle()
    assert paid(pair) == 3 * BATCH_PAYMENTS_MAX
