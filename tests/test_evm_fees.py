"""What transactions offer on a real chain, how much gas they are given, and in which ranges logs are asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE, Lock
from tallystick.settlement.chain import (
    ApproveCall,
    ModuleCall,
    RedeemCall,
    RegisterLinkCall,
    RegisterProofCall,
    TransferCall,
)
from tallystick.settlement.ethereum.evm.fees import FeeMarket, FeeOffer, market_of, offer_of, read_history
from tallystick.settlement.ethereum.evm.gas import GAS_MAX, MEASURED, limit_of, measured
from tallystick.settlement.ethereum.evm.profiles import COIN, PROFILES, profile_of
from tallystick.settlement.ethereum.evm.ranges import GROW_AFTER, RangePlan, begin, next_range
from tallystick.settlement.ethereum.transactions import GAS
from tallystick.settlement.sending.obligations import bumped

prices = st.integers(1, 10**15)
markets = st.builds(FeeMarket, st.integers(0, 10**13), st.integers(1, 10**12))


def test_the_tip_is_apart_from_the_cap() -> None:
    market = FeeMarket(base=7, tip=10**6)
    assert offer_of(market.cap, market) == FeeOffer(market.cap, 10**6)
    assert offer_of(10 * market.cap, market) == FeeOffer(10 * market.cap, 10**7), "who is in a hurry outbids"
    dear = FeeMarket(base=100 * 10**9, tip=10**9)
    assert dear.cap == 151 * 10**9
    assert offer_of(dear.cap, dear).tip == 10**9, "of the cap, the miner gets the market's tip and no more"


@given(markets, prices, st.integers(0, 10**15))
def test_a_tip_is_never_above_its_cap(market: FeeMarket, cap: int, tip: int) -> None:
    offer = offer_of(cap, market, FeeOffer(cap, tip) if tip else None)
    assert offer.cap == cap and 0 <= offer.tip <= cap


@given(st.lists(markets, min_size=2, max_size=12), prices)
def test_each_replacement_raises_cap_and_tip_by_a_tenth_whatever_the_market_does(
    seen: list[FeeMarket], cap: int
) -> None:
    before = offer_of(cap, seen[0])
    for market in seen[1:]:
        cap = bumped(cap)
        after = offer_of(cap, market, before)
        assert 10 * after.cap >= 11 * before.cap
        assert 10 * after.tip >= 11 * before.tip
        before = after


def test_the_cap_carries_three_blocks_of_the_steepest_rise() -> None:
    market, base = FeeMarket(10**9, 10**6), 10**9
    for _ in range(3):
        base += base // 8
        assert market.cap >= base
    assert market.cap < base + base // 8


def test_the_market_is_the_next_base_fee_and_the_middle_tip_of_blocks_that_were_busy() -> None:
    assert market_of([5, 6, 7], [0.5, 0.9], [30, 10], 1) == FeeMarket(7, 10)
    assert market_of([5, 6, 7], [0.5, 0.001], [30, 10**9], 1) == FeeMarket(7, 30), "an empty block says nothing"
    assert market_of([5, 6], [0.0], [0], 40) == FeeMarket(6, 40)
    with pytest.raises(InvalidInput):
        market_of([], [], [], 1)


def test_a_fee_history_is_read_as_nodes_write_it() -> None:
    history = {
        "oldestBlock": "0x1",
        "baseFeePerGas": ["0x7", "0x8"],
        "gasUsedRatio": [0.5],
        "reward": [["0x3b9aca00"]],
    }
    assert read_history(history, 1) == FeeMarket(8, 10**9)
    assert read_history({**history, "reward": None}, 5) == FeeMarket(8, 5), "a young chain has none"
    with pytest.raises(InvalidInput):
        read_history({}, 1)
    with pytest.raises(InvalidInput):
        read_history({**history, "baseFeePerGas": ["seven"]}, 1)


# --- gas ----------------------------------------------------------------------------------------------------------


def test_every_call_has_a_measured_maximum() -> None:
    assert MEASURED.keys() == GAS.keys() - {ModuleCall}, "no real chain has modules"


@given(st.none() | st.integers(21_000, 2**40))
def test_a_limit_covers_what_was_measured_and_estimated_and_no_more_than_a_transaction_may_have(
    estimate: int | None,
) -> None:
    call = TransferCall(NATIVE, NATIVE, 1)
    limit = limit_of(call, estimate)
    assert limit <= GAS_MAX
    assert limit >= min(GAS_MAX, max(measured(call), min(estimate or 0, 4 * measured(call))))
    assert limit <= 5 * measured(call), "a lie, or a token that burns all that it gets, costs no more than that"
    on_rollup = limit_of(call, estimate, data_in_gas=True)
    assert on_rollup >= min(GAS_MAX, max(measured(call), estimate or 0))


def test_what_grows_with_a_call_is_counted() -> None:
    lock = Lock(1, 1, 1, 0, bytes(32))
    one, many = (measured(RedeemCall(bytes(32), 0, (lock,) * count)) for count in (1, 483))  # type: ignore[arg-type]
    assert many - one == 482 * 8_000 and many < GAS_MAX
    assert measured(RegisterLinkCall(bytes(32), 65_536, bytes(32), 1, 65_536, 1)) == GAS_MAX
    assert measured(RegisterProofCall(7, bytes(32), bytes(100))) == 138_000
    assert measured(ApproveCall(NATIVE, 1)) == 80_000


# --- ranges -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(1, 3_000), st.integers(0, 5_000))
def test_any_range_is_covered_once_however_small_the_pieces_are_that_a_node_takes(
    most: int, first: int, limit: int, length: int
) -> None:
    plan, last, at, questions = begin(most), first + length, first, 0
    while (piece := next_range(plan, at, last)) is not None:
        questions += 1
        assert piece[0] == at and piece[1] <= last
        if piece[1] - piece[0] + 1 > limit:
            plan = RangePlan(piece[1] - piece[0] + 1, plan.most).refused()
            continue
        plan, at = plan.taken(), piece[1] + 1
    assert at == last + 1
    assert questions <= 2 * (length // max(1, min(most, limit) // 2) + 1) + 40


def test_a_range_grows_again_after_some_were_answered() -> None:
    plan = begin(1_000).refused().refused()
    assert plan.size == 250
    for _ in range(GROW_AFTER):
        plan = plan.taken()
    assert plan.size == 500
    for _ in range(3 * GROW_AFTER):
        plan = plan.taken()
    assert plan.size == 1_000, "no longer than it began"
    assert begin(0).size == 1 and begin(1).refused().size == 1


# --- profiles -----------------------------------------------------------------------------------------------------


def test_profiles_are_in_order_and_wait_longer_for_more() -> None:
    ids = [profile.chain_id for profile in PROFILES]
    assert ids == sorted(set(ids))
    assert {1, 10, 100, 137, 8_453, 42_161, 31_337} == set(ids)
    for profile in PROFILES:
        depths = [profile.depth(worth) for worth in (0, COIN // 1_000, COIN // 10, COIN, 10**3 * COIN, 10**9 * COIN)]
        assert depths == sorted(depths) and depths[0] >= 2
        assert depths[-1] <= profile.final_blocks
        assert 0.5 <= profile.poll_seconds <= 2
    assert PROFILES[0].depth(0) == 3 and PROFILES[0].depth(10**6 * COIN) == 96
    assert PROFILES[0].link(b"\1" * 32) == "https://etherscan.io/tx/0x" + "01" * 32


def test_a_chain_that_is_not_known_is_waited_for_as_ethereum_is() -> None:
    assert profile_of(1).name == "Ethereum"
    unknown = profile_of(424_242)
    assert (unknown.name, unknown.chain_id, unknown.depths) == ("chain 424242", 424_242, PROFILES[0].depths)
    assert unknown.link(b"\1" * 32) == ""
    with pytest.raises(InvalidInput):
        profile_of(0)
