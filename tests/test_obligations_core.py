"""Obligations under any mix of congestion, refusals, reorganisations, foreign transactions and crashes.

The model is `simulation.accounts`.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.accounts import ACCOUNT, ELSEWHERE, POLICY, TOGETHER, AccountWorld, gas
from tallystick.channels.protocol.objects import NATIVE
from tallystick.settlement.chain import ChallengeCall, Header, RegisterSecretCall, TransferCall
from tallystick.settlement.errors import Refusal, Revert
from tallystick.settlement.sending.judging import judge_failure
from tallystick.settlement.sending.nonces import bind, free
from tallystick.settlement.sending.obligations import (
    Attempt,
    Look,
    Obligation,
    ObligationBook,
    ObligationStatus,
    Observation,
    bumped,
    change,
)
from tallystick.settlement.sending.policy import SendingPolicy
from tallystick.settlement.sending.pricing import curve, next_price
from tallystick.settlement.sending.rounds import decide

OPERATIONS = st.one_of(
    st.tuples(
        st.sampled_from(["require", "duty"]), st.sampled_from([None, 40, 400]), st.sampled_from([20, 1_000, 100_000])
    ),
    st.tuples(st.just("failing"), st.none(), st.just(1_000)),
    st.tuples(st.just("mine"), st.sampled_from([0, 0, 0, 20, 10**9])),
    st.tuples(st.just("reorganise"), st.integers(1, 2), st.booleans()),
    st.tuples(st.just("foreign")),
    st.tuples(st.just("supersede"), st.integers(0, 5)),
    st.tuples(st.just("crash"), st.integers(0, 3)),
    st.tuples(st.just("refuse"), st.sampled_from([None, *Refusal])),
    st.tuples(st.just("market"), st.integers(1, 40)),
)


def play(world: AccountWorld, operations: list[tuple[object, ...]]) -> None:
    names: list[str] = []
    for name, *arguments in operations:
        crash, refusal = -1, None
        match name, *arguments:
            case (("require" | "failing" | "duty"), None | int() as deadline, int() as budget):
                names.append(f"o{len(names)}")
                if name == "failing":
                    world.fails.add(names[-1])
                until = None if deadline is None else world.head.time + deadline
                world.require(names[-1], deadline=until, budget=budget, paying=name != "duty")
            case "mine", int() as minimum:
                world.mine(minimum=minimum)
            case "reorganise", int() as depth, bool() as forget:
                world.reorganise(depth, forget=forget)
            case ("foreign",):
                world.foreign()
            case "supersede", int() as index if index < len(names):
                world.supersede(names[index])
            case "crash", int() as crash:
                pass
            case "refuse", refusal:
                pass
            case "market", int() as market:
                world.market = market
        world.round(crash, refusal)  # type: ignore[arg-type]  # a Refusal or None, by the strategy
        world.check()


@pytest.mark.parametrize("policy", [POLICY, TOGETHER])
@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), operations=st.lists(OPERATIONS, max_size=40))
def test_no_nonce_serves_two_calls_and_everything_ends_done_or_with_an_alarm(
    policy: SendingPolicy, seed: int, operations: list[tuple[object, ...]]
) -> None:
    world = AccountWorld(seed, policy)
    play(world, operations)
    world.market = 1
    for _ in range(80):
        world.round()
        world.mine()
        world.check()
    for obligation in world.disk.values():
        assert obligation.resting, f"{obligation} is still at work"
        if obligation.members:
            assert obligation.status is not ObligationStatus.QUARANTINED
            continue
        mined = [tx for _, tx in world.mined().values() if obligation.id in tx.done]
        if obligation.status is ObligationStatus.QUARANTINED:
            assert any(f"({obligation.id}) is quarantined" in alarm.text for alarm in world.alarms) or mined == []
        else:
            assert (obligation.status is ObligationStatus.DONE) <= (len(mined) == 1 or obligation.filler)
    assert all(obligation.is_final for obligation in world.disk.values())


def one(world: AccountWorld, identifier: str = "o") -> Obligation:
    return world.disk[identifier]


def test_it_is_done_only_when_its_receipt_is_deep_enough() -> None:
    world = AccountWorld(0)
    world.require("o", deadline=None, budget=1_000)
    world.round()
    world.mine()
    for expected in (ObligationStatus.SENT, ObligationStatus.SENT, ObligationStatus.DONE):
        world.round()
        assert one(world).status is expected
        world.mine()


@pytest.mark.alarm("transaction-undone")
def test_it_is_sent_again_when_its_block_leaves_the_chain_even_after_it_was_done() -> None:
    world = AccountWorld(0)
    world.require("o", deadline=None, budget=1_000)
    world.round()
    for _ in range(4):
        world.mine()
        world.round()
    assert one(world).status is ObligationStatus.DONE
    world.reorganise(5, forget=True)
    for _ in range(POLICY.confirmations):
        assert one(world).status is ObligationStatus.DONE, "an answer without its receipt may be of a node that lags"
        world.mine()
        world.round()
    assert one(world).status is ObligationStatus.SENT
    assert "unusually deep" in world.alarms[-1].text
    assert world.pool[0].owner == "o"
    for _ in range(4):
        world.mine()
        world.round()
    assert one(world).status is ObligationStatus.DONE
    world.check()


@pytest.mark.alarm("nonce-taken")
def test_a_foreign_transaction_under_its_nonce_leads_to_a_new_nonce_once_that_is_deep() -> None:
    world = AccountWorld(0)
    world.require("o", deadline=None, budget=1_000, paying=False)
    world.round()
    world.foreign()
    for expected in (0, 0, 0, 1):
        world.round()
        assert one(world).nonce == expected
        world.mine()
    assert "another program" in world.alarms[0].text
    for _ in range(5):
        world.round()
        world.mine()
    assert one(world).status is ObligationStatus.DONE
    world.check()


def test_a_superseded_obligation_keeps_its_nonce_and_blocks_nobody() -> None:
    world = AccountWorld(0)
    world.require("o", deadline=None, budget=1_000)
    world.require("p", deadline=None, budget=1_000)
    world.round()
    world.supersede("o")
    for _ in range(4):
        world.round()
        world.mine()
    assert {tx.owner for _, tx in world.mined().values()} == {"o", "p"}
    assert one(world).status is ObligationStatus.SUPERSEDED
    assert one(world, "p").status is ObligationStatus.DONE


def test_a_superseded_obligation_without_a_nonce_is_never_sent() -> None:
    world = AccountWorld(0)
    world.require("o", deadline=None, budget=1_000)
    world.supersede("o")
    world.round()
    assert one(world).resting
    assert world.signed == {}


def test_a_call_refused_as_malformed_is_quarantined_and_its_nonce_used_up() -> None:
    world = AccountWorld(0)
    world.require("o", deadline=None, budget=1_000)
    world.require("p", deadline=None, budget=1_000)
    for _ in range(POLICY.tries):
        world.round(refusal=Refusal.MALFORMED)
    assert {one(world, name).status for name in "op"} == {ObligationStatus.QUARANTINED}
    world.round()
    world.mine()
    assert [tx.filler for _, tx in world.mined().values()] == [True, True]


@pytest.mark.parametrize("refusal", [None, *(each for each in Refusal if each is not Refusal.MALFORMED)])
def test_no_other_refusal_ever_ends_an_obligation(refusal: Refusal | None) -> None:
    obligation = Obligation(
        id="o", call=RegisterSecretCall(bytes(32)), purpose="a test", budget=1, status=ObligationStatus.SENT
    )
    for _ in range(100):
        obligation = obligation.refuse(refusal, "refused", POLICY)
    assert obligation.status is ObligationStatus.SENT


@pytest.mark.alarm("transaction-held-up")
def test_trouble_raises_one_alarm_not_one_per_block() -> None:
    world = AccountWorld(0)
    world.require("o", deadline=None, budget=1_000)
    for _ in range(POLICY.tries - 1):
        world.round(refusal=Refusal.INSUFFICIENT_FUNDS)
        world.mine()
    assert len(world.alarms) == 1
    assert one(world).trouble == "refused"


def test_a_failed_call_is_judged_by_its_reason() -> None:
    assert judge_failure(Revert.NOT_NEWER) is ObligationStatus.SUPERSEDED
    assert judge_failure(Revert.WINDOW_OPEN) is ObligationStatus.WAITING
    assert judge_failure(Revert.BAD_PROOF) is ObligationStatus.QUARANTINED
    assert judge_failure(None) is ObligationStatus.QUARANTINED


def test_fees_reach_the_budget_at_60_percent_of_the_window_under_congestion() -> None:
    world = AccountWorld(0)
    world.require("o", deadline=1_000, budget=50_000)
    prices = {}
    while world.head.time < 990:
        world.round()
        prices[world.head.time] = one(world).fee_price
        world.mine(minimum=10**9)
    assert prices[0] == world.market
    assert prices[300] < 2_500
    assert prices[600] == 5_000
    assert list(prices.values()) == sorted(prices.values())
    assert one(world).status is ObligationStatus.SENT


@pytest.mark.alarm("transaction-given-up")
def test_one_that_misses_its_deadline_raises_the_alarm_and_is_kept() -> None:
    world = AccountWorld(0)
    world.require("o", deadline=30, budget=1_000)
    for _ in range(10):
        world.round()
        world.mine(minimum=10**9)
    assert one(world).status is ObligationStatus.QUARANTINED
    assert "deadline" in world.alarms[-1].text


def test_an_obligation_behind_a_cheap_one_pulls_it_along() -> None:
    world = AccountWorld(0)
    world.require("cheap", deadline=None, budget=60)
    world.round()
    world.require("urgent", deadline=100, budget=100_000)
    for _ in range(8):
        world.round()
        world.mine(minimum=5_000)
    assert [tx.owner for _, tx in world.mined().values()] == ["cheap", "urgent"]


def test_it_waits_for_its_time() -> None:
    world = AccountWorld(0)
    obligation = Obligation(
        id="o", call=TransferCall(NATIVE, ELSEWHERE, 1), purpose="a test", budget=100, not_before=25
    )
    world.book = world.book.with_(obligation)
    for time, sent in ((0, False), (10, False), (20, False), (30, True)):
        assert world.head.time == time
        world.round()
        assert bool(world.pool) is sent
        world.mine()


def test_the_most_urgent_gets_the_lowest_nonce() -> None:
    world = AccountWorld(0)
    for name, deadline in (("never", None), ("late", 500), ("soon", 100)):
        world.require(name, deadline=deadline, budget=1_000)
    world.round()
    assert [one(world, name).nonce for name in ("soon", "late", "never")] == [0, 1, 2]


@given(
    market=st.integers(0, 10**6), cap=st.integers(0, 10**9), window=st.integers(0, 10**5), at=st.integers(-5, 2 * 10**5)
)
def test_the_curve_rises_from_the_market_to_the_cap(market: int, cap: int, window: int, at: int) -> None:
    price = curve(market, cap, at, window)
    assert min(market, cap) <= price <= cap
    assert curve(market, cap, at + 1, window) >= price
    assert curve(market, cap, max(1, window * 6 // 10), window) == cap


@given(current=st.integers(0, 10**6), want=st.integers(0, 10**7), cap=st.integers(1, 10**7))
def test_every_replacement_is_enough_of_a_raise_and_within_the_cap(current: int, want: int, cap: int) -> None:
    price = next_price(current, want, cap)
    if price is not None:
        assert bumped(current) <= price <= cap


def test_reaching_the_cap_always_takes_no_more_than_wanting_it() -> None:
    price = next_price(None, 7, 1_000)
    while price is not None and price < 1_000:
        raised = next_price(price, bumped(price), 1_000)
        assert raised is not None
        price = raised
    assert price == 1_000


def test_challenges_survive_the_disk_format() -> None:
    from tallystick.channels.protocol.codec import Codec
    from tallystick.channels.protocol.objects import BalanceProof, ChannelId, SignedProof

    proof = SignedProof(BalanceProof(ChannelId(bytes(32)), 1, 7, 2**127, 2**100), b"a" * 64, b"b" * 64)
    obligation = Obligation(id="o", call=ChallengeCall(proof), purpose="a test", budget=2**90)
    codec: Codec[Obligation] = Codec(Obligation)
    assert codec.decode(codec.encode(obligation)) == obligation


def test_the_fee_curve_of_an_obligation_that_may_not_be_sent_yet_begins_when_it_may() -> None:
    obligation = Obligation(
        id="o", call=TransferCall(NATIVE, ELSEWHERE, 1), purpose="a test", budget=10_000, not_before=1_000
    )
    book = ObligationBook({}, -1).with_(obligation)
    for number, time in ((1, 10), (60, 1_000)):
        head = Header(number, bytes([number]) * 32, bytes(32), time)
        seen = Observation(head, head.time, nonce=0, market=5, receipts={})
        book = decide(book, seen, account=ACCOUNT, gas=gas, policy=POLICY).book
    assert book.obligations["o"].fee_price == 5, "it waited by our own will, so it offers the market's price"


@pytest.mark.parametrize(
    ("opinion", "status"),
    [(None, ObligationStatus.QUARANTINED), (ObligationStatus.SUPERSEDED, ObligationStatus.SUPERSEDED)],
)
def test_whoever_required_it_may_say_that_a_missed_deadline_is_no_misfortune(
    opinion: ObligationStatus | None, status: ObligationStatus
) -> None:
    obligation = Obligation(
        id="o", call=TransferCall(NATIVE, ELSEWHERE, 1), purpose="a test", budget=10_000, deadline=100
    )
    book = ObligationBook({}, -1).with_(obligation)
    for number in range(9, 13):
        seen = Observation(Header(number, bytes(32), bytes(32), 101), 101, nonce=0, market=5, receipts={})
        outcome = decide(book, seen, account=ACCOUNT, gas=gas, policy=POLICY, judge=lambda late, reason: opinion)
        book = outcome.book
    (changed,) = outcome.changed
    assert changed.status is status and "deadline 100" in changed.reason
    assert bool(outcome.alarms) is (opinion is None)


def test_the_nonce_of_a_payment_that_was_given_up_is_a_gap_once_the_account_has_come_to_it() -> None:
    call = TransferCall(NATIVE, ELSEWHERE, 5)
    sent = (Attempt(price=5, hash=b"h" * 32),)
    base = Obligation(id="given-up", call=call, purpose="a test", budget=1_000, first_block=90, first_time=900)
    given_up = change(base, status=ObligationStatus.QUARANTINED, nonce=25, attempts=sent, far=True)
    above = change(base, id="above", status=ObligationStatus.SENT, nonce=26, attempts=sent)
    head = Header(100, bytes(32), bytes(32), 1_000)
    looks = tuple(Look(number, 10 * number, 25, 25, 5) for number in range(91, 101))
    book = ObligationBook({o.id: o for o in (given_up, above)}, 26, looks)
    seen = Observation(head, 970, 25, 5, {})
    assert free(book, seen, POLICY).gaps == (25,)  # `above` pays, and must keep its nonce
    waiting = [change(base, id=f"register-{n}", call=RegisterSecretCall(bytes([n]) * 32)) for n in (1, 2, 3)]
    lowered = ObligationBook({o.id: o for o in (given_up, *waiting)}, 24, looks)
    bound = bind(lowered, seen, POLICY, waiting, lambda obligation: True)
    assert [o.nonce for o in bound] == [25, 26, 27]  # whichever is mined under 25: the other may have another one
