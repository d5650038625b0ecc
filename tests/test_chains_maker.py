"""One payment across two chains, by a maker with a node on each and one hash: made on both, or on none."""

from __future__ import annotations

import msgspec
import pytest
import trio

from simulation.two_chains import (
    AMOUNT,
    CLAIM,
    DEPOSIT,
    PRICE,
    Hub,
    mine,
    place,
    play,
    stand_still,
    wait_held,
)
from tallystick.channels.errors import InvalidInput
from tallystick.router.errors import InvalidInvoice, PaymentFailed
from tallystick.router.invoices.invoice import LOCK_LIFE_MAX, decode_invoice, encode_invoice
from tallystick.router.network.options import PaymentOptions
from tallystick.router.network.paying import LOCK_SPARE
from tallystick.router.sending.payer import Limits
from tallystick.sdk.chains.carrying import PAY_SECONDS
from tallystick.sdk.chains.maker import Maker
from tallystick.sdk.chains.margins import ChainRisk
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.world import World
from tallystick.settlement.chain import RegisterSecretCall


def test_a_payment_over_two_chains_is_made_on_both() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT)
        text = await hub.cross(asked.text)
        assert decode_invoice(text).payment_hash == asked.payment_hash and text != asked.text
        assert await hub.cross(asked.text) == text, "it may be asked for again"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.serve)
            with trio.fail_after(60):
                receipt = await zero.node("alice").pay(text)
            assert receipt.secret == asked.secret
            await wait_held(zero, alice=DEPOSIT - PRICE, hub=PRICE)
            await wait_held(one, hub=DEPOSIT - AMOUNT, bob=AMOUNT)
            nursery.cancel_scope.cancel()

    play(story)


def test_a_payment_that_the_target_refuses_is_made_on_neither() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT)
        text = await hub.cross(asked.text)
        await one.node("bob").cancel_invoice(asked.payment_hash)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.serve)
            with trio.fail_after(900), pytest.raises(PaymentFailed):
                await zero.node("alice").pay(text, timeout=600)
            nursery.cancel_scope.cancel()
        assert (mine(zero, "alice"), mine(zero, "hub")) == (DEPOSIT, 0)
        assert (mine(one, "hub"), mine(one, "bob")) == (DEPOSIT, 0)

    play(story)


def test_a_maker_that_dies_once_it_has_paid_takes_what_is_its_own_when_it_is_back() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT)
        text = await hub.cross(asked.text)
        paying = zero.attempt("alice", lambda alice: alice.pay(text))
        node = zero.node("hub")
        await node.until(lambda: asked.payment_hash in node.routing.receiving.held_payments)
        await one.node("hub").pay(asked.text)
        for world in (zero, one):  # before it could settle with Alice
            await world.restart("hub")
        await wait_held(one, bob=AMOUNT)
        node = zero.node("hub")
        await node.until(lambda: asked.payment_hash in node.routing.receiving.held_payments)
        until = node.routing.receiving.held_until(asked.payment_hash)
        assert until is not None and not paying.ended.is_set()
        await trio.sleep(until - node.engine.chain.now - hub.margin())  # too late to begin, and not to take it
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.serve)
            with trio.fail_after(60):
                await paying.ended.wait()
            await wait_held(zero, alice=DEPOSIT - PRICE, hub=PRICE)
            await wait_held(one, hub=DEPOSIT - AMOUNT, bob=AMOUNT)
            nursery.cancel_scope.cancel()

    play(story)


@pytest.mark.parametrize(("late", "paid"), [(-12, True), (12, False)])
def test_a_maker_that_comes_back_late_begins_no_payment_that_could_outlive_what_it_holds(late: int, paid: bool) -> None:
    """Else Bob could be paid after Alice has her coins back."""

    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT, lifetime=10_000)
        text = await hub.cross(asked.text)
        paying = zero.attempt("alice", lambda alice: alice.pay(text, timeout=4 * 3_600))
        node = zero.node("hub")
        await node.until(lambda: asked.payment_hash in node.routing.receiving.held_payments)
        until = node.routing.receiving.held_until(asked.payment_hash)
        assert until is not None
        await trio.sleep(until - one.node("hub").engine.chain.sure - hub.margin() - CLAIM - LOCK_SPARE + late)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.serve)
            with trio.fail_after(900):
                await paying.ended.wait()
            nursery.cancel_scope.cancel()
        assert (paying.error is None) is paid
        assert (mine(one, "bob") == AMOUNT) is paid

    play(story)


def test_what_is_held_goes_back_also_once_the_invoices_have_expired() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT, lifetime=PAY_SECONDS + 60)
        text = await hub.cross(asked.text)
        paying = zero.attempt("alice", lambda alice: alice.pay(text, timeout=3_600))
        node = zero.node("hub")
        await node.until(lambda: asked.payment_hash in node.routing.receiving.held_payments)
        await trio.sleep(PAY_SECONDS + 120)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.serve)
            with trio.fail_after(900):
                await paying.ended.wait()
            nursery.cancel_scope.cancel()
        assert isinstance(paying.error, PaymentFailed) and mine(one, "bob") == 0

    play(story)


def test_a_maker_promises_only_what_it_can_keep() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        node, bob = one.node("hub"), one.node("bob")
        asked = await bob.create_invoice(AMOUNT)
        await hub.cross(asked.text)
        other = await zero.node("alice").create_invoice(AMOUNT)
        untold = await bob.create_invoice(DEPOSIT)
        for text, why in (
            (other.text, "takes 0 assets for coin@7000"),
            ((await bob.create_invoice()).text, "that the invoice names"),
            ((await bob.create_invoice(AMOUNT, lifetime=PAY_SECONDS)).text, "ends too soon"),
            (await twice(bob, asked.payment_hash), "another payment of this hash"),
            (untold.text, "too little of coin@7001 now"),
        ):
            with pytest.raises((InvalidInput, InvalidInvoice), match=why):
                await hub.cross(text)
        for nodes, why in (
            ([zero.node("hub"), zero.node("alice")], "on one chain and contract"),
            ([node], "has no node on chain"),
        ):
            with pytest.raises(InvalidInput, match=why):
                Maker(nodes, hub.store)
        with pytest.raises(InvalidInput, match=r"raise payments\.patience\.claim to 2062"):
            Maker([zero.node("hub"), node], hub.store, chains={place(zero).registry: ChainRisk(block_seconds=143)})

    play(story)


def test_no_lock_lives_longer_than_its_payer_lets_it() -> None:
    """Whoever is on the way may ask for more; what a maker holds must outlive it."""

    async def story(zero: World, one: World, hub: Hub) -> None:
        asked, node = await one.node("bob").create_invoice(AMOUNT), one.node("hub")
        with pytest.raises(PaymentFailed, match="have to live 60 seconds too long"):
            await node.pay(asked.text, expires_by=node.engine.chain.sure + 3_600 + LOCK_SPARE - 60)
        limited = PaymentOptions(limits=Limits(lock_max=3_600))
        await one.crash("hub")
        node = await one.start("hub", msgspec.structs.replace(one.seats["hub"].config, payments=limited))
        with pytest.raises(PaymentFailed, match="would have to live 4200 seconds"):
            await node.pay((await one.node("bob").create_invoice(AMOUNT)).text)
        assert mine(one, "bob") == 0

    play(story, claim=3_600)


def test_a_payee_that_asks_for_locks_of_a_day_is_refused() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT, lock_life=LOCK_LIFE_MAX)
        with pytest.raises(InvalidInput, match="asks for locks of 86400 seconds"):
            await hub.cross(asked.text)

    play(story)


async def twice(bob: Node, payment_hash: bytes) -> str:
    """Return another invoice of Bob's key for one hash, as only a payee that cheats makes one."""
    wanted = decode_invoice(bob.invoice(payment_hash).text)
    return encode_invoice(msgspec.structs.replace(wanted, amount=2 * AMOUNT), bob.engine.key)


def test_a_chain_that_stands_still_stops_only_what_is_on_it() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        for name in ("hub", "bob"):
            one.chain_outage(name, True)
        channel = zero.node("alice").channels[0]
        for _ in range(20):
            await channel.pay(5)
            await zero.blocks(10)
        assert mine(zero, "hub") == 100
        assert zero.node("alice").onchain.fresh and not one.node("bob").onchain.fresh

    play(story)


def test_the_maker_asks_for_as_much_more_time_as_it_may_need() -> None:
    """Else Alice's lock could end while Bob's can still be opened."""

    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT)
        spread = decode_invoice(await hub.cross(asked.text)).lock_life - decode_invoice(asked.text).lock_life
        assert spread == hub.margin() + CLAIM // 2 + LOCK_SPARE + PAY_SECONDS

    play(story)


def test_what_is_agreed_on_is_not_agreed_on_twice() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        bob, maker = one.node("bob"), hub.made()
        there = place(one)
        free = maker.free(there)
        first = await bob.create_invoice(free - 10, lifetime=PAY_SECONDS + 60)
        await maker.cross(first.text)
        assert maker.free(there) == 10
        with pytest.raises(InvalidInput, match="too little"):
            await maker.cross((await bob.create_invoice(11)).text)
        await trio.sleep(300)
        assert maker.free(there) == free, "nobody paid in time: it has lapsed"

    play(story)


def test_a_crossing_keeps_the_price_at_which_it_was_agreed() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT)
        text = await hub.cross(asked.text)
        maker = hub.made()
        maker.set_rate(msgspec.structs.replace(hub.rate, take=300))
        assert [rate.take for rate in hub.made().rates] == [300], "it is durable"
        assert await maker.cross(asked.text) == text and decode_invoice(text).amount == PRICE
        dear = await maker.cross((await one.node("bob").create_invoice(AMOUNT)).text)
        assert decode_invoice(dear).amount == 150_007
        maker.drop_rate(place(zero), place(one))
        with pytest.raises(InvalidInput, match="takes 0 assets for coin@7001"):
            await maker.cross((await one.node("bob").create_invoice(AMOUNT)).text)

    play(story)


def test_a_secret_in_the_newest_block_of_a_chain_that_stops_is_enough() -> None:
    """Nothing may ever confirm that block; whoever knows the secret may settle with it."""

    async def story(zero: World, one: World, hub: Hub) -> None:
        bob, key = one.node("bob"), one.seats["bob"].key
        asked = await bob.create_invoice(AMOUNT, hold=True)
        text = await hub.cross(asked.text)
        paying = zero.attempt("alice", lambda alice: alice.pay(text))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.serve)
            await bob.until(lambda: asked.payment_hash in bob.routing.receiving.held_payments)
            await one.chain.call(key, RegisterSecretCall(asked.secret))
            stand_still(one)
            with trio.fail_after(60):
                await paying.ended.wait()
            assert paying.error is None and await zero.until(lambda: mine(zero, "hub") == PRICE)
            nursery.cancel_scope.cancel()

    play(story)


def test_what_was_begun_is_not_given_back_whatever_the_clocks_show_after_a_crash() -> None:
    """The payee is about to be paid for what is held."""

    async def story(zero: World, one: World, hub: Hub) -> None:
        bob = one.node("bob")
        asked = await bob.create_invoice(AMOUNT, hold=True)
        text = await hub.cross(asked.text)
        paying = zero.attempt("alice", lambda alice: alice.pay(text, timeout=60))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.serve)
            await bob.until(lambda: asked.payment_hash in bob.routing.receiving.held_payments)
            nursery.cancel_scope.cancel()
        for world in (zero, one):
            await world.crash("hub")
        zero.chain.advance(3 * hub.risk.skew)  # nothing would be begun now
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.serve)
            await trio.sleep(30)
            await bob.settle_invoice(asked.secret)
            with trio.fail_after(120):
                await paying.ended.wait()
            assert paying.error is None and await zero.until(lambda: mine(zero, "hub") == PRICE)
            nursery.cancel_scope.cancel()

    play(story)
