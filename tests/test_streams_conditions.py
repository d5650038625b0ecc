"""Streams as pure rules: what a link pays, off chain, in the registry and before the adjudicator."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.disputes import PERIOD, ChannelFixture, DisputeFixture
from tallystick.channels.errors import Fault, InvalidInput, InvalidUpdate
from tallystick.channels.limits import AMOUNT_MAX, STREAM_LENGTH_MAX
from tallystick.channels.protocol.conditions import STREAM, amount_paid
from tallystick.channels.protocol.hashchain import HashChain, StreamProof, StreamTerms, stream_seed
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.settlement.chain import (
    Block,
    Header,
    LinkRegistered,
    RedeemCall,
    Redeemed,
    RegisterLinkCall,
    SettleCall,
)
from tallystick.settlement.contract.state import ChannelStatus
from tallystick.settlement.contract.verdicts.rules import Registration
from tallystick.settlement.contract.verdicts.stream import StreamVerdict
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.ethereum.transactions import gas_of
from tallystick.settlement.following.index import ChainIndex
from tallystick.settlement.following.sqlite import INDEX_SCHEMA

EXPIRY = 5_000
SEED = keccak(b"a seed")
FIXTURE = ChannelFixture()

seeds = st.binary(min_size=32, max_size=32)
lengths = st.integers(1, 300)
units = st.integers(1, 2**40)


def stream(length: int, unit: int = 3, seed: bytes = SEED, expiry: int = EXPIRY) -> tuple[HashChain, StreamTerms, Lock]:
    chain = HashChain.built(seed, length)
    terms = StreamTerms(chain.tip, unit, length)
    return chain, terms, Lock(0, terms.amount, expiry, STREAM, terms.condition(expiry))


def refused(lock: Lock, proof: bytes) -> None:
    with pytest.raises(InvalidUpdate) as caught:
        amount_paid(lock, proof)
    assert caught.value.code is Fault.BAD_PROOF


# --- the chain --------------------------------------------------------------------------------------------------


@given(seeds, lengths, st.data())
def test_every_link_of_a_chain_hashes_to_the_tip_in_as_many_steps_as_it_is_deep(
    seed: bytes, length: int, data: st.DataObject
) -> None:
    chain = HashChain.built(seed, length)
    for depth in data.draw(st.lists(st.integers(0, length), max_size=5)):
        link = chain.link(depth)
        for _ in range(depth):
            link = hashlib.sha256(link).digest()
        assert link == chain.tip
    assert chain.link(length) == seed and chain.link(0) == chain.tip


def test_a_seed_is_of_one_key_one_channel_and_one_lock() -> None:
    keys = [PrivateKey(keccak(name)) for name in (b"one", b"two")]
    found = {stream_seed(key, bytes([n]) * 32, lock) for key in keys for n in range(2) for lock in range(2)}
    assert len(found) == 8
    assert stream_seed(keys[0], bytes(32), 0) in found


def test_terms_out_of_range_are_no_terms() -> None:
    for tip, unit, length in (
        (b"short", 1, 1),
        (SEED, 0, 1),
        (SEED, 1, 0),
        (SEED, 1, STREAM_LENGTH_MAX + 1),
        (SEED, AMOUNT_MAX, 2),
    ):
        with pytest.raises(InvalidInput):
            StreamTerms(tip, unit, length)
    with pytest.raises(InvalidInput):
        HashChain(SEED, STREAM_LENGTH_MAX + 1)
    with pytest.raises(InvalidInput):
        StreamTerms.decode(bytes(55))


# --- the condition ----------------------------------------------------------------------------------------------


@given(seeds, lengths, units, st.data())
def test_a_link_pays_its_depth_in_units_and_nothing_else(
    seed: bytes, length: int, unit: int, data: st.DataObject
) -> None:
    chain, terms, lock = stream(length, unit, seed)
    depth = data.draw(st.integers(0, length))
    proof = StreamProof(chain.link(depth), depth, terms)
    assert StreamProof.decode(proof.encode()) == proof
    assert amount_paid(lock, proof.encode()) == depth * unit == proof.amount <= lock.amount


@given(lengths, units, st.data())
def test_a_proof_that_says_more_than_its_link_is_refused(length: int, unit: int, data: st.DataObject) -> None:
    chain, terms, lock = stream(length, unit)
    depth = data.draw(st.integers(0, length))
    said = data.draw(st.integers(0, 2**64 - 1).filter(lambda value: value != depth))
    refused(lock, StreamProof(chain.link(depth), said, terms).encode())
    refused(lock, StreamProof(keccak(chain.link(depth)), depth, terms).encode())


@given(st.integers(0, 95), st.integers(1, 255))
def test_a_proof_with_any_byte_changed_is_refused(position: int, change: int) -> None:
    chain, terms, lock = stream(20)
    proof = bytearray(StreamProof(chain.link(7), 7, terms).encode())
    proof[position] ^= change
    refused(lock, bytes(proof))


def test_a_stream_is_bound_to_its_amount_its_expiry_and_its_terms() -> None:
    chain, terms, lock = stream(20)
    proof = StreamProof(chain.link(7), 7, terms).encode()
    for other in (
        msgspec.structs.replace(lock, amount=lock.amount + 1),
        msgspec.structs.replace(lock, expiry=lock.expiry + 1),
        stream(20, unit=4)[2],
        stream(19)[2],
        stream(20, seed=keccak(b"another"))[2],
    ):
        refused(other, proof)
    for wrong in (b"", proof[:-1], proof + b"\0"):
        refused(lock, wrong)


# --- the registry -----------------------------------------------------------------------------------------------


def call(chain: HashChain, terms: StreamTerms, depth: int, expiry: int = EXPIRY) -> RegisterLinkCall:
    return RegisterLinkCall(chain.link(depth), depth, terms.tip, terms.unit, terms.length, expiry)


def register(known: int, call: RegisterLinkCall, time: int) -> Registration:
    return StreamVerdict().register(call, lambda condition: known, time)


def test_a_link_is_registered_up_to_the_expiry_and_not_after() -> None:
    chain, terms, lock = stream(20)
    event = register(0, call(chain, terms, 7), EXPIRY).event
    assert event == LinkRegistered(lock.condition, chain.link(7), 7, terms.tip, terms.unit, 20, EXPIRY)
    with pytest.raises(Reverted) as late:
        register(0, call(chain, terms, 7), EXPIRY + 1)
    assert late.value.code is Revert.EXPIRED


def test_another_expiry_is_another_condition() -> None:
    chain, terms, lock = stream(20)
    later = register(0, call(chain, terms, 7, EXPIRY + 100), EXPIRY + 50)
    assert later.condition != lock.condition == register(0, call(chain, terms, 7), 1).condition


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_the_deepest_link_stands_in_whatever_order_they_come(depths: list[int]) -> None:
    chain, terms, _ = stream(40)
    known = 0
    for depth in depths:
        if depth * terms.unit > known:
            known = register(known, call(chain, terms, depth), 1).kept
        else:
            with pytest.raises(Reverted) as caught:
                register(known, call(chain, terms, depth), 1)
            assert caught.value.code is Revert.NOT_NEWER
    assert known == max(depths) * terms.unit


def test_a_forged_link_or_impossible_terms_are_not_registered() -> None:
    chain, terms, _ = stream(20)
    good = call(chain, terms, 7)
    for change in ({"depth": 8}, {"link": SEED}, {"depth": 21}, {"length": 6}, {"unit": 0}, {"length": 2**40}):
        with pytest.raises(Reverted) as caught:
            register(0, msgspec.structs.replace(good, **change), 1)
        assert caught.value.code is Revert.BAD_PROOF


def test_the_deepest_link_of_the_longest_stream_fits_into_half_a_block() -> None:
    deepest = RegisterLinkCall(SEED, STREAM_LENGTH_MAX, SEED, 1, STREAM_LENGTH_MAX, EXPIRY)
    assert gas_of(deepest) < 15_000_000
    assert gas_of(msgspec.structs.replace(deepest, depth=2**64 - 1)) == gas_of(deepest)


def test_a_link_leaves_the_index_with_its_block_and_the_deepest_one_left_counts() -> None:
    chain, terms, lock = stream(20)
    store = SimulatedDisk([INDEX_SCHEMA]).open()
    index = ChainIndex(FIXTURE.address(0), store)
    for number, depth in ((1, 4), (2, 9)):
        event = register(0, call(chain, terms, depth), 100 + number).event
        store.commit(index.add(Block(Header(number, bytes(32), bytes(32), 100 + number), (event,))))
    proofs = {depth: StreamProof(chain.link(depth), depth, terms).encode() for depth in (4, 9)}
    assert index.proofs([lock.puzzle], 2) == {lock.puzzle: (102, proofs[9])}
    assert index.proofs([lock.puzzle], 1) == {lock.puzzle: (101, proofs[4])}
    store.commit(index.remove(2, 101))
    assert index.proofs([lock.puzzle], 2) == {lock.puzzle: (101, proofs[4])}


# --- the adjudicator --------------------------------------------------------------------------------------------


def settled(lock: Lock, *, deposit: int = 1_000) -> DisputeFixture:
    made = DisputeFixture(FIXTURE)
    made.open(deposit, 50)
    made.apply(FIXTURE.close(FIXTURE.proof(0, 1, 0, (lock,)), None))
    made.time += PERIOD + 1
    made.apply(SettleCall(FIXTURE.id))
    return made


@settings(max_examples=40)
@given(st.integers(0, 20), units)
def test_a_settled_stream_pays_what_is_registered_and_refunds_the_rest(depth: int, unit: int) -> None:
    _, _, lock = stream(20, unit)
    made = settled(lock, deposit=lock.amount)
    made.kept[lock.puzzle] = depth * unit
    made.time = EXPIRY + 1
    (event,) = made.apply(RedeemCall(FIXTURE.id, 0, (lock,)))
    assert isinstance(event, Redeemed) and (event.paid, event.refunded) == (depth * unit, (20 - depth) * unit)
    assert made.state.status == ChannelStatus.GONE and made.received(1) == 50 + depth * unit


def test_a_stream_is_not_decided_before_its_expiry_however_deep_the_link() -> None:
    _, _, lock = stream(20)
    made = settled(lock)
    made.kept[lock.puzzle] = lock.amount
    made.time = EXPIRY
    with pytest.raises(Reverted) as caught:
        made.apply(RedeemCall(FIXTURE.id, 0, (lock,)))
    assert caught.value.code is Revert.NOTHING_TO_REDEEM


def test_a_stream_whose_pot_is_short_pays_the_receiver_first() -> None:
    _, _, lock = stream(20)
    made = settled(lock, deposit=35)
    made.kept[lock.puzzle] = 30
    made.time = EXPIRY + 1
    made.apply(RedeemCall(FIXTURE.id, 0, (lock,)))
    assert (made.received(0), made.received(1)) == (5, 80)
