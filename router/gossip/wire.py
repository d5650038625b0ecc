"""The messages of gossip: typed, numbered, bounded. Peer bytes enter in `decode` only.

    asks                              answers
                                      Updates{updates}, Nodes{nodes},     whenever there is news
                                      Markets{markets}
    Query{round} →                    ← Summary{round, digests}           digests of all buckets
    Fill{round, bucket, known} →      ← Updates, Nodes, Markets           what is not among the known fingerprints
                                      ← Filled{round, bucket}             that was all of this bucket

Who asks counts its rounds, so that an answer that comes too late is known as such. Numbers of the router's messages are
32 to 47 and never reused; a change of layout is a new number. An answer of any kind may be lost: the next round
finds what is missing.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from tallystick.channels.errors import Fault, MalformedMessage
from tallystick.channels.limits import MESSAGE_MAX
from tallystick.channels.protocol.codec import Codec
from tallystick.router.gossip.announcements import Announcement, ChannelUpdate, NodeAnnouncement
from tallystick.router.gossip.markets import MarketAnnouncement
from tallystick.router.gossip.reconciliation import BUCKETS, DIGEST_SIZE, FINGERPRINT_SIZE

TAGS = range(32, 48)
"""Numbers of messages that belong to the router."""

ITEMS_MAX = 128
"""Announcements in one message."""

UPDATES_PER_FRAME = 64
"""Channel updates that we put into one message: each has 250 bytes at most."""

NODES_PER_FRAME = 24
"""Node announcements that we put into one message: each has 1,250 bytes at most."""

MARKETS_PER_FRAME = 8
"""Markets that we put into one message: each has 4,200 bytes at most."""

KNOWN_BYTES_MAX = 60_000
"""Bytes of fingerprints in one Fill: 7,500 announcements of one bucket."""

Round = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Bucket = Annotated[int, msgspec.Meta(ge=0, le=BUCKETS - 1)]


class Updates(msgspec.Struct, frozen=True, array_like=True, tag=32, forbid_unknown_fields=True):
    """What participants ask for carrying payments out of their channels."""

    updates: Annotated[tuple[ChannelUpdate, ...], msgspec.Meta(max_length=ITEMS_MAX)]


class Nodes(msgspec.Struct, frozen=True, array_like=True, tag=33, forbid_unknown_fields=True):
    """Names and addresses of nodes."""

    nodes: Annotated[tuple[NodeAnnouncement, ...], msgspec.Meta(max_length=ITEMS_MAX)]


class Query(msgspec.Struct, frozen=True, array_like=True, tag=34, forbid_unknown_fields=True):
    """Asks for a Summary."""

    round: Round


class Summary(msgspec.Struct, frozen=True, array_like=True, tag=35, forbid_unknown_fields=True):
    """Digests of everything that the sender holds, 16 bytes per bucket (see `router/gossip/reconciliation.py`)."""

    round: Round
    digests: Annotated[bytes, msgspec.Meta(min_length=BUCKETS * DIGEST_SIZE, max_length=BUCKETS * DIGEST_SIZE)]


class Fill(msgspec.Struct, frozen=True, array_like=True, tag=36, forbid_unknown_fields=True):
    """Asks for the announcements of a bucket whose fingerprints (8 bytes each) are not in `known`."""

    round: Round
    bucket: Bucket
    known: Annotated[bytes, msgspec.Meta(max_length=KNOWN_BYTES_MAX)]


class Filled(msgspec.Struct, frozen=True, array_like=True, tag=37, forbid_unknown_fields=True):
    """The announcements of that bucket were all sent before this."""

    round: Round
    bucket: Bucket


class Markets(msgspec.Struct, frozen=True, array_like=True, tag=43, forbid_unknown_fields=True):
    """What makers ask for."""

    markets: Annotated[tuple[MarketAnnouncement, ...], msgspec.Meta(max_length=ITEMS_MAX)]


Message: TypeAlias = Updates | Nodes | Query | Summary | Fill | Filled | Markets

_CODEC: Codec[Message] = Codec(Message)


def encode(message: Message) -> bytes:
    """Return the bytes of one frame."""
    return _CODEC.encode(message)


def decode(frame: bytes) -> Message:
    """Return the message; raise MalformedMessage, which says what to answer, for anything else."""
    if len(frame) > MESSAGE_MAX:
        raise MalformedMessage(f"a message has at most {MESSAGE_MAX} bytes, this one has {len(frame)}", Fault.TOO_LARGE)
    message = _CODEC.decode(frame)
    if isinstance(message, Fill) and len(message.known) % FINGERPRINT_SIZE:
        raise MalformedMessage(f"fingerprints have {FINGERPRINT_SIZE} bytes each, and these do not come out even")
    return message


def frames(announcements: list[Announcement]) -> list[bytes]:
    """Return announcements as few frames, each within the limits of a message: updates first, each kind in order."""
    updates = tuple(item for item in announcements if isinstance(item, ChannelUpdate))
    nodes = tuple(item for item in announcements if isinstance(item, NodeAnnouncement))
    markets = tuple(item for item in announcements if isinstance(item, MarketAnnouncement))
    one, other, few = UPDATES_PER_FRAME, NODES_PER_FRAME, MARKETS_PER_FRAME
    found = [encode(Updates(updates[start : start + one])) for start in range(0, len(updates), one)]
    found += [encode(Nodes(nodes[start : start + other])) for start in range(0, len(nodes), other)]
    return found + [encode(Markets(markets[start : start + few])) for start in range(0, len(markets), few)]
