"""What a forwarder keeps on disk: which outgoing lock stands for which incoming one, and what came of it.

    circuits      one row for each forwarded payment whose outgoing lock is pending, under the name of that lock;
                  written in the very commit that stores the outgoing lock's signature
    forwards      one row for each that has ended: history, off the critical path, pruned at will
    policies      one row for each channel over which the owner asks for something of its own
    reputations   one row for each peer that payments were forwarded from or to (`jamming`)
    bars          one row for each peer that took a secret and did not pay for it: until when it is barred

The incoming lock, its onion, the secret and the rejection are in the channel's own rows. So after any crash a pending
incoming lock either has a circuit, and its outgoing lock is signed, or has none, and nothing was signed for it.
"""

from __future__ import annotations

import sqlite3

import msgspec

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.storage.seals import Sealed
from tallystick.channels.storage.store import Moment, Schema, Store, decoded
from tallystick.router.forwarding.forwarder import Circuit, ForwardOutcome
from tallystick.router.objects import ForwardingPolicy


class Forward(msgspec.Struct, frozen=True):
    """A forwarded payment that has ended."""

    position: int
    """Grows with each: pass it to `forwards_after` to read on."""
    circuit: Circuit
    outcome: ForwardOutcome
    ended: int
    """Chain time."""


class CircuitOpened(Moment, frozen=True):
    """An outgoing lock was signed for an incoming one."""

    circuit: Circuit


class CircuitRejected(Moment, frozen=True):
    """Whoever came after us gives the lock back for this reason; it is not ours again yet."""

    outgoing: ChannelId
    lock: int
    reason: bytes


class CircuitClosed(Moment, frozen=True):
    """The outgoing lock is gone, and the incoming one is answered in the same commit."""

    circuit: Circuit
    outcome: ForwardOutcome
    time: int


class ForwardsPruned(Moment, frozen=True):
    """The owner wants no history of payments that were forwarded before that time."""

    before: int


class PolicySet(Moment, frozen=True):
    """The owner asks this for payments over a channel, outwards."""

    channel: ChannelId
    policy: ForwardingPolicy


class ReputationSaved(Moment, frozen=True):
    """What a peer is worth to us, as of that time."""

    peer: bytes
    worth: float
    earned: float
    time: int


class PeerBarred(Moment, frozen=True):
    """Nothing is forwarded for a peer until then: it did not pay for a secret."""

    peer: bytes
    until: int
    """Chain time."""


_MIGRATION_1 = """
CREATE TABLE circuits (
    channel BLOB NOT NULL, lock INTEGER NOT NULL, body BLOB NOT NULL, reason BLOB NOT NULL,
    PRIMARY KEY (channel, lock)) WITHOUT ROWID;
CREATE TABLE forwards (
    position INTEGER PRIMARY KEY, body BLOB NOT NULL, outcome INTEGER NOT NULL, time INTEGER NOT NULL);
CREATE INDEX forwards_by_time ON forwards (time);
CREATE TABLE reputations (peer BLOB PRIMARY KEY, worth REAL NOT NULL, earned REAL NOT NULL, time INTEGER NOT NULL);
CREATE TABLE policies (channel BLOB PRIMARY KEY, body BLOB NOT NULL)
"""

_MIGRATION_2 = "CREATE TABLE bars (peer BLOB PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID"

_CIRCUIT: Codec[Circuit] = Codec(Circuit, canonical=False)
_POLICY: Codec[ForwardingPolicy] = Codec(ForwardingPolicy, canonical=False)


def _opened(connection: sqlite3.Connection, moment: CircuitOpened) -> None:
    circuit = moment.circuit
    row = (circuit.outgoing, circuit.outgoing_lock, _CIRCUIT.encode(circuit))
    connection.execute("INSERT INTO circuits VALUES (?, ?, ?, x'')", row)


def _rejected(connection: sqlite3.Connection, moment: CircuitRejected) -> None:
    connection.execute(
        "UPDATE circuits SET reason = ? WHERE channel = ? AND lock = ?", (moment.reason, moment.outgoing, moment.lock)
    )


def _closed(connection: sqlite3.Connection, moment: CircuitClosed) -> None:
    circuit = moment.circuit
    connection.execute("DELETE FROM circuits WHERE channel = ? AND lock = ?", (circuit.outgoing, circuit.outgoing_lock))
    connection.execute(
        "INSERT INTO forwards (body, outcome, time) VALUES (?, ?, ?)",
        (_CIRCUIT.encode(circuit), int(moment.outcome), moment.time),
    )


def _pruned(connection: sqlite3.Connection, moment: ForwardsPruned) -> None:
    newest = "(SELECT max(position) FROM forwards)"  # the last row stays: positions only grow
    connection.execute(f"DELETE FROM forwards WHERE time < ? AND position < {newest}", (moment.before,))


def _reputation(connection: sqlite3.Connection, moment: ReputationSaved) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO reputations VALUES (?, ?, ?, ?)",
        (moment.peer, moment.worth, moment.earned, moment.time),
    )


def _barred(connection: sqlite3.Connection, moment: PeerBarred) -> None:
    connection.execute("INSERT OR REPLACE INTO bars VALUES (?, ?)", (moment.peer, moment.until))


def _policy(connection: sqlite3.Connection, moment: PolicySet) -> None:
    connection.execute("INSERT OR REPLACE INTO policies VALUES (?, ?)", (moment.channel, _POLICY.encode(moment.policy)))


SCHEMA = Schema(
    "circuits",
    (_MIGRATION_1, _MIGRATION_2),
    {
        CircuitOpened: _opened,
        CircuitRejected: _rejected,
        CircuitClosed: _closed,
        ForwardsPruned: _pruned,
        PolicySet: _policy,
        ReputationSaved: _reputation,
        PeerBarred: _barred,
    },
    (
        Sealed("circuits"),
        Sealed("forwards", order="position"),
        Sealed("policies"),
        Sealed("reputations", heal=True),
        Sealed("bars", heal=True),
    ),
)


def load_circuits(store: Store) -> list[tuple[Circuit, bytes]]:
    """Return all payments that are being forwarded, each with the reason for which it is being given back, if it is."""
    return [
        (decoded(_CIRCUIT, body, "circuits", channel, lock), reason)
        for channel, lock, body, reason in store.read("SELECT channel, lock, body, reason FROM circuits")
    ]


def load_reputations(store: Store) -> list[ReputationSaved]:
    """Return what every peer is worth."""
    return [ReputationSaved(*row) for row in store.read("SELECT peer, worth, earned, time FROM reputations")]


def load_bars(store: Store) -> list[tuple[bytes, int]]:
    """Return which peers were barred, each with the time until which it is."""
    return [(peer, until) for peer, until in store.read("SELECT peer, until FROM bars")]


def load_policies(store: Store) -> dict[ChannelId, ForwardingPolicy]:
    """Return what the owner asks for over each channel for which it said so."""
    return {
        ChannelId(channel): decoded(_POLICY, body, "policies", channel)
        for channel, body in store.read("SELECT channel, body FROM policies")
    }


def forwards_after(store: Store, position: int, limit: int) -> list[Forward]:
    """Return up to `limit` ended forwards behind `position` (0: from the beginning), in order."""
    sql = "SELECT position, body, outcome, time FROM forwards WHERE position > ? ORDER BY position LIMIT ?"
    return [
        Forward(row, decoded(_CIRCUIT, body, "forwards", row), ForwardOutcome(outcome), time)
        for row, body, outcome, time in store.read(sql, (position, limit))
    ]


def forwards_before(store: Store, position: int, limit: int) -> list[Forward]:
    """Return up to `limit` ended forwards before `position` (0: from the end), the newest first."""
    sql = "SELECT position, body, outcome, time FROM forwards WHERE position < ? ORDER BY position DESC LIMIT ?"
    return [
        Forward(row, decoded(_CIRCUIT, body, "forwards", row), ForwardOutcome(outcome), time)
        for row, body, outcome, time in store.read(sql, (position or 2**62, limit))
    ]
