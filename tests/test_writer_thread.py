"""The writer's thread: the loop goes on while the disk works, nothing is lost between the two, and the thread ends."""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from simulation.pair import Pair
from simulation.rows import sql
from tallystick.channels.errors import InvalidInput, StoreError
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session.tickets import Ticket
from tallystick.channels.storage import disk_thread
from tallystick.channels.storage.disk_thread import open_disk_thread
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.channels.storage.sqlite.store import LOG_SIZE, open_store
from tallystick.channels.storage.store import Moment, Subject
from tallystick.channels.storage.tables import Rows, table
from tallystick.channels.storage.writer import Round, Writer
from tallystick.channels.testing.disk import SimulatedDisk


class Noted(Moment, frozen=True):
    text: str


ROWS = table("notes", "text")


def write_note(rows: Rows, moment: Noted) -> None:
    rows.add(ROWS, moment.text)


NOTES = Schema(Subject("notes", (ROWS,), {Noted: write_note}), ("CREATE TABLE notes (text TEXT PRIMARY KEY)",))


async def test_the_loop_goes_on_while_a_call_is_under_way() -> None:
    answers = queue.SimpleQueue[int]()
    got: list[int] = []

    async def answer() -> None:
        answers.put(threading.get_ident())

    async with open_disk_thread() as thread, trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        await thread.run(lambda: got.append(answers.get()))
        await thread.run(lambda: got.append(threading.get_ident()))
    assert got[0] == threading.get_ident() != got[1]


async def test_what_a_call_raises_comes_out_and_the_next_one_is_made() -> None:
    done: list[str] = []

    def refuse() -> None:
        raise StoreError("the disk is full: free space")

    async with open_disk_thread() as thread:
        with pytest.raises(StoreError, match="full"):
            await thread.run(refuse)
        await thread.run(lambda: done.append("next"))
    assert done == ["next"]


async def test_cancelling_waits_for_the_call_and_the_thread_ends() -> None:
    started, go_on, done = trio.Event(), queue.SimpleQueue[None](), list[str]()
    token = trio.lowlevel.current_trio_token()
    before = threading.active_count()

    def call() -> None:
        token.run_sync_soon(started.set)
        go_on.get()
        done.append("finished")

    async def use() -> None:
        async with open_disk_thread() as thread:
            await thread.run(call)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(use)
        await started.wait()
        nursery.cancel_scope.cancel()
        go_on.put(None)
    assert done == ["finished"]
    assert threading.active_count() <= before + 1  # an idle one may stay in trio's cache


def interrupt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ctrl-C come in the next wait for the thread."""
    waits, wait = [KeyboardInterrupt()], trio.lowlevel.wait_readable

    async def interrupted(fd: int) -> None:
        if waits:
            raise waits.pop()
        await wait(fd)

    monkeypatch.setattr(trio.lowlevel, "wait_readable", interrupted)


async def test_a_call_is_waited_for_to_its_own_end_also_after_an_interrupted_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gates, done = queue.SimpleQueue[None](), list[str]()

    def second() -> None:
        gates.get(timeout=10)
        done.append("second")

    async with open_disk_thread() as thread:
        interrupt_once(monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            await thread.run(lambda: done.append("first"))
        threading.Timer(0.05, gates.put, [None]).start()
        await thread.run(second)
        assert done == ["first", "second"]


async def test_the_thread_touches_no_file_after_its_end_also_after_an_interrupted_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A byte that is written late could land in whatever file was opened under the same number meanwhile."""
    closed, late, gate = set[int](), list[int](), queue.SimpleQueue[None]()
    writes = iter(range(10))

    def write(fd: int, data: bytes) -> int:
        if next(writes):
            with contextlib.suppress(queue.Empty):
                gate.get(timeout=0.2)
        if fd in closed:
            late.append(fd)
            gate.put(None)
            return 1
        return os.write(fd, data)

    def close(fd: int) -> None:
        closed.add(fd)
        os.close(fd)

    monkeypatch.setattr(disk_thread, "os", SimpleNamespace(pipe=os.pipe, read=os.read, write=write, close=close))
    async with open_disk_thread() as thread:
        interrupt_once(monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            await thread.run(lambda: None)
    with contextlib.suppress(queue.Empty):
        gate.get(timeout=0.5)
    assert late == [] and len(closed) == 2


async def test_a_round_is_one_commit_and_asks_for_no_other(tmp_path: Path) -> None:
    store = open_store(tmp_path, [NOTES], owner="test")
    writer, prepared = Writer(store), list[int]()

    def prepare() -> Round:
        moments: list[Moment] = [] if prepared else [Noted("signed in this round")]
        prepared.append(store.commits)
        return Round(moments)

    writer.before_commit(prepare)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await writer.commit([Noted("asked for")])
        await trio.testing.wait_all_tasks_blocked()
        assert (prepared, store.commits) == ([0], 1)
        nursery.cancel_scope.cancel()
    store.close()


async def test_what_is_woken_while_a_round_is_prepared_gets_a_round() -> None:
    writer, rounds = Writer(SimulatedDisk([NOTES]).open(), inline=True), list[int]()

    def prepare() -> Round:
        rounds.append(len(rounds))
        if len(rounds) == 1:
            writer.wake()
        return Round()

    writer.before_commit(prepare)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        writer.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert rounds == [0, 1]
        nursery.cancel_scope.cancel()


def test_the_log_has_its_size_from_the_start_and_commits_do_not_change_it(tmp_path: Path) -> None:
    store = open_store(tmp_path, [NOTES], owner="test")
    log = tmp_path / "tally.db-wal"
    assert log.stat().st_size == LOG_SIZE
    for number in range(50):
        store.commit([Noted(str(number))])
    assert log.stat().st_size == LOG_SIZE
    assert log.stat().st_mode & 0o777 == 0o600
    store.close()


@pytest.mark.parametrize("notes", [0, 1, 40, 2_000])
def test_a_crash_leaves_every_commit_in_the_log_that_was_laid_out(tmp_path: Path, notes: int) -> None:
    store = open_store(tmp_path / "before", [NOTES], owner="test", durable=True)
    for number in range(notes):
        store.commit([Noted(f"{number:>9}")])
    (tmp_path / "after").mkdir()
    for name in os.listdir(tmp_path / "before"):
        if not name.endswith("-shm"):  # memory that is shared between processes: gone after a crash
            shutil.copy(tmp_path / "before" / name, tmp_path / "after" / name)
    again = open_store(tmp_path / "after", [NOTES], owner="test")
    assert sql(again, "SELECT count(*), count(DISTINCT text) FROM notes") == [(notes, notes)]
    again.commit([Noted("goes on")])
    assert sql(again, "PRAGMA integrity_check") == [("ok",)]
    again.close()
    store.close()


def test_the_garbage_collector_does_not_look_at_tickets() -> None:
    assert not gc.is_tracked(Ticket(ChannelId(bytes(32)), (1, 2), b"memo", "key", 0.0))


async def test_a_failure_told_twice_is_the_same_failure_and_keeps_no_frames() -> None:
    ticket = Ticket(ChannelId(bytes(32)), (1,), b"", "", 0.0)
    ticket.fail(InvalidInput("no: ask for less"))
    for _ in range(2):
        with pytest.raises(InvalidInput, match="ask for less"):
            await ticket.wait()
    assert ticket.error is not None and ticket.error.__traceback__ is None


def test_keys_are_refused_after_thousands_of_others_and_free_again_when_nothing_was_paid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tallystick.channels.node.admission.KEYED_MIN", 10)
    pair = Pair(deposits=(10_000, 0))
    engine = pair.alice.engine
    waiting = engine.pay(pair.id, 1, key="waiting")
    given_up = engine.pay(pair.id, 1, key="given up")
    given_up.give_up()
    pair.connect()
    pair.settle()
    assert waiting.receipt is not None
    for number in range(100):
        engine.pay(pair.id, 1, key=f"order {number}")
        if number % 7 == 0:
            pair.settle()
    for taken in ("waiting", "order 0", "order 98", "order 99"):
        with pytest.raises(InvalidInput, match="another payment"):
            engine.pay(pair.id, 1, key=taken)
    engine.pay(pair.id, 1, key="given up")
    pair.settle()
    assert pair.bob.session.channel.theirs.simplex.next_payment == 102
