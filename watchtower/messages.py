"""What a client and its tower say to each other: typed, numbered, bounded. Peer bytes enter in `decode` only.

    client                         tower
    Upload{locator, revision, blob} →                 or UploadTimely{…, claims}
                                   ← Receipt{…, signature}   after the commit
                                   ← Refused{why, held, text}
    Fetch{locator} →               ← Held{locator, revision, blob} or Refused
    AskCover{terms, amount, until} →    ← CoverOffer{cover, signature} or Refused
    AskPromise{cover, proofs} →         ← PromiseGiven{promise, signature} or Refused

Numbers of messages begin at 64 and are never reused; a change of layout is a new number.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from tallystick.channels.errors import Fault, InvalidSignature, MalformedMessage
from tallystick.channels.limits import ERROR_TEXT_MAX
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.keys import PrivateKey, PublicKey, keccak
from tallystick.channels.protocol.objects import Address, SignedProof, Terms
from tallystick.channels.values.discretion import Discreet
from tallystick.settlement.modules.covers import TowerCover, TowerPromise
from tallystick.watchtower.claims import TIMELY, TIMELY_MAX, LockClaim
from tallystick.watchtower.errors import BadReceipt, TowerRefusal
from tallystick.watchtower.sealing import BLOB_SIZES

VERSION = 2
"""What a client says. Of version 1 are those whose blobs have neither pending locks nor pages (`sealing`)."""

VERSIONS = (1, VERSION)
"""What a tower takes: one that knows version 1 alone refuses what it could not open at a close."""

TOWER_MESSAGE_MAX = 12_288
"""Bytes of one message."""

Locator = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Account = Annotated[Address, msgspec.Meta(min_length=20, max_length=20)]
Blob = Annotated[bytes, msgspec.Meta(min_length=BLOB_SIZES[0], max_length=BLOB_SIZES[-1])]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Signed = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class Upload(msgspec.Struct, frozen=True, array_like=True, tag=64, forbid_unknown_fields=True):
    """Keep this blob under this locator, in place of every lower revision."""

    version: Number
    locator: Locator
    revision: Number
    blob: Blob


class UploadTimely(Discreet, msgspec.Struct, frozen=True, array_like=True, tag=69, forbid_unknown_fields=True):
    """The same, and register what pays for these locks before they expire, whether or not the channel is closed."""

    version: Number
    locator: Locator
    revision: Number
    blob: Blob
    is_coin: bool
    """Whether the locks are of the chain's coin: else what they are worth is not known here."""
    claims: Annotated[tuple[LockClaim, ...], msgspec.Meta(min_length=1, max_length=TIMELY_MAX)]


class TowerReceipt(msgspec.Struct, frozen=True, array_like=True, tag=65, forbid_unknown_fields=True):
    """The tower holds this durably (hash of blob and `timely_of`) since `time` (Unix seconds by its clock)."""

    tower: Account
    client: Account
    locator: Locator
    revision: Number
    blob_hash: Locator
    time: Number
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]

    def digest(self) -> bytes:
        """Return what the tower signs (32 bytes)."""
        numbers = self.revision.to_bytes(8, "big") + self.time.to_bytes(8, "big")
        return keccak(
            b"tallystick/tower/receipt/1" + self.tower + self.client + self.locator + self.blob_hash + numbers
        )


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=66, forbid_unknown_fields=True):
    """The tower did not do what was asked; `held` is the revision that it holds, 0 if none."""

    locator: Locator
    why: TowerRefusal
    held: Number
    text: Annotated[str, msgspec.Meta(max_length=ERROR_TEXT_MAX)]


class Fetch(msgspec.Struct, frozen=True, array_like=True, tag=67, forbid_unknown_fields=True):
    """Send me what you hold for me under this locator."""

    version: Number
    locator: Locator


class Held(msgspec.Struct, frozen=True, array_like=True, tag=68, forbid_unknown_fields=True):
    """Answers a Fetch."""

    locator: Locator
    revision: Number
    blob: Blob


class AskCover(msgspec.Struct, frozen=True, array_like=True, tag=70, forbid_unknown_fields=True):
    """Offer to answer for this channel with so much of your bond, for closes up to this time."""

    version: Number
    terms: Terms
    amount: int
    until: Number


class CoverOffer(msgspec.Struct, frozen=True, array_like=True, tag=71, forbid_unknown_fields=True):
    """Answers an AskCover: this can be reserved on the chain, up to `cover.offered`."""

    cover: TowerCover
    signature: Signed


class AskPromise(msgspec.Struct, frozen=True, array_like=True, tag=72, forbid_unknown_fields=True):
    """Promise under this cover that no close settles with less than these proofs: unsealed, as you are to hold them."""

    version: Number
    cover: Locator
    """The cover's digest."""
    proof0: SignedProof | None
    proof1: SignedProof | None


class PromiseGiven(msgspec.Struct, frozen=True, array_like=True, tag=73, forbid_unknown_fields=True):
    """Answers an AskPromise, once the proofs are durable."""

    promise: TowerPromise
    signature: Signed


Message: TypeAlias = (
    Upload | UploadTimely | TowerReceipt | Refused | Fetch | Held | AskCover | CoverOffer | AskPromise | PromiseGiven
)

_CODEC: Codec[Message] = Codec(Message)


def encode(message: Message) -> bytes:
    """Return the frame of a message."""
    return _CODEC.encode(message)


def decode(data: bytes) -> Message:
    """Return the message in a frame; raise MalformedMessage if it is none of these, or of another version."""
    if len(data) > TOWER_MESSAGE_MAX:
        raise MalformedMessage(f"a tower's messages have at most {TOWER_MESSAGE_MAX} bytes", Fault.TOO_LARGE)
    message = _CODEC.decode(data)
    asks = Upload | UploadTimely | Fetch | AskCover | AskPromise
    if isinstance(message, asks) and message.version not in VERSIONS:
        raise MalformedMessage(
            f"this tower speaks versions 1 to {VERSION}, not {message.version}: update it", Fault.WRONG_VERSION
        )
    if isinstance(message, Upload | UploadTimely) and len(message.blob) not in BLOB_SIZES:
        raise MalformedMessage(f"a blob has {' or '.join(map(str, BLOB_SIZES))} bytes, not {len(message.blob)}")
    return message


def timely_of(upload: Upload | UploadTimely) -> bytes:
    """Return what a tower keeps of an upload beside the blob: empty if nothing in it is timely."""
    return TIMELY.encode((upload.is_coin, upload.claims)) if isinstance(upload, UploadTimely) else b""


def sign_receipt(
    key: PrivateKey, client: Address, locator: bytes, revision: int, content: bytes, time: int
) -> TowerReceipt:
    """Return the receipt for what is durable now: a blob, and what is timely beside it."""
    bare = TowerReceipt(key.address, client, locator, revision, keccak(content), time, bytes(64))
    return msgspec.structs.replace(bare, signature=key.sign(bare.digest()))


def verify_receipt(receipt: TowerReceipt, tower: PublicKey, client: Address, upload: Upload | UploadTimely) -> None:
    """Raise BadReceipt unless the tower signed that it holds exactly this upload for this client."""
    if (receipt.tower, receipt.client) != (tower.address, client):
        raise BadReceipt("the receipt names another tower or another client; do not rely on this tower")
    if (receipt.locator, receipt.revision) != (upload.locator, upload.revision) or receipt.blob_hash != keccak(
        upload.blob + timely_of(upload)
    ):
        raise BadReceipt("the receipt is for another appointment than the one sent; do not rely on this tower")
    try:
        tower.verify(receipt.digest(), receipt.signature)
    except InvalidSignature as error:
        raise BadReceipt("the receipt is not signed by the tower; do not rely on it") from error
