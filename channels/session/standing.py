"""What a channel's state means for payments that are asked for."""

from __future__ import annotations

import msgspec

from tallystick.channels.errors import ChannelNotReady
from tallystick.channels.protocol import core
from tallystick.channels.protocol.core import Channel, CloseInitiator, Phase


class Headroom(msgspec.Struct, frozen=True):
    """What a channel's state means for each payment that is asked for: worked out once per state, not per payment."""

    channel: Channel
    payable: bool
    """Whether new payments may join the outbox."""
    allowance: int
    """What may be committed beyond this state by all confirmed funding; below 0 when it shrank."""
    exposed: int
    """The amount that is signed and not countersigned."""

    @classmethod
    def of(cls, channel: Channel) -> Headroom:
        """Work it out."""
        funding = channel.funding(channel.side)
        return cls(
            channel,
            is_payable(channel),
            core.capacity(channel, funding) - channel.coming_reserve,
            channel.newest.committed - channel.ours.simplex.committed,
        )


def is_payable(channel: Channel) -> bool:
    """Whether new payments may join the outbox."""
    return channel.phase is Phase.OPEN and channel.shutdown is CloseInitiator.NONE


def require_payable(channel: Channel, *, lost: bool) -> None:
    """Raise ChannelNotReady unless new payments may join the outbox. `lost`: the chain is not the channel's."""
    core.require_open(channel)
    if lost:
        raise ChannelNotReady(
            "the chain is another one than this channel is on: it was begun anew, or its node serves another one. "
            "Nothing is paid; use the right chain node, or begin in a new data directory"
        )
    if channel.shutdown is not CloseInitiator.NONE:
        raise ChannelNotReady("this channel is about to close: open another one for new payments")
