"""Closing together and withdrawing: both sign one offer, and nothing is lost if it comes to nothing."""

from __future__ import annotations

import msgspec
import pytest

from simulation.connected_pair import CONDITION, NOW, SECRET, add_lock, connected, paid, pay
from simulation.pair import Pair, Party
from tallystick.channels.errors import ChannelNotReady, InsufficientFunds
from tallystick.channels.limits import (
    BATCH_PAYMENTS_MAX,
)
from tallystick.channels.protocol.conditions import HASH
from tallystick.channels.protocol.core import CloseInitiator, Phase
from tallystick.channels.protocol.eip712 import digest_withdrawal
from tallystick.channels.protocol.messages import Ack, Reject, Reveal, WithdrawRequest, encode
from tallystick.channels.protocol.objects import Withdrawal
from tallystick.channels.session.inputs import (
    RequestClose,
    RequestWithdrawal,
    RevealSecret,
    SignDue,
)
from tallystick.channels.session.tickets import Ticket
from tallystick.settlement.enforcement.claims import pending_puzzles


@pytest.fixture
def pair() -> Pair:
    return connected()


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


@pytest.mark.parametrize("reserve_ppm", [0, 10_000])
@pytest.mark.parametrize(("side", "asks"), [(0, 0), (1, 1), (0, 1), (1, 0)])
def test_a_close_waits_for_a_deposit_that_one_side_alone_has_seen(reserve_ppm: int, side: int, asks: int) -> None:
    """An offer without it is refused, and whoever made it is frozen until it has expired."""
    pair = Pair(reserve_ppm=reserve_ppm)
    pair.connect()
    pair.settle()
    deposits = (1_000 + 500 * (side == 0), 1_000 + 500 * (side == 1))
    pair.parties[side].fund(deposits)
    close(pair, pair.parties[asks])
    assert [party.channel.phase for party in pair.parties] == [Phase.OPEN, Phase.OPEN]
    pair.parties[1 - side].fund(deposits)
    pair.settle()
    offers = [party.channel.offer for party in pair.parties]
    assert offers[0] is not None and offers[1] is not None and offers[0].close == offers[1].close
    assert (offers[0].close.balance0, offers[0].close.balance1) == deposits


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


@pytest.mark.parametrize("side", [0, 1])
def test_nobody_signs_a_close_while_a_withdrawal_can_be_mined_nor_the_other_way_round(pair: Pair, side: int) -> None:
    """Else both could count on chain, at the cost of whoever deposits in between."""
    asking = pair.parties[side]
    asking.apply(RequestWithdrawal(400))
    pair.settle()
    close(pair, pair.other(asking))
    assert [party.channel.offer for party in pair.parties] == [None, None]
    taken = (400, 0) if side == 0 else (0, 400)
    for party in pair.parties:
        party.fund((1_000, 1_000), taken)
    pair.settle()
    assert [party.channel.phase for party in pair.parties] == [Phase.FROZEN, Phase.FROZEN]
    withdrawal = Withdrawal(pair.id, side, 401, NOW + 60)
    signature = asking.session.key.sign(digest_withdrawal(asking.session.domain, withdrawal))
    pair.inject(pair.other(asking), encode(WithdrawRequest(withdrawal, signature)))
    pair.settle()
    assert pair.other(asking).channel.withdrawals == (None, None)


@pytest.mark.parametrize("deposit", [100, 40_100])
def test_a_withdrawal_leaves_what_payments_that_wait_need(deposit: int) -> None:
    """Also where the other's deposit, and with it the reserve, is confirmed to us and not counted by both yet."""
    pair = Pair((2_000, 100), reserve_ppm=10_000)
    pair.connect()
    pair.settle()
    pair.alice.fund((2_000, deposit))
    ticket = pair.alice.engine.pay(pair.id, pair.alice.session.spendable - 5)
    with pytest.raises(InsufficientFunds, match="at most 5 can be withdrawn now"):
        pair.alice.apply(RequestWithdrawal(6))
    pair.alice.apply(RequestWithdrawal(5))
    pair.settle()
    for party in pair.parties:
        party.fund((2_000, deposit), (5, 0))
        pair.settle()
    assert ticket.receipt is not None and pair.alice.session.spendable <= 1


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
