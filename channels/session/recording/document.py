"""A recording as a file: JSON, with bytes in base64 and a checksum. It holds no key, no secret and no signature.

It begins with a `Snapshot` of the channel; what follows are the inputs, each with what came from outside besides: the
time, whether our view of the chain was fresh, and what the keeper of locks did when it was asked.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import Policy
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.messages import Update
from tallystick.channels.protocol.operations import AddLock, Cancel, Unlock
from tallystick.channels.session.link_state import LinkState
from tallystick.channels.session.tickets import EndedLock
from tallystick.channels.values.discretion import Discreet

FORMAT = "tallystick recording 1"

Figures = dict[str, int | float | bool | None]
"""The attributes of a part that holds nothing but numbers; None: infinity."""


class ChannelState(Discreet, msgspec.Struct, frozen=True):
    """A channel with all that works on it, at one moment: what the same inputs bring about again.

    By this a recorded channel and its replay are compared.
    """

    channel: Channel
    link: LinkState
    must_ack: bool
    """Whether the peer's newest updates wait for our countersignature."""
    payments: int
    """How many wait to be signed."""
    amount: int
    """What is waiting commits, locks included."""
    new_locks: int
    ends: tuple[int, ...]
    """Locks whose end waits to be signed."""
    flight: tuple[tuple[int, int], ...]
    """(number, payments) of each update that waits for its acknowledgement."""
    outgoing: tuple[tuple[int, int, int, int, bool], ...]
    """(lock, wanted, released, acknowledged, closing) of each stream of ours."""
    incoming: tuple[tuple[int, int, int], ...]
    """(lock, depth, depth stored) of each stream of the peer's."""
    learned: tuple[int, ...]
    """Locks of ours whose secrets are known."""
    early: tuple[int, ...]
    """Locks of ours whose secrets came while our view of the chain was old."""
    onions: tuple[int, ...]
    """Locks of the peer's whose onions are kept."""
    window: int
    """Updates that may be in flight."""
    cuts: int
    """Connections in a row that were ended because the peer acknowledged nothing."""


class SeenProof(Discreet, msgspec.Struct, frozen=True):
    """What the chain registered of one puzzle, and when."""

    kind: int
    condition: bytes
    time: int
    proof: bytes


class SeenStake(msgspec.Struct, frozen=True):
    """What the chain's court said of one stake in an app."""

    kind: int
    condition: bytes
    expiry: int
    decides: int
    paid: int


class SeenChain(Discreet, msgspec.Struct, frozen=True):
    """What the chain showed of this channel's locks (`ChainTime`)."""

    now: int
    final: int
    proofs: tuple[SeenProof, ...]
    stakes: tuple[SeenStake, ...] = ()


class WaitingPayment(msgspec.Struct, frozen=True):
    """A ticket in the outbox."""

    amounts: tuple[int, ...]
    memo: bytes
    accepted: float


class FlyingUpdate(Discreet, msgspec.Struct, frozen=True):
    """An update of ours without acknowledgement."""

    update: Update
    payments: int
    ended: tuple[EndedLock, ...]
    agreed: int
    signed: float


class KeptOnion(msgspec.Struct, frozen=True):
    """The onion of a pending lock of the peer's."""

    lock: int
    onion: bytes


class EarlySecret(Discreet, msgspec.Struct, frozen=True):
    """A secret that came while our view of the chain was old."""

    lock: int
    secret: bytes


class PaidStream(Discreet, msgspec.Struct, frozen=True):
    """A stream of ours. `seed` is a stand-in: it makes a chain of the same length."""

    lock: int
    amount: int
    expiry: int
    condition: bytes
    seed: bytes
    length: int
    unit: int
    figures: Figures
    frames: tuple[int, ...]


class ReceivedStream(Discreet, msgspec.Struct, frozen=True):
    """A stream of the peer's. Proofs as an unlock carries them."""

    lock: int
    expiry: int
    proof: bytes
    waiting: tuple[bytes, ...]
    figures: Figures


class Snapshot(Discreet, msgspec.Struct, frozen=True):
    """A channel at one moment: all that a session consists of."""

    channel: Channel
    link: LinkState
    policy: Policy
    history: int | None
    tidied: int
    must_ack: bool
    chain: SeenChain
    window: Figures
    patience: Figures
    payments: tuple[WaitingPayment, ...]
    locks: tuple[AddLock, ...]
    ends: tuple[tuple[Unlock | Cancel, int], ...]
    flight: tuple[FlyingUpdate, ...]
    companions: tuple[int, ...]
    onions: tuple[KeptOnion, ...]
    learned: tuple[int, ...]
    early: tuple[EarlySecret, ...]
    streamed: int
    outgoing: tuple[PaidStream, ...]
    incoming: tuple[ReceivedStream, ...]


class Asked(msgspec.Struct, frozen=True):
    """One question to the keeper of locks: what it did to this channel meanwhile, and its answer: bytes, or YES."""

    steps: tuple[Step, ...]
    answer: bytes


class Step(msgspec.Struct, frozen=True):
    """One input, with what came from outside besides, and what became of it."""

    kind: str
    given: Any
    now: float
    fresh: bool
    lost: bool
    keeper: bool
    """Whether there was one."""
    withdrawn: tuple[int, ...]
    """Places in the outbox of payments that their callers had given up."""
    asked: tuple[Asked, ...]
    fault: str
    """With what it was refused; empty: it was not."""
    state: str
    """Digest of the state after it, as `digest` makes it."""


class Recording(msgspec.Struct, frozen=True):
    """All that happened to one channel while it was recorded."""

    start: Snapshot
    steps: tuple[Step, ...]
    whole: bool
    """False: it became too long, and stops in the middle."""


def digest(state: ChannelState) -> str:
    """Return by what a state is known again."""
    return hashlib.sha256(_plain(state)).hexdigest()[:16]


def written(recording: Recording) -> bytes:
    """Return the bytes of the file."""
    body = msgspec.to_builtins(recording)
    return _plain({"format": FORMAT, "checksum": _checksum(body), "recording": body})


def read(data: bytes) -> Recording:
    """Return the recording; raise InvalidInput, in a sentence, if these bytes are none, or not whole."""
    try:
        document = json.loads(data)
        body = document["recording"]
        if document["format"] != FORMAT:
            raise InvalidInput(f"this recording is of the form {document['format']!r}, not {FORMAT!r}: use its release")
        if document["checksum"] != _checksum(body):
            raise InvalidInput("this recording is damaged: it is not what was exported; export it again")
        return msgspec.convert(body, Recording)
    except (KeyError, TypeError, ValueError, RecursionError, msgspec.ValidationError) as error:
        raise InvalidInput(f"this file is no recording of a channel, or is damaged: {str(error)[:200]}") from error


def _plain(value: Any) -> bytes:
    return json.dumps(msgspec.to_builtins(value), sort_keys=True, separators=(",", ":")).encode()


def _checksum(body: Any) -> str:
    return hashlib.sha256(_plain(body)).hexdigest()
