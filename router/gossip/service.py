"""The shell around the core of gossip: time, disk, chain and peers. Thin; `run` owns all tasks.

What the core wants happens in the house's order: stored in the store's next commit, then sent, then told. The chain is
asked a bounded number of questions at a time. Frames go out through `say`, which refuses when a peer's queue is full:
what is refused is lost, and reconciliation makes up for it. It works the same in virtual time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from tallystick.channels.errors import PeerError
from tallystick.channels.ports import Clock
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.channels.storage.writer import Writer
from tallystick.channels.transport.retries import Jitter, Pauses, Retry
from tallystick.router.gossip.announcements import ChannelUpdate, Description, NodeAnnouncement
from tallystick.router.gossip.core import Gossip
from tallystick.router.gossip.markets import MarketAnnouncement, MarketOffer
from tallystick.router.gossip.peer_state import GossipEffects
from tallystick.router.gossip.schema import GossipChanged, load_announcements, load_gossip_channels
from tallystick.router.gossip.store import ChannelFacts, GraphEvent
from tallystick.router.objects import ForwardingPolicy, NodeKey
from tallystick.settlement.chain import (
    OPEN,
    ChannelOpened,
    Closed,
    ContractChannel,
    CooperativelyClosed,
    Deposited,
    Event,
    Settled,
    Withdrawn,
)
from tallystick.settlement.errors import ChainError, ChainUnavailable

TICK = 1.0
"""Seconds between two looks at what is due: the time for which news gathers."""

CALM = 30.0
"""Seconds between two looks while nothing happens."""

LOOKUPS = 8
"""Questions to the chain that are under way at a time."""

LOOK_UP_AGAIN = Pauses("looking a channel up", 1.0, 60.0)
"""After the chain node did not answer."""

UNDONE_SECONDS = 3_600
"""After a reorganisation, what the chain confirmed within this time is asked about again."""


@dataclass(slots=True, eq=False, kw_only=True)
class GossipService:
    """Runs one node's gossip. Call everything within trio, on the node's loop."""

    core: Gossip
    ask: Callable[[ChannelId], Awaitable[ContractChannel | None]]
    """Asks the chain for the contract's state of a channel, None if it never existed. As `Chain.channel`."""
    writer: Writer
    """Its store keeps `GOSSIP`."""
    clock: Clock
    steady: Clock
    """Goes on at one pace, whatever becomes of `clock`."""
    say: Callable[[bytes, bytes], bool]
    """Queues a frame for a connected peer, or returns False."""
    punish: Callable[[bytes, PeerError], None]
    """Ends a peer's connection."""
    tell: Callable[[GraphEvent], None]
    """Gets the changes of the graph."""
    jitter: Jitter
    unsent: int = field(default=0, init=False)
    """Frames that `say` refused since the start."""
    _curious: trio.Event = field(default_factory=trio.Event, init=False)
    _changed: trio.Event = field(default_factory=trio.Event, init=False)

    def load(self) -> None:
        """Take in what is on disk and tell its edges. Call it once, before `run` and before the chain is followed."""
        store = self.writer.store
        self.core.load(load_gossip_channels(store), load_announcements(store), self._now())
        self._release()

    async def run(self) -> None:
        """Ask, answer and tell until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(LOOKUPS):
                nursery.start_soon(self._ask_forever)
            while True:
                self.core.tick(self._now())
                self._release()
                self._changed = trio.Event()
                await trio.sleep(TICK * (1 + self.jitter() / 10))
                if not self.core.busy:
                    with trio.move_on_after(CALM):
                        await self._changed.wait()

    # --- peers -------------------------------------------------------------------------------------------------------

    def on_connected(self, peer: bytes) -> None:
        """That peer is connected now, if its first frame did not say so already."""
        self.core.on_connected(peer, self._now())
        self._changed.set()

    def on_disconnected(self, peer: bytes) -> None:
        """That peer is connected no more."""
        self.core.on_disconnected(peer)
        self._changed.set()

    def receiving(self, peer: bytes, frame: bytes) -> Iterator[None]:
        """Take a frame of a peer, in steps of about a millisecond, between which others may have their turn.

        Raise PeerError for what no honest peer sends: its connection should end.
        """
        self.on_connected(peer)
        try:
            yield from self.core.receiving(peer, frame, self._now())
        finally:
            self._release()

    # --- the chain ---------------------------------------------------------------------------------------------------

    def on_block(self, events: Sequence[Event]) -> None:
        """Take the events of a block that was added. Call it before the step's own moments are committed."""
        core, now = self.core, self._now()
        for event in events:
            match event:
                case ChannelOpened(channel):
                    core.on_opened(channel, now)
                case Closed(channel) | CooperativelyClosed(channel) | Settled(channel):
                    core.on_closed(channel, now)
                case Deposited(channel) | Withdrawn(channel):
                    core.recheck(channel)
                case _:
                    pass
        if events:
            self._release()

    def on_undone(self) -> None:
        """A block left the best branch."""
        self.core.recheck_since(self._now() - UNDONE_SECONDS)
        self._release()

    # --- our own node ------------------------------------------------------------------------------------------------

    def announce(self, channel: ChannelId, policy: ForwardingPolicy) -> None:
        """Let the network know what we ask for carrying payments out of a channel of ours, from now on.

        It is repeated while the channel is open, also after restarts. Raise InvalidInput if it cannot be announced.
        """
        self.core.announce(channel, policy, self._now())
        self._release()

    def describe(self, description: Description) -> None:
        """Let the network know our name and addresses once we have a channel. Raise InvalidInput if they are none."""
        self.core.own.describe(description)
        self._changed.set()

    def offer(self, offers: tuple[MarketOffer, ...]) -> None:
        """Let the network know what we ask for as a maker, once we have a channel; of nothing: that we trade no more.

        It is renewed until told otherwise or this process ends, after which it lapses. Raise InvalidInput if it cannot
        be told.
        """
        self.core.own.offer(offers)
        self._changed.set()

    def markets(self) -> list[MarketAnnouncement]:
        """Return what makers ask for now, also ourselves: each is asked for a quote that binds it."""
        return self.core.store.markets(self.clock())

    def prefer(self, assets: Collection[Address]) -> None:
        """Keep room for channels in these assets, besides the coin. Call it before `load`, and when they change."""
        self.core.store.prefer(assets)
        self._release()

    def learn(self, update: bytes) -> ChannelUpdate | None:
        """Take in an update out of a failure; return it if it is sound and news. Our graph is told, and nobody else."""
        news = self.core.learn(update, self._now())
        self._release()
        return news

    def addresses_of(self, node: bytes) -> tuple[str, ...]:
        """Return the addresses, <host>:<port>, that a node tells the network; none if it told nothing."""
        kept = self.core.store.get(NodeKey(node))
        said = kept.announcement if kept is not None else None
        return said.addresses if isinstance(said, NodeAnnouncement) else ()

    def _now(self) -> float:
        """Return the time by which rounds are counted; tell the core what the clock shows."""
        now = self.steady()
        self.core.set_date(self.clock(), now)
        return now

    # --- inside ------------------------------------------------------------------------------------------------------

    def _release(self) -> None:
        """Store what is to be stored; send and tell the rest after that commit."""
        self._changed.set()
        effects = self.core.take()
        if self.core.pending.curious:
            self._curious.set()
            self._curious = trio.Event()
        if effects.changes or effects.frames or effects.events or effects.faults:
            moments = [GossipChanged(tuple(effects.changes))] if effects.changes else []
            self.writer.add(moments, partial(self._act, effects))

    def _act(self, effects: GossipEffects) -> None:
        for peer, frame in effects.frames:
            self.unsent += not self.say(peer, frame)
        for event in effects.events:
            self.tell(event)
        for peer, error in effects.faults:
            self.punish(peer, error)

    async def _ask_forever(self) -> None:
        while True:
            channel = self.core.pending.next_question(self._now())
            if channel is None:
                await self._curious.wait()
                continue
            facts = await self._look_up(channel)
            self.core.answer(channel, facts, self._now())
            self._release()

    async def _look_up(self, channel: ChannelId) -> ChannelFacts | None:
        """Return what the chain says of a channel, None if it is none that is open."""
        retry = Retry(LOOK_UP_AGAIN, self.jitter)
        try:
            view = await retry.until_done(partial(self.ask, channel), ChainUnavailable)
        except ChainError:
            return None
        if view is None or view.status != OPEN:
            return None
        return ChannelFacts(view.terms.participants, sum(view.deposits) - sum(view.withdrawn), view.terms.asset)
