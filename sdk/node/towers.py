"""Keeps a node's towers informed: offers them every channel's newest durable proofs. See `watchtower.client`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import trio

from tallystick.channels.node.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.node.engine import Engine
from tallystick.channels.ports import Clock, Entropy, Network
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.hashchain import StreamProof
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session.inputs import PhaseReached
from tallystick.channels.storage.writer import Writer
from tallystick.channels.transport.retries import Jitter
from tallystick.sdk.node.listing import Listing
from tallystick.sdk.node.options import Config
from tallystick.settlement.enforcement.duties import statements
from tallystick.watchtower.claims import claims_of
from tallystick.watchtower.client import TowerClient, TowerClientStatistics
from tallystick.watchtower.fetching import Wanted

ASKED = (Phase.OPENING, Phase.OPEN, Phase.FROZEN)
"""Phases in which something may be signed yet, or closed: from an old copy of the data neither must be."""


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
        self._listing = Listing(self.towers)

    def offer(self, channel: Channel) -> None:
        """Offer a channel's newest proofs, and what pays for the peer's pending locks, all of it durable, to every
        tower. Cheap, and never waits.
        """
        if not self.towers or channel.is_virtual:  # no tower answers in court
            return
        self._listing.keep(channel)
        if channel.phase in (Phase.SETTLED, Phase.GONE):
            for tower in self.towers:
                tower.forget(channel.id)
        elif channel.ours.statement or channel.theirs.statement:
            opener, claims = self._close_keys(channel), claims_of(channel, self._links(channel.id))
            ours, theirs = channel.ours.simplex.locks, channel.theirs.simplex.locks
            pending = (ours, theirs) if channel.side == 0 else (theirs, ours)
            for tower in self.towers:
                tower.offer(channel.terms, opener, *statements(channel), claims, pending)

    async def find_lost(self, channels: Iterable[Channel]) -> list[ChannelId]:
        """Ask all towers at once whether our data of these channels is old; return those of which it is, for sure.

        Takes no longer than `ClientPolicy.ask_within`, whether or not they answer.
        """
        wanted = [
            Wanted(channel.terms, self._close_keys(channel), _seqs(channel))
            for channel in channels
            if channel.phase in ASKED and not channel.is_virtual
        ]
        lost: dict[ChannelId, None] = {}

        async def ask(tower: TowerClient) -> None:
            lost.update(dict.fromkeys(await tower.find_newer(wanted)))

        if wanted:
            async with trio.open_nursery() as nursery:
                for tower in self.towers:
                    nursery.start_soon(ask, tower)
        return list(lost)

    async def heed(self, engine: Engine, alarm: OnAlarm) -> None:
        """Ask the towers, before anything else is done, and sign and close nothing more where our data is old."""
        for channel in await self.find_lost(engine.views.channels):
            engine.apply(channel, PhaseReached(Phase.RECOVERING))
            text = (
                f"a tower shows what both signed in channel {channel.hex()[:8]}, and this node does not know it: "
                "the data is an old copy. Nothing more is signed in this channel, and its peer is asked to close it"
            )
            alarm(Alarm(AlarmKind.OLD_DATA, text))

    async def wait_covered(self) -> None:
        """Wait until every tower has acknowledged everything that was offered."""
        for tower in self.towers:
            await tower.wait_covered()

    def statistics(self) -> tuple[TowerClientStatistics, ...]:
        """Return every tower's figures."""
        return tuple(tower.statistics() for tower in self.towers)


def _seqs(channel: Channel) -> tuple[int, int]:
    """Return up to which number our data knows each side's statements."""
    ours, theirs = channel.newest.proof.seq, channel.theirs.seq
    return (ours, theirs) if channel.side == 0 else (theirs, ours)
