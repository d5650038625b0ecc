"""What a payer keeps on disk of its payments: orders before anything is sent, parts with their locks, how it ended.

    payments    one row for each payment hash: what was asked for, and how it ended once it has
    parts       one row for each lock that was signed for a payment, written in the very commit of that signature

So a payment is never made twice: after a crash, a part is either in its row, signed, or was never sent. What became of
its lock is stored by whoever watches locks (`PartEnded`), in the commit in which the lock ended. Rows of payments that
ended are history: `PaymentsPruned` removes them.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Row, Rows, beginning, below, decode_column, find, last, other, table
from tallystick.channels.values.discretion import Discreet
from tallystick.router.errors import Unpaid
from tallystick.router.objects import Edge, Key33, Route


class PaymentKind(enum.StrEnum):
    """What a payment is for. The values stand in stores and in the control API, and never change."""

    INVOICE = "invoice"
    KEYSEND = "keysend"
    REBALANCE = "rebalance"
    """To ourselves, from one channel of ours into another."""
    PROBE = "probe"
    """Nothing is paid, only found out."""


ADVICE = {
    PaymentKind.INVOICE: (
        "; the invoice may have been paid, cancelled or expired meanwhile: ask the payee for a new one"
    ),
    PaymentKind.KEYSEND: "; it may take no payments without an invoice: ask for an invoice",
}
"""What to do if the payee refuses a payment."""


class Order(Discreet, msgspec.Struct, frozen=True, kw_only=True):
    """What is to be paid, and what it may cost. Written before the first part is planned."""

    payment_hash: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    target: Key33
    amount: int
    max_fee: int
    asset: Address = NATIVE
    payment_secret: bytes = bytes(32)
    metadata: bytes = b""
    keysend: bytes = b""
    """The secret itself, if the payment has no invoice: it travels in the innermost layer of the onion."""
    hints: tuple[Edge, ...] = ()
    """Channels that the invoice names and gossip does not."""
    lock_seconds: int
    """How long the locks of one attempt live."""
    gives_up: float
    """After which no further part is sent, by the owner's clock when it was ordered."""
    invoice: str = ""
    memo: str = ""
    created: float
    first_channel: ChannelId | None = None
    """Where a circular payment has to begin."""
    last_channel: ChannelId | None = None
    """Where a circular payment has to end."""
    parts: bool = True
    """Whether the payee takes the amount in several locks."""
    kind: PaymentKind = PaymentKind.INVOICE
    expires_by: int = 0
    """Chain time that no lock of it may outlive; 0: its locks live as long as they have to."""

    @property
    def timeout(self) -> float:
        """How many seconds it may take until no further part is sent."""
        return max(0.0, self.gives_up - self.created)


class PaymentOrdered(Moment, frozen=True):
    """The owner wants this paid. A new order for a hash whose payment ended unpaid replaces the old one."""

    order: Order
    first: bool = False
    """Whether the store holds no payment of that hash."""


class PartSent(Discreet, Moment, frozen=True):
    """A lock was signed for a part: it travels with the lock into one commit."""

    payment_hash: bytes
    number: int
    channel: ChannelId
    lock: int
    route: Route
    secrets: tuple[bytes, ...]
    """The onion's shared secrets, hop by hop: what failures are read with."""


class PartEnded(Discreet, Moment, frozen=True):
    """The lock of a part is gone: paid with a secret, or (empty) taken back for `reason` as the peer gave it."""

    channel: ChannelId
    lock: int
    secret: bytes
    reason: bytes = b""


class PaymentEnded(Discreet, Moment, frozen=True):
    """A payment was paid (`secret`), or ended unpaid with nothing under way."""

    payment_hash: bytes
    secret: bytes
    fee: int
    reason: Unpaid | None
    text: str
    time: float


class PaymentsPruned(Moment, frozen=True):
    """The owner wants no record of payments that ended before that time."""

    before: float


class PartRecord(Discreet, msgspec.Struct, frozen=True):
    """One row of `parts`."""

    number: int
    channel: ChannelId
    lock: int
    route: Route
    secrets: tuple[bytes, ...]
    ended: bool
    secret: bytes
    reason: bytes


class PaymentRecord(Discreet, msgspec.Struct, frozen=True):
    """One row of `payments`."""

    order: Order
    ended: float | None
    secret: bytes
    fee: int
    reason: Unpaid | None
    text: str

    @property
    def is_paid(self) -> bool:
        """Whether the secret is there."""
        return bool(self.secret)


_PAYMENTS = table("payments", "hash position body ended secret fee reason text kind")
_PARTS = table("parts", "channel lock hash number body ended secret reason", keys=2)

_ORDER: Codec[Order] = Codec(Order, canonical=False)
_PART: Codec[tuple[Route, tuple[bytes, ...]]] = Codec(tuple[Route, tuple[bytes, ...]], canonical=False)


def _ordered(rows: Rows, moment: PaymentOrdered) -> None:
    digest, kind = moment.order.payment_hash, moment.order.kind.value
    if not moment.first:
        rows.delete(_PARTS, hash=digest)
        rows.delete(_PAYMENTS, other("ended", None), hash=digest, secret=b"")
    position = last(rows, _PAYMENTS, "position") + 1
    rows.add(_PAYMENTS, digest, position, _ORDER.encode(moment.order), None, b"", b"", "", "", kind)


def _part_sent(rows: Rows, moment: PartSent) -> None:
    body = _PART.encode((moment.route, moment.secrets))
    rows.add(_PARTS, moment.channel, moment.lock, moment.payment_hash, moment.number, body, 0, b"", b"")


def _part_ended(rows: Rows, moment: PartEnded) -> None:
    ended = {"ended": 1, "secret": moment.secret, "reason": moment.reason}
    rows.update(_PARTS, ended, channel=moment.channel, lock=moment.lock)


def _payment_ended(rows: Rows, moment: PaymentEnded) -> None:
    ended = {
        "ended": moment.time,
        "secret": moment.secret,
        "fee": moment.fee.to_bytes(16, "big"),
        "reason": moment.reason.value if moment.reason else "",
        "text": moment.text,
    }
    rows.update(_PAYMENTS, ended, hash=moment.payment_hash, secret=b"")


def _pruned(rows: Rows, moment: PaymentsPruned) -> None:
    for (digest,) in rows.read(_PAYMENTS.rows(below("ended", moment.before), columns="hash")):
        rows.delete(_PARTS, hash=digest, ended=1)
        if not rows.read(_PARTS.rows(columns="hash", hash=digest, limit=1)):
            rows.delete(_PAYMENTS, hash=digest)


PAYMENTS = Subject(
    "payments",
    (_PAYMENTS, _PARTS),
    {
        PaymentOrdered: _ordered,
        PartSent: _part_sent,
        PartEnded: _part_ended,
        PaymentEnded: _payment_ended,
        PaymentsPruned: _pruned,
    },
)


def _record(row: Row) -> PaymentRecord:
    _, _, body, ended, secret, fee, reason, text, kind = row
    order = msgspec.structs.replace(decode_column(_ORDER, body, "payments"), kind=PaymentKind(kind))
    return PaymentRecord(order, ended, secret, int.from_bytes(fee, "big"), Unpaid(reason) if reason else None, text)


def find_payment(store: Store, payment_hash: bytes) -> PaymentRecord | None:
    """Return the payment of that hash, None if there was none."""
    row = find(store, _PAYMENTS, payment_hash)
    return _record(row) if row else None


def payments_beginning(store: Store, digits: str, limit: int = 100) -> list[PaymentRecord]:
    """Return the payments whose hash begins with these hex digits."""
    return [_record(row) for row in store.read(_PAYMENTS.rows(*beginning("hash", digits), limit=limit))]


def pending_payments(store: Store) -> list[PaymentRecord]:
    """Return the payments that have not ended."""
    return [_record(row) for row in store.read(_PAYMENTS.rows(ended=None))]


def list_payments(
    store: Store, limit: int, before: int | None = None, *, probes: bool = True
) -> list[tuple[int, PaymentRecord]]:
    """Return up to `limit` payments, newest first, with their positions; `before` goes on from a position.

    `probes`: with what was only tried, too.
    """
    where = [] if probes else [other("kind", PaymentKind.PROBE)]
    if before is not None:
        where.append(below("position", before))
    return [(row[1], _record(row)) for row in store.read(_PAYMENTS.rows(*where, order=("-position",), limit=limit))]


def load_parts(store: Store, payment_hash: bytes) -> list[PartRecord]:
    """Return the parts of a payment, in order."""
    return [_part(row) for row in store.read(_PARTS.rows(hash=payment_hash, order=("number", *_PARTS.key)))]


def parts_under_way(store: Store) -> list[tuple[bytes, PartRecord]]:
    """Return (payment hash, part) of every part whose lock has not ended."""
    return [(row[2], _part(row)) for row in store.read(_PARTS.rows(ended=0, order=("hash", *_PARTS.key)))]


def _part(row: Row) -> PartRecord:
    channel, lock, _, number, body, ended, secret, reason = row
    route, secrets = decode_column(_PART, body, "parts", channel, lock)
    return PartRecord(number, ChannelId(channel), lock, route, secrets, bool(ended), secret, reason)
