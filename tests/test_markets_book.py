"""The order book: what is told of rates comes back, the cheapest stand first, and no other way is cheaper."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.objects import Address
from tallystick.router.gossip.markets import MarketAnnouncement, MarketOffer
from tallystick.router.invoices.invoice import LOCK_LIFE_MAX
from tallystick.router.objects import NodeKey
from tallystick.sdk.chains.assets import ChainAsset
from tallystick.sdk.chains.markets import MAKERS_IN_A_ROW, BookEntry, OrderBook, entries_of, offer_of, told_most
from tallystick.sdk.chains.quotes import best_amount
from tallystick.sdk.chains.rates import Rate

PLACES = [ChainAsset(number, Address(bytes([number]) * 20)) for number in range(1, 6)]


def entry(source: int, target: int, *, maker: int = 1, margin: int = 900, **values: Any) -> BookEntry:
    rate = Rate(source=PLACES[source], target=PLACES[target], **{"take": 1, "give": 1, **values})
    return BookEntry(bytes([maker]) * 33, rate, margin, 0, 0)


ENTRIES = st.lists(
    st.builds(
        lambda pair, least, more, **values: entry(*pair, least=least, most=least + more, **values),
        pair=st.permutations(range(5)).map(lambda order: order[:2]),
        maker=st.integers(1, 3),
        take=st.integers(1, 9),
        give=st.integers(1, 9),
        base=st.integers(0, 9),
        least=st.just(1),
        more=st.integers(0, 2_000),
        route_base=st.integers(0, 3),
        route_ppm=st.sampled_from([0, 10_000]),
        margin=st.sampled_from([900, LOCK_LIFE_MAX // 2 + 1]),
    ),
    max_size=14,
)


def walks(entries: list[BookEntry], give: ChainAsset, get: ChainAsset) -> list[tuple[BookEntry, ...]]:
    """All rows of makers from one asset to another that pass through neither, by trying all."""
    found = []
    for length in range(1, MAKERS_IN_A_ROW + 1):
        for row in product(entries, repeat=length):
            places = [row[0].rate.source, *(each.rate.target for each in row)]
            joined = all(one.rate.target == other.rate.source for one, other in pairwise(row))
            if joined and places[0] == give and places[-1] == get and not {give, get} & set(places[1:-1]):
                found.append(row)
    return [row for row in found if sum(each.margin for each in row) <= LOCK_LIFE_MAX]


def price_over(row: tuple[BookEntry, ...], amount: int) -> int | None:
    try:
        for each in reversed(row):
            amount = each.rate.price(amount)
    except InvalidInput:
        return None
    return amount


@given(ENTRIES, st.integers(1, 500))
@settings(max_examples=150, deadline=None)
def test_no_way_is_cheaper_than_the_first_and_each_costs_what_it_says(entries: list[BookEntry], amount: int) -> None:
    give, get = PLACES[0], PLACES[1]
    ways = OrderBook(entries).ways_to(give, get, amount)
    prices = [price for row in walks(entries, give, get) if (price := price_over(row, amount)) is not None]
    margins_alike = len({each.margin for each in entries}) <= 1
    if margins_alike:  # with others, the cheapest rest may leave too little time for what comes before
        assert [way.price for way in ways][:1] == sorted(prices)[:1]
    assert len({len(way.entries) for way in ways}) == len(ways)
    for way in ways:
        assert way.entries in walks(entries, give, get)
        assert (price_over(way.entries, amount), way.amount) == (way.price, amount)
        assert way.between == tuple(each.rate.target for each in way.entries[:-1])


@given(ENTRIES, st.integers(1, 500))
@settings(max_examples=150, deadline=None)
def test_no_way_brings_more_for_a_budget_than_the_first(entries: list[BookEntry], budget: int) -> None:
    give, get = PLACES[0], PLACES[1]
    ways = OrderBook(entries).ways_for(give, get, budget)
    brought = []
    for row in walks(entries, give, get):
        amount = budget
        for each in row:
            amount = best_amount(each.rate, amount) if amount else 0
        brought.append(amount)
    if len({each.margin for each in entries}) <= 1:
        assert max([way.amount for way in ways], default=0) == max(brought, default=0)
    for way in ways:
        price = price_over(way.entries, way.amount)
        assert price is not None and price <= budget, "what it brings is paid for by no more than was said"


def test_for_a_small_amount_the_first_of_a_pair_may_be_the_dearer_one() -> None:
    large = entry(0, 1, maker=1, base=9, least=1, most=2_000)
    small = entry(0, 1, maker=2, take=11, give=10, least=1, most=100)
    book = OrderBook([small, large])
    assert book.entries(*PLACES[:2]) == [large, small], "by what all of it costs"
    assert [(way.entries, way.price) for way in book.ways_to(PLACES[0], PLACES[1], 10)] == [((small,), 11)]
    assert [(way.entries, way.amount) for way in book.ways_for(PLACES[0], PLACES[1], 11)] == [((small,), 10)]


@given(ENTRIES)
@settings(max_examples=60, deadline=None)
def test_of_a_pair_the_cheapest_stands_first(entries: list[BookEntry]) -> None:
    book = OrderBook(entries)
    assert sorted(map(repr, entries)) == sorted(repr(one) for pair in book.pairs for one in book.entries(*pair))
    for pair in book.pairs:
        costs = [one.cost for one in book.entries(*pair)]
        assert costs == sorted(costs)
        assert {(one.rate.source, one.rate.target) for one in book.entries(*pair)} == {pair}
    assert book.entries(PLACES[0], PLACES[0]) == []


@given(st.integers(1, 2**70), st.integers(0, 2**70), st.integers(0, 2**70), st.integers(0, 100_000))
@settings(max_examples=200, deadline=None)
def test_what_is_told_of_a_rate_can_be_paid_and_says_the_size_alone(least: int, more: int, free: int, ppm: int) -> None:
    rate = entry(0, 1, least=least, most=least + more, route_ppm=ppm, route_base=3).rate
    most = told_most(rate, free)
    if most:
        assert rate.least <= most <= rate.most and most + rate.route_fee(most) <= free
        assert most == rate.least or most.bit_count() == 1
        assert 2 * most > min(rate.most, free - rate.route_fee(free)) or most == rate.least
    else:
        assert free - rate.route_fee(free) < rate.least


def test_what_a_maker_told_comes_back_as_its_rate_and_what_is_no_rate_is_left_out() -> None:
    rate = entry(0, 1, take=3, give=2, base=7, least=4, most=AMOUNT_MAX, route_base=5, route_ppm=6).rate
    good = offer_of(rate, 64, 900)
    own = MarketOffer(
        **{name: getattr(good, name) for name in MarketOffer.__struct_fields__}
        | {"chain": 1, "contract": PLACES[0].contract}
    )
    said = MarketAnnouncement(NodeKey(b"\2" * 33), 10, 20, (own, good))
    [found] = entries_of(1, PLACES[0].contract, [said])
    assert found.rate == Rate(**{name: getattr(rate, name) for name in Rate.__struct_fields__} | {"most": 64})
    assert (found.maker, found.margin, found.told, found.until) == (b"\2" * 33, 900, 10, 20)
    assert found.cost == (-(-(64 + 6) * 3 // 2) + 7) / 1 / 64
