"""What happens in one channel: locks, limits, offers, and two honest nodes whose views of the chain differ."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
import trio
import trio.testing

from simulation.pair import Pair, Party
from tallystick.channels.errors import ChannelNotReady, Fault, InsufficientFunds, InvalidInput, TallystickError
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
from tallystick.channels.protocol.core import CloseInitiator, Phase
from tallystick.channels.protocol.messages import Ack, Message, Reject, Reveal, Update, decode, encode
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.protocol.operations import Cancel
from tallystick.channels.session.effects import LockEnded, LockReceived, LockRejected
from tallystick.channels.session.inputs import (
    ForceClose,
    PhaseReached,
    RejectLock,
    RequestClose,
    RequestWithdrawal,
    RevealSecret,
    SignDue,
    SubmitLock,
    SubmitPayment,
    SubmitPayments,
)
from tallystick.channels.session.outbox import Outbox
from tallystick.channels.session.tickets import Ticket
from tallystick.channels.testing.clock import EPOCH
from tallystick.settlement.enforcement.claims import pending_puzzles

NOW = int(EPOCH)
SECRET = b"s" * 32
CONDITION = hashlib.sha256(SECRET).digest()


def connected(deposits: tuple[int, int] = (1_000, 1_000), reserve: int = 0, policy: Policy | None = None) -> Pair:
    pair = Pair(deposits, reserve=reserve, policy=policy)
    pair.connect()
    pair.settle()
    return pair


@pytest.fixture
def pair() -> Pair:
    return connected()


def pay(pair: Pair, party: Party, amount: int) -> Ticket:
    ticket = party.engine.pay(pair.id, amount)
    pair.settle()
    return ticket


def queue_lock(pair: Pair, amount: int = 10, lifetime: int = 600) -> int:
    return pair.alice.apply(SubmitLock(amount, NOW + lifetime, CONDITION))


def add_lock(pair: Pair, amount: int = 10, lifetime: int = 600) -> int:
    number = queue_lock(pair, amount, lifetime)
    pair.settle()
    return number


def paid(pair: Pair) -> int:
    assert pair.faults == []
    return pair.bob.channel.theirs.simplex.proof.transferred


# --- locks ------------------------------------------------------------------------------------------------------


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


# --- limits -----------------------------------------------------------------------------------------------------


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


# --- offers -----------------------------------------------------------------------------------------------------


def close(pair: Pair, party: Party) -> None:
    party.apply(RequestClose())
    pair.settle()


@pytest.mark.parametrize("side", [0, 1])
def test_both_sign_the_same_close_and_freeze(pair: Pair, side: int) -> None:
    pay(pair, pair.alice, 100)
    close(pair, pair.parties[side])
    offers = [party.channel.offer for party in pair.parties]
    assert offers[0] is not None and offers[1] is not None and offers[0].close == offers[1].close
    assert (offers[0].close.balance0, offers[0].close.balance1) == (900, 1_100)
    assert offers[0].peer_signature == offers[1].signature and offers[1].peer_signature == offers[0].signature
    assert [party.channel.shutdown for party in pair.parties][side] is CloseInitiator.OWN
    with pytest.raises(ChannelNotReady):
        pair.alice.engine.pay(pair.id, 1)


def test_payments_that_wait_go_before_the_close(pair: Pair) -> None:
    ticket = pair.alice.engine.pay(pair.id, 100)
    other = pair.bob.engine.pay(pair.id, 30)
    close(pair, pair.alice)
    assert ticket.receipt is not None and other.receipt is not None
    assert pair.bob.channel.offer is not None and pair.bob.channel.offer.close.balance0 == 930


def test_a_channel_goes_on_when_its_close_has_expired_even_if_one_side_sees_it_later(pair: Pair) -> None:
    close(pair, pair.alice)
    later = NOW + 2_000
    pair.alice.time(later, later - 12)
    ticket = pay(pair, pair.alice, 7)
    assert pair.alice.channel.phase is Phase.OPEN and pair.bob.channel.phase is Phase.FROZEN
    assert ticket.receipt is None
    pair.bob.time(later, later - 12)
    pair.settle()
    assert ticket.receipt is not None and paid(pair) == 7
    close(pair, pair.bob)
    assert pair.alice.channel.phase is pair.bob.channel.phase is Phase.FROZEN


def test_updates_behind_one_that_was_left_aside_wait_for_it(pair: Pair) -> None:
    close(pair, pair.alice)
    later = NOW + 2_000
    pair.alice.time(later, later - 12)
    pay(pair, pair.alice, 1)
    pair.bob.fund((10_000, 1_000))
    pair.alice.fund((10_000, 1_000))
    pair.settle()
    for _ in range(BATCH_PAYMENTS_MAX):
        pair.alice.session.outbox.add_payment(Ticket(pair.id, (1,), b"", "", 0.0))
    pair.bob.time(later, later - 12)
    pair.alice.apply(SignDue())
    pair.alice.step()
    assert len(pair.alice.channel.flight) == 2
    pair.deliver(pair.bob)
    assert pair.bob.channel.theirs.seq == 0 and pair.connected
    pair.settle()
    assert paid(pair) == 1 + BATCH_PAYMENTS_MAX


def test_an_offer_that_the_other_cannot_take_is_answered_not_punished(pair: Pair) -> None:
    """Bob's view of the chain is far ahead: for him the offer is dead before it arrives."""
    pair.bob.time(NOW + 5_000, NOW + 4_988)
    pair.settle()
    close(pair, pair.alice)
    assert pair.alice.channel.phase is Phase.FROZEN and pair.bob.channel.phase is Phase.OPEN
    pair.connect()
    pair.settle()
    assert pair.connected and pair.faults == []
    pair.alice.time(NOW + 5_000, NOW + 4_988)
    pair.settle()
    assert pay(pair, pair.alice, 1).receipt is not None


def test_a_withdrawal_counts_as_gone_until_it_is_mined_or_dead(pair: Pair) -> None:
    withdrawal = pair.alice.apply(RequestWithdrawal(400))
    with pytest.raises(ChannelNotReady):
        pair.alice.apply(RequestWithdrawal(1))
    pair.settle()
    pending = pair.alice.channel.withdrawals[0]
    assert pending is not None and pending.peer_signature and withdrawal.total == 400
    with pytest.raises(InsufficientFunds):
        pair.alice.engine.pay(pair.id, 601)
    pair.alice.fund((1_000, 1_000), (400, 0))
    pair.bob.fund((1_000, 1_000), (400, 0))
    pair.settle()
    assert pair.alice.channel.withdrawals == (None, None) == pair.bob.channel.withdrawals
    assert pair.alice.session.spendable == 600


def test_after_a_withdrawal_died_its_amount_can_be_spent_again_without_a_reconnect(pair: Pair) -> None:
    pair.alice.apply(RequestWithdrawal(400))
    pair.settle()
    later = NOW + 2_000
    for party in pair.parties:
        party.time(later, later - 12)
        pair.settle()
    assert pay(pair, pair.alice, 1_000).receipt is not None


def test_a_request_is_granted_again_after_a_reconnect_and_another_one_is_not(pair: Pair) -> None:
    pair.alice.apply(RequestWithdrawal(400))
    pair.alice.step()
    pair.deliver(pair.bob)
    pair.bob.step()
    pair.connect()
    pair.bob.time(NOW + 10_000, NOW)
    pair.settle()
    pending = pair.alice.channel.withdrawals[0]
    assert pending is not None and pending.peer_signature
    pair.alice.session.change(msgspec.structs.replace(pair.alice.channel, withdrawals=(None, None)))
    pair.alice.apply(RequestWithdrawal(10))
    pair.settle()
    assert pair.faults == [] and pair.connected
    again = pair.alice.channel.withdrawals[0]
    assert again is not None and not again.peer_signature


def test_a_close_whose_answer_was_lost_is_answered_again(pair: Pair) -> None:
    pair.alice.apply(RequestClose())
    for _ in range(3):
        for party in pair.parties:
            party.step()
            if pair.bob.channel.phase is not Phase.FROZEN:
                pair.deliver(pair.other(party))
    assert pair.bob.channel.offer is not None
    pair.crash(pair.alice)
    assert pair.alice.channel.offer is not None and not pair.alice.channel.offer.peer_signature
    pair.connect()
    pair.settle()
    assert pair.alice.channel.offer.peer_signature == pair.bob.channel.offer.signature


def test_a_lock_waits_until_the_peer_counts_the_deposit(pair: Pair) -> None:
    pair.alice.fund((5_000, 1_000))
    add_lock(pair, amount=4_000)
    assert pair.alice.channel.newest.locks == ()
    pair.bob.fund((5_000, 1_000))
    pair.settle()
    assert [lock.amount for lock in pair.bob.channel.theirs.simplex.locks] == [4_000]
    assert {(HASH, CONDITION)} == pending_puzzles([pair.alice.channel]) == pending_puzzles([pair.bob.channel])


def test_answers_that_come_twice_are_taken_once(pair: Pair) -> None:
    lock = add_lock(pair)
    pair.bob.apply(RevealSecret(lock, SECRET))
    for message in (Reveal(pair.id, lock, SECRET), Reject(pair.id, lock, b"")):
        pair.inject(pair.alice, encode(message))
    pair.settle()
    theirs = pair.bob.channel.theirs
    for message in (Ack(pair.id, theirs.seq, theirs.countersignature), Reveal(pair.id, lock, SECRET)):
        pair.inject(pair.alice, encode(message))
    pair.settle()
    assert paid(pair) == 10 and pair.alice.channel.ours.seq == 2


# --- resuming ---------------------------------------------------------------------------------------------------


def test_a_link_that_is_replaced_before_the_ack_left_is_no_fault(pair: Pair) -> None:
    pair.alice.engine.pay(pair.id, 5)
    pair.alice.step()
    pair.deliver(pair.bob)
    pair.connect()
    pair.settle()
    assert paid(pair) == 5 and not pair.alice.channel.flight


def test_what_was_said_while_nobody_listened_does_not_come_before_the_greeting(pair: Pair) -> None:
    lock = add_lock(pair)
    pair.disconnect()
    pair.bob.apply(RevealSecret(lock, SECRET))
    pair.bob.session.counting.tell()
    pair.connect()
    pair.settle()
    assert paid(pair) == 10


def test_a_peer_that_learns_of_the_channel_late_is_greeted_again() -> None:
    pair = Pair()
    known = pair.bob.channel
    pair.bob.engine.sessions.clear()
    pair.connect()
    pair.settle()
    pair.bob.engine.add_channel(known)
    pair.settle()
    assert pay(pair, pair.bob, 5).receipt is not None and pay(pair, pair.alice, 5).receipt is not None


def test_greetings_that_come_in_a_flood_are_answered_once_per_round() -> None:
    said: list[Message] = []
    pair = Pair(sent=lambda party, message: said.append(message))
    pair.connect()
    pair.settle()
    pair.alice.engine.pay(pair.id, 5)
    pair.alice.step()
    pair.bob.session.greet()
    pair.bob.step()
    greeting = pair.alice.incoming[-1]
    said.clear()
    for _ in range(100):
        pair.inject(pair.alice, greeting)
    pair.alice.step()
    assert len([message for message in said if isinstance(message, Update)]) == 1


def test_a_closing_node_answers_and_does_not_break_the_connection(pair: Pair) -> None:
    pair.bob.apply(ForceClose())
    pair.connect()
    pair.alice.fund((2_000, 1_000))
    pair.settle()
    ticket = pay(pair, pair.alice, 5)
    assert pair.faults == [] and pair.connected and ticket.receipt is None
    assert any(getattr(event, "code", None) == Fault.WRONG_PHASE for event in pair.alice.events)
    pair.bob.apply(PhaseReached(Phase.CLOSED))
    pair.bob.apply(PhaseReached(Phase.CLOSED))
    pair.bob.apply(PhaseReached(Phase.SETTLED))
    with pytest.raises(ChannelNotReady):
        pair.bob.apply(PhaseReached(Phase.OPEN))


def test_a_closed_channel_ends_its_tickets(pair: Pair) -> None:
    flying = pair.alice.engine.pay(pair.id, 5)
    pair.alice.step()
    waiting = pair.alice.engine.pay(pair.id, 5)
    pair.alice.apply(PhaseReached(Phase.CLOSED))
    assert isinstance(waiting.error, ChannelNotReady) and not flying.done
    pair.alice.apply(PhaseReached(Phase.SETTLED))
    assert isinstance(flying.error, ChannelNotReady)
    assert "SETTLED" in repr(pair.alice.session)


def test_what_was_accepted_is_countersigned_before_a_channel_freezes(pair: Pair) -> None:
    pair.alice.engine.pay(pair.id, 5)
    pair.alice.step()
    pair.deliver(pair.bob)
    pair.bob.apply(ForceClose())
    assert pair.bob.channel.theirs.countersignature
    pair.settle()
    assert not pair.alice.channel.flight


async def test_whoever_pays_waits_while_the_outbox_is_full() -> None:
    pair = Pair(policy=Policy(outbox=2))
    engine = pair.alice.engine
    for _ in range(2):
        await engine.room(pair.id)
        engine.pay(pair.id, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.room, pair.id)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        pair.connect()
        pair.settle()
    assert paid(pair) == 2
    pair.disconnect()
    for _ in range(2):
        engine.pay(pair.id, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.room, pair.id)
        await trio.testing.wait_all_tasks_blocked()
        engine.stop()


async def test_a_ticket_wakes_its_waiters_with_the_receipt_or_the_reason(pair: Pair) -> None:
    ticket = pair.alice.engine.pay(pair.id, 7, b"memo")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticket.wait)
        await trio.testing.wait_all_tasks_blocked()
        assert repr(ticket) == "<Ticket 7 accepted>"
        pair.alice.step()
        assert repr(ticket) == "<Ticket 7 signed>"
        pair.settle()
    receipt = await ticket.wait()
    assert (receipt.amount, receipt.memo, receipt.payment, receipt.seq) == (7, b"memo", 0, 1)
    failed = pair.alice.engine.pay(pair.id, 7)
    pair.alice.apply(ForceClose())
    assert repr(failed) == "<Ticket 7 failed>"
    with pytest.raises(ChannelNotReady):
        await failed.wait()


async def test_giving_up_before_the_signature_means_no_payment_and_after_it_one(pair: Pair) -> None:
    unsigned, signed = pair.alice.engine.pay(pair.id, 1), pair.alice.engine.pay(pair.id, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(unsigned.wait)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    pair.alice.step()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(signed.wait)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    pair.settle()
    assert unsigned.error is not None and signed.receipt is not None and paid(pair) == 2
