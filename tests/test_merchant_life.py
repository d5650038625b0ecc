"""The whole life of an invoice as a merchant sees it: what is taken, what is refused, and that both sides know why."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest
import trio

from tallystick.channels.testing.scheduling import simulate
from tallystick.router.codes import Code
from tallystick.router.errors import InvalidInvoice, PaymentFailed, Unpaid
from tallystick.router.invoices.invoice import Invoice, decode_invoice
from tallystick.router.network.routing import PaymentOptions
from tallystick.router.objects import NodeKey
from tallystick.router.onion.failures import attribute
from tallystick.router.onion.payload import FinalPayload, encode_payload
from tallystick.router.onion.sphinx import build_onion
from tallystick.router.receiving.issued import InvoiceState
from tallystick.router.sending.payments import Order
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.world import World, open_world

DEPOSIT = 10_000_000
ASKED = 1_000

Act = Callable[[World, Node, Node], Awaitable[None]]


def in_a_shop(act: Act, seed: int = 1) -> None:
    """Alice has a channel with Carol, who sells, and takes no payments without an invoice."""

    async def main() -> None:
        async with open_world(seed, names=("alice", "carol")) as world:
            strict = msgspec.structs.replace(world.config, payments=PaymentOptions(keysend=False))
            alice, carol = await world.start("alice"), await world.start("carol", strict)
            await alice.open_channel(world.address("carol"), DEPOSIT)
            await act(world, alice, carol)
            paid = sum(record.received for record in carol.invoices())
            assert await world.until(lambda: alice.channels[0].balances == (DEPOSIT - paid, paid), 600)
            assert await world.until(lambda: not alice.channels[0].view.channel.newest.locks, 600)

    simulate(main, seed)


async def asked(carol: Node, amount: int | None = ASKED, *, lifetime: int = 3_600) -> Invoice:
    return decode_invoice((await carol.create_invoice(amount, "a tin of tea", lifetime=lifetime)).text)


def order(alice: Node, invoice: Invoice, amount: int = ASKED, *, payment_secret: bytes = b"") -> Order:
    """What a payer might want that does not care for what the invoice says."""
    return Order(
        payment_hash=invoice.payment_hash,
        target=invoice.payee,
        amount=amount,
        max_fee=100,
        payment_secret=payment_secret or invoice.payment_secret,
        lock_seconds=3_600,
        gives_up=alice.routing.paying._node.clock() + 60,
        created=alice.routing.paying._node.clock(),
    )


async def refused(alice: Node, wish: Order) -> PaymentFailed:
    alice.routing.outgoing.begin(wish)
    with pytest.raises(PaymentFailed) as caught:
        await alice.routing.paying.receipt(wish.payment_hash)
    assert caught.value.reason is Unpaid.PAYEE_REFUSES and "ask the payee for a new one" in str(caught.value)
    return caught.value


def told(carol: Node, invoice: Invoice) -> str:
    """What the merchant learns of the last refusal."""
    refusal = carol.refusal(invoice.payment_hash)
    return "" if refusal is None else str(refusal)


def state(carol: Node, invoice: Invoice) -> InvoiceState:
    record = carol.invoice(invoice.payment_hash)
    return record.state(carol.engine.chain.now, carol.routing.receiving.held_payments)


def test_who_pays_more_is_welcome_up_to_twice_as_much() -> None:
    async def act(world: World, alice: Node, carol: Node) -> None:
        tip, fraud = await asked(carol), await asked(carol)
        with pytest.raises(InvalidInvoice, match="at most twice as much"):
            await alice.pay(tip, amount=2 * ASKED + 1)
        await alice.pay(tip, amount=2 * ASKED)
        record = carol.invoice(tip.payment_hash)
        assert (record.amount, record.received) == (ASKED, 2 * ASKED)
        await refused(alice, order(alice, fraud, 2 * ASKED + 1))
        assert "2001" in told(carol, fraud) and "1000" in told(carol, fraud)
        assert state(carol, fraud) is InvoiceState.OPEN

    in_a_shop(act)


def test_who_pays_less_pays_nothing_and_may_pay_all_later() -> None:
    async def act(world: World, alice: Node, carol: Node) -> None:
        invoice = await asked(carol)
        with pytest.raises(InvalidInvoice, match="pay that"):
            await alice.pay(invoice, amount=ASKED - 1)
        await refused(alice, order(alice, invoice, ASKED - 1))
        assert "999" in told(carol, invoice) and state(carol, invoice) is InvoiceState.OPEN
        await alice.pay(invoice)
        assert carol.invoice(invoice.payment_hash).received == ASKED

    in_a_shop(act)


def test_a_part_that_no_others_follow_comes_back_after_a_minute() -> None:
    async def act(world: World, alice: Node, carol: Node) -> None:
        invoice = await asked(carol)
        expiry = alice.engine.chain.now + 3_600
        payload = encode_payload(FinalPayload(400, expiry, invoice.payment_secret, ASKED))
        onion = build_onion(b"\x11" * 32, [NodeKey(invoice.payee)], [payload], invoice.payment_hash)
        (channel,) = alice.channels
        with alice.events() as events:
            alice.routing.channels.send_lock(channel.id, 400, expiry, invoice.payment_hash, onion.packet)
            began = carol.engine.chain.now
            with trio.fail_after(600):
                async for event in events:
                    if reason := getattr(event, "reason", b""):
                        break
        assert 60 < carol.engine.chain.now - began <= 80
        found = attribute(onion.secrets, reason)
        assert found is not None and (found[0], found[1].code) == (0, Code.MPP_TIMEOUT)
        assert "400" in told(carol, invoice) and "other parts" in told(carol, invoice)
        assert state(carol, invoice) is InvoiceState.OPEN
        await alice.pay(invoice)

    in_a_shop(act)


def test_who_pays_again_what_was_paid_or_cancelled_gets_it_back() -> None:
    async def act(world: World, alice: Node, carol: Node) -> None:
        paid, cancelled = await asked(carol), await asked(carol)
        receipt = await alice.pay(paid)
        assert await alice.pay(paid) == receipt
        await carol.cancel_invoice(cancelled.payment_hash)
        await refused(alice, order(alice, cancelled))
        assert "cancelled" in told(carol, cancelled)
        expiry = alice.engine.chain.now + 3_600
        payload = encode_payload(FinalPayload(ASKED, expiry, paid.payment_secret, ASKED))
        onion = build_onion(b"\x12" * 32, [NodeKey(paid.payee)], [payload], paid.payment_hash)
        alice.routing.channels.send_lock(alice.channels[0].id, ASKED, expiry, paid.payment_hash, onion.packet)
        assert await world.until(lambda: "paid" in told(carol, paid), 60)
        assert carol.invoice(paid.payment_hash).received == ASKED

    in_a_shop(act)


def test_without_an_amount_the_payer_chooses() -> None:
    async def act(world: World, alice: Node, carol: Node) -> None:
        invoice = await asked(carol, None)
        with pytest.raises(InvalidInvoice, match="say how much"):
            await alice.pay(invoice)
        await alice.pay(invoice, amount=77)
        assert carol.invoice(invoice.payment_hash).received == 77

    in_a_shop(act)


def test_an_invoice_that_expired_is_paid_by_nobody() -> None:
    async def act(world: World, alice: Node, carol: Node) -> None:
        invoice = await asked(carol, lifetime=20)
        await world.blocks(6)
        with pytest.raises(InvalidInvoice, match=r"expired \d+ seconds ago; ask the payee for a new one"):
            await alice.pay(invoice)
        await refused(alice, order(alice, invoice))
        assert "expired" in told(carol, invoice) and state(carol, invoice) is InvoiceState.EXPIRED

    in_a_shop(act)


def test_who_has_not_seen_the_invoice_learns_nothing_and_takes_it_from_nobody() -> None:
    async def act(world: World, alice: Node, carol: Node) -> None:
        invoice = await asked(carol)
        wrong = await refused(alice, order(alice, invoice, payment_secret=bytes(32)))
        unknown = await refused(alice, msgspec.structs.replace(order(alice, invoice), payment_hash=b"?" * 32))
        assert str(wrong) == str(unknown)
        assert "payment secret" in told(carol, invoice) and carol.refusal(b"?" * 32) is None
        await alice.pay(invoice)

    in_a_shop(act)


def test_who_sends_money_to_a_shop_that_takes_invoices_only_gets_it_back_and_is_told() -> None:
    async def act(world: World, alice: Node, carol: Node) -> None:
        with pytest.raises(PaymentFailed, match="ask for an invoice") as caught:
            await alice.keysend(carol.key.public, 5)
        assert caught.value.reason is Unpaid.PAYEE_REFUSES and carol.invoices() == []

    in_a_shop(act)


def test_an_invoice_of_another_chain_is_refused_before_anything_is_sent() -> None:
    async def act(world: World, alice: Node, carol: Node) -> None:
        invoice = await asked(carol)
        for elsewhere in ({"chain_id": 1}, {"contract": type(invoice.contract)(b"\x01" * 20)}):
            with pytest.raises(InvalidInvoice, match="this node is on chain"):
                await alice.pay(msgspec.structs.replace(invoice, **elsewhere))
        assert alice.payments() == []

    in_a_shop(act)
