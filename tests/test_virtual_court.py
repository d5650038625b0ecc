"""The court takes the newest balances of a virtual channel for one period, or an outcome, and decides for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from simulation.virtual_players import (
    CHANNEL,
    CONDITIONS,
    EXPIRY,
    KEYS,
    PERIOD,
    PRICES,
    TERMS,
    VirtualBlocks,
    balance,
    brings,
    ended,
    outcome,
)
from tallystick.channels.errors import InvalidInput, InvalidUpdate
from tallystick.channels.limits import AMOUNT_MAX, PROOF_MAX
from tallystick.channels.protocol import conditions, virtual
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.protocol.virtual import VIRTUAL, BalancesProof, EndingProof, decode_proof, moved
from tallystick.settlement.chain import Block, Header, ProofRegistered, RegisterProofCall
from tallystick.settlement.enforcement.virtual import VirtualHeld, virtual_duties
from tallystick.settlement.errors import ChainError, Revert, Reverted
from tallystick.settlement.following.checked import check_block
from tallystick.settlement.sending.obligations import Duty


def refused(blocks: VirtualBlocks, call: RegisterProofCall, at: int | None = None) -> Revert:
    with pytest.raises(Reverted) as raised:
        blocks.take(call, at)
    return raised.value.code


def lock(index: int, amount: int = 100, expiry: int = EXPIRY) -> Lock:
    return Lock(7, amount, expiry, VIRTUAL, CONDITIONS[index])


# --- in court -----------------------------------------------------------------------------------------------------


def test_the_newest_balances_decide_once_the_period_is_over() -> None:
    blocks = VirtualBlocks()
    event = blocks.take(brings(balance(0, 4, 45), balance(1, 9, 15)))
    assert event == ProofRegistered(CONDITIONS[0], VIRTUAL, event.proof, 1_000)
    for time in (1_000, 1_000 + PERIOD):
        assert [blocks.due(index, time) for index in range(4)] == [None] * 4
    for time in (1_001 + PERIOD, EXPIRY, EXPIRY + 1, 10**9):
        assert [blocks.due(index, time) for index in range(4)] == [30, 0, 0, 0]
    for late in (brings(balance(0, 5, 46)), outcome(0, 0, 0, 0)):
        assert refused(blocks, late, 1_001 + PERIOD) is Revert.WINDOW_OVER


def test_of_each_simplex_the_highest_number_stands_and_the_clock_is_set_once() -> None:
    blocks = VirtualBlocks()
    blocks.take(brings(balance(0, 4, 45)))
    assert refused(blocks, brings(balance(0, 4, 45))) is Revert.NOT_NEWER
    assert refused(blocks, brings(balance(0, 3, 50))) is Revert.NOT_NEWER
    blocks.take(brings(balance(0, 3, 50), balance(1, 1, 40)), 1_000 + PERIOD)
    assert [blocks.due(index, 1_000 + PERIOD) for index in (0, 1)] == [None, None]
    assert [blocks.due(index, 1_001 + PERIOD) for index in (0, 1)] == [5, 0]


def test_an_outcome_decides_at_once_and_every_condition() -> None:
    for first in (None, brings(balance(0, 1, 50))):
        for condition in CONDITIONS:
            blocks = VirtualBlocks()
            if first is not None:
                blocks.take(first)
            blocks.take(outcome(0, 0, 0, 33, condition=condition), 1_100)
            assert [blocks.due(index, 1_100) for index in range(4)] == [0, 0, 0, 33]
            assert refused(blocks, brings(balance(0, 2, 50)), 1_100) is Revert.WINDOW_OVER
            assert refused(blocks, outcome(50, 0, 0, 0), 1_100) is Revert.WINDOW_OVER


def test_the_court_hears_of_a_channel_up_to_its_expiry_and_a_lock_that_expires_before_goes_back() -> None:
    blocks = VirtualBlocks()
    assert refused(blocks, brings(balance(0, 1, 9)), EXPIRY + 1) is Revert.EXPIRED
    assert refused(blocks, outcome(1, 0, 0, 0), EXPIRY + 1) is Revert.EXPIRED
    assert blocks.due(0, EXPIRY) is None and blocks.due(0, EXPIRY + 1) == 0
    blocks.take(brings(balance(0, 1, 9)), EXPIRY)
    assert blocks.due(0, EXPIRY + PERIOD) is None and blocks.due(0, EXPIRY + PERIOD + 1) == 9
    assert blocks.due(0, EXPIRY, expiry=EXPIRY - 1) == 0
    assert blocks.due(2, EXPIRY + PERIOD + 1, amount=5) == 0


def test_only_what_both_signed_for_this_channel_is_taken() -> None:
    blocks = VirtualBlocks()
    good = balance(0, 1, 9)
    forged = replace(good, countersignature=good.signature)
    assert refused(blocks, brings(forged)) is Revert.BAD_SIGNATURE
    assert refused(blocks, brings(replace(good, signature=good.countersignature))) is Revert.BAD_SIGNATURE
    assert refused(blocks, outcome(0, 0, 0, 0, signers=(KEYS[0], KEYS[0]))) is Revert.BAD_SIGNATURE
    assert refused(blocks, outcome(51, 0, 0, 0)) is Revert.BAD_SIGNATURE
    assert refused(blocks, outcome(0, 71, 0, 0)) is Revert.BAD_SIGNATURE
    elsewhere = replace(TERMS, nonce=4)
    assert refused(blocks, brings(good, terms=elsewhere)) is Revert.BAD_SIGNATURE
    theirs = virtual.conditions_of(virtual.virtual_id(elsewhere))[0]
    assert not BalancesProof(TERMS, (balance(0, 1, 9, channel=virtual.virtual_id(elsewhere)), None)).holds()
    assert not BalancesProof(TERMS, (None, good)).holds() and not BalancesProof(TERMS, (None, None)).holds()
    assert refused(blocks, brings(good, condition=theirs)) is Revert.BAD_PROOF
    assert refused(blocks, RegisterProofCall(VIRTUAL, CONDITIONS[0], b"")) is Revert.BAD_PROOF
    assert refused(blocks, RegisterProofCall(VIRTUAL, CONDITIONS[0], bytes(PROOF_MAX + 1))) is Revert.BAD_PROOF
    assert blocks.court is None


def test_what_is_locked_within_a_virtual_channel_counts_nothing() -> None:
    blocks = VirtualBlocks()
    blocks.take(brings(balance(0, 1, 9, locked=30, locks_root=b"r" * 32)))
    assert blocks.due(0, 1_001 + PERIOD) == 9


totals = st.integers(0, AMOUNT_MAX)


@given(given=st.tuples(totals, totals), stakes=st.tuples(st.integers(0, 2**127), st.integers(1, 2**127 - 1)))
def test_what_goes_over_is_the_difference_cut_off_at_what_is_there(
    given: tuple[int, int], stakes: tuple[int, int]
) -> None:
    first, second = moved(stakes, given)
    assert 0 <= first <= stakes[0] and 0 <= second <= stakes[1] and min(first, second) == 0
    net = given[0] - given[1]
    if -stakes[1] <= net <= stakes[0]:
        assert first - second == net


# --- off chain ----------------------------------------------------------------------------------------------------


def test_an_outcome_pays_each_lock_what_it_says_and_balances_pay_none() -> None:
    proof = ended(20, 30, 40, 0).encode()
    assert [conditions.amount_paid(lock(index), proof) for index in range(4)] == [20, 30, 40, 0]
    assert conditions.amount_paid(lock(2, 10), proof) == 10
    assert conditions.amount_paid(lock(0, expiry=EXPIRY + 1), proof) == 20
    bad = (
        (lock(0, expiry=EXPIRY - 1), proof),
        (replace(lock(0), condition=bytes(32)), proof),
        (lock(0), brings(balance(0, 1, 20)).proof),
        (lock(0), ended(20, 0, 0, 0, signers=(KEYS[1], KEYS[1])).encode()),
        (lock(0), ended(51, 0, 0, 0).encode()),
        (lock(0), proof + b"\0"),
        (lock(0), b""),
    )
    for pending, wrong in bad:
        with pytest.raises(InvalidUpdate):
            conditions.amount_paid(pending, wrong)


def test_proofs_are_read_back_as_they_were_written_and_in_no_other_way() -> None:
    both = BalancesProof(TERMS, (balance(0, 4, 45), balance(1, 9, 15)))
    for proof in (ended(1, 2, 3, 4), both, replace(both, proofs=(None, both.proofs[1]))):
        data = proof.encode()
        assert decode_proof(data) == proof and len(data) <= PROOF_MAX
        for wrong in (data[:-1], data + b"\0", bytes([2]) + data[1:]):
            with pytest.raises(InvalidInput):
                decode_proof(wrong)
    none = bytearray(both.encode())
    at = 1 + len(both.encode()) - 1 - 2 * (8 + 16 + 16 + 32 + 8 + 128) - 1
    assert none[at] == 3
    for flags in (0, 4, 7):
        none[at] = flags
        with pytest.raises(InvalidInput):
            decode_proof(bytes(none))


def test_terms_that_make_no_sense_are_refused_and_each_field_makes_another_channel() -> None:
    bad = (
        {"players": TERMS.players[::-1]},
        {"players": (TERMS.players[0], TERMS.players[0])},
        {"stakes": (0, 0)},
        {"stakes": (-1, 5)},
        {"stakes": (AMOUNT_MAX, 1)},
        {"period": 599},
        {"period": 604_801},
        {"expiry": 2**64},
        {"asset": b"short"},
    )
    for fields in bad:
        with pytest.raises(InvalidInput):
            replace(TERMS, **fields)
    others = (
        {"chain_id": 1},
        {"contract": bytes(20)},
        {"asset": b"a" * 20},
        {"stakes": (51, 70)},
        {"stakes": (50, 71)},
        {"expiry": 1},
        {"period": 601},
        {"nonce": 4},
    )
    found = {virtual.virtual_id(replace(TERMS, **fields)) for fields in others} | {CHANNEL}
    assert len(found) == len(others) + 1 and channel_id(TERMS.channel_terms) not in found
    assert len(set(CONDITIONS)) == 4


def test_what_a_chain_node_shows_of_virtual_channels_is_looked_at() -> None:
    header = Header(1, b"\1" * 32, b"\0" * 32, 1_000)
    good = ProofRegistered(CONDITIONS[3], VIRTUAL, outcome(0, 0, 0, 0).proof, 1_000)
    check_block(Block(header, (good,)))
    for wrong in (
        replace(good, condition=bytes(32)),
        replace(good, proof=good.proof[:-1] + b"\0"),
        replace(good, proof=b"junk"),
    ):
        with pytest.raises(ChainError):
            check_block(Block(header, (wrong,)))


# --- what a player does -------------------------------------------------------------------------------------------


def test_a_dispute_is_begun_by_whom_it_gives_something_and_only_near_the_expiry_unless_it_is_asked_for() -> None:
    held = VirtualHeld(terms=TERMS, side=1, proofs=(balance(0, 4, 45), balance(1, 9, 15)))
    assert held.gain == 30 and replace(held, side=0).gain == -30
    assert not virtual_duties(held, None, EXPIRY - 120, PRICES)
    assert not virtual_duties(replace(held, side=0, disputed=True), None, EXPIRY - 1, PRICES)
    assert not virtual_duties(held, None, EXPIRY + 1, PRICES)
    for due, now in ((held, EXPIRY - 119), (replace(held, disputed=True), 1_000)):
        (duty,) = virtual_duties(due, None, now, PRICES)
        assert (duty.duty, duty.deadline) == (Duty.REGISTER_BALANCES, EXPIRY)
        assert isinstance(duty.call, RegisterProofCall)
        assert decode_proof(duty.call.proof) == BalancesProof(TERMS, held.proofs)
    assert not virtual_duties(VirtualHeld(terms=TERMS, side=1, disputed=True), None, 1_000, PRICES)


def test_old_balances_in_court_are_answered_by_what_is_newer_and_by_an_outcome_if_there_is_one() -> None:
    blocks = VirtualBlocks()
    blocks.take(brings(balance(0, 4, 45), balance(1, 8, 10)))
    held = VirtualHeld(terms=TERMS, side=1, proofs=(balance(0, 4, 45), balance(1, 9, 15)))
    (duty,) = virtual_duties(replace(held, side=0), blocks.court, 1_200, PRICES)
    assert duty.deadline == 1_000 + PERIOD and isinstance(duty.call, RegisterProofCall)
    assert decode_proof(duty.call.proof) == BalancesProof(TERMS, (None, held.proofs[1]))
    known = ended(0, 0, 30, 0)
    (ending,) = virtual_duties(replace(held, outcome=known), blocks.court, 1_200, PRICES)
    assert ending.duty is Duty.REGISTER_ENDING and isinstance(ending.call, RegisterProofCall)
    proof = decode_proof(ending.call.proof)
    assert isinstance(proof, EndingProof) and proof == known
    assert not virtual_duties(replace(held, outcome=known), blocks.court, 1_001 + PERIOD, PRICES)
    assert not virtual_duties(replace(held, outcome=known), None, 1_200, PRICES)
    assert virtual_duties(replace(held, outcome=known, shown=True), None, 1_200, PRICES)
