"""What transitions ask for, in the only order there is: store, then send, then tell.

Sessions append to one `Effects`; the engine takes it at the start of each round, commits its moments in one
transaction, and only then hands out its frames, events and resolved tickets. A channel's row is written once per round,
however often it changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from tallystick.channels.apps.instance import AppPhase
from tallystick.channels.protocol import core
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.messages import Message, OpenProposal, encode
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.session.tickets import Ticket
from tallystick.channels.storage.schema import ChannelForgotten, ChannelSaved
from tallystick.channels.storage.store import Moment
from tallystick.channels.values.discretion import Discreet


class PaymentsReceived(msgspec.Struct, frozen=True):
    """The peer's payments `first` … `first + count - 1`, `total` in all, are agreed and durable."""

    channel: ChannelId
    first: int
    count: int
    total: int


class PaymentsSecured(msgspec.Struct, frozen=True):
    """`count` of our payments are countersigned and durable, up to update `seq`."""

    channel: ChannelId
    seq: int
    count: int


class LockReceived(msgspec.Struct, frozen=True):
    """The peer added a lock: reveal its secret, reject it, or let it expire."""

    channel: ChannelId
    lock: Lock
    onion: bytes


class LockEnded(Discreet, msgspec.Struct, frozen=True):
    """A pending lock left the simplex of `sender`, `paid` of it to the receiver; `secret` is empty if cancelled."""

    channel: ChannelId
    sender: int
    lock: Lock
    paid: int
    secret: bytes


class LockRejected(msgspec.Struct, frozen=True):
    """The peer rejected our lock, which is being cancelled; the reason is for the payer."""

    channel: ChannelId
    lock: Lock
    reason: bytes


class LockDropped(msgspec.Struct, frozen=True):
    """Our lock was given up before it was signed: it never existed, and its number will name another one."""

    channel: ChannelId
    lock: Lock


class SecretLearned(Discreet, msgspec.Struct, frozen=True):
    """The secret of our lock is known, in time, and what follows from it is durable: the peer will be paid."""

    channel: ChannelId
    lock: Lock
    secret: bytes


class StreamReceived(msgspec.Struct, frozen=True):
    """The peer's stream on `lock` has come to `depth`: `units` more, worth `amount`, durable and ours to claim."""

    channel: ChannelId
    lock: int
    depth: int
    units: int
    amount: int


class ChannelChanged(msgspec.Struct, frozen=True):
    """A channel's phase or funding changed, or an offer was signed: what must be done on chain may have changed."""

    channel: ChannelId
    phase: Phase


class CloseRequested(msgspec.Struct, frozen=True):
    """The peer lost its data and asks us to close with our newest proofs."""

    channel: ChannelId


class OpenRequested(msgspec.Struct, frozen=True):
    """A peer wants to open a channel with us: answer with `Opening.answer`."""

    peer: bytes
    request: OpenProposal


class PeerConnected(msgspec.Struct, frozen=True):
    """A peer is connected, or (`up` false) no longer."""

    peer: bytes
    up: bool


class PeerNotice(msgspec.Struct, frozen=True):
    """A peer told us of a fault or a refusal, or we closed its connection for one."""

    peer: bytes
    channel: bytes
    code: int
    text: str
    ours: bool
    """Whether it was we who found the fault."""


class AppChanged(msgspec.Struct, frozen=True):
    """Something has happened to an instance of an app, or a peer proposes one; what is held of it is durable."""

    instance: bytes
    phase: AppPhase
    proposed: bool = False
    """Whether nobody has answered the peer's proposal."""


PaymentEvent: TypeAlias = PaymentsReceived | PaymentsSecured | StreamReceived
LockEvent: TypeAlias = LockReceived | LockEnded | LockRejected | LockDropped | SecretLearned
ChannelEvent: TypeAlias = ChannelChanged | CloseRequested | OpenRequested
Event: TypeAlias = PaymentEvent | LockEvent | ChannelEvent | PeerConnected | PeerNotice | AppChanged


class Effects:
    """One round's worth of moments, frames, events and resolved tickets."""

    __slots__ = ("_rows", "acts", "events", "frames", "moments", "resolved")

    def __init__(self) -> None:
        self._rows: dict[ChannelId, Channel] = {}
        self.moments: list[Moment] = []
        self.frames: list[tuple[bytes, bytes]] = []
        """(peer's public key, frame), in order."""
        self.events: list[Event] = []
        self.resolved: list[tuple[list[Ticket], int]] = []
        """(tickets, seq of the update that carried them): their receipts are let out after the commit."""
        self.acts: list[Callable[[], None]] = []
        """What else is done after the commit, before the events are told."""

    def take(self) -> Effects:
        """Move everything into a new object, and begin the next round."""
        taken = Effects()
        for name in Effects.__slots__:
            mine = getattr(self, name)
            setattr(self, name, getattr(taken, name))
            setattr(taken, name, mine)
        return taken

    def save(self, channel: Channel) -> None:
        """Write the channel's row in this round's commit."""
        self._rows[channel.id] = channel

    def drop(self, channel: ChannelId) -> None:
        """Delete the channel's row in this round's commit."""
        self._rows.pop(channel, None)
        self.moments.append(ChannelForgotten(channel))

    def store(self, moment: Moment) -> None:
        """Write a moment in this round's commit."""
        self.moments.append(moment)

    def send(self, peer: bytes, message: Message) -> None:
        """Send a message after the commit, if the peer is connected then."""
        self.frames.append((peer, encode(message)))

    def forget_frames(self, peer: bytes) -> None:
        """Drop what was to be sent on a link that is gone."""
        self.frames = [item for item in self.frames if item[0] != peer]

    def emit(self, event: Event) -> None:
        """Tell the application after the commit, once."""
        self.events.append(event)

    @property
    def saved_channels(self) -> list[Channel]:
        """The channels whose rows this round writes, as they are written."""
        return list(self._rows.values())

    def all_moments(self) -> list[Moment]:
        """Return what this round's transaction writes."""
        rows: list[Moment] = [ChannelSaved(core.without_flight(channel)) for channel in self._rows.values()]
        return self.moments + rows

    def __bool__(self) -> bool:
        return bool(self._rows or self.moments or self.frames or self.events or self.resolved or self.acts)
