"""Held payments: settled or cancelled once, in time and on the word of a fresh chain only, across restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.receiving.issued import InvoiceRecord, InvoiceState
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.world import AskedOperation, World, open_world
from tallystick.settlement.enforcement.following import BEHIND_SECONDS

DEPOSIT = 10_000_000


def with_a_shop(act: Callable[[World], Awaitable[None]], seed: int = 1) -> None:
    """Alice has a channel with Carol, who sells."""

    async def main() -> None:
        async with open_world(seed, names=("alice", "carol")) as world:
            alice, _ = await world.start("alice"), await world.start("carol")
            await alice.open_channel(world.address("carol"), DEPOSIT)
            await act(world)

    simulate(main, seed)


@asynccontextmanager
async def held(world: World, *, lifetime: int = 3_600) -> AsyncIterator[tuple[InvoiceRecord, AskedOperation]]:
    """Have Alice pay an invoice of 1,000 that Carol holds."""
    carol = world.node("carol")
    record = await carol.create_invoice(1_000, hold=True, lifetime=lifetime)
    paying = world.attempt("alice", lambda alice: alice.pay(record.text))
    with trio.fail_after(60):
        await carol.until(lambda: record.payment_hash in carol.routing.receiving.held_payments)
    yield record, paying


def state(node: Node, record: InvoiceRecord) -> InvoiceState:
    return node.invoice(record.payment_hash).state(node.engine.chain.now, node.routing.receiving.held_payments)


def test_what_is_held_for_an_invoice_that_expired_is_held_and_settled_after_a_restart() -> None:
    async def act(world: World) -> None:
        async with held(world, lifetime=100) as (record, paying):
            await world.blocks(30)  # 150 s
            carol = await world.restart("carol")
            assert carol.engine.chain.now > record.expires and state(carol, record) is InvoiceState.HELD
            await carol.settle_invoice(record.secret)
            with trio.fail_after(60):
                await paying.ended.wait()
            assert paying.error is None and carol.invoice(record.payment_hash).received == 1_000
            with pytest.raises(InvalidInput):
                await carol.cancel_invoice(record.payment_hash)

    with_a_shop(act)


def test_nothing_is_settled_on_the_word_of_an_old_chain() -> None:
    async def act(world: World) -> None:
        async with held(world) as (record, paying):
            carol = world.node("carol")
            world.chain_outage("carol", True)
            await trio.sleep(BEHIND_SECONDS + 120)
            with pytest.raises(ChannelNotReady, match="chain"):
                await carol.settle_invoice(record.secret)
            assert state(carol, record) is InvoiceState.HELD and not paying.ended.is_set()
            world.heal()
            await world.blocks(3)
            with trio.fail_after(120):
                await carol.until(lambda: carol.onchain.fresh)
            await carol.settle_invoice(record.secret)
            with trio.fail_after(60):
                await paying.ended.wait()
            assert paying.error is None

    with_a_shop(act)


def test_settling_and_cancelling_twice_is_doing_it_once() -> None:
    async def act(world: World) -> None:
        carol = world.node("carol")
        async with held(world) as (kept, _), held(world) as (dropped, refused):
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(carol.settle_invoice, kept.secret)
                    nursery.start_soon(carol.cancel_invoice, dropped.payment_hash)
            await carol.settle_invoice(kept.secret)
            await carol.cancel_invoice(dropped.payment_hash)
            carol = await world.restart("carol")
            await carol.settle_invoice(kept.secret)
            await carol.cancel_invoice(dropped.payment_hash)
            assert carol.invoice(kept.payment_hash).received == 1_000
            assert state(carol, dropped) is InvoiceState.CANCELLED
            with trio.fail_after(60):
                await refused.ended.wait()
            assert "refuses" in str(refused.error)
            with pytest.raises(InvalidInput, match="was paid"):
                await carol.cancel_invoice(kept.payment_hash)
            with pytest.raises(InvalidInput, match="was cancelled"):
                await carol.settle_invoice(dropped.secret)
        assert [record.received for record in carol.paid_invoices().take(9)] == [1_000]

    with_a_shop(act)


def test_who_settles_too_late_is_told_so_and_who_settles_too_early_too() -> None:
    async def act(world: World) -> None:
        carol = world.node("carol")
        early = await carol.create_invoice(1_000, hold=True)
        with pytest.raises(InvalidInput, match="nobody has paid"):
            await carol.settle_invoice(early.secret)
        with pytest.raises(InvalidInput, match="no invoice"):
            await carol.settle_invoice(bytes(32))
        with pytest.raises(InvalidInput, match="no invoice"):
            await carol.cancel_invoice(bytes(32))
        async with held(world, lifetime=10_000) as (record, paying):
            await world.blocks(3_600 // 5)
            with trio.fail_after(60):
                await paying.ended.wait()
            with pytest.raises(InvalidInput, match="given back"):
                await carol.settle_invoice(record.secret)
            assert state(carol, record) is InvoiceState.OPEN

    with_a_shop(act)
