"""Keeps a node's towers informed: offers them every channel's newest durable proofs. See `watchtower.client`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tallystick.channels.protocol.core import Channel, Phase
from tallystick.settlement.enforcement.duties import statements
from tallystick.watchtower.client import TowerClient, TowerClientStatistics


class TowerManager:
    """The towers of one node."""

    def __init__(self, towers: Sequence[TowerClient], close_keys: Callable[[Channel], bytes]) -> None:
        self.towers = tuple(towers)
        self._close_keys = close_keys

    def offer(self, channel: Channel) -> None:
        """Offer a channel's newest proofs, which are durable, to every tower. Cheap, and never waits."""
        if not self.towers or channel.is_virtual:  # no tower answers in court
            return
        if channel.phase in (Phase.SETTLED, Phase.GONE):
            for tower in self.towers:
                tower.forget(channel.id)
        elif channel.ours.statement or channel.theirs.statement:
            opener = self._close_keys(channel)
            for tower in self.towers:
                tower.offer(channel.terms, opener, *statements(channel))

    async def wait_covered(self) -> None:
        """Wait until every tower has acknowledged everything that was offered."""
        for tower in self.towers:
            await tower.wait_covered()

    def statistics(self) -> tuple[TowerClientStatistics, ...]:
        """Return every tower's figures."""
        return tuple(tower.statistics() for tower in self.towers)
