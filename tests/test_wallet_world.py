"""What programs do with a node that pays and is paid over several hops, in one process and virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.objects import ForwardingPolicy, NodeKey
from tallystick.router.receiving.service import Paid, PaymentHeld
from tallystick.router.sending.payments import PaymentKind
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.world import World, open_world

DEPOSIT = 10_000_000
NAMES = ("alice", "bob", "carol")
Act = Callable[[World, list[ChannelHandle]], Awaitable[None]]


def in_a_ring(act: Act, seed: int = 1) -> None:
    """Alice has a channel with Bob, Bob one with Carol, and Carol one with Alice; all three know of all."""

    async def main() -> None:
        async with open_world(seed) as world:
            nodes = [await world.start(name) for name in NAMES]
            ways = zip(nodes, (*NAMES[1:], NAMES[0]), strict=True)
            channels = [await node.open_channel(world.address(to), DEPOSIT) for node, to in ways]
            for node in nodes:
                await node.until(lambda node=node: len(node.routing.graph) == 6)  # type: ignore[misc]  # a bound default
            await act(world, channels)

    simulate(main, seed)


def key_of(node: Node) -> NodeKey:
    return NodeKey(bytes(node.key.public))


def test_a_merchant_that_crashes_between_payments_handles_each_once() -> None:
    handled: list[bytes] = []
    position = 0

    async def act(world: World, channels: list[ChannelHandle]) -> None:
        asked = [await world.node("carol").create_invoice(1_000) for _ in range(12)]

        async def handle(count: int) -> None:
            nonlocal position
            async for invoice in world.node("carol").paid_invoices(after=position):
                handled.append(invoice.payment_hash)
                position = invoice.paid
                if len(handled) == count:
                    return

        async def pay_all() -> None:
            for invoice in asked:
                await world.node("alice").pay(invoice.text, timeout=600)

        with trio.fail_after(3_600):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pay_all)
                await handle(4)
                await world.restart("carol")
                await handle(12)
        assert handled == [invoice.payment_hash for invoice in asked]
        assert world.node("carol").paid_invoices(position).take(5) == []

    in_a_ring(act)


def test_events_tell_of_paid_and_held_payments_once_they_are_durable() -> None:
    async def act(world: World, channels: list[ChannelHandle]) -> None:
        alice, carol = world.node("alice"), world.node("carol")
        held = await carol.create_invoice(700, hold=True)
        told: list[Paid | PaymentHeld] = []
        with carol.events() as events:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(alice.pay, held.text)
                with trio.fail_after(600):
                    async for event in events:
                        if isinstance(event, PaymentHeld):
                            told.append(event)
                            await carol.settle_invoice(held.secret)
                        elif isinstance(event, Paid):
                            assert carol.invoice(event.payment_hash).received == 700
                            told.append(event)
                            break
        assert told == [
            PaymentHeld(held.payment_hash, 700),
            Paid(held.payment_hash, 700, held.secret, keysend=False),
        ]

    in_a_ring(act)


def test_keysend_under_one_secret_pays_once_and_is_bound_to_payee_and_amount() -> None:
    async def act(world: World, channels: list[ChannelHandle]) -> None:
        alice, bob, carol = (world.node(name) for name in NAMES)
        secret = bytes(range(32))
        first = await alice.keysend(carol.key.public, 900, secret=secret)
        assert await alice.keysend(carol.key.public, 900, secret=secret) == first
        assert first.payment_hash == digest_of(secret) and len(carol.invoices()) == 1
        for to, amount in ((carol, 901), (bob, 900)):
            with pytest.raises(InvalidInput, match="paid"):
                await alice.keysend(to.key.public, amount, secret=secret)
        with pytest.raises(InvalidInput, match="32 bytes"):
            await alice.keysend(carol.key.public, 900, secret=b"short")

    in_a_ring(act)


def test_who_asks_twice_at_the_same_moment_pays_once_and_both_get_the_receipt() -> None:
    async def act(world: World, channels: list[ChannelHandle]) -> None:
        alice, carol = world.node("alice"), world.node("carol")
        invoice = await carol.create_invoice(1_000)
        receipts = []

        async def pay() -> None:
            receipts.append(await alice.pay(invoice.text))

        async def keysend() -> None:
            receipts.append(await alice.keysend(carol.key.public, 500, secret=bytes(range(32))))

        async with trio.open_nursery() as nursery:
            for asked in (pay, pay, keysend, keysend):
                nursery.start_soon(asked)
        assert len(receipts) == 4 and len(set(receipts)) == 2
        assert [record.is_paid for _, record in alice.payments()] == [True, True]
        assert sum(record.received for record in carol.invoices()) == 1_500

    in_a_ring(act)


def test_rebalancing_moves_money_from_one_channel_into_another_for_the_fees_of_those_between() -> None:
    async def act(world: World, channels: list[ChannelHandle]) -> None:
        alice = world.node("alice")
        out, back = (alice.channel(channel.id) for channel in (channels[0], channels[2]))
        before = out.balances[0], back.balances[0]
        receipt = await alice.rebalance(out.id, back.id, 100_000)
        assert receipt.amount == 100_000 and receipt.fee == 200  # two forwarders, 1,000 ppm each, on the way round
        with trio.fail_after(600):
            await alice.until(lambda: (out.balances[0], back.balances[0]) == (before[0] - 100_200, before[1] + 100_000))
        with pytest.raises(InvalidInput, match="two channels"):
            await alice.rebalance(out.id, out.id, 5)
        assert [record.order.kind for _, record in alice.payments()] == [PaymentKind.REBALANCE]
        assert alice.payments()[0][1].is_paid and alice.invoices() == []

    in_a_ring(act)


def test_what_a_merchant_is_paid_is_what_others_paid() -> None:
    async def act(world: World, channels: list[ChannelHandle]) -> None:
        alice, bob, carol = (world.node(name) for name in NAMES)
        first, second = [await alice.create_invoice(1_000) for _ in range(2)]
        out, back = channels[0].id, channels[2].id
        with alice.events() as events:
            assert (await carol.pay(first.text)).amount == 1_000
            await alice.rebalance(out, back, 100_000)
            assert (await carol.pay(second.text)).amount == 1_000
            told = []
            with trio.fail_after(600):
                async for event in events:
                    told += [event.payment_hash] if isinstance(event, Paid) else []
                    if len(told) == 2:
                        break
        assert told == [first.payment_hash, second.payment_hash]
        paid = alice.paid_invoices().take(9)
        assert [(record.payment_hash, record.paid) for record in paid] == [
            (first.payment_hash, 1),
            (second.payment_hash, 2),
        ]
        assert await alice.probe(key_of(bob), 5)
        assert [record.order.kind for _, record in alice.payments()] == [PaymentKind.REBALANCE]
        assert [record.order.kind for _, record in alice.payments(probes=True)] == [
            PaymentKind.PROBE,
            PaymentKind.REBALANCE,
        ]

    in_a_ring(act)


def test_a_policy_that_its_owner_sets_is_what_others_pay() -> None:
    async def act(world: World, channels: list[ChannelHandle]) -> None:
        alice, bob, carol = (world.node(name) for name in NAMES)
        closed = ForwardingPolicy(enabled=False)
        await carol.set_policy(channels[2].id, closed)
        await bob.set_policy(channels[1].id, ForwardingPolicy(base_fee=77))
        assert bob.policy(channels[1].id) == ForwardingPolicy(base_fee=77)
        assert carol.policy(channels[2].id) == closed
        with trio.fail_after(600):
            while True:
                edge = alice.routing.graph.get(channels[1].id, key_of(carol))
                if edge is not None and edge.policy.base_fee == 77:
                    break
                await world.blocks(1)
        invoice = await carol.create_invoice(DEPOSIT // 2)  # more than Carol's own channel with Alice brings
        receipt = await alice.pay(invoice.text, max_fee=200)
        assert receipt.fee == 77
        await bob.until(lambda: bool(bob.forwards()))
        assert [forward.circuit.fee for forward in bob.forwards()] == [77]
        assert bob.forwards_after(bob.forwards()[0].position) == []

    in_a_ring(act)


def test_what_this_node_never_paid_is_unknown() -> None:
    async def act(world: World, channels: list[ChannelHandle]) -> None:
        with pytest.raises(InvalidInput, match="no payment"):
            world.node("alice").payment(bytes(32))

    in_a_ring(act)
