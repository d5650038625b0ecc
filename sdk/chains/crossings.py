"""What a maker has agreed to carry across: stored before anybody is given the invoice that mirrors the payee's.

A crossing is what it is from then on: the first one of a hash counts, whatever rates do. It ends paid, or given back;
one whose mirrored invoice nobody paid in time lapses, which the time says.
"""

from __future__ import annotations

import enum

import msgspec

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import Bytes32
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Row, Rows, below, decode_column, find, table
from tallystick.channels.values.discretion import Discreet
from tallystick.sdk.chains.assets import ChainAsset
from tallystick.sdk.chains.quotes import Quote
from tallystick.sdk.chains.rates import Rate


class CrossingEnd(enum.StrEnum):
    """What became of a crossing. The values stand in stores, and never change."""

    PAID = "paid"
    GIVEN_BACK = "given back"
    LOST = "lost"
    """Paid on the target, and too late to settle on the source: more happened than the maker had taken into account."""
    LAPSED = "lapsed"
    """Nobody paid for it in time."""


class AgreedCrossing(Discreet, msgspec.Struct, frozen=True, kw_only=True):
    """Whoever pays the mirrored invoice of this hash on the source has the payee's invoice paid on the target."""

    payment_hash: Bytes32
    source: ChainAsset
    target: ChainAsset
    text: str
    """The payee's invoice."""
    amount: int
    """Of it, on the target."""
    price: int
    """Asked for on the source."""
    fee: int
    """The most that paying costs on the target."""
    agreed: int
    """When, in the source's chain time …"""
    until: int
    """… and until when it may be taken up."""
    nonce: bytes = b""
    """Of the quote that it takes up; empty: it is by the rate of its time."""
    peer: bytes = b""
    """Who asked for it, over a link; empty: a program of the maker's."""


class CrossingAgreed(Moment, frozen=True):
    """The maker gives its word. Without effect if there is a crossing of that hash."""

    crossing: AgreedCrossing


class CrossingEnded(Moment, frozen=True):
    """Both sides are over: for good, as a hash is paid once."""

    payment_hash: bytes
    end: CrossingEnd


class RateSet(Moment, frozen=True):
    """The maker asks this from now on; None: it trades that no more."""

    source: ChainAsset
    target: ChainAsset
    rate: Rate | None


class QuoteMade(Moment, frozen=True):
    """A peer is about to be given this quote. Those that lapsed before `forget` are of no use any more."""

    peer: bytes
    quote: Quote
    forget: int


class CrossingRecord(msgspec.Struct, frozen=True):
    """One row."""

    crossing: AgreedCrossing
    end: CrossingEnd | None


_CROSSINGS = table("crossings", "hash body ended")
_RATES = table("rates", "pair body")
_QUOTES = table("quotes", "nonce until peer body used")
_CROSSING: Codec[AgreedCrossing] = Codec(AgreedCrossing, canonical=False)
_PAIR: Codec[tuple[ChainAsset, ChainAsset]] = Codec(tuple[ChainAsset, ChainAsset])
_QUOTE: Codec[Quote] = Codec(Quote)
_RATE: Codec[Rate] = Codec(Rate, canonical=False)


def _agreed(rows: Rows, moment: CrossingAgreed) -> None:
    rows.keep(_CROSSINGS, moment.crossing.payment_hash, _CROSSING.encode(moment.crossing), "")
    if moment.crossing.nonce:
        rows.update(_QUOTES, {"used": True}, nonce=moment.crossing.nonce)


def _quoted(rows: Rows, moment: QuoteMade) -> None:
    rows.delete(_QUOTES, below("until", moment.forget))
    rows.add(_QUOTES, moment.quote.nonce, moment.quote.until, moment.peer, _QUOTE.encode(moment.quote), False)


def _ended(rows: Rows, moment: CrossingEnded) -> None:
    rows.update(_CROSSINGS, {"ended": moment.end.value}, hash=moment.payment_hash, ended="")


def _rate_set(rows: Rows, moment: RateSet) -> None:
    pair = _PAIR.encode((moment.source, moment.target))
    if moment.rate is None:
        rows.delete(_RATES, pair=pair)
    else:
        rows.put(_RATES, pair, _RATE.encode(moment.rate))


MAKER = Subject(
    "maker",
    (_CROSSINGS, _RATES, _QUOTES),
    {CrossingAgreed: _agreed, CrossingEnded: _ended, RateSet: _rate_set, QuoteMade: _quoted},
)


def _record(row: Row) -> CrossingRecord:
    digest, body, ended = row
    return CrossingRecord(decode_column(_CROSSING, body, "crossings", digest), CrossingEnd(ended) if ended else None)


def find_crossing(store: Store, payment_hash: bytes) -> CrossingRecord | None:
    """Return the crossing of that hash, None if there is none."""
    row = find(store, _CROSSINGS, payment_hash)
    return _record(row) if row else None


def open_crossings(store: Store) -> list[AgreedCrossing]:
    """Return the crossings that have not ended, in order of their hashes. Some may have lapsed."""
    return [_record(row).crossing for row in store.read(_CROSSINGS.rows(ended=""))]


def count_ends(store: Store) -> dict[CrossingEnd, int]:
    """Return how many crossings ended how."""
    found: dict[str, int] = dict(store.read(_CROSSINGS.groups(columns="ended")))
    return {end: found.get(end.value, 0) for end in CrossingEnd}


def load_rates(store: Store) -> list[Rate]:
    """Return all rates that are asked for."""
    return [decode_column(_RATE, body, "rates", pair) for pair, body in store.read(_RATES.rows())]


def open_quotes(store: Store) -> list[tuple[bytes, Quote]]:
    """Return (peer, quote) of what was quoted and not taken up. Some may have lapsed."""
    rows = store.read(_QUOTES.rows(used=False))
    return [(peer, decode_column(_QUOTE, body, "quotes", nonce)) for nonce, _, peer, body, _ in rows]
