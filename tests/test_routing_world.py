"""Payments over several hops between whole nodes, in one process and virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.errors import PaymentFailed, Unpaid
from tallystick.router.network.routing import PaymentOptions
from tallystick.router.objects import NodeKey
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.world import World, open_world

DEPOSIT = 10_000_000


def in_a_line(
    act: Callable[[World, Node, Node, Node], Awaitable[None]], seed: int = 1, alices: PaymentOptions | None = None
) -> None:
    """Alice has a channel with Bob, and Bob one with Carol; all three know of both."""

    async def main() -> None:
        async with open_world(seed) as world:
            own = msgspec.structs.replace(world.config, payments=alices or world.config.payments)
            alice = await world.start("alice", own)
            bob, carol = [await world.start(name) for name in ("bob", "carol")]
            first = await alice.open_channel(world.address("bob"), DEPOSIT)
            second = await bob.open_channel(world.address("carol"), DEPOSIT)
            for node in (alice, bob, carol):
                await node.until(lambda node=node: all(map(node.routing.graph.slots_of, (first.id, second.id))))
            await act(world, alice, bob, carol)

    simulate(main, seed)


def test_an_invoice_is_paid_through_somebody_else() -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        invoice = await carol.create_invoice(50_000, "a tin of tea")
        receipt = await alice.pay(invoice.text)
        assert receipt.amount == 50_000 and receipt.fee == 50
        paid = carol.invoice(receipt.payment_hash)
        assert paid.received == 50_000 and paid.secret == receipt.secret
        with trio.fail_after(10):
            await bob.until(lambda: bob.routing.router.statistics().forwarded == 1)
            await carol.until(lambda: carol.channels[0].balances[0] == 50_000)
        assert await alice.pay(invoice.text) == receipt

    in_a_line(act)


def test_a_hash_that_is_asked_for_twice_at_once_is_asked_for_once_and_the_node_lives() -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        refused: list[InvalidInput] = []

        async def create(memo: str) -> None:
            try:
                await carol.routing.invoicing.create_invoice(5, memo, payment_hash=b"h" * 32)
            except InvalidInput as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(create, "one")
            nursery.start_soon(create, "two")
        assert len(refused) == 1 and len(carol.routing.invoicing.invoices()) == 1

    in_a_line(act)


def test_whoever_pays_an_invoice_twice_at_once_gets_one_receipt_twice() -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        invoice = await carol.routing.invoicing.create_invoice(50_000)
        receipts: list[object] = []

        async def pay() -> None:
            receipts.append(await alice.routing.paying.pay(invoice.text))

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(pay)
        assert len(receipts) == 2 and receipts[0] == receipts[1]
        assert len(alice.routing.paying.payments()) == 1

    in_a_line(act)


def test_ways_are_found_by_compiled_code_as_by_plain() -> None:
    pytest.importorskip("numba")

    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        assert alice.routing.graph.compiled
        invoice = await carol.create_invoice(50_000)
        assert (await alice.pay(invoice.text)).fee == 50

    in_a_line(act, alices=PaymentOptions(compiled=True))


def test_keysend_needs_no_invoice() -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        receipt = await alice.keysend(NodeKey(bytes(carol.key.public)), 7_000)
        (record,) = carol.invoices()
        assert record.received == 7_000 and record.secret == receipt.secret and not record.text

    in_a_line(act)


def test_what_cannot_be_paid_is_explained_and_leaves_nothing_under_way() -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        too_much = await carol.create_invoice(2 * DEPOSIT)
        with pytest.raises(PaymentFailed) as caught:
            await alice.pay(too_much.text)
        assert caught.value.reason is Unpaid.NO_LIQUIDITY
        dear = await carol.create_invoice(1_000_000)
        with pytest.raises(PaymentFailed) as caught:
            await alice.pay(dear.text, max_fee=10)
        assert caught.value.reason is Unpaid.FEE_LIMIT
        cancelled = await carol.create_invoice(1_000)
        await carol.cancel_invoice(cancelled.payment_hash)
        with pytest.raises(PaymentFailed) as caught:
            await alice.pay(cancelled.text)
        assert caught.value.reason is Unpaid.PAYEE_REFUSES
        assert len(alice.routing.outgoing) == 0
        assert not alice.channels[0].view.channel.newest.locks

    in_a_line(act)


def test_a_held_payment_is_settled_or_cancelled_by_its_owner() -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        kept, dropped = [await carol.create_invoice(1_000, hold=True) for _ in range(2)]
        outcomes: list[object] = []

        async def pay(text: str) -> None:
            try:
                outcomes.append(await alice.pay(text))
            except PaymentFailed as error:
                outcomes.append(error.reason)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay, kept.text)
            nursery.start_soon(pay, dropped.text)
            with trio.fail_after(30):
                await carol.until(lambda: len(carol.routing.receiving.held_payments) == 2)
            assert not outcomes
            await carol.settle_invoice(carol.invoice(kept.payment_hash).secret)
            await carol.cancel_invoice(dropped.payment_hash)
        assert Unpaid.PAYEE_REFUSES in outcomes and len(outcomes) == 2
        assert carol.invoice(kept.payment_hash).received == 1_000
        assert carol.invoice(dropped.payment_hash).received == 0

    in_a_line(act)


@pytest.mark.parametrize("victim", ["alice", "bob", "carol"])
def test_a_crash_on_the_way_neither_loses_nor_doubles(victim: str) -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        invoices = [await carol.create_invoice(1_000) for _ in range(20)]
        async with trio.open_nursery() as nursery:

            async def pay(text: str) -> None:
                await world.node("alice").routing.paying.pay(text, timeout=600)

            if victim != "alice":
                for invoice in invoices:
                    nursery.start_soon(pay, invoice.text)
            else:
                for invoice in invoices:
                    nursery.start_soon(_begin, alice, invoice.text)
            await trio.sleep(0.05)
            await world.crash(victim)
            await world.start(victim)
        carol, alice = world.node("carol"), world.node("alice")
        with trio.fail_after(900):
            if victim != "alice":
                await carol.until(lambda: carol.channels[0].balances[0] == 20_000)
            for node in (alice, world.node("bob")):
                await node.until(lambda node=node: not any(c.view.channel.newest.locks for c in node.channels))
        received = sum(record.received for record in world.node("carol").routing.invoicing.invoices())
        assert received == world.node("carol").channels[0].balances[0]
        paid = [record for _, record in world.node("alice").routing.paying.payments() if record.is_paid]
        assert sum(record.order.amount for record in paid) == received
        if victim != "alice":
            assert received == 20_000

    in_a_line(act)


async def _begin(node: Node, text: str) -> None:
    with trio.move_on_after(0.04):
        await node.routing.paying.pay(text, timeout=600)


def test_a_payment_whose_channel_closes_under_it_ends_unpaid_instead_of_never() -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        invoice = await carol.routing.invoicing.create_invoice(1_000, hold=True, lifetime=86_400)
        outcomes: list[object] = []

        async def pay() -> None:
            try:
                outcomes.append(await alice.routing.paying.pay(invoice.text))
            except PaymentFailed as error:
                outcomes.append(error.reason)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay)
            with trio.fail_after(30):
                await carol.until(lambda: bool(carol.routing.receiving.held_payments))
            await alice.channels[0].force_close()
            await bob.channels[-1].force_close()
            with trio.fail_after(10_000):
                await alice.until(lambda: bool(outcomes))
        assert outcomes == [Unpaid.TIMEOUT] and len(alice.routing.outgoing) == 0

    in_a_line(act)
