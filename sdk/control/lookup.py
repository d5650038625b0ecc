"""Finds what a user names: a channel by the beginning of its id, a peer by key or address, a channel to pay it in."""

from __future__ import annotations

from tallystick.channels.errors import ChannelNotReady, InsufficientFunds, InvalidInput
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.protocol.objects import Address, to_address
from tallystick.channels.storage.schema import payment_of
from tallystick.channels.values.argument_rules import show
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Node

PREFIX_MIN = 4
"""Hex digits that name a channel at least, so that a slip names none."""


class UnknownChannel(InvalidInput):
    """No channel of this node has that id."""


def find_channel(node: Node, text: str) -> ChannelHandle:
    """Return the channel whose id begins so; raise UnknownChannel, or InvalidInput if several do."""
    prefix = text.lower().removeprefix("0x")
    if len(prefix) < PREFIX_MIN or not _is_hex(prefix):
        raise InvalidInput(f"a channel is named by at least {PREFIX_MIN} hex digits of its id, not {show(text)}")
    found = [channel for channel in node.channels if channel.id.hex().startswith(prefix)]
    if not found:
        raise UnknownChannel(f"this node has no channel {text}; `tally channel list` shows all")
    if len(found) > 1:
        raise InvalidInput(f"{len(found)} channels begin with {text}: give more digits of the id")
    return found[0]


def parse_asset(text: str) -> Address:
    """Read an asset's address; raise InvalidInput if it is none."""
    digits = text.removeprefix("0x")
    if len(digits) != 40 or not _is_hex(digits):
        raise InvalidInput(f"an asset is written 0x and 40 hex digits, not {show(text)}")
    return to_address(text, "asset")


def parse_peer(text: str) -> PeerAddress | PublicKey:
    """Read `<public key>@<host>:<port>` or a public key alone; raise InvalidInput if it is neither."""
    if "@" in text:
        return PeerAddress.parse(text)
    if not _is_hex(text) or len(text) != 66:
        raise InvalidInput(
            f"a peer is written <public key in hex>@<host>:<port>, or its public key alone, not {show(text)}"
        )
    return PublicKey(bytes.fromhex(text))


def channel_to_pay(node: Node, text: str, amount: int, asset: Address, key: str) -> ChannelHandle:
    """Return the channel in which `text` (a channel or a peer) is to be paid; raise InvalidInput if there is none.

    For a peer: where this idempotency key was used before, else the open channel that can send the most.
    """
    if not _names_peer(text):
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


def _names_peer(text: str) -> bool:
    return "@" in text or (len(text) == 66 and text[:2] in ("02", "03"))


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdefABCDEF" for character in text) and text.isascii()
