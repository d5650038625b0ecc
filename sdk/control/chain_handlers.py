"""What a node does for the operations across chains: as in `handlers`, a method of the operation's name."""

from __future__ import annotations

import msgspec

from tallystick.channels.ports import PeerAddress
from tallystick.sdk.chains.assets import read_asset
from tallystick.sdk.chains.company import Company
from tallystick.sdk.chains.crossings import CrossingEnd
from tallystick.sdk.chains.markets import BookEntry
from tallystick.sdk.chains.rates import Rate
from tallystick.sdk.chains.wallet import SwapPart
from tallystick.sdk.control import chain_views as chains
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.standings import UNIT, Role, find_standing


class ChainHandlers:
    """What is asked of the nodes of one company, by whichever of them is asked."""

    _company: Company

    async def swap(self, asked: chains.Swap) -> chains.SwapInfo:
        give, get = self._company.place(asked.give), self._company.place(asked.get)
        makers = [(give, PeerAddress.parse(place)) for place in asked.makers]
        swapped = await self._company.wallet(makers).swap(asked.amount, give=give, get=get, least=asked.least)
        return chains.SwapInfo(str(give), str(get), swapped.given, swapped.got, tuple(map(_part, swapped.parts)))

    async def markets(self, asked: chains.MarketsAsked) -> list[chains.MarketInfo]:
        give, get = ((text and read_asset(text)) or None for text in (asked.give, asked.get))
        book, found = self._company.wallet().book(), list[chains.MarketInfo]()
        for source, target in book.pairs:
            if give in (None, (source.asset, source.chain_id)) and get in (None, (target.asset, target.chain_id)):
                there, node = book.entries(source, target), self._company.node(source)
                offers = tuple(_offer_info(node, entry) for entry in there[: asked.limit])
                found.append(chains.MarketInfo(str(source), str(target), len(there), offers))
        return found

    async def rates(self) -> list[chains.RateInfo]:
        return list(map(_rate_info, self._company.maker.rates))

    async def set_rate(self, asked: chains.RateInfo) -> chains.RateInfo:
        named = msgspec.structs.asdict(asked)
        place = self._company.place
        rate = Rate(**{**named, "source": place(asked.source), "target": place(asked.target)})
        self._company.maker.set_rate(rate)
        return _rate_info(rate)

    async def remove_rate(self, asked: chains.RatePair) -> chains.RatePair:
        place = self._company.place
        self._company.maker.drop_rate(place(asked.source), place(asked.target))
        return asked

    async def maker(self) -> chains.MakerInfo:
        maker = self._company.maker
        ends, is_open, quotes = maker.counts()
        return chains.MakerInfo(
            rates=tuple(
                chains.RateStanding(
                    _rate_info(rate), max(0, maker.free(rate.target)), maker.margin(rate.source, rate.target)
                )
                for rate in maker.rates
            ),
            quotes=quotes,
            open=is_open,
            paid=ends[CrossingEnd.PAID],
            given_back=ends[CrossingEnd.GIVEN_BACK],
            lapsed=ends[CrossingEnd.LAPSED],
            lost=ends[CrossingEnd.LOST],
        )


def _rate_info(rate: Rate) -> chains.RateInfo:
    named = msgspec.structs.asdict(rate)
    return chains.RateInfo(**{**named, "source": str(rate.source), "target": str(rate.target)})


def _offer_info(node: Node, entry: BookEntry) -> chains.MakerOfferInfo:
    rate, now, date = entry.rate, node.engine.chain.now, node.routing.gossip.clock()
    standing = find_standing(node.store, Role.MAKER, entry.maker)
    left = standing.at(now)
    return chains.MakerOfferInfo(
        maker=entry.maker.hex(),
        addresses=node.routing.gossip.addresses_of(entry.maker),
        connected=node.engine.is_connected(entry.maker),
        take=rate.take,
        give=rate.give,
        base=rate.base,
        least=rate.least,
        most=rate.most,
        route_base=rate.route_base,
        route_ppm=rate.route_ppm,
        margin=entry.margin,
        age=max(0, int(date - entry.told)),
        ends_in=max(0, int(entry.until - date)),
        kept=(left.kept + UNIT // 2) // UNIT,
        broken=(left.broken + UNIT // 2) // UNIT,
        refused=standing.is_refused(now),
    )


def _part(part: SwapPart) -> chains.SwapPartInfo:
    made = part.receipt
    return chains.SwapPartInfo(
        maker=part.maker.hex(),
        given=0 if made is None else made.amount,
        got=0 if made is None else part.amount,
        fee=0 if made is None else made.fee,
        payment_hash="" if made is None else made.payment_hash.hex(),
        why=part.why,
    )
