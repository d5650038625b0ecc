"""How long an update of ours may wait for its acknowledgement while the peer's link is up. Sans-IO.

Who answers pings and never acknowledges would keep our payments and locks pending for as long as it likes. When the
oldest update has waited for too long, the connection is ended: the next greeting brings the acknowledgement that was
held back, or makes us say the update again. If that does not help either, the channel is *stuck*: it gets no new locks,
its signed ones are decided by the chain, and each further attempt is given twice the time, for to cut again and again
would only harm the peer's other channels.

Who ends the connection itself before that, each time, is found by what its connections lasted together.

What counts is the peer's own time. Any progress begins it anew. It does not run before the update has left our disk,
runs slower while our frames queue on a slow line, and a pause of our own counts as no more than STEP_MAX.
"""

from __future__ import annotations

from tallystick.channels.errors import Fault, InvalidUpdate

STEP_MAX = 20.0
"""Seconds that count at most between two looks: in more than that, it was we who did nothing."""

QUEUED_WEIGHT = 1 / 3
"""What a second counts for in which frames for the peer wait on our side: it may not have got the update yet."""

EXCUSED = 900.0
"""Seconds that a peer has at least which said why it leaves an update aside (its view of the chain is behind ours, or
its channel is closing): it asks for it again when that has passed."""

CONNECTIONS = 2
"""How many times as long an update may wait over all connections together that the peer, or the line, ended."""

PATIENCE_MAX = 3_600.0
"""Seconds beyond which patience does not grow."""


class Patience:
    """What one channel's updates have waited. `look` at it now and then."""

    def __init__(self, seconds: float) -> None:
        """`seconds` is how long the oldest update may wait at first."""
        self._seconds = self._grown = seconds
        self.cuts = 0
        """Connections in a row that were ended for the same oldest update."""
        self._excused = False
        """Whether the peer had said, when it was last looked at, why it leaves our updates aside."""
        self._oldest = 0
        self._round = 0
        self._looked = 0.0
        self._waited = 0.0
        self._same = 0
        """The update that is the oldest, over the end of connections."""
        self._together = 0.0
        """What it has waited on all of them."""

    @property
    def bound(self) -> float:
        """How many seconds the oldest update may wait now."""
        return max(self._grown, EXCUSED) if self._excused else self._grown

    def look(self, oldest: int, rounds: tuple[int, int], now: float, *, queued: bool, excused: bool = False) -> bool:
        """Return whether the update with number `oldest`, the oldest in flight (0: none), has waited for too long.

        `rounds`: how many were prepared and how many of them are durable; `queued`: whether frames for the peer wait;
        `excused`: whether it said, on this connection, why it leaves our updates aside.
        """
        self._excused = excused
        prepared, durable = rounds
        if not oldest or oldest != self._oldest:
            self._oldest, self._round, self._waited = oldest, prepared, 0.0
            if oldest and oldest != self._same:
                self._same, self._together = oldest, 0.0
        elif durable >= self._round:
            step = min(now - self._looked, STEP_MAX) * (QUEUED_WEIGHT if queued else 1.0)
            self._waited += step
            self._together += step
        self._looked = now
        return self._waited > self.bound or self._together > CONNECTIONS * self.bound

    def cut(self, channel: bytes) -> InvalidUpdate:
        """Return with what fault to end the connection for it."""
        fault = InvalidUpdate(
            f"update {self._oldest} of channel {channel.hex()[:8]} was not acknowledged for {self.bound:.0f} s: "
            "the connection ends, and the next one begins where both are",
            Fault.UNACKNOWLEDGED,
        )
        self.cuts += 1
        self._together = 0.0
        self._grown = min(2 * self._grown, max(self._seconds, PATIENCE_MAX))
        return fault

    def progress(self) -> None:
        """The peer acknowledged something."""
        self.cuts, self._grown = 0, self._seconds

    def forget(self) -> None:
        """Another connection begins."""
        self._oldest = 0
