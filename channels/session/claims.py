"""What the chain may yet decide in a node's channels: whose secrets matter, and how much they are worth to us. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tallystick.channels.protocol.conditions import worth
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import NATIVE, ChannelId, Puzzle
from tallystick.channels.session.session import Session


def pending_puzzles(sessions: Iterable[Session]) -> set[Puzzle]:
    """Return the puzzles of all locks that may yet be enforced, ours and the peers'."""
    return {
        lock.puzzle
        for session in sessions
        for state in (session.channel.ours, *session.channel.flight, session.channel.theirs)
        for lock in state.simplex.locks
    }


def stakes(sessions: Iterable[Session]) -> dict[Puzzle, int]:
    """Return, for each secret that we revealed, what its locks owe us in all channels of the chain's own coin."""
    found: dict[Puzzle, int] = {}
    for session in sessions:
        channel = session.channel
        if channel.terms.asset == NATIVE and channel.phase is not Phase.GONE:
            for known in channel.secrets:
                lock = channel.theirs.simplex.lock(known.lock)
                if lock is not None:
                    found[lock.puzzle] = found.get(lock.puzzle, 0) + worth(lock, known.secret)
    return found


def owed_for(sessions: Iterable[Session], condition: bytes) -> list[ChannelId]:
    """Return the channels in which a pending lock on that condition is to pay us."""
    return [
        session.channel.id
        for session in sessions
        if any(lock.condition == condition for lock in session.channel.theirs.simplex.locks)
    ]
