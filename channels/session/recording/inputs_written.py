"""How each input stands in a recording: most as they are, some by what of them concerns the channel."""

from __future__ import annotations

import typing
from typing import Any

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.hashchain import HashChain
from tallystick.channels.protocol.messages import Message, encode
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session import inputs
from tallystick.channels.session.inputs import Asks, BeginStream, ChainMoved, JoinUpdate, PeerMessage, SubmitLock
from tallystick.channels.session.recording.document import SeenChain
from tallystick.channels.session.recording.redaction import Redactor, stand_in
from tallystick.channels.session.recording.snapshots import Companion, chain_time, seen
from tallystick.channels.session.session import Session
from tallystick.channels.session.tickets import Ticket
from tallystick.channels.values.discretion import Discreet

KINDS: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(inputs.Input)}


class WrittenLock(msgspec.Struct, frozen=True):
    """A `SubmitLock`."""

    amount: int
    expiry: int
    condition: bytes
    onion: bytes
    kind: int
    attached: bool
    """Whether something was to be stored with it."""


class WrittenStream(Discreet, msgspec.Struct, frozen=True):
    """A `BeginStream`, over a chain from a stand-in."""

    seed: bytes
    length: int
    unit: int
    expiry: int


class WrittenTicket(msgspec.Struct, frozen=True):
    """A `JoinUpdate`."""

    seq: int
    amounts: tuple[int, ...]


class WrittenMessage(msgspec.Struct, frozen=True):
    """A `PeerMessage`: the frame follows from it."""

    message: Message


def chain_of(given: Asks[Any], session: Session) -> SeenChain | None:
    """Return what of the chain's news concerns the channel, if it is such."""
    return seen(given.chain, session.channel) if isinstance(given, ChainMoved) else None


def plain(redactor: Redactor, given: Asks[Any], chain: SeenChain | None) -> msgspec.Struct:
    """Return what is written of an input, without secrets."""
    if chain is not None:
        return redactor.redact(chain)
    if isinstance(given, SubmitLock):
        lock = (given.amount, given.expiry, given.condition, given.onion, given.kind)
        return redactor.redact(WrittenLock(*lock, given.attach is not None))
    if isinstance(given, BeginStream):
        return WrittenStream(stand_in(given.chain.tip), given.chain.length, given.unit, given.expiry)
    if isinstance(given, JoinUpdate):
        return WrittenTicket(given.seq, given.ticket.amounts)
    if isinstance(given, PeerMessage):
        return WrittenMessage(redactor.redact(given.message))
    return redactor.redact(given)


def given(kind: str, written: Any, channel: ChannelId) -> Asks[Any]:
    """Return the input; raise InvalidInput if there is none of that kind, or of that form."""
    if kind not in KINDS:
        raise InvalidInput(f"this release knows no input {kind!r}: replay the recording with the one that made it")
    try:
        return _given(kind, written, channel)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"an input {kind!r} in this recording has not its form: {error}") from error


def _given(kind: str, written: Any, channel: ChannelId) -> Asks[Any]:
    if kind == "ChainMoved":
        return ChainMoved(chain_time(msgspec.convert(written, SeenChain)))
    if kind == "SubmitLock":
        lock = msgspec.convert(written, WrittenLock)
        companion = Companion() if lock.attached else None
        return SubmitLock(lock.amount, lock.expiry, lock.condition, lock.onion, lock.kind, companion)
    if kind == "BeginStream":
        stream = msgspec.convert(written, WrittenStream)
        return BeginStream(HashChain.built(stream.seed, stream.length), stream.unit, stream.expiry)
    if kind == "JoinUpdate":
        join = msgspec.convert(written, WrittenTicket)
        return JoinUpdate(join.seq, Ticket(channel, join.amounts, b"", "", 0.0))
    if kind == "PeerMessage":
        message = msgspec.convert(written, WrittenMessage).message
        return PeerMessage(message, encode(message))
    found: Asks[Any] = msgspec.convert(written, KINDS[kind])
    return found
