"""What a client and its tower say to each other: typed, numbered, bounded. Peer bytes enter in `decode` only.

    client                         tower
    Upload{locator, revision, blob} →
                                   ← Receipt{…, signature}   after the commit
                                   ← Refused{why, held, text}
    Fetch{locator} →               ← Held{locator, revision, blob} or Refused

Numbers of messages begin at 64 and are never reused; a change of layout is a new number.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from tallystick.channels.errors import Fault, InvalidSignature, MalformedMessage
from tallystick.channels.limits import ERROR_TEXT_MAX
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.keys import PrivateKey, PublicKey, keccak
from tallystick.channels.protocol.objects import Address
from tallystick.watchtower.errors import BadReceipt, TowerRefusal
from tallystick.watchtower.sealing import BLOB_SIZE

VERSION = 1

TOWER_MESSAGE_MAX = 2_048
"""Bytes of one message."""

Locator = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Account = Annotated[Address, msgspec.Meta(min_length=20, max_length=20)]
Blob = Annotated[bytes, msgspec.Meta(min_length=BLOB_SIZE, max_length=BLOB_SIZE)]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Upload(msgspec.Struct, frozen=True, array_like=True, tag=64, forbid_unknown_fields=True):
    """Keep this blob under this locator, in place of every lower revision."""

    version: Number
    locator: Locator
    revision: Number
    blob: Blob


class TowerReceipt(msgspec.Struct, frozen=True, array_like=True, tag=65, forbid_unknown_fields=True):
    """The tower holds a blob of this hash durably, since `time` (Unix seconds by the tower's clock)."""

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


Message: TypeAlias = Upload | TowerReceipt | Refused | Fetch | Held

_CODEC: Codec[Message] = Codec(Message)


def encode(message: Message) -> bytes:
    """Return the frame of a message."""
    return _CODEC.encode(message)


def decode(data: bytes) -> Message:
    """Return the message in a frame; raise MalformedMessage if it is none of these, or of another version."""
    if len(data) > TOWER_MESSAGE_MAX:
        raise MalformedMessage(f"a tower's messages have at most {TOWER_MESSAGE_MAX} bytes", Fault.TOO_LARGE)
    message = _CODEC.decode(data)
    if isinstance(message, Upload | Fetch) and message.version != VERSION:
        raise MalformedMessage(f"this tower speaks version {VERSION}, not {message.version}", Fault.WRONG_VERSION)
    return message


def sign_receipt(
    key: PrivateKey, client: Address, locator: bytes, revision: int, blob: bytes, time: int
) -> TowerReceipt:
    """Return the receipt for a blob that is durable now."""
    bare = TowerReceipt(key.address, client, locator, revision, keccak(blob), time, bytes(64))
    return msgspec.structs.replace(bare, signature=key.sign(bare.digest()))


def verify_receipt(receipt: TowerReceipt, tower: PublicKey, client: Address, upload: Upload) -> None:
    """Raise BadReceipt unless the tower signed that it holds exactly this upload for this client."""
    if (receipt.tower, receipt.client) != (tower.address, client):
        raise BadReceipt("the receipt names another tower or another client; do not rely on this tower")
    if (receipt.locator, receipt.revision) != (upload.locator, upload.revision) or receipt.blob_hash != keccak(
        upload.blob
    ):
        raise BadReceipt("the receipt is for another appointment than the one sent; do not rely on this tower")
    try:
        tower.verify(receipt.digest(), receipt.signature)
    except InvalidSignature as error:
        raise BadReceipt("the receipt is not signed by the tower; do not rely on it") from error
