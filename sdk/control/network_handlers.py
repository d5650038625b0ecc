"""The handlers of invoices, payments over several hops, forwards and policies; see `handlers`.

A payment that fails is answered with 409, its code being the reason (`router.errors.Unpaid`).
"""

from __future__ import annotations

import msgspec
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import check_amount
from tallystick.router.receiving.issued import InvoiceRecord, InvoiceState
from tallystick.router.sending.payments import load_parts
from tallystick.sdk.control import describe_network as describe
from tallystick.sdk.control import network_views as views
from tallystick.sdk.control.lookup import find_channel, parse_asset
from tallystick.sdk.control.lookup_network import find_invoice_of, find_payment_of, parse_hex, parse_node
from tallystick.sdk.node.node import Node


class NetworkHandlers:
    """What is asked of the payment network."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # --- being paid ----------------------------------------------------------------------------------------------

    async def create_invoice(self, asked: views.CreateInvoice) -> views.InvoiceInfo:
        record = await self._node.create_invoice(
            asked.amount,
            asked.memo,
            lifetime=asked.lifetime,
            hold=asked.hold,
            payment_hash=_hash(asked.payment_hash, "a payment hash"),
            asset=parse_asset(asked.asset),
            hints=asked.hints,
        )
        return self._invoice(record)

    async def invoices(self, asked: views.Page) -> list[views.InvoiceInfo]:
        return [self._invoice(record) for record in self._node.invoices(asked.limit, asked.before)]

    async def paid_invoices(self, asked: views.PaidPage) -> list[views.InvoiceInfo]:
        found = self._node.paid_invoices(asked.after)
        page = found.take(asked.limit)
        if not page:
            with trio.move_on_after(asked.wait):
                page = [await anext(found), *found.take(asked.limit - 1)]
        return [self._invoice(record) for record in page]

    async def invoice(self, payment_hash: str, asked: views.Waited) -> views.InvoiceInfo:
        record = find_invoice_of(self._node, payment_hash)
        with trio.move_on_after(asked.wait):
            while self._state(record.payment_hash) is InvoiceState.OPEN:
                await self._node.paid.news_of(record.payment_hash)
        return self._invoice(self._node.invoice(record.payment_hash))

    async def settle_invoice(self, payment_hash: str, asked: views.Settle) -> views.InvoiceInfo:
        record = find_invoice_of(self._node, payment_hash)
        secret = _hash(asked.secret, "a secret") or record.secret
        if not secret:
            raise InvalidInput("this node does not know the secret of that invoice: give it, and it will be settled")
        await self._node.settle_invoice(secret)
        return self._invoice(self._node.invoice(record.payment_hash))

    async def cancel_invoice(self, payment_hash: str) -> views.InvoiceInfo:
        record = find_invoice_of(self._node, payment_hash)
        await self._node.cancel_invoice(record.payment_hash)
        return self._invoice(self._node.invoice(record.payment_hash))

    def _state(self, payment_hash: bytes) -> InvoiceState:
        return self._node.invoice(payment_hash).state(
            self._node.engine.chain.now, self._node.routing.receiving.held_payments
        )

    def _invoice(self, record: InvoiceRecord) -> views.InvoiceInfo:
        return describe.invoice_info(record, self._state(record.payment_hash), self._node.refusal(record.payment_hash))

    # --- paying --------------------------------------------------------------------------------------------------

    async def pay_invoice(self, asked: views.PayInvoice) -> views.PaymentInfo:
        receipt = await self._node.pay(asked.invoice, amount=asked.amount, max_fee=asked.max_fee, timeout=asked.timeout)
        return self._payment(receipt.payment_hash)

    async def keysend(self, asked: views.Keysend) -> views.PaymentInfo:
        receipt = await self._node.keysend(
            parse_node(asked.to),
            asked.amount,
            max_fee=asked.max_fee,
            timeout=asked.timeout,
            secret=_hash(asked.secret, "a secret"),
            asset=parse_asset(asked.asset),
        )
        return self._payment(receipt.payment_hash)

    async def rebalance(self, asked: views.Rebalance) -> views.PaymentInfo:
        out, back = find_channel(self._node, asked.out).id, find_channel(self._node, asked.back).id
        receipt = await self._node.rebalance(out, back, asked.amount, max_fee=asked.max_fee, timeout=asked.timeout)
        return self._payment(receipt.payment_hash)

    async def payments(self, asked: views.PaymentPage) -> list[views.PaymentInfo]:
        found = self._node.payments(asked.limit, asked.before, probes=bool(asked.probes))
        return [describe.payment_info(record, position) for position, record in found]

    async def payment(self, payment_hash: str, asked: views.Waited) -> views.PaymentInfo:
        found = find_payment_of(self._node, payment_hash).order.payment_hash
        with trio.move_on_after(asked.wait):
            await self._node.routing.outgoing.wait_ended(found)
        return self._payment(found)

    def _payment(self, payment_hash: bytes) -> views.PaymentInfo:
        return describe.payment_info(self._node.payment(payment_hash), None, load_parts(self._node.store, payment_hash))

    async def estimate(self, asked: views.Probe) -> views.RouteInfo:
        asset = parse_asset(asked.asset)
        return describe.route_info(self._node.estimate(parse_node(asked.to), asked.amount, asset=asset), asset)

    async def probe(self, asked: views.Probe) -> views.RouteInfo:
        to, asset = parse_node(asked.to), parse_asset(asked.asset)
        return describe.route_info(await self._node.probe(to, asked.amount, timeout=asked.timeout, asset=asset), asset)

    # --- forwarding ----------------------------------------------------------------------------------------------

    async def forwards(self, asked: views.Page) -> list[views.ForwardInfo]:
        found = self._node.forwards(asked.limit, asked.before or 0)
        return [describe.forward_info(one, self._node.channel(one.circuit.outgoing).asset) for one in found]

    async def policy(self, channel: str) -> views.PolicyInfo:
        handle = find_channel(self._node, channel)
        return describe.policy_info(handle, self._node.policy(handle.id))

    async def set_policy(self, channel: str, asked: views.SetPolicy) -> views.PolicyInfo:
        handle = find_channel(self._node, channel)
        changes = {name: value for name, value in msgspec.structs.asdict(asked).items() if value is not None}
        for name, value in changes.items():
            if name != "enabled":
                check_amount(value, name)
        await self._node.set_policy(handle.id, msgspec.structs.replace(self._node.policy(handle.id), **changes))
        return describe.policy_info(handle, self._node.policy(handle.id))

    async def graph(self) -> views.GraphInfo:
        return describe.graph_info(self._node)


def _hash(text: str, what: str) -> bytes:
    """Read 32 bytes in hex, or none at all; raise InvalidInput if it is something else."""
    return parse_hex(text, 32, what) if text else b""
