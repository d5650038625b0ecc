"""How much history a channel keeps: never less than safety needs, never much more than its owner wants."""

from __future__ import annotations

import pytest

from simulation.pair import Pair, Party
from simulation.rows import sqlite_of
from tallystick.channels.errors import HistoryGone, InvalidInput, StoreError
from tallystick.channels.limits import HISTORY_BATCH, Policy
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.session.inputs import KeepHistory, RevealSecret, SubmitLock
from tallystick.channels.session.session import LOCK_HISTORY
from tallystick.channels.storage.older import older_state
from tallystick.channels.storage.schema import payment_of
from tallystick.channels.storage.tables import table
from tallystick.channels.testing.clock import EPOCH
from tallystick.sdk.node.incoming import Journal


def rows(party: Party, name: str) -> int:
    return int(party.store.read(table(name, "seq").groups())[0][0])


def ready(policy: Policy | None = None) -> Pair:
    pair = Pair((10**9, 10**9), policy=policy)
    pair.connect()
    pair.settle()
    return pair


def pay(pair: Pair, times: int) -> None:
    for _ in range(times):
        pair.alice.engine.pay(pair.id, 1)
        pair.settle()


@pytest.mark.parametrize("keep", [0, 10])
def test_the_journals_stay_small_and_the_money_is_all_there(keep: int) -> None:
    pair = ready(Policy(history=keep))
    pay(pair, 3 * HISTORY_BATCH)
    for party, journal in ((pair.alice, "sent"), (pair.bob, "received")):
        assert keep <= rows(party, journal) <= keep + HISTORY_BATCH + 1
    assert pair.bob.channel.theirs.simplex.next_payment == 3 * HISTORY_BATCH


def test_a_channel_that_ever_held_a_lock_keeps_what_tells_the_locks_of_states_that_may_stand() -> None:
    pair = ready(Policy(history=0))
    secret = b"\x01" * 32
    number = pair.alice.apply(SubmitLock(1_000, int(EPOCH) + 5_000, digest_of(secret)))
    pair.settle()
    pair.bob.apply(RevealSecret(number, secret))
    pair.settle()
    pay(pair, 2 * HISTORY_BATCH)
    assert LOCK_HISTORY > 2 * HISTORY_BATCH + 10
    assert rows(pair.alice, "sent") == rows(pair.bob, "received") == pair.alice.channel.ours.seq
    for party, sender in ((pair.alice, pair.alice.channel.side), (pair.bob, pair.alice.channel.side)):
        found = older_state(party.store, party.channel, sender, 1)
        assert found is not None and [lock.id for lock in found.locks] == [number]


def test_by_default_all_is_kept() -> None:
    pair = ready()
    pay(pair, HISTORY_BATCH + 10)
    assert (rows(pair.alice, "sent"), rows(pair.bob, "received")) == (HISTORY_BATCH + 10,) * 2


def test_what_is_signed_and_not_agreed_is_never_pruned_and_is_resumed_after_a_crash() -> None:
    pair = ready(Policy(history=0))
    pay(pair, HISTORY_BATCH - 1)
    pair.alice.engine.pay(pair.id, 1)
    pair.alice.step()
    pair.alice.apply(KeepHistory(0))
    pair.alice.step()
    pair.crash(pair.alice)
    assert len(pair.alice.channel.flight) == 1
    pair.connect()
    pair.settle()
    assert pair.bob.channel.theirs.simplex.next_payment == HISTORY_BATCH


def test_a_channels_own_choice_is_stored_and_goes_before_the_nodes() -> None:
    pair = ready(Policy(history=0))
    pair.bob.apply(KeepHistory(None))
    pair.settle()
    pair.crash(pair.bob)
    pair.connect()
    pay(pair, HISTORY_BATCH + 5)
    assert rows(pair.bob, "received") == HISTORY_BATCH + 5
    assert rows(pair.alice, "sent") < HISTORY_BATCH
    with pytest.raises(InvalidInput):
        pair.bob.apply(KeepHistory(-1))


def test_who_has_read_everything_reads_on_and_who_has_not_is_told() -> None:
    pair = ready()
    pay(pair, 4)
    journal = Journal(pair.bob.store)
    reader, late = journal.payments("", pair.id), journal.payments("", None)
    cursors = [payment.cursor for payment in reader.take(10)]
    assert len(cursors) == 4
    pair.bob.apply(KeepHistory(0))
    pair.settle()
    pay(pair, 2)
    assert [payment.payment for payment in reader.take(10)] == [4, 5]
    assert [payment.payment for payment in journal.payments(cursors[2], pair.id).take(10)] == [3, 4, 5]
    with pytest.raises(HistoryGone):
        late.take(1)
    with pytest.raises(HistoryGone):
        journal.payments(cursors[1], pair.id).take(1)


def test_a_key_outlives_its_payments_record() -> None:
    pair = ready(Policy(history=0))
    pair.alice.engine.pay(pair.id, 1, b"", "once")
    pair.settle()
    pay(pair, 2 * HISTORY_BATCH)
    assert payment_of(pair.alice.store, "once") == (pair.id, 0)
    with pytest.raises(InvalidInput):
        pair.alice.engine.pay(pair.id, 1, b"", "once")


def test_a_node_whose_disk_fills_up_in_a_flood_stops_clearly_and_goes_on_once_there_is_space() -> None:
    pair = ready()
    writer = sqlite_of(pair.alice.store)._writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages + 60}")
    paid = 0

    def flood() -> None:
        nonlocal paid
        while True:
            for _ in range(200):
                pair.alice.engine.pay(pair.id, 1, bytes(200))
            pair.settle()
            paid += 200

    with pytest.raises(StoreError, match="free space"):
        flood()
    assert paid > 0
    signed = {seq for (seq,) in pair.alice.store.read(table("sent", "seq").rows())}
    sent_to_bob = pair.bob.channel.theirs.seq
    writer.execute("PRAGMA max_page_count = 1000000")
    pair.crash(pair.alice)
    assert sent_to_bob <= max(signed) == pair.alice.channel.newest.proof.seq
    assert pair.alice.channel.newest.next_payment >= paid
    pair.connect()
    pair.settle()
    pay(pair, 3)
    assert pair.bob.channel.theirs.simplex.next_payment == pair.alice.channel.ours.simplex.next_payment >= paid + 3


def told(journal: Journal, after: str = "", pages: int = 1) -> list[int]:
    """Return the numbers of the payments that a reader gets who begins anew behind the last cursor of each page."""
    numbers: list[int] = []
    while page := journal.payments(after, None).take(pages):
        numbers += [payment.payment for payment in page]
        after = page[-1].cursor
    return numbers


def test_who_begins_at_the_oldest_gets_all_that_is_left_however_often_it_begins_anew() -> None:
    pair = ready(Policy(history=10))
    pay(pair, 2 * HISTORY_BATCH)
    journal = Journal(pair.bob.store)
    with pytest.raises(HistoryGone, match="'oldest'"):
        journal.payments("", None).take(1)
    kept = rows(pair.bob, "received")
    for pages in (1, 7, 1000):
        assert told(journal, "oldest", pages) == list(range(2 * HISTORY_BATCH - kept, 2 * HISTORY_BATCH))
    assert told(journal, "newest") == told(journal, journal.newest()) == []
    before = journal.newest()
    pay(pair, 1)
    assert told(journal, before) == [2 * HISTORY_BATCH]


def prune_elsewhere(party: Party, position: int) -> None:
    """Note that a payment of some other channel, in that row of the journal, was pruned."""
    sqlite_of(party.store)._writer.execute(
        "INSERT OR REPLACE INTO history (channel, position, payments) VALUES (x'07', ?, 1)", (position,)
    )


def test_what_another_channel_still_has_from_before_is_told_and_its_cursors_go_on() -> None:
    pair = ready()
    pay(pair, 5)
    prune_elsewhere(pair.bob, 3)
    journal = Journal(pair.bob.store)
    first, second, *rest = journal.payments("oldest", None).take(10)
    assert [payment.payment for payment in (first, second, *rest)] == [0, 1, 2, 3, 4]
    assert "~" in first.cursor and "~" not in rest[-1].cursor, "until it has passed what is gone, a reader says so"
    assert [payment.payment for payment in journal.payments(first.cursor, None).take(10)] == [1, 2, 3, 4]
    with pytest.raises(HistoryGone):
        journal.payments(first.cursor.partition("~")[0], None).take(1)
    prune_elsewhere(pair.bob, 4)
    with pytest.raises(HistoryGone, match="pruned"):
        journal.payments(first.cursor, None).take(1)
    for wrong in ("oldest~", "1.1~x", "1~1.1", "newest2"):
        with pytest.raises(InvalidInput):
            journal.payments(wrong, None)
