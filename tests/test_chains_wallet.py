"""A payer across chains asks makers over its links: quotes, payments by them, two makers in a row, swaps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest
import trio

from simulation.two_chains import AMOUNT, DEPOSIT, PRICE, Hub, mine, place, play
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.router.errors import PaymentFailed
from tallystick.router.network.options import PaymentOptions
from tallystick.sdk.chains.assets import ChainAsset
from tallystick.sdk.chains.maker import QUOTE_SECONDS, QUOTES_MAX, Maker, source_config
from tallystick.sdk.chains.margins import ChainRisk
from tallystick.sdk.chains.quotes import sign_quote
from tallystick.sdk.chains.rates import Rate
from tallystick.sdk.chains.sqlite import MAKER_SCHEMA
from tallystick.sdk.chains.talks import CrossingAsked, CrossingGiven, Question, QuoteAsked, QuoteGiven, Reply, Talks
from tallystick.sdk.chains.wallet import Wallet
from tallystick.sdk.node.node import Config
from tallystick.sdk.testing.world import CLAIM_ALL, World

TOKEN = Address(b"\x11" * 20)


def token_of(world: World) -> ChainAsset:
    return ChainAsset(world.chain.chain_id, world.chain.contract, TOKEN)


async def beside(hub: Hub, act: Callable[[], Awaitable[None]]) -> None:
    """Act while the maker runs."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.serve)
        with trio.fail_after(900):
            await act()
        nursery.cancel_scope.cancel()


def wallet_of(zero: World, one: World) -> Wallet:
    """Return the wallet of somebody who is Alice on one chain and Bob on the other."""
    makers = [(place(zero), zero.address("hub")), (place(one), one.address("hub"))]
    return Wallet([zero.node("alice"), one.node("bob")], makers)


def test_the_payee_gets_what_it_asked_for_and_the_payer_gives_no_more_than_it_said() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        wallet = wallet_of(zero, one)
        asked = await one.node("bob").create_invoice(AMOUNT)

        async def act() -> None:
            await zero.until(lambda: zero.node("hub").routing.talks)
            with pytest.raises(PaymentFailed, match="the best offer is 1507 of coin@7000, not 1506"):
                await wallet.pay(asked.text, give=place(zero), most=PRICE - 1)
            receipt = await wallet.pay(asked.text, give=place(zero), most=PRICE)
            assert (receipt.secret, receipt.amount, receipt.fee) == (asked.secret, PRICE, 0)
            assert await wallet.pay(asked.text, give=place(zero), most=PRICE) == receipt, "once, however often"
            assert await zero.until(lambda: mine(zero, "alice") == DEPOSIT - PRICE)
            assert await one.until(lambda: mine(one, "bob") == AMOUNT)

        await beside(hub, act)

    play(story)


def test_a_quote_stands_while_rates_change_is_taken_up_once_and_lapses() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        bob, maker = one.node("bob"), hub.made()
        there = place(one)
        free = maker.free(there)
        quote = maker.quote(place(zero), there, AMOUNT, peer=b"alice")
        assert maker.free(there) == free - AMOUNT == hub.made().free(there)
        maker.set_rate(msgspec.structs.replace(hub.rate, take=300))
        first, second = [(await bob.create_invoice(AMOUNT)).text for _ in range(2)]
        with pytest.raises(InvalidInput, match="given to somebody else"):
            await maker.cross(first, nonce=quote.nonce, peer=b"mallory")
        text = await maker.cross(first, nonce=quote.nonce, peer=b"alice")
        assert zero.node("hub").invoices(1)[0].amount == PRICE
        assert await maker.cross(first, nonce=quote.nonce, peer=b"alice") == text
        assert maker.free(there) == free - AMOUNT, "the quote's part is the crossing's now"
        with pytest.raises(InvalidInput, match="no such quote"):
            await maker.cross(second, nonce=quote.nonce, peer=b"alice")
        later = maker.quote(place(zero), there, AMOUNT, peer=b"alice")
        with pytest.raises(InvalidInput, match="from 1 to 1000 of it, not 1001"):
            await maker.cross((await bob.create_invoice(AMOUNT + 1)).text, nonce=later.nonce, peer=b"alice")
        await trio.sleep(QUOTE_SECONDS + 10)
        with pytest.raises(InvalidInput, match="no such quote"):
            await maker.cross(second, nonce=later.nonce, peer=b"alice")
        for _ in range(QUOTES_MAX):
            maker.quote(place(zero), there, AMOUNT, peer=b"alice")
        with pytest.raises(InvalidInput, match="you have 4 quotes already"):
            maker.quote(place(zero), there, AMOUNT, peer=b"alice")

    play(story)


def test_makers_never_quote_more_than_they_have() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        maker, there = hub.made(), place(one)
        maker.set_rate(msgspec.structs.replace(hub.rate, route_base=5, route_ppm=10_000))
        free, quoted = maker.free(there), 0
        for peer in range(10):
            try:
                quote = maker.quote(place(zero), there, free // 3, peer=bytes([peer]))
            except InvalidInput:
                continue
            quoted += quote.most + quote.rate.route_fee(quote.most)
        assert free * 98 // 100 < quoted <= free

    play(story)


def test_somebody_who_is_no_maker_or_asks_too_often_gets_no_answer_that_could_be_taken_for_one() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        alice = zero.node("alice")
        talks = Talks(alice)
        key = bytes(zero.seats["hub"].key.public)

        async def ask(amount: int = 5) -> object:
            return await talks.ask(key, QuoteAsked(talks.number(), NATIVE, place(one), amount, False))

        async with trio.open_nursery() as nursery:
            with pytest.raises(Exception, match="gives no answer"):
                await ask()
            nursery.start_soon(hub.serve)
            await zero.until(lambda: zero.node("hub").routing.talks)
            with pytest.raises(InvalidInput, match="the maker refuses: this maker takes no"):
                await talks.ask(key, QuoteAsked(talks.number(), TOKEN, place(one), 5, False))
            refusals = []
            for _ in range(30):
                try:
                    await ask()
                except InvalidInput as error:
                    refusals.append(str(error))
            assert any("4 quotes" in each for each in refusals) and "too many questions" in refusals[-1]
            nursery.cancel_scope.cancel()

    play(story)


def test_a_swap_gives_no_more_than_was_said_and_gets_at_least_what_was_wanted() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        wallet = wallet_of(zero, one)
        swap = {"give": place(zero), "get": place(one)}

        async def act() -> None:
            await zero.until(lambda: zero.node("hub").routing.talks)
            with pytest.raises(InvalidInput, match="makers offer 6662 of coin@7001 now, and you want 6663"):
                await wallet.swap(10_000, **swap, least=6_663)
            swapped = await wallet.swap(10_000, **swap, least=6_662)
            assert (swapped.given, swapped.got) == (10_000, 6_662)
            assert await zero.until(lambda: mine(zero, "alice") == DEPOSIT - 10_000)
            assert await one.until(lambda: mine(one, "bob") == 6_662)

        await beside(hub, act)

    play(story)


def test_two_makers_in_a_row_change_a_token_into_a_coin_and_that_into_one_of_another_chain() -> None:
    """Carol changes the token of one chain for its coin, on one node; the hub carries that across."""

    async def story(zero: World, one: World, hub: Hub) -> None:
        zero.give_everybody(TOKEN)
        chain = ChainRisk(block_seconds=5.0)
        config = source_config(Config(challenge_period=600, duties=CLAIM_ALL, payments=PaymentOptions()), chain)
        alice, carol = zero.node("alice"), await zero.start("carol", config)
        await alice.open_channel(zero.address("carol"), DEPOSIT, asset=TOKEN)
        await carol.open_channel(zero.address("hub"), DEPOSIT)
        store = SimulatedDisk([MAKER_SCHEMA]).open()
        second = Maker([carol], store, chains={place(zero).registry: chain})
        second.set_rate(Rate(source=token_of(zero), target=place(zero), take=1, give=10, route_base=10))
        assert second.margin(token_of(zero), place(zero)) < hub.margin()
        wallet = Wallet([alice], [(place(zero), zero.address(name)) for name in ("carol", "hub")])
        asked = await one.node("bob").create_invoice(AMOUNT)

        async def act() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(second.run)
                await zero.until(lambda: all(zero.node(name).routing.talks for name in ("hub", "carol")))
                with pytest.raises(PaymentFailed, match="no maker takes"):
                    await wallet.pay(asked.text, give=token_of(zero), most=1_000)
                receipt = await wallet.pay(asked.text, give=token_of(zero), most=1_000, via=[place(zero)])
                assert receipt.secret == asked.secret and receipt.amount == 152
                assert await one.until(lambda: mine(one, "bob") == AMOUNT)
                left = {TOKEN: DEPOSIT - 152, NATIVE: DEPOSIT}
                assert await zero.until(lambda: {each.asset: each.balances[0] for each in alice.channels} == left)
                nursery.cancel_scope.cancel()

        await beside(hub, act)

    play(story, more=("carol",))


def test_a_swap_goes_over_as_many_makers_as_it_takes_the_cheapest_first() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        config = Config(challenge_period=600, duties=CLAIM_ALL)
        here = await zero.start("carol", source_config(config, ChainRisk(block_seconds=5.0)))
        there = await one.start("carol", source_config(config, ChainRisk(block_seconds=12.0)))
        await zero.node("alice").open_channel(zero.address("carol"), DEPOSIT)
        await there.open_channel(one.address("bob"), DEPOSIT)
        cheap = Maker([here, there], SimulatedDisk([MAKER_SCHEMA]).open(), chains=hub.chains)
        cheap.set_rate(Rate(source=place(zero), target=place(one), take=1, give=1, most=2_000))
        makers = [(place(zero), zero.address(name)) for name in ("hub", "carol")]
        wallet = Wallet([zero.node("alice"), one.node("bob")], makers)

        async def act() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cheap.run)
                await zero.until(lambda: all(zero.node(name).routing.talks for name in ("hub", "carol")))
                swapped = await wallet.swap(5_000, give=place(zero), get=place(one), least=3_995)
                assert (swapped.given, swapped.got, len(swapped.receipts)) == (5_000, 3_995, 2)
                nursery.cancel_scope.cancel()

        await beside(hub, act)

    play(story, more=("carol",))


def test_nothing_of_a_swap_is_given_if_makers_offer_enough_and_then_do_not_agree_to_it() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        maker, node = hub.made(), zero.node("hub")

        async def serve(peer: bytes, question: Question) -> Reply:
            if isinstance(question, CrossingAsked):
                raise InvalidInput("not today")
            return QuoteGiven(question.number, (maker.quote(place(zero), place(one), 100, peer=peer),))

        config = Config(challenge_period=600, duties=CLAIM_ALL)
        here = await zero.start("carol", source_config(config, ChainRisk(block_seconds=5.0)))
        there = await one.start("carol", source_config(config, ChainRisk(block_seconds=12.0)))
        await zero.node("alice").open_channel(zero.address("carol"), DEPOSIT)
        await there.open_channel(one.address("bob"), DEPOSIT)
        keeps = Maker([here, there], SimulatedDisk([MAKER_SCHEMA]).open(), chains=hub.chains)
        keeps.set_rate(Rate(source=place(zero), target=place(one), take=2, give=1, most=200))
        makers = [(place(zero), zero.address(name)) for name in ("hub", "carol")]
        wallet = Wallet([zero.node("alice"), one.node("bob")], makers)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Talks(node, serve).run)
            nursery.start_soon(keeps.run)
            await zero.until(lambda: all(zero.node(name).routing.talks for name in ("hub", "carol")))
            with pytest.raises(InvalidInput, match="makers agreed to 200 of coin@7001, and you want 201: nothing was"):
                await wallet.swap(10_000, give=place(zero), get=place(one), least=201)
            assert not zero.node("alice").payments(10)
            made = await wallet.swap(10_000, give=place(zero), get=place(one), least=200)
            assert (made.given, made.got, made.parts[0].why) == (556, 278, "the maker refuses: not today")
            assert [part.amount for part in made.parts] == [100, 200, 78], (
                "what the hub did not keep to, Carol makes up"
            )
            assert [part.receipt is not None for part in made.parts] == [False, True, True]
            nursery.cancel_scope.cancel()

    play(story, more=("carol",))


@pytest.mark.parametrize("cheat", ["dearer", "another hash", "a quote for something else", "a quote that was changed"])
def test_a_maker_that_cheats_is_not_paid(cheat: str) -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        maker, node = hub.made(), zero.node("hub")
        wallet = Wallet([zero.node("alice")], [(place(zero), zero.address("hub"))])
        asked = await one.node("bob").create_invoice(AMOUNT)

        async def serve(peer: bytes, question: Question) -> Reply:
            if isinstance(question, CrossingAsked):
                price = PRICE + (cheat == "dearer")
                digest = b"" if cheat == "another hash" else asked.payment_hash
                theirs = await node.create_invoice(price, payment_hash=digest, hold=True)
                return CrossingGiven(question.number, theirs.text)
            quote = maker.quote(place(zero), place(one), question.amount)
            if cheat == "a quote for something else":
                quote = sign_quote(hub.rate, one.seats["bob"].key, most=AMOUNT, until=quote.until, nonce=quote.nonce)
            if cheat == "a quote that was changed":
                quote = msgspec.structs.replace(quote, take=1)
            return QuoteGiven(question.number, (quote,))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(Talks(node, serve).run)
            await zero.until(lambda: node.routing.talks)
            with pytest.raises(PaymentFailed, match="no maker takes" if "quote" in cheat else "did not keep to it"):
                await wallet.pay(asked.text, give=place(zero), most=DEPOSIT)
            assert mine(zero, "alice") == DEPOSIT and not node.routing.receiving.held_payments
            nursery.cancel_scope.cancel()

    play(story)
