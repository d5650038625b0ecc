"""What nodes say of themselves and of their channels: signed, bounded, numbered by time.

A `NodeAnnouncement` tells a node's name and addresses, a `ChannelUpdate` what its signer asks for carrying payments
out of one channel, a `MarketAnnouncement` at which rates a maker carries payments across chains (`markets`). All of
them replace what the same key said before with a lower timestamp; of two with the same timestamp, the one with the
lower digest stands, so that all nodes come to keep the same one. They are signed by the node's key as EIP-712 typed
data under the adjudicator's domain: what is said for one chain and contract means nothing on another. The fields of the
first two are those of BOLT 7's `node_announcement` and `channel_update`; there is no `channel_announcement`, as the
chain knows the channels and whose they are.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, TypeAlias

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PrivateKey, PublicKey, keccak
from tallystick.channels.protocol.objects import Address, ChannelId, Id, Side
from tallystick.router.errors import GossipRefused
from tallystick.router.gossip.markets import (
    MARKET_FIELDS,
    MarketAnnouncement,
    MarketOffer,
    pack_market,
)
from tallystick.router.objects import ForwardingPolicy, Key33, NodeKey

ALIAS_BYTES_MAX = 32
"""Bytes of a node's name in UTF-8."""

ADDRESSES_MAX = 4
"""Addresses of one node."""

ADDRESS_LENGTH_MAX = 261
"""Characters of one address: a host name of 255, a colon, a port."""

FEATURES_MAX = 32
"""Bytes of the bit field of features."""

Timestamp = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]

_SIGNED = {
    "ChannelUpdate": (
        "bytes32 channel,uint8 side,bytes key,uint64 timestamp,uint128 baseFee,uint32 feePpm,uint128 minimum,"
        "uint128 maximum,uint32 margin,bool enabled"
    ),
    "NodeAnnouncement": "bytes key,uint64 timestamp,string alias,string[] addresses,bytes features",
    **MARKET_FIELDS,
}
TYPES = {
    name: [dict(zip(("type", "name"), field.split(), strict=True)) for field in fields.split(",")]
    for name, fields in _SIGNED.items()
}
"""The descriptions that wallets take, as in `channels/protocol/eip712.py`."""


class ChannelUpdate(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What the participant `side` of a channel asks for carrying payments out of it."""

    channel: Id
    side: Side
    key: Key33
    """The signer: its address must be that of the participant `side` on chain."""
    timestamp: Timestamp
    """Unix seconds by the signer's clock; a higher one replaces a lower one."""
    policy: ForwardingPolicy
    signature: Signature = bytes(64)


class NodeAnnouncement(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A node's name and where it can be reached."""

    key: Key33
    timestamp: Timestamp
    alias: Annotated[str, msgspec.Meta(max_length=ALIAS_BYTES_MAX)] = ""
    """Chosen by the node, unique to nobody: printable, at most 32 bytes in UTF-8."""
    addresses: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=ADDRESS_LENGTH_MAX)], ...], msgspec.Meta(max_length=ADDRESSES_MAX)
    ] = ()
    """Each `<host>:<port>`; IPv6 in brackets."""
    features: Annotated[bytes, msgspec.Meta(max_length=FEATURES_MAX)] = b""
    """Bit field; no bit has a meaning yet."""
    signature: Signature = bytes(64)


Announcement: TypeAlias = ChannelUpdate | NodeAnnouncement | MarketAnnouncement


class Description(msgspec.Struct, frozen=True):
    """What a node says of itself: see `NodeAnnouncement`."""

    alias: str = ""
    addresses: tuple[str, ...] = ()
    features: bytes = b""


_CHANNEL_UPDATE, _NODE_ANNOUNCEMENT = (
    keccak(f"{name}({_SIGNED[name]})".encode()) for name in ("ChannelUpdate", "NodeAnnouncement")
)
_ADDRESS = re.compile(r"[\x21-\x7e]{1,255}:([0-9]{1,5})", re.ASCII)


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def digest_of(domain: bytes, announcement: Announcement) -> bytes:
    """Return what is signed (32 bytes), under the domain of `eip712.domain_separator`.

    Raise GossipRefused if a field is out of its bounds.
    """
    match announcement:
        case ChannelUpdate():
            packed = _pack_update(announcement)
        case NodeAnnouncement():
            packed = _pack_node(announcement)
        case MarketAnnouncement():
            packed = pack_market(announcement)
    return keccak(b"\x19\x01" + domain + keccak(packed))


def _pack_update(update: ChannelUpdate) -> bytes:
    policy = update.policy
    if flaw := policy.flaw():
        raise GossipRefused(flaw)
    head = _CHANNEL_UPDATE + update.channel + _word(update.side) + keccak(update.key)
    return head + b"".join(map(_word, (update.timestamp, *msgspec.structs.astuple(policy))))


def _pack_node(node: NodeAnnouncement) -> bytes:
    alias = node.alias.encode("utf-8", "replace")
    if len(alias) > ALIAS_BYTES_MAX or not node.alias.isprintable():
        raise GossipRefused(f"a node's alias must be printable and have at most {ALIAS_BYTES_MAX} bytes in UTF-8")
    for address in node.addresses:
        match = _ADDRESS.fullmatch(address)
        if match is None or not 0 < int(match[1]) <= 65_535:
            raise GossipRefused(f"a node's address is written <host>:<port>, not {address!r}")
    addresses = keccak(b"".join(keccak(address.encode()) for address in node.addresses))
    return b"".join(
        (_NODE_ANNOUNCEMENT, keccak(node.key), _word(node.timestamp), keccak(alias), addresses, keccak(node.features))
    )


@lru_cache(maxsize=8192)
def _parse(key: bytes) -> PublicKey:
    try:
        return PublicKey(key)
    except InvalidInput as error:
        raise GossipRefused("an announcement's key is no point of secp256k1") from error


def address_of(key: NodeKey) -> Address:
    """Return the address of a key; raise GossipRefused if it is none."""
    return _parse(key).address


def signer_address(announcement: Announcement) -> Address:
    """Return the address of the key that an announcement names; raise GossipRefused if it is no key."""
    return _parse(announcement.key).address


def verify_announcement(announcement: Announcement, digest: bytes) -> None:
    """Raise InvalidSignature or GossipRefused unless its key signed `digest`, which is the announcement's own."""
    _parse(announcement.key).verify(digest, announcement.signature)


def check_signer(announcement: Announcement, participants: tuple[Address, Address]) -> None:
    """Raise GossipRefused if this is an update by anybody but its side's participant of the channel."""
    if isinstance(announcement, ChannelUpdate) and signer_address(announcement) != participants[announcement.side]:
        raise GossipRefused(
            f"an update of channel {announcement.channel.hex()} is signed by 0x{signer_address(announcement).hex()}, "
            f"which is not its participant {announcement.side}"
        )


def sign_update(
    key: PrivateKey, domain: bytes, channel: ChannelId, side: int, timestamp: int, policy: ForwardingPolicy
) -> ChannelUpdate:
    """Return a signed channel update; raise GossipRefused if the policy cannot be announced."""
    update = ChannelUpdate(channel, side, NodeKey(bytes(key.public)), timestamp, policy)
    return msgspec.structs.replace(update, signature=key.sign(digest_of(domain, update)))


def sign_node(key: PrivateKey, domain: bytes, timestamp: int, said: Description) -> NodeAnnouncement:
    """Return a signed node announcement; raise GossipRefused if a field is out of its bounds."""
    if len(said.addresses) > ADDRESSES_MAX or len(said.features) > FEATURES_MAX:
        raise GossipRefused(f"a node announces at most {ADDRESSES_MAX} addresses and {FEATURES_MAX} bytes of features")
    node = NodeAnnouncement(NodeKey(bytes(key.public)), timestamp, said.alias, said.addresses, said.features)
    return msgspec.structs.replace(node, signature=key.sign(digest_of(domain, node)))


def sign_market(
    key: PrivateKey, domain: bytes, timestamp: int, until: int, offers: tuple[MarketOffer, ...]
) -> MarketAnnouncement:
    """Return what a maker asks for, signed; raise GossipRefused if a field is out of its bounds."""
    market = MarketAnnouncement(NodeKey(bytes(key.public)), timestamp, until, offers)
    return msgspec.structs.replace(market, signature=key.sign(digest_of(domain, market)))


def replaces(timestamp: int, digest: bytes, old_timestamp: int, old_digest: bytes) -> bool:
    """Whether the first version stands against the second: a total order, the same for all nodes."""
    return timestamp > old_timestamp or (timestamp == old_timestamp and digest < old_digest)
