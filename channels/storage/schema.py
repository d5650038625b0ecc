"""What the channel layer keeps on disk: its moments, its tables, and how they are read back.

    channels   one row each, O(1): the `core.Channel` (without its flight), replaced at every agreement
    sent       journal of our updates, as their frames: the flight until they are agreed, history after that
    received   journal of the peer's updates, in the order of their commits: what `incoming` reads
    keys       idempotency keys of payments that were signed
    streams    one row for each stream whose lock is pending: how far it was released by us, or received by us
    streamed   one row for each direction of a channel: what all its ended streams have paid
    packets    one row for each pending lock of a peer's that came with an onion
    history    how much of its journals each channel keeps, where its owner chose, and what was pruned of `received`

The journals are history: rows that are agreed may be pruned at any time without touching a channel. What was pruned of
`received` is remembered, so that whoever reads on behind it is told instead of missing payments silently.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.storage.seals import Sealed, damage, seal
from tallystick.channels.storage.store import Moment, Schema, Store, decoded
from tallystick.channels.values.discretion import Discreet


class ChannelSaved(Moment, frozen=True):
    """A channel's agreed state changed."""

    channel: Channel


class ChannelForgotten(Moment, frozen=True):
    """A channel that was only talked about will not be opened."""

    channel: ChannelId


class UpdateSigned(Discreet, Moment, frozen=True):
    """We signed an update of our simplex: from now on its number is taken."""

    channel: ChannelId
    seq: int
    first: int
    """Id of its first payment."""
    count: int
    """How many payments it carries."""
    frame: bytes
    time: float
    keys: tuple[tuple[str, int], ...] = ()
    """Idempotency keys and the payment ids they stand for."""


class UpdateReceived(Discreet, Moment, frozen=True):
    """The peer's update was verified; its countersignature is in the same commit."""

    channel: ChannelId
    seq: int
    first: int
    count: int
    frame: bytes
    time: float


class HistoryPruned(Moment, frozen=True):
    """The user wants no history of this channel before these numbers."""

    channel: ChannelId
    sent_before: int
    received_before: int


class HistoryChosen(Moment, frozen=True):
    """The user wants this much of a channel's history from now on."""

    channel: ChannelId
    keep: int | None
    """Agreed updates to keep in each direction; None: all."""


class Pruned(msgspec.Struct, frozen=True, order=True):
    """The newest payment that was pruned: the journal row that it stood in, and how many it was of that row."""

    position: int = 0
    payments: int = 0


class StreamSaved(Discreet, Moment, frozen=True):
    """A stream began, or went on to a deeper link."""

    channel: ChannelId
    sender: int
    """Side whose simplex holds its lock: who pays."""
    lock: int
    proof: bytes
    """The deepest link, as an unlock carries it."""


class StreamEnded(Moment, frozen=True):
    """The lock of a stream is gone, and what it paid is in the channel's balance."""

    channel: ChannelId
    sender: int
    lock: int
    paid: int = 0


class OnionKept(Moment, frozen=True):
    """The peer's pending lock came with this onion."""

    channel: ChannelId
    lock: int
    onion: bytes


class OnionDropped(Moment, frozen=True):
    """That lock is gone."""

    channel: ChannelId
    lock: int


class Journaled(Discreet, msgspec.Struct, frozen=True):
    """One row of a journal."""

    position: int
    channel: ChannelId
    seq: int
    first: int
    count: int
    frame: bytes
    time: float


_MIGRATION_1 = """
CREATE TABLE channels (id BLOB PRIMARY KEY, state BLOB NOT NULL);
CREATE TABLE sent (
    position INTEGER PRIMARY KEY, channel BLOB NOT NULL, seq INTEGER NOT NULL,
    first INTEGER NOT NULL, count INTEGER NOT NULL, frame BLOB NOT NULL, time REAL NOT NULL, UNIQUE (channel, seq));
CREATE TABLE received (
    position INTEGER PRIMARY KEY, channel BLOB NOT NULL, seq INTEGER NOT NULL,
    first INTEGER NOT NULL, count INTEGER NOT NULL, frame BLOB NOT NULL, time REAL NOT NULL, UNIQUE (channel, seq));
CREATE TABLE keys (key TEXT PRIMARY KEY, channel BLOB NOT NULL, payment INTEGER NOT NULL)
"""

_MIGRATION_2 = """
CREATE TABLE streams (
    channel BLOB NOT NULL, sender INTEGER NOT NULL, lock INTEGER NOT NULL, proof BLOB NOT NULL,
    PRIMARY KEY (channel, sender, lock)) WITHOUT ROWID
"""

_MIGRATION_3 = """
CREATE TABLE packets (
    channel BLOB NOT NULL, lock INTEGER NOT NULL, onion BLOB NOT NULL, PRIMARY KEY (channel, lock)) WITHOUT ROWID
"""

_MIGRATION_4 = """
CREATE TABLE streamed (
    channel BLOB NOT NULL, sender INTEGER NOT NULL, amount BLOB NOT NULL, PRIMARY KEY (channel, sender)) WITHOUT ROWID
"""

_MIGRATION_5 = """
CREATE TABLE history (
    channel BLOB PRIMARY KEY, chosen INTEGER NOT NULL DEFAULT 0, keep INTEGER,
    position INTEGER NOT NULL DEFAULT 0, payments INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID
"""

_MIGRATION_6 = """
ALTER TABLE channels ADD COLUMN seal INTEGER;
UPDATE channels SET seal = tally_seal(id, state);
ALTER TABLE sent ADD COLUMN seal INTEGER;
UPDATE sent SET seal = tally_seal(channel, seq, first, count, frame, time);
ALTER TABLE received ADD COLUMN seal INTEGER;
UPDATE received SET seal = tally_seal(channel, seq, first, count, frame, time);
ALTER TABLE keys ADD COLUMN seal INTEGER;
UPDATE keys SET seal = tally_seal(key, channel, payment);
ALTER TABLE streams ADD COLUMN seal INTEGER;
UPDATE streams SET seal = tally_seal(channel, sender, lock, proof);
ALTER TABLE packets ADD COLUMN seal INTEGER;
UPDATE packets SET seal = tally_seal(channel, lock, onion)
"""

_SEALED = (
    Sealed("channels", written=True),
    Sealed("sent", written=True, order="position"),
    Sealed("received", written=True, order="position"),
    Sealed("keys", written=True),
    Sealed("streams", written=True),
    Sealed("packets", written=True),
    Sealed("streamed"),
    Sealed("history"),
)

_CHANNEL: Codec[Channel] = Codec(Channel, canonical=False)
_INSERT = "(channel, seq, first, count, frame, time, seal) VALUES (?, ?, ?, ?, ?, ?, ?)"
_COLUMNS = "position, channel, seq, first, count, frame, time, seal"


def _save(connection: sqlite3.Connection, moment: ChannelSaved) -> None:
    row = (moment.channel.id, _CHANNEL.encode(moment.channel))
    connection.execute(
        "INSERT INTO channels VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET state = ?2, seal = ?3",
        (*row, seal(*row)),
    )


def _forget(connection: sqlite3.Connection, moment: ChannelForgotten) -> None:
    connection.execute("DELETE FROM channels WHERE id = ?", (moment.channel,))
    connection.execute("DELETE FROM history WHERE channel = ?", (moment.channel,))


def _signed(connection: sqlite3.Connection, moment: UpdateSigned) -> None:
    row = (moment.channel, moment.seq, moment.first, moment.count, moment.frame, float(moment.time))
    connection.execute(f"INSERT INTO sent {_INSERT}", (*row, seal(*row)))
    for key, payment in moment.keys:
        named = (key, moment.channel, payment)
        connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (*named, seal(*named)))


def _received(connection: sqlite3.Connection, moment: UpdateReceived) -> None:
    row = (moment.channel, moment.seq, moment.first, moment.count, moment.frame, float(moment.time))
    connection.execute(f"INSERT INTO received {_INSERT}", (*row, seal(*row)))


def _prune(connection: sqlite3.Connection, moment: HistoryPruned) -> None:
    row = connection.execute("SELECT state FROM channels WHERE id = ?", (moment.channel,)).fetchone()
    agreed = _CHANNEL.decode(row[0]).ours.seq if row else 0  # above it is the flight: signed, and never to be forgotten
    sent_before = min(moment.sent_before, agreed + 1)
    connection.execute("DELETE FROM sent WHERE channel = ? AND seq < ?", (moment.channel, sent_before))
    newest = "(SELECT max(position) FROM received)"  # the last row stays: cursors count on positions that only grow
    doomed = f"FROM received WHERE channel = ? AND seq < ? AND position < {newest}"
    rows = (moment.channel, moment.received_before)
    connection.execute(
        f"INSERT INTO history (channel, position, payments) SELECT channel, position, count {doomed} AND count > 0 "
        "ORDER BY seq DESC LIMIT 1 "
        "ON CONFLICT (channel) DO UPDATE SET position = excluded.position, payments = excluded.payments",
        rows,
    )
    connection.execute(f"DELETE {doomed}", rows)


def _chosen(connection: sqlite3.Connection, moment: HistoryChosen) -> None:
    connection.execute(
        "INSERT INTO history (channel, chosen, keep) VALUES (?1, 1, ?2) "
        "ON CONFLICT (channel) DO UPDATE SET chosen = 1, keep = ?2",
        (moment.channel, moment.keep),
    )


def _stream_saved(connection: sqlite3.Connection, moment: StreamSaved) -> None:
    row = (moment.channel, moment.sender, moment.lock, moment.proof)
    connection.execute("INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?, ?)", (*row, seal(*row)))


def _stream_ended(connection: sqlite3.Connection, moment: StreamEnded) -> None:
    connection.execute(
        "DELETE FROM streams WHERE channel = ? AND sender = ? AND lock = ?",
        (moment.channel, moment.sender, moment.lock),
    )
    if moment.paid:
        sql = "SELECT amount FROM streamed WHERE channel = ? AND sender = ?"
        row = connection.execute(sql, (moment.channel, moment.sender)).fetchone()
        amount = (int.from_bytes(row[0], "big") if row else 0) + moment.paid
        row = (moment.channel, moment.sender, amount.to_bytes(16, "big"))
        connection.execute("INSERT OR REPLACE INTO streamed (channel, sender, amount) VALUES (?, ?, ?)", row)


def _onion_kept(connection: sqlite3.Connection, moment: OnionKept) -> None:
    row = (moment.channel, moment.lock, moment.onion)
    connection.execute("INSERT OR REPLACE INTO packets VALUES (?, ?, ?, ?)", (*row, seal(*row)))


def _onion_dropped(connection: sqlite3.Connection, moment: OnionDropped) -> None:
    connection.execute("DELETE FROM packets WHERE channel = ? AND lock = ?", (moment.channel, moment.lock))


SCHEMA = Schema(
    "channels",
    (_MIGRATION_1, _MIGRATION_2, _MIGRATION_3, _MIGRATION_4, _MIGRATION_5, _MIGRATION_6),
    {
        ChannelSaved: _save,
        ChannelForgotten: _forget,
        UpdateSigned: _signed,
        UpdateReceived: _received,
        HistoryPruned: _prune,
        HistoryChosen: _chosen,
        StreamSaved: _stream_saved,
        StreamEnded: _stream_ended,
        OnionKept: _onion_kept,
        OnionDropped: _onion_dropped,
    },
    _SEALED,
)


def _journaled(row: tuple[Any, ...]) -> Journaled:
    """Return a row of a journal; raise StoreDamaged if it is not what was written: a start meets only new ones."""
    position, *values, sealed = row
    if seal(*values) != sealed:
        raise damage("a journal", (position, values[0]))
    return Journaled(position, *values)


def load_channels(store: Store) -> list[Channel]:
    """Return all channels, as last agreed."""
    rows = store.read("SELECT id, state FROM channels ORDER BY id")
    return [decoded(_CHANNEL, state, "channels", identifier) for identifier, state in rows]


def find_channel(store: Store, channel: ChannelId) -> Channel | None:
    """Return one channel, as last agreed; None if it is unknown."""
    rows = store.read("SELECT state FROM channels WHERE id = ?", (channel,))
    return decoded(_CHANNEL, rows[0][0], "channels", channel) if rows else None


def load_flight(store: Store, channel: Channel) -> list[Journaled]:
    """Return our updates that were signed but not agreed, in order."""
    sql = f"SELECT {_COLUMNS} FROM sent WHERE channel = ? AND seq > ? ORDER BY seq"
    return [_journaled(row) for row in store.read(sql, (channel.id, channel.ours.seq))]


def load_streams(store: Store, channel: ChannelId) -> list[StreamSaved]:
    """Return how far each stream of a channel has come."""
    rows = store.read("SELECT sender, lock, proof FROM streams WHERE channel = ? ORDER BY sender, lock", (channel,))
    return [StreamSaved(channel, *row) for row in rows]


def load_streamed(store: Store, channel: ChannelId, sender: int) -> int:
    """Return what the ended streams of one direction of a channel have paid."""
    rows = store.read("SELECT amount FROM streamed WHERE channel = ? AND sender = ?", (channel, sender))
    return int.from_bytes(rows[0][0], "big") if rows else 0


def load_onions(store: Store, channel: ChannelId) -> list[OnionKept]:
    """Return the onions of a channel's pending incoming locks."""
    rows = store.read("SELECT lock, onion FROM packets WHERE channel = ? ORDER BY lock", (channel,))
    return [OnionKept(channel, *row) for row in rows]


def received_after(store: Store, position: int, limit: int, channel: ChannelId | None = None) -> list[Journaled]:
    """Return up to `limit` of the peers' updates, committed after `position` (0: from the beginning)."""
    if channel is None:
        sql = f"SELECT {_COLUMNS} FROM received WHERE position > ? ORDER BY position LIMIT ?"
        return [_journaled(row) for row in store.read(sql, (position, limit))]
    sql = f"SELECT {_COLUMNS} FROM received WHERE channel = ? AND position > ? ORDER BY position LIMIT ?"
    return [_journaled(row) for row in store.read(sql, (channel, position, limit))]


def pruned_of(store: Store, channel: ChannelId | None = None) -> Pruned:
    """Return the newest received payment that was pruned, of one channel or of all."""
    where, parameters = ("", ()) if channel is None else ("WHERE channel = ?", (channel,))
    rows = store.read(f"SELECT position, payments FROM history {where} ORDER BY position DESC LIMIT 1", parameters)
    return Pruned(*rows[0]) if rows else Pruned()


def load_choices(store: Store) -> dict[ChannelId, int | None]:
    """Return how much history is kept of the channels whose owner chose."""
    return {ChannelId(channel): keep for channel, keep in store.read("SELECT channel, keep FROM history WHERE chosen")}


def sent_with(store: Store, channel: ChannelId, payment: int) -> Journaled | None:
    """Return our update that carries payment number `payment`, None if it is unknown or pruned."""
    sql = (
        f"SELECT {_COLUMNS} FROM sent WHERE channel = ? AND first <= ? AND first + count > ? ORDER BY seq DESC LIMIT 1"
    )
    rows = store.read(sql, (channel, payment, payment))
    return _journaled(rows[0]) if rows else None


def payment_of(store: Store, key: str) -> tuple[ChannelId, int] | None:
    """Return the channel and the payment id that an idempotency key stands for, None if it was never signed."""
    rows = store.read("SELECT channel, payment FROM keys WHERE key = ?", (key,))
    return (ChannelId(rows[0][0]), rows[0][1]) if rows else None
