"""A merchant reads what was paid: in the order of the claims, none missed and none twice, across restarts."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.storage.store import Moment
from tallystick.channels.testing.disk import SimulatedDisk, SimulatedStore
from tallystick.router.network.paid import PaidJournal
from tallystick.router.receiving.issued import (
    InvoiceCancelled,
    InvoiceClaimed,
    InvoiceIssued,
    InvoicesPruned,
    KeysendClaimed,
    find_invoice,
    paid_after,
)
from tallystick.router.sqlite import INVOICES_SCHEMA


def secret(number: int) -> bytes:
    return number.to_bytes(32, "big")


def digest(number: int) -> bytes:
    return digest_of(secret(number))


def issued(number: int) -> InvoiceIssued:
    return InvoiceIssued(digest(number), bytes(32), secret(number), 5, False, 100, 200, "", "text")


def claimed(number: int, time: int = 150) -> InvoiceClaimed:
    return InvoiceClaimed(digest(number), secret(number), 5, time)


def opened(*moments: Moment) -> SimulatedStore:
    store = SimulatedDisk([INVOICES_SCHEMA]).open()
    for moment in moments:
        store.commit([moment])
    return store


def hashes(store: SimulatedStore, position: int = 0) -> list[bytes]:
    return [record.payment_hash for record in paid_after(store, position, 10)]


def test_claims_are_counted_in_their_own_order_and_nothing_else_is() -> None:
    store = opened(
        issued(1), issued(2), issued(3), claimed(3), KeysendClaimed(digest(9), secret(9), 4, 151), claimed(1)
    )
    assert hashes(store) == [digest(3), digest(9), digest(1)]
    assert [record.paid for record in paid_after(store, 0, 10)] == [1, 2, 3]
    assert hashes(store, 1) == [digest(9), digest(1)] and len(paid_after(store, 0, 2)) == 2
    open_one = find_invoice(store, digest(2))
    assert open_one is not None and open_one.paid == 0
    store.commit([InvoiceCancelled(digest(2), 160)])
    store.commit([claimed(2)])  # too late: without effect
    store.commit([claimed(3)])  # a second time: without effect
    assert hashes(store) == [digest(3), digest(9), digest(1)]


def test_pruning_never_makes_a_position_come_again() -> None:
    store = opened(issued(1), issued(2), claimed(1), claimed(2), InvoicesPruned(1_000), issued(3), claimed(3))
    assert [record.paid for record in paid_after(store, 0, 10)] == [2, 3]
    assert paid_after(opened(), 0, 10) == []


async def test_a_reader_gets_what_was_there_and_then_what_comes() -> None:
    store = opened(issued(1), issued(2), claimed(1))
    journal = PaidJournal(store)
    reader = journal.after(0)
    assert (await anext(reader)).payment_hash == digest(1)
    assert reader.take(5) == []
    store.commit([claimed(2)])
    journal.notify(digest(2))
    assert (await anext(reader)).payment_hash == digest(2)
    assert [record.paid for record in journal.after(1).take(5)] == [2]


async def test_who_waits_for_one_invoice_is_woken_for_that_one_and_nothing_is_left_of_who_gave_up() -> None:
    journal = PaidJournal(opened())
    woken: list[int] = []

    async def wait(number: int) -> None:
        await journal.news_of(digest(number))
        woken.append(number)

    async with trio.open_nursery() as nursery:
        for number in (1, 1, 2):
            nursery.start_soon(wait, number)
        await wait_all_tasks_blocked()
        journal.notify(digest(3))
        journal.notify(digest(1))
        await wait_all_tasks_blocked()
        assert woken == [1, 1]
        nursery.cancel_scope.cancel()
    assert journal._asked == {}


def test_what_is_no_position_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no position"):
        PaidJournal(opened()).after(-1)
