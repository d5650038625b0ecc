"""What makers tell the network: at which rates they carry payments to other chains and assets, for a short while. Pure.

A `MarketAnnouncement` is all that one maker asks for, of one node of its: its offers, each from an asset of this chain
to an asset of any chain. It stands until a newer one of the same key, and no longer than `until`, an hour at most. It
binds nobody: a payer that likes it asks the maker for a quote, which does. It is signed as EIP-712 typed data under the
domain of this chain's adjudicator, as other announcements are; of another chain a maker's node there tells.
"""

from __future__ import annotations

import itertools
from typing import Annotated

import msgspec

from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address
from tallystick.router.errors import GossipRefused
from tallystick.router.objects import UINT32_MAX, Key33

OFFERS_MAX = 16
"""Offers of one maker's node."""

MARKET_LIFE_MAX = 3_600
"""Seconds from a market's timestamp to its `until`, at most."""

Address20 = Annotated[Address, msgspec.Meta(min_length=20, max_length=20)]
Moment = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]

_OFFER = (
    "address asset,uint64 chain,address contract,address target,uint128 take,uint128 give,uint128 base,uint128 least,"
    "uint128 most,uint128 routeBase,uint128 routePpm,uint32 margin"
)
_MARKET = "bytes key,uint64 timestamp,uint64 until,MarketOffer[] offers"
MARKET_FIELDS = {"MarketAnnouncement": _MARKET, "MarketOffer": _OFFER}
_OFFER_TYPE = keccak(f"MarketOffer({_OFFER})".encode())
_MARKET_TYPE = keccak(f"MarketAnnouncement({_MARKET})MarketOffer({_OFFER})".encode())


class MarketOffer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, order=True):
    """For `give` units of the target, a maker takes `take` units of an asset of this chain. In smallest units."""

    asset: Address20
    """What it is paid in, on this chain."""
    chain: Annotated[int, msgspec.Meta(ge=0)]
    contract: Address20
    """The adjudicator of the chain on which it pays."""
    target: Address20
    """The asset there."""
    take: Positive
    give: Positive
    base: NotNegative
    """On top of each price."""
    least: Positive
    """Of the target, in one payment."""
    most: Positive
    route_base: NotNegative
    """What the way on the target may cost at most, which the payer pays for: so much …"""
    route_ppm: NotNegative
    """… and so many millionths of the amount."""
    margin: NotNegative
    """Seconds by which locks on this chain outlive those on the target."""


class MarketAnnouncement(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """All that a maker asks for now, paid on this chain."""

    key: Key33
    timestamp: Moment
    """Unix seconds by the signer's clock; a higher one replaces a lower one."""
    until: Moment
    """The last second at which it counts."""
    offers: Annotated[tuple[MarketOffer, ...], msgspec.Meta(max_length=OFFERS_MAX)]
    """One for each pair of assets, in order; none: it trades no more."""
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)] = bytes(64)


class MarketId(msgspec.Struct, frozen=True, order=True):
    """What a market replaces: the one of that key before."""

    key: Key33


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _pack_offer(offer: MarketOffer) -> bytes:
    amounts = (offer.take, offer.give, offer.base, offer.least, offer.most, offer.route_base, offer.route_ppm)
    if max(amounts) > AMOUNT_MAX or offer.chain > UINT64_MAX or offer.margin > UINT32_MAX:
        raise GossipRefused("a number of a maker's offer is too large")
    if offer.least > offer.most:
        raise GossipRefused("a maker's offer is from its smallest amount to its largest, and this one is of nothing")
    pads = bytes(12)
    places = pads + offer.asset + _word(offer.chain) + pads + offer.contract + pads + offer.target
    return _OFFER_TYPE + places + b"".join(map(_word, (*amounts, offer.margin)))


def pack_market(market: MarketAnnouncement) -> bytes:
    """Return the encoded struct of EIP-712 that is signed; raise GossipRefused if a field is out of its bounds."""
    if not 0 <= market.until - market.timestamp <= MARKET_LIFE_MAX:
        raise GossipRefused(f"what a maker asks for stands from its timestamp for {MARKET_LIFE_MAX} seconds at most")
    pairs = [(offer.asset, offer.chain, offer.contract, offer.target) for offer in market.offers]
    if any(one >= other for one, other in itertools.pairwise(pairs)):
        raise GossipRefused("a maker's offers stand in the order of their assets, one for each pair")
    offers = keccak(b"".join(keccak(_pack_offer(offer)) for offer in market.offers))
    return _MARKET_TYPE + keccak(market.key) + _word(market.timestamp) + _word(market.until) + offers
