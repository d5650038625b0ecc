"""What the receiver of an update refuses, and how it names the fault."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import pytest

from simulation.pair import Pair
from tallystick.channels.errors import ChannelNotReady, Fault, InsufficientFunds, InvalidInput, InvalidUpdate
from tallystick.channels.limits import AMOUNT_MAX, LOCKS_MAX, REASON_MAX, UINT64_MAX, WINDOW_MAX, Policy
from tallystick.channels.protocol import answers, core
from tallystick.channels.protocol.apps import APP
from tallystick.channels.protocol.conditions import BY_COURT
from tallystick.channels.protocol.core import Channel, Phase, Rejection, SignedSimplex
from tallystick.channels.protocol.objects import BalanceProof, Lock
from tallystick.channels.protocol.operations import AddLock, Cancel, Operation, Pay, Unlock
from tallystick.channels.protocol.simplex import Simplex
from tallystick.channels.protocol.virtual import VIRTUAL

SECRET = b"s" * 32
CONDITION = hashlib.sha256(SECRET).digest()
EXPIRY = 2_000_000_000


def lock(number: int = 0, amount: int = 10, expiry: int = EXPIRY, kind: int = 0, condition: bytes = CONDITION) -> Lock:
    return Lock(number, amount, expiry, kind, condition)


@pytest.fixture
def channel() -> Channel:
    """Bob's channel: both deposited 1000, a reserve of 100; Alice writes to him."""
    return Pair((1_000, 1_000), reserve=100).bob.channel


def locked(channel: Channel, *locks: Lock, seq: int = 1) -> Channel:
    """The channel after Alice's update with these locks."""
    return core.with_peer_update(channel, core.accept(channel, seq, 0, [AddLock(each) for each in locks]), bytes(64))


def test_a_valid_update_is_accepted_and_conserves(channel: Channel) -> None:
    after = core.accept(channel, 1, 0, [Pay(0, (3, 4)), AddLock(lock())])
    assert (after.proof.transferred, after.proof.locked, after.next_payment, after.next_lock) == (7, 10, 2, 1)
    assert after.committed == 17


@pytest.mark.parametrize(
    ("fault", "seq", "seen", "operations"),
    [
        (Fault.WRONG_SEQ, 0, 0, [Pay(0, (1,))]),
        (Fault.WRONG_SEQ, 2, 0, [Pay(0, (1,))]),
        (Fault.WINDOW_EXCEEDED, 1, 1, [Pay(0, (1,))]),
        (Fault.WRONG_PAYMENT_ID, 1, 0, [Pay(1, (1,))]),
        (Fault.WRONG_PAYMENT_ID, 1, 0, [Pay(0, (1,)), Pay(0, (1,))]),
        (Fault.BAD_AMOUNT, 1, 0, [Pay(0, (0,))]),
        (Fault.BAD_AMOUNT, 1, 0, [Pay(0, (5, -1))]),
        (Fault.BAD_AMOUNT, 1, 0, [Pay(0, (AMOUNT_MAX, 1))]),
        (Fault.MALFORMED, 1, 0, [Pay(0, (1, 2), (b"one memo",))]),
        (Fault.OVER_CAPACITY, 1, 0, [Pay(0, (901,))]),
        (Fault.OVER_CAPACITY, 1, 0, [AddLock(lock(amount=901))]),
        (Fault.OVER_CAPACITY, 1, 0, [Pay(0, (900,)), AddLock(lock(amount=1))]),
        (Fault.BAD_LOCK, 1, 0, [AddLock(lock(number=1))]),
        (Fault.BAD_LOCK, 1, 0, [AddLock(lock(amount=0))]),
        (Fault.BAD_LOCK, 1, 0, [AddLock(lock(amount=AMOUNT_MAX + 1))]),
        (Fault.BAD_LOCK, 1, 0, [AddLock(lock(expiry=UINT64_MAX + 1))]),
        (Fault.BAD_LOCK, 1, 0, [AddLock(lock(kind=7))]),
        (Fault.BAD_LOCK, 1, 0, [AddLock(lock(condition=b"short"))]),
        (Fault.BAD_LOCK, 1, 0, [Unlock(0, SECRET, 10)]),
        (Fault.CANCEL_REFUSED, 1, 0, [Cancel(0)]),
        (Fault.CANCEL_REFUSED, 1, 0, [AddLock(lock()), Cancel(0)]),
        (Fault.TOO_MANY_LOCKS, 1, 0, [AddLock(lock(n, 1)) for n in range(LOCKS_MAX + 1)]),
    ],
)
def test_each_fault_has_its_name(
    channel: Channel, fault: Fault, seq: int, seen: int, operations: list[Operation]
) -> None:
    with pytest.raises(InvalidUpdate) as caught:
        core.accept(channel, seq, seen, operations)
    assert caught.value.code is fault


@pytest.mark.parametrize(
    ("fault", "operation"),
    [
        (Fault.BAD_PROOF, Unlock(0, b"x" * 32, 10)),
        (Fault.BAD_PROOF, Unlock(0, b"short", 10)),
        (Fault.BAD_AMOUNT, Unlock(0, SECRET, 9)),
        (Fault.BAD_AMOUNT, Unlock(0, SECRET, 11)),
        (Fault.CANCEL_REFUSED, Cancel(0)),
        (Fault.BAD_LOCK, AddLock(lock(0))),
    ],
)
def test_faults_with_a_pending_lock(channel: Channel, fault: Fault, operation: Operation) -> None:
    with pytest.raises(InvalidUpdate) as caught:
        core.accept(locked(channel, lock()), 2, 0, [operation])
    assert caught.value.code is fault


def test_a_replayed_update_is_out_of_order(channel: Channel) -> None:
    with pytest.raises(InvalidUpdate) as caught:
        core.accept(locked(channel, lock()), 1, 0, [AddLock(lock())])
    assert caught.value.code is Fault.WRONG_SEQ


def test_a_lock_ends_once(channel: Channel) -> None:
    with pytest.raises(InvalidUpdate) as caught:
        core.accept(locked(channel, lock()), 2, 0, [Unlock(0, SECRET, 10), Unlock(0, SECRET, 10)])
    assert caught.value.code is Fault.BAD_LOCK


def test_a_cancel_needs_consent_or_expiry_and_gives_the_amount_back(channel: Channel) -> None:
    pending = locked(channel, lock())
    assert core.accept(pending, 2, 0, [Cancel(0)], frozenset({0})).committed == 0
    rejected = answers.reject(pending, 0, b"no")
    after = core.with_peer_update(rejected, core.accept(rejected, 2, 0, [Cancel(0)]), bytes(64))
    assert (after.theirs.simplex.committed, after.rejections) == (0, ())


def test_an_unlock_pays_even_when_nothing_is_free(channel: Channel) -> None:
    pending = locked(channel, lock(amount=900))
    assert core.accept(pending, 2, 0, [Unlock(0, SECRET, 900)]).proof.transferred == 900


def at(channel: Channel, seq: int, seen: int, total: int = 0) -> Channel:
    """The channel with Alice's simplex at that number."""
    proof = BalanceProof(channel.id, channel.peer_side, seq, total, 0, seen=seen)
    return msgspec.structs.replace(channel, theirs=SignedSimplex(Simplex(proof), bytes(64), bytes(64)))


@pytest.mark.parametrize(("seen", "fine"), [(9, False), (10, True), (99, True), (100, True), (101, False)])
def test_seen_neither_falls_nor_runs_ahead(channel: Channel, seen: int, fine: bool) -> None:
    near = at(channel, 60, 10)
    after = at(channel, 100, 10) if seen >= 99 else near
    number = after.theirs.seq + 1
    if fine:
        assert core.accept(after, number, seen, [Pay(0, (1,))]).proof.seen == seen
        return
    with pytest.raises(InvalidUpdate) as caught:
        core.accept(after, number, seen, [Pay(0, (1,))])
    assert caught.value.code is Fault.WINDOW_EXCEEDED


@pytest.mark.parametrize(("behind", "fine"), [(WINDOW_MAX, True), (WINDOW_MAX + 1, False)])
def test_the_window_is_bounded(channel: Channel, behind: int, fine: bool) -> None:
    far = at(channel, 200, 0)
    if fine:
        assert core.accept(far, 201, 201 - behind, [Pay(0, (1,))]).proof.seq == 201
        return
    with pytest.raises(InvalidUpdate) as caught:
        core.accept(far, 201, 201 - behind, [Pay(0, (1,))])
    assert caught.value.code is Fault.WINDOW_EXCEEDED


def test_numbers_end_at_64_bits_and_totals_at_128(channel: Channel) -> None:
    for worn in (at(channel, UINT64_MAX, UINT64_MAX - 1), at(channel, 5, 4, AMOUNT_MAX)):
        rich = msgspec.structs.replace(worn, deposits=(AMOUNT_MAX, AMOUNT_MAX))
        with pytest.raises(InvalidUpdate) as caught:
            core.accept(rich, worn.theirs.seq + 1, worn.theirs.seq, [Pay(0, (1,))])
        assert caught.value.code is Fault.BAD_AMOUNT


def test_a_writer_is_told_in_time_that_its_totals_are_used_up(channel: Channel) -> None:
    proof = BalanceProof(channel.id, channel.side, 5, AMOUNT_MAX - 10)
    worn = msgspec.structs.replace(
        channel,
        ours=SignedSimplex(Simplex(proof), bytes(64), bytes(64)),
        theirs=SignedSimplex(Simplex(BalanceProof(channel.id, channel.peer_side, 5, AMOUNT_MAX)), bytes(64), bytes(64)),
        reserve=0,
    )
    assert core.capacity(worn, 1_000) == 10
    assert core.propose(worn, [Pay(0, (10,))], 1_000).proof.transferred == AMOUNT_MAX


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.OPEN])
def test_nothing_is_signed_or_taken_unless_the_channel_is_open(channel: Channel, phase: Phase) -> None:
    other = msgspec.structs.replace(channel, phase=phase)
    with pytest.raises(InvalidUpdate) as caught:
        core.accept(other, 1, 0, [Pay(0, (1,))])
    assert caught.value.code is Fault.WRONG_PHASE
    with pytest.raises(ChannelNotReady):
        core.propose(other, [Pay(0, (1,))], 1_000)


@pytest.mark.parametrize("start", list(Phase))
def test_only_the_arrows_of_the_table_can_be_followed(channel: Channel, start: Phase) -> None:
    before = msgspec.structs.replace(channel, phase=start)
    for phase in Phase:
        if phase in core.LEAVES[start]:
            assert core.move(before, phase).phase is phase
        else:
            with pytest.raises(ChannelNotReady):
                core.move(before, phase)


def test_the_writer_keeps_its_reserve(channel: Channel) -> None:
    with pytest.raises(InsufficientFunds):
        core.propose(channel, [Pay(0, (901,))], 1_000)
    assert core.propose(channel, [Pay(0, (900,))], 1_000).committed == 900


def test_an_ack_for_what_was_never_signed_is_refused(channel: Channel) -> None:
    with pytest.raises(InvalidUpdate) as caught:
        core.in_flight(channel, 1)
    assert caught.value.code is Fault.WRONG_SEQ
    assert core.in_flight(channel, 0) is None


def test_whatever_the_order_of_answers_each_lock_is_answered_once(channel: Channel) -> None:
    pending = locked(channel, *map(lock, range(6)))
    for number in (4, 0, 2, 4):
        pending = answers.reveal(pending, number, SECRET)
    for number in (5, 1, 3, 5):
        pending = answers.reject(pending, number, b"")
    assert [known.lock for known in pending.secrets] == [0, 2, 4]
    assert [rejection.lock for rejection in pending.rejections] == [1, 3, 5]
    assert [pending.theirs.simplex.lock(number) for number in (-1, 0, 5, 6)] == [None, lock(0), lock(5), None]


def test_what_was_revealed_cannot_be_rejected_and_the_other_way_round(channel: Channel) -> None:
    pending = locked(channel, lock(0), lock(1))
    revealed = answers.reveal(pending, 0, SECRET)
    assert answers.reveal(revealed, 0, SECRET) is revealed
    with pytest.raises(InvalidInput):
        answers.reject(revealed, 0, b"")
    rejected = answers.reject(pending, 1, b"why")
    assert answers.reject(rejected, 1, b"again") is rejected
    assert rejected.rejections == (Rejection(1, b"why"),)
    with pytest.raises(InvalidInput):
        answers.reveal(rejected, 1, SECRET)
    with pytest.raises(InvalidUpdate):
        answers.reveal(pending, 0, bytes(32))
    with pytest.raises(InvalidInput):
        answers.reject(pending, 9, b"")
    with pytest.raises(InvalidInput):
        answers.reject(pending, 0, bytes(REASON_MAX + 1))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda now: (lock(expiry=now + 119), Policy()), "soon"),
        (lambda now: (lock(expiry=now + 15 * 86_400), Policy()), "late"),
        (lambda now: (lock(expiry=now + 200), Policy(locks=0)), "many"),
        (lambda now: (lock(expiry=now + 200), Policy(locked_value=9)), "much"),
    ],
)
def test_policy_says_why_it_does_not_want_a_lock(
    channel: Channel, change: Callable[[int], tuple[Lock, Policy]], word: str
) -> None:
    now = 1_000_000
    wanted, policy = change(now)
    simplex = locked(channel, wanted).theirs.simplex
    objection = answers.policy_objection(wanted, simplex, policy, now)
    assert objection is not None and word in objection
    assert answers.policy_objection(lock(expiry=now + 200), simplex, Policy(), now) is None


def test_a_channel_is_only_made_with_the_key_of_the_other_participant() -> None:
    pair = Pair()
    with pytest.raises(InvalidInput):
        core.new_channel(pair.terms, 0, bytes(pair.alice.key.public), 0)
    assert pair.alice.channel.balances() == (1_000, 1_000) == pair.bob.channel.balances()


@pytest.mark.parametrize("kind", [APP, VIRTUAL])
@pytest.mark.parametrize("given", [1, 7, 10])
def test_the_court_s_word_unlocks_a_stake_for_just_what_it_gave(channel: Channel, kind: int, given: int) -> None:
    pending = locked(channel, lock(kind=kind))
    after = core.accept(pending, 2, 0, [Unlock(0, BY_COURT, given)], given={0: given})
    assert (after.proof.transferred, after.proof.locked, after.locks) == (given, 0, ())


@pytest.mark.parametrize(
    ("fault", "kind", "unlocks", "given"),
    [
        (Fault.UNLOCK_REFUSED, APP, [(0, 7)], {}),
        (Fault.UNLOCK_REFUSED, APP, [(0, 7)], {0: None}),
        (Fault.UNLOCK_REFUSED, VIRTUAL, [(0, 7)], {0: 6}),
        (Fault.UNLOCK_REFUSED, VIRTUAL, [(0, 7)], {0: 8}),
        (Fault.UNLOCK_REFUSED, VIRTUAL, [(0, 7)], {1: 7}),
        (Fault.BAD_AMOUNT, APP, [(0, 0)], {0: 0}),
        (Fault.BAD_AMOUNT, APP, [(0, 11)], {0: 11}),
        (Fault.BAD_LOCK, APP, [(0, 7), (0, 7)], {0: 7}),
        (Fault.BAD_LOCK, APP, [(1, 7)], {1: 7}),
        (Fault.BAD_PROOF, 0, [(0, 10)], {0: 10}),
        (Fault.BAD_PROOF, 2, [(0, 10)], {0: 10}),
    ],
)
def test_nothing_is_unlocked_by_what_the_court_did_not_say(
    channel: Channel, fault: Fault, kind: int, unlocks: list[tuple[int, int]], given: dict[int, int | None]
) -> None:
    pending = locked(channel, lock(kind=kind))
    with pytest.raises(InvalidUpdate) as caught:
        core.accept(pending, 2, 0, [Unlock(number, BY_COURT, paid) for number, paid in unlocks], given=given)
    assert caught.value.code is fault
