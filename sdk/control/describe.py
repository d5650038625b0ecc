"""Describes a node's objects in the control API's vocabulary (`views`, `network_views`)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tallystick.channels.node.alarms import Alarm
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.session.tickets import Receipt
from tallystick.router.forwarding.circuits import ForwardRecord
from tallystick.router.objects import ForwardingPolicy, Route
from tallystick.router.receiving.issued import InvoiceRecord, InvoiceState
from tallystick.router.receiving.service import PartRefused
from tallystick.router.sending.payments import PartRecord, PaymentRecord
from tallystick.sdk.control import network_views as network
from tallystick.sdk.control import views
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.incoming import IncomingPayment
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.streams import IncomingStream, OutgoingStream


def node_info(node: Node, alarms: tuple[Alarm, ...]) -> views.NodeInfo:
    """Describe a node."""
    return views.NodeInfo(
        address=_hex(node.address),
        public_key=bytes(node.key.public).hex(),
        peer_address=str(node.listening) if node.listening else None,
        chain_id=node.chain.chain_id,
        contract=_hex(node.chain.contract),
        block=node.onchain.index.head_number,
        block_time=node.onchain.index.head_time,
        channels=sum(not is_gone(channel) for channel in node.channels),
        connected_peers=len(node.peers.connected_peers()),
        alarms=(*node.alarms, *alarms),
        waiting_for=node.waiting_for,
        ready=node.ready.is_set() and node.onchain.fresh,
        cursor=node.cursor,
    )


def is_gone(channel: ChannelHandle) -> bool:
    """Whether nothing of a channel is left on chain."""
    return channel.phase is Phase.GONE


def channel_info(handle: ChannelHandle) -> views.ChannelInfo:
    """Describe a channel."""
    view, (own, peers) = handle.view, handle.balances
    channel = view.channel
    sent, received = handle.payments
    mine, other, awaited = channel.side, channel.peer_side, handle.awaited
    return views.ChannelInfo(
        id=handle.id.hex(),
        peer=bytes(handle.peer).hex(),
        peer_address=_hex(handle.peer.address),
        asset=_hex(handle.asset),
        phase=handle.phase.name.lower(),
        connected=handle.connected,
        balance=own,
        peer_balance=peers,
        spendable=handle.spendable if handle.phase is Phase.OPEN else 0,
        receivable=max(0, peers - channel.coming_reserve) if view.payable else 0,
        reserve=channel.coming_reserve,
        deposits=(channel.deposits[mine], channel.deposits[other]),
        withdrawn=(channel.withdrawn[mine], channel.withdrawn[other]),
        payments_sent=sent,
        payments_received=received,
        challenge_period=channel.terms.challenge_period,
        closing=handle.closing,
        virtual=channel.is_virtual,
        awaited=None if awaited is None else views.Awaited(awaited.seen, awaited.wanted, awaited.at_risk),
        uncounted=max(0, channel.funding(mine) - view.funding) if view.ready and handle.phase is Phase.OPEN else 0,
    )


def payment(receipt: Receipt) -> views.PaymentMade:
    """Describe a payment that was made."""
    return views.PaymentMade(
        channel=receipt.channel.hex(),
        payment=receipt.payment,
        amount=receipt.amount,
        memo=_text(receipt.memo),
        memo_hex=receipt.memo.hex(),
        seq=receipt.seq,
        accepted=receipt.accepted,
        secured=receipt.secured,
    )


def incoming(received: IncomingPayment) -> views.IncomingInfo:
    """Describe a payment that was received."""
    return views.IncomingInfo(
        channel=received.channel.hex(),
        payment=received.payment,
        amount=received.amount,
        memo=_text(received.memo),
        memo_hex=received.memo.hex(),
        time=received.time,
        cursor=received.cursor,
    )


def stream_info(handle: ChannelHandle, stream: OutgoingStream | IncomingStream) -> views.StreamInfo:
    """Describe a stream that is pending, or has just ended."""
    return views.StreamInfo(
        channel=handle.id.hex(),
        lock=stream.lock,
        direction="out" if isinstance(stream, OutgoingStream) else "in",
        unit=stream.unit,
        length=stream.length,
        units=stream.secured if isinstance(stream, OutgoingStream) else stream.received,
        expiry=stream.expiry,
        ended=stream.ended,
    )


def peer_info(node: Node, key: bytes, place: PeerAddress | None) -> views.PeerInfo:
    """Describe a peer."""
    return views.PeerInfo(
        public_key=key.hex(),
        address=_hex(PublicKey(key).address),
        place=str(place) if place else None,
        connected=key in node.peers.connected_peers(),
        channels=sum(bytes(channel.peer) == key and not is_gone(channel) for channel in node.channels),
    )


def invoice_info(record: InvoiceRecord, state: InvoiceState, refusal: PartRefused | None = None) -> network.InvoiceInfo:
    """Describe an invoice, or a payment that came without one."""
    return network.InvoiceInfo(
        payment_hash=record.payment_hash.hex(),
        state=state.value,
        amount=record.amount or None,
        received=record.received,
        memo=record.memo,
        invoice=record.text,
        created=record.created,
        expires=record.expires,
        ended=record.ended,
        hold=record.hold,
        secret=record.secret.hex() if state is InvoiceState.CLAIMED else None,
        position=record.position,
        paid=record.paid,
        refused="" if refusal is None else str(refusal),
        asset=_hex(record.asset),
    )


def route_info(route: Route, asset: Address) -> network.RouteInfo:
    """Describe a route of payments in an asset."""
    hops = tuple(network.HopInfo(hop.channel.hex(), hop.node.hex(), hop.amount) for hop in route.hops)
    return network.RouteInfo(route.delivered, route.fee, hops, _hex(asset))


def payment_info(
    record: PaymentRecord, position: int | None = None, parts: Sequence[PartRecord] | None = None
) -> network.PaymentInfo:
    """Describe a payment of ours."""
    order = record.order
    return network.PaymentInfo(
        payment_hash=order.payment_hash.hex(),
        state="paid" if record.is_paid else "pending" if record.ended is None else "failed",
        kind=order.kind.value,
        to=order.target.hex(),
        amount=order.amount,
        fee=record.fee,
        max_fee=order.max_fee,
        memo=order.memo,
        invoice=order.invoice,
        secret=record.secret.hex() if record.is_paid else None,
        reason=record.reason.value if record.reason else None,
        text=record.text,
        created=order.created,
        ended=record.ended,
        position=position,
        parts=None if parts is None else tuple(_part(part, order.asset, record.is_paid) for part in parts),
        asset=_hex(order.asset),
    )


def _part(part: PartRecord, asset: Address, paid: bool) -> network.PartInfo:
    """Describe a part. Of a payment whose secret is out, what is under way will be claimed."""
    state = "failed" if part.ended and not part.secret else "paid" if paid else "pending"
    return network.PartInfo(state, route_info(part.route, asset))


def forward_info(forward: ForwardRecord, asset: Address) -> network.ForwardInfo:
    """Describe a payment that was carried for others, in an asset."""
    circuit = forward.circuit
    return network.ForwardInfo(
        position=forward.position,
        incoming=circuit.incoming.hex(),
        outgoing=circuit.outgoing.hex(),
        amount_in=circuit.amount_in,
        amount_out=circuit.amount_out,
        fee=circuit.fee,
        outcome=forward.outcome.name.lower(),
        began=circuit.began,
        ended=forward.ended,
        asset=_hex(asset),
    )


def policy_info(channel: ChannelHandle, policy: ForwardingPolicy) -> network.PolicyInfo:
    """Describe what is asked for payments over a channel, outwards."""
    asked = msgspec.structs.asdict(policy)
    return network.PolicyInfo(channel=channel.id.hex(), asset=_hex(channel.asset), **asked)


def graph_info(node: Node) -> network.GraphInfo:
    """Describe how much of the network a node knows."""
    asset_graphs, gossip = node.routing.maps, node.routing.gossip.core.statistics()
    graphs = {asset: asset_graphs.graph(asset) for asset in asset_graphs}
    known = tuple(network.AssetGraphInfo(_hex(asset), len(graph.nodes), len(graph)) for asset, graph in graphs.items())
    coin = graphs[NATIVE]
    return network.GraphInfo(len(coin.nodes), gossip.channels, len(coin), gossip.peers, gossip.pending, known)


def _text(memo: bytes) -> str | None:
    try:
        return memo.decode()
    except UnicodeDecodeError:
        return None


def _hex(address: Address) -> str:
    return "0x" + address.hex()
