"""Two engines of the store, SQLite and dictionaries in memory, give back the same, whatever was committed and is asked.

Here it is tried with made-up tables, changes and queries, and by whole runs under a seed, whose traces do not tell
which engine was used; with the moments of a simulated network, and all typed reads, in `test_store_histories`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.campaign import run_campaign
from simulation.engines import is_taken, memory_disk
from simulation.journeys import Journey, live_through
from simulation.simulated_network import NetworkPlan, run_network
from tallystick.channels.errors import StoreError
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.channels.storage.store import Moment, Subject
from tallystick.channels.storage.tables import CAME, COUNT, Condition, Row, Rows, Table, TableQuery, table
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.memory import MemoryDisk

# --- made-up tables ------------------------------------------------------------------------------------------------

THINGS = table("things", "a b x y flag", keys=2)
LABELS = table("labels", "a b name", keys=2)
LOG = table("log", "position x frame", unique=(("x",),), numbered=True, history="position", hot=True)
SCRIPT = """
CREATE TABLE things (
    a INTEGER NOT NULL, b BLOB NOT NULL, x INTEGER, y TEXT, flag INTEGER NOT NULL, PRIMARY KEY (a, b));
CREATE TABLE labels (a INTEGER NOT NULL, b BLOB NOT NULL, name TEXT NOT NULL, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE log (position INTEGER PRIMARY KEY, x INTEGER UNIQUE, frame BLOB NOT NULL, seal INTEGER)
"""

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "a": st.integers(0, 2),
    "b": st.sampled_from([b"", b"\x00", b"\xff"]),
    "x": st.none() | st.integers(-2, 3),
    "y": st.none() | st.sampled_from(["", "Z", "a", "é"]),
    "flag": st.booleans(),
    "name": st.sampled_from(["one", "two"]),
    "frame": st.binary(max_size=2),
    "position": st.integers(0, 4),
}


class Changed(Moment, frozen=True):
    """One change of rows: the name of the change, the table, and what it takes."""

    how: str
    table: Table
    row: Row = ()
    changes: tuple[tuple[str, Any], ...] = ()
    where: tuple[Condition, ...] = ()


def _change(rows: Rows, moment: Changed) -> None:
    match moment.how:
        case "delete":
            rows.delete(moment.table, *moment.where)
        case "update":
            rows.update(moment.table, dict(moment.changes), *moment.where)
        case how:
            getattr(rows, how)(moment.table, *moment.row)


MADE_UP = Subject("made-up", (THINGS, LABELS, LOG), {Changed: _change})


@st.composite
def wheres(draw: st.DrawFn, names: Sequence[str]) -> tuple[Condition, ...]:
    found = []
    for name in draw(st.lists(st.sampled_from(names), max_size=2)):
        value = draw(VALUES[name])
        relations = ["=", "!="] if value is None or isinstance(value, bool) else ["=", "!=", "<", "<=", ">", ">="]
        found.append(Condition(name, draw(st.sampled_from(relations)), value))
    return tuple(found)


@st.composite
def changes(draw: st.DrawFn) -> Changed:
    of = draw(st.sampled_from([THINGS, THINGS, LABELS, LOG]))
    how = draw(st.sampled_from(["add", "delete"] if of is LOG else ["add", "put", "keep", "update", "delete"]))
    if how in ("update", "delete"):
        news = tuple((name, draw(VALUES[name])) for name in of.columns[of.keys :] if how == "update")
        return Changed(how, of, changes=news, where=draw(wheres(of.columns)))
    return Changed(how, of, tuple(draw(VALUES[name]) for name in of.columns[int(of.numbered) :]))


@st.composite
def queries(draw: st.DrawFn) -> TableQuery:
    of = draw(st.sampled_from([THINGS, LABELS, LOG]))
    joined = LABELS if of is THINGS and draw(st.booleans()) else None
    names = (*of.columns, "name") if joined else of.columns
    where, limit = draw(wheres(names)), draw(st.none() | st.integers(0, 3))
    shown = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    order = [draw(st.sampled_from(["", "-"])) + name for name in draw(st.permutations(shown))]
    if joined is None and draw(st.booleans()):
        shown = shown if draw(st.booleans()) else []
        by = draw(st.sampled_from([[], [COUNT], ["-" + COUNT]])) if shown else []
        return of.groups(*where, columns=" ".join(shown), order=(*by, *shown), limit=limit if shown else None)
    if of is THINGS and joined is None and draw(st.booleans()):
        order = [draw(st.sampled_from(["", "-"])) + CAME]
    rest = () if CAME in "".join(order) else of.key
    columns = "" if draw(st.booleans()) else " ".join(shown)
    return of.rows(*where, columns=columns, order=(*order, *rest), limit=limit, joined=joined)


@settings(max_examples=150, deadline=None)
@given(
    commits=st.lists(st.lists(changes(), min_size=1, max_size=4), max_size=12), asked=st.lists(queries(), max_size=8)
)
def test_whatever_is_changed_and_asked_both_engines_give_the_same(
    commits: list[list[Changed]], asked: list[TableQuery]
) -> None:
    disks = (SimulatedDisk([Schema(MADE_UP, (SCRIPT,))]), MemoryDisk([MADE_UP]))
    for commit in commits:
        one, other = (is_taken(disk.open(), commit) for disk in disks)
        assert one == other, commit
        for query in (*asked, *(each.rows() for each in MADE_UP.tables)):
            one, other = (disk.open().read(query) for disk in disks)
            assert one == other, query
    disks[0].close()


@pytest.mark.parametrize(
    "disk", [SimulatedDisk([Schema(MADE_UP, (SCRIPT,))]), MemoryDisk([MADE_UP])], ids=["sqlite", "memory"]
)
def test_rows_that_carry_their_seal_are_not_changed_in_part_and_a_commit_that_fails_leaves_nothing(disk: Any) -> None:
    store = disk.open()
    store.commit([Changed("add", LOG, (1, b"one"))])
    with pytest.raises(StoreError):
        store.commit([Changed("add", LOG, (2, b"two")), Changed("update", LOG, changes=(("frame", b"other"),))])
    assert store.read(LOG.rows()) == [(1, 1, b"one")]
    assert store.commits == 1


# --- whole runs ------------------------------------------------------------------------------------------------------


async def _pay(journey: Journey) -> None:
    await journey.insist(await journey.invoice())


@pytest.mark.parametrize(
    "run",
    [
        lambda: run_campaign(8, 60).trace,
        lambda: run_campaign(3, 40, streams=True).trace,
        lambda: live_through(_pay, seed=5).world.trace.digest(),  # noqa: PLW0108
        lambda: run_network(NetworkPlan(nodes=5, payments=15, faults=0.1, tokens=1), 5).trace,
    ],
    ids=["campaign", "streams", "journey", "network"],
)
def test_a_seeded_run_is_the_same_on_either_engine(run: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    on_sqlite = run()
    monkeypatch.setattr("tallystick.sdk.testing.world.SimulatedDisk", memory_disk)
    assert run() == on_sqlite
