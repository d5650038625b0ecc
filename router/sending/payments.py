"""What a payer keeps on disk of its payments: orders before anything is sent, parts with their locks, how it ended.

    payments    one row for each payment hash: what was asked for, and how it ended once it has
    parts       one row for each lock that was signed for a payment, written in the very commit of that signature

So a payment is never made twice: after a crash, a part is either in its row, signed, or was never sent. What became of
its lock is stored by whoever watches locks (`PartEnded`), in the commit in which the lock ended. Rows of payments that
ended are history: `PaymentsPruned` removes them.
"""

from __future__ import annotations

import enum
import sqlite3
from typing import Annotated, Any

import msgspec

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.storage.seals import Sealed
from tallystick.channels.storage.store import Moment, Schema, Store, decoded
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
    def paid(self) -> bool:
        """Whether the secret is there."""
        return bool(self.secret)


_MIGRATION_1 = """
CREATE TABLE payments (
    hash BLOB PRIMARY KEY, position INTEGER NOT NULL, body BLOB NOT NULL, ended REAL, secret BLOB NOT NULL,
    fee BLOB NOT NULL, reason TEXT NOT NULL, text TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX payments_by_position ON payments (position);
CREATE INDEX payments_pending ON payments (hash) WHERE ended IS NULL;
CREATE TABLE parts (
    channel BLOB NOT NULL, lock INTEGER NOT NULL, hash BLOB NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL,
    ended INTEGER NOT NULL, secret BLOB NOT NULL, reason BLOB NOT NULL, PRIMARY KEY (channel, lock)) WITHOUT ROWID;
CREATE INDEX parts_by_payment ON parts (hash, number);
CREATE INDEX parts_pending ON parts (hash) WHERE ended = 0
"""

_MIGRATION_2 = """
ALTER TABLE payments ADD COLUMN kind TEXT NOT NULL DEFAULT 'invoice';
UPDATE payments SET kind = CASE
    WHEN instr(body, CAST('keysend' AS BLOB) || x'c420') THEN 'keysend'
    WHEN instr(body, CAST('first_channel' AS BLOB) || x'c420') THEN 'rebalance'
    WHEN instr(body, x'a46d656d6fa570726f6265') AND instr(body, CAST('invoice' AS BLOB) || x'a0') THEN 'probe'
    ELSE 'invoice' END;
CREATE INDEX payments_but_probes ON payments (position) WHERE kind != 'probe'
"""  # the kinds of older payments, by their orders in MessagePack: c4 20 is 32 bytes, a4 and a5 begin short texts

_ORDER: Codec[Order] = Codec(Order, canonical=False)
_PART: Codec[tuple[Route, tuple[bytes, ...]]] = Codec(tuple[Route, tuple[bytes, ...]], canonical=False)


def _ordered(connection: sqlite3.Connection, moment: PaymentOrdered) -> None:
    digest = moment.order.payment_hash
    if not moment.first:
        connection.execute("DELETE FROM parts WHERE hash = ?", (digest,))
        connection.execute("DELETE FROM payments WHERE hash = ? AND ended IS NOT NULL AND secret = x''", (digest,))
    connection.execute(
        "INSERT INTO payments SELECT ?, coalesce(max(position), 0) + 1, ?, NULL, x'', x'', '', '', ? FROM payments",
        (digest, _ORDER.encode(moment.order), moment.order.kind.value),
    )


def _part_sent(connection: sqlite3.Connection, moment: PartSent) -> None:
    connection.execute(
        "INSERT INTO parts VALUES (?, ?, ?, ?, ?, 0, x'', x'')",
        (
            moment.channel,
            moment.lock,
            moment.payment_hash,
            moment.number,
            _PART.encode((moment.route, moment.secrets)),
        ),
    )


def _part_ended(connection: sqlite3.Connection, moment: PartEnded) -> None:
    connection.execute(
        "UPDATE parts SET ended = 1, secret = ?, reason = ? WHERE channel = ? AND lock = ?",
        (moment.secret, moment.reason, moment.channel, moment.lock),
    )


def _payment_ended(connection: sqlite3.Connection, moment: PaymentEnded) -> None:
    connection.execute(
        "UPDATE payments SET ended = ?, secret = ?, fee = ?, reason = ?, text = ? WHERE hash = ? AND secret = x''",
        (
            moment.time,
            moment.secret,
            moment.fee.to_bytes(16, "big"),
            moment.reason.value if moment.reason else "",
            moment.text,
            moment.payment_hash,
        ),
    )


def _pruned(connection: sqlite3.Connection, moment: PaymentsPruned) -> None:
    connection.execute(
        "DELETE FROM parts WHERE ended = 1 AND hash IN (SELECT hash FROM payments WHERE ended < ?)", (moment.before,)
    )
    connection.execute(
        "DELETE FROM payments WHERE ended < ? AND hash NOT IN (SELECT hash FROM parts)", (moment.before,)
    )


SCHEMA = Schema(
    "payments",
    (_MIGRATION_1, _MIGRATION_2),
    {
        PaymentOrdered: _ordered,
        PartSent: _part_sent,
        PartEnded: _part_ended,
        PaymentEnded: _payment_ended,
        PaymentsPruned: _pruned,
    },
    (Sealed("payments"), Sealed("parts")),
)

_PART_COLUMNS = "number, channel, lock, body, ended, secret, reason"
_COLUMNS = "body, ended, secret, fee, reason, text, kind"


def _record(row: tuple[Any, ...]) -> PaymentRecord:
    body, ended, secret, fee, reason, text, kind = row
    order = msgspec.structs.replace(decoded(_ORDER, body, "payments"), kind=PaymentKind(kind))
    return PaymentRecord(order, ended, secret, int.from_bytes(fee, "big"), Unpaid(reason) if reason else None, text)


def find_payment(store: Store, payment_hash: bytes) -> PaymentRecord | None:
    """Return the payment of that hash, None if there was none."""
    rows = store.read(f"SELECT {_COLUMNS} FROM payments WHERE hash = ?", (payment_hash,))
    return _record(rows[0]) if rows else None


def payments_beginning(store: Store, digits: str, limit: int = 100) -> list[PaymentRecord]:
    """Return the payments whose hash begins with these hex digits."""
    ends = (bytes.fromhex(digits.ljust(64, "0")), bytes.fromhex(digits.ljust(64, "f")))
    rows = store.read(f"SELECT {_COLUMNS} FROM payments WHERE hash BETWEEN ? AND ? LIMIT ?", (*ends, limit))
    return [_record(row) for row in rows]


def pending_payments(store: Store) -> list[PaymentRecord]:
    """Return the payments that have not ended."""
    return [_record(row) for row in store.read(f"SELECT {_COLUMNS} FROM payments WHERE ended IS NULL")]


def list_payments(
    store: Store, limit: int, before: int | None = None, *, probes: bool = True
) -> list[tuple[int, PaymentRecord]]:
    """Return up to `limit` payments, newest first, with their positions; `before` goes on from a position.

    `probes`: with what was only tried, too.
    """
    chosen = "" if probes else "AND kind != 'probe' "
    rows = store.read(
        f"SELECT position, {_COLUMNS} FROM payments WHERE position < ? {chosen}ORDER BY position DESC LIMIT ?",
        (before if before is not None else 2**62, limit),
    )
    return [(row[0], _record(row[1:])) for row in rows]


def load_parts(store: Store, payment_hash: bytes) -> list[PartRecord]:
    """Return the parts of a payment, in order."""
    rows = store.read(f"SELECT {_PART_COLUMNS} FROM parts WHERE hash = ? ORDER BY number", (payment_hash,))
    return [_part(row) for row in rows]


def parts_under_way(store: Store) -> list[tuple[bytes, PartRecord]]:
    """Return (payment hash, part) of every part whose lock has not ended."""
    rows = store.read(f"SELECT hash, {_PART_COLUMNS} FROM parts WHERE ended = 0")
    return [(row[0], _part(row[1:])) for row in rows]


def _part(row: tuple[Any, ...]) -> PartRecord:
    number, channel, lock, body, ended, secret, reason = row
    route, secrets = decoded(_PART, body, "parts", channel, lock)
    return PartRecord(number, ChannelId(channel), lock, route, secrets, bool(ended), secret, reason)


def part_of_lock(store: Store, channel: ChannelId, lock: int) -> tuple[bytes, int] | None:
    """Return (payment hash, part number) of the lock, None if it belongs to no payment of ours."""
    rows = store.read("SELECT hash, number FROM parts WHERE channel = ? AND lock = ?", (channel, lock))
    return (rows[0][0], rows[0][1]) if rows else None
