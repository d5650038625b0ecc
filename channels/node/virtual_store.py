"""What a node keeps of its virtual channels: a row for each, beside the channel's own.

Where their locks are is in the channels that hold them, and nowhere else: so nothing can disagree with these.
"""

from __future__ import annotations

import enum

import msgspec

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.protocol.virtual import Amounts, EndingProof, VirtualTerms, WayIn, virtual_id
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Rows, decode_column, find, table


class VirtualPhase(enum.IntEnum):
    """How far a virtual channel is. The numbers are part of the disk format."""

    PROPOSED = 0
    """We asked, and wait for the answer."""
    LOCKING = 1
    """Both agreed: stakes are on their way."""
    OPEN = 2
    """The other's stake is here. How it is with the channel itself says its own phase."""
    ENDING = 3
    """Both signed the outcome: locks go over, or back."""
    CANCELLED = 4
    """It did not open: the other's stake goes back."""
    OVER = 5
    """Nothing of it is open any more."""


class VirtualHolding(msgspec.Struct, frozen=True, array_like=True):
    """One virtual channel, as one of its players keeps it."""

    terms: VirtualTerms
    side: int
    peer: bytes
    """Public key of the other player: 33 bytes."""
    over: tuple[bytes, ...]
    """Public keys of the hubs that our locks go over, from us to the other; none: whichever lead there."""
    ways: tuple[WayIn, ...]
    """What the other named as ways to it."""
    phase: VirtualPhase
    asked: bool
    """Whether we proposed it."""
    signed: Amounts | None = None
    """The outcome that we signed: there is one, ever."""
    outcome: EndingProof | None = None
    """Once both signed it."""
    text: str = ""
    """Why it came to nothing."""

    @property
    def id(self) -> ChannelId:
        """Of the channel."""
        return virtual_id(self.terms)

    @property
    def other(self) -> int:
        """The other's side."""
        return 1 - self.side


class VirtualSaved(Moment, frozen=True):
    """Something has happened to a virtual channel."""

    holding: VirtualHolding


class VirtualForgotten(Moment, frozen=True):
    """It came to nothing, and nothing was signed in it: no trace of it is needed."""

    channel: ChannelId


_VIRTUALS = table("virtuals", "channel over holding")
_HOLDING: Codec[VirtualHolding] = Codec(VirtualHolding, canonical=False)


def _saved(rows: Rows, moment: VirtualSaved) -> None:
    holding = moment.holding
    rows.put(_VIRTUALS, holding.id, int(holding.phase is VirtualPhase.OVER), _HOLDING.encode(holding))


def _forgotten(rows: Rows, moment: VirtualForgotten) -> None:
    rows.delete(_VIRTUALS, channel=moment.channel)


VIRTUALS = Subject("virtuals", (_VIRTUALS,), {VirtualSaved: _saved, VirtualForgotten: _forgotten})


def load_virtuals(store: Store, *, over: bool) -> list[VirtualHolding]:
    """Return the virtual channels that are over, or those that are not."""
    return [
        decode_column(_HOLDING, data, "virtuals", name) for name, _, data in store.read(_VIRTUALS.rows(over=int(over)))
    ]


def find_virtual(store: Store, channel: ChannelId) -> VirtualHolding | None:
    """Return one virtual channel, over or not; None if there is none."""
    row = find(store, _VIRTUALS, channel)
    return None if row is None else decode_column(_HOLDING, row[2], "virtuals", channel)


def count_virtuals(store: Store) -> int:
    """Return how many are kept: those that we proposed all are."""
    return int(store.read(_VIRTUALS.groups())[0][0])
