"""What the present link to the peer has brought, as one frozen value.

So nothing of it outlives the link: one that comes or goes puts a new `LinkState()` in its place. Whatever else of a
channel ends with the link is ended in `resync.disconnected`: the measure of its path, patience, unsaid words of
streams, locks that would not wait.
"""

from __future__ import annotations

import msgspec

from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.core import Channel


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
