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

import msgspec

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Row, Rows, above, below, decode_column, last, table
from tallystick.router.forwarding.forwarder import Circuit, ForwardOutcome
from tallystick.router.forwarding.jamming import Reputation
from tallystick.router.objects import ForwardingPolicy


class ForwardRecord(msgspec.Struct, frozen=True):
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


class CircuitOwed(Moment, frozen=True):
    """The incoming lock of a stake was paid: the circuit says from now on by what proof."""

    circuit: Circuit


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


_CIRCUITS = table("circuits", "channel lock body reason", keys=2)
_FORWARDS = table("forwards", "position body outcome time", numbered=True, history="position")
_POLICIES = table("policies", "channel body")
_REPUTATIONS = table("reputations", "peer worth earned time", learned=True)
_BARS = table("bars", "peer until", learned=True)

_CIRCUIT: Codec[Circuit] = Codec(Circuit, canonical=False)
_POLICY: Codec[ForwardingPolicy] = Codec(ForwardingPolicy, canonical=False)


def _opened(rows: Rows, moment: CircuitOpened) -> None:
    circuit = moment.circuit
    rows.add(_CIRCUITS, circuit.outgoing, circuit.outgoing_lock, _CIRCUIT.encode(circuit), b"")


def _rejected(rows: Rows, moment: CircuitRejected) -> None:
    rows.update(_CIRCUITS, {"reason": moment.reason}, channel=moment.outgoing, lock=moment.lock)


def _owed(rows: Rows, moment: CircuitOwed) -> None:
    circuit = moment.circuit
    body = _CIRCUIT.encode(circuit)
    rows.update(_CIRCUITS, {"body": body}, channel=circuit.outgoing, lock=circuit.outgoing_lock)


def _closed(rows: Rows, moment: CircuitClosed) -> None:
    circuit = moment.circuit
    rows.delete(_CIRCUITS, channel=circuit.outgoing, lock=circuit.outgoing_lock)
    rows.add(_FORWARDS, _CIRCUIT.encode(circuit), int(moment.outcome), moment.time)


def _pruned(rows: Rows, moment: ForwardsPruned) -> None:
    newest = last(rows, _FORWARDS, "position")  # the last row stays: positions only grow
    rows.delete(_FORWARDS, below("time", moment.before), below("position", newest))


def _reputation(rows: Rows, moment: ReputationSaved) -> None:
    rows.put(_REPUTATIONS, moment.peer, moment.worth, moment.earned, moment.time)


def _barred(rows: Rows, moment: PeerBarred) -> None:
    rows.put(_BARS, moment.peer, moment.until)


def _policy(rows: Rows, moment: PolicySet) -> None:
    rows.put(_POLICIES, moment.channel, _POLICY.encode(moment.policy))


CIRCUITS = Subject(
    "circuits",
    (_CIRCUITS, _FORWARDS, _POLICIES, _REPUTATIONS, _BARS),
    {
        CircuitOpened: _opened,
        CircuitRejected: _rejected,
        CircuitOwed: _owed,
        CircuitClosed: _closed,
        ForwardsPruned: _pruned,
        PolicySet: _policy,
        ReputationSaved: _reputation,
        PeerBarred: _barred,
    },
)


def load_circuits(store: Store) -> list[tuple[Circuit, bytes]]:
    """Return all payments that are being forwarded, each with the reason for which it is being given back, if it is."""
    return [
        (decode_column(_CIRCUIT, body, "circuits", channel, lock), reason)
        for channel, lock, body, reason in store.read(_CIRCUITS.rows())
    ]


def load_reputations(store: Store) -> list[tuple[bytes, Reputation]]:
    """Return what every peer is worth."""
    return [(peer, Reputation(*rest)) for peer, *rest in store.read(_REPUTATIONS.rows())]


def load_bars(store: Store) -> list[tuple[bytes, int]]:
    """Return which peers were barred, each with the time until which it is."""
    return [(peer, until) for peer, until in store.read(_BARS.rows())]


def load_policies(store: Store) -> dict[ChannelId, ForwardingPolicy]:
    """Return what the owner asks for over each channel for which it said so."""
    return {
        ChannelId(channel): decode_column(_POLICY, body, "policies", channel)
        for channel, body in store.read(_POLICIES.rows())
    }


def forwards_after(store: Store, position: int, limit: int) -> list[ForwardRecord]:
    """Return up to `limit` ended forwards behind `position` (0: from the beginning), in order."""
    return [_forward(row) for row in store.read(_FORWARDS.rows(above("position", position), limit=limit))]


def forwards_before(store: Store, position: int, limit: int) -> list[ForwardRecord]:
    """Return up to `limit` ended forwards before `position` (0: from the end), the newest first."""
    where = [below("position", position)] if position else []
    return [_forward(row) for row in store.read(_FORWARDS.rows(*where, order=("-position",), limit=limit))]


def _forward(row: Row) -> ForwardRecord:
    position, body, outcome, time = row
    return ForwardRecord(position, decode_column(_CIRCUIT, body, "forwards", position), ForwardOutcome(outcome), time)
