"""The control API's client, on httpx under trio. The `tally` command uses it, and so may any program.

    async with connect_control(directory) as node:
        receipt = await node.pay("3f9a", 5, memo="order 17")

Each method asks for the operation of its name (`operations`), and returns the types of `views`. They raise InvalidInput
for arguments that cannot be, NodeUnreachable if no node answers, and ControlError, with the API's code, if the node
refuses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx
import msgspec

from tallystick.channels.protocol.objects import (
    NATIVE,
    Amount,
    AnyAddress,
    AnyMemo,
    Count,
    Lifetime,
    PaymentKey,
    Seconds,
    Total,
    Units,
    Whole64,
    to_memo,
    to_text,
)
from tallystick.channels.values.arguments import checked
from tallystick.sdk.control import network_views as network
from tallystick.sdk.control import operations as api
from tallystick.sdk.control import views
from tallystick.sdk.control.app_client import AppClient
from tallystick.sdk.control.caller import Caller, written
from tallystick.sdk.control.chains_client import ChainsClient
from tallystick.sdk.control.files import find_node
from tallystick.sdk.control.kinds import NATIVE_ASSET

CONNECT_SECONDS = 5.0
"""How long the node may take to accept a connection. Answers may take as long as the chain does."""

IDLE_SECONDS = 2.0
"""For how long an idle connection may be used again. A node closes those that are idle for long (in version 0.1, for
five seconds), perhaps in the very moment in which the next request is sent on one."""

POLL_SECONDS = 20
"""How long a follower's question for more stands."""

Item = TypeVar("Item")
Place = TypeVar("Place")


class ControlClient(ChainsClient):
    """Talks to one running node. Make it with `connect_control` or `control_at`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        caller = Caller(http)
        super().__init__(caller)
        self.apps = AppClient(caller)
        """Asks about apps between two players."""

    async def info(self) -> views.NodeInfo:
        """Return what the node is."""
        return await self._ask(api.OfNode.info)

    async def stop(self) -> None:
        """Ask the node to stop cleanly."""
        await self._ask(api.OfNode.stop)

    async def openapi(self) -> dict[str, Any]:
        """Return the API's description as OpenAPI 3.1."""
        return await self._ask(api.OfNode.openapi)

    async def statistics(self) -> dict[str, Any]:
        """Return the node's counters, by part."""
        return await self._ask(api.OfNode.statistics)

    async def channels(self) -> list[views.ChannelInfo]:
        """Return all channels, gone ones included."""
        return await self._ask(api.OfChannels.channels)

    @checked
    async def channel(self, name: str) -> views.ChannelInfo:
        """Return one channel, named by an unambiguous beginning of its id."""
        return await self._ask(api.OfChannels.channel, channel=name)

    @checked
    async def open_channel(
        self,
        peer: str,
        deposit: Amount,
        *,
        asset: AnyAddress = NATIVE_ASSET,
        challenge_period: Count | None = None,
        wait: bool = True,
    ) -> views.ChannelInfo:
        """Open a channel and return it once it is usable (`wait=False`: once it is on its way)."""
        body = views.OpenChannel(peer, deposit, written(asset), challenge_period, wait)
        return await self._ask(api.OfChannels.open_channel, body)

    @checked
    async def open_virtual(
        self,
        peer: str,
        deposit: Amount,
        peer_deposit: Total = 0,
        *,
        hubs: Sequence[str] = (),
        asset: AnyAddress = NATIVE,
        seconds: Lifetime | None = None,
    ) -> views.ChannelInfo:
        """Open a virtual channel with a peer over hubs, and return it once it is usable. `hubs`: see `OpenVirtual`."""
        body = views.OpenVirtual(peer, deposit, peer_deposit, seconds, tuple(hubs), written(asset))
        return await self._ask(api.OfChannels.open_virtual, body)

    @checked
    async def deposit(self, channel: str, amount: Amount, *, wait: bool = True) -> views.ChannelInfo | None:
        """Add to our deposit; return the channel, None if it was not waited for."""
        return await self._ask_late(api.OfChannels.deposit, views.Transfer(amount, wait), channel=channel)

    @checked
    async def withdraw(self, channel: str, amount: Amount, *, wait: bool = True) -> views.ChannelInfo | None:
        """Take an amount out of a channel; return the channel, None if it was not waited for."""
        return await self._ask_late(api.OfChannels.withdraw, views.Transfer(amount, wait), channel=channel)

    @checked
    async def close(
        self, channel: str, *, wait: bool = True, timeout: Seconds | None = None
    ) -> views.ChannelInfo | None:
        """Close with the peer's consent; return the channel, None if it was not waited for.

        After `timeout` seconds: ControlError of code "still-pending"; it closes once the peer agrees.
        """
        return await self._ask_late(api.OfChannels.close, views.CloseChannel(wait, timeout), channel=channel)

    @checked
    async def force_close(self, channel: str, *, wait: bool = False) -> views.ChannelInfo:
        """Close without the peer; return the channel once that is stored (`wait`: once nothing is left on chain)."""
        return await self._ask(api.OfChannels.force_close, views.CloseChannel(wait), channel=channel)

    @checked
    async def record(self, channel: str, *, on: bool = True) -> views.RecordState:
        """Take down what happens to a channel from now on, in the node's memory; or (`on=False`) end that."""
        return await self._ask(api.OfChannels.record, views.Record(on), channel=channel)

    @checked
    async def recording(self, channel: str) -> views.RecordedFile:
        """Return what was taken down so far as the text of a file, which holds no secret (`tally channel replay`)."""
        return await self._ask(api.OfChannels.recording, channel=channel)

    @checked
    async def pay(
        self,
        to: str,
        amount: Amount,
        *,
        memo: AnyMemo = "",
        key: PaymentKey = "",
        asset: AnyAddress = NATIVE_ASSET,
        timeout: Seconds | None = None,
    ) -> views.PaymentMade:
        """Pay in a channel, or to a peer; return the receipt. The same `key` pays once, however often it is called.

        `memo` is text or bytes, 256 at most. After `timeout` seconds: ControlError, of code "still-pending" if the
        payment may still be made.
        """
        body = views.CreatePayment(to, amount, *_text_or_hex(to_memo(memo)), key, written(asset), timeout)
        return await self._ask(api.OfPayments.pay, body)

    async def streams(self) -> list[views.StreamInfo]:
        """Return the pending streams of all channels, in both directions."""
        return await self._ask(api.OfStreams.streams)

    @checked
    async def open_stream(
        self, channel: str, unit: Amount, length: Units, *, lifetime: Lifetime = 86_400
    ) -> views.StreamInfo:
        """Open a stream in a channel; return it once it is agreed."""
        return await self._ask(api.OfStreams.open_stream, views.OpenStream(unit, length, lifetime), channel=channel)

    @checked
    async def pay_units(self, channel: str, lock: Whole64, units: Units = 1) -> views.StreamInfo:
        """Pay units of a stream of ours; return it once the payee holds them durably."""
        return await self._ask(api.OfStreams.pay_units, views.PayUnits(units), channel=channel, lock=lock)

    @checked
    async def close_stream(self, channel: str, lock: Whole64) -> views.StreamInfo:
        """End a stream of ours; return it once both have signed what it paid."""
        return await self._ask(api.OfStreams.close_stream, channel=channel, lock=lock)

    @checked
    async def balance(self, asset: AnyAddress = NATIVE_ASSET) -> views.Balance:
        """Return what the node holds."""
        return await self._ask(api.OfNode.balance, views.AskedAsset(written(asset)))

    async def owed(self) -> list[views.Owing]:
        """Return what the contract owes the node, by asset."""
        return await self._ask(api.OfNode.owed)

    @checked
    async def claim(
        self, asset: AnyAddress = NATIVE_ASSET, to: AnyAddress | None = None, *, wait: bool = True
    ) -> views.Owing | None:
        """Take all that the contract owes the node of an asset; return how much, None if it was not waited for."""
        body = views.Claim(written(asset), None if to is None else written(to), wait)
        return await self._ask_late(api.OfNode.claim, body)

    async def peers(self) -> list[views.PeerInfo]:
        """Return all peers that the node knows."""
        return await self._ask(api.OfPeers.peers)

    @checked
    async def connect(self, address: str) -> views.PeerInfo:
        """Connect to a peer and keep the connection."""
        return await self._ask(api.OfPeers.connect, views.Connect(address))

    @checked
    async def incoming(
        self, after: str = "", *, limit: Count = 100, channel: str = "", wait: Count = 0
    ) -> list[views.IncomingInfo]:
        """Return up to `limit` received payments behind a cursor; if there are none, wait so many seconds for one."""
        return await self._ask(api.OfPayments.incoming, views.IncomingPage(after, limit, channel or None, wait))

    @checked
    def follow(self, after: str = "", *, channel: str = "") -> Polled[views.IncomingInfo, str]:
        """Return an async iterator over received payments behind a cursor, for ever."""
        page = partial(self.incoming, channel=channel, wait=POLL_SECONDS)
        return Polled(page, after, lambda last: last.cursor)

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
    ) -> network.InvoiceInfo:
        """Ask for a payment; the answer's `invoice` is for the payer."""
        body = network.CreateInvoice(amount, to_text(memo), lifetime, hold, payment_hash, written(asset), hints)
        return await self._ask(api.OfInvoices.create_invoice, body)

    @checked
    async def invoices(self, limit: Count = 100, before: Count | None = None) -> list[network.InvoiceInfo]:
        """Return invoices and payments without one, newest first; `before` goes on from a position."""
        return await self._ask(api.OfInvoices.invoices, network.Page(limit, before))

    @checked
    async def invoice(self, payment_hash: str, *, wait: Count = 0) -> network.InvoiceInfo:
        """Return one invoice; while it is open, wait so many seconds for its payment."""
        return await self._ask(api.OfInvoices.invoice, network.Waited(wait), payment_hash=payment_hash)

    @checked
    async def paid_invoices(
        self, after: Count = 0, *, limit: Count = 100, wait: Count = 0
    ) -> list[network.InvoiceInfo]:
        """Return up to `limit` paid invoices behind a count (`paid`); if there are none, wait so many seconds."""
        return await self._ask(api.OfInvoices.paid_invoices, network.PaidPage(after, limit, wait))

    @checked
    def follow_paid(self, after: Count = 0) -> Polled[network.InvoiceInfo, int]:
        """Return an async iterator over paid invoices behind a count, for ever."""
        return Polled(partial(self.paid_invoices, wait=POLL_SECONDS), after, lambda last: last.paid)

    @checked
    async def settle_invoice(self, payment_hash: str, secret: str = "") -> network.InvoiceInfo:
        """Take a held payment. The secret is needed only if the node does not know it."""
        return await self._ask(api.OfInvoices.settle_invoice, network.Settle(secret), payment_hash=payment_hash)

    @checked
    async def cancel_invoice(self, payment_hash: str) -> network.InvoiceInfo:
        """Refuse what has come for an invoice, and take nothing more."""
        return await self._ask(api.OfInvoices.cancel_invoice, payment_hash=payment_hash)

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
    ) -> network.PaymentInfo | None:
        """Pay an invoice, once however often this is called; None if it was not waited for."""
        body = network.PayInvoice(invoice, amount, max_fee, timeout, wait)
        return await self._ask_late(api.OfNetwork.pay_invoice, body)

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
    ) -> network.PaymentInfo | None:
        """Pay a node without an invoice; None if it was not waited for. The same `secret` pays once."""
        body = network.Keysend(to, amount, max_fee, timeout, secret, wait, written(asset))
        return await self._ask_late(api.OfNetwork.keysend, body)

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
    ) -> network.PaymentInfo | None:
        """Move an amount from one channel of ours into another; None if it was not waited for."""
        body = network.Rebalance(out, back, amount, max_fee, timeout, wait)
        return await self._ask_late(api.OfNetwork.rebalance, body)

    @checked
    async def payments(
        self, limit: Count = 100, before: Count | None = None, *, probes: bool = False
    ) -> list[network.PaymentInfo]:
        """Return the node's payments over several hops, newest first; `before` goes on from a position.

        `probes`: with those that only found out something.
        """
        return await self._ask(api.OfNetwork.payments, network.PaymentPage(limit, before, int(probes)))

    @checked
    async def payment(self, payment_hash: str, *, wait: Count = 0) -> network.PaymentInfo:
        """Return one payment with its parts; if it is pending, wait so many seconds for its end."""
        return await self._ask(api.OfNetwork.payment, network.Waited(wait), payment_hash=payment_hash)

    @checked
    async def estimate(self, to: str, amount: Amount, *, asset: AnyAddress = NATIVE_ASSET) -> network.RouteInfo:
        """Return the way that a payment would try first."""
        return await self._ask(api.OfNetwork.estimate, network.Probe(to, amount, None, written(asset)))

    @checked
    async def probe(
        self, to: str, amount: Amount, *, timeout: Seconds | None = None, asset: AnyAddress = NATIVE_ASSET
    ) -> network.RouteInfo:
        """Find out by trying whether an amount could be paid now, and which way. Nothing is paid."""
        return await self._ask(api.OfNetwork.probe, network.Probe(to, amount, timeout, written(asset)))

    # --- forwarding ----------------------------------------------------------------------------------------------

    @checked
    async def forwards(self, limit: Count = 100, before: Count | None = None) -> list[network.ForwardInfo]:
        """Return what the node carried for others, newest first; `before` goes on from a position."""
        return await self._ask(api.OfForwarding.forwards, network.Page(limit, before))

    @checked
    async def policy(self, channel: str) -> network.PolicyInfo:
        """Return what the node asks for carrying payments out over a channel."""
        return await self._ask(api.OfForwarding.policy, channel=channel)

    @checked
    async def set_policy(self, channel: str, **changes: int | bool) -> network.PolicyInfo:
        """Ask something else from now on: the fields of `SetPolicy`; those left out stay as they are."""
        body = msgspec.convert(changes, network.SetPolicy)
        return await self._ask(api.OfForwarding.set_policy, body, channel=channel)

    async def graph(self) -> network.GraphInfo:
        """Return how much of the network the node knows."""
        return await self._ask(api.OfForwarding.graph)


class Polled(Generic[Item, Place]):
    """An async iterator over what comes, by long polling. It holds nothing open: just stop using it."""

    def __init__(
        self, page: Callable[[Place], Awaitable[list[Item]]], after: Place, place_of: Callable[[Item], Place]
    ) -> None:
        self._page = page
        self._after = after
        self._place_of = place_of
        self._waiting: deque[Item] = deque()

    def __aiter__(self) -> Polled[Item, Place]:
        return self

    async def __anext__(self) -> Item:
        """Return the next one, once there is one."""
        while not self._waiting:
            self._waiting.extend(await self._page(self._after))
            if self._waiting:
                self._after = self._place_of(self._waiting[-1])
        return self._waiting.popleft()


def _text_or_hex(memo: bytes) -> tuple[str, str]:
    """Return a memo as the API takes it: as text, or what is none in hex."""
    try:
        return memo.decode(), ""
    except UnicodeDecodeError:
        return "", memo.hex()


@checked
@asynccontextmanager
async def control_at(url: str, token: str) -> AsyncIterator[ControlClient]:
    """Give a client of the control API at `url`."""
    timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
    headers = {"authorization": f"Bearer {token}"}
    limits = httpx.Limits(keepalive_expiry=IDLE_SECONDS)
    secured = not url.lower().startswith("http:")  # no TLS, no certificates: to load them takes longer than a question
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=timeout, limits=limits, verify=secured, trust_env=False
    ) as http:
        yield ControlClient(http)


@checked
@asynccontextmanager
async def connect_control(directory: Path) -> AsyncIterator[ControlClient]:
    """Give a client of the node that runs in `directory`; raise NodeUnreachable if none does."""
    async with control_at(*find_node(directory)) as client:
        yield client
