"""Finds what a user names: a channel, invoice or payment by the beginning of its id, a peer by its key or address."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from tallystick.channels.errors import ChannelNotReady, InsufficientFunds, InvalidInput
from tallystick.channels.node.app_store import PlayedApp, apps_beginning
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.protocol.objects import Address, to_address
from tallystick.channels.storage.schema import payment_of
from tallystick.channels.values.argument_rules import show
from tallystick.router.objects import NodeKey
from tallystick.router.receiving.issued import InvoiceRecord, find_invoice, invoices_beginning
from tallystick.router.sending.payments import PaymentRecord, payments_beginning
from tallystick.sdk.node.apps import AppHandle, ProposedApp
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Node

PREFIX_MIN = 4
"""Hex digits that name a channel or a payment at least, so that a slip names none."""

PROPOSAL_MIN = 16
"""Hex digits that name a proposal at least to be accepted: its peer chooses the id, and could make another one that
begins with a few of the same."""

Found = TypeVar("Found")


class UnknownChannel(InvalidInput):
    """No channel of this node has that id."""


class UnknownHash(InvalidInput):
    """This node has no invoice or payment of that hash."""


class UnknownApp(InvalidInput):
    """This node plays no app of that id, and nobody proposes one."""


def find_channel(node: Node, text: str) -> ChannelHandle:
    """Return the channel whose id begins so; raise UnknownChannel, or InvalidInput if several do."""
    prefix = _prefix(text, f"a channel is named by at least {PREFIX_MIN} hex digits of its id")
    found = [channel for channel in node.channels if channel.id.hex().startswith(prefix)]
    unknown = UnknownChannel(f"this node has no channel {text}; `tally channel list` shows all")
    return _only(found, unknown, f"channels begin with {text}: give more digits of the id")


def find_hubs(node: Node, names: Sequence[str], asset: Address) -> tuple[Address, list[Address]]:
    """Return the asset and the addresses of hubs, named as in `OpenVirtual.hubs`; raise InvalidInput."""
    graph, hubs = node.routing.maps.graph(asset), list[Address]()
    for name in names:
        if re.fullmatch("(0x)?[0-9a-fA-F]{40}", name):
            hubs.append(to_address(name, "over"))
        elif not hubs:
            first = find_channel(node, name)
            asset = first.asset
            graph = node.routing.maps.graph(asset)
            hubs.append(first.peer.address)
        else:
            prefix = _prefix(name, f"a channel is named by at least {PREFIX_MIN} hex digits of its id")
            edges = (edge for edge in graph if edge.channel.hex().startswith(prefix))
            found = [edge.target for edge in edges if PublicKey(edge.source).address == hubs[-1]]
            unknown = UnknownChannel(f"0x{hubs[-1].hex()} is known to have no channel {name}")
            hubs.append(PublicKey(_only(found, unknown, f"channels begin with {name}: give more digits")).address)
    return asset, hubs


def find_invoice_of(node: Node, text: str) -> InvoiceRecord:
    """Return our invoice whose payment hash begins so; raise UnknownHash, or InvalidInput if several do."""
    prefix = _hash_prefix(text)
    if len(prefix) == 64:
        record = find_invoice(node.store, bytes.fromhex(prefix))
        found = [] if record is None else [record]
    else:
        found = invoices_beginning(node.store, prefix)
    unknown = UnknownHash(f"this node has no invoice of hash {text}; `tally invoice list` shows all")
    return _only(found, unknown, "payment hashes begin so: give more digits")


def find_payment_of(node: Node, text: str) -> PaymentRecord:
    """Return our payment whose hash begins so; raise UnknownHash, or InvalidInput if several do."""
    found = payments_beginning(node.store, _hash_prefix(text))
    unknown = UnknownHash(f"this node made no payment of hash {text}; `tally payments` shows all")
    return _only(found, unknown, "payment hashes begin so: give more digits")


def find_app(node: Node, text: str) -> PlayedApp:
    """Return the app, over or not or only proposed, whose id begins so.

    Raise UnknownApp if there is none, InvalidInput if there are several. One that is not over goes first.
    """
    prefix = _app_prefix(text)
    known = {played.held.instance: played for played in apps_beginning(node.store, prefix)}
    going = {each.held.instance: each for each in (*node.apps.apps.playing, *node.apps.apps.heard)}
    begun = [played for name, played in going.items() if name.hex().startswith(prefix)]
    unknown = UnknownApp(f"this node plays no app {text}, and nobody proposes it; `tally app list` shows all")
    return _only(begun or list(known.values()), unknown, f"apps begin with {text}: give more digits of the id")


def find_played(node: Node, text: str) -> AppHandle:
    """Return the app that is played, over or not, whose id begins so: what peers propose does not count.

    Raise UnknownApp if there is none, InvalidInput if there are several.
    """
    prefix = _app_prefix(text)
    playing = [handle for handle in node.apps if handle.instance.hex().startswith(prefix)]
    over = [] if playing else [node.apps.find(each.held.instance) for each in apps_beginning(node.store, prefix)]
    if any(proposed.instance.hex().startswith(prefix) for proposed in node.apps.proposed):
        unknown = UnknownApp(f"{text} is only proposed yet: `tally app accept` says yes to it")
    else:
        unknown = UnknownApp(f"this node plays no app {text}; `tally app list` shows all")
    return _only(playing or over, unknown, f"apps begin with {text}: give more digits of the id")


def find_proposal(node: Node, text: str) -> ProposedApp:
    """Return what a peer proposes, by PROPOSAL_MIN digits of its id at least; raise as `find_app` does."""
    prefix = _app_prefix(text)
    if len(prefix) < PROPOSAL_MIN:
        raise InvalidInput(
            f"to accept an app, name it by at least {PROPOSAL_MIN} hex digits of its id: few could be another's, which "
            "its peer made to look like it"
        )
    found = [each for each in node.apps.proposed if each.instance.hex().startswith(prefix)]
    unknown = UnknownApp(f"nobody proposes an app {text} now: `tally app proposals` lists what waits for an answer")
    return _only(found, unknown, "proposals begin so: give more digits")


def parse_hex(text: str, size: int, what: str) -> bytes:
    """Read so many bytes in hex; raise InvalidInput if it is something else."""
    digits = text.lower().removeprefix("0x")
    if not re.fullmatch(f"[0-9a-f]{{{2 * size}}}", digits):
        raise InvalidInput(f"{what} is written with {2 * size} hex digits, not with {len(text)} characters")
    return bytes.fromhex(digits)


def parse_node(text: str) -> NodeKey:
    """Read a node's public key, or its address; raise InvalidInput if it is neither."""
    return NodeKey(bytes(PublicKey(parse_hex(text.partition("@")[0], 33, "a node's public key"))))


def parse_asset(text: str) -> Address:
    """Read an asset's address; raise InvalidInput if it is none."""
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{40}", text):
        raise InvalidInput(f"an asset is written 0x and 40 hex digits, not {show(text)}")
    return to_address(text, "asset")


def parse_peer(text: str) -> PeerAddress | PublicKey:
    """Read `<public key>@<host>:<port>` or a public key alone; raise InvalidInput if it is neither."""
    if "@" in text:
        return PeerAddress.parse(text)
    if not re.fullmatch(r"[0-9a-fA-F]{66}", text):
        raise InvalidInput(
            f"a peer is written <public key in hex>@<host>:<port>, or its public key alone, not {show(text)}"
        )
    return PublicKey(bytes.fromhex(text))


def channel_to_pay(node: Node, text: str, amount: int, asset: Address, key: str) -> ChannelHandle:
    """Return the channel in which `text` (a channel or a peer) is to be paid; raise InvalidInput if there is none.

    For a peer: where this idempotency key was used before, else the open channel that can send the most.
    """
    if "@" not in text and not (len(text) == 66 and text.startswith(("02", "03"))):
        return find_channel(node, text)
    place = parse_peer(text)
    peer = place if isinstance(place, PublicKey) else PublicKey(place.key)
    candidates = [channel for channel in node.channels if channel.peer == peer and channel.asset == asset]
    before = _used_before(node, candidates, key) if key else None
    if before is not None:
        return before
    usable = [channel for channel in candidates if channel.view.payable]
    if not usable and any(channel.closing for channel in candidates):
        raise ChannelNotReady(
            f"the channel with the peer {bytes(peer).hex()[:16]}… is about to close: open another one, "
            "`tally channel open`, once it has"
        )
    if not usable:
        raise ChannelNotReady(
            f"there is no open channel with the peer {bytes(peer).hex()[:16]}…: open one with `tally channel open`"
        )
    best = max(usable, key=lambda channel: channel.spendable)
    if best.spendable < amount:
        raise InsufficientFunds(
            f"no channel with that peer can send {amount} now, the most is {best.spendable}: deposit more"
        )
    return best


def _used_before(node: Node, channels: list[ChannelHandle], key: str) -> ChannelHandle | None:
    signed = payment_of(node.store, key)
    for channel in channels:
        if (signed is not None and signed[0] == channel.id) or node.engine.views.ticket(channel.id, key) is not None:
            return channel
    return None


def _hash_prefix(text: str) -> str:
    return _prefix(text, f"a payment is named by at least {PREFIX_MIN} hex digits of its hash", "64")


def _app_prefix(text: str) -> str:
    return _prefix(text, f"an app is named by at least {PREFIX_MIN} hex digits of its id", "64")


def _prefix(text: str, named: str, most: str = "") -> str:
    """Return hex digits in lower case, PREFIX_MIN to `most` of them; raise InvalidInput if it is something else."""
    prefix = text.lower().removeprefix("0x")
    if not re.fullmatch(f"[0-9a-f]{{{PREFIX_MIN},{most}}}", prefix):
        raise InvalidInput(f"{named}, not {show(text)}")
    return prefix


def _only(found: Sequence[Found], unknown: InvalidInput, several: str) -> Found:
    if not found:
        raise unknown
    if len(found) > 1:
        raise InvalidInput(f"{len(found)} {several}")
    return found[0]
