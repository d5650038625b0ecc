"""What a channel's state means for payments that are asked for."""

from __future__ import annotations

import msgspec

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
            channel.phase is Phase.OPEN and channel.shutdown is CloseInitiator.NONE,
            core.capacity(channel, funding) - channel.coming_reserve,
            channel.newest.committed - channel.ours.simplex.committed,
        )


def never_lost() -> bool:
    """Say no: without a chain that is followed, no channel is unknown to it."""
    return False
