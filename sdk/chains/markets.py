"""An order book: what makers ask for between assets of many chains, as gossip tells it, and the best ways. Pure.

Each entry is a rate that a maker told the network, which binds nobody: who wants it asks for a quote. Of a pair of
assets the cheapest stand first, by what a unit costs. A way goes over one maker or several in a row, each of which pays
the next one in the asset between; the search looks at ways over `MAKERS_IN_A_ROW` at most, each edge a bounded number
of times, and returns the best one of each length, so that the next one is there if the best does not come about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import Address
from tallystick.router.gossip.markets import MarketAnnouncement, MarketOffer
from tallystick.router.invoices.invoice import LOCK_LIFE_MAX
from tallystick.sdk.chains.assets import ChainAsset
from tallystick.sdk.chains.quotes import best_amount
from tallystick.sdk.chains.rates import Rate

MAKERS_IN_A_ROW = 3
"""Makers over which one payment goes at most."""


class BookEntry(msgspec.Struct, frozen=True):
    """What one maker asks for, of one pair of assets."""

    maker: bytes
    """Its node's key on the source."""
    rate: Rate
    margin: int
    """Seconds by which locks on the source outlive those on the target."""
    told: int
    """When it said so, in Unix seconds by its own clock …"""
    until: int
    """… and how long it stands."""

    @property
    def cost(self) -> Fraction:
        """What a unit costs, if it is bought in the largest amount that there is: by which entries are ordered."""
        return _unit_cost(self.rate)


def _unit_cost(rate: Rate) -> Fraction:
    try:
        return Fraction(rate.price(rate.most), rate.most)
    except InvalidInput:  # more than can be paid in one payment: what it tends to
        return Fraction(rate.take, rate.give)


def offer_of(rate: Rate, most: int, margin: int) -> MarketOffer:
    """Return what a maker tells of a rate, for up to `most`."""
    target = rate.target
    return MarketOffer(
        asset=rate.source.asset,
        chain=target.chain_id,
        contract=target.contract,
        target=target.asset,
        take=rate.take,
        give=rate.give,
        base=rate.base,
        least=rate.least,
        most=most,
        route_base=rate.route_base,
        route_ppm=rate.route_ppm,
        margin=margin,
    )


def told_most(rate: Rate, free: int) -> int:
    """Return the amount up to which a rate is told when so much is free; 0: it is not told.

    A power of two, so that the network is told of the size of a maker, and not of each payment.
    """
    there = min(rate.most, free - rate.route_fee(free)) if free > 0 else 0
    if there < rate.least:
        return 0
    return max(rate.least, 1 << (there.bit_length() - 1))


def entries_of(chain_id: int, contract: Address, markets: Iterable[MarketAnnouncement]) -> Iterator[BookEntry]:
    """Return what makers told on a chain; what is no rate is left out."""
    for said in markets:
        for offer in said.offers:
            with suppress(InvalidInput):
                rate = Rate(
                    source=ChainAsset(chain_id, contract, offer.asset),
                    target=ChainAsset(offer.chain, offer.contract, offer.target),
                    take=offer.take,
                    give=offer.give,
                    base=offer.base,
                    least=offer.least,
                    most=offer.most,
                    route_base=offer.route_base,
                    route_ppm=offer.route_ppm,
                )
                yield BookEntry(said.key, rate, offer.margin, said.timestamp, said.until)


class Way(msgspec.Struct, frozen=True):
    """Makers in a row, from what is given to what is got: of each its price, and what it pays for that."""

    entries: tuple[BookEntry, ...]
    price: int
    """In what is given, fees of ways to makers not included."""
    amount: int
    """Of what is got."""

    @property
    def between(self) -> tuple[ChainAsset, ...]:
        """The assets in which makers pay each other."""
        return tuple(entry.rate.source for entry in self.entries[1:])

    @property
    def margin(self) -> int:
        """Seconds by which the first locks outlive the last ones."""
        return sum(entry.margin for entry in self.entries)


class OrderBook:
    """What makers ask for, pair by pair."""

    def __init__(self, entries: Iterable[BookEntry]) -> None:
        """Take in what is known now."""
        self._pairs: dict[tuple[ChainAsset, ChainAsset], list[BookEntry]] = {}
        for entry in entries:
            self._pairs.setdefault((entry.rate.source, entry.rate.target), []).append(entry)
        for there in self._pairs.values():
            there.sort(key=lambda entry: (entry.cost, -entry.rate.most, entry.maker))

    @property
    def pairs(self) -> list[tuple[ChainAsset, ChainAsset]]:
        """The pairs of assets, source and target, of which there is an entry."""
        return sorted(self._pairs)

    def entries(self, give: ChainAsset, get: ChainAsset) -> list[BookEntry]:
        """Return what makers ask for one asset in another, the cheapest first."""
        return list(self._pairs.get((give, get), ()))

    def ways_to(self, give: ChainAsset, get: ChainAsset, amount: int) -> list[Way]:
        """Return ways by which `amount` of `get` is paid with `give`, the cheapest first: one of each length."""
        best, found = {get: Way((), amount, amount)}, list[Way]()
        for _ in range(MAKERS_IN_A_ROW):
            longer = dict[ChainAsset, Way]()
            for (source, target), entries in self._pairs.items():
                rest = best.get(target)
                if rest is not None and source != get and target != give:
                    for entry in entries:
                        _improve_price(longer, entry, rest)
            found += [way for source, way in longer.items() if source == give]
            best = longer
        return sorted(found, key=lambda way: (way.price, len(way.entries)))

    def ways_for(self, give: ChainAsset, get: ChainAsset, budget: int) -> list[Way]:
        """Return ways by which at most `budget` of `give` buys `get`, what brings most first: one of each length."""
        best, found = {give: Way((), budget, budget)}, list[Way]()
        for _ in range(MAKERS_IN_A_ROW):
            longer = dict[ChainAsset, Way]()
            for (source, target), entries in self._pairs.items():
                there = best.get(source)
                if there is not None and target != give and source != get:
                    for entry in entries:
                        _improve_amount(longer, entry, there)
            found += [way for target, way in longer.items() if target == get]
            best = longer
        return sorted(found, key=lambda way: (-way.amount, len(way.entries)))


def _improve_price(found: dict[ChainAsset, Way], entry: BookEntry, rest: Way) -> None:
    """Keep the way that goes over a maker first, and then along `rest`, if none is cheaper."""
    rate = entry.rate
    try:
        price = rate.price(rest.price)
    except InvalidInput:
        return
    known = found.get(rate.source)
    if entry.margin + rest.margin <= LOCK_LIFE_MAX and (known is None or price < known.price):
        found[rate.source] = Way((entry, *rest.entries), price, rest.amount)


def _improve_amount(found: dict[ChainAsset, Way], entry: BookEntry, first: Way) -> None:
    """Keep the way that goes along `first`, and then over a maker, if none brings more."""
    rate = entry.rate
    amount = best_amount(rate, first.amount)
    known = found.get(rate.target)
    if amount and first.margin + entry.margin <= LOCK_LIFE_MAX and (known is None or amount > known.amount):
        found[rate.target] = Way((*first.entries, entry), first.price, amount)
