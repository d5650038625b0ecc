"""The rollup of the ledger and that of the EVM judge alike: honest steps, wrong ones of each kind, and all else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.rollup_house import CHEATS, FAR, Posted, RollupHouse, rebuilt
from simulation.rollup_twins import (
    ANSWER_TIME,
    BOND,
    FEE,
    OPERATOR,
    ORDER_TIME,
    WATCHER,
    WINDOW,
    Twins,
    channel_shown,
    remade,
    withdrawal,
)
from tallystick.channels.protocol.eip712 import digest_cooperative_close
from tallystick.channels.protocol.objects import Address, CooperativeClose
from tallystick.settlement.modules.rollups import FINAL_MAX
from tallystick.settlement.rollup.batches import Batch
from tallystick.settlement.rollup.execution import replay
from tallystick.settlement.rollup.rules import Statement, Statements, channel_name
from tallystick.settlement.rollup.state import LeafStanding, RollupState
from tallystick.settlement.rollup.steps import (
    EntryKind,
    NextEntry,
    QueueEntry,
    RollupClose,
    RollupExit,
    RollupFund,
    RollupOpen,
    RollupTransfer,
    Step,
    decode_step,
    encode_step,
)

SEEDS = st.integers(0, 2**32)


def begun(seed: int) -> Twins:
    """Return twins with a bond and some deposits."""
    house = RollupHouse(seed)
    twins = Twins(house)
    assert twins.do(OPERATOR, "bond", value=BOND) is None
    for user in range(3):
        deposit(twins, user, house.random.randint(1, 10**6))
    return twins


def deposit(twins: Twins, user: int, amount: int) -> None:
    """Let a user deposit on both."""
    key = twins.house.keys[user]
    number = twins.number("numbers", bytes(12) + key.address) or twins.number("accounts") + 1
    entry = QueueEntry(EntryKind.DEPOSIT, number - 1, key.address, amount0=amount)
    assert twins.order(key.address, "deposit", entry, key.address, value=amount) is None


def posted_on(twins: Twins, steps: int = 6) -> Posted:
    """Return an honest batch, as it was posted on both."""
    posted = twins.house.honest(steps)
    assert twins.post(posted.batch) is None
    return posted


def close_statements(twins: Twins, entry: QueueEntry, valid_until: int) -> dict[str, Statements]:
    """Return what both sides of a channel sign to close it."""
    made: dict[str, Statements] = {}
    for where, place in twins.places.items():
        name = channel_name(place, entry.first, entry.second, entry.index)
        close = CooperativeClose(name, entry.amount0, entry.amount1, valid_until)
        digest = digest_cooperative_close(place.domain, close)
        made[where] = (Statement(entry.first, digest), Statement(entry.second, digest))
    return made


@settings(deadline=None, max_examples=8)
@given(SEEDS)
def test_no_honest_batch_is_convicted_and_each_signature_can_be_shown(seed: int) -> None:
    twins = begun(seed)
    posted_on(twins)
    posted = posted_on(twins)
    again = replay(posted.batch, posted.before, twins.places["ledger"], twins.house.entry)
    for at, state in enumerate(again.states):
        proof = twins.proof(posted.batch, at, state)
        assert twins.do(WATCHER, "convict", 1, list(proof.words)) == "step-right"
        if at % 2:
            assert twins.do(WATCHER, "demand", 1, at, value=FEE) is None
        signed = twins.statements(proof, posted.batch)
        if at % 2 and signed["ledger"]:
            other = {where: (*each[:-1], each[-1]._replace(digest=bytes(32))) for where, each in signed.items()}
            assert twins.do(OPERATOR, "answer", 1, list(proof.words), statements=other) == "bad-signature"
            other = {where: (each[0]._replace(digest=bytes(32)), *each[1:]) for where, each in signed.items()}
            assert twins.do(OPERATOR, "answer", 1, list(proof.words), statements=other) == "bad-signature"
        answered = twins.do(OPERATOR, "answer", 1, list(proof.words), statements=signed)
        assert answered == (None if at % 2 else "nothing-owed")
    twins.set_time(twins.house.time + WINDOW + 1)
    last = len(again.states) - 1
    assert twins.do(WATCHER, "demand", 1, last, value=FEE) in ("wrong-status", "window-over")
    assert twins.do(OPERATOR, "unbond") == "wrong-status", "not everybody has left"
    assert twins.do(WATCHER, "convict", 1, list(proof.words)) == "wrong-status"
    twins.check_equal()


@pytest.mark.parametrize("kind", CHEATS)
@settings(deadline=None, max_examples=4)
@given(SEEDS)
def test_each_kind_of_wrong_batch_is_convicted_on_both(kind: str, seed: int) -> None:
    twins = begun(seed)
    house = twins.house
    posted_on(twins)
    for user in range(2):
        deposit(twins, user, 7)
    posted = remade(house, house.honest(8))
    kept = list(house.queue)
    made = None
    for at in sorted(range(posted.batch.count), key=lambda _: house.random.random()):
        if (made := CHEATS[kind](house, posted, at)) is not None:
            break
    house.queue = kept
    if made is None:
        return
    if made.queue_end > len(kept):
        deposit(twins, 0, 5)
    assert twins.post(made) is None
    again = replay(made, posted.before, twins.places["ledger"], house.entry)
    assert again.wrong is not None
    for at, state in enumerate(again.states[:-1]):
        right = twins.proof(made, at, state)
        assert twins.do(WATCHER, "convict", 1, list(right.words)) == "step-right"
    proof = twins.proof(made, again.wrong, again.state)
    words = list(proof.words)
    for at in house.random.sample(range(len(words)), 12):
        bent = [*words[:at], words[at] ^ 1 << house.random.randrange(256), *words[at + 1 :]]
        found = (twins.ledger_call(WATCHER, "answer", 1, bent, b""), None)
        assert found[0] in ("bad-proof", "step-wrong", "nothing-owed")
        assert twins.evm_call(WATCHER, "answer", 1, bent, (bytes(32), 0), (bytes(32), 0)) == found[0]
    assert twins.do(WATCHER, "answer", 1, words, statements={}) == "step-wrong"
    assert twins.do(WATCHER, "convict", 1, words) is None
    assert twins.do(WATCHER, "convict", 1, words) == "wrong-status"
    twins.check_equal()
    assert twins.do(WATCHER, "claim") is None and twins.do(WATCHER, "claim") == "nothing-owed"
    assert twins.evm.balance(WATCHER) == 10**24 + BOND // 2
    assert twins.post(posted.batch) == "insufficient-balance"
    assert twins.do(OPERATOR, "bond", value=BOND) is None
    assert twins.post(posted.batch) is None, "the right one takes its place"
    twins.check_equal()


def test_what_nobody_signed_is_convicted_once_it_is_not_shown_in_time() -> None:
    twins = begun(5)
    house = twins.house
    posted = posted_on(twins, 12)
    later = posted_on(twins, 3)
    ops = [decode_step(word) for _, word, _ in posted.batch.steps()]
    at = next(at for at, step in enumerate(ops) if not isinstance(step, NextEntry))
    assert twins.evm_call(WATCHER, "demand", 0, at, value=FEE - 1) == "bad-amount"
    assert twins.do(WATCHER, "demand", 0, posted.batch.count, value=FEE) == "bad-proof"
    assert twins.do(WATCHER, "demand", 0, at, value=FEE) is None
    assert twins.do(WATCHER, "demand", 1, 0, value=FEE) is None
    assert twins.do(WATCHER, "demand", 0, at, value=FEE) == "already-registered"
    assert twins.do(WATCHER, "silence", 0, at) == "window-open"
    assert twins.do(WATCHER, "refund", 2, 0) == "window-open"
    twins.set_time(house.time + ANSWER_TIME + 1)
    assert twins.do(house.keys[0].address, "silence", 0, at) is None
    assert twins.do(WATCHER, "silence", 0, at) == "wrong-status"
    assert twins.do(WATCHER, "refund", 2, 0) is None and twins.do(WATCHER, "refund", 2, 0) == "nothing-owed"
    twins.check_equal()
    assert twins.number("owed", bytes(12) + WATCHER) == BOND // 2 + 2 * FEE
    assert later.batch.count >= 3


def test_a_batch_waits_for_a_demand_and_does_not_outlast_its_window() -> None:
    twins = begun(6)
    posted_on(twins)
    twins.set_time(twins.house.time + WINDOW)
    assert twins.do(WATCHER, "demand", 0, 0, value=FEE) is None
    twins.set_time(twins.house.time + ANSWER_TIME)
    assert twins.do(OPERATOR, "unbond") == "window-open"
    assert twins.do(WATCHER, "demand", 0, 1, value=FEE) == "window-over", "though it is not final yet"
    twins.set_time(twins.house.time + 1)
    assert twins.do(WATCHER, "silence", 0, 0) is None
    twins.check_equal()


@settings(deadline=None, max_examples=6)
@given(SEEDS)
def test_everybody_leaves_by_withdrawals_and_nobody_twice(seed: int) -> None:
    twins = begun(seed)
    house = twins.house
    posted_on(twins, 10)
    for key in house.keys[:3]:
        number = twins.number("numbers", bytes(12) + key.address) - 1
        entry = QueueEntry(EntryKind.EXIT, number, key.address)
        assert twins.order(key.address, "forceExit", entry) is None
    assert twins.do(house.keys[3].address, "forceExit") == "not-a-participant"
    posted = posted_on(twins, 1)
    proofs = [withdrawal(posted.after, user) for user in range(3)]
    assert twins.do(WATCHER, "withdraw", 1, proofs[0]) == "window-open"
    twins.set_time(house.time + WINDOW + 1)
    for user, proof in enumerate(proofs):
        account = posted.after.accounts.get(user)
        assert account is not None
        bent = [*proof[:7], proof[7] + 1, *proof[8:]]
        assert twins.do(WATCHER, "withdraw", 1, bent) == "bad-proof"
        assert twins.do(WATCHER, "withdraw", 1, proof) == (None if account.exited else "nothing-owed")
        assert twins.do(WATCHER, "withdraw", 1, proof) == "nothing-owed"
    twins.check_equal()


def test_an_operator_that_leaves_an_order_out_is_stopped_and_everybody_leaves() -> None:
    twins = begun(8)
    house = twins.house
    posted = posted_on(twins, 8)
    deposit(twins, 3, 77)
    deposit(twins, 0, 5)
    late = house.honest(1)
    remade(house, late)
    without = RollupHouse(9)
    without.state, without.queue, without.time = posted.after, house.queue[:-2], house.time
    without.channels = list(house.channels)
    assert twins.do(WATCHER, "freeze") == "window-open"
    twins.set_time(house.time + ORDER_TIME + 1)
    without.time = house.time
    assert twins.post(without.honest(2).batch) == "overdue"
    assert twins.do(WATCHER, "freeze") is None and twins.do(WATCHER, "freeze") == "wrong-status"
    assert twins.post(late.batch) == "wrong-status"
    key = house.keys[0]
    assert twins.do(key.address, "deposit", key.address, value=5) == "wrong-status"
    proof = withdrawal(posted.after, 0)
    assert twins.do(WATCHER, "escape", proof) == "window-open"
    twins.set_time(house.time + WINDOW + 1)
    for user in range(3):
        proof = withdrawal(posted.after, user)
        account = posted.after.accounts.get(user)
        assert account is not None
        had = account.balance + account.exited
        assert twins.do(WATCHER, "escape", proof) == (None if had else "nothing-owed")
        assert twins.do(WATCHER, "escape", proof) == "nothing-owed"
        assert twins.do(WATCHER, "withdraw", 0, proof) == "nothing-owed"
    entries = [list(entry.words) for entry in house.queue]
    assert twins.do(WATCHER, "reclaim", 0, entries[0]) == "wrong-status"
    assert twins.do(WATCHER, "reclaim", 4, entries[3]) == "bad-proof"
    for at in (3, 4):
        assert twins.do(WATCHER, "reclaim", at, entries[at]) is None
        assert twins.do(WATCHER, "reclaim", at, entries[at]) == "nothing-owed"
    twins.check_equal()


def test_a_close_that_both_signed_cannot_be_kept_out() -> None:
    twins = begun(11)
    house = twins.house
    posted = posted_on(twins, 25)
    index = next(each for each in house.channels if _open(posted.after, each))
    channel = posted.after.channels.get(index)
    assert channel is not None
    first, second = (_owner(posted.after, side) for side in (channel.first, channel.second))
    entry = QueueEntry(EntryKind.CLOSE, index, first, second, channel.total, 0)
    values = (index, first, second, channel.total, 0)
    signed = close_statements(twins, entry, FAR)
    swapped: dict[str, Any] = {where: tuple(reversed(each)) for where, each in signed.items()}
    assert twins.do(WATCHER, "forceClose", *values, FAR, statements=swapped) == "bad-signature"
    assert twins.do(WATCHER, "forceClose", *values, house.time - 1, statements=signed) == "expired"
    assert twins.do(WATCHER, "forceClose", 2**32, *values[1:], FAR, statements=signed) == "bad-amount"
    assert twins.do(WATCHER, "forceClose", *values, FAR, statements=signed) is None
    house.order(entry)
    after = posted_on(twins, 1).after.channels.get(index)
    assert after is not None and after.standing == LeafStanding.CLOSED
    twins.check_equal()


def test_however_many_batches_wait_when_everything_stops_everybody_can_leave() -> None:
    twins = begun(13)
    house = twins.house
    posted_on(twins, 4)
    for _ in range(FINAL_MAX + 1):
        posted = posted_on(twins, 1)
    deposit(twins, 0, 5)
    twins.set_time(house.time + ORDER_TIME + 1)
    assert twins.do(WATCHER, "freeze") is None
    twins.set_time(house.time + WINDOW + 1)
    proof = next(withdrawal(posted.after, user) for user in range(3) if _has_coins(posted.after, user))
    assert twins.do(WATCHER, "escape", proof) == "window-open", "more wait than one call makes final"
    assert twins.do(WATCHER, "finalise") is None
    assert twins.number("final") == FINAL_MAX
    assert twins.do(WATCHER, "escape", proof) is None
    assert twins.do(OPERATOR, "unbond") == "wrong-status", "all is final, but not everybody has left"
    twins.check_equal()


def test_a_close_that_both_signed_pays_once_when_everything_stopped() -> None:
    twins = begun(11)
    house = twins.house
    posted = posted_on(twins, 25)
    state = posted.after
    channels = {index: channel for index in house.channels if (channel := state.channels.get(index)) and channel.total}
    index, channel = next(iter(channels.items()))
    first, second = (_owner(state, side) for side in (channel.first, channel.second))
    stranger = next(key.address for key in house.keys if key.address not in (first, second))

    def order(*wanted: Any) -> tuple[int, list[int]]:
        """Order a close, which the operator leaves out; return its number, and its words."""
        entry = QueueEntry(EntryKind.CLOSE, *wanted)
        signed = close_statements(twins, entry, FAR)
        assert twins.do(WATCHER, "forceClose", *wanted, FAR, statements=signed) is None
        house.order(entry)
        return len(house.queue) - 1, list(entry.words)

    ordered = order(index, first, second, channel.total - 1, 1)
    proof = channel_shown(state, index)
    assert twins.do(WATCHER, "reclaimClose", *ordered, proof) == "wrong-status"
    twins.set_time(house.time + ORDER_TIME + 1)
    assert twins.do(WATCHER, "freeze") is None
    useless = [
        order(index, first, second, channel.total, 1),
        order(index, second, first, channel.total, 0),
        order(index, first, stranger, channel.total, 0),
        order(index + 1_000, first, second, channel.total, 0),
    ]
    again = order(index, first, second, 0, channel.total)
    assert twins.do(WATCHER, "reclaimClose", *ordered, proof) == "window-open"
    twins.set_time(house.time + WINDOW + 1)
    for each, refusal in zip(useless, [*["nothing-owed"] * 3, "bad-proof"], strict=True):
        assert twins.do(WATCHER, "reclaimClose", *each, proof) == refusal
    assert twins.do(WATCHER, "reclaimClose", 0, list(house.queue[0].words), proof) == "wrong-status"
    assert twins.do(WATCHER, "reclaimClose", ordered[0], again[1], proof) == "bad-proof"
    assert twins.do(WATCHER, "reclaimClose", *ordered, proof[:-1]) == "bad-proof"
    for at in range(len(proof)):
        bent = [*proof[:at], proof[at] + 1, *proof[at + 1 :]]
        assert twins.do(WATCHER, "reclaimClose", *ordered, bent) == "bad-proof"
    assert twins.do(WATCHER, "reclaim", *ordered) == "bad-proof"
    owed = [twins.number("owed", bytes(12) + owner) for owner in (first, second)]
    assert twins.do(WATCHER, "reclaimClose", *ordered, proof) is None
    for each in (ordered, again):
        assert twins.do(WATCHER, "reclaimClose", *each, proof) == "nothing-owed", "only once, by whatever close"
    paid = [twins.number("owed", bytes(12) + owner) for owner in (first, second)]
    assert [after - before for before, after in zip(owed, paid, strict=True)] == [channel.total - 1, 1]
    for user in range(3):
        twins.do(WATCHER, "escape", withdrawal(state, user))
    for owner in (first, second):
        assert twins.do(owner, "claim") is None
    left = sum(each.total for at, each in channels.items() if at != index)
    assert twins.evm.balance(twins.at) == BOND + left
    twins.check_equal()


def test_what_is_no_batch_is_not_taken() -> None:
    twins = begun(12)
    house = twins.house
    batch = house.honest(3).batch

    def bent(**changes: Any) -> Batch:
        return Batch(**{name: changes.get(name, getattr(batch, name)) for name in batch.__struct_fields__})

    assert twins.post(batch, WATCHER) == "not-allowed"
    assert twins.post(bent(data=batch.data[:-1])) == "bad-batch"
    assert twins.post(bent(data=batch.data[:32])) == "bad-batch"
    assert twins.post(bent(data=b"")) == "bad-batch"
    assert twins.post(bent(data=bytes(32) + batch.data[32:])) == "bad-batch"
    assert twins.post(bent(accounts=bytes(32))) == "bad-batch"
    assert twins.post(bent(queue_end=batch.queue_end + 1)) == "bad-batch"
    assert twins.post(bent(time=batch.time + 1)) == "expired"
    twins.set_time(house.time + 3_601)
    assert twins.post(batch) == "expired"
    twins.check_equal()


def test_each_step_that_the_rules_refuse_is_convicted_on_both() -> None:
    twins = begun(11)
    house = twins.house
    earlier = posted_on(twins, 25)
    index = next(each for each in house.channels if _open(earlier.after, each))
    gone = next((each for each in house.channels if not _open(earlier.after, each)), 77)
    channel, account = earlier.after.channels.get(index), earlier.after.accounts.get(0)
    assert channel is not None and account is not None
    nonce, balance = account.nonce, account.balance
    good = RollupClose(index, channel.total, house.time)
    words = [encode_step(good), *(encode_step(each) for each in (NextEntry(), RollupExit(0, 0, nonce)))]
    refused: list[Step | bytes] = [
        RollupClose(index, channel.total, house.time - 1),
        RollupClose(index, channel.total + 1, FAR),
        RollupClose(gone, 0, FAR),
        RollupTransfer(0, 1, balance + 1, nonce),
        RollupTransfer(0, 1, 0, nonce + 1),
        RollupTransfer(0, 0, 0, nonce),
        RollupTransfer(0, 9, 0, nonce),
        RollupOpen(index, 0, 1, 0, nonce),
        RollupOpen(555, 0, 0, 0, nonce),
        RollupOpen(555, 0, 9, 0, nonce),
        RollupFund(gone, 0, 0, nonce),
        RollupFund(index, 2, 0, nonce),
        RollupExit(0, balance + 1, nonce),
        RollupExit(9, 0, 0),
        *(word[:31] + b"\x01" for word in words),
        bytes(32),
        b"\x07" + bytes(31),
    ]
    posted = remade(house, house.honest(1))
    for step in refused:
        made = rebuilt(house, posted, 0, step, None)
        assert made is not None and twins.post(made) is None
        proof = twins.proof(made, 0, posted.before)
        assert twins.do(WATCHER, "convict", 1, list(proof.words)) is None, step
        assert twins.do(OPERATOR, "bond", value=BOND) is None
    twins.check_equal()


def _open(state: RollupState, index: int) -> bool:
    channel = state.channels.get(index)
    return channel is not None and channel.standing == LeafStanding.OPEN


def _has_coins(state: RollupState, number: int) -> bool:
    account = state.accounts.get(number)
    return account is not None and account.balance + account.exited > 0


def _owner(state: RollupState, number: int) -> Address:
    account = state.accounts.get(number)
    assert account is not None
    return account.owner
