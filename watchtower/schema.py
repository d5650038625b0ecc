"""The tower's part of the store, and the client's: their moments, their tables, their readers.

`appointments` has one row per (client, locator), replaced in place by strictly newer revisions: storage does not grow
with payments; `timely_claims` holds what some of them say must be registered by a time, `appointment_sources` from
which address each came. `cases` and `case_events` hold channels that are being closed. `tower_coverage` is the
client's, with `tower_claims`: what its towers have acknowledged, one row per (tower, channel).
"""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import Address, ChannelId, Terms
from tallystick.channels.storage.identity import Identity
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import (
    CAME,
    COUNT,
    Reader,
    Rows,
    above,
    at_least,
    below,
    decode_column,
    find,
    table,
)
from tallystick.settlement.sending.moments import said_by_settlement
from tallystick.watchtower.claims import TIMELY, LockClaim
from tallystick.watchtower.disputes import Dispute, DisputeEvent


class AppointmentStored(Moment, frozen=True):
    """A client's blob, in place of every lower revision."""

    client: Address
    locator: bytes
    revision: int
    blob: bytes
    time: int
    source: bytes = b""
    """From which address it came (`AppointmentQuota.mark`)."""
    timely: bytes = b""
    """What must be registered by a time (`messages.timely_of`), in place of what was before."""


class AppointmentsDropped(Moment, frozen=True):
    """These are beyond their term, and their room is needed."""

    names: tuple[tuple[Address, bytes], ...]
    """(client, locator)."""


class TimelyOver(Moment, frozen=True):
    """All that was timely in these appointments has long expired."""

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
    claims: bytes = b""
    """Which claims of pending locks are covered (`claims.mark_of`)."""


_TERMS: Codec[Terms] = Codec(Terms, canonical=False)
_SIGHTING: Codec[DisputeEvent] = Codec(DisputeEvent, canonical=False)


_APPOINTMENTS = table("appointments", "client locator revision blob time", keys=2)
_SOURCES = table("appointment_sources", "client locator source", keys=2, learned=True)
_TIMELY = table("timely_claims", "client locator source data", keys=2)
_CASES = table("cases", "channel terms")
_EVENTS = table("case_events", "channel number position data", keys=3)
_COVERAGE = table("tower_coverage", "tower channel revision seq0 seq1 moved receipt", keys=2)
_CLAIMED = table("tower_claims", "tower channel mark", keys=2)


def read_appointments(store: Reader, locator: bytes) -> list[AppointmentStored]:
    """Return all blobs under a locator (of one client, unless somebody copied a locator), without their sources."""
    return [AppointmentStored(*row) for row in store.read(_APPOINTMENTS.rows(locator=locator, order=(CAME,)))]


def held_revision(source: Reader, client: Address, locator: bytes) -> int | None:
    """Return which revision of an appointment is held, None if there is none. Its blob is not read."""
    found = source.read(_APPOINTMENTS.rows(columns="revision", client=client, locator=locator, order=("client",)))
    return int(found[0][0]) if found else None


def read_appointment(store: Store, client: Address, locator: bytes) -> AppointmentStored | None:
    """Return what a client has under a locator, None if nothing."""
    row = find(store, _APPOINTMENTS, client, locator)
    return None if row is None else AppointmentStored(*row)


def count_appointments(store: Store, client: Address | None = None) -> int:
    """Return how many appointments a client has, or all clients have."""
    query = _APPOINTMENTS.groups() if client is None else _APPOINTMENTS.groups(client=client)
    return int(store.read(query)[0][0])


class ClientCount:
    """How many clients there are. They are counted bit by bit, so that no look takes long, however many there are."""

    def __init__(self, store: Store, at_once: int = 100) -> None:
        """Count up to `at_once` clients with each look."""
        self._store = store
        self._at_once = at_once
        self._behind = b""
        """The last client that was counted, in the order of their addresses."""
        self._found = self._last = 0
        self._is_whole = False

    def look(self) -> int:
        """Count on; return how many there were when all were counted last, or how many were found until now."""
        for _ in range(self._at_once):
            beyond = above("client", self._behind)
            row = self._store.read(_APPOINTMENTS.rows(beyond, columns="client", order=("client",), limit=1))
            if not row:
                self._last, self._found, self._behind, self._is_whole = self._found, 0, b"", True
                break
            self._behind = row[0][0]
            self._found += 1
        return self._last if self._is_whole else self._found


def count_sources(store: Store, source: bytes) -> int:
    """Return how many appointments came from an address."""
    return int(store.read(_SOURCES.groups(source=source))[0][0])


def read_source(store: Store, client: Address, locator: bytes) -> bytes:
    """Return from which address an appointment came, empty if that is not known."""
    found = store.read(_SOURCES.rows(client=client, locator=locator))
    return bytes(found[0][2]) if found else b""


def count_timely(store: Store, source: bytes | None = None) -> int:
    """Return how many appointments have something timely: of all, or from one address."""
    query = _TIMELY.groups() if source is None else _TIMELY.groups(source=source)
    return int(store.read(query)[0][0])


def read_timely(
    store: Store, client: Address | None = None, locator: bytes | None = None
) -> dict[tuple[Address, bytes], tuple[bool, tuple[LockClaim, ...]]]:
    """Return what is timely, by client and locator: whether it is of the coin, and the claims. Of one, or of all."""
    query = _TIMELY.rows() if client is None else _TIMELY.rows(client=client, locator=locator)
    return {
        (Address(row[0]), row[1]): decode_column(TIMELY, row[3], "timely_claims", row[1]) for row in store.read(query)
    }


def timely_data(store: Store, client: Address, locator: bytes) -> bytes:
    """Return what was kept as timely beside an appointment, empty if nothing was."""
    found = store.read(_TIMELY.rows(client=client, locator=locator))
    return bytes(found[0][3]) if found else b""


def oldest_of_largest_source(store: Store, before: int, limit: int) -> list[tuple[Address, bytes]]:
    """Return (client, locator) of appointments from the address with most of them: those from before that time."""
    largest = store.read(_SOURCES.groups(columns="source", order=("-" + COUNT, "source"), limit=1))
    if not largest:
        return []
    old, how = below("time", before), {"joined": _SOURCES, "source": largest[0][0]}
    query = _APPOINTMENTS.rows(old, columns="client locator", order=("time", *_APPOINTMENTS.key), limit=limit, **how)
    return [(Address(client), locator) for client, locator in store.read(query)]


def has_appointments(store: Store, client: Address) -> bool:
    """Return whether a client has any appointment."""
    return bool(store.read(_APPOINTMENTS.rows(columns="client", client=client, limit=1)))


def read_disputes(store: Reader) -> dict[ChannelId, Dispute]:
    """Return the open disputes."""
    disputes = {
        ChannelId(channel): Dispute(decode_column(_TERMS, terms, "cases", channel))
        for channel, terms in store.read(_CASES.rows(order=(CAME,)))
    }
    for channel, _, _, data in store.read(_EVENTS.rows(order=("number", "position"))):
        sighting = decode_column(_SIGHTING, data, "case_events", channel)
        disputes[channel] = disputes[channel].with_event(sighting.block, sighting.event)
    return disputes


def said_by_tower(store: Store) -> Iterator[Identity]:
    """Return what a tower's data of version 0.1.0, which did not remember it, says about whose it is."""
    yield from said_by_settlement(store)
    for dispute in read_disputes(store).values():
        yield Identity(chain_id=dispute.terms.chain_id, contract=dispute.terms.contract)


def read_coverage(store: Store, tower: Address) -> dict[ChannelId, Coverage]:
    """Return what one tower has acknowledged."""
    marks = {channel: mark for _, channel, mark in store.read(_CLAIMED.rows(tower=tower))}
    return {
        ChannelId(channel): Coverage(
            tower, channel, revision, seq0, seq1, int.from_bytes(moved, "big"), receipt, marks.get(channel, b"")
        )
        for _, channel, revision, seq0, seq1, moved, receipt in store.read(_COVERAGE.rows(tower=tower))
    }


def _stored(rows: Rows, moment: AppointmentStored) -> None:
    name = (moment.client, moment.locator)
    before = held_revision(rows, *name)
    if before is None or before < moment.revision:
        rows.put(_APPOINTMENTS, *name, moment.revision, moment.blob, moment.time)
        if before is not None:
            rows.delete(_TIMELY, client=moment.client, locator=moment.locator)
        if moment.timely:
            rows.put(_TIMELY, *name, moment.source, moment.timely)
    if moment.source and find(rows, _SOURCES, *name) != (*name, moment.source):
        rows.put(_SOURCES, *name, moment.source)


def _dropped(rows: Rows, moment: AppointmentsDropped) -> None:
    for client, locator in moment.names:
        for of in (_APPOINTMENTS, _SOURCES, _TIMELY):
            rows.delete(of, client=client, locator=locator)


def _expired(rows: Rows, moment: TimelyOver) -> None:
    for client, locator in moment.names:
        rows.delete(_TIMELY, client=client, locator=locator)


def _seen(rows: Rows, moment: DisputeSeen) -> None:
    rows.keep(_CASES, moment.channel, _TERMS.encode(moment.terms))
    number, data = moment.sighting.block.number, _SIGHTING.encode(moment.sighting)
    rows.put(_EVENTS, moment.channel, number, moment.position, data)


def _undone(rows: Rows, moment: DisputesUndone) -> None:
    rows.delete(_EVENTS, at_least("number", moment.number))


def _over(rows: Rows, moment: DisputeOver) -> None:
    rows.delete(_EVENTS, channel=moment.channel)
    rows.delete(_CASES, channel=moment.channel)
    for locator in moment.locators:
        for of in (_APPOINTMENTS, _SOURCES):  # what is timely goes when it has expired: locks may outlive their channel
            rows.delete(of, locator=locator)


def _covered(rows: Rows, moment: Coverage) -> None:
    seqs = (moment.revision, moment.seq0, moment.seq1)
    rows.put(_COVERAGE, moment.tower, moment.channel, *seqs, moment.moved.to_bytes(32, "big"), moment.receipt)
    rows.delete(_CLAIMED, tower=moment.tower, channel=moment.channel)
    if moment.claims:
        rows.put(_CLAIMED, moment.tower, moment.channel, moment.claims)


TOWER = Subject(
    "tower",
    (_APPOINTMENTS, _CASES, _EVENTS, _SOURCES, _TIMELY),
    {
        TimelyOver: _expired,
        AppointmentStored: _stored,
        AppointmentsDropped: _dropped,
        DisputeSeen: _seen,
        DisputesUndone: _undone,
        DisputeOver: _over,
    },
)
CLIENT = Subject("tower-client", (_COVERAGE, _CLAIMED), {Coverage: _covered})
