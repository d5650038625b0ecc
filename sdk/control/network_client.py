"""The control API's client for the payment network: the methods of `ControlClient` that `network` answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Any, TypeVar

import msgspec

from tallystick.channels.protocol.objects import (
    Address,
    Amount,
    AnyAddress,
    AnyMemo,
    Count,
    Lifetime,
    Seconds,
    Total,
    to_address,
    to_text,
)
from tallystick.channels.values.arguments import checked
from tallystick.sdk.control import network_views as views
from tallystick.sdk.control.views import NATIVE_ASSET
from tallystick.sdk.errors import ControlError

POLL_SECONDS = 20
"""How long a follower's question for more paid invoices stands."""

Answer = TypeVar("Answer")


class NetworkCalls(ABC):
    """Payments over several hops, through a running node. A part of `ControlClient`, which does the asking."""

    @abstractmethod
    async def _get(self, path: str, kind: type[Answer], **query: str) -> Answer:
        """Ask for something."""

    @abstractmethod
    async def _post(self, path: str, body: msgspec.Struct | None, kind: type[Answer]) -> Answer:
        """Ask the node to do something."""

    # --- being paid ----------------------------------------------------------------------------------------------

    @checked
    async def create_invoice(
        self,
        amount: Amount | None = None,
        memo: AnyMemo = "",
        *,
        lifetime: Lifetime = 3_600,
        hold: bool = False,
        payment_hash: str = "",
        asset: AnyAddress = NATIVE_ASSET,
        hints: bool = True,
    ) -> views.InvoiceInfo:
        """Ask for a payment; the answer's `invoice` is for the payer."""
        body = views.CreateInvoice(amount, to_text(memo), lifetime, hold, payment_hash, written(asset), hints)
        return await self._post("/invoices", body, views.InvoiceInfo)

    @checked
    async def invoices(self, limit: Count = 100, before: Count | None = None) -> list[views.InvoiceInfo]:
        """Return invoices and payments without one, newest first; `before` goes on from a position."""
        return await self._get("/invoices", list[views.InvoiceInfo], **_page(limit, before))

    @checked
    async def invoice(self, payment_hash: str, *, wait: Count = 0) -> views.InvoiceInfo:
        """Return one invoice; while it is open, wait so many seconds for its payment."""
        return await self._get(f"/invoices/{_hash(payment_hash)}", views.InvoiceInfo, wait=str(wait))

    @checked
    async def paid_invoices(self, after: Count = 0, *, limit: Count = 100, wait: Count = 0) -> list[views.InvoiceInfo]:
        """Return up to `limit` paid invoices behind a count (`paid`); if there are none, wait so many seconds."""
        query = {"after": str(after), "limit": str(limit), "wait": str(wait)}
        return await self._get("/invoices/paid", list[views.InvoiceInfo], **query)

    @checked
    def follow_paid(self, after: Count = 0) -> PolledInvoices:
        """Return an async iterator over paid invoices behind a count, for ever."""
        return PolledInvoices(self, after)

    @checked
    async def settle_invoice(self, payment_hash: str, secret: str = "") -> views.InvoiceInfo:
        """Take a held payment. The secret is needed only if the node does not know it."""
        return await self._post(f"/invoices/{_hash(payment_hash)}/settle", views.Settle(secret), views.InvoiceInfo)

    @checked
    async def cancel_invoice(self, payment_hash: str) -> views.InvoiceInfo:
        """Refuse what has come for an invoice, and take nothing more."""
        return await self._post(f"/invoices/{_hash(payment_hash)}/cancel", None, views.InvoiceInfo)

    # --- paying --------------------------------------------------------------------------------------------------

    @checked
    async def pay_invoice(
        self,
        invoice: str,
        *,
        amount: Amount | None = None,
        max_fee: Total | None = None,
        timeout: Seconds | None = None,
        wait: bool = True,
    ) -> views.PaymentInfo | None:
        """Pay an invoice, once however often this is called; None if it was not waited for."""
        return await self._made("/pay", views.PayInvoice(invoice, amount, max_fee, timeout, wait))

    @checked
    async def keysend(
        self,
        to: str,
        amount: Amount,
        *,
        max_fee: Total | None = None,
        timeout: Seconds | None = None,
        secret: str = "",
        wait: bool = True,
        asset: AnyAddress = NATIVE_ASSET,
    ) -> views.PaymentInfo | None:
        """Pay a node without an invoice; None if it was not waited for. The same `secret` pays once."""
        return await self._made("/keysend", views.Keysend(to, amount, max_fee, timeout, secret, wait, written(asset)))

    @checked
    async def rebalance(
        self,
        out: str,
        back: str,
        amount: Amount,
        *,
        max_fee: Total | None = None,
        timeout: Seconds | None = None,
        wait: bool = True,
    ) -> views.PaymentInfo | None:
        """Move an amount from one channel of ours into another; None if it was not waited for."""
        return await self._made("/rebalance", views.Rebalance(out, back, amount, max_fee, timeout, wait))

    @checked
    async def payments(
        self, limit: Count = 100, before: Count | None = None, *, probes: bool = False
    ) -> list[views.PaymentInfo]:
        """Return the node's payments over several hops, newest first; `before` goes on from a position.

        `probes`: with those that only found out something.
        """
        query = _page(limit, before) | ({"probes": "1"} if probes else {})
        return await self._get("/payments", list[views.PaymentInfo], **query)

    @checked
    async def payment(self, payment_hash: str, *, wait: Count = 0) -> views.PaymentInfo:
        """Return one payment with its parts; if it is pending, wait so many seconds for its end."""
        return await self._get(f"/payments/{_hash(payment_hash)}", views.PaymentInfo, wait=str(wait))

    @checked
    async def estimate(self, to: str, amount: Amount, *, asset: AnyAddress = NATIVE_ASSET) -> views.RouteInfo:
        """Return the way that a payment would try first."""
        return await self._post("/estimate", views.Probe(to, amount, None, written(asset)), views.RouteInfo)

    @checked
    async def probe(
        self, to: str, amount: Amount, *, timeout: Seconds | None = None, asset: AnyAddress = NATIVE_ASSET
    ) -> views.RouteInfo:
        """Find out by trying whether an amount could be paid now, and which way. Nothing is paid."""
        return await self._post("/probe", views.Probe(to, amount, timeout, written(asset)), views.RouteInfo)

    # --- forwarding ----------------------------------------------------------------------------------------------

    @checked
    async def forwards(self, limit: Count = 100, before: Count | None = None) -> list[views.ForwardInfo]:
        """Return what the node carried for others, newest first; `before` goes on from a position."""
        return await self._get("/forwards", list[views.ForwardInfo], **_page(limit, before))

    @checked
    async def policy(self, channel: str) -> views.PolicyInfo:
        """Return what the node asks for carrying payments out over a channel."""
        return await self._get(f"/channels/{_hash(channel)}/policy", views.PolicyInfo)

    @checked
    async def set_policy(self, channel: str, **changes: int | bool) -> views.PolicyInfo:
        """Ask something else from now on: the fields of `SetPolicy`; those left out stay as they are."""
        body = msgspec.convert(changes, views.SetPolicy)
        return await self._post(f"/channels/{_hash(channel)}/policy", body, views.PolicyInfo)

    async def graph(self) -> views.GraphInfo:
        """Return how much of the network the node knows."""
        return await self._get("/graph", views.GraphInfo)

    async def _made(self, path: str, body: msgspec.Struct) -> views.PaymentInfo | None:
        answer = await self._post(path, body, dict[str, Any])
        return None if "accepted" in answer else msgspec.convert(answer, views.PaymentInfo)


class PolledInvoices:
    """An async iterator over paid invoices, by long polling. It holds nothing open: just stop using it."""

    def __init__(self, client: NetworkCalls, after: int) -> None:
        self._client = client
        self._after = after
        self._waiting: deque[views.InvoiceInfo] = deque()

    def __aiter__(self) -> PolledInvoices:
        return self

    async def __anext__(self) -> views.InvoiceInfo:
        """Return the next one, once there is one."""
        while not self._waiting:
            page = await self._client.paid_invoices(self._after, wait=POLL_SECONDS)
            self._waiting.extend(page)
            if page:
                self._after = page[-1].paid
        return self._waiting.popleft()


def written(asset: Address | str) -> str:
    """Return an asset as the API takes it."""
    return "0x" + to_address(asset, "asset").hex()


def _page(limit: int, before: Count | None) -> dict[str, str]:
    return {"limit": str(limit)} | ({} if before is None else {"before": str(before)})


def _hash(name: str) -> str:
    """Make sure that a name is one segment of a path."""
    if not name.isalnum() or not name.isascii():
        raise ControlError(f"channels and payments are named by hex digits, not {name!r}", "invalid-input")
    return name
