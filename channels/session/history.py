"""How much history a channel keeps: agreed updates beyond it are pruned, now and then."""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import HISTORY_BATCH
from tallystick.channels.session.port import SessionPort
from tallystick.channels.storage.schema import HistoryChosen, HistoryPruned

LOCK_HISTORY = 4_096
"""Updates that a channel keeps at least if it has ever held a lock: states that a tower, or the peer, may let stand
are read back from them (`older`)."""


def keep(session: SessionPort, updates: int | None) -> None:
    """Keep that many agreed updates in each journal from now on (None: all); raise InvalidInput if it is none."""
    if updates is not None and updates < 0:
        raise InvalidInput(f"a channel keeps 0 updates or more, or all (None), not {updates}")
    session.history, session.tidied = updates, -HISTORY_BATCH
    session.effects.store(HistoryChosen(session.channel.id, updates))
    tidy(session)


def tidy(session: SessionPort) -> None:
    """Prune, now and then, what is more than should be kept: in batches, which cost each update next to nothing."""
    ours, theirs = session.channel.ours, session.channel.theirs
    if session.history is not None and ours.seq + theirs.seq - session.tidied >= HISTORY_BATCH:
        session.tidied = ours.seq + theirs.seq
        locks = ours.simplex.next_lock or theirs.simplex.next_lock
        kept = max(session.history, LOCK_HISTORY) if locks else session.history
        session.effects.store(HistoryPruned(session.channel.id, ours.seq + 1 - kept, theirs.seq + 1 - kept))
