"""A channel at one moment, frozen; and what the present link to the peer has brought, which is one frozen value.

So nothing of it outlives the link: one that comes or goes puts a new `LinkState()` in its place. Whatever else of a
channel ends with the link is ended in `resync.disconnected`: the measure of its path, patience, unsaid words of
streams, locks that would not wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.core import Channel
from tallystick.channels.values.discretion import Discreet

if TYPE_CHECKING:
    from tallystick.channels.session.session import Session


class LinkState(msgspec.Struct, frozen=True):
    """What both have said on the present connection. The defaults are those of one that has just begun."""

    greeted: bool = False
    """Whether we have said Reestablish."""
    ready: bool = False
    """Whether both have."""
    repeat_above: int | None = None
    """The peer asked, in this round, for everything above this number of ours."""
    peer_behind: bool = False
    """Whether the peer's greeting showed less than what it must have known."""
    missed: bool = False
    """An update came that could not be taken yet: what follows it is left aside until the peer repeats it."""
    excused: bool = False
    """Whether the peer said why it leaves an update of ours aside."""
    shutdown_said: bool = False
    peer_final: int | None = None
    """Where the peer's simplex ends, if it said Shutdown."""
    funding: int = 0
    """What the peer counts as our funding, in a channel whose reserve does not follow the funding."""
    deposits: int | None = None
    """What it counts as our deposits, once what it signed before has come; None: it has not said."""
    taken: int | None = None
    """What it counts as taken out by us."""
    deposits_behind: tuple[int, int] | None = None
    """The number of the update behind which its newest word on our deposits holds, and that word."""
    heard: int = 0
    """The newest number of the peer's updates that we have heard of otherwise than by taking it in."""

    def counted_funding(self, channel: Channel) -> int:
        """Return our funding that both sides count: what is safe to spend from. It may be below 0."""
        if channel.reserve_ppm == 0:
            return min(channel.funding(channel.side), self.funding)
        if self.taken is None:
            return -AMOUNT_MAX  # its greeting has come, and its count is behind it
        return min(channel.deposits[channel.side], channel.counted) - max(channel.taken(channel.side), self.taken)


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
