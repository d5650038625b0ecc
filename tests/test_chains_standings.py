"""Who does not keep to its word across chains is noted, ranked lower, left out, and forgiven; whoever does is not."""

from __future__ import annotations

from fractions import Fraction

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from test_chains_maker import AMOUNT, DEPOSIT, PRICE, Hub, mine, place, play
from test_chains_markets import heard, start_carol, wallet_of
from test_chains_wallet import beside

from tallystick.channels.errors import InvalidInput
from tallystick.channels.testing.memory import MemoryDisk
from tallystick.router.errors import PaymentFailed
from tallystick.router.invoices.invoice import decode_invoice
from tallystick.sdk.chains.crossings import CrossingEnd, count_ends
from tallystick.sdk.chains.maker import PAY_SECONDS, TAKE_SECONDS
from tallystick.sdk.chains.rates import Rate
from tallystick.sdk.node.standings import (
    EXCESS_MAX,
    HALF_LIFE,
    KEPT_PER_FAULT,
    STANDINGS,
    STANDINGS_MAX,
    UNIT,
    Role,
    TradeStanding,
    WordNoted,
    find_standing,
    load_standings,
)
from tallystick.sdk.testing.world import World

STANDING = st.builds(TradeStanding, st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**9))


@given(STANDING, st.integers(0, 10**7), st.integers(0, 10**7))
@settings(max_examples=200, deadline=None)
def test_what_was_noted_fades_to_its_half_in_a_day_and_never_grows(found: TradeStanding, after: int, more: int) -> None:
    now = found.time + after
    left, later = found.at(now), found.at(now + more)
    assert 0 <= later.broken <= left.broken <= found.broken and 0 <= later.kept <= left.kept <= found.kept
    assert abs(found.at(found.time + HALF_LIFE).broken - found.broken // 2) <= 1
    assert found.at(found.time - 5) == found, "a clock that went back fades nothing"
    assert found.at(found.time + 50 * HALF_LIFE).excess(0) == 0 or found.broken > UNIT << 40


@given(st.lists(st.booleans(), max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_peer_is_left_out_for_what_it_broke_beyond_what_it_kept(words: list[bool]) -> None:
    found = TradeStanding()
    for kept in words:
        found = found.noted(5, kept=kept)
    excess = max(Fraction(0), words.count(False) - 1 - Fraction(words.count(True), KEPT_PER_FAULT))
    assert found.excess(5) == excess and found.is_refused(5) == (excess >= EXCESS_MAX)
    assert found.factor(5) == 1 + excess / 10


def test_standings_are_on_disk_apart_by_role_and_bounded() -> None:
    store = MemoryDisk([STANDINGS]).open()
    for number in range(STANDINGS_MAX + 3):
        store.commit([WordNoted(peer=b"%d" % number, role=Role.TAKER, kept=False, now=number)])
    store.commit([WordNoted(peer=b"9", role=Role.MAKER, kept=True, now=9)])
    store.commit([WordNoted(peer=b"9", role=Role.TAKER, kept=True, now=9)])
    assert find_standing(store, Role.MAKER, b"9") == TradeStanding(UNIT, 0, 9)
    assert find_standing(store, Role.TAKER, b"9") == TradeStanding(UNIT, UNIT, 9)
    takers = [peer for role, peer, _ in load_standings(store) if role is Role.TAKER]
    assert len(takers) == STANDINGS_MAX and not {b"0", b"1", b"2"} & set(takers)


def test_a_taker_that_agrees_and_never_pays_gets_no_more_quotes_until_that_has_faded() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        here, there, bob, maker = place(zero), place(one), one.node("bob"), hub.made()
        free = maker.free(there)

        async def agree(peer: bytes) -> None:
            quote = maker.quote(here, there, 100, peer=peer)
            asked = await bob.create_invoice(100, lifetime=PAY_SECONDS + 100)
            await maker.cross(asked.text, nonce=quote.nonce, peer=peer)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(maker.run)
            for _ in range(EXCESS_MAX + 2):
                await agree(b"mallory")
                await trio.sleep(10)
            await trio.sleep(400)
            assert count_ends(hub.made()._store)[CrossingEnd.LAPSED] == EXCESS_MAX + 2 and maker.free(there) == free
            with pytest.raises(InvalidInput, match="you let too much lapse of what you agreed to"):
                maker.quote(here, there, 100, peer=b"mallory")
            await agree(b"somebody else")
            await trio.sleep(HALF_LIFE)
            await agree(b"mallory")
            nursery.cancel_scope.cancel()

    play(story)


def test_a_peer_has_its_option_for_a_while_only_however_long_the_payees_invoice_lives() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        here, there, bob, maker = place(zero), place(one), one.node("bob"), hub.made()
        free, yearly = maker.free(there), 365 * 86_400
        quote = maker.quote(here, there, free, peer=b"mallory")
        asked = await bob.create_invoice(quote.most, lifetime=yearly)
        text = await maker.cross(asked.text, nonce=quote.nonce, peer=b"mallory")
        assert decode_invoice(text).lifetime == TAKE_SECONDS and maker.free(there) == free - quote.most
        patience = zero.node("hub").config.payments.patience.parts
        await trio.sleep(TAKE_SECONDS + patience + 30)
        assert maker.free(there) == free, "its rate and its coins are its own again"
        own = await maker.cross((await bob.create_invoice(100, lifetime=yearly)).text)
        assert decode_invoice(own).lifetime == yearly - PAY_SECONDS, "a program of the maker's knows what it asks for"

    play(story)


def test_a_payee_that_lets_its_maker_down_is_noted_with_the_payer_and_one_that_is_paid_too() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        alice, bob, wallet = zero.node("alice"), one.node("bob"), wallet_of(zero, one)
        key = bytes(zero.seats["alice"].key.public)

        def noted() -> tuple[int, int]:
            found = find_standing(zero.node("hub").store, Role.TAKER, key)
            return round(found.kept / UNIT), round(found.broken / UNIT)

        async def act() -> None:
            await heard(zero, wallet, place(zero), place(one))
            asked = await bob.create_invoice(AMOUNT)
            await bob.cancel_invoice(asked.payment_hash)
            with pytest.raises(PaymentFailed):
                await wallet.pay(asked.text, give=place(zero), most=PRICE)
            assert await zero.until(lambda: noted() == (0, 1)), "it had an option, and did not take it up"
            assert mine(zero, "alice") == DEPOSIT
            good = await bob.create_invoice(AMOUNT)
            await wallet.pay(good.text, give=place(zero), most=PRICE)
            assert await zero.until(lambda: noted() == (1, 1))
            found = wallet.standing(alice, bytes(zero.seats["hub"].key.public))
            assert (round(found.kept / UNIT), found.broken) == (1, 0), "the payee's refusal is not the maker's"

        await beside(hub, act)

    play(story)


def test_a_maker_that_does_not_keep_to_its_word_comes_after_dearer_ones_and_then_is_not_asked() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        here, there, alice = place(zero), place(one), zero.node("alice")
        cheap = await start_carol(zero, one, hub, Rate(source=here, target=there, take=7, give=5))
        wallet = wallet_of(zero, one)
        carol, other = (bytes(zero.seats[name].key.public) for name in ("carol", "hub"))

        async def breaks(times: int) -> None:
            for _ in range(times):
                noted = WordNoted(peer=carol, role=Role.MAKER, kept=False, now=alice.engine.chain.now)
                await alice.engine.writer.commit([noted])

        async def ranked() -> list[bytes]:
            return [offer.maker for offer in await wallet.offers(here, there, 100)]

        async def act() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cheap.run)
                await heard(zero, wallet, here, there, 2)
                assert await ranked() == [carol, other]
                await breaks(3)
                assert await ranked() == [other, carol], "7/5 and two tenths is more than 3/2"
                await breaks(EXCESS_MAX)
                assert await ranked() == [other]
                assert (await wallet.swap(1_000, give=here, get=there)).parts[0].maker == other
                nursery.cancel_scope.cancel()

        await beside(hub, act)

    play(story, more=("carol",))
