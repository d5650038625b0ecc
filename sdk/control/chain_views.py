"""The control API's vocabulary across chains: swaps, what a maker asks for, how it stands.

Assets are written as ASSET@CHAIN: `coin@1337`, or a token's address, as in `0x5fbd…0aa3@31337`. Amounts are integers in
the asset's smallest unit.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from tallystick.sdk.control import kinds


class Swap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So much of one asset for another. Asked for again, it is another swap."""

    amount: kinds.Paid
    """Of `give`, at most, all fees included."""
    give: kinds.ChainAsset
    get: kinds.ChainAsset
    """Of a chain on which a node of the same process is."""
    makers: Annotated[tuple[kinds.Place, ...], msgspec.Meta(max_length=16)] = ()
    """Where to find those that are asked, on the chain of `give`; empty: the best of those of which gossip tells."""
    least: kinds.Sum = 0
    """Of `get`, or nothing is begun."""
    wait: bool = True
    """False: 202 as soon as it is on its way."""


class SwapPartInfo(msgspec.Struct, frozen=True):
    """What one maker changed of it, or did not."""

    maker: kinds.Key
    given: kinds.Sum
    """The maker's price; 0 if it was not paid."""
    got: kinds.Sum
    """0 if it was not made."""
    fee: kinds.Sum
    """Of the way to the maker."""
    payment_hash: str
    """Empty if it was not made."""
    why: str
    """Why it was not made; empty if it was."""


class SwapInfo(msgspec.Struct, frozen=True):
    """What became of a swap."""

    give: kinds.ChainAsset
    get: kinds.ChainAsset
    given: kinds.Sum
    """In all, fees included."""
    got: kinds.Sum
    """In all."""
    parts: tuple[SwapPartInfo, ...]


class RateInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For `give` units of the target, the maker takes `take` units of the source."""

    source: kinds.ChainAsset
    """What it is paid in."""
    target: kinds.ChainAsset
    """What it pays in."""
    take: kinds.Paid
    give: kinds.Paid
    base: kinds.FeeLimit
    """On top of each price, in units of the source."""
    least: kinds.Paid
    """Of the target, for one payment."""
    most: kinds.Paid
    route_base: kinds.FeeLimit
    """What paying on the target may cost at most, which the payer pays for: so much …"""
    route_ppm: kinds.FeeLimit
    """… and so many millionths of the amount."""


class RatePair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rate of one asset for another."""

    source: kinds.ChainAsset
    target: kinds.ChainAsset


class RateStanding(msgspec.Struct, frozen=True):
    """A rate, and what stands behind it now."""

    rate: RateInfo
    free: kinds.Sum
    """Of the target: what could be agreed on now."""
    margin: kinds.Sum
    """Seconds by which locks on the source outlive those on the target."""


class MarketsAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the order book."""

    give: kinds.ChainAssetOrNone = ""
    """Only what is paid for in this asset; empty: in any."""
    get: kinds.ChainAssetOrNone = ""
    """Only what pays this one; empty: any."""
    limit: kinds.PageSize = 10
    """Of each pair, so many makers at most."""


class MakerOfferInfo(msgspec.Struct, frozen=True):
    """What one maker asks for, as it told the network: it binds nobody, and who is asked for a quote answers anew."""

    maker: kinds.Key
    addresses: tuple[str, ...]
    """Where it says that it is; empty if it told nothing."""
    connected: bool
    take: kinds.Paid
    """For `give` units of the asset that is got it takes so many of the one that is given."""
    give: kinds.Paid
    base: kinds.FeeLimit
    """On top of each price."""
    least: kinds.Paid
    """Of what is got, for one payment."""
    most: kinds.Paid
    """Rounded down to a power of two by the maker."""
    route_base: kinds.FeeLimit
    """What paying on the target may cost at most, which the payer pays for: so much …"""
    route_ppm: kinds.FeeLimit
    """… and so many millionths of the amount."""
    margin: kinds.Sum
    """Seconds by which the payer's locks outlive the payee's."""
    age: kinds.Sum
    """Seconds since it said so."""
    ends_in: kinds.Sum
    """Seconds for which it stands yet."""
    kept: kinds.Sum
    """How often it kept its word to this node; half of it counts after a day."""
    broken: kinds.Sum
    """How often it did not, likewise."""
    refused: bool
    """Whether it is asked no more until that has faded."""


class MarketInfo(msgspec.Struct, frozen=True):
    """What makers ask for one asset in another, the cheapest first."""

    give: kinds.ChainAsset
    get: kinds.ChainAsset
    makers: kinds.Sum
    """How many there are in all."""
    offers: tuple[MakerOfferInfo, ...]


class MakerInfo(msgspec.Struct, frozen=True):
    """How a maker stands."""

    rates: tuple[RateStanding, ...]
    quotes: kinds.Sum
    """Quotes that may yet be taken up."""
    open: kinds.Sum
    """Crossings that were agreed on and have not ended; those that nobody paid for in time count until they lapse."""
    paid: kinds.Sum
    """Crossings that were paid on both sides."""
    given_back: kinds.Sum
    lapsed: kinds.Sum
    """Crossings for which nobody paid in time."""
    lost: kinds.Sum
    """Crossings that were paid on the target alone: see the alarms."""
