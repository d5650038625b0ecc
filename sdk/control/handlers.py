"""What a node does for each operation of the control API: a method of the operation's name.

A method takes the parameters of its operation's path, and in `asked` what is asked, and returns the answer; it raises
errors of our own tree. A payment that fails is answered with 409, its code being the reason (`router.errors.Unpaid`).
`server` refuses to be imported if the methods do not match the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import trio
from starlette.background import BackgroundTask
from starlette.responses import Response, StreamingResponse

from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.node.alarms import Alarm
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.protocol.objects import Lifetime, check_amount
from tallystick.channels.values.arguments import rule_of
from tallystick.router.receiving.issued import InvoiceRecord, InvoiceState
from tallystick.router.sending.payments import load_parts
from tallystick.sdk.chains.assets import ChainAsset
from tallystick.sdk.chains.company import Company
from tallystick.sdk.control import describe, lookup, views
from tallystick.sdk.control import network_views as network
from tallystick.sdk.control.chain_handlers import ChainHandlers
from tallystick.sdk.control.http import answer
from tallystick.sdk.control.openapi import document
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.holdings import holdings
from tallystick.sdk.node.incoming import ReceivedPayments
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.streams import OutgoingStream
from tallystick.sdk.node.whereabouts import known_peers

CONNECT_SECONDS = 30.0
"""How long a peer may take to be reached before the request is answered with an error; the node keeps trying."""


@dataclass(frozen=True)
class Handlers(ChainHandlers):
    """What is asked of one node."""

    _node: Node
    _company: Company
    _failures: Callable[[], tuple[Alarm, ...]]
    _stop: Callable[[], None]

    # --- the node ------------------------------------------------------------------------------------------------

    async def info(self) -> views.NodeInfo:
        return describe.node_info(self._node, self._failures())

    async def statistics(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self._node.statistics())
        return found

    async def balance(self, asked: views.AskedAsset) -> views.Balance:
        node, asset = self._node, lookup.parse_asset(asked.asset)
        on_chain, held = await holdings(node, asset)
        by_permit = await node.onchain.account.takes_permits(asset)
        return views.Balance("0x" + node.address.hex(), "0x" + asset.hex(), on_chain, held, by_permit)

    async def owed(self) -> list[views.Owing]:
        return [views.Owing("0x" + asset.hex(), amount) for asset, amount in (await self._node.owed()).items()]

    async def claim(self, asked: views.Claim) -> views.Owing:
        asset, to = lookup.parse_asset(asked.asset), None if asked.to is None else lookup.parse_asset(asked.to)
        return views.Owing("0x" + asset.hex(), await self._node.claim(asset, to))

    async def stop(self) -> views.Stopping | Response:
        async def stop() -> None:
            self._stop()

        response = answer(views.Stopping(), 202)
        response.background = BackgroundTask(stop)  # runs when the answer has left
        return response

    async def openapi(self) -> dict[str, Any]:
        return document()

    # --- peers ---------------------------------------------------------------------------------------------------

    async def peers(self) -> list[views.PeerInfo]:
        places: dict[bytes, PeerAddress | None] = {place.key: place for place in known_peers(self._node.store)}
        others = [*self._node.peers.connected_peers(), *(bytes(channel.peer) for channel in self._node.channels)]
        for key in others:
            places.setdefault(key, None)
        return [describe.peer_info(self._node, key, places[key]) for key in sorted(places)]

    async def connect(self, asked: views.Connect) -> views.PeerInfo:
        place = PeerAddress.parse(asked.address)
        await self._reach(place)
        return describe.peer_info(self._node, place.key, place)

    async def _reach(self, place: PeerAddress) -> PublicKey:
        with trio.move_on_after(CONNECT_SECONDS):
            return await self._node.connect(place)
        raise ChannelNotReady(f"{place} was not reached in {CONNECT_SECONDS:g} s; the node keeps trying")

    # --- channels ------------------------------------------------------------------------------------------------

    async def channels(self) -> list[views.ChannelInfo]:
        return [describe.channel_info(channel) for channel in self._node.channels]

    async def channel(self, channel: str) -> views.ChannelInfo:
        return describe.channel_info(lookup.find_channel(self._node, channel))

    async def open_channel(self, asked: views.OpenChannel) -> views.ChannelInfo:
        place, asset = lookup.parse_peer(asked.peer), lookup.parse_asset(asked.asset)
        peer = await self._reach(place) if isinstance(place, PeerAddress) else place
        handle = await self._node.open_channel(
            peer, asked.deposit, asset=asset, challenge_period=asked.challenge_period, wait=asked.wait
        )
        return describe.channel_info(handle)

    async def open_virtual(self, asked: views.OpenVirtual) -> views.ChannelInfo:
        asset, hubs = lookup.find_hubs(self._node, asked.hubs, lookup.parse_asset(asked.asset))
        place = lookup.parse_peer(asked.peer)
        peer = await self._reach(place) if isinstance(place, PeerAddress) else place
        expiry = None if asked.seconds is None else self._node.onchain.index.head_time + asked.seconds
        handle = await self._node.open_virtual(
            peer, asked.deposit, asked.peer_deposit, over=hubs, asset=asset, expiry=expiry
        )
        return describe.channel_info(handle)

    async def deposit(self, channel: str, asked: views.Transfer) -> views.ChannelInfo:
        handle = lookup.find_channel(self._node, channel)
        await handle.deposit(asked.amount)
        return describe.channel_info(handle)

    async def withdraw(self, channel: str, asked: views.Transfer) -> views.ChannelInfo:
        handle = lookup.find_channel(self._node, channel)
        await handle.withdraw(asked.amount)
        return describe.channel_info(handle)

    async def close(self, channel: str, asked: views.CloseChannel) -> views.ChannelInfo:
        handle = lookup.find_channel(self._node, channel)
        await handle.close(timeout=asked.timeout)
        return describe.channel_info(handle)

    async def force_close(self, channel: str, asked: views.CloseChannel) -> views.ChannelInfo:
        handle = lookup.find_channel(self._node, channel)
        if asked.timeout is not None:
            raise InvalidInput("a close without the peer has no timeout: it waits for nobody")
        await handle.force_close()
        if asked.wait:
            await handle.wait_gone()
        return describe.channel_info(handle)

    async def record(self, channel: str, asked: views.Record) -> views.RecordState:
        found, recordings = lookup.find_channel(self._node, channel).id, self._node.engine.recordings
        (recordings.begin if asked.on else recordings.end)(found)
        return views.RecordState(asked.on)

    async def recording(self, channel: str) -> views.RecordedFile:
        data = await self._node.engine.recordings.export(lookup.find_channel(self._node, channel).id)
        return views.RecordedFile(data.decode())

    # --- payments ------------------------------------------------------------------------------------------------

    async def pay(self, asked: views.CreatePayment) -> views.PaymentMade:
        asset, memo = lookup.parse_asset(asked.asset), _memo(asked)
        handle = lookup.channel_to_pay(self._node, asked.to, asked.amount, asset, asked.key)
        return describe.payment(await handle.pay(asked.amount, memo, key=asked.key, timeout=asked.timeout))

    async def incoming(self, asked: views.IncomingPage) -> list[views.IncomingInfo] | Response:
        channel = None if asked.channel is None else lookup.find_channel(self._node, asked.channel).id
        payments = self._node.journal.payments(asked.after, channel)
        if asked.follow:
            return StreamingResponse(Lines(payments), media_type="application/x-ndjson")
        page = payments.take(asked.limit)
        if not page:
            with trio.move_on_after(asked.wait):
                page = [await anext(payments), *payments.take(asked.limit - 1)]
        return [describe.incoming(payment) for payment in page]

    # --- streams -------------------------------------------------------------------------------------------------

    async def streams(self) -> list[views.StreamInfo]:
        found = [(handle, stream) for handle in self._node.channels for side in handle.streams for stream in side]
        return [describe.stream_info(handle, stream) for handle, stream in found]

    async def open_stream(self, channel: str, asked: views.OpenStream) -> views.StreamInfo:
        handle = lookup.find_channel(self._node, channel)
        lifetime: int = rule_of(Lifetime).take(asked.lifetime, "lifetime")
        expiry = self._node.engine.chain.sure + lifetime
        return describe.stream_info(handle, await handle.open_stream(asked.unit, asked.length, expiry=expiry))

    async def pay_units(self, channel: str, lock: str, asked: views.PayUnits) -> views.StreamInfo:
        handle, stream = self._find_stream(channel, lock)
        await stream.pay(asked.units)
        return describe.stream_info(handle, stream)

    async def close_stream(self, channel: str, lock: str) -> views.StreamInfo:
        handle, stream = self._find_stream(channel, lock)
        await stream.close()
        return describe.stream_info(handle, stream)

    def _find_stream(self, channel: str, lock: str) -> tuple[ChannelHandle, OutgoingStream]:
        """Return a stream of ours; raise InvalidInput if none is pending."""
        handle = lookup.find_channel(self._node, channel)
        for stream in handle.streams[0]:
            if str(stream.lock) == lock:
                return handle, stream
        raise InvalidInput("this node pays no such stream in that channel; `tally stream list` shows all")

    # --- being paid ----------------------------------------------------------------------------------------------

    async def create_invoice(self, asked: network.CreateInvoice) -> network.InvoiceInfo:
        record = await self._node.create_invoice(
            asked.amount,
            asked.memo,
            lifetime=asked.lifetime,
            hold=asked.hold,
            payment_hash=_hash(asked.payment_hash, "a payment hash"),
            asset=lookup.parse_asset(asked.asset),
            hints=asked.hints,
        )
        return self._invoice(record)

    async def invoices(self, asked: network.Page) -> list[network.InvoiceInfo]:
        return [self._invoice(record) for record in self._node.invoices(asked.limit, asked.before)]

    async def paid_invoices(self, asked: network.PaidPage) -> list[network.InvoiceInfo]:
        found = self._node.paid_invoices(asked.after)
        page = found.take(asked.limit)
        if not page:
            with trio.move_on_after(asked.wait):
                page = [await anext(found), *found.take(asked.limit - 1)]
        return [self._invoice(record) for record in page]

    async def invoice(self, payment_hash: str, asked: network.Waited) -> network.InvoiceInfo:
        record = lookup.find_invoice_of(self._node, payment_hash)
        with trio.move_on_after(asked.wait):
            while self._state(record.payment_hash) is InvoiceState.OPEN:
                await self._node.paid.news_of(record.payment_hash)
        return self._invoice(self._node.invoice(record.payment_hash))

    async def settle_invoice(self, payment_hash: str, asked: network.Settle) -> network.InvoiceInfo:
        record = lookup.find_invoice_of(self._node, payment_hash)
        secret = _hash(asked.secret, "a secret") or record.secret
        if not secret:
            raise InvalidInput("this node does not know the secret of that invoice: give it, and it will be settled")
        await self._node.settle_invoice(secret)
        return self._invoice(self._node.invoice(record.payment_hash))

    async def cancel_invoice(self, payment_hash: str) -> network.InvoiceInfo:
        record = lookup.find_invoice_of(self._node, payment_hash)
        await self._node.cancel_invoice(record.payment_hash)
        return self._invoice(self._node.invoice(record.payment_hash))

    def _state(self, payment_hash: bytes) -> InvoiceState:
        return self._node.invoice(payment_hash).state(
            self._node.engine.chain.now, self._node.routing.receiving.held_payments
        )

    def _invoice(self, record: InvoiceRecord) -> network.InvoiceInfo:
        return describe.invoice_info(record, self._state(record.payment_hash), self._node.refusal(record.payment_hash))

    # --- paying --------------------------------------------------------------------------------------------------

    async def pay_invoice(self, asked: network.PayInvoice) -> network.PaymentInfo:
        receipt = await self._node.pay(asked.invoice, amount=asked.amount, max_fee=asked.max_fee, timeout=asked.timeout)
        return self._payment(receipt.payment_hash)

    async def pay_across(self, asked: network.PayAcross) -> network.PaymentInfo:
        if "@" in asked.asset:
            give = self._company.place(asked.asset)
        else:
            chain = self._node.chain
            give = ChainAsset(chain.chain_id, chain.contract, lookup.parse_asset(asked.asset))
        makers = [(give, PeerAddress.parse(place)) for place in asked.makers]
        receipt = await self._company.wallet(makers).pay(asked.invoice, give=give, most=asked.most)
        return self._payment(receipt.payment_hash, self._company.node(give))

    async def keysend(self, asked: network.Keysend) -> network.PaymentInfo:
        receipt = await self._node.keysend(
            lookup.parse_node(asked.to),
            asked.amount,
            max_fee=asked.max_fee,
            timeout=asked.timeout,
            secret=_hash(asked.secret, "a secret"),
            asset=lookup.parse_asset(asked.asset),
        )
        return self._payment(receipt.payment_hash)

    async def rebalance(self, asked: network.Rebalance) -> network.PaymentInfo:
        out, back = lookup.find_channel(self._node, asked.out).id, lookup.find_channel(self._node, asked.back).id
        receipt = await self._node.rebalance(out, back, asked.amount, max_fee=asked.max_fee, timeout=asked.timeout)
        return self._payment(receipt.payment_hash)

    async def payments(self, asked: network.PaymentPage) -> list[network.PaymentInfo]:
        found = self._node.payments(asked.limit, asked.before, probes=bool(asked.probes))
        return [describe.payment_info(record, position) for position, record in found]

    async def payment(self, payment_hash: str, asked: network.Waited) -> network.PaymentInfo:
        found = lookup.find_payment_of(self._node, payment_hash).order.payment_hash
        with trio.move_on_after(asked.wait):
            await self._node.routing.outgoing.wait_ended(found)
        return self._payment(found)

    def _payment(self, payment_hash: bytes, node: Node | None = None) -> network.PaymentInfo:
        payer = node or self._node
        return describe.payment_info(payer.payment(payment_hash), None, load_parts(payer.store, payment_hash))

    async def estimate(self, asked: network.Probe) -> network.RouteInfo:
        asset = lookup.parse_asset(asked.asset)
        return describe.route_info(self._node.estimate(lookup.parse_node(asked.to), asked.amount, asset=asset), asset)

    async def probe(self, asked: network.Probe) -> network.RouteInfo:
        to, asset = lookup.parse_node(asked.to), lookup.parse_asset(asked.asset)
        return describe.route_info(await self._node.probe(to, asked.amount, timeout=asked.timeout, asset=asset), asset)

    # --- forwarding ----------------------------------------------------------------------------------------------

    async def forwards(self, asked: network.Page) -> list[network.ForwardInfo]:
        found = self._node.forwards(asked.limit, asked.before or 0)
        return [describe.forward_info(one, self._node.channel(one.circuit.outgoing).asset) for one in found]

    async def policy(self, channel: str) -> network.PolicyInfo:
        handle = lookup.find_channel(self._node, channel)
        return describe.policy_info(handle, self._node.policy(handle.id))

    async def set_policy(self, channel: str, asked: network.SetPolicy) -> network.PolicyInfo:
        handle = lookup.find_channel(self._node, channel)
        changes = {name: value for name, value in msgspec.structs.asdict(asked).items() if value is not None}
        for name, value in changes.items():
            if name != "enabled":
                check_amount(value, name)
        await self._node.set_policy(handle.id, msgspec.structs.replace(self._node.policy(handle.id), **changes))
        return describe.policy_info(handle, self._node.policy(handle.id))

    async def graph(self) -> network.GraphInfo:
        return describe.graph_info(self._node)


def _hash(text: str, what: str) -> bytes:
    """Read 32 bytes in hex, or none at all; raise InvalidInput if it is something else."""
    return lookup.parse_hex(text, 32, what) if text else b""


def _memo(asked: views.CreatePayment) -> bytes:
    if asked.memo and asked.memo_hex:
        raise InvalidInput("give `memo` or `memo_hex`, not both")
    try:
        return asked.memo.encode() if asked.memo else bytes.fromhex(asked.memo_hex)
    except ValueError as error:
        raise InvalidInput("the memo is neither text nor hex") from error


class Lines:
    """Received payments as NDJSON, for ever. Not a generator, as nobody closes one when its client has gone."""

    def __init__(self, payments: ReceivedPayments) -> None:
        self._payments = payments
        self._begun = False

    def __aiter__(self) -> Lines:
        return self

    async def __anext__(self) -> bytes:
        """Return the next line; at first an empty part, which makes the server send its headers."""
        if not self._begun:
            self._begun = True
            return b""
        return msgspec.json.encode(describe.incoming(await anext(self._payments))) + b"\n"
