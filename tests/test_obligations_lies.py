"""A chain node's wrong answers: none of them, and no number of them, ends what is due, pays twice or costs much."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from simulation.accounts import GAS, POLICY, AccountWorld
from tallystick.channels.node.alarms import AlarmKind
from tallystick.settlement.chain import Header
from tallystick.settlement.errors import Refusal, Revert
from tallystick.settlement.sending.nonces import GAPS_MAX
from tallystick.settlement.sending.obligations import UNKNOWN_FATE, Duty, ObligationStatus, Observation

Lie = Callable[[Observation], Observation]


def nonce_off(by: int) -> Lie:
    return lambda truth: msgspec.structs.replace(truth, nonce=max(0, truth.nonce + by))


def head_off(blocks: int = 0, seconds: int = 0) -> Lie:
    def lie(truth: Observation) -> Observation:
        head = truth.head
        wrong = Header(head.number + blocks, head.hash, head.parent, head.time + seconds)
        return msgspec.structs.replace(truth, head=wrong, confirmed=truth.confirmed + seconds)

    return lie


def no_receipts(truth: Observation) -> Observation:
    return msgspec.structs.replace(truth, receipts={})


def market_of(price: int) -> Lie:
    return lambda truth: msgspec.structs.replace(truth, market=price)


def rounds(world: AccountWorld, count: int, refusal: Refusal | None = None) -> None:
    for _ in range(count):
        world.round(refusal=refusal)
        world.check()
        world.mine()


def owners(world: AccountWorld) -> list[str]:
    return [tx.owner for _, tx in world.mined().values() if not tx.filler]


@pytest.mark.parametrize("by", [1, GAPS_MAX, 1_000_000])
@pytest.mark.parametrize("heads", [1, 3])
def test_a_nonce_that_was_claimed_for_a_few_heads_is_never_bound(by: int, heads: int) -> None:
    world = AccountWorld(0)
    world.require("first", deadline=None, budget=1_000)
    rounds(world, 3)
    world.require("o", deadline=None, budget=1_000, paying=False)
    world.lie = nonce_off(by)
    rounds(world, heads)
    world.lie = None
    rounds(world, 8)
    assert owners(world) == ["first", "o"]
    assert not [o for o in world.disk.values() if o.duty is Duty.USE_NONCE]


@pytest.mark.parametrize("by", [3, GAPS_MAX, 1_000_000])
@pytest.mark.parametrize("restarted", [False, True])
def test_after_a_long_lie_duties_move_to_the_true_nonce_and_nothing_is_burnt(by: int, restarted: bool) -> None:
    world = AccountWorld(0)
    world.require("first", deadline=None, budget=1_000)
    rounds(world, 3)
    world.lie = nonce_off(by)
    for name in ("o", "p"):
        world.require(name, deadline=None, budget=1_000, paying=False)
    rounds(world, 25)
    assert world.disk["o"].nonce == by + 1, "else nobody with another wallet's transactions could ever send"
    world.lie = None
    if restarted:
        world.restart()
    rounds(world, 12)
    assert owners(world) == ["first", "o", "p"]
    world.require("later", deadline=None, budget=1_000)
    rounds(world, 12)
    assert owners(world).count("later") == 1
    assert not [o for o in world.disk.values() if o.duty is Duty.USE_NONCE], "no coin is spent on gaps"


def test_gaps_below_a_payment_are_filled_few_at_a_time_for_a_bounded_fee() -> None:
    world = AccountWorld(0)
    world.require("first", deadline=None, budget=1_000)
    rounds(world, 3)
    world.lie = nonce_off(10)
    rounds(world, 20)
    world.require("o", deadline=None, budget=10_000)
    rounds(world, 20)
    assert world.disk["o"].nonce == 11
    world.lie = None
    rounds(world, 12)
    assert owners(world) == ["first", "o"]
    paid = sum(tx.price * GAS for _, tx in world.mined().values() if tx.filler)
    assert 0 < paid <= 10_000 + 10 * 10 * 7 * GAS, "the payment's budget, and what gaps are given"


def test_a_payment_bound_a_million_nonces_ahead_is_told_and_holds_nothing_up() -> None:
    world = AccountWorld(0)
    world.require("first", deadline=None, budget=1_000)
    rounds(world, 3)
    world.lie = nonce_off(1_000_000)
    rounds(world, 20)
    world.require("o", deadline=None, budget=10_000)
    rounds(world, 20)
    assert world.disk["o"].nonce == 1_000_001
    world.lie = None
    world.require("p", deadline=None, budget=10_000)
    rounds(world, 12)
    assert world.disk["o"].status is ObligationStatus.QUARANTINED
    assert [alarm.kind for alarm in world.alarms] == [AlarmKind.TRANSACTION_GIVEN_UP]
    assert owners(world) == ["first", "p"]


def test_what_urgent_ones_add_to_the_gaps_before_them_is_paid_from_their_own_budget() -> None:
    world = AccountWorld(0)
    world.require("first", deadline=None, budget=1_000)
    rounds(world, 3)
    world.lie = nonce_off(10)
    rounds(world, 20)
    world.require("o", deadline=world.head.time + 1_000, budget=10_000)
    rounds(world, 20)
    world.lie = None
    for _ in range(100):
        world.round()
        world.mine(minimum=10**9)
    offered = {o.nonce: o.fee_price * GAS for o in world.book.obligations.values() if o.nonce is not None}
    assert len(offered) == 11
    assert sum(offered.values()) <= 10_000 + 10 * 10 * 7 * GAS, "gaps may cost what they are given, and no budget twice"


@pytest.mark.parametrize("heads", [1, 5, 40])
def test_refusals_as_malformed_end_no_duty(heads: int) -> None:
    world = AccountWorld(0)
    world.require("o", deadline=None, budget=10**6, paying=False)
    rounds(world, heads, Refusal.MALFORMED)
    rounds(world, 150)
    assert world.disk["o"].status is ObligationStatus.DONE
    assert owners(world) == ["o"]


@pytest.mark.parametrize(
    "lie", [head_off(seconds=2 * 86_400), head_off(blocks=10**6), head_off(10**6, 10**6), market_of(10**20)]
)
@pytest.mark.parametrize("deadline", [None, 1_000])
def test_a_head_of_the_future_or_one_mad_price_ends_nothing_and_raises_no_offer(lie: Lie, deadline: int | None) -> None:
    deceived, honest = AccountWorld(0), AccountWorld(0)
    for world in (deceived, honest):
        world.require("o", deadline=deadline, budget=10**6, paying=False)
    for head in range(9):
        for world in (deceived, honest):
            world.lie = lie if world is deceived and head % 3 == 2 else None
            world.round()
            world.lie = None
            world.mine(minimum=10**9)
    deceived.round()
    honest.round()
    assert deceived.disk["o"].status is ObligationStatus.SENT
    assert deceived.disk["o"].fee_price <= max(honest.disk["o"].fee_price * 3 // 2, 10**6 // GAS // 8)
    rounds(deceived, 5)
    assert deceived.disk["o"].status is ObligationStatus.DONE


@pytest.mark.parametrize("heads", [4, 40, 400])
def test_a_payment_whose_receipt_is_hidden_is_made_once(heads: int) -> None:
    world = AccountWorld(0)
    world.require("o", deadline=None, budget=1_000)
    world.lie = no_receipts
    rounds(world, heads)
    known = world.disk["o"]
    if heads > 2 * POLICY.resting_depth:
        assert known.status is ObligationStatus.QUARANTINED and UNKNOWN_FATE in known.reason
        assert [alarm.kind for alarm in world.alarms][-1] is AlarmKind.TRANSACTION_GIVEN_UP
    world.lie = None
    rounds(world, 5)
    assert owners(world) == ["o"]
    assert known.resting or world.disk["o"].status is ObligationStatus.DONE


def test_a_receipt_that_shows_after_the_person_was_told_still_counts() -> None:
    world = AccountWorld(0)
    world.require("o", deadline=None, budget=1_000)
    world.lie = no_receipts
    rounds(world, POLICY.resting_depth + 3)
    assert world.disk["o"].status is ObligationStatus.QUARANTINED
    world.lie = None
    rounds(world, 4)
    assert world.disk["o"].status is ObligationStatus.DONE


def test_a_duty_whose_receipt_was_hidden_is_done_once_the_receipt_of_its_first_nonce_shows() -> None:
    world = AccountWorld(0)
    world.require("o", deadline=None, budget=1_000, paying=False)
    world.lie = no_receipts
    rounds(world, 6)
    assert world.disk["o"].past and world.disk["o"].nonce == 1
    world.lie = None
    rounds(world, 2)
    assert world.disk["o"].status is ObligationStatus.DONE


def test_one_receipt_that_is_not_true_ends_nothing() -> None:
    world = AccountWorld(0)
    world.require("o", deadline=None, budget=1_000, paying=False)
    world.round()
    rounds(world, 0)
    for _ in range(10):
        world.mine(minimum=10**9)
        world.round()

    def lie(truth: Observation) -> Observation:
        from tallystick.settlement.chain import TransactionReceipt

        made = world.disk["o"].attempts[-1].hash
        failed = TransactionReceipt(made, world.blocks[1][0], False, 7, "no", Revert.BAD_PROOF)
        return msgspec.structs.replace(truth, nonce=1, receipts={made: failed})

    world.lie = lie
    world.round()
    assert world.disk["o"].status is ObligationStatus.SENT
    world.lie = None
    rounds(world, 5)
    assert world.disk["o"].status is ObligationStatus.DONE
    assert world.alarms == []


def test_offers_do_not_rise_while_the_account_is_empty() -> None:
    world = AccountWorld(0)
    world.require("o", deadline=None, budget=10**9, paying=False)
    world.require("p", deadline=100_000, budget=10**9, paying=False)
    for _ in range(200):
        world.round(refusal=Refusal.INSUFFICIENT_FUNDS)
        world.mine()
    assert max(o.fee_price for o in world.book.obligations.values()) == world.market
    world.round()
    world.mine(minimum=10**9)
    world.round()
    assert max(o.fee_price for o in world.book.obligations.values()) < 10**9 // GAS // 8, "its time begins only now"


def test_offers_do_not_rise_while_nobody_looks() -> None:
    world = AccountWorld(0)
    world.require("o", deadline=None, budget=10**9, paying=False)
    world.require("p", deadline=100_000, budget=10**9, paying=False)
    for _ in range(20):
        world.round()
        for _ in range(100):
            world.mine(minimum=10**9)
    assert max(o.fee_price for o in world.book.obligations.values()) == world.market


LIES: dict[str, Lie | None] = {
    "none": None,
    "high": nonce_off(3),
    "far": nonce_off(10**6),
    "low": nonce_off(-5),
    "hidden": no_receipts,
    "future": head_off(seconds=10**6),
    "ahead": head_off(blocks=10**4),
    "dear": market_of(10**12),
    "free": market_of(0),
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(sorted(LIES)), st.integers(1, 30), st.sampled_from([None, *Refusal]), st.sampled_from("dpmc-")
    ),
    max_size=8,
)
CAUGHT_UP: list[tuple[str, int, Refusal | None, str]] = [
    ("low", 7, Refusal.BAD_SIGNATURE, "p"),
    ("far", 17, Refusal.NONCE_TOO_LOW, "d"),
    ("free", 15, Refusal.MALFORMED, "m"),
    ("far", 17, Refusal.NONCE_TOO_LOW, "d"),
    ("hidden", 14, None, "c"),
    ("far", 17, Refusal.NONCE_TOO_LOW, "d"),
    ("low", 7, Refusal.BAD_SIGNATURE, "p"),
]
"""The account comes to the nonce of a payment that was given up as too far ahead: nothing may stop there."""


def done_in_time(world: AccountWorld) -> None:
    """Have a duty done well before its deadline, and let that pass."""
    world.require("d", deadline=100, budget=10_000, paying=False)
    rounds(world, 15)
    assert world.disk["d"].status is ObligationStatus.DONE and world.head.time > 100


@pytest.mark.parametrize("lie", [no_receipts, head_off(blocks=-14), nonce_off(-1)], ids=["hidden", "old", "nonce"])
def test_what_is_done_is_not_undone_by_an_answer_of_a_node_that_lags(lie: Lie) -> None:
    world = AccountWorld(0)
    done_in_time(world)
    signed = len(world.signed[0])
    for _ in range(6):
        world.lie = lambda truth: no_receipts(lie(truth))
        rounds(world, 1)
        world.lie = None
        rounds(world, 1)
    assert world.disk["d"].status is ObligationStatus.DONE
    assert not world.alarms, "no reorganisation is told of, nor that it came too late"
    assert len(world.signed[0]) == signed


def test_what_is_done_is_not_undone_by_a_node_that_stays_before_it() -> None:
    world = AccountWorld(0)
    rounds(world, 20)
    world.require("d", deadline=None, budget=10_000, paying=False)
    rounds(world, 6)
    assert world.disk["d"].status is ObligationStatus.DONE
    world.lie = lambda truth: no_receipts(head_off(blocks=-16)(truth))
    rounds(world, 8)
    assert world.disk["d"].status is ObligationStatus.DONE and not world.alarms


def test_heads_after_its_deadline_count_only_in_a_row() -> None:
    world = AccountWorld(0)
    world.require("d", deadline=100, budget=10_000, paying=False)
    rounds(world, 2)
    for _ in range(6):
        world.lie = lambda truth: no_receipts(head_off(seconds=10_000)(truth))
        rounds(world, 1)
        world.lie = None
        rounds(world, 1)
    rounds(world, 2)
    assert world.disk["d"].status is ObligationStatus.DONE
    assert not world.alarms


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 2**32), steps=STEPS)
@example(seed=485, steps=CAUGHT_UP)
def test_whatever_a_chain_node_says_no_payment_is_made_twice_and_every_duty_is_done(
    seed: int, steps: list[tuple[str, int, Refusal | None, str]]
) -> None:
    world = AccountWorld(seed)
    duties = []
    for number, (lie, heads, refusal, act) in enumerate(steps):
        world.lie = LIES[lie]
        match act:
            case "d":
                duties.append(f"d{number}")
                world.require(duties[-1], deadline=10**5, budget=10**5, paying=False)
            case "p":
                world.require(f"p{number}", deadline=None, budget=10**5)
            case "m":
                world.market = 1 + (seed + number) % 50
            case "c":
                world.restart()
        rounds(world, heads, refusal)
        for duty in [name for name in duties if world.disk[name].status is ObligationStatus.QUARANTINED]:
            duties.remove(duty)  # its owner derives it again, as the deadline has not passed
            duties.append(f"{duty}/")
            world.require(duties[-1], deadline=10**5, budget=10**5, paying=False)
    world.lie, world.market = None, 1
    rounds(world, 60)
    for duty in duties:
        assert world.disk[duty].status is ObligationStatus.DONE, world.disk[duty]
    assert set(duties) <= set(owners(world))
    moving = [o for o in world.disk.values() if o.status in (ObligationStatus.WAITING, ObligationStatus.SENT)]
    assert not moving
    world.require("last", deadline=None, budget=10**5)
    rounds(world, 8)
    assert "last" in owners(world)
    burnt = sum(tx.price * GAS for _, tx in world.mined().values() if tx.filler)
    assert burnt <= 10**5 * (len(steps) + 1) + GAPS_MAX * POLICY.filler_budget, (
        "fillers cost no more than what they are for"
    )
