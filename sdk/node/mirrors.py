"""What a hub between two shards has promised to pass on: stored before anybody is given the invoice that mirrors it."""

from __future__ import annotations

import msgspec

from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Rows, find, table


class InvoiceMirrored(Moment, frozen=True):
    """Whoever pays an invoice of this hash on the first shard has that one paid on the second. The first counts."""

    payment_hash: bytes
    text: str
    """The payee's invoice, on the second shard."""
    fee: int
    """What the hub takes for it, and the most that it may cost."""


class Mirror(msgspec.Struct, frozen=True):
    """One such promise."""

    text: str
    fee: int


_MIRRORS = table("mirrors", "hash text fee")


def _mirrored(rows: Rows, moment: InvoiceMirrored) -> None:
    rows.keep(_MIRRORS, moment.payment_hash, moment.text, str(moment.fee))


MIRRORS = Subject("mirrors", (_MIRRORS,), {InvoiceMirrored: _mirrored})


def find_mirror(store: Store, payment_hash: bytes) -> Mirror | None:
    """Return what is to be paid for an invoice of ours, None if nothing is."""
    row = find(store, _MIRRORS, payment_hash)
    return Mirror(row[1], int(row[2])) if row else None
