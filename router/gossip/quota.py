"""Which channels have room in the store: those of the largest capacity, asset by asset. Pure.

Capacities of different assets cannot be compared: whoever makes a token has as much of it as they like. So channels
compete with those of their own asset only. The chain's coin has a pool of its own, and so has each asset that the node
prefers, as it has channels in it; all others share one, in which no more than its size is ever at stake. A flood of
channels in worthless tokens pushes out nothing that this node can use.

Which channels stay does not depend on the order in which they came.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection

from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId

_Rank = tuple[int, ChannelId]


class ChannelQuota:
    """Which channels have a place, by capacity within their asset: see the module's docstring."""

    def __init__(self, native: int, other: int) -> None:
        """Make an empty one: `native` is how many channels of the chain's coin have room, `other` those of a pool."""
        self._other = other
        self._strangers = _Pool(other)
        self._pools: dict[Address, _Pool] = {NATIVE: _Pool(native)}

    def put(self, channel: ChannelId, asset: Address, capacity: int) -> list[ChannelId] | None:
        """Give a channel a place, or note its new capacity; return the poorer one that has to go, if any.

        None: there is no room for this one.
        """
        return self._pool(asset).put(channel, asset, capacity)

    def remove(self, channel: ChannelId, asset: Address) -> None:
        """Take a channel's place away."""
        self._pool(asset).remove(channel)

    def prefer(self, assets: Collection[Address]) -> list[ChannelId]:
        """Let these assets, besides the coin, have pools of their own, and no others; return what has to go for it."""
        wanted = set(assets) - {NATIVE}
        pools = [self._strangers, *(pool for asset, pool in self._pools.items() if asset != NATIVE)]
        if wanted == self._pools.keys() - {NATIVE}:
            return []
        self._strangers = _Pool(self._other)
        self._pools = {NATIVE: self._pools[NATIVE]} | {asset: _Pool(self._other) for asset in sorted(wanted)}
        gone: list[ChannelId] = []
        for pool in pools:
            for channel, (capacity, asset) in pool.members.items():
                poorer = self.put(channel, asset, capacity)
                gone += [channel] if poorer is None else poorer
        return gone

    def _pool(self, asset: Address) -> _Pool:
        return self._pools.get(asset, self._strangers)


class _Pool:
    """Channels that compete for a number of places."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.members: dict[ChannelId, tuple[int, Address]] = {}
        self._poorest: list[_Rank] = []
        """Heap; entries that no member has any more are skipped."""

    def put(self, channel: ChannelId, asset: Address, capacity: int) -> list[ChannelId] | None:
        gone: list[ChannelId] = []
        if channel not in self.members and len(self.members) >= self.limit:
            poorest = self._find_poorest()
            if poorest is None or poorest >= (capacity, channel):
                return None
            self.remove(poorest[1])
            gone = [poorest[1]]
        if self.members.get(channel) != (capacity, asset):
            self.members[channel] = (capacity, asset)
            heapq.heappush(self._poorest, (capacity, channel))
            if len(self._poorest) > 2 * len(self.members) + 100:
                self._poorest = [(size, member) for member, (size, _) in self.members.items()]
                heapq.heapify(self._poorest)
        return gone

    def remove(self, channel: ChannelId) -> None:
        self.members.pop(channel, None)

    def _find_poorest(self) -> _Rank | None:
        while self._poorest:
            capacity, channel = self._poorest[0]
            if self.members.get(channel, (-1,))[0] == capacity:
                return capacity, channel
            heapq.heappop(self._poorest)
        return None
