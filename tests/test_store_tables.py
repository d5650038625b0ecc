"""What subjects declare of their tables is what SQLite was told, and reads use the indices that were made for them."""

from __future__ import annotations

from typing import Any

from simulation.engines import ALL, created
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.channels.storage.schema import (
    payment_of,
    received_after,
    sent_with,
)
from tallystick.channels.storage.sqlite.statements import SqliteRows
from tallystick.channels.storage.tables import Row, TableQuery
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.router.forwarding.circuits import (
    forwards_before,
)
from tallystick.router.pathfinding.beliefs import load_beliefs
from tallystick.router.receiving.issued import (
    find_invoice,
    list_invoices,
    paid_after,
)
from tallystick.router.sending.payments import (
    list_payments,
    load_parts,
    parts_under_way,
    pending_payments,
)
from tallystick.settlement.sending.moments import (
    read_book,
)
from tallystick.watchtower.schema import (
    count_sources,
    read_appointments,
)


def test_the_declared_tables_are_those_that_the_scripts_make() -> None:
    disk = SimulatedDisk(ALL)
    disk.open()
    connection = disk._connection
    declared = {each.name: each for schema in ALL for each in schema.subject.tables}
    assert {*declared, "schemas"} == set(created())
    for name, each in declared.items():
        columns = connection.execute(f"PRAGMA table_xinfo({name})").fetchall()
        assert {row[1] for row in columns} == {*each.columns, "seal"}
        keys = sorted((row[5], row[1]) for row in columns if row[5])
        assert tuple(key for _, key in keys) == each.key, name
        if each.hot:  # their seals are made here, in the order of SQLite's columns
            assert tuple(row[1] for row in columns) == (*each.columns, "seal")
        unique = set()
        for _, index, is_unique, origin, _ in connection.execute(f"PRAGMA index_list({name})").fetchall():
            if is_unique and origin != "pk":
                unique.add(tuple(row[2] for row in connection.execute(f"PRAGMA index_info({index})")))
        assert unique == set(each.unique), name


def test_reads_use_the_indices_that_were_made_for_them() -> None:
    disk = SimulatedDisk(ALL)
    plans: list[tuple[str, str]] = []

    class Explained(SqliteRows):
        def read(self, query: TableQuery) -> list[Row]:
            rows = super().read(query)
            *_, statement = self._statements.values()
            values = [None] * statement.count("?")
            for plan in self._connection.execute(f"EXPLAIN QUERY PLAN {statement}", values):
                plans.append((statement, plan[3]))
            self._statements.clear()
            return rows

    store = disk.open()
    rows = Explained(disk._connection)
    digest, channel = b"h" * 32, ChannelId(b"c" * 32)

    class Asked:
        read = rows.read

    asked: Any = Asked()
    received_after(asked, 5, 9, channel), sent_with(asked, channel, 4), payment_of(asked, "key")
    list_payments(asked, 9, 7, probes=False), pending_payments(asked), parts_under_way(asked), load_parts(asked, digest)
    list_invoices(asked, 9, 7), paid_after(asked, 3, 9), find_invoice(asked, digest)
    read_book(asked, 1, Address(bytes(20))), load_beliefs(asked)
    forwards_before(asked, 3, 9), read_appointments(asked, digest), count_sources(asked, b"s")
    assert len(plans) >= 15
    assert [each for each in plans if each[1].startswith("SCAN") and " INDEX " not in each[1]] == [], "all is read"
    assert store.commits == 0
