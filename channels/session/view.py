"""One channel as all those see it who do not change it: router, SDK, control, enforcement, towers. Frozen.

A view is the channel at one moment. It holds what is frozen in the session anyway, and a few numbers: to make one costs
about a microsecond, however much the channel has carried, and everything else is worked out when it is asked for.
Nothing that happens later shows in it; whoever wants to know asks for another one (`Engine.view`).
"""

from __future__ import annotations

import msgspec

from tallystick.channels.limits import LOCKS_MAX
from tallystick.channels.protocol import core
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.session.link_state import LinkState
from tallystick.channels.session.session import Session
from tallystick.channels.session.standing import Headroom, is_payable, require_payable
from tallystick.channels.values.discretion import Discreet


class ChannelView(Discreet, msgspec.Struct, frozen=True):
    """A channel as it was when this was asked for."""

    channel: Channel
    """What was signed, agreed, confirmed and wanted in it: all that is durable, or will be with the round."""
    link: LinkState
    """What both have said on the present connection."""
    peer: PublicKey
    cuts: int
    """Connections in a row that were ended because the peer acknowledged nothing."""
    queued: int
    """The amount that waits to be signed, payments and locks together."""
    queued_locks: int
    """How many new locks wait to be signed."""
    lost: bool
    """Whether the chain is another one than this channel is on."""

    @property
    def ready(self) -> bool:
        """Whether the peer is connected and in step."""
        return self.link.ready

    @property
    def funding(self) -> int:
        """Our funding that both sides count: what is safe to spend from. It may be below 0."""
        return self.link.counted_funding(self.channel)

    @property
    def payable(self) -> bool:
        """Whether new payments are taken."""
        return not self.lost and is_payable(self.channel)

    @property
    def is_stuck(self) -> bool:
        """Whether the peer holds back an acknowledgement, and a new connection did not help."""
        return self.cuts > 0

    @property
    def usable(self) -> bool:
        """Whether the peer is in step and takes what we sign: what a new lock needs."""
        return self.ready and not self.is_stuck

    @property
    def spendable(self) -> int:
        """What can be accepted: capacity by all confirmed funding, less the reserve and what waits. Never below 0."""
        return max(0, Headroom.of(self.channel).allowance - self.queued)

    @property
    def signable(self) -> int:
        """What can be signed at once, of what both sides count, beyond the reserve and what waits. Never below 0."""
        funding = self.funding
        return max(0, core.capacity(self.channel, funding) - self.channel.own_reserve(funding) - self.queued)

    @property
    def unsecured(self) -> int:
        """The amount that was accepted, whether signed or not, and is not countersigned."""
        return max(0, self.queued + Headroom.of(self.channel).exposed)

    @property
    def next_lock(self) -> int:
        """The id of the next lock that is added."""
        return self.channel.newest.next_lock + self.queued_locks

    @property
    def lock_slots(self) -> int:
        """How many more locks may be queued."""
        return LOCKS_MAX - len(self.channel.newest.locks) - self.queued_locks

    def require_payable(self) -> None:
        """Raise ChannelNotReady unless new payments are taken."""
        require_payable(self.channel, lost=self.lost)


def view_of(session: Session) -> ChannelView:
    """Return a channel as it is now."""
    outbox = session.outbox
    return ChannelView(
        session.channel,
        session.link,
        session.peer,
        session.patience.cuts,
        outbox.total,
        outbox.queued_locks,
        session.lost(),
    )
