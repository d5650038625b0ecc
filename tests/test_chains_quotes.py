"""Quotes: what is signed is what wallets show, what was changed is refused, and budgets are spent to the last unit."""

from __future__ import annotations

import msgspec
import pytest
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.sdk.chains.assets import ChainAsset, read_asset
from tallystick.sdk.chains.quotes import TYPES, best_amount, digest_of_quote, sign_quote, verify_quote
from tallystick.sdk.chains.rates import Rate
from tallystick.sdk.chains.talks import _CODEC, CrossingAsked, CrossingGiven, QuoteAsked, QuoteGiven

KEY = PrivateKey(keccak(b"a maker"))
PLACES = st.builds(
    ChainAsset, st.integers(0, 2**64 - 1), st.binary(min_size=20, max_size=20), st.binary(min_size=20, max_size=20)
)
AMOUNTS = st.integers(1, AMOUNT_MAX)
SMALL = st.integers(0, 10**9)


@st.composite
def rates(draw: st.DrawFn, amounts: st.SearchStrategy[int] = AMOUNTS) -> Rate:
    source, target = draw(st.lists(PLACES, min_size=2, max_size=2, unique=True))
    least, most = sorted((draw(amounts), draw(amounts)))
    return Rate(
        source=source,
        target=target,
        take=draw(amounts),
        give=draw(amounts),
        base=draw(SMALL),
        least=least,
        most=most,
        route_base=draw(SMALL),
        route_ppm=draw(SMALL),
    )


@given(rates(), st.integers(0, 2**64 - 1), st.binary(min_size=32, max_size=32))
def test_what_is_signed_is_what_wallets_show(rate: Rate, until: int, nonce: bytes) -> None:
    quote = sign_quote(rate, KEY, most=rate.most, until=until, nonce=nonce)
    verify_quote(quote)
    assert quote.rate == rate
    (source, target) = rate.source, rate.target
    message = encode_typed_data(
        {"name": "Tallystick", "version": "1", "chainId": source.chain_id, "verifyingContract": source.contract},
        TYPES,
        {
            "key": quote.key,
            "sourceChain": source.chain_id,
            "sourceContract": source.contract,
            "sourceAsset": source.asset,
            "targetChain": target.chain_id,
            "targetContract": target.contract,
            "targetAsset": target.asset,
            "take": rate.take,
            "give": rate.give,
            "base": rate.base,
            "least": rate.least,
            "most": rate.most,
            "routeBase": rate.route_base,
            "routePpm": rate.route_ppm,
            "until": until,
            "nonce": nonce,
        },
    )
    assert keccak(b"\x19" + message.version + message.header + message.body) == digest_of_quote(quote)


@given(rates(), st.data())
def test_a_quote_that_was_changed_is_refused(rate: Rate, data: st.DataObject) -> None:
    quote = sign_quote(rate, KEY, most=rate.most, until=7, nonce=bytes(32))
    name = data.draw(st.sampled_from([field for field in quote.__struct_fields__ if field not in ("source", "target")]))
    value = getattr(quote, name)
    other = value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
    with pytest.raises(MalformedMessage, match="no maker's quote"):
        verify_quote(msgspec.structs.replace(quote, **{name: other}))


@given(rates(st.integers(1, 10**6)), st.integers(1, 10**14))
def test_a_budget_buys_as_much_as_it_can_and_never_more(rate: Rate, budget: int) -> None:
    most = best_amount(rate, budget)
    if most:
        assert rate.least <= most <= rate.most and rate.price(most) <= budget
    if most < rate.most:
        assert rate.price(max(most + 1, rate.least)) > budget


@given(rates(), st.binary(max_size=300))
def test_messages_are_read_as_they_were_written_and_junk_is_refused(rate: Rate, junk: bytes) -> None:
    quote = sign_quote(rate, KEY, most=rate.most, until=7, nonce=bytes(32))
    for message in (
        QuoteAsked(1, rate.source.asset, rate.target, rate.most, True),
        QuoteGiven(2, (quote,)),
        QuoteGiven(3, (), "no"),
        CrossingAsked(4, bytes(32), "tally1"),
        CrossingGiven(5, "tally1"),
    ):
        written = _CODEC.encode(message)
        assert _CODEC.decode(written) == message
        with pytest.raises(MalformedMessage):
            _CODEC.decode(written + junk[:1] + b"\x00")
    with pytest.raises(MalformedMessage):
        _CODEC.decode(b"\xc1" + junk)


def test_assets_are_read_as_they_are_written() -> None:
    for text in ("coin@1337", "0x" + "5f" * 20 + "@31337"):
        asset, chain = read_asset(text)
        assert str(ChainAsset(chain, bytes(20), asset)) == text
    for wrong in ("coin", "coin@", "coin@01", "0x55@1", "gold@1", "coin@99999999999999999999", "coin@1@2"):
        with pytest.raises(InvalidInput, match="names no asset"):
            read_asset(wrong)
