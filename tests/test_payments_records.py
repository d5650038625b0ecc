"""What a payer keeps of its payments survives a restart, once each."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from tallystick.channels.errors import StoreError
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.channels.storage.sqlite.store import SqliteStore, open_store
from tallystick.channels.storage.store import Moment, Subject
from tallystick.channels.storage.tables import Rows, last, table
from tallystick.router.errors import Unpaid
from tallystick.router.objects import Hop, NodeKey, Route
from tallystick.router.sending.payments import (
    Order,
    PartEnded,
    PartSent,
    PaymentEnded,
    PaymentKind,
    PaymentOrdered,
    PaymentsPruned,
    find_payment,
    list_payments,
    load_parts,
    pending_payments,
)
from tallystick.router.sqlite import PAYMENTS_SCHEMA

TARGET = NodeKey(b"\x02" * 33)
CHANNEL = ChannelId(b"c" * 32)
ROUTE = Route((Hop(CHANNEL, TARGET, 2**70),))


def order(number: int = 0, amount: int = 2**70) -> Order:
    return Order(
        payment_hash=bytes([number]) * 32,
        target=TARGET,
        amount=amount,
        max_fee=5,
        lock_seconds=3_600,
        gives_up=60.0,
        created=1.0,
    )


def reopened(directory: Path, store: SqliteStore | None = None) -> SqliteStore:
    if store is not None:
        store.close()
    return open_store(directory, [PAYMENTS_SCHEMA], owner="test")


def test_orders_parts_and_ends_survive_a_restart(tmp_path: Path) -> None:
    store = reopened(tmp_path)
    part = PartSent(order().payment_hash, 0, CHANNEL, 7, ROUTE, (b"k" * 32,))
    store.commit([PaymentOrdered(order()), part])
    store = reopened(tmp_path, store)
    (pending,) = pending_payments(store)
    assert pending.order == order() and not pending.is_paid
    store.commit(
        [PartEnded(CHANNEL, 7, b"s" * 32), PaymentEnded(order().payment_hash, b"s" * 32, 2**65, None, "", 9.0)]
    )
    store = reopened(tmp_path, store)
    (record,) = load_parts(store, order().payment_hash)
    assert (record.route, record.secrets, record.ended, record.secret) == (ROUTE, (b"k" * 32,), True, b"s" * 32)
    paid = find_payment(store, order().payment_hash)
    assert paid is not None and paid.is_paid and paid.fee == 2**65 and pending_payments(store) == []
    store.close()


def test_an_order_replaces_one_that_ended_unpaid_and_nothing_else(tmp_path: Path) -> None:
    store = reopened(tmp_path)
    digest = order().payment_hash
    store.commit([PaymentOrdered(order()), PartSent(digest, 0, CHANNEL, 7, ROUTE, ())])
    with pytest.raises(StoreError):
        store.commit([PaymentOrdered(order(amount=1))])
    assert len(load_parts(store, digest)) == 1
    store.commit([PartEnded(CHANNEL, 7, b""), PaymentEnded(digest, b"", 0, Unpaid.NO_ROUTE, "no way", 2.0)])
    store.commit([PaymentOrdered(order(amount=1))])
    record = find_payment(store, digest)
    assert record is not None and record.order.amount == 1 and record.ended is None
    assert load_parts(store, digest) == []
    store.close()


def test_a_secret_once_stored_is_never_overwritten(tmp_path: Path) -> None:
    store = reopened(tmp_path)
    digest = order().payment_hash
    store.commit([PaymentOrdered(order()), PaymentEnded(digest, b"s" * 32, 1, None, "", 1.0)])
    store.commit([PaymentEnded(digest, b"", 0, Unpaid.TIMEOUT, "late", 2.0)])
    record = find_payment(store, digest)
    assert record is not None and record.secret == b"s" * 32 and record.reason is None
    store.close()


def test_payments_are_listed_newest_first_and_pruned_once_they_ended(tmp_path: Path) -> None:
    store = reopened(tmp_path)
    for number in range(5):
        store.commit([PaymentOrdered(order(number))])
    newest = list_payments(store, 2)
    assert [record.order.payment_hash[0] for _, record in newest] == [4, 3]
    assert [record.order.payment_hash[0] for _, record in list_payments(store, 9, before=newest[-1][0])] == [2, 1, 0]
    store.commit([PaymentEnded(order(0).payment_hash, b"", 0, Unpaid.CANCELLED, "", 5.0), PaymentsPruned(6.0)])
    assert [record.order.payment_hash[0] for _, record in list_payments(store, 9)] == [4, 3, 2, 1]
    store.close()


def test_probes_are_listed_only_for_who_asks_for_them(tmp_path: Path) -> None:
    store = reopened(tmp_path)
    for number, kind in enumerate(
        (PaymentKind.INVOICE, PaymentKind.PROBE, PaymentKind.KEYSEND, PaymentKind.PROBE, PaymentKind.REBALANCE)
    ):
        store.commit([PaymentOrdered(msgspec.structs.replace(order(number), kind=kind))])
    store = reopened(tmp_path, store)

    def kinds(limit: int, before: int | None = None, *, probes: bool) -> list[PaymentKind]:
        return [record.order.kind for _, record in list_payments(store, limit, before, probes=probes)]

    assert kinds(9, probes=False) == [PaymentKind.REBALANCE, PaymentKind.KEYSEND, PaymentKind.INVOICE]
    assert kinds(2, probes=True) == [PaymentKind.REBALANCE, PaymentKind.PROBE]
    assert kinds(2, 4, probes=False) == [PaymentKind.KEYSEND, PaymentKind.INVOICE]
    assert [record.order.kind for record in pending_payments(store)].count(PaymentKind.PROBE) == 2
    store.close()


class _OldOrder(Moment, frozen=True):
    """An order as the first version wrote it."""

    order: Order


_OLD = table("payments", "hash position body ended secret fee reason text")


def _write_old(rows: Rows, moment: _OldOrder) -> None:
    fields = {name: value for name, value in msgspec.structs.asdict(moment.order).items() if name != "kind"}
    position = last(rows, _OLD, "position") + 1
    rows.add(_OLD, moment.order.payment_hash, position, msgspec.msgpack.encode(fields), None, b"", b"", "", "")


def test_payments_of_older_versions_get_their_kinds(tmp_path: Path) -> None:
    old = Schema(Subject("payments", (), {_OldOrder: _write_old}), PAYMENTS_SCHEMA.migrations[:1])
    orders = (
        msgspec.structs.replace(order(1, 5), memo="probe"),
        msgspec.structs.replace(order(2, 5), first_channel=CHANNEL, last_channel=CHANNEL),
        msgspec.structs.replace(order(3, 5), keysend=b"s" * 32),
        msgspec.structs.replace(order(4, 5), memo="probe", invoice="tally…"),
    )
    with closing(open_store(tmp_path, [old], owner="test")) as store:
        store.commit([_OldOrder(one) for one in orders])
    with closing(reopened(tmp_path)) as store:
        found = {record.order.payment_hash[0]: record.order.kind for _, record in list_payments(store, 9)}
    assert found == {1: PaymentKind.PROBE, 2: PaymentKind.REBALANCE, 3: PaymentKind.KEYSEND, 4: PaymentKind.INVOICE}
