"""Forwarding: whether an incoming lock may go on, over which channel, and what follows from what becomes of it.

    incoming ──decide──▶ refused: released with a failure of ours
                │
                ▼ one commit: replay record, circuit, outgoing lock
             forwarded ──secret (peer or chain)──────────▶ claimed at once, before the outgoing lock is agreed gone
                │     ──agreed cancel─────────────────────▶ released with the failure from behind us, wrapped once more
                │     ──expired by the confirmed chain,
                │       or its channel is gone, unpaid────▶ released
                └─────given up before it was signed───────▶ released with a failure of ours

Sans-IO: methods say what to do (`Answer`), the shell does it in the commit of what happened. Rules:

1. The incoming lock is released only once the outgoing one can never be paid: both agree that it is gone, or the
   confirmed chain is past its expiry without its secret. A reject alone is no agreement.
2. All hops of one chain share one expiry (PROTOCOL section 3), so a secret that is registered in time pays both locks;
   it has to be as far away as the margin of the outgoing channel asks for.
3. What is asked for is measured on the channel that the onion names; any other channel with the same peer and asset may
   carry it (non-strict forwarding), but never the one that it came from.
4. Locks with one hash are locks of their own: each needs its own money.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeAlias

import msgspec

from tallystick.channels.protocol.conditions import HASH
from tallystick.channels.protocol.objects import Address, ChannelId, Lock
from tallystick.channels.values.arguments import Options
from tallystick.channels.values.discretion import Discreet
from tallystick.router.codes import Code
from tallystick.router.objects import ForwardingPolicy
from tallystick.router.onion.failures import Failure, first_wrap, wrap
from tallystick.router.onion.payload import ForwardPayload


class Readiness(enum.Enum):
    """What a channel is good for at the moment, as a way out."""

    OPEN = 1
    OFFLINE = 2
    """Its peer is not connected, not in step, or acknowledges nothing."""
    CLOSING = 3
    """It takes no new locks any more."""


class OutboundChannel(msgspec.Struct, frozen=True):
    """One of our channels as a way out."""

    channel: ChannelId
    peer: bytes
    asset: Address
    policy: ForwardingPolicy
    way: Readiness
    spendable: int
    slots: int
    """Locks that it can take yet."""


class ForwardingLimits(Options, frozen=True, kw_only=True):
    """What a forwarder asks of locks. Seconds of chain time."""

    expiry_min: int = 300
    """A lock that would expire sooner is not forwarded: others need time, and we may have to claim it on chain."""
    expiry_max: int = 7 * 86_400
    """Nor one whose money would be bound for longer."""
    unsigned_max: int = 60
    """How long an outgoing lock may wait for its peer before it is given up unsigned."""


class Circuit(Discreet, msgspec.Struct, frozen=True, array_like=True):
    """One payment that this node forwards. Amounts in the smallest unit of the asset that both channels carry."""

    incoming: ChannelId
    incoming_lock: int
    outgoing: ChannelId
    outgoing_lock: int
    amount_in: int
    amount_out: int
    expiry: int
    """Of the outgoing lock."""
    secret: bytes
    """Shared with the payer by the onion: hides failures on their way back."""
    began: int
    """Chain time."""
    kind: int = HASH
    """Of both locks."""
    owed: bytes = b""
    """Of a stake (`stakes`): the proof by which the incoming lock was paid. So the outgoing one is."""

    @property
    def fee(self) -> int:
        """What we earn if it is paid."""
        return self.amount_in - self.amount_out

    @property
    def name(self) -> Name:
        """Channel and number of the outgoing lock."""
        return self.outgoing, self.outgoing_lock

    @property
    def origin(self) -> Name:
        """Channel and number of the incoming lock."""
        return self.incoming, self.incoming_lock


class ForwardOutcome(enum.IntEnum):
    """How a forwarded payment ended. The numbers are part of the disk format."""

    PAID = 1
    FAILED = 2
    """Whoever came after us gave it back."""
    EXPIRED = 3
    """The outgoing lock expired, or its channel ended, without its secret."""
    LOST = 4
    """We pay, and the incoming lock is gone: this node's data must be old, or a rule was broken."""


Name: TypeAlias = tuple[ChannelId, int]
"""A lock: its channel and its number there."""


class ClaimLock(Discreet, msgspec.Struct, frozen=True):
    """Reveal the secret of this incoming lock."""

    channel: ChannelId
    lock: int
    secret: bytes


class ReleaseLock(msgspec.Struct, frozen=True):
    """Reject this incoming lock."""

    channel: ChannelId
    lock: int
    reason: bytes


class CloseCircuit(msgspec.Struct, frozen=True):
    """The circuit has ended: what it was goes into the history."""

    circuit: Circuit
    outcome: ForwardOutcome


class KeepReason(msgspec.Struct, frozen=True):
    """Keep the reason for which the outgoing lock is being given back."""

    circuit: Circuit
    reason: bytes


Answer: TypeAlias = ClaimLock | ReleaseLock | CloseCircuit | KeepReason


# --- whether and where ------------------------------------------------------------------------------------------


def choose(
    lock: Lock,
    source: ChannelId,
    order: ForwardPayload,
    candidates: Iterable[OutboundChannel],
    now: int,
    limits: ForwardingLimits,
) -> OutboundChannel | Failure:
    """Return over which channel to forward `lock`, which came over `source`, or why not to. `now` is chain time."""
    known = {candidate.channel: candidate for candidate in candidates}
    named, origin = known.get(order.channel), known.get(source)
    if named is None or origin is None or named.asset != origin.asset:
        return Failure(Code.UNKNOWN_NEXT_PEER, channel=order.channel)
    failure = _terms(lock, order, named, now, limits)
    if failure is not None:
        return failure
    same_peer = [
        candidate for candidate in known.values() if (candidate.peer, candidate.asset) == (named.peer, named.asset)
    ]
    usable = sorted(
        (candidate for candidate in same_peer if candidate.channel != source),
        key=lambda candidate: (candidate.channel != order.channel, candidate.spendable),
    )
    for candidate in usable:
        if candidate.way is Readiness.OPEN and candidate.slots > 0 and candidate.spendable >= order.amount:
            return candidate
    if all(candidate.way is Readiness.CLOSING for candidate in same_peer):
        return Failure(Code.PERMANENT_CHANNEL_FAILURE, channel=order.channel)
    if all(candidate.way is not Readiness.OPEN for candidate in same_peer):
        return Failure(Code.CHANNEL_DISABLED, channel=order.channel)
    return Failure(Code.TEMPORARY_CHANNEL_FAILURE, channel=order.channel)


def _terms(
    lock: Lock, order: ForwardPayload, named: OutboundChannel, now: int, limits: ForwardingLimits
) -> Failure | None:
    """Return what is wrong with what the onion orders, by the policy of the channel that it names."""
    policy, channel = named.policy, order.channel
    if lock.kind != HASH and order.amount != lock.amount:  # what a stake pays depends on its condition alone
        return Failure(Code.INVALID_ONION_PAYLOAD)
    if lock.kind != HASH and order.expiry != lock.expiry:
        return Failure(Code.INCORRECT_EXPIRY, time=lock.expiry, channel=channel)
    if not policy.enabled:
        return Failure(Code.CHANNEL_DISABLED, channel=channel)
    if order.amount < policy.minimum:
        return Failure(Code.AMOUNT_BELOW_MINIMUM, amount=lock.amount, channel=channel)
    if not policy.carries(order.amount):
        return Failure(Code.TEMPORARY_CHANNEL_FAILURE, channel=channel)
    if lock.kind == HASH and lock.amount - order.amount < policy.fee(order.amount):
        return Failure(Code.FEE_INSUFFICIENT, amount=lock.amount, channel=channel)
    if order.expiry > lock.expiry:
        return Failure(Code.INCORRECT_EXPIRY, time=lock.expiry, channel=channel)
    if order.expiry < now + max(limits.expiry_min, policy.margin):
        return Failure(Code.EXPIRY_TOO_SOON, channel=channel)
    if lock.expiry > now + limits.expiry_max:
        return Failure(Code.EXPIRY_TOO_FAR)
    return None


# --- what follows -----------------------------------------------------------------------------------------------


class _Open(msgspec.Struct):
    circuit: Circuit
    reason: bytes = b""
    claimed: bool = False
    released: bool = False


Hide: TypeAlias = Callable[[bytes, Failure], bytes]
"""Returns the reason that tells the payer, and nobody else, of a failure of ours: from the onion's secret."""


class Forwarder:
    """All payments on their way through this node, by their outgoing locks."""

    def __init__(self, hide: Hide = first_wrap) -> None:
        self._hide = hide
        self._open: dict[Name, _Open] = {}
        self._by_origin: dict[Name, Name] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def circuits(self) -> list[Circuit]:
        """The circuits that have not ended."""
        return [entry.circuit for entry in self._open.values()]

    def resume(self, circuits: Iterable[tuple[Circuit, bytes]], claimed: Collection[Name] = ()) -> None:
        """Take over what is durable, each with the reason for which it is being given back, if it is.

        `claimed` are the incoming locks whose secrets are known, and stored.
        """
        for circuit, reason in circuits:
            self.on_opened(circuit)
            entry = self._open[circuit.name]
            entry.reason, entry.claimed = reason, circuit.origin in claimed

    def of_origin(self, channel: ChannelId, lock: int) -> Circuit | None:
        """Return the circuit of an incoming lock."""
        name = self._by_origin.get((channel, lock))
        return self._open[name].circuit if name is not None else None

    def circuit(self, channel: ChannelId, lock: int) -> Circuit | None:
        """Return the circuit of an outgoing lock."""
        entry = self._open.get((channel, lock))
        return entry.circuit if entry is not None else None

    def holds(self, channel: ChannelId, lock: int) -> bool:
        """Whether that outgoing lock stands for an incoming one."""
        return (channel, lock) in self._open

    def on_opened(self, circuit: Circuit) -> None:
        """The outgoing lock is queued, its circuit attached."""
        self._open[circuit.name] = _Open(circuit)
        self._by_origin[circuit.origin] = circuit.name

    def on_dropped(self, channel: ChannelId, lock: int) -> Sequence[Answer]:
        """The outgoing lock was given up before it was signed: the circuit never was."""
        entry = self._open.get((channel, lock))
        if entry is None:
            return ()
        self._forget(entry)
        return (self._release(entry, Failure(Code.CHANNEL_DISABLED, channel=channel)),)

    def on_secret_learned(self, channel: ChannelId, lock: int, secret: bytes) -> Sequence[Answer]:
        """The outgoing lock will be paid: so must the incoming one."""
        entry = self._open.get((channel, lock))
        if entry is None or entry.claimed:
            return ()
        entry.claimed = True
        return (ClaimLock(entry.circuit.incoming, entry.circuit.incoming_lock, secret),)

    def on_rejected(self, channel: ChannelId, lock: int, reason: bytes) -> Sequence[Answer]:
        """The outgoing lock is being given back."""
        entry = self._open.get((channel, lock))
        if entry is None:
            return ()
        entry.reason = reason
        return (KeepReason(entry.circuit, reason),)

    def on_ended(self, channel: ChannelId, lock: int, secret: bytes) -> Sequence[Answer]:
        """The outgoing lock is agreed gone: paid with `secret`, or (empty) cancelled."""
        entry = self._open.get((channel, lock))
        if entry is None:
            return ()
        circuit = entry.circuit
        self._forget(entry)
        if secret:
            claim = () if entry.claimed else (ClaimLock(circuit.incoming, circuit.incoming_lock, secret),)
            return (*claim, CloseCircuit(circuit, ForwardOutcome.PAID))
        if entry.claimed:  # the chain told the secret after both had agreed to cancel: we were paid all the same
            return (CloseCircuit(circuit, ForwardOutcome.PAID),)
        outcome = ForwardOutcome.FAILED if entry.reason else ForwardOutcome.EXPIRED
        release = () if entry.released else (self._release(entry, None),)
        return (*release, CloseCircuit(circuit, outcome))

    def on_incoming_paid(self, channel: ChannelId, lock: int) -> Sequence[Answer]:
        """The incoming lock was paid to us: nothing is left to do for the payment, whatever the outgoing peer does."""
        name = self._by_origin.get((channel, lock))
        if name is None:
            return ()
        entry = self._open[name]
        self._forget(entry)
        return (CloseCircuit(entry.circuit, ForwardOutcome.PAID),)

    def on_incoming_lost(self, circuit: Circuit) -> Sequence[Answer]:
        """The incoming lock is not there to be claimed."""
        entry = self._open.get(circuit.name)
        if entry is None:
            return ()
        self._forget(entry)
        return (CloseCircuit(circuit, ForwardOutcome.LOST),)

    def on_time(self, final: int, gone: Callable[[ChannelId], bool]) -> Sequence[Answer]:
        """Chain time passes: release what can never be paid. Secrets that the chain shows were told before.

        `final` is the time of the newest confirmed block; `gone` says whether nothing of a channel is left on chain.
        """
        answers: list[Answer] = []
        for entry in list(self._open.values()):
            circuit, over = entry.circuit, gone(entry.circuit.outgoing)
            if not entry.claimed and not entry.released and (over or circuit.expiry < final):
                answers.append(self._release(entry, Failure(Code.PERMANENT_CHANNEL_FAILURE) if over else None))
            if over:
                self._forget(entry)
                answers.append(CloseCircuit(circuit, ForwardOutcome.PAID if entry.claimed else ForwardOutcome.EXPIRED))
        return answers

    def _release(self, entry: _Open, failure: Failure | None) -> ReleaseLock:
        """Reject the incoming lock: with our own failure or the one that came from behind us, hidden once more."""
        circuit = entry.circuit
        entry.released = True
        if failure is None and entry.reason:
            return ReleaseLock(circuit.incoming, circuit.incoming_lock, wrap(circuit.secret, entry.reason))
        failure = failure or Failure(Code.TEMPORARY_CHANNEL_FAILURE, channel=circuit.outgoing)
        return ReleaseLock(circuit.incoming, circuit.incoming_lock, self._hide(circuit.secret, failure))

    def _forget(self, entry: _Open) -> None:
        del self._open[entry.circuit.name]
        self._by_origin.pop(entry.circuit.origin, None)
