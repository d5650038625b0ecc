"""Who cheats with a stream, or lets its time run out, gets nothing by it."""

from __future__ import annotations

import pytest

from simulation.pair import Pair, Party
from simulation.stream_pair import EXPIRY, NOW, begin, close, connected, held, received, submit, transferred
from tallystick.channels.errors import Fault, InvalidInput
from tallystick.channels.protocol.conditions import STREAM
from tallystick.channels.protocol.hashchain import HashChain, StreamProof, StreamTerms, stream_seed
from tallystick.channels.protocol.messages import Links, LinksAck, Reveal, encode
from tallystick.channels.protocol.operations import Cancel, Unlock
from tallystick.channels.session.effects import LockRejected
from tallystick.channels.session.inputs import (
    RejectLock,
    RevealSecret,
    SignDue,
    SubmitLock,
)


@pytest.fixture
def pair() -> Pair:
    return connected()


def fault_of(pair: Pair, party: Party) -> Fault:
    ((who, fault),) = pair.faults
    assert who is party
    return fault.code


def cheating_chain(pair: Pair, length: int = 100) -> HashChain:
    return HashChain.built(stream_seed(pair.alice.key, pair.id, 0), length)


# --- cheats -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "said"), [(5, 6), (6, 5), (0, 3), (100, 101)])
def test_a_link_that_does_not_continue_the_stream_is_a_fault(pair: Pair, depth: int, said: int) -> None:
    submit(pair, begin(pair), 2)
    pair.settle()
    pair.inject(pair.bob, encode(Links(pair.id, 0, said, cheating_chain(pair).link(depth))))
    assert fault_of(pair, pair.bob) is Fault.BAD_PROOF
    assert held(pair.bob) == 2


def test_links_of_unknown_streams_are_ignored(pair: Pair) -> None:
    begin(pair)
    pair.inject(pair.bob, encode(Links(pair.id, 9, 1, bytes(32))))
    pair.inject(pair.alice, encode(Links(pair.id, 0, 1, bytes(32))))
    pair.inject(pair.alice, encode(LinksAck(pair.id, 9, 1)))
    pair.settle()
    assert (pair.faults, received(pair.alice), received(pair.bob)) == ([], 0, 0)


def test_an_acknowledgement_of_more_than_was_released_is_a_fault(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 2)
    pair.settle()
    pair.inject(pair.alice, encode(LinksAck(pair.id, 0, 3)))
    assert fault_of(pair, pair.alice) is Fault.STATE_MISMATCH
    assert stream.acked == 2


def test_an_unlock_for_less_than_the_payee_holds_is_refused(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 8)
    pair.settle()
    proof = StreamProof(cheating_chain(pair).link(7), 7, stream.terms)
    pair.alice.session.outbox.end_lock(Unlock(0, proof.encode(), proof.amount))
    pair.alice.apply(SignDue())
    pair.settle()
    assert fault_of(pair, pair.bob) is Fault.BAD_AMOUNT
    assert (held(pair.bob), transferred(pair)) == (8, 0)
    assert pair.bob.session.streams.claims()[0].depth == 8


def test_a_payee_cannot_end_a_stream_by_revealing_a_link_of_it(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 8)
    pair.settle()
    proof = StreamProof(cheating_chain(pair).link(5), 5, stream.terms)
    pair.inject(pair.alice, encode(Reveal(pair.id, 0, proof.encode())))
    assert fault_of(pair, pair.alice) is Fault.BAD_PROOF
    pair.settle()
    assert (transferred(pair), held(pair.bob)) == (0, 8)
    assert pair.alice.channel.newest.lock(0) is not None and not pair.alice.session.outbox.is_ending(0)


def test_a_stream_cannot_be_cancelled_without_consent(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 8)
    pair.settle()
    pair.alice.session.outbox.end_lock(Cancel(0))
    pair.alice.apply(SignDue())
    pair.settle()
    assert transferred(pair) == 0 and pair.bob.channel.theirs.simplex.lock(0) is not None
    assert pair.bob.session.streams.claims()[0].depth == 8


def test_the_payee_cannot_reject_a_stream_that_has_paid(pair: Pair) -> None:
    submit(pair, begin(pair), 1)
    pair.settle()
    with pytest.raises(InvalidInput):
        pair.bob.apply(RejectLock(0, b""))
    with pytest.raises(InvalidInput):
        pair.bob.apply(RevealSecret(0, bytes(32)))


def test_a_stream_on_other_terms_than_its_locks_is_rejected(pair: Pair) -> None:
    tip = cheating_chain(pair).tip
    right, wrong = StreamTerms(tip, 3, 100), StreamTerms(tip, 30, 100)
    for terms, onion in ((right, wrong.encode()), (right, b""), (wrong, wrong.encode())):
        pair.alice.apply(SubmitLock(300, EXPIRY, terms.condition(EXPIRY), onion, STREAM))
        pair.settle()
    assert len([event for event in pair.alice.events if isinstance(event, LockRejected)]) == 3
    assert pair.bob.session.streams.incoming == {} and pair.faults == []


# --- time ---------------------------------------------------------------------------------------------------------


def test_a_stream_is_settled_before_it_expires_although_nobody_closes_it(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 5)
    pair.settle()
    pair.alice.time(EXPIRY - 300, EXPIRY - 300)
    pair.settle()
    assert not stream.is_ended
    pair.alice.time(EXPIRY - 299, EXPIRY - 299)
    pair.settle()
    assert (stream.paid, transferred(pair)) == (15, 15)


def test_a_payee_takes_no_link_that_it_could_not_register_any_more(pair: Pair) -> None:
    stream = begin(pair)
    pair.bob.time(EXPIRY - 59, EXPIRY - 59)
    submit(pair, stream, 5)
    pair.settle()
    assert (held(pair.bob), stream.acked, received(pair.bob)) == (0, 0, 0)
    close(pair, stream)
    assert transferred(pair) == 15


def test_a_registered_link_makes_the_payer_unlock_with_its_deepest_one(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 5)
    pair.settle()
    proof = StreamProof(cheating_chain(pair).link(3), 3, stream.terms)
    condition = stream.terms.condition(EXPIRY)
    pair.alice.time(NOW + 10, NOW + 10, {(STREAM, condition): (NOW + 5, proof.encode())})
    pair.settle()
    assert (stream.paid, transferred(pair)) == (15, 15)


def test_a_registered_link_that_the_payer_has_forgotten_is_owed_all_the_same(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 2)
    pair.settle()
    proof = StreamProof(cheating_chain(pair).link(6), 6, stream.terms)
    pair.alice.time(NOW + 10, NOW + 10, {(STREAM, stream.terms.condition(EXPIRY)): (NOW + 5, proof.encode())})
    pair.settle()
    assert (stream.paid, transferred(pair), pair.faults) == (18, 18, [])


@pytest.mark.parametrize("registered", [False, True])
def test_consent_to_cancel_an_expired_stream_depends_on_the_confirmed_registry(pair: Pair, registered: bool) -> None:
    stream = begin(pair)
    submit(pair, stream, 5)
    pair.settle()
    pair.disconnect()
    condition = stream.terms.condition(EXPIRY)
    found = {(STREAM, condition): (EXPIRY, pair.bob.session.streams.claims()[0].encode())} if registered else {}
    pair.bob.time(EXPIRY + 100, EXPIRY + 100, found)
    pair.alice.session.outbox.end_lock(Cancel(0))
    pair.connect()
    pair.settle()
    assert (pair.bob.channel.theirs.simplex.lock(0) is None) is not registered
    assert transferred(pair) == 0
