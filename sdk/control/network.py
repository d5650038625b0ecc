"""The control API's payment network: invoices, payments over several hops, forwards, policies. Routes of the `server`.

| request                                   | does                                                               |
| ----------------------------------------- | ------------------------------------------------------------------ |
| POST /invoices                            | asks for a payment; answers with the invoice                       |
| GET /invoices?limit=&before=              | invoices and payments without one, newest first                    |
| GET /invoices/paid?after=&limit=&wait=    | those that were paid, in that order, behind a count (`paid`)       |
| GET /invoices/{hash}?wait=                | one; wait=20: if it is open, waits so many seconds for its payment |
| POST /invoices/{hash}/settle, cancel      | takes or refuses a held payment; cancel ends an open invoice, too  |
| POST /pay                                 | pays an invoice: once, by its payment hash                         |
| POST /keysend                             | pays a node without an invoice                                     |
| GET /payments?limit=&before=&probes=      | this node's payments over several hops, newest first; probes=1     |
|                                           | with those that only found out something                           |
| GET /payments/{hash}?wait=                | one, with its parts                                                |
| POST /estimate, /probe                    | the way a payment would take: believed, or tried out               |
| POST /rebalance                           | moves an amount from one channel of ours into another              |
| GET /forwards?limit=&before=              | what was carried for others, newest first                          |
| GET, POST /channels/{id}/policy           | what is asked for carrying payments                                |
| GET /graph                                | how much of the network is known                                   |

A payment that fails is answered with 409, its code being the reason (`router.errors.Unpaid`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import check_amount
from tallystick.router.receiving.issued import InvoiceRecord, InvoiceState
from tallystick.router.sending.payments import PaymentRecord, load_parts
from tallystick.sdk.control import network_views as views
from tallystick.sdk.control.describe_network import (
    forward_info,
    graph_info,
    invoice_info,
    payment_info,
    policy_info,
    route_info,
)
from tallystick.sdk.control.http import answer, make_route, read_body, whole_number
from tallystick.sdk.control.lookup import find_channel, parse_asset
from tallystick.sdk.control.lookup_network import find_invoice_of, find_payment_of, parse_hex, parse_node

if TYPE_CHECKING:
    from tallystick.sdk.control.server import ControlServer

PAGE_MAX = 1_000
"""Invoices, payments or forwards in one answer."""

WAIT_MAX = 60
"""Seconds that a request may ask to wait for a payment."""

POSITION_MAX = 10**9 - 1
"""The largest position that a request may name."""


class NetworkRoutes:
    """What the control API does with payments over several hops."""

    def __init__(self, control: ControlServer) -> None:
        self._control = control
        self._node = control.node

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            make_route("POST", "/invoices", self._create),
            make_route("GET", "/invoices", self._invoices),
            make_route("GET", "/invoices/paid", self._paid),
            make_route("GET", "/invoices/{hash}", self._invoice),
            make_route("POST", "/invoices/{hash}/settle", self._settle),
            make_route("POST", "/invoices/{hash}/cancel", self._cancel),
            make_route("POST", "/pay", self._pay),
            make_route("POST", "/keysend", self._keysend),
            make_route("GET", "/payments", self._payments),
            make_route("GET", "/payments/{hash}", self._payment),
            make_route("POST", "/estimate", self._estimate),
            make_route("POST", "/probe", self._probe),
            make_route("POST", "/rebalance", self._rebalance),
            make_route("GET", "/forwards", self._forwards),
            make_route("GET", "/channels/{id}/policy", self._policy),
            make_route("POST", "/channels/{id}/policy", self._set_policy),
            make_route("GET", "/graph", self._graph),
        ]

    # --- being paid ----------------------------------------------------------------------------------------------

    async def _create(self, request: Request) -> Response:
        body = await read_body(request, views.CreateInvoice)
        record = await self._node.create_invoice(
            body.amount,
            body.memo,
            lifetime=body.lifetime,
            hold=body.hold,
            payment_hash=parse_hex(body.payment_hash, 32, "a payment hash") if body.payment_hash else b"",
            asset=parse_asset(body.asset),
            hints=body.hints,
        )
        return answer(self._describe(record))

    async def _invoices(self, request: Request) -> Response:
        return answer([self._describe(record) for record in self._node.invoices(*_page(request))])

    async def _paid(self, request: Request) -> Response:
        query = request.query_params
        limit, _ = _page(request)
        found = self._node.paid_invoices(whole_number("after", query.get("after", "0"), 0, POSITION_MAX))
        page = found.take(limit)
        if not page:
            with trio.move_on_after(_wait(request)):
                page = [await anext(found), *found.take(limit - 1)]
        return answer([self._describe(record) for record in page])

    async def _invoice(self, request: Request) -> Response:
        name = request.path_params["hash"]
        record = find_invoice_of(self._node, name)
        with trio.move_on_after(_wait(request)):
            while self._state(record.payment_hash) is InvoiceState.OPEN:
                await self._node.paid.news_of(record.payment_hash)
        return answer(self._describe(self._node.invoice(record.payment_hash)))

    async def _settle(self, request: Request) -> Response:
        body = await read_body(request, views.Settle)
        record = find_invoice_of(self._node, request.path_params["hash"])
        secret = parse_hex(body.secret, 32, "a secret") if body.secret else record.secret
        if not secret:
            raise InvalidInput("this node does not know the secret of that invoice: give it, and it will be settled")
        return await self._decide("settle an invoice", record, lambda: self._node.settle_invoice(secret))

    async def _cancel(self, request: Request) -> Response:
        record = find_invoice_of(self._node, request.path_params["hash"])
        return await self._decide("cancel an invoice", record, lambda: self._node.cancel_invoice(record.payment_hash))

    async def _decide(self, name: str, record: InvoiceRecord, act: Callable[[], Awaitable[None]]) -> Response:
        async def operation() -> views.InvoiceInfo:
            await act()
            return self._describe(self._node.invoice(record.payment_hash))

        return await self._control.perform(name, operation, wait=True)

    def _state(self, payment_hash: bytes) -> InvoiceState:
        return self._node.invoice(payment_hash).state(self._node.engine.chain.now, self._node.routing.receiving.held)

    def _describe(self, record: InvoiceRecord) -> views.InvoiceInfo:
        return invoice_info(record, self._state(record.payment_hash), self._node.refusal(record.payment_hash))

    # --- paying --------------------------------------------------------------------------------------------------

    async def _pay(self, request: Request) -> Response:
        body = await read_body(request, views.PayInvoice)

        async def operation() -> views.PaymentInfo:
            receipt = await self._node.pay(body.invoice, amount=body.amount, max_fee=body.max_fee, timeout=body.timeout)
            return self._made(receipt.payment_hash)

        return await self._control.perform("pay an invoice", operation, body.wait)

    async def _keysend(self, request: Request) -> Response:
        body = await read_body(request, views.Keysend)
        to, secret = parse_node(body.to), parse_hex(body.secret, 32, "a secret") if body.secret else b""
        asset = parse_asset(body.asset)

        async def operation() -> views.PaymentInfo:
            receipt = await self._node.keysend(
                to, body.amount, max_fee=body.max_fee, timeout=body.timeout, secret=secret, asset=asset
            )
            return self._made(receipt.payment_hash)

        return await self._control.perform("pay without an invoice", operation, body.wait)

    async def _rebalance(self, request: Request) -> Response:
        body = await read_body(request, views.Rebalance)
        out, back = find_channel(self._node, body.out).id, find_channel(self._node, body.back).id

        async def operation() -> views.PaymentInfo:
            receipt = await self._node.rebalance(out, back, body.amount, max_fee=body.max_fee, timeout=body.timeout)
            return self._made(receipt.payment_hash)

        return await self._control.perform("rebalance", operation, body.wait)

    async def _payments(self, request: Request) -> Response:
        probes = whole_number("probes", request.query_params.get("probes", "0"), 0, 1)
        found = self._node.payments(*_page(request), probes=bool(probes))
        return answer([payment_info(record, position) for position, record in found])

    async def _payment(self, request: Request) -> Response:
        record = find_payment_of(self._node, request.path_params["hash"])
        with trio.move_on_after(_wait(request)):
            await self._node.routing.outgoing.ended(record.order.payment_hash)
        return answer(self._made(record.order.payment_hash))

    def _made(self, payment_hash: bytes) -> views.PaymentInfo:
        record: PaymentRecord = self._node.payment(payment_hash)
        return payment_info(record, None, load_parts(self._node.store, payment_hash))

    async def _estimate(self, request: Request) -> Response:
        body = await read_body(request, views.Probe)
        asset = parse_asset(body.asset)
        return answer(route_info(self._node.estimate(parse_node(body.to), body.amount, asset=asset), asset))

    async def _probe(self, request: Request) -> Response:
        body = await read_body(request, views.Probe)
        to, asset = parse_node(body.to), parse_asset(body.asset)

        async def operation() -> views.RouteInfo:
            return route_info(await self._node.probe(to, body.amount, timeout=body.timeout, asset=asset), asset)

        return await self._control.perform("probe", operation, wait=True)

    # --- forwarding ----------------------------------------------------------------------------------------------

    async def _forwards(self, request: Request) -> Response:
        limit, before = _page(request)
        found = self._node.forwards(limit, before or 0)
        return answer([forward_info(one, self._node.channel(one.circuit.outgoing).asset) for one in found])

    async def _policy(self, request: Request) -> Response:
        channel = find_channel(self._node, request.path_params["id"])
        return answer(policy_info(channel, self._node.policy(channel.id)))

    async def _set_policy(self, request: Request) -> Response:
        body = await read_body(request, views.SetPolicy)
        channel = find_channel(self._node, request.path_params["id"])
        changes = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not None}
        for name, value in changes.items():
            if name != "enabled":
                check_amount(value, name)
        await self._node.set_policy(channel.id, msgspec.structs.replace(self._node.policy(channel.id), **changes))
        return answer(policy_info(channel, self._node.policy(channel.id)))

    async def _graph(self, request: Request) -> Response:
        return answer(graph_info(self._node))


def _page(request: Request) -> tuple[int, int | None]:
    """Return (limit, before) of a list."""
    query = request.query_params
    limit = whole_number("limit", query.get("limit", "100"), 1, PAGE_MAX)
    return limit, whole_number("before", query["before"], 0, POSITION_MAX) if "before" in query else None


def _wait(request: Request) -> int:
    return whole_number("wait", request.query_params.get("wait", "0"), 0, WAIT_MAX)
