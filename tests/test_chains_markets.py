"""Nobody names a maker: gossip tells of them, and payers take the best, several of them, or some in a row."""

from __future__ import annotations

import pytest
import trio
from test_chains_wallet import TOKEN, beside, token_of

from simulation.two_chains import AMOUNT, DEPOSIT, PRICE, Hub, mine, place, play
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.router.errors import PaymentFailed
from tallystick.router.network.options import PaymentOptions
from tallystick.sdk.chains.assets import ChainAsset
from tallystick.sdk.chains.maker import Maker, source_config
from tallystick.sdk.chains.margins import ChainRisk
from tallystick.sdk.chains.rates import Rate
from tallystick.sdk.chains.sqlite import MAKER_SCHEMA
from tallystick.sdk.chains.talks import CrossingAsked, Question, Reply, Talks
from tallystick.sdk.chains.wallet import Wallet
from tallystick.sdk.node.node import Config
from tallystick.sdk.node.standings import UNIT
from tallystick.sdk.testing.world import CLAIM_ALL, World


def wallet_of(zero: World, one: World) -> Wallet:
    """Return the wallet of Alice on one chain and Bob on the other, who know of no maker."""
    return Wallet([zero.node("alice"), one.node("bob")])


async def heard(world: World, wallet: Wallet, give: ChainAsset, get: ChainAsset, makers: int = 1) -> None:
    """Return once gossip has told of so many makers for a pair."""
    assert await world.until(lambda: len(wallet.book().entries(give, get)) == makers, 300)


async def start_carol(zero: World, one: World, hub: Hub, rate: Rate) -> Maker:
    """Start another maker with a channel of Alice's on one chain, and one to Bob on the other."""
    config = Config(challenge_period=600, duties=CLAIM_ALL)
    here = await zero.start("carol", source_config(config, ChainRisk(block_seconds=5.0)))
    there = await one.start("carol", source_config(config, ChainRisk(block_seconds=12.0)))
    await zero.node("alice").open_channel(zero.address("carol"), DEPOSIT)
    await there.open_channel(one.address("bob"), DEPOSIT)
    maker = Maker([here, there], SimulatedDisk([MAKER_SCHEMA]).open(), chains=hub.chains)
    maker.set_rate(rate)
    return maker


def test_a_payer_that_knows_no_maker_pays_and_swaps_over_one_of_which_gossip_tells() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        wallet, here, there = wallet_of(zero, one), place(zero), place(one)
        asked = await one.node("bob").create_invoice(AMOUNT)
        with pytest.raises(PaymentFailed, match="no maker takes"):
            await wallet.pay(asked.text, give=here, most=PRICE)

        async def act() -> None:
            await heard(zero, wallet, here, there)
            [entry] = wallet.book().entries(here, there)
            assert (entry.maker, entry.rate.take, entry.rate.give) == (bytes(zero.seats["hub"].key.public), 3, 2)
            assert entry.rate.most.bit_count() == 1 and DEPOSIT < 2 * entry.rate.most <= 2 * DEPOSIT
            assert entry.margin == hub.margin() and not wallet.book().entries(there, here)
            assert (await wallet.pay(asked.text, give=here, most=PRICE)).amount == PRICE
            swapped = await wallet.swap(3_000, give=here, get=there, least=1_900)
            assert swapped.given <= 3_000 and swapped.got == 1_995
            assert await one.until(lambda: mine(one, "bob") == AMOUNT + 1_995)

        await beside(hub, act)

    play(story)


def test_a_maker_that_trades_no_more_says_so_and_one_that_is_gone_lapses() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        wallet, here, there = wallet_of(zero, one), place(zero), place(one)
        maker = hub.made()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(maker.run)
            await heard(zero, wallet, here, there)
            maker.drop_rate(here, there)
            await heard(zero, wallet, here, there, 0)
            maker.set_rate(hub.rate)
            await heard(zero, wallet, here, there)
            nursery.cancel_scope.cancel()
        await zero.crash("hub")
        await trio.sleep(1_801)
        assert not wallet.book().entries(here, there)

    play(story)


def test_without_a_name_a_payment_goes_over_two_makers_in_a_row_if_none_takes_it_alone() -> None:
    """Carol changes the token of one chain for its coin; the hub carries that across: Alice is told of neither."""

    async def story(zero: World, one: World, hub: Hub) -> None:
        zero.give_everybody(TOKEN)
        chain = ChainRisk(block_seconds=5.0)
        config = source_config(Config(challenge_period=600, duties=CLAIM_ALL, payments=PaymentOptions()), chain)
        alice, carol = zero.node("alice"), await zero.start("carol", config)
        await alice.open_channel(zero.address("carol"), DEPOSIT, asset=TOKEN)
        await carol.open_channel(zero.address("hub"), DEPOSIT)
        second = Maker([carol], SimulatedDisk([MAKER_SCHEMA]).open(), chains={place(zero).registry: chain})
        second.set_rate(Rate(source=token_of(zero), target=place(zero), take=1, give=10, route_base=10))
        wallet = wallet_of(zero, one)
        asked = await one.node("bob").create_invoice(AMOUNT)

        async def act() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(second.run)
                await heard(zero, wallet, place(zero), place(one))
                await heard(zero, wallet, token_of(zero), place(zero))
                [way] = wallet.book().ways_to(token_of(zero), place(one), AMOUNT)
                assert (way.between, way.price) == ((place(zero),), 152)
                with pytest.raises(PaymentFailed, match=r"the best offer is 152 of 0x1{40}@7000, not 151"):
                    await wallet.pay(asked.text, give=token_of(zero), most=151)
                receipt = await wallet.pay(asked.text, give=token_of(zero), most=152)
                assert (receipt.secret, receipt.amount) == (asked.secret, 152)
                swapped = await wallet.swap(60, give=token_of(zero), get=place(one), least=350)
                assert (swapped.given, len(swapped.parts)) == (60, 1) and 350 <= swapped.got < 400
                assert await one.until(lambda: mine(one, "bob") == AMOUNT + swapped.got)
                left = {TOKEN: DEPOSIT - 212, NATIVE: DEPOSIT}
                assert await zero.until(lambda: {each.asset: each.balances[0] for each in alice.channels} == left)
                nursery.cancel_scope.cancel()

        await beside(hub, act)

    play(story, more=("carol",))


def test_a_part_whose_maker_takes_the_payment_and_gives_it_back_is_made_up_by_another() -> None:
    """The cheap hub agrees, and its invoice cannot be paid: Carol, who is dearer, makes that up, and it is enough."""

    async def story(zero: World, one: World, hub: Hub) -> None:
        maker, node = hub.made(), zero.node("hub")
        dear = Rate(source=place(zero), target=place(one), take=2, give=1)
        carol = await start_carol(zero, one, hub, dear)

        async def serve(peer: bytes, question: Question) -> Reply:
            reply = await maker._answer(node, peer, question)
            if isinstance(question, CrossingAsked):
                [held] = node.invoices(1)
                await node.cancel_invoice(held.payment_hash)
            return reply

        makers = [(place(zero), zero.address(name)) for name in ("hub", "carol")]
        wallet = Wallet([zero.node("alice"), one.node("bob")], makers)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Talks(node, serve).run)
            nursery.start_soon(carol.run)
            await zero.until(lambda: all(zero.node(name).routing.talks for name in ("hub", "carol")))
            made = await wallet.swap(3_000, give=place(zero), get=place(one), least=1_500)
            assert [part.receipt is not None for part in made.parts] == [False, True]
            assert [part.maker for part in made.parts] == [bytes(zero.seats[n].key.public) for n in ("hub", "carol")]
            assert (made.given, made.got) == (2_998, 1_499) or (made.given, made.got) == (3_000, 1_500)
            for name, kept, broken in (("hub", 0, 1), ("carol", 1, 0)):
                found = wallet.standing(zero.node("alice"), bytes(zero.seats[name].key.public))
                assert (round(found.kept / UNIT), round(found.broken / UNIT)) == (kept, broken), name
            strict = await wallet.swap(3_000, give=place(zero), get=place(one), least=1_990)
            assert (strict.given, strict.got, len(strict.parts)) == (0, 0, 1), "dearer than was wanted: not made up"
            with pytest.raises(InvalidInput, match="makers offer"):
                await wallet.swap(3_000, give=place(zero), get=place(one), least=2_500)
            nursery.cancel_scope.cancel()

    play(story, more=("carol",))


def test_of_makers_that_gossip_tells_of_payers_take_the_cheapest_first_and_as_many_as_it_takes() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        cheap = await start_carol(
            zero, one, hub, Rate(source=place(zero), target=place(one), take=1, give=1, most=2_000)
        )
        wallet = wallet_of(zero, one)

        async def act() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cheap.run)
                await heard(zero, wallet, place(zero), place(one), 2)
                keys = [bytes(zero.seats[name].key.public) for name in ("carol", "hub")]
                assert [entry.maker for entry in wallet.book().entries(place(zero), place(one))] == keys
                swapped = await wallet.swap(5_000, give=place(zero), get=place(one), least=3_995)
                assert (swapped.given, swapped.got) == (5_000, 3_995)
                assert [part.maker for part in swapped.parts] == keys
                nursery.cancel_scope.cancel()

        await beside(hub, act)

    play(story, more=("carol",))
