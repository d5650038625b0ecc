"""The falling fee: SAMM's numbers, no gain by splitting a trade, and the smaller of two pools is the cheaper."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simulation.module_ledger import ALICE, BOB, CAROL, EVER, GOLD, SILVER, START, ModuleLedger
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.curves import (
    FEE_MAX,
    MILLION,
    SLOPE,
    SPREAD_MAX,
    PoolFee,
    amount_in,
    falling_in,
    falling_out,
)

PAPER = PoolFee(12_000, 1_000)
"""As in the paper's evaluation."""

RESERVES = st.integers(1, 2**112 - 1) | st.integers(1, 10**6)
FEES = st.integers(0, FEE_MAX - 1).flatmap(
    lambda least: st.integers(least + 1, min(FEE_MAX, least + SPREAD_MAX)).map(lambda most: PoolFee(most, least))
)


def by_the_paper(wanted: int, reserve_in: int, reserve_out: int, fee: PoolFee) -> Fraction:
    """What a trader gives by the paper: the curve's own price of what comes out, and the fee of section 4, exactly."""
    share = Fraction(wanted, reserve_out)
    rate = max(Fraction(fee.least, MILLION), Fraction(-105, 100) * share + Fraction(fee.most, MILLION))
    return Fraction(reserve_in * wanted, reserve_out - wanted) + Fraction(reserve_in, reserve_out) * wanted * rate


@given(st.data(), RESERVES, RESERVES, FEES)
def test_what_a_trade_takes_is_what_the_paper_says_rounded_up(
    data: st.DataObject, reserve_in: int, reserve_out: int, fee: PoolFee
) -> None:
    wanted = data.draw(st.integers(0, reserve_out - 1))
    exact = by_the_paper(wanted, reserve_in, reserve_out, fee)
    assert exact <= falling_in(wanted, reserve_in, reserve_out, fee) < exact + 1


def test_a_thousandth_and_a_hundredth_of_a_pool_take_these() -> None:
    """By hand: 1,001.001 and 0.01095 * 1,000; 10,101.01 and 0.0015 * 10,000; 20,408.16 and 0.001 * 20,000."""
    million = 10**6
    assert [falling_in(each, million, million, PAPER) for each in (1_000, 10_000, 20_000)] == [1_012, 10_117, 20_429]


@given(st.integers(1, 2**112 - 1) | st.integers(1, 10**6), RESERVES, RESERVES, FEES)
def test_the_most_comes_out_that_what_is_given_pays_for(
    given_in: int, reserve_in: int, reserve_out: int, fee: PoolFee
) -> None:
    out = falling_out(given_in, reserve_in, reserve_out, fee)
    assert 0 <= out < reserve_out and falling_in(out, reserve_in, reserve_out, fee) <= given_in
    assert out + 1 == reserve_out or falling_in(out + 1, reserve_in, reserve_out, fee) > given_in
    assert (reserve_in + given_in) * (reserve_out - out) >= reserve_in * reserve_out


def test_a_fee_may_fall_as_far_as_what_a_trade_takes_stays_concave() -> None:
    """Its second derivative is 2 / (1 - s)**3 - 2 * SLOPE: not above nothing for any share s up to the fee's end."""
    for spread, holds in ((SPREAD_MAX, True), (SPREAD_MAX + 100, False)):
        end = Fraction(spread, SLOPE)
        assert (Fraction(SLOPE, MILLION) * (1 - end) ** 3 >= 1) is holds


def falling_end(reserve: int, fee: PoolFee) -> int:
    """The largest trade of a pool in which the fee still falls."""
    return reserve * (fee.most - fee.least) // SLOPE


@given(st.data(), st.integers(1, 10**9), st.integers(1, 10**9), FEES, st.integers(1, 4))
def test_to_split_a_trade_over_pools_of_one_price_never_costs_less(
    data: st.DataObject, first: int, price: int, fee: PoolFee, parts: int
) -> None:
    """The whole goes to the smallest pool, where it is still cheapest."""
    pools = sorted([first, *(data.draw(st.integers(first, 50 * first)) for _ in range(parts))])
    whole = data.draw(st.integers(0, falling_end(pools[0], fee)))
    cuts = sorted(data.draw(st.lists(st.integers(0, whole), min_size=parts, max_size=parts)))
    split = [end - begin for begin, end in zip([0, *cuts], [*cuts, whole], strict=True)]
    costs = [falling_in(part, price * pool, pool, fee) for part, pool in zip(split, pools, strict=True)]
    assert falling_in(whole, price * pools[0], pools[0], fee) <= sum(costs)


@given(st.data(), st.integers(1, 2**60), st.integers(1, 2**40), FEES)
def test_of_two_pools_of_one_price_the_smaller_is_no_dearer(
    data: st.DataObject, small: int, price: int, fee: PoolFee
) -> None:
    large = data.draw(st.integers(small, 1_000 * small))
    wanted = data.draw(st.integers(0, falling_end(small, fee)))
    assert falling_in(wanted, price * small, small, fee) <= falling_in(wanted, price * large, large, fee)


def with_pools(fee: PoolFee, *reserves: tuple[int, int]) -> ModuleLedger:
    ledger = ModuleLedger()
    for number, (gold, silver) in enumerate(reserves):
        ledger.call(ALICE, "exchange", "createFallingPool", GOLD, SILVER, *fee)
        ledger.call(ALICE, "exchange", "addLiquidity", GOLD, SILVER, number, gold, silver, 0, EVER)
    return ledger


@given(st.data(), st.integers(10**5, 10**12), st.integers(10**5, 10**12), FEES)
@settings(max_examples=40, deadline=None)
def test_to_split_a_trade_over_calls_and_pools_of_the_ledger_gains_nothing(
    data: st.DataObject, gold: int, silver: int, fee: PoolFee
) -> None:
    """What Bob gives in one call brings no less than what Carol gives in three, wherever and in whatever order."""
    end = falling_in(falling_end(silver, fee), gold, silver, fee)
    assume(end > 1)
    given_in = data.draw(st.integers(1, end - 1))  # so that less comes out than where the fee no longer falls
    one, more = with_pools(fee, (gold, silver)), with_pools(fee, (gold, silver), (3 * gold, 3 * silver))
    if one.refused(BOB, "exchange", "swap", GOLD, SILVER, 0, given_in, 0, EVER):
        return  # it brings nothing
    cuts = sorted(data.draw(st.lists(st.integers(0, given_in), min_size=2, max_size=2)))
    for begin, until in zip([0, *cuts], [*cuts, given_in], strict=True):
        number = data.draw(st.integers(0, 1))
        more.refused(CAROL, "exchange", "swap", GOLD, SILVER, number, until - begin, 0, EVER)
    assert one.balance(BOB, SILVER) >= more.balance(CAROL, SILVER)


def test_with_a_fixed_fee_to_split_gains() -> None:
    """That is what the falling one is for; the trade is a hundredth of each pool."""
    million = 10**6
    assert 2 * amount_in(5_000, million, million, 3_000) < amount_in(10_000, million, million, 3_000)
    assert 2 * falling_in(5_000, million, million, PAPER) > falling_in(10_000, million, million, PAPER)


@given(st.integers(1, 10**9), st.integers(10**4, 10**9), st.integers(10**4, 10**9), FEES, st.booleans())
@settings(max_examples=40, deadline=None)
def test_there_and_back_never_gains_in_a_pool_with_a_falling_fee(
    amount: int, gold: int, silver: int, fee: PoolFee, exact: bool
) -> None:
    ledger = with_pools(fee, (gold, silver))
    function, limit = ("swapExactOut", START) if exact else ("swap", 0)
    if ledger.refused(BOB, "exchange", function, GOLD, SILVER, 0, amount, limit, EVER) is None:
        gained = ledger.balance(BOB, SILVER) - START
        ledger.refused(BOB, "exchange", "swap", SILVER, GOLD, 0, gained, 0, EVER)
        assert ledger.balance(BOB, GOLD) <= START and ledger.balance(BOB, SILVER) in (START, START + gained)


@given(st.integers(1, 10**8), FEES)
@settings(max_examples=20, deadline=None)
def test_what_is_quoted_is_what_is_done(amount: int, fee: PoolFee) -> None:
    ledger = with_pools(fee, (10**9, 4 * 10**9))
    (out,) = ledger.read("exchange", "quote", GOLD, SILVER, 0, amount)
    assume(out)
    (needed,) = ledger.read("exchange", "quoteExactOut", GOLD, SILVER, 0, out)
    assert needed <= amount
    assert (
        ledger.refused(BOB, "exchange", "swapExactOut", GOLD, SILVER, 0, out, needed - 1, EVER) == Revert.LIMIT_MISSED
    )
    assert ledger.call(BOB, "exchange", "swapExactOut", GOLD, SILVER, 0, out, needed, EVER) == (needed,)
    assert ledger.wealth(BOB)[SILVER] == START + out


@pytest.mark.parametrize(
    ("most", "least"), [(5, 5), (4, 5), (SPREAD_MAX + 1, 0), (FEE_MAX + 1, FEE_MAX), (2**64 - 1, 0)]
)
def test_a_fee_that_does_not_fall_or_falls_too_far_is_refused(most: int, least: int) -> None:
    ledger = ModuleLedger()
    assert ledger.refused(ALICE, "exchange", "createFallingPool", GOLD, SILVER, most, least) == Revert.BAD_TERMS
    assert ledger.call(ALICE, "exchange", "createFallingPool", GOLD, SILVER, SPREAD_MAX, 0) == (0,)
    assert ledger.read("exchange", "pool", GOLD, SILVER, 0)[4:] == (SPREAD_MAX, 0)
