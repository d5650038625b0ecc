"""Forced claims: who pays for a secret only once it is on chain, although it was told it in time, has to pay for that.

Such a peer loses nothing: it pays what it owes. But each time its neighbour pays for a registration, and its coins are
bound until the last moment. So each of them counts against its reputation as a payment of the claim's fee that failed,
and who does it FORCED_MAX times within two weeks is served nothing for a day, and twice as long each further time.
Who is away as the time runs out may have crashed: what runs out while it is, within a day, counts as one. Pure.
"""

from __future__ import annotations

from tallystick.channels.protocol.objects import ChannelId

FORCED_MAX = 3
"""Claims that a peer may force within WINDOW before nothing is taken on for it."""

WINDOW = 14 * 86_400
"""Seconds for which a forced claim counts, and for which a peer is barred at most."""

FIRST_BAR = 86_400
"""Seconds for which a peer is barred the first time."""

ABSENCE = 86_400
"""Seconds within which all that runs out while a peer is away counts as one."""

ATTENTION = 120
"""Seconds of chain time between two looks beyond which no peer is blamed: it may be us who were away."""


class ForcedClaims:
    """Who forced claims of late. Kept in memory, for the peers of this node's channels."""

    def __init__(self) -> None:
        self._counted: set[tuple[ChannelId, int]] = set()
        self._times: dict[bytes, list[int]] = {}
        self._absent: dict[bytes, int] = {}
        self._bars: dict[bytes, int] = {}

    def on_expired(self, peer: bytes, lock: tuple[ChannelId, int], now: int, *, away: bool) -> bool:
        """Count a lock whose time has run out unpaid; return whether it is a claim more."""
        if lock in self._counted:
            return False
        self._counted.add(lock)
        if away:
            before = self._absent.get(peer)
            if before is not None and now < before + ABSENCE:
                return False
            self._absent[peer] = now
        self._times[peer] = [*(time for time in self._times.get(peer, ()) if time > now - WINDOW), now][-FORCED_MAX:]
        return True

    def excuse(self, lock: tuple[ChannelId, int]) -> None:
        """Nobody is to blame for that lock."""
        self._counted.add(lock)

    def bar(self, peer: bytes) -> int | None:
        """Return for how many seconds to bar a peer, None if it has not forced that many claims. They count no more."""
        if len(self._times.get(peer, ())) < FORCED_MAX:
            return None
        del self._times[peer]
        seconds = self._bars[peer] = min(WINDOW, 2 * self._bars.get(peer, FIRST_BAR // 2))
        return seconds

    def on_freed(self, lock: tuple[ChannelId, int]) -> None:
        """That lock is gone."""
        self._counted.discard(lock)
