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
from collections.abc import Collection

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.conditions import SECRET_SIZE, digest_of
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Row, Rows, above, beginning, below, equals, find, last, table
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
    digest, words, asset = invoice.payment_hash, invoice.payment_secret, invoice.asset
    return InvoiceIssued(digest, words, secret, amount, hold, invoice.created, expires, invoice.memo, text, own, asset)


def claimable_of(
    record: InvoiceRecord | None,
    payment_hash: bytes,
    payload: FinalPayload,
    *,
    keysend: bool = True,
    asset: Address = NATIVE,
) -> Claimable | None:
    """Return what a lock under `payment_hash` may be claimed for, None if for nothing: unknown, claimed or cancelled.

    `record` is what there is of that hash. `keysend` is whether the node takes payments without an invoice in `asset`,
    which the lock is in.
    """
    if record is not None:
        return record.claimable
    if keysend and payload.keysend and digest_of(payload.keysend) == payment_hash:
        return Claimable(payload.keysend, payload.payment_secret, payload.total, asset=asset)
    return None


_INVOICES = table(
    "invoices",
    "hash position payment_secret secret amount hold created expires memo text ended received paid own asset",
    unique=(("position",), ("paid",)),
)
_NONE = bytes(16)


def _amount(value: int) -> bytes:
    return value.to_bytes(16, "big")


def _issued(rows: Rows, moment: InvoiceIssued) -> None:
    position, amount = last(rows, _INVOICES, "position") + 1, _amount(moment.amount)
    words, times = (moment.payment_hash, position, moment.payment_secret), (moment.created, moment.expires)
    asked = (moment.secret, amount, moment.hold, *times, moment.memo, moment.text)
    rows.keep(_INVOICES, *words, *asked, None, _NONE, None, moment.own, moment.asset)


def _claimed(rows: Rows, moment: InvoiceClaimed) -> None:
    before = find(rows, _INVOICES, moment.payment_hash)
    if before is not None and (record := _record(before)).ended is None:
        changes = {"secret": moment.secret, "received": _amount(moment.received), "ended": moment.time}
        paid = None if record.own else last(rows, _INVOICES, "paid") + 1
        rows.update(_INVOICES, {**changes, "paid": paid}, hash=moment.payment_hash)


def _keysend(rows: Rows, moment: KeysendClaimed) -> None:
    digest, secret, received, time = moment.payment_hash, moment.secret, _amount(moment.received), moment.time
    before = find(rows, _INVOICES, digest)
    if before is None:
        position, paid = last(rows, _INVOICES, "position") + 1, None
        if moment.received:
            paid = last(rows, _INVOICES, "paid") + 1
        words = (digest, position, b"", secret, _NONE, False, time, time, "", "")
        rows.add(_INVOICES, *words, time, received, paid, False, moment.asset)
        return
    if _record(before).ended is None:
        changes = {"secret": secret, "received": received, "ended": time, "asset": moment.asset}
        rows.update(_INVOICES, changes, hash=digest)
    paid = last(rows, _INVOICES, "paid") + 1
    rows.update(_INVOICES, {"paid": paid}, above("received", _NONE), hash=digest, paid=None)


def _cancelled(rows: Rows, moment: InvoiceCancelled) -> None:
    rows.update(_INVOICES, {"ended": moment.time}, hash=moment.payment_hash, ended=None)


def _pruned(rows: Rows, moment: InvoicesPruned) -> None:
    newest = below("position", last(rows, _INVOICES, "position"))  # the last rows stay, so that positions only grow
    paid = last(rows, _INVOICES, "paid")
    for over in ((below("ended", moment.before),), (below("expires", moment.before), equals("ended", None))):
        rows.delete(_INVOICES, newest, below("paid", paid), *over)
        rows.delete(_INVOICES, newest, *over, paid=None)


INVOICES = Subject(
    "invoices",
    (_INVOICES,),
    {
        InvoiceIssued: _issued,
        InvoiceClaimed: _claimed,
        KeysendClaimed: _keysend,
        InvoiceCancelled: _cancelled,
        InvoicesPruned: _pruned,
    },
)


def _record(row: Row) -> InvoiceRecord:
    digest, position, words, secret, amount, hold, created, expires, memo, text, ended, received, paid, own, asset = row
    asked = (int.from_bytes(amount, "big"), bool(hold), created, expires, memo, text)
    got = (ended, int.from_bytes(received, "big"), paid or 0, bool(own), Address(asset))
    return InvoiceRecord(position, digest, words, secret, *asked, *got)


def find_invoice(store: Store, payment_hash: bytes) -> InvoiceRecord | None:
    """Return the invoice (or keysend payment) of that hash, None if there is none."""
    row = find(store, _INVOICES, payment_hash)
    return _record(row) if row else None


def invoices_beginning(store: Store, digits: str, limit: int = 100) -> list[InvoiceRecord]:
    """Return the invoices (but those of payments of this node to itself) whose hash begins with these hex digits."""
    query = _INVOICES.rows(*beginning("hash", digits), own=False, limit=limit)
    return [_record(row) for row in store.read(query)]


def list_invoices(store: Store, limit: int, before: int | None = None, *, own: bool = False) -> list[InvoiceRecord]:
    """Return up to `limit` invoices, newest first; `before` goes on from a position.

    `own`: with those of payments of this node to itself.
    """
    where = [] if own else [equals("own", False)]
    if before is not None:
        where.append(below("position", before))
    return [_record(row) for row in store.read(_INVOICES.rows(*where, order=("-position",), limit=limit))]


def paid_after(store: Store, position: int, limit: int) -> list[InvoiceRecord]:
    """Return up to `limit` payments that were claimed behind a position (`InvoiceRecord.paid`), in that order."""
    return [_record(row) for row in store.read(_INVOICES.rows(above("paid", position), order=("paid",), limit=limit))]
