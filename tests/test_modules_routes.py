"""Several pools in one call, all or nothing; and which pool is the best, whatever pools others make."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.module_ledger import ALICE, BOB, CAROL, EVER, GOLD, SILVER, START, ModuleLedger
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.modules.curves import FEE_MAX
from tallystick.settlement.modules.exchange import LISTED_MAX
from tallystick.settlement.modules.exchange_routes import HOPS_MAX, LISTED

POOLS = (
    (GOLD, SILVER, 10**9, 2 * 10**9),
    (GOLD, SILVER, 10**8, 2 * 10**8),
    (SILVER, NATIVE, 10**9, 10**9),
    (NATIVE, GOLD, 10**9, 10**9),
)
"""The first, second and fourth have numbers 0, 1 and 0 of their pairs; every other one's fee falls."""


def with_pools() -> ModuleLedger:
    ledger, counts = ModuleLedger(), dict[frozenset[Address], int]()
    for at, (first, second, *reserves) in enumerate(POOLS):
        kind = ("createFallingPool", 12_000, 1_000) if at % 2 else ("createPool", 3_000)
        ledger.call(ALICE, "exchange", kind[0], first, second, *kind[1:])
        number = counts[frozenset((first, second))] = counts.get(frozenset((first, second)), -1) + 1
        ledger.call(ALICE, "exchange", "addLiquidity", first, second, number, *reserves, 0, EVER)
    return ledger


AROUND = ([GOLD, SILVER, NATIVE, GOLD], [1, 0, 0])


def test_a_path_does_what_one_swap_after_the_other_does() -> None:
    one, more = with_pools(), with_pools()
    (quoted,) = one.read("exchange", "quotePath", *AROUND, 10**6)
    assert one.call(BOB, "exchange", "swapPath", *AROUND, 10**6, quoted, EVER) == (quoted,)
    amount = 10**6
    for first, second, number in zip(AROUND[0], AROUND[0][1:], AROUND[1], strict=False):
        (amount,) = more.call(BOB, "exchange", "swap", first, second, number, amount, 1, EVER)
    assert amount == quoted and one.state.changes == more.state.changes
    assert one.wealth(BOB) == {GOLD: START - 10**6 + quoted, SILVER: START, NATIVE: START}


def test_a_path_that_misses_its_limit_or_a_pool_on_the_way_does_nothing() -> None:
    ledger = with_pools()
    before = dict(ledger.state.changes)
    (quoted,) = ledger.read("exchange", "quotePath", *AROUND, 10**6)
    path, numbers = AROUND
    for code, asked in (
        (Revert.LIMIT_MISSED, (path, numbers, 10**6, quoted + 1, EVER)),
        (Revert.EXPIRED, (path, numbers, 10**6, 1, ledger.time - 1)),
        (Revert.UNKNOWN_ENTRY, (path, [1, 0, 1], 10**6, 1, EVER)),
        (Revert.LIMIT_MISSED, (path, numbers, 0, 0, EVER)),
        (Revert.BAD_TERMS, (path[:1], [], 10**6, 1, EVER)),
        (Revert.BAD_TERMS, (path, numbers[:2], 10**6, 1, EVER)),
        (Revert.BAD_TERMS, ([GOLD, SILVER] * 5, [0] * 9, 10**6, 1, EVER)),
        (Revert.BAD_TERMS, ([GOLD, GOLD], [0], 10**6, 1, EVER)),
        (Revert.INSUFFICIENT_BALANCE, (path, numbers, 2 * START, 1, EVER)),
    ):
        assert ledger.refused(BOB, "exchange", "swapPath", *asked) == code
    ledger.call(ALICE, "exchange", "createPool", SILVER, NATIVE, 0)
    before |= {key: value for key, value in ledger.state.changes.items() if key not in before or before[key] != value}
    assert ledger.refused(BOB, "exchange", "swapPath", path, [1, 1, 0], 10**6, 1, EVER) == Revert.NO_LIQUIDITY
    assert ledger.state.changes == before
    assert ledger.refused(BOB, "exchange", "swapPath", [NATIVE, SILVER], [0], 5, 1, EVER, value=4) == Revert.BAD_AMOUNT
    assert ledger.refused(BOB, "exchange", "swapPath", *AROUND, 10**6, 1, EVER, value=0) is None, "coins on the way"


HOP = st.tuples(st.sampled_from((GOLD, SILVER, NATIVE)), st.integers(0, 1))


@given(st.lists(HOP, min_size=1, max_size=HOPS_MAX), st.integers(1, 10**8))
@settings(max_examples=60, deadline=None)
def test_what_is_quoted_for_a_path_is_what_comes_out_also_twice_through_one_pool(
    hops: list[tuple[Address, int]], amount: int
) -> None:
    """And no way round gains, as each pool keeps its product."""
    path, numbers = [GOLD], list[int]()
    for asset, number in hops:
        if asset != path[-1]:
            path.append(asset)
            numbers.append(number if {asset, path[-2]} == {GOLD, SILVER} else 0)
    ledger = with_pools()
    try:
        (quoted,) = ledger.read("exchange", "quotePath", path, numbers, amount)
    except Reverted:
        return
    assert ledger.call(BOB, "exchange", "swapPath", path, numbers, amount, quoted, EVER) == (quoted,)
    assert ledger.balance(BOB, path[-1]) == START + quoted - (amount if path[-1] == GOLD else 0)
    for pair in ((GOLD, SILVER, 0), (GOLD, SILVER, 1), (SILVER, NATIVE, 0), (NATIVE, GOLD, 0)):
        id, first, second, *_ = ledger.read("exchange", "pool", *pair)
        assert (first, second) == (ledger.balance(id, pair[0]), ledger.balance(id, pair[1]))


def test_the_best_pool_is_the_smallest_that_the_trade_fits_and_a_draw_decides_between_equals() -> None:
    ledger = ModuleLedger()
    for number, size in enumerate((10**9, 10**6, 10**6, 10**12, 0)):
        ledger.call(ALICE, "exchange", "createFallingPool", GOLD, SILVER, 12_000, 1_000)
        if size:
            ledger.call(ALICE, "exchange", "addLiquidity", GOLD, SILVER, number, size, size, 0, EVER)
    (out,) = ledger.read("exchange", "quote", GOLD, SILVER, 1, 5_000)
    assert [ledger.read("exchange", "best", GOLD, SILVER, 5_000, draw) for draw in (0, 1, 2)] == [
        (1, out),
        (2, out),
        (1, out),
    ]
    assert ledger.read("exchange", "best", GOLD, SILVER, 5 * 10**6, 7)[0] == 0
    with pytest.raises(Reverted, match="no listed pool"):
        ledger.read("exchange", "best", GOLD, NATIVE, 5_000, 0)


def test_nobody_closes_a_pair_to_others_by_making_pools() -> None:
    """Mallory makes more than a list holds, with the highest fee; Alice's is found all the same, once she lists it."""
    ledger = ModuleLedger()
    for _ in range(LISTED_MAX + 200):
        ledger.call(CAROL, "exchange", "createPool", GOLD, SILVER, FEE_MAX)
    ledger.call(CAROL, "exchange", "addLiquidity", GOLD, SILVER, 7, 10**6, 10**6, 0, EVER)
    (mine,) = ledger.call(ALICE, "exchange", "createPool", GOLD, SILVER, 1_000)
    assert ledger.refused(ALICE, "exchange", "listPool", GOLD, SILVER, mine, 3) == Revert.NOT_ALLOWED, "it is empty"
    ledger.call(ALICE, "exchange", "addLiquidity", GOLD, SILVER, mine, 10**5, 10**5, 0, EVER)
    assert ledger.read("exchange", "best", GOLD, SILVER, 100, 0)[0] == 7
    for place, code in (
        (7, Revert.NOT_ALLOWED),
        (LISTED_MAX, Revert.UNKNOWN_ENTRY),
        (3, None),
        (4, Revert.NOT_ALLOWED),  # it has one
    ):
        assert ledger.refused(ALICE, "exchange", "listPool", SILVER, GOLD, mine, place) == code
        if code is None:
            (event,) = ledger.told
            assert getattr(event, "topics", ())[0] == LISTED.hash
    assert ledger.read("exchange", "best", GOLD, SILVER, 100, 0)[0] == mine
    total, numbers = ledger.read("exchange", "listed", GOLD, SILVER)
    assert total == LISTED_MAX + 201 and len(numbers) == LISTED_MAX == len(set(numbers)) and numbers[3] == mine
    assert ledger.refused(CAROL, "exchange", "listPool", GOLD, SILVER, 3, 3) == Revert.NOT_ALLOWED, "it is empty"
    ledger.call(CAROL, "exchange", "addLiquidity", GOLD, SILVER, 100, 10**5, 10**5, 0, EVER)
    assert ledger.refused(CAROL, "exchange", "listPool", GOLD, SILVER, 100, 3) == Revert.NOT_ALLOWED, "as deep"
    ledger.call(CAROL, "exchange", "addLiquidity", GOLD, SILVER, 100, 10, 10, 0, EVER)
    assert ledger.refused(CAROL, "exchange", "listPool", GOLD, SILVER, 100, 3) is None


def test_swaps_and_deposits_leave_the_list_alone() -> None:
    """Else all pools of a pair would write one thing, and swaps in them could not run in parallel."""
    ledger = with_pools()
    written = set[bytes]()
    for number, by in ((0, BOB), (1, CAROL)):
        before = dict(ledger.state.changes)
        ledger.call(by, "exchange", "addLiquidity", GOLD, SILVER, number, 10**6, 2 * 10**6, 0, EVER)
        ledger.call(by, "exchange", "swapPath", [GOLD, SILVER], [number], 1_000, 1, EVER)
        changed = {key for key, value in ledger.state.changes.items() if before.get(key) != value}
        assert not changed & written
        written |= changed
