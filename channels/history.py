"""How much history a channel keeps: agreed updates beyond it are pruned, now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import HISTORY_BATCH
from tallystick.channels.schema import HistoryChosen, HistoryPruned

if TYPE_CHECKING:
    from tallystick.channels.session import Session


def keep(session: Session, updates: int | None) -> None:
    """Keep that many agreed updates in each journal from now on (None: all); raise InvalidInput if it is none."""
    if updates is not None and updates < 0:
        raise InvalidInput(f"a channel keeps 0 updates or more, or all (None), not {updates}")
    session.history, session.tidied = updates, -HISTORY_BATCH
    session.effects.store(HistoryChosen(session.channel.id, updates))
    tidy(session)


def tidy(session: Session) -> None:
    """Prune, now and then, what is more than should be kept: in batches, which cost each update next to nothing."""
    sent, received = session.channel.ours.seq, session.channel.theirs.seq
    if session.history is not None and sent + received - session.tidied >= HISTORY_BATCH:
        session.tidied = sent + received
        pruned = HistoryPruned(session.channel.id, sent + 1 - session.history, received + 1 - session.history)
        session.effects.store(pruned)
