"""The exchange: Uniswap's numbers, no pool that pays for being traded with, a price that cannot be rushed."""

from __future__ import annotations

from math import isqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from simulation.module_ledger import ALICE, BOB, CAROL, EVER, GOLD, PEOPLE, SILVER, ModuleLedger
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.modules import exchange
from tallystick.settlement.modules.curves import FEE_MAX, amount_in, amount_out
from tallystick.settlement.modules.exchange import LOCKED, PERIOD

FEE = 3_000
AMOUNTS = st.integers(1, 2**60) | st.integers(1, 2_000)
E18 = 10**18

# github.com/Uniswap/v2-core, test/UniswapV2Pair.spec.ts: what goes in, both reserves, what comes out
UNISWAP = (
    (1, 5, 10, 1662497915624478906),
    (1, 10, 5, 453305446940074565),
    (2, 5, 10, 2851015155847869602),
    (2, 10, 5, 831248957812239453),
    (1, 10, 10, 906610893880149131),
    (1, 100, 100, 987158034397061298),
    (1, 1000, 1000, 996006981039903216),
)


def with_pool(first: int = 10**9, second: int = 4 * 10**9, fee: int = FEE) -> ModuleLedger:
    ledger = ModuleLedger()
    ledger.call(ALICE, "exchange", "createPool", GOLD, SILVER, fee)
    ledger.call(ALICE, "exchange", "addLiquidity", GOLD, SILVER, 0, first, second, 0, EVER)
    return ledger


def reserves(ledger: ModuleLedger, number: int = 0) -> tuple[int, int]:
    _, first, second, *_ = ledger.read("exchange", "pool", GOLD, SILVER, number)
    return first, second


@pytest.mark.parametrize(("given_in", "reserve_in", "reserve_out", "out"), UNISWAP)
def test_a_swap_gives_what_uniswaps_own_tests_expect(
    given_in: int, reserve_in: int, reserve_out: int, out: int
) -> None:
    assert amount_out(given_in * E18, reserve_in * E18, reserve_out * E18, FEE) == out
    ledger = with_pool(reserve_in * E18, reserve_out * E18)
    assert ledger.call(BOB, "exchange", "swap", GOLD, SILVER, 0, given_in * E18, 0, EVER) == (out,)


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_amounts_are_those_of_uniswaps_library(amount: int, reserve_in: int, reserve_out: int) -> None:
    with_fee = amount * 997  # UniswapV2Library.getAmountOut and getAmountIn, as published
    assert amount_out(amount, reserve_in, reserve_out, FEE) == with_fee * reserve_out // (reserve_in * 1000 + with_fee)
    if amount < reserve_out:
        expected = reserve_in * amount * 1000 // ((reserve_out - amount) * 997) + 1
        assert amount_in(amount, reserve_in, reserve_out, FEE) == expected


@given(AMOUNTS, AMOUNTS, AMOUNTS, st.integers(0, FEE_MAX))
def test_what_is_asked_for_comes_out_and_a_unit_less_given_does_not_bring_it(
    wanted: int, reserve_in: int, reserve_out: int, fee: int
) -> None:
    if wanted >= reserve_out:
        return
    needed = amount_in(wanted, reserve_in, reserve_out, fee)
    assert amount_out(needed, reserve_in, reserve_out, fee) >= wanted
    assert (reserve_in + needed) * (reserve_out - wanted) > reserve_in * reserve_out


@given(AMOUNTS, AMOUNTS, AMOUNTS, st.integers(0, FEE_MAX))
@settings(max_examples=40, deadline=None)
def test_there_and_back_never_gains(amount: int, first: int, second: int, fee: int) -> None:
    if isqrt(first * second) <= LOCKED:
        return
    ledger = with_pool(first, second, fee)
    before = ledger.wealth(BOB)
    try:
        (out,) = ledger.call(BOB, "exchange", "swap", GOLD, SILVER, 0, amount, 0, EVER)
        ledger.call(BOB, "exchange", "swap", SILVER, GOLD, 0, out, 0, EVER)
    except Reverted:
        return
    assert ledger.wealth(BOB)[SILVER] == before[SILVER] and ledger.wealth(BOB)[GOLD] <= before[GOLD]


class Pools(RuleBasedStateMachine):
    """Two pools of one pair under whatever people do."""

    @initialize()
    def begin(self) -> None:
        self.ledger = ModuleLedger()
        self.worth = {0: (0, 1), 1: (0, 1)}
        self.ledger.call(ALICE, "exchange", "createPool", GOLD, NATIVE, 0)
        self.ledger.call(ALICE, "exchange", "createFallingPool", GOLD, NATIVE, 12_000, 1_000)

    def _pool(self, number: int) -> tuple[Address, int, int, int]:
        id, first, second, shares, *_ = self.ledger.read("exchange", "pool", GOLD, NATIVE, number)
        return id, first, second, shares

    @rule(by=st.sampled_from(PEOPLE), number=st.integers(0, 1), first=AMOUNTS, second=AMOUNTS)
    def add(self, by: Address, number: int, first: int, second: int) -> None:
        self.ledger.refused(by, "exchange", "addLiquidity", NATIVE, GOLD, number, second, first, 0, EVER)

    @rule(by=st.sampled_from(PEOPLE), number=st.integers(0, 1), part=st.integers(1, 4))
    def remove(self, by: Address, number: int, part: int) -> None:
        (shares,) = self.ledger.read("exchange", "sharesOf", GOLD, NATIVE, number, by)
        self.ledger.refused(by, "exchange", "removeLiquidity", GOLD, NATIVE, number, shares // part, 0, 0, EVER)

    @rule(by=st.sampled_from(PEOPLE), number=st.integers(0, 1), amount=AMOUNTS, gold=st.booleans(), exact=st.booleans())
    def swap(self, by: Address, number: int, amount: int, gold: bool, exact: bool) -> None:
        _, first, second, _ = self._pool(number)
        pair = (GOLD, NATIVE) if gold else (NATIVE, GOLD)
        name, limit = ("swapExactOut", 2**100) if exact else ("swap", 0)
        self.ledger.refused(by, "exchange", name, *pair, number, amount, limit, EVER)
        _, then, also, _ = self._pool(number)
        assert then * also >= first * second, "a swap lowered the product"

    @rule(by=st.sampled_from(PEOPLE), number=st.integers(0, 1), first=AMOUNTS, second=AMOUNTS)
    def in_and_out(self, by: Address, number: int, first: int, second: int) -> None:
        before = self.ledger.wealth(by)
        try:
            *_, shares = self.ledger.call(by, "exchange", "addLiquidity", GOLD, NATIVE, number, first, second, 0, EVER)
        except Reverted:
            return
        self.ledger.call(by, "exchange", "removeLiquidity", GOLD, NATIVE, number, shares, 0, 0, EVER)
        after = self.ledger.wealth(by)
        assert all(after[asset] <= before[asset] for asset in before), "adding and taking out at once gained something"

    @rule(seconds=st.integers(0, 1_000))
    def wait(self, seconds: int) -> None:
        self.ledger.time += seconds

    @invariant()
    def holds(self) -> None:
        self.ledger.check_conservation()
        for number in (0, 1):
            id, first, second, shares = self._pool(number)
            assert (first, second) == (self.ledger.balance(id, GOLD), self.ledger.balance(id, NATIVE))
            held = sum(self.ledger.read("exchange", "sharesOf", GOLD, NATIVE, number, each)[0] for each in PEOPLE)
            assert shares == held + (LOCKED if shares else 0)
            product, squared = self.worth[number]
            assert not shares or first * second * squared >= product * shares**2, "a share lost worth"
            self.worth[number] = (first * second, max(shares**2, 1))


TestPools = Pools.TestCase
TestPools.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


def test_limits_and_deadlines_are_kept_and_nothing_is_done() -> None:
    ledger = with_pool()
    before = dict(ledger.state.changes)
    out = ledger.read("exchange", "quote", GOLD, SILVER, 0, 1_000)[0]
    assert ledger.refused(BOB, "exchange", "swap", GOLD, SILVER, 0, 1_000, out + 1, EVER) == Revert.LIMIT_MISSED
    assert ledger.refused(BOB, "exchange", "swap", GOLD, SILVER, 0, 1_000, out, ledger.time - 1) == Revert.EXPIRED
    assert ledger.refused(BOB, "exchange", "swapExactOut", GOLD, SILVER, 0, out, 999, EVER) == Revert.LIMIT_MISSED
    assert ledger.refused(BOB, "exchange", "swap", GOLD, SILVER, 1, 1_000, 0, EVER) == Revert.UNKNOWN_ENTRY
    assert ledger.refused(BOB, "exchange", "swap", GOLD, GOLD, 0, 1_000, 0, EVER) == Revert.BAD_TERMS
    assert ledger.refused(BOB, "exchange", "swap", GOLD, SILVER, 0, 0, 0, EVER) == Revert.LIMIT_MISSED
    shares = (10**6, 4 * 10**6)
    for least, code in ((10**7, Revert.LIMIT_MISSED), (0, None)):
        assert ledger.refused(BOB, "exchange", "addLiquidity", GOLD, SILVER, 0, *shares, least, EVER) == code
        before = before if code else dict(ledger.state.changes)
        assert ledger.state.changes == before
    assert ledger.refused(BOB, "exchange", "removeLiquidity", GOLD, SILVER, 0, 10, 10, 0, EVER) == Revert.LIMIT_MISSED
    assert ledger.refused(CAROL, "exchange", "removeLiquidity", GOLD, SILVER, 0, 1, 0, 0, EVER) == Revert.BAD_AMOUNT
    assert ledger.refused(BOB, "exchange", "createPool", GOLD, SILVER, FEE_MAX + 1) == Revert.BAD_TERMS
    assert ledger.refused(BOB, "exchange", "pool", GOLD, SILVER, 0) == Revert.UNKNOWN_CALL, "a view is no transaction"
    assert ledger.state.changes == before


def test_no_more_of_the_native_coin_leaves_than_the_transaction_carries() -> None:
    ledger = ModuleLedger()
    ledger.call(ALICE, "exchange", "createPool", GOLD, NATIVE, FEE)
    add = ("exchange", "addLiquidity", GOLD, NATIVE, 0, 10**6, 10**7, 0, EVER)
    assert ledger.refused(ALICE, *add, value=10**7 - 1) == Revert.BAD_AMOUNT
    assert ledger.call(ALICE, *add, value=10**7)
    assert ledger.refused(BOB, "exchange", "swap", NATIVE, GOLD, 0, 100, 0, EVER, value=99) == Revert.BAD_AMOUNT
    assert ledger.refused(BOB, "exchange", "swap", GOLD, NATIVE, 0, 100, 0, EVER, value=0) is None


def test_a_pair_has_many_pools_which_share_no_account_but_those_of_who_trades() -> None:
    ledger = ModuleLedger()
    for number in range(5):
        assert ledger.call(ALICE, "exchange", "createPool", GOLD, SILVER, FEE) == (number,)
    total, first, second, numbers = ledger.read("exchange", "pools", 2, 100)
    assert (total, numbers) == (5, (2, 3, 4)) and set(first) == {GOLD} and set(second) == {SILVER}
    written: list[set[bytes]] = []
    for number, by in enumerate((BOB, CAROL)):
        ledger.call(ALICE, "exchange", "addLiquidity", GOLD, SILVER, number, 10**6, 10**6, 0, EVER)
        ledger.time += 1
        before = dict(ledger.state.changes)
        ledger.call(by, "exchange", "swap", GOLD, SILVER, number, 1_000, 0, EVER)
        written.append({key for key, value in ledger.state.changes.items() if before.get(key) != value})
    assert not written[0] & written[1]


def test_a_price_is_a_mean_over_its_period_that_one_block_cannot_move() -> None:
    ledger = with_pool(10**9, 4 * 10**9, 0)
    with pytest.raises(Reverted, match="600 seconds old"):
        ledger.read("exchange", "average", GOLD, SILVER, 0)
    ledger.time += PERIOD
    ledger.call(CAROL, "exchange", "swap", GOLD, SILVER, 0, 1, 0, EVER)
    ledger.time += PERIOD
    honest, seconds, _ = ledger.read("exchange", "average", GOLD, SILVER, 0)
    assert abs(honest - (4 << 112)) < (1 << 112) // 1_000 and seconds == PERIOD
    ledger.call(BOB, "exchange", "swap", SILVER, GOLD, 0, 40 * 10**9, 0, EVER)
    mean, _, now = ledger.read("exchange", "average", GOLD, SILVER, 0)
    assert mean == honest and now > 400 << 112, "the swap moved the mean within its own block"
    ledger.time += 12
    mean, seconds, now = ledger.read("exchange", "average", GOLD, SILVER, 0)
    assert seconds >= PERIOD
    expected = (honest * (seconds - 12) + now * 12) // seconds
    assert abs(mean - expected) < (1 << 112) // 100, "each price counts by how long it stood"


@given(st.lists(st.tuples(st.integers(1, 2_000), st.integers(1, 10**9), st.booleans()), max_size=12))
@settings(max_examples=30, deadline=None)
def test_the_mean_price_is_that_of_a_record_of_all_prices(steps: list[tuple[int, int, bool]]) -> None:
    ledger = with_pool(10**9, 10**9)
    record: list[tuple[int, int]] = []  # since when, and at which price
    for seconds, amount, gold in steps:
        first, second = reserves(ledger)
        record.append((ledger.time, (second << 112) // first))
        ledger.time += seconds
        ledger.call(BOB, "exchange", "swap", *((GOLD, SILVER) if gold else (SILVER, GOLD)), 0, amount + 10, 0, EVER)
    first, second = reserves(ledger)
    record.append((ledger.time, (second << 112) // first))
    ledger.time += 7
    try:
        mean, seconds, _ = ledger.read("exchange", "average", GOLD, SILVER, 0)
    except Reverted:
        return
    begun, total = ledger.time - seconds, 0
    for (since, price), (until, _) in zip(record, [*record[1:], (ledger.time, 0)], strict=True):
        total += price * max(0, until - max(since, begun))
    assert mean == total // seconds and seconds >= PERIOD


def test_events_tell_what_was_swapped() -> None:
    ledger = with_pool()
    (out,) = ledger.call(BOB, "exchange", "swap", GOLD, SILVER, 0, 1_000, 0, EVER)
    (event,) = ledger.told
    assert getattr(event, "topics", ()) == (exchange.SWAPPED.hash, BOB.rjust(32, b"\0"))
    assert getattr(event, "data", b"")[-32:] == out.to_bytes(32, "big")
