"""Kinds of locks as a table: one that was registered from outside, off chain, and proofs that are of another kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simulation.half_lock import HALF, HalfLock
from simulation.pair import Pair, Party
from tallystick.channels.errors import Fault, InvalidInput, InvalidUpdate
from tallystick.channels.limits import BATCH_BYTES_MAX, LOCKS_MAX, MESSAGE_MAX, PROOF_MAX
from tallystick.channels.protocol import conditions
from tallystick.channels.protocol.conditions import HASH, STREAM, amount_paid, digest_of, kind_of, require_known, worth
from tallystick.channels.protocol.conditions.hash_lock import HashLock
from tallystick.channels.protocol.conditions.kinds import KindTable, LockKind
from tallystick.channels.protocol.conditions.stream import StreamLock
from tallystick.channels.protocol.hashchain import HashChain, StreamProof, StreamTerms
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.protocol.operations import Unlock
from tallystick.channels.session.effects import LockEnded, LockReceived, SecretLearned
from tallystick.channels.session.inputs import RevealSecret, SubmitLock
from tallystick.channels.session.outbox import Outbox
from tallystick.channels.testing.clock import EPOCH

NOW = int(EPOCH)
PREIMAGE = b"anything at all, and longer than 32 bytes: it is not of a hash lock"
LOCK = Lock(0, 101, NOW + 600, HALF, keccak(PREIMAGE))


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A program that brings a kind of its own: it registers it before it does anything else."""
    monkeypatch.setattr(conditions, "KINDS", KindTable[LockKind](HashLock(), StreamLock()))
    conditions.KINDS.register(HalfLock())
    yield


def connected() -> Pair:
    pair = Pair((10_000, 10_000))
    pair.connect()
    pair.settle()
    return pair


def offer(pair: Pair, amount: int = 101, kind: int = HALF, condition: bytes = LOCK.condition) -> int:
    number = pair.alice.apply(SubmitLock(amount, NOW + 600, condition, b"", kind))
    pair.settle()
    return number


def reveal(pair: Pair, number: int, proof: bytes = PREIMAGE) -> None:
    pair.bob.apply(RevealSecret(number, proof))
    pair.settle()


def told(party: Party, kind: type) -> list[object]:
    return [event for event in party.events if isinstance(event, kind)]


# --- the table ---------------------------------------------------------------------------------------------------


def test_a_table_takes_kinds_until_it_is_asked_and_each_number_once() -> None:
    table: KindTable[LockKind] = KindTable(HashLock(), StreamLock())
    with pytest.raises(InvalidInput, match="taken"):
        table.register(HashLock())
    table.register(HalfLock())
    assert [kind.number for kind in table] == [HASH, STREAM, HALF]
    assert table.find(1) is None and repr(table) == "<KindTable [0, 2, 200] closed>"
    with pytest.raises(InvalidInput, match="too late"):
        table.register(HalfLock())


@pytest.mark.parametrize("number", [-1, 256])
def test_a_kind_is_one_byte(number: int) -> None:
    class Wide(HalfLock):
        pass

    Wide.number = number
    with pytest.raises(InvalidInput, match="255"):
        KindTable[LockKind]().register(Wide())


def test_a_look_into_the_table_closes_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "KINDS", KindTable[LockKind](HashLock()))
    assert amount_paid(Lock(0, 5, 9, HASH, digest_of(b"s" * 32)), b"s" * 32) == 5
    with pytest.raises(InvalidInput, match="too late"):
        conditions.KINDS.register(HalfLock())


def test_a_kind_that_nobody_registered_is_refused_everywhere() -> None:
    with pytest.raises(InvalidUpdate, match=r"kind 200 .* known kinds are \[0, 1, 2, 3\]") as refused:
        kind_of(LOCK)
    assert refused.value.code is Fault.BAD_LOCK and worth(LOCK, PREIMAGE) == 0
    with pytest.raises(InvalidInput, match="register it before a node is opened"):
        require_known([LOCK])
    pair = connected()
    with pytest.raises(InvalidInput, match="register it before a node is opened"):
        offer(pair)
    assert len(pair.alice.session.outbox) == 0


def test_a_peer_that_does_not_know_a_kind_refuses_it_loudly(half: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = connected()
    pair.alice.apply(SubmitLock(101, NOW + 600, LOCK.condition, b"", HALF))
    pair.alice.step()
    monkeypatch.setattr(conditions, "KINDS", KindTable[LockKind](HashLock(), StreamLock()))
    pair.deliver(pair.bob)
    ((accuser, fault),) = pair.faults
    assert accuser is pair.bob and "known kinds are [0, 2]" in str(fault)


# --- a kind from outside, between two nodes ----------------------------------------------------------------------


def test_a_lock_of_a_kind_from_outside_is_offered_revealed_and_paid_as_it_says(half: None) -> None:
    pair = connected()
    number = offer(pair)
    assert [event.lock for event in told(pair.bob, LockReceived)] == [LOCK]  # type: ignore[attr-defined]
    with pytest.raises(InvalidUpdate, match="preimage"):
        pair.bob.apply(RevealSecret(number, b"s" * 32))
    reveal(pair, number)
    proof = pair.bob.channel.theirs.simplex.proof
    assert pair.faults == [] and (proof.transferred, proof.locked) == (50, 0)
    assert told(pair.alice, SecretLearned) == [SecretLearned(pair.id, LOCK, PREIMAGE)]
    assert told(pair.bob, LockEnded) == [LockEnded(pair.id, 0, LOCK, 50, PREIMAGE)]
    assert pair.alice.channel.balances() == (9_950, 10_050)


def test_a_router_is_not_asked_about_a_kind_that_is_not_its_own(half: None) -> None:
    class Keeper:
        def on_channel_ready(self, channel: object) -> tuple[()]:
            return ()

        def on_chain_moved(self) -> tuple[()]:
            return ()

    pair = connected()
    for party in pair.parties:
        party.engine.keep_locks(Keeper())  # type: ignore[arg-type]
    reveal(pair, offer(pair))
    assert pair.faults == [] and pair.alice.channel.balances() == (9_950, 10_050)
    assert pair.bob.session.locks.undecided_locks() == []


@pytest.mark.parametrize("registered", [True, False])
def test_such_a_lock_is_paid_by_what_the_chain_shows_and_by_nothing_else(half: None, registered: bool) -> None:
    pair = connected()
    offer(pair)
    kind = HALF if registered else HASH
    pair.alice.time(NOW + 100, NOW + 90, {(kind, LOCK.condition): (NOW + 50, PREIMAGE)})
    pair.settle()
    assert pair.faults == [] and pair.bob.channel.theirs.simplex.proof.transferred == (50 if registered else 0)
    assert len(pair.bob.channel.theirs.simplex.locks) == (0 if registered else 1)


def test_a_node_that_has_forgotten_the_kind_of_a_stored_lock_does_not_start(
    half: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = connected()
    offer(pair)
    pair.crash(pair.alice)
    assert pair.alice.channel.newest.locks == (LOCK,)
    monkeypatch.setattr(conditions, "KINDS", KindTable[LockKind](HashLock(), StreamLock()))
    with pytest.raises(InvalidInput, match="kind 200"):
        pair.crash(pair.bob)


def test_a_proof_as_long_as_a_streams_is_not_counted_as_one(half: None) -> None:
    preimage = b"\xff" * 96
    pair = connected()
    reveal(pair, offer(pair, condition=keccak(preimage)), preimage)
    assert pair.faults == [] and pair.bob.channel.theirs.simplex.proof.transferred == 50


def test_unlocks_with_long_proofs_fit_into_the_updates_that_carry_them(half: None) -> None:
    proofs = [number.to_bytes(2, "big") + bytes(PROOF_MAX - 2) for number in range(200)]
    assert sum(map(len, proofs)) > 2 * MESSAGE_MAX and len(proofs) < LOCKS_MAX
    pair = connected()
    for proof in proofs:
        pair.alice.apply(SubmitLock(2, NOW + 600, keccak(proof), b"", HALF))
    pair.settle()
    for number, proof in enumerate(proofs):
        pair.bob.apply(RevealSecret(number, proof))
    pair.settle()
    assert pair.faults == [] and pair.bob.channel.theirs.simplex.proof.transferred == 200


def test_the_outbox_counts_a_long_proof_as_long_as_it_is() -> None:
    outbox = Outbox()
    for number in range(100):
        outbox.end_lock(Unlock(number, bytes(PROOF_MAX), 1))
    assert outbox.full_batch
    operations, _ = outbox.take(0, 0)
    assert BATCH_BYTES_MAX // 2 < sum(len(operation.proof) for operation in operations) < BATCH_BYTES_MAX + PROOF_MAX  # type: ignore[union-attr]


# --- a proof of another kind -------------------------------------------------------------------------------------


def link() -> tuple[StreamTerms, StreamProof]:
    chain = HashChain.built(b"x" * 32, 10)
    terms = StreamTerms(chain.tip, 3, 10)
    return terms, StreamProof(chain.link(4), 4, terms)


def test_a_registered_link_does_not_touch_a_hash_lock_whose_hash_is_that_streams_condition() -> None:
    """Anybody may ask to be paid under any hash: also under one whose preimage is the terms of a stream of its own."""
    terms, proof = link()
    condition = terms.condition(NOW + 500)
    pair = connected()
    offer(pair, 20, HASH, condition)
    for party in pair.parties:
        party.time(NOW + 100, NOW + 90, {(STREAM, condition): (NOW + 50, proof.encode())})
    pair.settle()
    assert pair.faults == [] and len(pair.bob.channel.theirs.simplex.locks) == 1
    for party in pair.parties:
        party.time(NOW + 700, NOW + 690)
    pair.settle()
    assert pair.faults == [] and pair.bob.channel.theirs.simplex.locks == ()
    assert pair.alice.channel.balances() == (10_000, 10_000)
