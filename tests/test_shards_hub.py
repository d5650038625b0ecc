"""One payment over channels of two shards, by a hub with a node on each and one hash lock: made on both, or on none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest
import trio

from tallystick.channels.errors import InvalidInput, TallystickError
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.errors import InvalidInvoice, PaymentFailed
from tallystick.router.invoices.invoice import decode_invoice, encode_invoice
from tallystick.router.network.options import PaymentOptions
from tallystick.router.receiving.payee import PayeeOptions
from tallystick.router.sending.payer import Limits
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.node.shard_hub import PAY_SECONDS, SPARE, ShardHub
from tallystick.sdk.node.sqlite import MIRRORS_SCHEMA
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world
from tallystick.settlement.testing.shards import local_group, local_role

DEPOSIT = 10_000_000
AMOUNT, FEE = 1_000, 7

HERE_SECONDS = 4 * 3_600
"""How much longer a lock on the hub's first shard lives than the payee asks for: longer than any on the second."""

LOCK_MAX = 3_600


class Hub:
    """The hub of both worlds, with a disk of its own: it serves whenever both its nodes are up."""

    def __init__(self, zero: World, one: World) -> None:
        self.worlds = (zero, one)
        self.disk = SimulatedDisk([MIRRORS_SCHEMA])
        self.store = self.disk.open()

    def made(self) -> ShardHub:
        here, there = (world.node("hub") for world in self.worlds)
        return ShardHub(here, there, self.store, fee=lambda amount: FEE)

    async def mirror(self, text: str) -> str:
        return await self.made().mirror(text)

    async def serve(self) -> None:
        """Be the hub: begin anew whenever a node of it has died."""
        while True:
            for world in self.worlds:
                if not world.is_up("hub"):
                    await world.start("hub")
            lives = [world.seats["hub"].life for world in self.worlds]
            try:
                async with trio.open_nursery() as nursery:
                    for life in lives:
                        assert life is not None
                        nursery.start_soon(_cancel_after, life.ended, nursery.cancel_scope)
                    nursery.start_soon(self.made().run)
            except* TallystickError:
                pass  # a node of it died
            await trio.sleep(1)


async def _cancel_after(ended: trio.Event, scope: trio.CancelScope) -> None:
    await ended.wait()
    scope.cancel()


Story = Callable[[World, World, Hub], Awaitable[None]]


def play(story: Story, interval: float = 5.0, *, claim: int = 360) -> None:
    """Alice and a hub on shard 0, the hub and Bob on shard 1; two worlds in one time, a block every so many seconds."""

    async def main() -> None:
        group = local_group(2)
        here = Config(
            challenge_period=600, duties=CLAIM_ALL, payments=PaymentOptions(patience=PayeeOptions(claim=HERE_SECONDS))
        )
        async with (
            open_world(1, names=("alice", "hub"), interval=interval, shard=local_role(group, 0)) as zero,
            open_world(2, names=("hub", "bob"), interval=interval, shard=local_role(group, 1)) as one,
        ):
            zero.seats["hub"].config = here
            limits = Limits(lock_max=LOCK_MAX)
            one.seats["hub"].config = msgspec.structs.replace(one.config, payments=PaymentOptions(limits=limits))
            patience = PayeeOptions(claim=claim)
            one.seats["bob"].config = msgspec.structs.replace(one.config, payments=PaymentOptions(patience=patience))
            alice = await zero.start("alice")
            for world, name in ((zero, "hub"), (one, "hub"), (one, "bob")):
                await world.start(name)
            await alice.open_channel(zero.address("hub"), DEPOSIT)
            await one.node("hub").open_channel(one.address("bob"), DEPOSIT)
            assert zero.chain.chain_id + 1 == one.chain.chain_id
            await story(zero, one, Hub(zero, one))

    simulate(main, 3)


def mine(world: World, name: str) -> int:
    [channel] = world.node(name).channels
    return channel.balances[0]


async def wait_held(world: World, **held: int) -> None:
    """Return once these hold so much each in their channel."""
    with trio.fail_after(60):
        for name, amount in held.items():
            await world.node(name).until(lambda name=name, amount=amount: mine(world, name) == amount)  # type: ignore[misc]


def test_a_payment_over_two_shards_is_made_on_both() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT)
        text = await hub.mirror(asked.text)
        assert decode_invoice(text).payment_hash == asked.payment_hash and text != asked.text
        assert await hub.mirror(asked.text) == text, "it may be asked for again"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.serve)
            with trio.fail_after(60):
                receipt = await zero.node("alice").pay(text)
            assert receipt.secret == asked.secret
            await wait_held(zero, alice=DEPOSIT - AMOUNT - FEE, hub=AMOUNT + FEE)
            await wait_held(one, hub=DEPOSIT - AMOUNT, bob=AMOUNT)
            nursery.cancel_scope.cancel()

    play(story)


def test_a_payment_that_the_second_shard_refuses_is_made_on_neither() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT)
        text = await hub.mirror(asked.text)
        await one.node("bob").cancel_invoice(asked.payment_hash)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.serve)
            with trio.fail_after(900), pytest.raises(PaymentFailed):
                await zero.node("alice").pay(text, timeout=600)
            nursery.cancel_scope.cancel()
        assert (mine(zero, "alice"), mine(zero, "hub")) == (DEPOSIT, 0)
        assert (mine(one, "hub"), mine(one, "bob")) == (DEPOSIT, 0)

    play(story)


def test_a_hub_that_dies_once_it_has_paid_takes_what_is_its_own_when_it_is_back() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT)
        text = await hub.mirror(asked.text)
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
        await trio.sleep(until - node.engine.chain.now - LOCK_MAX)  # too late to begin, and not to take it
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.serve)
            with trio.fail_after(60):
                await paying.ended.wait()
            await wait_held(zero, alice=DEPOSIT - AMOUNT - FEE, hub=AMOUNT + FEE)
            await wait_held(one, hub=DEPOSIT - AMOUNT, bob=AMOUNT)
            nursery.cancel_scope.cancel()

    play(story)


@pytest.mark.parametrize(("late", "paid"), [(-300, True), (60, False)])
def test_a_hub_that_comes_back_late_begins_no_payment_that_could_outlive_what_it_holds(late: int, paid: bool) -> None:
    """Else Bob could be paid after Alice has her coins back."""

    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT, lifetime=10_000)
        text = await hub.mirror(asked.text)
        paying = zero.attempt("alice", lambda alice: alice.pay(text, timeout=4 * 3_600))
        node = zero.node("hub")
        await node.until(lambda: asked.payment_hash in node.routing.receiving.held_payments)
        until = node.routing.receiving.held_until(asked.payment_hash)
        assert until is not None
        await trio.sleep(until - node.engine.chain.now - PAY_SECONDS - LOCK_MAX - SPARE + late)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.serve)
            with trio.fail_after(900):
                await paying.ended.wait()
            nursery.cancel_scope.cancel()
        assert (paying.error is None) is paid
        assert (mine(one, "bob") == AMOUNT) is paid

    play(story, interval=30)


def test_what_is_held_goes_back_also_once_the_invoices_have_expired() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT, lifetime=PAY_SECONDS + 60)
        text = await hub.mirror(asked.text)
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


def test_a_hub_promises_only_what_it_can_keep() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        node, bob = one.node("hub"), one.node("bob")
        asked = await bob.create_invoice(AMOUNT)
        await hub.mirror(asked.text)
        other = await zero.node("alice").create_invoice(AMOUNT, payment_hash=asked.payment_hash, hold=True)
        for text, why in (
            (other.text, "is for chain"),
            ((await bob.create_invoice()).text, "named by the invoice"),
            ((await bob.create_invoice(AMOUNT, lifetime=PAY_SECONDS)).text, "ends too soon"),
            (await twice(bob, asked.payment_hash), "another invoice of this payment hash"),
        ):
            with pytest.raises((InvalidInput, InvalidInvoice), match=why):
                await hub.mirror(text)
        for here, there, why in (
            (zero.node("hub"), zero.node("alice"), "on one chain"),
            (node, zero.node("hub"), r"locks there may live \d+ seconds"),
        ):
            with pytest.raises(InvalidInput, match=why):
                ShardHub(here, there, hub.store, fee=lambda amount: FEE)

    play(story)


def test_no_lock_lives_longer_than_its_payer_lets_it() -> None:
    """Whoever is on the way may ask for more; what a hub holds must outlive it."""

    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT)
        with pytest.raises(InvalidInput, match="asks for locks of 3600 seconds"):
            await hub.mirror(asked.text)
        with pytest.raises(PaymentFailed, match="would have to live 4200 seconds"):
            await one.node("hub").pay(asked.text)
        assert mine(one, "bob") == 0

    play(story, claim=3_600)


async def twice(bob: Node, payment_hash: bytes) -> str:
    """Return another invoice of Bob's key for one hash, as only a payee that cheats makes one."""
    wanted = decode_invoice(bob.invoice(payment_hash).text)
    return encode_invoice(msgspec.structs.replace(wanted, amount=2 * AMOUNT), bob.engine.key)


def test_a_shard_that_stands_still_stops_only_what_is_on_it() -> None:
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


def test_the_hub_asks_for_more_time_than_it_gives() -> None:
    """Else Alice's lock could end while Bob's can still be opened."""

    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT)
        spread = decode_invoice(await hub.mirror(asked.text)).lock_life - decode_invoice(asked.text).lock_life
        assert spread > 3 * 3_600

    play(story)
