"""Describes a node's objects in the control API's vocabulary (`views`)."""

from __future__ import annotations

from tallystick.channels.node.alarms import Alarm
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.session.tickets import Receipt
from tallystick.sdk.control import views
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.incoming import IncomingPayment
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.streams import IncomingStream, OutgoingStream


def node_info(node: Node, alarms: tuple[Alarm, ...]) -> views.NodeInfo:
    """Describe a node."""
    return views.NodeInfo(
        address="0x" + node.address.hex(),
        public_key=bytes(node.key.public).hex(),
        peer_address=str(node.listening) if node.listening else None,
        chain_id=node.chain.chain_id,
        contract="0x" + node.chain.contract.hex(),
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
    mine, other = channel.side, channel.peer_side
    return views.ChannelInfo(
        id=handle.id.hex(),
        peer=bytes(handle.peer).hex(),
        peer_address="0x" + handle.peer.address.hex(),
        asset="0x" + handle.asset.hex(),
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
        address="0x" + PublicKey(key).address.hex(),
        place=str(place) if place else None,
        connected=key in node.peers.connected_peers(),
        channels=sum(bytes(channel.peer) == key and not is_gone(channel) for channel in node.channels),
    )


def _text(memo: bytes) -> str | None:
    try:
        return memo.decode()
    except UnicodeDecodeError:
        return None
