"""The store: all or nothing, one process at a time, versions that only move forward."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from simulation.pair import Pair
from tallystick.channels.errors import EngineStopped, StoreError, StoreInUse, StoreVersion
from tallystick.channels.session.inputs import SubmitPayment
from tallystick.channels.storage.schema import HistoryPruned, UpdateSigned, load_channels, sent_with
from tallystick.channels.storage.sqlite.channels import SCHEMA
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.storage.store import Moment, Subject
from tallystick.channels.storage.tables import Rows, table
from tallystick.channels.storage.writer import Writer
from tallystick.channels.testing.disk import SimulatedDisk


class Noted(Moment, frozen=True):
    text: str


NOTES = table("notes", "text")


def write_note(rows: Rows, moment: Noted) -> None:
    rows.add(NOTES, moment.text)


SUBJECT = Subject("notes", (NOTES,), {Noted: write_note})
FIRST = "CREATE TABLE notes (text TEXT PRIMARY KEY)"
V1 = Schema(SUBJECT, (FIRST,))
V2 = Schema(SUBJECT, (FIRST, "ALTER TABLE notes ADD COLUMN length INTEGER; UPDATE notes SET length = length(text)"))
BROKEN = Schema(SUBJECT, (FIRST, "UPDATE notes SET text = 'gone'; CREATE TABLE notes (text TEXT)"))


def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    store = open_store(tmp_path, [V1], owner="test")
    store.commit([Noted("one"), Noted("two")])
    assert store.commits == 1
    store.close()
    again = open_store(tmp_path, [V1], owner="test")
    assert again.read(NOTES.rows()) == [("one",), ("two",)]
    again.close()
    assert (tmp_path / "tally.db").stat().st_mode & 0o777 == 0o600


def test_a_newer_program_migrates_and_the_older_one_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path, [V1], owner="test")
    store.commit([Noted("three")])
    store.close()
    store = open_store(tmp_path, [V2], owner="test")
    assert store.read(table("notes", "text length").rows()) == [("three", 5)]
    store.close()
    with pytest.raises(StoreVersion, match="newer program"):
        open_store(tmp_path, [V1], owner="test")
    open_store(tmp_path, [V2], owner="test").close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path, [V1], owner="test")
    store.commit([Noted("kept")])
    store.close()
    with pytest.raises(StoreError, match="version 2"):
        open_store(tmp_path, [BROKEN], owner="test")
    store = open_store(tmp_path, [V1], owner="test")
    assert store.read(NOTES.rows()) == [("kept",)]
    store.close()


def test_a_commit_that_fails_writes_nothing_of_its_group(tmp_path: Path) -> None:
    store = open_store(tmp_path, [V1], owner="test")
    store.commit([Noted("one")])
    with pytest.raises(StoreError):
        store.commit([Noted("two"), Noted("one")])
    assert store.read(NOTES.rows()) == [("one",)]
    assert store.commits == 1
    with pytest.raises(StoreError):
        store.read(table("nonsense", "text").rows())
    store.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "tally.db").write_bytes(b"not a database, certainly not one" * 100)
    with pytest.raises(StoreError, match=str(tmp_path)):
        open_store(tmp_path, [V1], owner="test")


HOLDER = """
import sys
from pathlib import Path
from tallystick.channels.storage.sqlite.store import open_store
store = open_store(Path(sys.argv[1]), [], owner="the other node")
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.processes
def test_a_second_process_is_refused_by_name_until_the_first_is_gone(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-I", "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "open\n"
        with pytest.raises(StoreInUse, match=rf"the other node \(process {holder.pid}\)"):
            open_store(tmp_path, [V1], owner="test")
        holder.kill()
    open_store(tmp_path, [V1], owner="test").close()


async def test_one_commit_covers_everything_that_gathered(tmp_path: Path) -> None:
    store = open_store(tmp_path, [V1], owner="test")
    writer = Writer(store)
    order: list[str] = []
    async with trio.open_nursery() as nursery:
        for name in ("a", "b", "c"):
            writer.add([Noted(name)], partial(order.append, name))
        nursery.start_soon(writer.run)
        await writer.commit([Noted("d")])
        assert order == ["a", "b", "c"]
        assert store.commits == 1
        nursery.cancel_scope.cancel()
    store.close()


async def test_when_the_disk_refuses_nothing_that_waited_happens_ever() -> None:
    store = SimulatedDisk([V1]).open()
    writer = Writer(store)
    happened: list[str] = []
    store.full = True
    with pytest.RaisesGroup(StoreError, EngineStopped):
        async with trio.open_nursery() as nursery:
            writer.add([Noted("lost")], lambda: happened.append("then"))
            nursery.start_soon(writer.commit, [Noted("also lost")])
            nursery.start_soon(writer.run)
            await trio.sleep_forever()
    store.full = False
    with pytest.raises(EngineStopped):
        writer.add([Noted("too late")])
    await writer.room()
    assert happened == []
    assert store.read(NOTES.rows()) == []


async def test_producers_wait_while_the_disk_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.channels.storage.writer.QUEUE_MAX", 2)
    writer = Writer(SimulatedDisk([V1]).open(), inline=True)
    writer.add([Noted(str(n)) for n in range(3)])
    async with trio.open_nursery() as nursery:
        waiting = trio.Event()

        async def produce() -> None:
            await writer.room()
            waiting.set()

        nursery.start_soon(produce)
        await trio.testing.wait_all_tasks_blocked()
        assert not waiting.is_set()
        await writer.round()
        await waiting.wait()


def test_one_transaction_covers_all_channels_of_a_round() -> None:
    pair = Pair()
    pair.connect()
    pair.settle()
    before, journal = pair.alice.store.commits, table("sent", "seq").groups()
    for _ in range(50):
        pair.alice.apply(SubmitPayment(1))
    pair.alice.step()
    assert pair.alice.store.commits == before + 1
    assert pair.alice.store.read(journal) == [(1,)]


def test_a_failed_commit_sends_nothing_and_the_engine_takes_no_more() -> None:
    pair = Pair()
    pair.connect()
    pair.settle()
    pair.alice.store.full = True
    pair.alice.engine.pay(pair.id, 5)
    with pytest.raises(StoreError):
        pair.alice.step()
    assert not pair.bob.incoming
    with pytest.raises(EngineStopped):
        pair.alice.engine.pay(pair.id, 5)
    pair.crash(pair.alice)
    pair.alice.store.full = False
    assert pair.alice.channel.newest.proof.seq == 0


@pytest.mark.parametrize("takes_effect", [False, True])
def test_a_crash_in_the_commit_leaves_all_or_nothing(takes_effect: bool) -> None:
    pair = Pair()
    pair.connect()
    pair.settle()
    pair.alice.engine.pay(pair.id, 5, b"", "key")
    pair.crash_at_commit(pair.alice, takes_effect=takes_effect)
    assert len(pair.alice.channel.flight) == (1 if takes_effect else 0)
    pair.connect()
    pair.settle()
    assert pair.bob.channel.theirs.simplex.proof.transferred == (5 if takes_effect else 0)


def test_pruning_never_forgets_what_is_in_flight() -> None:
    pair = Pair()
    pair.connect()
    pair.settle()
    pair.alice.engine.pay(pair.id, 5)
    pair.settle()
    pair.alice.engine.pay(pair.id, 6)
    pair.alice.step()
    pair.alice.store.commit([HistoryPruned(pair.id, 100, 100)])
    assert sent_with(pair.alice.store, pair.id, 0) is None
    pair.crash(pair.alice)
    assert pair.alice.channel.newest.proof.transferred == 11
    pair.connect()
    pair.settle()
    assert pair.bob.channel.theirs.simplex.proof.transferred == 11


def test_a_journal_with_a_gap_is_not_used() -> None:
    pair = Pair()
    frame = b"\x92\x03\x01"
    pair.alice.store.commit([UpdateSigned(pair.id, 1, 0, 1, frame, 0.0)])
    with pytest.raises(StoreError, match="gap"):
        pair.crash(pair.alice)


def test_an_image_holds_what_was_durable_then() -> None:
    pair = Pair()
    image = pair.alice.disk.image()
    pair.connect()
    pair.settle()
    pair.alice.engine.pay(pair.id, 5)
    pair.settle()
    (old,) = load_channels(SimulatedDisk([SCHEMA], image).open())
    (new,) = load_channels(pair.alice.store)
    assert (old.ours.seq, new.ours.seq) == (0, 1)
    store = pair.alice.disk.open()
    store.close()
    with pytest.raises(StoreError):
        store.commit([HistoryPruned(pair.id, 0, 0)])
