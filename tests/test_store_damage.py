"""Damage on the disk: every flipped bit is noticed by name at the start, or healed, or harms nothing.

`vectors/data-0.1.0-*.sql.gz` are the stores of three nodes of version 0.1.0, in the midst of a payment from alice over
bob, who has a circuit open, to carol, who holds it.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import trio

import tallystick.channels.storage.sqlite.store as store_module
from simulation.rows import sql
from tallystick.channels.errors import StoreDamaged, StoreError
from tallystick.channels.node.alarms import AlarmKind
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.storage.schema import UpdateReceived, UpdateSigned, load_channels, received_after
from tallystick.channels.storage.sqlite.log_check import verify_log
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.channels.storage.sqlite.seals import register
from tallystick.channels.storage.sqlite.store import SqliteStore, open_store
from tallystick.channels.storage.store import Subject
from tallystick.channels.storage.tables import table
from tallystick.router.forwarding.circuits import CircuitClosed, forwards_after, forwards_before, load_circuits
from tallystick.router.forwarding.forwarder import ForwardOutcome
from tallystick.router.receiving.issued import list_invoices
from tallystick.router.sending.payments import list_payments
from tallystick.sdk.node.running import open_node, said_by_node
from tallystick.sdk.node.sqlite import PEERS_SCHEMA, SCHEMAS
from tallystick.sdk.node.whereabouts import PeerKnown
from tallystick.settlement.sending.moments import read_book
from tallystick.settlement.testing.local import LocalChain

VECTORS = Path(__file__).parent / "vectors"
NAMES = ("alice", "bob", "carol")
STRIDE = int(os.environ.get("TALLY_FLIP_STRIDE", "3001"))
"""Bytes from one flip to the next."""

Rows = dict[str, list[tuple[object, ...]]]


def old_data(name: str, directory: Path) -> Path:
    """Make the data directory of a node of version 0.1.0."""
    directory.mkdir()
    with closing(sqlite3.connect(directory / "tally.db")) as database:
        database.executescript(gzip.decompress((VECTORS / f"data-0.1.0-{name}.sql.gz").read_bytes()).decode())
    return directory


def rows_of(store: SqliteStore) -> Rows:
    """Return everything that is in a store, but for versions and seals."""
    names = [name for (name,) in sql(store, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    found: Rows = {}
    for name in names:
        columns = [row[1] for row in sql(store, f"PRAGMA table_xinfo({name})") if row[1] != "seal"]
        found[name] = sorted(sql(store, f"SELECT {', '.join(columns)} FROM {name}"), key=repr)
    return found


ADDED = (
    "deferred",
    "apps",
    "chain_proofs",
    "gossip_markets",
    "standings",
    "taken_covers",
    "taken_promises",
    "tower_claims",
    "virtuals",
)
"""Tables that came later, and begin empty."""


@pytest.mark.parametrize("name", NAMES)
def test_data_of_the_first_version_is_brought_to_this_one_with_nothing_changed(tmp_path: Path, name: str) -> None:
    directory = old_data(name, tmp_path / name)
    with closing(sqlite3.connect(directory / "tally.db")) as database:
        before = {
            table: sorted(database.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        }
        indices = set(database.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall())
    for _ in range(2):  # the second time nothing is left to do
        store = open_store(directory, SCHEMAS, owner="test", durable=False)
        after = rows_of(store)
        assert not store.healed
        assert all(after.pop(table) == [] for table in ADDED)
        assert {table: rows for table, rows in after.items() if table not in ("schemas", "identity")} == {
            table: rows for table, rows in before.items() if table != "schemas"
        }
        assert indices <= set(sql(store, "SELECT name FROM sqlite_master WHERE type = 'index'"))
        sealed = {table.name for table in store.tables}
        assert sealed | {"schemas"} == {*after, *ADDED}
        for each in sealed:
            assert sql(store, f"SELECT count(*) FROM {each} WHERE seal IS NULL") == [(0,)]
        assert load_channels(store)
        assert {whose.chain_id for whose in said_by_node(store)} == {1337}
        store.close()


@pytest.mark.parametrize("name", NAMES)
def test_large_data_that_lacks_a_later_table_is_brought_to_this_version(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallystick.channels.storage.sqlite.seals.PAGES_MAX", 0)
    for _ in range(2):
        directory = tmp_path / name
        store = open_store(directory if directory.exists() else old_data(name, directory), SCHEMAS, owner="test")
        assert not store.healed and load_channels(store)
        store.close()


def test_the_vectors_hold_what_money_hangs_on(tmp_path: Path) -> None:
    alice, bob, carol = (
        open_store(old_data(name, tmp_path / name), SCHEMAS, owner="test", durable=False) for name in NAMES
    )
    assert [record.is_paid for _, record in list_payments(alice, 10)] == [False, True]
    assert len(load_circuits(bob)) == 1 and len(received_after(bob, 0, 100)) == 6
    assert [record.memo for record in list_invoices(carol, 10)] == ["held", "tea"]
    for store in (alice, bob, carol):
        store.close()


def flips(data: bytes, stride: int) -> Iterator[bytes]:
    """Yield the data with one bit flipped, again and again."""
    for position in range(0, len(data), stride):
        yield data[:position] + bytes([data[position] ^ 1 << position % 8]) + data[position + 1 :]


def judge(open_it: Callable[[], SqliteStore], good: Rows) -> str:
    """Return what became of damaged data: "noticed", "healed" or "equal"; anything else fails."""
    try:
        store = open_it()
    except StoreError as error:
        assert len(str(error)) > 20
        return "noticed"
    try:
        if store.healed:
            return "healed"
        assert rows_of(store) == good
        return "equal"
    finally:
        store.close()


@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_is_noticed_by_name_or_healed_or_harmless(tmp_path: Path, name: str) -> None:
    directory = old_data(name, tmp_path / name)
    store = open_store(directory, SCHEMAS, owner="test", durable=False)
    good = rows_of(store)
    store.close()
    path = directory / "tally.db"
    verdicts = set()
    for data in flips(path.read_bytes(), STRIDE):
        path.write_bytes(data)
        verdicts.add(judge(lambda: open_store(directory, SCHEMAS, owner="test", durable=False), good))
        for log in directory.glob("tally.db-*"):
            log.unlink()
    assert {"noticed", "equal"} <= verdicts


def damage(directory: Path, statement: str) -> None:
    """Change a row behind the back of its seal, as a failing disk would: by a program that writes none."""
    with closing(sqlite3.connect(directory / "tally.db")) as database, database:
        database.create_function("tally_seal", -1, lambda *values: 7, deterministic=True)
        database.execute(statement)


@pytest.mark.parametrize(
    ("name", "table", "column"),
    [
        ("bob", "channels", "state"),
        ("bob", "sent", "frame"),
        ("bob", "received", "frame"),
        ("alice", "keys", "payment"),
        ("bob", "packets", "onion"),
        ("bob", "circuits", "body"),
        ("bob", "obligations", "data"),
        ("bob", "followed_headers", "hash"),
        ("bob", "chain_events", "sighting"),
        ("bob", "onions", "expiry"),
        ("alice", "payments", "body"),
        ("alice", "parts", "body"),
        ("carol", "invoices", "secret"),
    ],
)
@pytest.mark.parametrize("value", ["zeroblob(40)", "'text in its place'", "5"])
def test_a_row_that_guards_money_is_named_and_nothing_is_done(
    tmp_path: Path, name: str, table: str, column: str, value: str
) -> None:
    directory = old_data(name, tmp_path / name)
    open_store(directory, SCHEMAS, owner="test", durable=False).close()
    damage(directory, f"UPDATE {table} SET {column} = {value}")
    with pytest.raises(StoreDamaged, match=rf"the row \(.+\) of the table {table} is damaged"):
        open_store(directory, SCHEMAS, owner="test", durable=False)


def test_what_is_learned_anew_is_dropped_and_said(tmp_path: Path) -> None:
    directory = old_data("bob", tmp_path / "bob")
    open_store(directory, SCHEMAS, owner="test", durable=False).close()
    damage(directory, "UPDATE gossip_updates SET body = x'00' WHERE side = 0")
    store = open_store(directory, SCHEMAS, owner="test", durable=False)
    assert store.healed == ["2 damaged rows of the table gossip_updates were dropped: they are learned anew"]
    assert sql(store, "SELECT count(*) FROM gossip_updates") == [(2,)]
    store.close()


@pytest.mark.alarm("data-healed")
async def test_a_node_tells_its_owner_what_was_dropped(tmp_path: Path) -> None:
    key, chain = PrivateKey(bytes([7]) * 32), LocalChain()
    with trio.fail_after(20):
        async with open_node(tmp_path, key=key, chain=chain):
            pass
        damage(tmp_path, "INSERT INTO peers (key, address) VALUES (x'01', 'nowhere')")
        async with open_node(tmp_path, key=key, chain=chain) as node:
            assert [alarm.kind for alarm in node.alarms] == [AlarmKind.DATA_HEALED]


def test_old_history_is_compared_when_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.channels.storage.sqlite.seals.ROWS_MAX", 2)
    directory = old_data("bob", tmp_path / "bob")
    open_store(directory, SCHEMAS, owner="test", durable=False).close()
    damage(directory, "UPDATE received SET frame = x'00' WHERE position = 1")
    store = open_store(directory, SCHEMAS, owner="test", durable=False)
    assert len(received_after(store, 1, 100)) == 5
    with pytest.raises(StoreDamaged, match="of the table received is damaged"):
        received_after(store, 0, 100)
    store.close()


def test_old_forwards_are_compared_when_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.channels.storage.sqlite.seals.ROWS_MAX", 2)
    directory = old_data("bob", tmp_path / "bob")
    store = open_store(directory, SCHEMAS, owner="test", durable=False)
    ((circuit, _),) = load_circuits(store)
    store.commit([CircuitClosed(circuit, ForwardOutcome.PAID, time) for time in range(4)])
    (first, *_), (last, *_) = forwards_after(store, 0, 1), forwards_before(store, 0, 1)
    store.close()
    damage(directory, f"UPDATE forwards SET time = 77 WHERE position = {first.position}")
    store = open_store(directory, SCHEMAS, owner="test", durable=False)
    assert forwards_before(store, 0, 1) == [last]
    with pytest.raises(StoreDamaged, match=rf"the row \({first.position}\) of the table forwards is damaged"):
        forwards_after(store, 0, 1)
    store.close()


# --- what has no checksum yet, and what is still in the log ---------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "table", "load"),
    [
        ("bob", "channels", load_channels),
        ("bob", "circuits", load_circuits),
        ("bob", "obligations", lambda store: list(read_book(store, 1337, PrivateKey(bytes([2]) * 32).address))),
        ("alice", "payments", lambda store: list_payments(store, 5)),
    ],
)
@pytest.mark.parametrize("value", ["x'c1'", "'text in its place'", "5"])
def test_a_row_that_was_damaged_before_it_had_a_checksum_is_named_when_it_is_read(
    tmp_path: Path, name: str, table: str, load: Callable[[SqliteStore], object], value: str
) -> None:
    directory = old_data(name, tmp_path / name)
    column = {"channels": "state", "obligations": "data"}.get(table, "body")
    damage(directory, f"UPDATE {table} SET {column} = {value}{', resting = 0' if table == 'obligations' else ''}")
    store = open_store(directory, SCHEMAS, owner="test", durable=False)
    with closing(store), pytest.raises(StoreDamaged, match=f"of the table {table} is damaged"):
        load(store)


def crashed(directory: Path, commits: int) -> Path:
    """Return a directory as a crash leaves it: with a log that holds so many commits."""
    store = open_store(directory / "before", [PEERS_SCHEMA], owner="test")
    for number in range(commits):
        store.commit([PeerKnown(bytes([number]), f"peer {number}")])
    shutil.copytree(directory / "before", directory / "after")
    store.close()
    return directory / "after"


def test_a_flipped_bit_in_the_log_is_noticed_unless_only_the_last_commit_is_lost(tmp_path: Path) -> None:
    log = crashed(tmp_path, 6) / "tally.db-wal"
    verify_log(log)
    whole = log.read_bytes()
    whole = whole[: len(whole.rstrip(b"\0")) + 8_192]  # what was laid out is empty
    page = int.from_bytes(whole[8:12], "big")
    starts = range(32, len(whole), 24 + page)
    salts = whole[16:24]
    frames = [start for start in starts if whole[start + 8 : start + 16] == salts]
    ends = [start for start in frames if whole[start + 4 : start + 8] != bytes(4)]
    assert len(ends) >= 6
    noticed = 0
    for start in frames:
        for at in (start + 3, start + 17, start + 24, start + 24 + page - 1):
            log.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            behind = sum(end > start for end in ends)  # a sum that is damaged itself takes the next frame with it, too
            if behind > 2:
                with pytest.raises(StoreDamaged, match="commits after that would be lost"):
                    verify_log(log)
                noticed += 1
    assert noticed > 20
    log.write_bytes(whole[: ends[-1] + 30] + bytes(page - 6) + whole[ends[-1] + 24 + page :])  # torn at the end
    verify_log(log)
    log.write_bytes(whole)
    store = open_store(tmp_path / "after", [PEERS_SCHEMA], owner="test")
    assert sql(store, "SELECT count(*) FROM peers") == [(6,)]
    store.close()
    for short in (b"", b"x", bytes(100), whole[:20], whole[:40]):
        log.write_bytes(short)
        verify_log(log)
    verify_log(tmp_path / "nothing")


def test_a_flipped_bit_in_the_header_of_the_log_or_in_a_salt_is_noticed(tmp_path: Path) -> None:
    log = crashed(tmp_path, 6) / "tally.db-wal"
    whole = log.read_bytes()
    page = int.from_bytes(whole[8:12], "big")
    second = 32 + 24 + page
    for at in (*range(32), *range(40, 48), *range(second + 8, second + 16)):
        log.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(StoreDamaged, match="commits after that would be lost"):
            verify_log(log)


@pytest.mark.parametrize("step", ["install", "seal_layout"])
def test_a_crash_while_the_tables_are_changed_leaves_them_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    part = Subject("part", (table("things", "id what"),), {})
    old = Schema(part, ("CREATE TABLE things (id INTEGER PRIMARY KEY, what BLOB NOT NULL)",))
    added = "ALTER TABLE things ADD COLUMN more INTEGER NOT NULL DEFAULT 0"
    new = msgspec.structs.replace(old, migrations=(*old.migrations, added))
    open_store(tmp_path, [old], owner="test").close()
    with closing(sqlite3.connect(tmp_path / "tally.db")) as database:
        register(database)
        database.execute("INSERT INTO things (id, what) VALUES (1, x'01')")
        database.commit()

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store_module, step, crash)
        with pytest.raises(KeyboardInterrupt):
            open_store(tmp_path, [new], owner="test")
    store = open_store(tmp_path, [new], owner="test")
    assert sql(store, "SELECT id, what, more FROM things") == [(1, b"\x01", 0)]
    store.close()


def test_a_clock_of_whole_seconds_makes_rows_that_can_be_read_back(tmp_path: Path) -> None:
    store = open_store(tmp_path, SCHEMAS, owner="test")
    channel = ChannelId(bytes(32))
    store.commit([UpdateSigned(channel, 1, 0, 1, b"frame", 1_000), UpdateReceived(channel, 1, 0, 1, b"frame", 1_000)])
    store.close()
    store = open_store(tmp_path, SCHEMAS, owner="test")
    assert sql(store, "SELECT time FROM sent") == sql(store, "SELECT time FROM received") == [(1_000.0,)]
    store.close()
