"""The invoices that this node issued, on disk: what may be claimed, what was paid, what is not wanted any more.

                 ┌────────────▶ claimed     all parts came, and the secret is out: for ever
    open ────────┼────────────▶ cancelled   by the owner
                 └────────────▶ expired     nobody paid in time (not stored: the time says it)

While an invoice is open, the parts of a payment gather in memory (`payee`); one whose payment is complete and waits
for its owner is *held*. After a restart its locks are presented again, so holding needs no record. A claim is written
in the commit that makes the secret known; payments without an invoice (keysend) are written then too, so that the list
is of all that this node was paid. Nothing that ended changes again: a late cancel does not unpay.
"""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Collection
from typing import Any

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.conditions import SECRET_SIZE, digest_of
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.storage.seals import Sealed
from tallystick.channels.storage.store import Moment, Schema, Store
from tallystick.channels.values.discretion import Discreet
from tallystick.router.invoices.invoice import Invoice, encode_invoice
from tallystick.router.onion.payload import FinalPayload
from tallystick.router.receiving.payee import Claimable


class InvoiceState(enum.StrEnum):
    """What became of an invoice. The values stand in the control API, and never change."""

    OPEN = "open"
    HELD = "held"
    CLAIMED = "claimed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class InvoiceIssued(Discreet, Moment, frozen=True):
    """The node asks for a payment: stored before anybody sees the text. Make it with `issue`.

    Without effect if there is a record of that hash: whoever commits it looks at what is there then.
    """

    payment_hash: bytes
    payment_secret: bytes
    secret: bytes
    """Opens the locks; empty if only the owner of a hold invoice knows it."""
    amount: int
    """Asked for; 0: any."""
    hold: bool
    created: int
    expires: int
    memo: str
    text: str
    own: bool = False
    """It is for a payment of this node to itself: no income, and in no list."""
    asset: Address = NATIVE
    """Asked for: of all amounts here."""


class InvoiceClaimed(Discreet, Moment, frozen=True):
    """All parts are there, and the secret is being revealed in this commit."""

    payment_hash: bytes
    secret: bytes
    received: int
    time: int


class KeysendClaimed(Discreet, Moment, frozen=True):
    """A payment without an invoice is there, and is being claimed in this commit."""

    payment_hash: bytes
    secret: bytes
    received: int
    time: int
    asset: Address = NATIVE


class InvoiceCancelled(Moment, frozen=True):
    """The owner does not want this payment any more. Without effect on an invoice that was claimed."""

    payment_hash: bytes
    time: int


class InvoicesPruned(Moment, frozen=True):
    """The owner wants no record of invoices that were claimed, cancelled or expired before that time."""

    before: int


class InvoiceRecord(Discreet, msgspec.Struct, frozen=True):
    """One invoice, or one payment that came without."""

    position: int
    """Counts what was issued and received, from 1."""
    payment_hash: bytes
    payment_secret: bytes
    secret: bytes
    amount: int
    hold: bool
    created: int
    expires: int
    memo: str
    text: str
    """Empty for keysend."""
    ended: int | None
    """When it was claimed or cancelled."""
    received: int
    """0 unless it was claimed."""
    paid: int = 0
    """Counts what was claimed, from 1, in the order of the commits: for `paid_after`. 0 unless others paid it."""
    own: bool = False
    asset: Address = NATIVE
    """Of both amounts: what came as keysend may be in any asset that the owner named."""

    @property
    def claimable(self) -> Claimable | None:
        """What `payee` wants to know of it; None if it was claimed or cancelled."""
        if self.ended is not None:
            return None
        return Claimable(self.secret, self.payment_secret, self.amount, self.hold, self.expires, self.asset)

    def state(self, now: int, held: Collection[bytes] = ()) -> InvoiceState:
        """Return its state at chain time `now`; `held` are the hashes of complete payments that wait (`Payee.held`)."""
        if self.ended is not None:
            return InvoiceState.CLAIMED if self.received else InvoiceState.CANCELLED
        if self.payment_hash in held:
            return InvoiceState.HELD
        return InvoiceState.OPEN if now <= self.expires else InvoiceState.EXPIRED


def issue(invoice: Invoice, key: PrivateKey, secret: bytes, *, hold: bool = False, own: bool = False) -> InvoiceIssued:
    """Return what to commit before `.text` is given to anybody. `own`: it is for a payment of this node to itself.

    `secret` opens the invoice's payment hash; a hold invoice for somebody else's hash may leave it empty. Raise
    InvalidInput if it does not fit, or if the invoice cannot be written.
    """
    if secret and (len(secret) != SECRET_SIZE or digest_of(secret) != invoice.payment_hash):
        raise InvalidInput("the secret is not the one whose hash the invoice names")
    if not secret and not hold:
        raise InvalidInput("without its secret, a payment can only be held: make it a hold invoice")
    text = encode_invoice(invoice, key)
    amount, expires = invoice.amount or 0, invoice.expiry
    if expires >= 1 << 63:
        raise InvalidInput("the invoice's lifetime is longer than a store can note")
    return InvoiceIssued(
        invoice.payment_hash,
        invoice.payment_secret,
        secret,
        amount,
        hold,
        invoice.created,
        expires,
        invoice.memo,
        text,
        own,
        invoice.asset,
    )


def wanted(
    store: Store, payment_hash: bytes, payload: FinalPayload, *, keysend: bool = True, asset: Address = NATIVE
) -> Claimable | None:
    """Return what a lock under `payment_hash` may be claimed for, None if for nothing: unknown, claimed or cancelled.

    `keysend` is whether the node takes payments without an invoice in `asset`, which the lock is in.
    """
    record = find_invoice(store, payment_hash)
    if record is not None:
        return record.claimable
    if keysend and payload.keysend and digest_of(payload.keysend) == payment_hash:
        return Claimable(payload.keysend, payload.payment_secret, payload.total, asset=asset)
    return None


_MIGRATION_1 = """
CREATE TABLE invoices (
    hash BLOB PRIMARY KEY, position INTEGER NOT NULL, payment_secret BLOB NOT NULL, secret BLOB NOT NULL,
    amount BLOB NOT NULL, hold INTEGER NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,
    memo TEXT NOT NULL, text TEXT NOT NULL, ended INTEGER, received BLOB NOT NULL) WITHOUT ROWID;
CREATE UNIQUE INDEX invoices_by_position ON invoices (position)
"""

_MIGRATION_2 = """
ALTER TABLE invoices ADD COLUMN paid INTEGER;
UPDATE invoices SET paid = position WHERE received > zeroblob(16);
CREATE UNIQUE INDEX invoices_by_claim ON invoices (paid) WHERE paid IS NOT NULL
"""

_MIGRATION_3 = """
ALTER TABLE invoices ADD COLUMN own INTEGER NOT NULL DEFAULT 0;
CREATE INDEX invoices_of_others ON invoices (position) WHERE NOT own
"""

_MIGRATION_4 = f"ALTER TABLE invoices ADD COLUMN asset BLOB NOT NULL DEFAULT x'{NATIVE.hex()}'"

_COLUMNS = (
    "position, hash, payment_secret, secret, amount, hold, created, expires, memo, text, ended, received, paid, own, "
    "asset"
)
_NEXT = "(SELECT coalesce(max(paid), 0) + 1 FROM invoices WHERE paid IS NOT NULL)"
_INSERT = (
    "INSERT INTO invoices (position, hash, payment_secret, secret, amount, hold, created, expires, memo, text, ended, "
    "received, own, asset) SELECT coalesce(max(position), 0) + 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM invoices "
    "WHERE true "
)  # (SQLite takes an ON CONFLICT after it for a join without that WHERE)
_NONE = bytes(16)


def _amount(value: int) -> bytes:
    return value.to_bytes(16, "big")


def _issued(connection: sqlite3.Connection, moment: InvoiceIssued) -> None:
    times = (moment.created, moment.expires)
    row = (moment.payment_hash, moment.payment_secret, moment.secret, _amount(moment.amount), moment.hold, *times)
    connection.execute(
        _INSERT + "ON CONFLICT (hash) DO NOTHING",
        (*row, moment.memo, moment.text, None, _NONE, moment.own, moment.asset),
    )


def _claimed(connection: sqlite3.Connection, moment: InvoiceClaimed) -> None:
    connection.execute(
        f"UPDATE invoices SET secret = ?, received = ?, ended = ?, paid = CASE WHEN own THEN NULL ELSE {_NEXT} END "
        "WHERE hash = ? AND ended IS NULL",
        (moment.secret, _amount(moment.received), moment.time, moment.payment_hash),
    )


def _keysend(connection: sqlite3.Connection, moment: KeysendClaimed) -> None:
    row = (moment.payment_hash, b"", moment.secret, _NONE, False, moment.time, moment.time, "", "")
    paid = "ON CONFLICT (hash) DO UPDATE SET secret = excluded.secret, received = excluded.received, "
    paid += "ended = excluded.ended, asset = excluded.asset WHERE ended IS NULL"
    connection.execute(_INSERT + paid, (*row, moment.time, _amount(moment.received), False, moment.asset))
    unlisted = "hash = ? AND paid IS NULL AND received > zeroblob(16)"
    connection.execute(f"UPDATE invoices SET paid = {_NEXT} WHERE {unlisted}", (moment.payment_hash,))


def _cancelled(connection: sqlite3.Connection, moment: InvoiceCancelled) -> None:
    connection.execute(
        "UPDATE invoices SET ended = ? WHERE hash = ? AND ended IS NULL", (moment.time, moment.payment_hash)
    )


def _pruned(connection: sqlite3.Connection, moment: InvoicesPruned) -> None:
    newest = "(SELECT max(position) FROM invoices)"  # the last rows stay, so that positions only grow
    last = "(SELECT max(paid) FROM invoices WHERE paid IS NOT NULL)"
    connection.execute(
        f"DELETE FROM invoices WHERE coalesce(ended, expires) < ? AND position < {newest} "
        f"AND (paid IS NULL OR paid < {last})",
        (moment.before,),
    )


SCHEMA = Schema(
    "invoices",
    (_MIGRATION_1, _MIGRATION_2, _MIGRATION_3, _MIGRATION_4),
    {
        InvoiceIssued: _issued,
        InvoiceClaimed: _claimed,
        KeysendClaimed: _keysend,
        InvoiceCancelled: _cancelled,
        InvoicesPruned: _pruned,
    },
    (Sealed("invoices"),),
)


def _record(row: tuple[Any, ...]) -> InvoiceRecord:
    (
        position,
        digest,
        payment_secret,
        secret,
        amount,
        hold,
        created,
        expires,
        memo,
        text,
        ended,
        received,
        paid,
        own,
        asset,
    ) = row
    return InvoiceRecord(
        position,
        digest,
        payment_secret,
        secret,
        int.from_bytes(amount, "big"),
        bool(hold),
        created,
        expires,
        memo,
        text,
        ended,
        int.from_bytes(received, "big"),
        paid or 0,
        bool(own),
        Address(asset),
    )


def find_invoice(store: Store, payment_hash: bytes) -> InvoiceRecord | None:
    """Return the invoice (or keysend payment) of that hash, None if there is none."""
    rows = store.read(f"SELECT {_COLUMNS} FROM invoices WHERE hash = ?", (payment_hash,))
    return _record(rows[0]) if rows else None


def invoices_beginning(store: Store, digits: str, limit: int = 100) -> list[InvoiceRecord]:
    """Return the invoices (but those of payments of this node to itself) whose hash begins with these hex digits."""
    ends = (bytes.fromhex(digits.ljust(64, "0")), bytes.fromhex(digits.ljust(64, "f")))
    rows = store.read(f"SELECT {_COLUMNS} FROM invoices WHERE hash BETWEEN ? AND ? AND NOT own LIMIT ?", (*ends, limit))
    return [_record(row) for row in rows]


def list_invoices(store: Store, limit: int, before: int | None = None, *, own: bool = False) -> list[InvoiceRecord]:
    """Return up to `limit` invoices, newest first; `before` goes on from a position.

    `own`: with those of payments of this node to itself.
    """
    chosen = "" if own else "AND NOT own "
    rows = store.read(
        f"SELECT {_COLUMNS} FROM invoices WHERE position < ? {chosen}ORDER BY position DESC LIMIT ?",
        (before if before is not None else 2**62, limit),
    )
    return [_record(row) for row in rows]


def paid_after(store: Store, position: int, limit: int) -> list[InvoiceRecord]:
    """Return up to `limit` payments that were claimed behind a position (`InvoiceRecord.paid`), in that order."""
    rows = store.read(f"SELECT {_COLUMNS} FROM invoices WHERE paid > ? ORDER BY paid LIMIT ?", (position, limit))
    return [_record(row) for row in rows]


def last_paid(store: Store) -> int:
    """Return the position of what was claimed last, 0 if nothing was."""
    return int(store.read("SELECT coalesce(max(paid), 0) FROM invoices WHERE paid IS NOT NULL")[0][0])
