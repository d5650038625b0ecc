"""Keeps a node's towers informed: offers them every channel's newest durable proofs. See `watchtower.client`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tallystick.channels.node.alarms import OnAlarm
from tallystick.channels.ports import Clock, Entropy, Network
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.hashchain import StreamProof
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.storage.writer import Writer
from tallystick.channels.transport.retries import Jitter
from tallystick.sdk.node.options import Config
from tallystick.settlement.enforcement.duties import statements
from tallystick.watchtower.claims import claims_of
from tallystick.watchtower.client import TowerClient, TowerClientStatistics


class Outside(NamedTuple):
    """What a tower client takes from outside of its node."""

    network: Network
    jitter: Jitter
    clock: Clock
    entropy: Entropy


def clients_of(config: Config, key: PrivateKey, writer: Writer, outside: Outside, alarm: OnAlarm) -> list[TowerClient]:
    """Return a client for each tower that a node's options name."""
    return [
        TowerClient(
            key=key,
            tower=tower,
            network=outside.network,
            store=writer.store,
            commit=writer.commit,
            entropy=outside.entropy,
            jitter=outside.jitter,
            alarm=alarm,
            clock=outside.clock,
            policy=config.tower_policy,
        )
        for tower in config.towers
    ]


class TowerManager:
    """The towers of one node."""

    def __init__(
        self,
        towers: Sequence[TowerClient],
        close_keys: Callable[[Channel], bytes],
        links: Callable[[ChannelId], Mapping[int, StreamProof]],
    ) -> None:
        """`links` returns the deepest links that we hold of a channel's incoming streams, by lock."""
        self.towers = tuple(towers)
        self._close_keys = close_keys
        self._links = links

    def offer(self, channel: Channel) -> None:
        """Offer a channel's newest proofs, and what pays for the peer's pending locks, all of it durable, to every
        tower. Cheap, and never waits.
        """
        if not self.towers or channel.is_virtual:  # no tower answers in court
            return
        if channel.phase in (Phase.SETTLED, Phase.GONE):
            for tower in self.towers:
                tower.forget(channel.id)
        elif channel.ours.statement or channel.theirs.statement:
            opener, claims = self._close_keys(channel), claims_of(channel, self._links(channel.id))
            for tower in self.towers:
                tower.offer(channel.terms, opener, *statements(channel), claims)

    async def wait_covered(self) -> None:
        """Wait until every tower has acknowledged everything that was offered."""
        for tower in self.towers:
            await tower.wait_covered()

    def statistics(self) -> tuple[TowerClientStatistics, ...]:
        """Return every tower's figures."""
        return tuple(tower.statistics() for tower in self.towers)
