"""How results look to people: rich tables."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from tallystick.sdk.control.views import NATIVE_ASSET, ChannelInfo, Incoming, NodeInfo, PeerInfo


def _facts(rows: dict[str, object]) -> None:
    table = Table(show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, str(value))
    Console().print(table, markup=False)


def _asset(asset: str) -> str:
    return "the chain's own coin" if asset == NATIVE_ASSET else asset


def show_node(info: NodeInfo) -> None:
    """Print what a node is."""
    _facts(
        {
            "address": info.address,
            "public key": info.public_key,
            "peers reach": info.peer_address or "nothing here: it only dials",
            "chain": f"{info.chain_id}, contract {info.contract}, at block {info.block}",
            "channels": info.channels,
            "connected": f"{info.connected_peers} peers",
        }
    )
    for text in info.alarms:
        Console().print(f"alarm: {text}", style="red", markup=False, highlight=False)


def show_channel(channel: ChannelInfo) -> None:
    """Print one channel."""
    _facts(
        {
            "channel": channel.id,
            "peer": f"{channel.peer} ({'connected' if channel.connected else 'not connected'})",
            "phase": channel.phase,
            "asset": _asset(channel.asset),
            "balance": f"{channel.balance} own, {channel.peer_balance} the peer's",
            "spendable": f"{channel.spendable} (a reserve of {channel.reserve} stays)",
            "deposits": f"{channel.deposits[0]} own, {channel.deposits[1]} the peer's",
            "withdrawn": f"{channel.withdrawn[0]} own, {channel.withdrawn[1]} the peer's",
            "payments": f"{channel.payments_sent} sent, {channel.payments_received} received",
            "challenge": f"{channel.challenge_period} s",
        }
    )


def show_channels(channels: list[ChannelInfo]) -> None:
    """Print a table of channels."""
    table = Table("channel", "peer", "phase", "connected")
    for name in ("balance", "peer's", "spendable", "sent", "received"):
        table.add_column(name, justify="right")
    for c in channels:
        figures = (c.balance, c.peer_balance, c.spendable, c.payments_sent, c.payments_received)
        table.add_row(c.id[:16], c.peer[:16], c.phase, "yes" if c.connected else "no", *map(str, figures))
    Console().print(table)


def show_peers(peers: list[PeerInfo]) -> None:
    """Print a table of peers."""
    table = Table("public key", "found at", "connected", "channels")
    for peer in peers:
        place = peer.place.partition("@")[2] if peer.place else "-"
        table.add_row(peer.public_key, place, "yes" if peer.connected else "no", str(peer.channels))
    Console().print(table)


def show_statistics(figures: dict[str, Any]) -> None:
    """Print a table of counters."""
    table = Table("part", "counter", "value")
    for part, found in figures.items():
        for counters in found if isinstance(found, list) else [found]:
            for name, value in counters.items():
                table.add_row(part, name.replace("_", " "), str(value))
    Console().print(table)


def incoming_line(payment: Incoming) -> str:
    """Return one received payment as a line."""
    when = datetime.fromtimestamp(payment.time).isoformat(" ", "seconds")
    memo = repr(payment.memo) if payment.memo is not None else f"0x{payment.memo_hex}"
    return f"{when}  {payment.amount:>12}  channel {payment.channel[:16]}  memo {memo}  cursor {payment.cursor}"
