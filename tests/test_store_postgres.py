"""The store on a real PostgreSQL server: it tells what the other engines tell, and survives what befalls a server."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_store_engines import LOG, MADE_UP, SCRIPT, THINGS, Changed, changes, queries
from test_store_histories import MOMENTS, everything

from simulation.engines import ALL, is_taken, memory_disk
from simulation.postgres_server import MISSING, PostgresServer, programs, run_postgres
from tallystick.channels.errors import InvalidInput, StoreError, StoreForeign, StoreInUse, StoreVersion
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.channels.storage.store import Moment, Store
from tallystick.channels.storage.tables import TableQuery
from tallystick.channels.testing.memory import MemoryDisk

psycopg = pytest.importorskip("psycopg")
from tallystick.channels.storage.postgres import store as postgres  # noqa: E402
from tallystick.channels.storage.postgres.store import PostgresStore, open_postgres  # noqa: E402

pytestmark = [pytest.mark.processes, pytest.mark.skipif(programs() is None, reason=MISSING)]

MADE_UP_SCHEMA = Schema(MADE_UP, (SCRIPT,))
NAMES = map("store_{}".format, itertools.count())


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with run_postgres() as running:
        yield running


def opened(server: PostgresServer, name: str = "", schemas: Sequence[Schema] = (MADE_UP_SCHEMA,)) -> PostgresStore:
    return open_postgres(server.url, schemas, name=name or next(NAMES), owner="a test")


def emptied(store: PostgresStore) -> PostgresStore:
    """Empty all tables, so that examples need not make them anew."""
    with psycopg.connect(store._url) as connection:
        names = ", ".join(f"{store._name}.{name}" for name in store._made)
        connection.execute(f"TRUNCATE {names} RESTART IDENTITY".encode())
    return store


def same(one: Store, other: Store, asked: Sequence[TableQuery]) -> None:
    for query in asked:
        assert one.read(query) == other.read(query), query


def test_whatever_is_changed_and_asked_it_gives_what_the_engine_in_memory_gives(server: PostgresServer) -> None:
    store = opened(server)

    @settings(max_examples=80)
    @given(
        commits=st.lists(st.lists(changes(), min_size=1, max_size=4), max_size=12),
        asked=st.lists(queries(), max_size=8),
    )
    def compare(commits: list[list[Changed]], asked: list[TableQuery]) -> None:
        emptied(store)
        other = MemoryDisk([MADE_UP]).open()
        for commit in commits:
            assert is_taken(store, commit) == is_taken(other, commit), commit
            same(store, other, [*asked, *(each.rows() for each in MADE_UP.tables)])

    compare()
    store.close()


def test_whatever_history_of_real_moments_it_tells_what_the_engine_in_memory_tells(server: PostgresServer) -> None:
    store = opened(server, schemas=ALL)

    @settings(max_examples=30)
    @given(commits=st.lists(st.lists(MOMENTS, min_size=1, max_size=6), min_size=1, max_size=10))
    def compare(commits: list[list[Moment]]) -> None:
        emptied(store)
        other = memory_disk(ALL).open()
        for commit in commits:
            assert is_taken(store, commit) == is_taken(other, commit), commit
        for first, second in zip(everything(store), everything(other), strict=True):
            assert first == second

    compare()
    store.close()


def test_what_a_column_cannot_hold_is_refused_and_nothing_is_written(server: PostgresServer) -> None:
    store = opened(server)
    for row in [
        (1, b"b", 0.5, "y", 0),
        (1, "text", 1, "y", 0),
        (b"a", b"b", 1, "y", 0),
        (1, b"b", 1, 2, 0),
        (2**63, b"b", 1, "y", 0),
    ]:
        with pytest.raises(StoreError, match="is nothing for the column"):
            store.commit([Changed("put", THINGS, (0, b"", 1, "y", 0)), Changed("put", THINGS, row)])
    assert store.read(THINGS.rows()) == [] and store.commits == 0
    store.commit([Changed("put", THINGS, (1, b"\0", -(2**63), "a\0b", 0))])
    assert store.read(THINGS.rows()) == [(1, b"\0", -(2**63), "a\0b", 0)]
    store.close()


def test_a_store_has_one_owner_and_is_free_once_it_is_closed(server: PostgresServer) -> None:
    name = next(NAMES)
    store = opened(server, name)
    with pytest.raises(StoreInUse, match=f"{name} is in use by a test .process {os.getpid()} of "):
        opened(server, name)
    other = opened(server)  # another store of the same database is another matter
    store.close()
    again = opened(server, name)
    again.close()
    other.close()
    with pytest.raises(StoreError, match="closed"):
        again.commit([Changed("add", LOG, (1, b""))])


def test_who_was_taken_over_from_writes_nothing_any_more_not_even_what_it_had_begun(server: PostgresServer) -> None:
    name = next(NAMES)
    paused = opened(server, name)
    paused.commit([Changed("add", LOG, (1, b"signed"))])
    taker = open_postgres(server.url, [MADE_UP_SCHEMA], name=name, owner="the taker", force=True)
    taker.commit([Changed("add", LOG, (2, b"signed by the taker"))])
    for _ in range(2):
        with pytest.raises(StoreError, match="taken over by the taker"):
            paused.commit([Changed("add", LOG, (3, b"signed twice"))])
    taker.commit([Changed("add", LOG, (4, b"more"))])
    assert [row[1:] for row in taker.read(LOG.rows())] == [
        (1, b"signed"),
        (2, b"signed by the taker"),
        (4, b"more"),
    ]
    paused.close()
    taker.close()


def test_the_fence_holds_even_where_the_connection_of_who_was_taken_over_from_lives_on(server: PostgresServer) -> None:
    name = next(NAMES)
    paused = opened(server, name)
    with psycopg.connect(server.url, autocommit=True) as person:
        person.execute(f"UPDATE {name}.owner SET epoch = epoch + 1, holder = 'somebody else'".encode())
    with pytest.raises(StoreError, match="taken over by somebody else"):
        paused.commit([Changed("add", LOG, (3, b"signed twice"))])
    assert paused.read(LOG.rows()) == []
    paused.close()


def test_a_server_that_crashes_and_comes_back_loses_nothing_and_is_waited_for(server: PostgresServer) -> None:
    store = opened(server)
    store.commit([Changed("add", LOG, (1, b"one"))])
    server.stop()
    back = threading.Timer(0.5, server.start)
    back.start()
    store.commit([Changed("add", LOG, (2, b"two"))])
    back.join()
    assert [row[1:] for row in store.read(LOG.rows())] == [(1, b"one"), (2, b"two")]
    server.stop("fast")
    server.start()
    assert [row[1:] for row in store.read(LOG.rows())] == [(1, b"one"), (2, b"two")]
    store.commit([Changed("add", LOG, (3, b"three"))])
    assert len(store.read(LOG.rows())) == store.commits == 3
    store.close()


@pytest.mark.parametrize("takes_effect", [False, True])
def test_a_commit_that_is_cut_off_is_made_once_whether_it_took_effect_or_not(
    server: PostgresServer, takes_effect: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, transact = opened(server), PostgresStore._transact

    def cut(self: PostgresStore, moments: Sequence[Moment]) -> None:
        monkeypatch.undo()
        if takes_effect:
            transact(self, moments)
        with psycopg.connect(server.url, autocommit=True) as person:
            person.execute("SELECT pg_terminate_backend(%s)", (self._writer.info.backend_pid,))
        self._writer.execute("SELECT 1")

    monkeypatch.setattr(PostgresStore, "_transact", cut)
    store.commit([Changed("add", LOG, (1, b"one"))])
    store.commit([Changed("add", LOG, (2, b"two"))])
    assert [row[1:] for row in store.read(LOG.rows())] == [(1, b"one"), (2, b"two")]
    assert store.commits == 2
    store.close()


@pytest.mark.parametrize("counted", [-1, 2])
def test_a_server_that_has_forgotten_commits_or_counts_others_is_refused(server: PostgresServer, counted: int) -> None:
    name = next(NAMES)
    store = opened(server, name)
    store.commit([Changed("add", LOG, (1, b"one"))])
    with psycopg.connect(server.url, autocommit=True) as person:
        person.execute(f"UPDATE {name}.owner SET commits = commits + {counted}".encode())
        person.execute("SELECT pg_terminate_backend(%s)", (store._writer.info.backend_pid,))
    with pytest.raises(StoreError, match="forgotten commits"):
        store.commit([Changed("add", LOG, (2, b"two"))])
    with pytest.raises(StoreError, match="forgotten commits"):
        store.commit([Changed("add", LOG, (2, b"two"))])
    assert len(store.read(LOG.rows())) == 1
    store.close()


def test_a_server_that_stays_away_fails_the_store_for_good(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "RECONNECT", 0.3)
    store = opened(server)
    server.stop()
    with pytest.raises(StoreError, match="does not come back"):
        store.commit([Changed("add", LOG, (1, b"one"))])
    server.start()
    with pytest.raises(StoreError, match="does not come back"):
        store.commit([Changed("add", LOG, (1, b"one"))])
    store.close()


def test_a_server_whose_commits_are_durable_in_name_only_is_refused(server: PostgresServer) -> None:
    server.stop("fast")
    server.start(fsync="off")
    with pytest.raises(StoreError, match="fsync is not on"):
        opened(server)
    server.stop("fast")
    server.start(synchronous_commit="off")
    store = opened(server)
    assert store._writer.execute("SHOW synchronous_commit").fetchone() == ("on",)
    store.close()
    server.stop("fast")
    server.start()


def test_tables_of_another_program_or_version_are_refused_and_left_alone(server: PostgresServer) -> None:
    name = next(NAMES)
    opened(server, name).close()
    with pytest.raises(StoreVersion, match="version 1, this program writes 2"):
        opened(server, name, [Schema(MADE_UP, (SCRIPT, "SELECT 1"))])
    with pytest.raises(StoreForeign, match="made-up"):
        opened(server, name, ALL)
    opened(server, name).close()


@pytest.mark.parametrize("name", ["", "Node", "a b", 'x"y', "é", "n" * 64])
def test_a_name_or_an_address_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="is no name of a store"):
        open_postgres("host=/nowhere", [MADE_UP_SCHEMA], name=name, owner="a test")
    with pytest.raises(InvalidInput, match="no address of a database"):
        open_postgres("no url", [MADE_UP_SCHEMA], name="node", owner="a test")
    with pytest.raises(StoreError, match="cannot be reached"):
        open_postgres("host=/nowhere", [MADE_UP_SCHEMA], name="node", owner="a test")


LOOP = """
import sys
from test_store_postgres import LOG, MADE_UP_SCHEMA, Changed
from tallystick.channels.storage.postgres.store import open_postgres
url, name, first = sys.argv[1:]
store = open_postgres(url, [MADE_UP_SCHEMA], name=name, owner="a process")
for number in range(int(first), 10**6):
    store.commit([Changed("add", LOG, (2 * number, b"half")), Changed("add", LOG, (2 * number + 1, b"half"))])
    print(number, flush=True)
"""
"""Commits pairs of rows, and says each pair that is durable."""


def looping(server: PostgresServer, name: str, first: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LOOP, server.url, name, str(first)]
    return subprocess.Popen(
        command, cwd=os.path.dirname(__file__), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def read_pairs(store: PostgresStore) -> list[int]:
    """Return the numbers of all rows, which come in whole pairs without a gap."""
    found = [row[1] for row in store.read(LOG.rows())]
    assert found == list(range(len(found))) and len(found) % 2 == 0
    return found


def test_what_a_killed_process_said_to_be_durable_is_there_for_the_next_owner(server: PostgresServer) -> None:
    name, pairs = next(NAMES), 0
    for more in range(3):
        with looping(server, name, pairs) as process:
            assert process.stdout is not None
            until = pairs + 50 + more
            while int(process.stdout.readline()) < until:
                pass
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
        said = int(rest[-1]) if rest else until
        store = opened(server, name)
        pairs = len(read_pairs(store)) // 2
        assert pairs in (said + 1, said + 2)
        store.close()


def test_a_paused_process_that_wakes_up_after_another_one_took_over_writes_nothing(server: PostgresServer) -> None:
    name = next(NAMES)
    with looping(server, name, 0) as process:
        assert process.stdout is not None and process.stderr is not None
        while int(process.stdout.readline()) < 50:
            pass
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(StoreInUse, match="a process"):
            opened(server, name)
        taker = open_postgres(server.url, [MADE_UP_SCHEMA], name=name, owner="the taker", force=True)
        before = read_pairs(taker)
        process.send_signal(signal.SIGCONT)
        assert process.wait() == 1
        assert "taken over by the taker" in process.stderr.read()
    assert read_pairs(taker) == before
    taker.close()
