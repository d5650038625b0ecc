"""A virtual channel is a channel: the same machine, store and proofs; but no lock, no withdrawal, no close on chain."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from simulation.pair import CHAIN_ID, CONTRACT, Pair, Party
from tallystick.channels.errors import Fault, InsufficientFunds, InvalidInput, InvalidUpdate
from tallystick.channels.node import virtual_locks
from tallystick.channels.node.virtual_store import VirtualHolding, VirtualPhase
from tallystick.channels.protocol import answers, core
from tallystick.channels.protocol.core import Channel, CloseInitiator, Phase, new_channel, new_virtual_channel
from tallystick.channels.protocol.eip712 import digest_cooperative_close, digest_withdrawal
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.messages import CloseOffer, Error, Message, WithdrawRequest, encode
from tallystick.channels.protocol.objects import NATIVE, CooperativeClose, Lock, Terms, Withdrawal
from tallystick.channels.protocol.operations import AddLock
from tallystick.channels.protocol.virtual import VIRTUAL, BalancesProof, VirtualTerms, conditions_of, virtual_id
from tallystick.channels.session.inputs import (
    ForceClose,
    RequestClose,
    RequestWithdrawal,
    SubmitLock,
    SubmitPayment,
    SubmitPayments,
)
from tallystick.channels.session.negotiation import has_ended
from tallystick.channels.session.session import Session

STAKES = (1_000, 700)


class VirtualPair(Pair):
    """Alice and Bob with a virtual channel, both stakes locked."""

    def __init__(self) -> None:
        self.told: list[Message] = []
        super().__init__(STAKES, sent=lambda party, message: self.told.append(message))
        self.connect()
        self.settle()

    @property
    def virtual(self) -> VirtualTerms:
        players = self.alice.key.address, self.bob.key.address
        return VirtualTerms(CHAIN_ID, CONTRACT, players, NATIVE, STAKES, 2_000_000_000, 600, 1)

    def _channel(self, side: int, other: Party, reserve: int, reserve_ppm: int) -> Channel:
        return new_virtual_channel(self.virtual, side, bytes(other.key.public))

    def hurt(self, message: Message) -> Fault:
        """Let Bob get a message of Alice's; return by which fault he answers."""
        self.told.clear()
        self.inject(self.bob, encode(message))
        self.bob.step()
        (answer,) = [each for each in self.told if isinstance(each, Error)]
        return Fault(answer.code)


def pay(pair: Pair, party: Party, amount: int) -> None:
    party.apply(SubmitPayment(amount))
    pair.settle()


def test_payments_go_both_ways_up_to_all_that_was_put_in_and_the_court_takes_what_both_hold() -> None:
    pair = VirtualPair()
    assert pair.id == virtual_id(pair.virtual) and pair.alice.channel.is_virtual
    pay(pair, pair.alice, 1_000)
    pay(pair, pair.bob, 1_700)
    with pytest.raises(InsufficientFunds):
        pair.bob.apply(SubmitPayment(1))
    pair.alice.apply(SubmitPayments(tuple([1] * 600)))
    pair.settle()
    assert pair.alice.channel.balances() == pair.bob.channel.balances() == (1_100, 600)
    for party in pair.parties:
        ours, theirs = party.channel.ours.statement, party.channel.theirs.statement
        proofs = (ours, theirs) if party is pair.alice else (theirs, ours)
        assert BalancesProof(pair.virtual, proofs).holds()


def test_it_is_resumed_after_a_crash_as_any_channel() -> None:
    pair = VirtualPair()
    pair.alice.apply(SubmitPayment(300))
    pair.alice.begin()
    pair.crash_at_commit(pair.alice, takes_effect=True)
    pair.crash(pair.bob)
    pair.connect()
    pair.settle()
    assert pair.alice.channel.is_virtual and pair.bob.channel.balances() == (700, 1_000)
    pay(pair, pair.bob, 50)
    assert pair.alice.channel.balances() == (750, 950)


def test_no_lock_is_signed_in_it_and_none_is_taken() -> None:
    pair = VirtualPair()
    with pytest.raises(InvalidInput, match="virtual"):
        pair.alice.apply(SubmitLock(5, 2_000_000_000, b"c" * 32))
    added = AddLock(Lock(0, 5, 2_000_000_000, 0, b"c" * 32))
    with pytest.raises(InvalidUpdate, match="payments alone"):
        core.accept(pair.bob.channel, 1, 0, (added,))
    assert core.accept(Pair().bob.channel, 1, 0, (added,)).locks


def test_nothing_of_it_is_withdrawn_or_closed_on_chain() -> None:
    pair = VirtualPair()
    with pytest.raises(InvalidInput, match="virtual"):
        pair.alice.apply(RequestWithdrawal(5))
    key, domain = pair.alice.key, pair.alice.session.domain
    valid = pair.bob.chain.now + 60
    withdrawal = Withdrawal(pair.id, 0, 5, valid)
    request = WithdrawRequest(withdrawal, key.sign(digest_withdrawal(domain, withdrawal)))
    assert pair.hurt(request) is Fault.BAD_OFFER and pair.bob.channel.withdrawals == (None, None)
    close = CooperativeClose(pair.id, *STAKES, valid)
    offer = CloseOffer(close, key.sign(digest_cooperative_close(domain, close)))
    assert pair.hurt(offer) is Fault.BAD_OFFER and pair.bob.channel.phase is Phase.OPEN


def test_both_stop_and_agree_on_the_totals_without_a_closing_offer() -> None:
    pair = VirtualPair()
    pair.bob.apply(SubmitPayment(20))
    pair.bob.apply(RequestClose())
    pair.settle()
    assert all(has_ended(party.session) and party.channel.phase is Phase.OPEN for party in pair.parties)
    assert pair.alice.channel.shutdown is CloseInitiator.PEER and pair.alice.channel.balances() == (1_020, 680)
    assert not any(isinstance(message, CloseOffer) for message in pair.told)
    assert not pair.bob.session.payable and not pair.alice.session.payable
    plain = Pair()
    plain.connect()
    plain.settle()
    assert not has_ended(plain.alice.session)


def test_who_goes_to_court_countersigns_nothing_more() -> None:
    pair = VirtualPair()
    pair.bob.apply(ForceClose())
    pay(pair, pair.alice, 5)
    assert pair.bob.channel.phase is Phase.CLOSING and pair.bob.channel.theirs.seq == 0


def test_nothing_is_taken_on_the_word_of_an_old_view_of_the_chain_and_all_of_it_once_that_is_new() -> None:
    pair = VirtualPair()
    pair.bob.fresh = False
    pay(pair, pair.alice, 5)
    assert pair.bob.channel.theirs.seq == 0
    pair.bob.fresh = True
    pair.bob.time(pair.bob.chain.now + 1, pair.bob.chain.final + 1)
    pair.settle()
    assert pair.bob.channel.balances() == pair.alice.channel.balances() == (995, 705)


ALICE, BOB, HUB = sorted((PrivateKey(bytes([n]) * 32) for n in (1, 2, 3)), key=lambda key: key.address)


@pytest.mark.parametrize(
    ("place", "amount", "late", "phase", "knows", "is_expected"),
    [
        (1, 700, 0, VirtualPhase.LOCKING, True, True),
        (1, 700, 0, VirtualPhase.PROPOSED, True, True),
        (1, 699, 0, VirtualPhase.LOCKING, True, False),
        (1, 700, -1, VirtualPhase.LOCKING, True, False),
        (1, 700, 0, VirtualPhase.OPEN, True, False),
        (1, 700, 0, VirtualPhase.LOCKING, False, False),
        (0, 1_000, 0, VirtualPhase.LOCKING, True, False),
        (3, 1, 0, VirtualPhase.OPEN, True, True),
        (3, 701, 0, VirtualPhase.OPEN, True, False),
        (3, 1, 0, VirtualPhase.LOCKING, True, False),
        (2, 1, 0, VirtualPhase.OPEN, True, False),
    ],
)
def test_only_what_the_other_may_lock_now_is_taken_and_only_by_its_word(
    place: int, amount: int, late: int, phase: VirtualPhase, knows: bool, is_expected: bool
) -> None:
    players = ALICE.address, BOB.address
    terms = VirtualTerms(CHAIN_ID, CONTRACT, players, NATIVE, STAKES, 2_000_000_000, 600, 1)
    hub = new_channel(
        Terms(CHAIN_ID, CONTRACT, (ALICE.address, HUB.address), NATIVE, 1, 600, bytes(32)), 0, bytes(HUB.public)
    )
    holding = VirtualHolding(terms, 0, bytes(BOB.public), (bytes(HUB.public),), (), phase, asked=True)
    lock = Lock(0, amount, terms.expiry + late, VIRTUAL, conditions_of(holding.id)[place])
    for word in (holding.id,) if knows else (bytes(32), None):
        assert virtual_locks.is_expected({}, holding, hub, lock, word) is is_expected


@pytest.mark.parametrize("flaw", ["", "not countersigned", "given back", "closing", "late"])
def test_a_stake_is_here_if_both_sides_of_its_channel_signed_it_and_it_stays(flaw: str) -> None:
    pair = Pair()
    pair.connect()
    pair.settle()
    terms = VirtualTerms(
        CHAIN_ID, CONTRACT, (ALICE.address, BOB.address), NATIVE, STAKES, pair.bob.chain.now + 90_000, 600, 1
    )
    holding = VirtualHolding(terms, 0, bytes(BOB.public), (), (), VirtualPhase.LOCKING, asked=True)
    expiry = terms.expiry + (flaw == "late")
    lock = Lock(0, 700, expiry, VIRTUAL, conditions_of(holding.id)[1])
    channel = pair.bob.channel
    simplex = core.accept(channel, 1, 0, (AddLock(lock),))
    channel = core.with_peer_update(channel, simplex, bytes(64))
    channel = core.with_countersignature(channel, b"" if flaw == "not countersigned" else bytes(64))
    if flaw == "given back":
        channel = answers.reject(channel, 0, b"policy")
    if flaw == "closing":
        channel = core.move(channel, Phase.CLOSING)
    sessions = {channel.id: cast(Session, SimpleNamespace(channel=channel))}
    assert virtual_locks.is_here(sessions, holding, 1, 700) is (flaw == "")
