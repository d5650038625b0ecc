"""A maker's quote: its rate for up to so much, until then, signed by the key of its node on the source. Pure.

Signed as EIP-712 typed data under the domain of the source's adjudicator. A quote that was given stands: the maker
keeps free what it is for, until it lapses or one crossing has taken it up.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from tallystick.channels.errors import InvalidInput, InvalidSignature, MalformedMessage
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.eip712 import digest_of_struct, domain_separator
from tallystick.channels.protocol.keys import PrivateKey, PublicKey, keccak
from tallystick.channels.protocol.objects import Bytes32
from tallystick.router.objects import Key33, NodeKey
from tallystick.sdk.chains.assets import ChainAsset
from tallystick.sdk.chains.rates import Rate

Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]

_FIELDS = (
    "bytes key,uint256 sourceChain,address sourceContract,address sourceAsset,uint256 targetChain,"
    "address targetContract,address targetAsset,uint128 take,uint128 give,uint128 base,uint128 least,uint128 most,"
    "uint128 routeBase,uint128 routePpm,uint64 until,bytes32 nonce"
)
TYPES = {"Quote": [dict(zip(("type", "name"), field.split(), strict=True)) for field in _FIELDS.split(",")]}
"""The description that wallets take, as in `channels/protocol/eip712.py`."""
_TYPE = keccak(f"Quote({_FIELDS})".encode())


class Quote(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """For up to `most` on the target, a maker asks that on the source. Amounts in smallest units."""

    key: Key33
    """The maker's, on the source."""
    source: ChainAsset
    target: ChainAsset
    take: Positive
    give: Positive
    base: NotNegative
    least: Positive
    most: Positive
    route_base: NotNegative
    route_ppm: NotNegative
    until: Annotated[int, msgspec.Meta(ge=0)]
    """The last moment at which it may be taken up, in the source's chain time."""
    nonce: Bytes32
    signature: Signature = bytes(64)

    @property
    def rate(self) -> Rate:
        """What it asks for; raise InvalidInput if that is no rate."""
        return Rate(
            source=self.source,
            target=self.target,
            take=self.take,
            give=self.give,
            base=self.base,
            least=self.least,
            most=self.most,
            route_base=self.route_base,
            route_ppm=self.route_ppm,
        )


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def digest_of_quote(quote: Quote) -> bytes:
    """Return what is signed (32 bytes); raise InvalidInput if a field is out of its bounds."""
    numbers = (quote.take, quote.give, quote.base, quote.least, quote.most, quote.route_base, quote.route_ppm)
    if max(numbers) > AMOUNT_MAX or max(quote.until, quote.source.chain_id, quote.target.chain_id) > UINT64_MAX:
        raise InvalidInput("a number of this quote is too large")
    places = b"".join(
        _word(place.chain_id) + bytes(12) + place.contract + bytes(12) + place.asset
        for place in (quote.source, quote.target)
    )
    packed = _TYPE + keccak(quote.key) + places + b"".join(map(_word, (*numbers, quote.until))) + quote.nonce
    return digest_of_struct(domain_separator(quote.source.chain_id, quote.source.contract), packed)


def sign_quote(rate: Rate, key: PrivateKey, *, most: int, until: int, nonce: bytes) -> Quote:
    """Return a signed quote for up to `most` at a rate. Raise InvalidInput."""
    quote = Quote(
        NodeKey(bytes(key.public)),
        rate.source,
        rate.target,
        rate.take,
        rate.give,
        rate.base,
        rate.least,
        most,
        rate.route_base,
        rate.route_ppm,
        until,
        nonce,
    )
    return msgspec.structs.replace(quote, signature=key.sign(digest_of_quote(quote)))


def verify_quote(quote: Quote) -> None:
    """Raise MalformedMessage unless that is a rate, signed by the key that it names."""
    try:
        digest, _ = digest_of_quote(quote), quote.rate
        PublicKey(quote.key).verify(digest, quote.signature)
    except (InvalidInput, InvalidSignature) as error:
        raise MalformedMessage(f"this is no maker's quote: {error}") from error


def best_amount(rate: Rate, budget: int) -> int:
    """Return the largest amount whose price is within `budget`, 0 if there is none."""
    low, high = 0, rate.most
    while low < high:
        middle = (low + high + 1) // 2
        try:
            fits = rate.price(max(middle, rate.least)) <= budget
        except InvalidInput:
            fits = False
        low, high = (middle, high) if fits else (low, middle - 1)
    return low if low >= rate.least else 0
