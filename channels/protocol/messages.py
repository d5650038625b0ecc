"""The wire: every message between two nodes, typed, numbered and bounded (PROTOCOL sections 4 and 9).

One frame of the transport carries one message: a MessagePack array whose first item is the message's number. Numbers
are never reused; a change of layout is a new number. Peer bytes enter the program in `decode`, and nowhere else.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from tallystick.channels.errors import Fault, MalformedMessage
from tallystick.channels.limits import ERROR_TEXT_MAX, MESSAGE_MAX, PROOF_MAX, REASON_MAX
from tallystick.channels.protocol.app_messages import AppMessage
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import (
    Address,
    Bytes32,
    ChannelId,
    CooperativeClose,
    Id,
    Number,
    SignedProof,
    Terms,
    Withdrawal,
)
from tallystick.channels.protocol.operations import Operations
from tallystick.channels.protocol.virtual_messages import VirtualMessage
from tallystick.channels.values.discretion import Discreet

PROTOCOL_VERSION = 1

Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
Account = Annotated[Address, msgspec.Meta(min_length=20, max_length=20)]
Text = Annotated[str, msgspec.Meta(max_length=ERROR_TEXT_MAX)]


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """First message of each side. Another version, chain or contract ends the connection."""

    version: Number
    chain_id: Number
    contract: Account


class Error(msgspec.Struct, frozen=True, array_like=True, tag=2, forbid_unknown_fields=True):
    """Why the sender is about to close the connection, or refuses a request about `channel` (empty: all)."""

    channel: Annotated[bytes, msgspec.Meta(max_length=32)]
    code: Number
    text: Text


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=3, forbid_unknown_fields=True):
    """Asks for a Pong with the same number: is anybody there?"""

    number: Number


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=4, forbid_unknown_fields=True):
    """Answers a Ping."""

    number: Number


class Reestablish(msgspec.Struct, frozen=True, array_like=True, tag=5, forbid_unknown_fields=True):
    """First message about a channel on each connection: how far the sender is, with proof (so it is also an ack).

    Said again later, it asks the peer to repeat what was left aside, and starts the talk about closing anew.
    """

    channel: Id
    signed_seq: Number
    """The newest number that the sender signed in its own simplex."""
    ours: SignedProof | None
    """The newest state of the sender's simplex with both signatures."""
    theirs: SignedProof | None
    """The newest state of the receiver's simplex with both signatures."""
    funding: Number
    """What the sender counts as the receiver's funding: only what both count may be spent."""


class Update(msgspec.Struct, frozen=True, array_like=True, tag=6, forbid_unknown_fields=True):
    """The sender's simplex moves on. The signature is over the balance proof that the operations lead to."""

    channel: Id
    seq: Number
    seen: Number
    operations: Operations
    signature: Signature


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=7, forbid_unknown_fields=True):
    """Countersignature of the balance proof number `seq`: covers all up to it."""

    channel: Id
    seq: Number
    signature: Signature


class Reveal(Discreet, msgspec.Struct, frozen=True, array_like=True, tag=8, forbid_unknown_fields=True):
    """Asks the lock's writer to unlock it. Repeatable."""

    channel: Id
    lock: Number
    secret: Annotated[bytes, msgspec.Meta(min_length=1, max_length=PROOF_MAX)]
    """What solves it: of a hash lock, 32 bytes."""


class Reject(msgspec.Struct, frozen=True, array_like=True, tag=9, forbid_unknown_fields=True):
    """Consents to the cancellation of the writer's lock. Repeatable."""

    channel: Id
    lock: Number
    reason: Annotated[bytes, msgspec.Meta(max_length=REASON_MAX)]


class Funding(msgspec.Struct, frozen=True, array_like=True, tag=10, forbid_unknown_fields=True):
    """What the sender now counts as the receiver's funding."""

    channel: Id
    funding: Number


class OpenRequest(msgspec.Struct, frozen=True, array_like=True, tag=11, forbid_unknown_fields=True):
    """How version 0.1 asked to open a channel, with a reserve for ever. Refused now; see `OpenProposal`."""

    terms: Terms
    reserve: Number
    deposit: Number


class OpenAccept(msgspec.Struct, frozen=True, array_like=True, tag=12, forbid_unknown_fields=True):
    """The receiver of the request will use the channel once it is confirmed."""

    channel: Id


class OpenRefuse(msgspec.Struct, frozen=True, array_like=True, tag=13, forbid_unknown_fields=True):
    """The receiver of the request will not use such a channel: do not open it."""

    channel: Id
    text: Text


class Shutdown(msgspec.Struct, frozen=True, array_like=True, tag=14, forbid_unknown_fields=True):
    """The sender wants to close cooperatively; its simplex ends at `final_seq` unless the close fails."""

    channel: Id
    final_seq: Number


class CloseOffer(msgspec.Struct, frozen=True, array_like=True, tag=15, forbid_unknown_fields=True):
    """A cooperative close, signed by the sender."""

    close: CooperativeClose
    signature: Signature


class CloseAccept(msgspec.Struct, frozen=True, array_like=True, tag=16, forbid_unknown_fields=True):
    """The second signature under the close that was offered."""

    close: CooperativeClose
    signature: Signature


class WithdrawRequest(msgspec.Struct, frozen=True, array_like=True, tag=17, forbid_unknown_fields=True):
    """A withdrawal by the sender, signed by it."""

    withdrawal: Withdrawal
    signature: Signature


class WithdrawGrant(msgspec.Struct, frozen=True, array_like=True, tag=18, forbid_unknown_fields=True):
    """The second signature under the withdrawal that was asked for."""

    withdrawal: Withdrawal
    signature: Signature


class CloseRequest(msgspec.Struct, frozen=True, array_like=True, tag=19, forbid_unknown_fields=True):
    """The sender lost data and can never close safely: please close with your newest proofs."""

    channel: Id


class Links(Discreet, msgspec.Struct, frozen=True, array_like=True, tag=20, forbid_unknown_fields=True):
    """The sender's stream on this lock of its goes on to the link at `depth`, which covers all before. Repeatable."""

    channel: Id
    lock: Number
    depth: Number
    link: Bytes32


class LinksAck(msgspec.Struct, frozen=True, array_like=True, tag=21, forbid_unknown_fields=True):
    """The sender holds the link of the receiver's stream at `depth` durably: it covers all up to it."""

    channel: Id
    lock: Number
    depth: Number


class LinksHeld(Discreet, msgspec.Struct, frozen=True, array_like=True, tag=22, forbid_unknown_fields=True):
    """The link at `depth` is the deepest that the sender holds of the receiver's stream: said after each greeting."""

    channel: Id
    lock: Number
    depth: Number
    link: Bytes32


class Counts(msgspec.Struct, frozen=True, array_like=True, tag=23, forbid_unknown_fields=True):
    """What the sender counts of the receiver's, in a channel whose reserve follows the funding. It holds for what the
    sender signs from there on."""

    channel: Id
    deposits: Number
    taken: Number
    """What the receiver has withdrawn, a pending withdrawal included."""


class OpenProposal(msgspec.Struct, frozen=True, array_like=True, tag=24, forbid_unknown_fields=True):
    """The sender wants to open this channel, with a reserve of so many millionths of all that is in it. Nothing is
    signed by it."""

    terms: Terms
    reserve_ppm: Number


ConnectionMessage: TypeAlias = Hello | Error | Ping | Pong
OpeningMessage: TypeAlias = OpenRequest | OpenAccept | OpenRefuse | OpenProposal
UpdateMessage: TypeAlias = Reestablish | Update | Ack | Funding | Counts
LockMessage: TypeAlias = Reveal | Reject | Links | LinksAck | LinksHeld
OfferMessage: TypeAlias = Shutdown | CloseOffer | CloseAccept | CloseRequest | WithdrawRequest | WithdrawGrant
PlayerMessage: TypeAlias = AppMessage | VirtualMessage
Message: TypeAlias = ConnectionMessage | OpeningMessage | UpdateMessage | LockMessage | OfferMessage | PlayerMessage

_CODEC: Codec[Message] = Codec(Message)


def encode(message: Message) -> bytes:
    """Return the bytes of one frame."""
    return _CODEC.encode(message)


def decode(frame: bytes) -> Message:
    """Return the message; raise MalformedMessage, which says what to answer, for anything else."""
    if len(frame) > MESSAGE_MAX:
        raise MalformedMessage(f"a message has at most {MESSAGE_MAX} bytes, this one has {len(frame)}", Fault.TOO_LARGE)
    return _CODEC.decode(frame)


def channel_of(message: Message) -> ChannelId | None:
    """Return the channel that a message is about, None if it is about the connection."""
    if isinstance(message, (CloseOffer, CloseAccept)):
        return message.close.channel
    if isinstance(message, (WithdrawRequest, WithdrawGrant)):
        return message.withdrawal.channel
    channel: ChannelId | None = getattr(message, "channel", None)
    return channel
