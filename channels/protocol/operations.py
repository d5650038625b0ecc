"""The operations of an update: what its writer does to its own simplex (PROTOCOL section 4).

A run of payments is one operation: its ids are consecutive, so that a duplicate cannot even be written down, and a
batch of a thousand costs little more than a list of a thousand numbers.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from tallystick.channels.limits import BATCH_PAYMENTS_MAX, MEMO_MAX, ONION_MAX, OPERATIONS_MAX
from tallystick.channels.protocol.objects import Lock, Number
from tallystick.channels.values.discretion import Discreet

Positive = Annotated[int, msgspec.Meta(ge=1)]
Memo = Annotated[bytes, msgspec.Meta(max_length=MEMO_MAX)]


class Pay(msgspec.Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """Payments `first`, `first` + 1, … of these amounts. `memos` has none, or one (perhaps empty) for each."""

    first: Number
    amounts: Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1, max_length=BATCH_PAYMENTS_MAX)]
    memos: Annotated[tuple[Memo, ...], msgspec.Meta(max_length=BATCH_PAYMENTS_MAX)] = ()


class AddLock(msgspec.Struct, frozen=True, array_like=True, tag=2, forbid_unknown_fields=True):
    """Adds a pending lock. The onion (perhaps empty) tells the receiver what to do with it."""

    lock: Lock
    onion: Annotated[bytes, msgspec.Meta(max_length=ONION_MAX)] = b""


class Unlock(Discreet, msgspec.Struct, frozen=True, array_like=True, tag=3, forbid_unknown_fields=True):
    """Pays out a lock whose condition `proof` satisfies; what is not paid returns to the writer."""

    id: Number
    proof: Annotated[bytes, msgspec.Meta(max_length=1024)]
    amount: Number


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=4, forbid_unknown_fields=True):
    """Takes a lock back that the receiver rejected, or that expired unsatisfied."""

    id: Number


Operation: TypeAlias = Pay | AddLock | Unlock | Cancel
Operations: TypeAlias = Annotated[tuple[Operation, ...], msgspec.Meta(min_length=1, max_length=OPERATIONS_MAX)]
