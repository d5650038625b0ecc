"""One payment over channels of two shards, by a hub with a node on each and one hash lock: made on both, or on none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from tallystick.channels.testing.scheduling import simulate
from tallystick.router.errors import PaymentFailed
from tallystick.router.invoices.invoice import decode_invoice
from tallystick.router.network.options import PaymentOptions
from tallystick.router.receiving.issued import InvoiceRecord
from tallystick.router.receiving.payee import PayeeOptions
from tallystick.sdk.node.node import Config
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world
from tallystick.settlement.testing.shards import local_group, local_role

DEPOSIT = 10_000_000
AMOUNT, FEE = 1_000, 7

HERE_SECONDS = 4 * 3_600
"""How much longer a lock on the hub's first shard lives than the payee asks for: longer than any on the second."""

Story = Callable[[World, World], Awaitable[None]]


def play(story: Story, interval: float = 5.0) -> None:
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
            alice = await zero.start("alice")
            for world, name in ((zero, "hub"), (one, "hub"), (one, "bob")):
                await world.start(name)
            await alice.open_channel(zero.address("hub"), DEPOSIT)
            await one.node("hub").open_channel(one.address("bob"), DEPOSIT)
            assert zero.chain.chain_id + 1 == one.chain.chain_id
            await story(zero, one)

    simulate(main, 3)


async def ask(zero: World, asked: InvoiceRecord) -> InvoiceRecord:
    """The hub asks on shard 0 for what is asked of it on shard 1, under the same hash."""
    return await zero.node("hub").create_invoice(AMOUNT + FEE, hold=True, payment_hash=asked.payment_hash)


async def pass_on(zero: World, one: World, asked: InvoiceRecord) -> bool:
    """What the hub does once Alice's lock is there, however often it is begun anew; whether it was paid."""
    hub = zero.node("hub")
    with trio.fail_after(600):
        await hub.until(lambda: asked.payment_hash in hub.routing.receiving.held_payments)
    try:
        receipt = await one.node("hub").pay(asked.text, timeout=300)
    except PaymentFailed:
        await hub.cancel_invoice(asked.payment_hash)
        return False
    await hub.settle_invoice(receipt.secret)
    return True


def mine(world: World, name: str) -> int:
    [channel] = world.node(name).channels
    return channel.balances[0]


async def wait_held(world: World, **held: int) -> None:
    """Return once these hold so much each in their channel."""
    with trio.fail_after(60):
        for name, amount in held.items():
            await world.node(name).until(lambda name=name, amount=amount: mine(world, name) == amount)  # type: ignore[misc]


def test_a_payment_over_two_shards_is_made_on_both() -> None:
    async def story(zero: World, one: World) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT)
        mirrored = await ask(zero, asked)
        assert mirrored.payment_hash == asked.payment_hash and mirrored.text != asked.text
        paying = zero.attempt("alice", lambda alice: alice.pay(mirrored.text))
        assert await pass_on(zero, one, asked)
        with trio.fail_after(60):
            await paying.ended.wait()
        assert paying.error is None and paying.result.secret == asked.secret  # type: ignore[attr-defined]
        await wait_held(zero, alice=DEPOSIT - AMOUNT - FEE, hub=AMOUNT + FEE)
        await wait_held(one, hub=DEPOSIT - AMOUNT, bob=AMOUNT)

    play(story)


def test_a_payment_that_the_second_shard_refuses_is_made_on_neither() -> None:
    async def story(zero: World, one: World) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT)
        mirrored = await ask(zero, asked)
        await one.node("bob").cancel_invoice(asked.payment_hash)
        paying = zero.attempt("alice", lambda alice: alice.pay(mirrored.text, timeout=600))
        assert not await pass_on(zero, one, asked)
        with trio.fail_after(900):
            await paying.ended.wait()
        assert isinstance(paying.error, PaymentFailed)
        assert (mine(zero, "alice"), mine(zero, "hub")) == (DEPOSIT, 0)
        assert (mine(one, "hub"), mine(one, "bob")) == (DEPOSIT, 0)

    play(story)


def test_a_hub_that_dies_once_it_has_paid_takes_what_is_its_own_when_it_is_back() -> None:
    async def story(zero: World, one: World) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT)
        mirrored = await ask(zero, asked)
        paying = zero.attempt("alice", lambda alice: alice.pay(mirrored.text))
        hub = zero.node("hub")
        await hub.until(lambda: asked.payment_hash in hub.routing.receiving.held_payments)
        await one.node("hub").pay(asked.text)
        for world in (zero, one):  # before it could settle with Alice
            await world.restart("hub")
        await wait_held(one, bob=AMOUNT)
        assert not paying.ended.is_set()
        assert await pass_on(zero, one, asked)
        with trio.fail_after(60):
            await paying.ended.wait()
        await wait_held(zero, alice=DEPOSIT - AMOUNT - FEE, hub=AMOUNT + FEE)
        await wait_held(one, hub=DEPOSIT - AMOUNT, bob=AMOUNT)

    play(story)


def test_a_shard_that_stands_still_stops_only_what_is_on_it() -> None:
    async def story(zero: World, one: World) -> None:
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

    async def story(zero: World, one: World) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT)
        mirrored = await ask(zero, asked)
        spread = decode_invoice(mirrored.text).lock_life - decode_invoice(asked.text).lock_life
        assert spread > 3 * 3_600

    play(story)
