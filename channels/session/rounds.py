"""What a channel does when a round begins, when a peer is looked at that owes, and when the node goes down. Sans-IO."""

from __future__ import annotations

from tallystick.channels.errors import EngineStopped
from tallystick.channels.protocol.core import Phase
from tallystick.channels.session import negotiation, resync
from tallystick.channels.session.session import Session


def sign_due(session: Session, now: float) -> None:
    """Say again what the peer asked for, sign what is due, and do the next step of a close."""
    resync.repeat(session)
    session.flush(now)
    negotiation.advance_close(session)


def look(session: Session, rounds: tuple[int, int], now: float, *, queued: bool) -> bool:
    """Return whether the peer owes an acknowledgement; raise InvalidUpdate if it has for too long.

    Only of what it could acknowledge now: in step, and open.
    """
    waits = session.link.ready and session.channel.phase is Phase.OPEN
    oldest = session.sent[0].seq if session.sent and waits else 0
    if session.patience.look(oldest, rounds, now, queued=queued, excused=session.link.excused):
        raise session.patience.cut(session.channel.id)
    return oldest > 0


def stop(session: Session) -> None:
    """End what waits unsigned: what was signed is resumed at the next start."""
    session.abandon(EngineStopped("the node is stopping: this payment was not made"))
