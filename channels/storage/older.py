"""States that were left behind and may stand on chain all the same: which locks they held, read back from the journals.

A tower challenges with the newest state that it was told of, which may be older than ours; a peer may close with any.
What is pending in a state that stands is paid out only to who can show all its locks. They are not kept apart: the
journals have every lock and what became of it, and going back from the agreed state finds those of an older one. As far
back as a lock may have been pending, journals are not pruned (`history`).
"""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.messages import Update, decode
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.protocol.operations import AddLock, Cancel, Operation, Unlock
from tallystick.channels.protocol.simplex import OlderState
from tallystick.channels.storage.schema import journal_back
from tallystick.channels.storage.store import Store

ROWS_AT_ONCE = 256
"""Updates that are read at a time."""


def older_state(store: Store, channel: Channel, sender: int, seq: int) -> OlderState | None:
    """Return what was pending in the simplex of side `sender` at `seq`; None if the journals do not tell (any more)."""
    state = channel.ours if sender == channel.side else channel.theirs
    locks = {lock.id: lock for lock in state.simplex.locks}
    missing: set[int] = set()
    proofs: dict[int, bytes] = {}
    lowest = state.seq + 1
    if seq > state.seq:
        return None
    for number, operation in _backwards(store, channel.id, state.seq, ours=sender == channel.side):
        lowest = number
        if number > seq:
            _undo(operation, locks, missing, proofs)
        elif not missing:
            break
        elif isinstance(operation, AddLock) and operation.lock.id in missing:
            missing.discard(operation.lock.id)
            locks[operation.lock.id] = operation.lock
    if missing or lowest > seq + 1:
        return None
    ordered = tuple(locks[number] for number in sorted(locks))
    return OlderState(ordered, {number: proof for number, proof in proofs.items() if number in locks})


def _undo(operation: Operation, locks: dict[int, Lock], missing: set[int], proofs: dict[int, bytes]) -> None:
    """Go back behind an operation."""
    if isinstance(operation, Unlock):
        proofs[operation.id] = operation.proof
    if isinstance(operation, Unlock | Cancel):
        missing.add(operation.id)
    elif isinstance(operation, AddLock):
        locks.pop(operation.lock.id, None)
        missing.discard(operation.lock.id)


def _backwards(store: Store, channel: ChannelId, seq: int, *, ours: bool) -> Iterator[tuple[int, Operation]]:
    """Give the operations of a journal, the newest first, with the numbers of their updates."""
    while rows := journal_back(store, channel, seq, ROWS_AT_ONCE, ours=ours):
        for row in rows:
            update = decode(row.frame)
            if row.seq != seq or not isinstance(update, Update):
                return  # a hole: pruned, or no update at all
            yield from ((seq, operation) for operation in reversed(update.operations))
            seq -= 1
