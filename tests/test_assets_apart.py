"""What is kept of payments is kept asset by asset: parts, reputations, beliefs, invoices; old rows are of the coin."""

from __future__ import annotations

from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.conditions import HASH as KIND
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Lock
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.channels.storage.store import Subject
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.router.forwarding.jamming import Bucket, ForwardRequest, Jamming, JammingLimits
from tallystick.router.invoices.invoice import Invoice
from tallystick.router.objects import NodeKey
from tallystick.router.onion.payload import FinalLock, FinalPayload
from tallystick.router.pathfinding.beliefs import Belief, BeliefLearned, BeliefsForgotten, load_beliefs
from tallystick.router.receiving.issued import InvoiceClaimed, KeysendClaimed, claimable_of, find_invoice, issue
from tallystick.router.receiving.payee import (
    Claimable,
    ClaimPayment,
    PartRefusal,
    Payee,
    PayeeOptions,
    RefusePart,
)
from tallystick.router.sqlite import INVOICES_SCHEMA, LIQUIDITY_SCHEMA

NOW = 1_000_000
TOKEN = Address(b"\x70" * 20)
SECRET, WORD = b"s" * 32, b"w" * 32
HASH = digest_of(SECRET)
CHANNEL = ChannelId(b"c" * 32)
ANN, BEA, CAL = b"ann", b"bea", b"cal"


def part(lock: int, asset: Address, amount: int = 50, total: int = 100) -> FinalLock:
    held, said = Lock(lock, amount, NOW + 3_600, KIND, HASH), FinalPayload(min(50, amount), 0, WORD, total)
    return FinalLock(CHANNEL, held, said, b"o" * 32, asset)


# --- parts -----------------------------------------------------------------------------------------------------------


def test_parts_in_two_assets_make_no_payment() -> None:
    payee = Payee(PayeeOptions())
    said = {asset: Claimable(SECRET, WORD, 100, asset=asset) for asset in (NATIVE, TOKEN)}  # a keysend's own words
    assert payee.on_arrived(part(0, NATIVE), said[NATIVE], NOW) == []
    stray = part(1, TOKEN)
    assert payee.on_arrived(stray, said[TOKEN], NOW) == [RefusePart(stray, PartRefusal.WRONG_ASSET)]
    assert payee.on_arrived(part(2, NATIVE), said[NATIVE], NOW) == [
        ClaimPayment(HASH, SECRET, (part(0, NATIVE), part(2, NATIVE)))
    ]


def test_a_part_in_another_asset_than_the_invoice_asks_for_is_refused_and_the_rest_is_taken() -> None:
    payee, invoice = Payee(PayeeOptions()), Claimable(SECRET, WORD, 100, asset=TOKEN)
    assert payee.on_arrived(part(0, NATIVE), invoice, NOW) == [RefusePart(part(0, NATIVE), PartRefusal.WRONG_ASSET)]
    assert payee.on_arrived(part(1, TOKEN), invoice, NOW) == []
    assert isinstance(payee.on_arrived(part(2, TOKEN), invoice, NOW)[0], ClaimPayment)


def test_parts_never_add_up_to_more_than_an_amount_can_be() -> None:
    """Whoever mints a token can have more of it in several channels than is written down of one payment."""
    payee, invoice = Payee(PayeeOptions()), Claimable(SECRET, WORD, asset=TOKEN)
    first, second = (part(lock, TOKEN, AMOUNT_MAX - 1, AMOUNT_MAX) for lock in (0, 1))
    assert payee.on_arrived(first, invoice, NOW) == []
    assert payee.on_arrived(second, invoice, NOW) == [RefusePart(second, PartRefusal.SUPERFLUOUS)]


# --- reputations -----------------------------------------------------------------------------------------------------


def asked(asset: bytes, fee: int) -> ForwardRequest:
    return ForwardRequest(ANN, BEA, CHANNEL, 10, fee, NOW + 600, slots=10, value=1_000, asset=asset)


def test_fees_in_worthless_tokens_earn_no_reputation_for_coins() -> None:
    jamming = Jamming(JammingLimits())
    for number in range(20):
        jamming.began(number, asked(TOKEN, 10**30), Bucket.GENERAL, NOW)
        jamming.on_ended(number, True, NOW + 1)
    for number in range(5):  # the general bucket is full
        jamming.began(("held", number), asked(b"", 0), Bucket.GENERAL, NOW + 2)
    assert jamming.admit(asked(b"", 1), NOW + 2) is not Bucket.PROTECTED
    assert jamming.admit(asked(TOKEN, 1), NOW + 2) is Bucket.PROTECTED
    assert {name for name, _ in jamming.take_changed()} == {ANN + TOKEN, BEA + TOKEN}


def test_a_debtor_is_barred_in_every_asset() -> None:
    jamming = Jamming(JammingLimits())
    assert jamming.admit(asked(TOKEN, 1), NOW) is Bucket.GENERAL
    jamming.bar(ANN, NOW)
    assert jamming.admit(asked(TOKEN, 1), NOW) is None


# --- rows ------------------------------------------------------------------------------------------------------------


def test_beliefs_are_forgotten_asset_by_asset_and_old_ones_are_of_the_coin() -> None:
    old = Schema(Subject("liquidity", (), {}), LIQUIDITY_SCHEMA.migrations[:1])
    disk = SimulatedDisk([old])
    disk.open()
    disk._connection.execute(
        "INSERT INTO liquidity VALUES (?, ?, ?, ?)", (CHANNEL, bytes(16) + b"\x05", bytes(16) + b"\x09", 7.0)
    )
    store = SimulatedDisk([LIQUIDITY_SCHEMA], disk.image()).open()
    assert list(load_beliefs(store)) == [(CHANNEL, Belief(5, 9, 7.0))]
    other = ChannelId(b"d" * 32)
    store.commit([BeliefLearned(other, Belief(1, 2, 3.0), TOKEN)])
    assert list(load_beliefs(store, TOKEN)) == [(other, Belief(1, 2, 3.0))]
    store.commit([BeliefsForgotten(10.0, TOKEN)])
    assert list(load_beliefs(store, TOKEN)) == []
    assert list(load_beliefs(store)) == [(CHANNEL, Belief(5, 9, 7.0))]


def test_invoices_and_keysends_keep_their_asset_and_old_ones_are_of_the_coin() -> None:
    old = Schema(Subject("invoices", (), {}), INVOICES_SCHEMA.migrations[:2])
    disk = SimulatedDisk([old])
    disk.open()
    row = (b"o" * 32, 1, WORD, SECRET, bytes(16), False, NOW, NOW + 60, "tea", "text", None, bytes(16), None)
    disk._connection.execute(f"INSERT INTO invoices VALUES ({', '.join('?' * len(row))})", row)
    store = SimulatedDisk([INVOICES_SCHEMA], disk.image()).open()
    before = find_invoice(store, b"o" * 32)
    assert before is not None and (before.asset, before.memo) == (NATIVE, "tea")

    key = PrivateKey(b"k" * 32)
    invoice = Invoice(
        payee=NodeKey(bytes(key.public)),
        payment_hash=HASH,
        payment_secret=WORD,
        chain_id=1,
        contract=Address(bytes(20)),
        asset=TOKEN,
        created=NOW,
    )
    store.commit([issue(invoice, key, SECRET)])
    claimable = claimable_of(find_invoice(store, HASH), HASH, FinalPayload(1, NOW, WORD, 1), asset=NATIVE)
    assert claimable is not None and claimable.asset == TOKEN, "whatever the lock is in"
    other = digest_of(b"t" * 32)
    store.commit([InvoiceClaimed(HASH, SECRET, 5, NOW), KeysendClaimed(other, b"t" * 32, 9, NOW, TOKEN)])
    for digest, received in ((HASH, 5), (other, 9)):
        record = find_invoice(store, digest)
        assert record is not None and (record.asset, record.received) == (TOKEN, received)
    keysend = claimable_of(
        find_invoice(store, b"n" * 32), b"n" * 32, FinalPayload(1, NOW, WORD, 1, SECRET), asset=TOKEN
    )
    assert keysend is None, "its secret does not fit"
