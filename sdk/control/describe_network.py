"""Describes payments over several hops in the control API's vocabulary (`network_views`)."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.router.forwarding.circuits import ForwardRecord
from tallystick.router.objects import ForwardingPolicy, Route
from tallystick.router.receiving.issued import InvoiceRecord, InvoiceState
from tallystick.router.receiving.service import PartRefused
from tallystick.router.sending.payments import PartRecord, PaymentRecord
from tallystick.sdk.control import network_views as views
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Node


def invoice_info(record: InvoiceRecord, state: InvoiceState, refusal: PartRefused | None = None) -> views.InvoiceInfo:
    """Describe an invoice, or a payment that came without one."""
    return views.InvoiceInfo(
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


def route_info(route: Route, asset: Address) -> views.RouteInfo:
    """Describe a route of payments in an asset."""
    hops = tuple(views.HopInfo(hop.channel.hex(), hop.node.hex(), hop.amount) for hop in route.hops)
    return views.RouteInfo(route.delivered, route.fee, hops, _hex(asset))


def payment_info(
    record: PaymentRecord, position: int | None = None, parts: Sequence[PartRecord] | None = None
) -> views.PaymentInfo:
    """Describe a payment of ours."""
    order = record.order
    return views.PaymentInfo(
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


def _part(part: PartRecord, asset: Address, paid: bool) -> views.PartInfo:
    """Describe a part. Of a payment whose secret is out, what is under way will be claimed."""
    state = "failed" if part.ended and not part.secret else "paid" if paid else "pending"
    return views.PartInfo(state, route_info(part.route, asset))


def forward_info(forward: ForwardRecord, asset: Address) -> views.ForwardInfo:
    """Describe a payment that was carried for others, in an asset."""
    circuit = forward.circuit
    return views.ForwardInfo(
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


def policy_info(channel: ChannelHandle, policy: ForwardingPolicy) -> views.PolicyInfo:
    """Describe what is asked for payments over a channel, outwards."""
    return views.PolicyInfo(
        channel=channel.id.hex(),
        base_fee=policy.base_fee,
        fee_ppm=policy.fee_ppm,
        minimum=policy.minimum,
        maximum=policy.maximum,
        margin=policy.margin,
        enabled=policy.enabled,
        asset=_hex(channel.asset),
    )


def graph_info(node: Node) -> views.GraphInfo:
    """Describe how much of the network a node knows."""
    asset_graphs, gossip = node.routing.maps, node.routing.gossip.statistics()
    graphs = {asset: asset_graphs.graph(asset) for asset in asset_graphs}
    known = tuple(views.AssetGraphInfo(_hex(asset), len(graph.nodes), len(graph)) for asset, graph in graphs.items())
    coin = graphs[NATIVE]
    return views.GraphInfo(len(coin.nodes), gossip.channels, len(coin), gossip.peers, gossip.pending, known)


def _hex(asset: Address) -> str:
    return "0x" + asset.hex()
