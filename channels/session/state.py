"""A channel with all that works on it at one moment, frozen: by this a recorded channel and its replay are compared."""

from __future__ import annotations

import msgspec

from tallystick.channels.protocol.core import Channel
from tallystick.channels.session.link_state import LinkState
from tallystick.channels.session.session import Session
from tallystick.channels.values.discretion import Discreet


class ChannelState(Discreet, msgspec.Struct, frozen=True):
    """A channel with all that works on it, at one moment: what the same inputs bring about again."""

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


def state_of(session: Session) -> ChannelState:
    """Return a channel as it is now."""
    outbox, streams, locks = session.outbox, session.streams, session.locks
    return ChannelState(
        session.channel,
        session.link,
        session.must_ack,
        outbox.payments,
        outbox.total,
        outbox.queued_locks,
        tuple(outbox.ends),
        tuple((sent.seq, sent.payments) for sent in session.sent),
        tuple((s.lock, s.wanted, s.released, s.acked, s.closing) for s in streams.outgoing.values()),
        tuple((s.lock, s.depth, s.stored) for s in streams.incoming.values()),
        tuple(sorted(locks.learned)),
        tuple(locks.early),
        tuple(locks.onions),
        session.window.size,
        session.patience.cuts,
    )
