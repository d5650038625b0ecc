"""What a chain tells of a rollup, in the order in which it happened: all that an operator or a watcher knows of it."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.settlement.rollup.batches import Batch
from tallystick.settlement.rollup.steps import QueueEntry


class EntryOrdered(msgspec.Struct, frozen=True):
    """The chain ordered something; it must be done by `due` (seconds)."""

    index: int
    entry: QueueEntry
    due: int


class BatchPosted(msgspec.Struct, frozen=True):
    """The operator posted a batch; it stands until a step of it, or of an earlier one, is convicted."""

    number: int
    serial: int
    batch: Batch


class BatchConvicted(msgspec.Struct, frozen=True):
    """A batch, and all after it, stand no more."""

    number: int
    position: int
    by: Address


class SignatureDemanded(msgspec.Struct, frozen=True):
    """The signatures of a step must be shown by `deadline` (seconds)."""

    number: int
    position: int
    by: Address
    deadline: int


class SignatureShown(msgspec.Struct, frozen=True):
    """They were shown, and are good."""

    number: int
    position: int


class RollupWithdrawn(msgspec.Struct, frozen=True):
    """An account was paid on the chain."""

    account: Address
    asset: Address
    amount: int


class RollupFrozen(msgspec.Struct, frozen=True):
    """Everything stopped."""

    batches: int


class ClosedAlone(msgspec.Struct, frozen=True):
    """One side closes its channel alone; the other one may show newer proofs up to `deadline` (seconds)."""

    channel: ChannelId
    index: int
    closer: int
    seqs: tuple[int, int]
    """Of the balance proofs that stand, 0 for none."""
    deadline: int


class CloseChallenged(msgspec.Struct, frozen=True):
    """A newer balance proof of such a channel was shown."""

    channel: ChannelId
    index: int
    sender: int
    seq: int
    convicts: bool


RollupEvent: TypeAlias = (
    EntryOrdered
    | BatchPosted
    | BatchConvicted
    | SignatureDemanded
    | SignatureShown
    | RollupWithdrawn
    | RollupFrozen
    | ClosedAlone
    | CloseChallenged
)
