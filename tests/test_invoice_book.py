"""Issued invoices on disk: what ended does not change again, and nothing is claimed that was not asked for."""

from __future__ import annotations

import msgspec
import pytest

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.conditions import HASH, digest_of
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address, ChannelId, Lock
from tallystick.channels.storage.store import Moment
from tallystick.channels.testing.disk import SimulatedDisk, SimulatedStore
from tallystick.router.invoices.invoice import Invoice, decode_invoice
from tallystick.router.objects import NodeKey
from tallystick.router.onion.payload import FinalLock, FinalPayload
from tallystick.router.receiving.issued import (
    InvoiceCancelled,
    InvoiceClaimed,
    InvoiceIssued,
    InvoicesPruned,
    InvoiceState,
    KeysendClaimed,
    claimable_of,
    find_invoice,
    issue,
    list_invoices,
)
from tallystick.router.receiving.payee import Claimable, Payee, PayeeOptions
from tallystick.router.sqlite import INVOICES_SCHEMA

KEY = PrivateKey(b"\x41" * 32)
NOW = 1_700_000_000
OTHER = b"\x7f" * 32


def secret(number: int) -> bytes:
    return number.to_bytes(32, "big")


def invoice(number: int, amount: int | None = 100) -> Invoice:
    return Invoice(
        payee=NodeKey(bytes(KEY.public)),
        payment_hash=digest_of(secret(number)),
        payment_secret=OTHER,
        chain_id=31337,
        contract=Address(b"\xc0" * 20),
        amount=amount,
        created=NOW + number,
        memo=f"number {number}",
    )


def issued(number: int, amount: int | None = 100) -> InvoiceIssued:
    return issue(invoice(number, amount), KEY, secret(number))


def book(*moments: Moment) -> SimulatedStore:
    disk = SimulatedDisk([INVOICES_SCHEMA])
    store = disk.open()
    store.disk = disk
    for moment in moments:
        store.commit([moment])
    return store


def payload(keysend: bytes = b"", total: int = 100) -> FinalPayload:
    return FinalPayload(total, NOW, OTHER, total, keysend)


def test_what_is_issued_can_be_found_claimed_and_read_by_the_payer() -> None:
    store = book(issued(1), issued(2, None))
    record = find_invoice(store, digest_of(secret(1)))
    assert record is not None and decode_invoice(record.text) == invoice(1)
    assert (record.memo, record.secret, record.created, record.expires) == ("number 1", secret(1), NOW + 1, NOW + 3_601)
    assert (
        record.claimable
        == claimable_of(find_invoice(store, record.payment_hash), record.payment_hash, payload())
        == (Claimable(secret(1), OTHER, 100, False, NOW + 3_601))
    )
    assert (
        any_amount := claimable_of(find_invoice(store, digest_of(secret(2))), digest_of(secret(2)), payload())
    ) and any_amount.amount == 0
    assert find_invoice(store, OTHER) is None and claimable_of(find_invoice(store, OTHER), OTHER, payload()) is None


def test_an_invoice_goes_from_open_to_one_end() -> None:
    digests = [digest_of(secret(number)) for number in range(4)]
    store = book(*(issued(number) for number in range(4)))
    store.commit([InvoiceClaimed(digests[0], secret(0), AMOUNT_MAX, NOW + 5), InvoiceCancelled(digests[1], NOW + 6)])
    states = [record.state(NOW + 3_602, held=[digests[3]]) for record in reversed(list_invoices(store, 10))]
    assert states == [InvoiceState.CLAIMED, InvoiceState.CANCELLED, InvoiceState.OPEN, InvoiceState.HELD]
    record = find_invoice(store, digests[2])
    assert record is not None and record.state(NOW + 3_603) is InvoiceState.EXPIRED
    for late in (
        InvoiceCancelled(digests[0], NOW + 9),
        InvoiceClaimed(digests[0], secret(0), 1, NOW + 9),
        InvoiceClaimed(digests[1], secret(1), 100, NOW + 9),
    ):
        store.commit([late])
    claimed, cancelled = find_invoice(store, digests[0]), find_invoice(store, digests[1])
    assert claimed is not None and (claimed.received, claimed.ended) == (AMOUNT_MAX, NOW + 5)
    assert cancelled is not None and cancelled.state(NOW) is InvoiceState.CANCELLED and cancelled.ended == NOW + 6
    assert claimed.claimable is None and cancelled.claimable is None


def test_a_hash_is_issued_once() -> None:
    store, again = book(issued(1)), issue(msgspec.structs.replace(invoice(1), memo="again"), KEY, secret(1))
    store.commit([again])  # two at once; the store must not fall over it
    assert [record.memo for record in list_invoices(store, 10)] == ["number 1"]


def test_a_keysend_and_an_invoice_that_meet_in_one_commit_are_one_record() -> None:
    digest, keysend = digest_of(secret(1)), KeysendClaimed(digest_of(secret(1)), secret(1), 70, NOW)
    for moments in ([issued(1), keysend], [keysend, issued(1)], [keysend, keysend]):
        store = book()
        store.commit(moments)
        (record,) = list_invoices(store, 10)
        assert (record.payment_hash, record.secret, record.received, record.ended) == (digest, secret(1), 70, NOW)


def test_a_hold_invoice_learns_its_secret_when_it_is_claimed() -> None:
    hold = issue(invoice(1), KEY, b"", hold=True)
    store = book(hold)
    digest = hold.payment_hash
    found = claimable_of(find_invoice(store, digest), digest, payload())
    assert found is not None and found.hold and found.secret == b""
    store.commit([InvoiceClaimed(digest, secret(1), 100, NOW)])
    record = find_invoice(store, digest)
    assert record is not None and record.secret == secret(1) and record.state(NOW) is InvoiceState.CLAIMED


@pytest.mark.parametrize(
    ("given", "hold", "why"),
    [(secret(2), False, "not the one"), (secret(1)[1:], True, "not the one"), (b"", False, "hold invoice")],
)
def test_a_secret_that_does_not_fit_is_refused(given: bytes, hold: bool, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        issue(invoice(1), KEY, given, hold=hold)
    with pytest.raises(InvalidInput, match="lifetime"):
        issue(msgspec.structs.replace(invoice(1), lifetime=2**63), KEY, secret(1))


def test_keysend_is_claimed_once_and_listed() -> None:
    store, digest = book(issued(1)), digest_of(secret(9))
    claimable = claimable_of(find_invoice(store, digest), digest, payload(secret(9)))
    assert claimable == Claimable(secret(9), OTHER, 100)
    assert claimable_of(find_invoice(store, digest), digest, payload(secret(9)), keysend=False) is None
    assert claimable_of(find_invoice(store, digest), digest, payload(secret(8))) is None
    store.commit([KeysendClaimed(digest, secret(9), 100, NOW)])
    assert claimable_of(find_invoice(store, digest), digest, payload(secret(9))) is None
    newest = list_invoices(store, 1)[0]
    assert (newest.position, newest.text, newest.received, newest.state(NOW)) == (2, "", 100, InvoiceState.CLAIMED)


def test_a_keysend_cannot_replace_the_invoice_of_its_hash() -> None:
    store = book(issued(1))
    found = claimable_of(
        find_invoice(store, digest_of(secret(1))), digest_of(secret(1)), FinalPayload(1, NOW, bytes(32), 1, secret(1))
    )
    assert found is not None and (found.amount, found.payment_secret) == (100, OTHER)


def test_a_keysend_in_parts_is_claimed_by_the_payee() -> None:
    store, digest = book(), digest_of(secret(9))
    payee = Payee(PayeeOptions())
    channels = [ChannelId(b"\x0a" * 32), ChannelId(b"\x0b" * 32)]
    answers = []
    for number, channel in enumerate(channels):
        said = FinalPayload(50, NOW + 600, bytes(32), 100, secret(9))
        part = FinalLock(channel, Lock(number, 50, NOW + 600, HASH, digest), said, b"o" * 32)
        answers += payee.on_arrived(part, claimable_of(find_invoice(store, digest), digest, said), NOW)
    assert len(answers) == 1 and type(answers[0]).__name__ == "ClaimPayment"


def test_the_list_is_read_in_pages_and_pruned_of_what_is_over() -> None:
    store = book(*(issued(number) for number in range(7)))
    first = list_invoices(store, 3)
    second = list_invoices(store, 3, before=first[-1].position)
    assert [record.position for record in (*first, *second)] == [7, 6, 5, 4, 3, 2]
    store.commit(
        [InvoiceClaimed(digest_of(secret(6)), secret(6), 100, NOW + 2), InvoiceCancelled(digest_of(secret(5)), NOW + 3)]
    )
    store.commit([InvoicesPruned(NOW + 3_602)])
    assert [record.memo for record in list_invoices(store, 10)] == [f"number {number}" for number in (6, 4, 3, 2)]
    store.commit([issued(8)])
    assert list_invoices(store, 1)[0].position == 8
