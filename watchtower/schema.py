"""The tower's part of the store, and the client's: their moments, their tables, their readers.

`appointments` has one row per (client, locator), replaced in place by strictly newer revisions: storage does not grow
with payments; `appointment_sources` says from which address each came. `cases` and `case_events` hold channels that are
being closed. `tower_coverage` is the client's: what its towers have acknowledged, one row per (tower, channel).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import Address, ChannelId, Terms
from tallystick.channels.storage.identity import Identity
from tallystick.channels.storage.seals import Sealed
from tallystick.channels.storage.store import Moment, Schema, Store, decoded
from tallystick.settlement.following.whose import said_by_settlement
from tallystick.watchtower.disputes import Dispute, DisputeEvent


class AppointmentStored(Moment, frozen=True):
    """A client's blob, in place of every lower revision."""

    client: Address
    locator: bytes
    revision: int
    blob: bytes
    time: int
    source: bytes = b""
    """From which address it came (`new_quota.mark`)."""


class AppointmentsDropped(Moment, frozen=True):
    """These are beyond their term, and their room is needed."""

    names: tuple[tuple[Address, bytes], ...]
    """(client, locator)."""


class DisputeSeen(Moment, frozen=True):
    """A block brought this event of a closing channel; `position` is its place in the block."""

    channel: ChannelId
    terms: Terms
    position: int
    sighting: DisputeEvent


class DisputesUndone(Moment, frozen=True):
    """The block of this number left the chain."""

    number: int


class DisputeOver(Moment, frozen=True):
    """The channel's settlement is final: its dispute and the blobs under these locators are of no use any more."""

    channel: ChannelId
    locators: tuple[bytes, ...]


class Coverage(Moment, frozen=True):
    """What a tower is about to be sent (`revision`), and what it has acknowledged (the rest)."""

    tower: Address
    channel: ChannelId
    revision: int = 0
    """The highest revision that may have been sent."""
    seq0: int = 0
    seq1: int = 0
    moved: int = 0
    """Sum of what both simplexes had transferred and locked, as covered."""
    receipt: bytes = b""


class StoredAppointment(Moment, frozen=True):
    """One row of `appointments`."""

    client: Address
    revision: int
    blob: bytes
    time: int


_TERMS: Codec[Terms] = Codec(Terms, canonical=False)
_SIGHTING: Codec[DisputeEvent] = Codec(DisputeEvent, canonical=False)


def read_appointments(store: Store, locator: bytes) -> list[StoredAppointment]:
    """Return all blobs under a locator (of one client, unless somebody copied a locator)."""
    sql = "SELECT client, revision, blob, time FROM appointments WHERE locator = ?"
    return [StoredAppointment(*row) for row in store.read(sql, (locator,))]


def count_appointments(store: Store, client: Address | None = None) -> int:
    """Return how many appointments a client has, or all clients have."""
    if client is None:
        return int(store.read("SELECT count(*) FROM appointments")[0][0])
    return int(store.read("SELECT count(*) FROM appointments WHERE client = ?", (client,))[0][0])


def has_appointments(store: Store, client: Address) -> bool:
    """Return whether a client has any appointment."""
    return bool(store.read("SELECT 1 FROM appointments WHERE client = ? LIMIT 1", (client,)))


def read_disputes(store: Store) -> dict[ChannelId, Dispute]:
    """Return the open disputes."""
    disputes = {
        ChannelId(row[0]): Dispute(decoded(_TERMS, row[1], "cases", row[0]))
        for row in store.read("SELECT channel, terms FROM cases")
    }
    for channel, data in store.read("SELECT channel, data FROM case_events ORDER BY number, position"):
        sighting = decoded(_SIGHTING, data, "case_events", channel)
        disputes[channel] = disputes[channel].seen(sighting.block, sighting.event)
    return disputes


def said_by_tower(store: Store) -> Iterator[Identity]:
    """Return what a tower's data of version 0.1.0, which did not remember it, says about whose it is."""
    yield from said_by_settlement(store)
    for dispute in read_disputes(store).values():
        yield Identity(chain_id=dispute.terms.chain_id, contract=dispute.terms.contract)


def read_coverage(store: Store, tower: Address) -> dict[ChannelId, Coverage]:
    """Return what one tower has acknowledged."""
    rows = store.read(
        "SELECT channel, revision, seq0, seq1, moved, receipt FROM tower_coverage WHERE tower = ?", (tower,)
    )
    return {
        ChannelId(channel): Coverage(
            tower, ChannelId(channel), revision, seq0, seq1, int.from_bytes(moved, "big"), receipt
        )
        for channel, revision, seq0, seq1, moved, receipt in rows
    }


def _write_appointment(connection: sqlite3.Connection, moment: AppointmentStored) -> None:
    connection.execute(
        """INSERT INTO appointments (client, locator, revision, blob, time) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (client, locator) DO UPDATE
        SET revision = excluded.revision, blob = excluded.blob, time = excluded.time
        WHERE excluded.revision > revision""",
        (moment.client, moment.locator, moment.revision, moment.blob, moment.time),
    )
    if moment.source:
        connection.execute(
            "INSERT OR REPLACE INTO appointment_sources VALUES (?, ?, ?)",
            (moment.client, moment.locator, moment.source),
        )


def _write_dropped(connection: sqlite3.Connection, moment: AppointmentsDropped) -> None:
    for table in ("appointments", "appointment_sources"):
        connection.executemany(f"DELETE FROM {table} WHERE client = ? AND locator = ?", moment.names)


def _write_seen(connection: sqlite3.Connection, moment: DisputeSeen) -> None:
    connection.execute("INSERT OR IGNORE INTO cases VALUES (?, ?)", (moment.channel, _TERMS.encode(moment.terms)))
    connection.execute(
        "INSERT OR REPLACE INTO case_events VALUES (?, ?, ?, ?)",
        (moment.channel, moment.sighting.block.number, moment.position, _SIGHTING.encode(moment.sighting)),
    )


def _write_undone(connection: sqlite3.Connection, moment: DisputesUndone) -> None:
    connection.execute("DELETE FROM case_events WHERE number >= ?", (moment.number,))


def _write_over(connection: sqlite3.Connection, moment: DisputeOver) -> None:
    connection.execute("DELETE FROM case_events WHERE channel = ?", (moment.channel,))
    connection.execute("DELETE FROM cases WHERE channel = ?", (moment.channel,))
    for locator in moment.locators:
        connection.execute("DELETE FROM appointments WHERE locator = ?", (locator,))
        connection.execute("DELETE FROM appointment_sources WHERE locator = ?", (locator,))


def _write_coverage(connection: sqlite3.Connection, moment: Coverage) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO tower_coverage VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            moment.tower,
            moment.channel,
            moment.revision,
            moment.seq0,
            moment.seq1,
            moment.moved.to_bytes(32, "big"),
            moment.receipt,
        ),
    )


TOWER_SCHEMA = Schema(
    "tower",
    (
        """
CREATE TABLE appointments (
    client BLOB NOT NULL, locator BLOB NOT NULL, revision INTEGER NOT NULL, blob BLOB NOT NULL, time INTEGER NOT NULL,
    PRIMARY KEY (client, locator));
CREATE INDEX appointments_by_locator ON appointments (locator);
CREATE TABLE cases (channel BLOB PRIMARY KEY, terms BLOB NOT NULL);
CREATE TABLE case_events (
    channel BLOB NOT NULL, number INTEGER NOT NULL, position INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (channel, number, position))
""",
        """
CREATE TABLE appointment_sources (
    client BLOB NOT NULL, locator BLOB NOT NULL, source BLOB NOT NULL, PRIMARY KEY (client, locator));
CREATE INDEX appointment_sources_by_source ON appointment_sources (source);
CREATE INDEX appointment_sources_by_locator ON appointment_sources (locator)
""",
    ),
    {
        AppointmentStored: _write_appointment,
        AppointmentsDropped: _write_dropped,
        DisputeSeen: _write_seen,
        DisputesUndone: _write_undone,
        DisputeOver: _write_over,
    },
    (
        Sealed("appointments"),
        Sealed("cases"),
        Sealed("case_events"),
        Sealed("appointment_sources", heal=True),
    ),
)
"""A tower's store has this schema and `settlement.moments.SCHEMA`."""

CLIENT_SCHEMA = Schema(
    "tower-client",
    (
        """
CREATE TABLE tower_coverage (
    tower BLOB NOT NULL, channel BLOB NOT NULL, revision INTEGER NOT NULL, seq0 INTEGER NOT NULL,
    seq1 INTEGER NOT NULL, moved BLOB NOT NULL, receipt BLOB NOT NULL, PRIMARY KEY (tower, channel)) WITHOUT ROWID
""",
    ),
    {Coverage: _write_coverage},
    (Sealed("tower_coverage"),),
)
"""A node that uses towers has this schema in its store."""
