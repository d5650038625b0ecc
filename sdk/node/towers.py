"""Keeps a node's towers informed: offers them every channel's newest durable proofs. See `watchtower.client`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import trio

from tallystick.channels.errors import PeerError
from tallystick.channels.node.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.node.custody import Custody, CustodyPolicy, CustodyStatistics
from tallystick.channels.node.engine import Engine
from tallystick.channels.ports import Clock, Entropy, Network
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.hashchain import StreamProof
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session.inputs import PhaseReached
from tallystick.channels.storage.schema import load_deferred
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


DEFERRED_LOOK = 5.0
"""Seconds between two looks at what waits for towers."""

DEFERRED_LONG = 30.0
"""Seconds after which it is told that payments wait."""


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
    """The towers of one node, and what is held back for them."""

    def __init__(
        self,
        towers: Sequence[TowerClient],
        policy: CustodyPolicy,
        close_keys: Callable[[Channel], bytes],
        links: Callable[[ChannelId], Mapping[int, StreamProof]],
    ) -> None:
        """`links` returns the deepest links that we hold of a channel's incoming streams, by lock."""
        self.towers = tuple(towers)
        self._policy = policy
        self._close_keys = close_keys
        self._links = links
        self._listing = Listing(self.towers)
        self._custody: Custody | None = None

    async def begin(self, engine: Engine, end: Callable[[bytes, PeerError], None]) -> None:
        """Ask the towers whether our data is old, and hold back from now on what too few of them have.

        `end` ends the connection to a peer that broke a rule.
        """
        if not self.towers:
            return
        if self._policy.receipts:
            self._custody = Custody(
                engine,
                self._policy,
                load_deferred(engine.writer.store),
                covered=self.covered,
                offer=self.offer,
                end=end,
                clock=self.towers[0].clock,
            )
            engine.keep_custody(self._custody)
            for tower in self.towers:
                tower.tell(self._custody.look)
        await self._heed(engine)

    async def run(self) -> None:
        """Keep all towers up to date until cancelled, and say so when payments wait for them."""
        async with trio.open_nursery() as nursery:
            for tower in self.towers:
                nursery.start_soon(tower.run)
            if self._custody is not None:
                await self._watch(self._custody)

    async def _watch(self, custody: Custody) -> None:
        """Tell the owner that payments of peers have waited for towers for long, and when they do not any more."""
        clock, alarm, told = self.towers[0].clock, self.towers[0].alarm, False
        while True:
            await trio.sleep(DEFERRED_LOOK)
            found = custody.statistics()
            late = found.since > 0 and clock() - found.since >= DEFERRED_LONG
            if late and not told:
                text = (
                    f"in {found.deferred} of this node's channels, what peers pay has waited {DEFERRED_LONG:.0f} s and "
                    f"more for receipts of {found.receipts} towers: it is not taken in, and not lost. `tally towers` "
                    "shows which do not answer"
                )
                alarm(Alarm(AlarmKind.PAYMENTS_WAIT, text))
            elif told and not late:
                alarm(Alarm(AlarmKind.TOWER_BACK, "nothing waits for receipts of towers any more"))
            told = late

    def offer(self, channel: Channel) -> None:
        """Offer a channel's newest proofs, and what pays for the peer's pending locks, all of it durable, to every
        tower. Cheap, and never waits.
        """
        if not self.towers or channel.is_virtual:  # no tower answers in court
            return
        self._listing.keep(channel)
        agreed, channel = channel, self._ahead(channel)
        if channel.phase in (Phase.SETTLED, Phase.GONE):
            for tower in self.towers:
                tower.forget(channel.id)
        elif channel.ours.statement or channel.theirs.statement:
            opener, claims = self._close_keys(channel), claims_of(channel, self._links(channel.id))
            ours, theirs = channel.ours.simplex.locks, channel.theirs.simplex.locks
            pending = (ours, theirs) if channel.side == 0 else (theirs, ours)
            for tower in self.towers:
                tower.offer(channel.terms, opener, *statements(channel), claims, pending, urgent=channel is not agreed)

    def _ahead(self, channel: Channel) -> Channel:
        return channel if self._custody is None else self._custody.ahead(channel)

    def covered(self, channel: Channel) -> int:
        """Return the number of the peer's newest update of which enough towers have given receipts, 0 if none."""
        side = channel.peer_side
        return sorted(tower.covered_seqs(channel.id)[side] for tower in self.towers)[-self._policy.receipts]

    async def find_lost(self, channels: Iterable[Channel]) -> list[ChannelId]:
        """Ask all towers at once whether our data of these channels is old; return those of which it is, for sure.

        Takes no longer than `ClientPolicy.ask_within`, whether or not they answer.
        """
        wanted = [
            Wanted(channel.terms, self._close_keys(channel), _seqs(channel))
            for channel in map(self._ahead, channels)
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

    async def _heed(self, engine: Engine) -> None:
        """Ask the towers, before anything else is done, and sign and close nothing more where our data is old."""
        for channel in await self.find_lost(engine.views.channels):
            engine.apply(channel, PhaseReached(Phase.RECOVERING))
            text = (
                f"a tower shows what both signed in channel {channel.hex()[:8]}, and this node does not know it: "
                "the data is an old copy. Nothing more is signed in this channel, and its peer is asked to close it"
            )
            self.towers[0].alarm(Alarm(AlarmKind.OLD_DATA, text))

    async def wait_covered(self) -> None:
        """Wait until every tower has acknowledged everything that was offered."""
        for tower in self.towers:
            await tower.wait_covered()

    def custody_statistics(self) -> CustodyStatistics:
        """Return what is held back for towers."""
        if self._custody is None:
            return CustodyStatistics(0, 0, 0, 0.0, {})
        return self._custody.statistics()

    def statistics(self) -> tuple[TowerClientStatistics, ...]:
        """Return every tower's figures."""
        return tuple(tower.statistics() for tower in self.towers)


def _seqs(channel: Channel) -> tuple[int, int]:
    """Return up to which number our data knows each side's statements."""
    ours, theirs = channel.newest.proof.seq, channel.theirs.seq
    return (ours, theirs) if channel.side == 0 else (theirs, ours)
