"""What a node keeps of its virtual channels: a row for each, beside the channel's own, and which locks it signed.

A lock that was signed is noted in the very commit of its signature: so none is locked twice, whatever crashes.
"""

from __future__ import annotations

import enum

import msgspec

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.channels.protocol.virtual import Amounts, EndingProof, VirtualTerms, virtual_id
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
    hub: Address
    way: ChannelId
    """Our channel with the hub."""
    their_way: ChannelId
    """The other's; empty before it is known."""
    phase: VirtualPhase
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


class VirtualLockSigned(Moment, frozen=True):
    """Our lock under one of its four conditions was signed."""

    channel: ChannelId
    index: int


_VIRTUALS = table("virtuals", "channel over holding")
_LOCKS = table("virtual_locks", "channel place", keys=2)
_HOLDING: Codec[VirtualHolding] = Codec(VirtualHolding, canonical=False)


def _saved(rows: Rows, moment: VirtualSaved) -> None:
    holding = moment.holding
    rows.put(_VIRTUALS, holding.id, int(holding.phase is VirtualPhase.OVER), _HOLDING.encode(holding))


def _lock_signed(rows: Rows, moment: VirtualLockSigned) -> None:
    rows.keep(_LOCKS, moment.channel, moment.index)


VIRTUALS = Subject("virtuals", (_VIRTUALS, _LOCKS), {VirtualSaved: _saved, VirtualLockSigned: _lock_signed})


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
    """Return how many there ever were."""
    return int(store.read(_VIRTUALS.groups())[0][0])


def load_virtual_locks(store: Store) -> set[tuple[ChannelId, int]]:
    """Return which of our locks were signed: channel and index of the condition."""
    return {(ChannelId(channel), index) for channel, index in store.read(_LOCKS.rows())}
