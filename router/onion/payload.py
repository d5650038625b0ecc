"""What an onion tells a hop: what the next lock must be, or what the payee needs to know.

Records are numbered as in BOLT 4 where they mean the same. A payload with a channel (6) is for a forwarder, any other
for the payee. Amounts have up to 128 bits here. All locks of a payment expire together, so a forwarder compares
`expiry` with its incoming lock instead of computing one. Whatever is missing, unknown and even, or out of range is
refused as a whole: `InvalidOnion`. Source: BOLT 4, "Payload Format"; keysend: bLIP 3.

    2 amount   4 expiry   6 channel   8 payment secret and total   16 metadata   5482373484 keysend: the secret itself
"""

from __future__ import annotations

import msgspec

from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.limits import UINT64_MAX
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Lock, check_amount
from tallystick.channels.values.discretion import Discreet
from tallystick.router.codes import Code
from tallystick.router.errors import InvalidOnion
from tallystick.router.onion import tlv

AMOUNT = 2
EXPIRY = 4
CHANNEL = 6
PAYMENT_DATA = 8
METADATA = 16
KEYSEND = 5_482_373_484

_FOR_FORWARDER = frozenset({AMOUNT, EXPIRY, CHANNEL})
_FOR_PAYEE = frozenset({AMOUNT, EXPIRY, PAYMENT_DATA, METADATA, KEYSEND})
_ALL = _FOR_FORWARDER | _FOR_PAYEE

METADATA_MAX = 256
"""Bytes of metadata that a payee may put into its invoice, to get them back with the payment."""

HOPS_MAX = 13
"""Hops of a route whose payloads always fit, with the largest amounts and a keysend (without metadata)."""


class ForwardPayload(msgspec.Struct, frozen=True):
    """For a forwarder: lock `amount` on `channel` under the condition of the incoming lock."""

    amount: int
    expiry: int
    """Of the outgoing lock, in seconds of chain time."""
    channel: ChannelId

    def __post_init__(self) -> None:
        _check_lock(self.amount, self.expiry)
        _check_size("a channel's id", self.channel, 32)


class FinalPayload(Discreet, msgspec.Struct, frozen=True):
    """For the payee: what this lock has to be, and which payment it is part of."""

    amount: int
    """Of this lock."""
    expiry: int
    payment_secret: bytes
    """32 bytes of the invoice: nobody who was not asked to pay can find out who the payee is."""
    total: int
    """Of all the payment's parts together."""
    keysend: bytes = b""
    """The secret that opens the lock (32 bytes), if the payer pays without an invoice."""
    metadata: bytes = b""
    """As the invoice had it."""

    def __post_init__(self) -> None:
        _check_lock(self.amount, self.expiry)
        _check_size("a payment secret", self.payment_secret, 32)
        check_amount(self.total, "total", minimum=self.amount)
        if self.keysend:
            _check_size("a keysend secret", self.keysend, 32)
        if len(self.metadata) > METADATA_MAX:
            raise InvalidInput(f"metadata has at most {METADATA_MAX} bytes, this has {len(self.metadata)}")


Payload = ForwardPayload | FinalPayload


class FinalLock(Discreet, msgspec.Struct, frozen=True):
    """A lock that ends at this node, and what its onion says."""

    channel: ChannelId
    lock: Lock
    payload: FinalPayload
    secret: bytes
    """Shared with the payer by the onion: only the payer can read why it is refused."""
    asset: Address = NATIVE
    """Of the channel."""
    again: bool = False
    """It was pending when the node went down, and handed to the payee before: its invoice may have expired since."""

    @property
    def name(self) -> tuple[ChannelId, int]:
        """Its channel and its number there."""
        return self.channel, self.lock.id


def encode_payload(payload: Payload) -> bytes:
    """Return the payload's records, without a length before them."""
    records = {AMOUNT: tlv.encode_integer(payload.amount), EXPIRY: tlv.encode_integer(payload.expiry)}
    if isinstance(payload, ForwardPayload):
        records[CHANNEL] = payload.channel
    else:
        records[PAYMENT_DATA] = payload.payment_secret + tlv.encode_integer(payload.total)
        if payload.metadata:
            records[METADATA] = payload.metadata
        if payload.keysend:
            records[KEYSEND] = payload.keysend
    return tlv.encode_records(records)


def decode_payload(data: bytes) -> Payload:
    """Return what the payload says; raise InvalidOnion if it is not exactly one of the two kinds."""
    try:
        return _decode(tlv.decode_records(data, _ALL))
    except (MalformedMessage, InvalidInput) as error:
        raise InvalidOnion(f"the onion's instructions are refused: {error}", Code.INVALID_ONION_PAYLOAD) from error


def _decode(records: dict[int, bytes]) -> Payload:
    allowed, required = (
        (_FOR_FORWARDER, _FOR_FORWARDER) if CHANNEL in records else (_FOR_PAYEE, {AMOUNT, EXPIRY, PAYMENT_DATA})
    )
    if wrong := (records.keys() - allowed) | (required - records.keys()):
        raise MalformedMessage(f"record {min(wrong)} is missing, or out of place")
    amount = tlv.decode_integer(records[AMOUNT], tlv.UINT128_BYTES)
    expiry = tlv.decode_integer(records[EXPIRY], tlv.UINT64_BYTES)
    if CHANNEL in records:
        return ForwardPayload(amount, expiry, ChannelId(records[CHANNEL]))
    for optional in (METADATA, KEYSEND):
        if records.get(optional) == b"":
            raise MalformedMessage(f"record {optional} is empty")
    data = records[PAYMENT_DATA]
    total = tlv.decode_integer(data[32:], tlv.UINT128_BYTES)
    return FinalPayload(amount, expiry, data[:32], total, records.get(KEYSEND, b""), records.get(METADATA, b""))


def _check_lock(amount: int, expiry: int) -> None:
    check_amount(amount, minimum=1)
    if not 0 <= expiry <= UINT64_MAX:
        raise InvalidInput(f"expiry must be from 0 to 2**64 - 1, not {expiry}")


def _check_size(what: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise InvalidInput(f"{what} has {size} bytes, this one has {len(value)}")
