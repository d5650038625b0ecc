"""How many updates may be in flight: as many as keep a path of this length full, and little more. Sans-IO.

An ack of update n, sent when all up to m had been agreed, says that n - m updates passed during its flight. Had they
not queued anywhere, the flight would have lasted as long as the shortest one that was seen; so the path holds
(n - m) · shortest / this one, and twice as many may fly. While nothing queues, that doubles with each round trip; once
flights last twice as long as the shortest, it stays. On a short path it is WINDOW_FIRST, and an update more would only
lie in somebody's queue, in front of other channels' updates and without a countersignature.

Source: BBR (Cardwell et al., 2016), without its probing: the shortest flight is forgotten with each connection.
"""

from __future__ import annotations

import math

from tallystick.channels.limits import WINDOW_FIRST, WINDOW_MAX

GAIN = 2


class Window:
    """The window of one simplex."""

    def __init__(self, limit: int) -> None:
        """`limit`: what the node's policy allows."""
        self._limit = min(limit, WINDOW_MAX)
        self._shortest = math.inf
        self.size = min(self._limit, WINDOW_FIRST)
        """Updates that may be in flight now."""

    def on_acknowledged(self, passed: int, seconds: float) -> None:
        """An update was agreed after so many seconds of flight, in which `passed` updates were agreed in all.

        A flight that took no time is one during which the clock was set: it says nothing.
        """
        if seconds <= 0:
            return
        self._shortest = min(self._shortest, seconds)
        wanted = math.ceil(GAIN * passed * self._shortest / seconds)
        self.size = min(self._limit, max(WINDOW_FIRST, wanted))

    def forget(self) -> None:
        """The connection is gone: the next one may take another path."""
        self._shortest = math.inf
        self.size = min(self._limit, WINDOW_FIRST)
