"""Stakes in apps that are passed on (locks of kind 1): a hub that pays what it was paid, whatever two players sign.

Both locks of a stake have one condition, one amount and one expiry, so the chain decides them alike (docs/apps.md). Off
chain that has to be made sure. Two players may sign two outcomes, show us one, and the other to the court; so what is
owed to us is never given up while what we owe may still be more:

    L in    from the player whose stake it is        L out    to the other player, over us

    shown an outcome for L out ──▶ it is shown for L in; nothing is paid yet
    L in is unlocked, all of it ──▶ noted with that commit; then L out is unlocked by the same proof
    L in is unlocked in part    ──▶ left aside (`covers`), unless L out is gone unpaid, or the confirmed chain says so
    L out is given back, agreed ──▶ L in is released
    the confirmed chain decides ──▶ both are unlocked by its word, cancelled or redeemed, each by itself

So off chain all of a stake goes over, or nothing; what is in between only the court pays. A hub brings nothing to
court: it is as well off whatever is decided there, and also if nothing is.

A circuit ends once both locks are gone. Sans-IO: methods return what to do, the service does it in the same commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

import msgspec

from tallystick.channels.protocol.conditions import BY_COURT
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.values.arguments import Options
from tallystick.channels.values.discretion import Discreet
from tallystick.router.codes import Code
from tallystick.router.forwarding.forwarder import (
    Circuit,
    CloseCircuit,
    ForwardOutcome,
    Hide,
    KeepReason,
    Name,
    ReleaseLock,
)
from tallystick.router.onion.failures import Failure, wrap


class StakeLimits(Options, frozen=True, kw_only=True):
    """How far stakes may bind what is ours. They bring no fee, and a dispute holds them past their expiry."""

    count: int = 8
    """Stakes that come from one peer, or go to one, and pend at once. 0: none is passed on."""
    percent: int = 20
    """Of what both sides have in a channel: how much stakes may bind in it, outwards."""
    expiry_max: int = 86_400
    """A stake that expires later than so many seconds of chain time from now is not passed on."""


class ShowOutcome(Discreet, msgspec.Struct, frozen=True):
    """Show the peer of an incoming lock by what it may unlock that."""

    channel: ChannelId
    lock: int
    proof: bytes


class OweLock(Discreet, msgspec.Struct, frozen=True):
    """The incoming lock was paid: store the circuit, which says so."""

    circuit: Circuit


class PayStake(Discreet, msgspec.Struct, frozen=True):
    """Unlock the outgoing lock by that proof."""

    channel: ChannelId
    lock: int
    proof: bytes


StakeAnswer: TypeAlias = ShowOutcome | OweLock | PayStake | ReleaseLock | CloseCircuit | KeepReason


class LockFates(Protocol):
    """What has become of locks, as far as it is agreed and stored, or the chain has ended their channel."""

    def is_incoming_over(self, circuit: Circuit) -> bool:
        """Whether the incoming lock is gone."""

    def is_outgoing_over(self, circuit: Circuit) -> bool:
        """Whether the outgoing lock is gone; False while it is not signed."""


class _PendingStake(msgspec.Struct):
    circuit: Circuit
    reason: bytes = b""
    shown: bytes = b""
    incoming_over: bool = False
    outgoing_over: bool = False


class Stakes:
    """All stakes on their way through this node, by their outgoing locks: see the module's docstring."""

    def __init__(self, limits: StakeLimits, hide: Hide) -> None:
        self._limits = limits
        self._hide = hide
        self._open: dict[Name, _PendingStake] = {}
        self._by_origin: dict[Name, Name] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def circuits(self) -> list[Circuit]:
        """The circuits that have not ended."""
        return [entry.circuit for entry in self._open.values()]

    def resume(self, circuits: Iterable[tuple[Circuit, bytes]], fates: LockFates) -> None:
        """Take over what is durable, each with the reason for which it is being given back, if it is."""
        for circuit, reason in circuits:
            self.on_opened(circuit)
            entry = self._open[circuit.name]
            entry.reason = reason
            entry.incoming_over = fates.is_incoming_over(circuit)
            entry.outgoing_over = fates.is_outgoing_over(circuit)

    def of_origin(self, channel: ChannelId, lock: int) -> Circuit | None:
        """Return the circuit of an incoming lock."""
        name = self._by_origin.get((channel, lock))
        return self._open[name].circuit if name is not None else None

    def circuit(self, channel: ChannelId, lock: int) -> Circuit | None:
        """Return the circuit of an outgoing lock."""
        entry = self._open.get((channel, lock))
        return entry.circuit if entry is not None else None

    def admits(self, circuit: Circuit, peers: tuple[bytes, bytes], value: int, others: Iterable[bytes]) -> bool:
        """Whether one more may be taken on. `peers`: whom it comes from and goes to; `value`: all that is in its
        outgoing channel; `others`: a key for each peer that a stake pending now comes from or goes to.
        """
        limits, pending = self._limits, list(others)
        bound = sum(
            entry.circuit.amount_out
            for entry in self._open.values()
            if entry.circuit.outgoing == circuit.outgoing and not entry.outgoing_over
        )
        return (
            all(pending.count(peer) < limits.count for peer in peers)
            and bound + circuit.amount_out <= value * limits.percent // 100
            and circuit.expiry <= circuit.began + limits.expiry_max
        )

    # --- what happens --------------------------------------------------------------------------------------------

    def on_opened(self, circuit: Circuit) -> None:
        """The outgoing lock is queued, its circuit attached."""
        self._open[circuit.name] = _PendingStake(circuit)
        self._by_origin[circuit.origin] = circuit.name

    def on_dropped(self, channel: ChannelId, lock: int) -> Sequence[StakeAnswer]:
        """The outgoing lock was given up before it was signed: the circuit never was."""
        entry = self._open.get((channel, lock))
        if entry is None:
            return ()
        self._forget(entry)
        return (self._release(entry, Failure(Code.CHANNEL_DISABLED, channel=channel)),)

    def on_proof_shown(self, channel: ChannelId, lock: int, proof: bytes, *, whole: bool) -> Sequence[StakeAnswer]:
        """The outgoing peer asks to be paid by an outcome; `whole`: it pays all of the stake."""
        entry = self._open.get((channel, lock))
        if entry is None:
            return ()
        circuit = entry.circuit
        if circuit.owed:
            return _payment(circuit)
        if not whole or entry.incoming_over:
            return ()
        entry.shown = proof
        return (ShowOutcome(circuit.incoming, circuit.incoming_lock, proof),)

    def on_rejected(self, channel: ChannelId, lock: int, reason: bytes) -> Sequence[StakeAnswer]:
        """The outgoing lock is being given back."""
        entry = self._open.get((channel, lock))
        if entry is None:
            return ()
        entry.reason = reason
        return (KeepReason(entry.circuit, reason),)

    def on_outgoing_ended(self, channel: ChannelId, lock: int, paid: int) -> Sequence[StakeAnswer]:
        """The outgoing lock is agreed gone."""
        entry = self._open.get((channel, lock))
        if entry is None:
            return ()
        entry.outgoing_over = True
        release = () if paid or entry.incoming_over else (self._release(entry, None),)
        return (*release, *self._close(entry))

    def on_incoming_ended(self, channel: ChannelId, lock: int, paid: int, proof: bytes) -> Sequence[StakeAnswer]:
        """The incoming lock is agreed gone. What `covers` let pass needs no answer, unless it was paid."""
        name = self._by_origin.get((channel, lock))
        if name is None:
            return ()
        entry = self._open[name]
        entry.incoming_over = True
        if paid and not entry.outgoing_over:
            entry.circuit = msgspec.structs.replace(entry.circuit, owed=proof)
            return (OweLock(entry.circuit), *_payment(entry.circuit))
        return self._close(entry)

    def on_ready(self, channel: ChannelId) -> Sequence[StakeAnswer]:
        """A channel is in step: pay over it what is owed, and show what was asked for while it was not."""
        answers: list[StakeAnswer] = []
        for entry in self._open.values():
            circuit = entry.circuit
            if circuit.owed and circuit.outgoing == channel and not entry.outgoing_over:
                answers += _payment(circuit)
            if entry.shown and circuit.incoming == channel and not entry.incoming_over:
                answers.append(ShowOutcome(channel, circuit.incoming_lock, entry.shown))
        return answers

    def on_time(self, fates: LockFates) -> Sequence[StakeAnswer]:
        """Chain time passes: close what has ended with its channels."""
        answers: list[StakeAnswer] = []
        for entry in list(self._open.values()):
            entry.incoming_over = entry.incoming_over or fates.is_incoming_over(entry.circuit)
            entry.outgoing_over = entry.outgoing_over or fates.is_outgoing_over(entry.circuit)
            answers += self._close(entry)
        return answers

    def _close(self, entry: _PendingStake) -> Sequence[StakeAnswer]:
        if not entry.incoming_over or not entry.outgoing_over:
            return ()
        self._forget(entry)
        outcome = ForwardOutcome.FAILED if entry.reason else ForwardOutcome.EXPIRED
        return (CloseCircuit(entry.circuit, ForwardOutcome.PAID if entry.circuit.owed else outcome),)

    def _release(self, entry: _PendingStake, failure: Failure | None) -> ReleaseLock:
        circuit = entry.circuit
        if failure is None and entry.reason:
            return ReleaseLock(circuit.incoming, circuit.incoming_lock, wrap(circuit.secret, entry.reason))
        failure = failure or Failure(Code.TEMPORARY_CHANNEL_FAILURE, channel=circuit.outgoing)
        return ReleaseLock(circuit.incoming, circuit.incoming_lock, self._hide(circuit.secret, failure))

    def _forget(self, entry: _PendingStake) -> None:
        del self._open[entry.circuit.name]
        self._by_origin.pop(entry.circuit.origin, None)


def _payment(circuit: Circuit) -> Sequence[PayStake]:
    """Return the unlock of the outgoing lock by the proof that paid the incoming one.

    If that was the court's word, none: the outgoing lock is unlocked by the same word, which its channel looks for.
    """
    return () if circuit.owed == BY_COURT else (PayStake(*circuit.name, circuit.owed),)
