"""The shell around the core of gossip: time, disk, chain and peers. Thin; `run` owns all tasks.

What the core wants happens in the house's order: stored in the store's next commit, then sent, then told. The chain is
asked a bounded number of questions at a time. Frames go out through `say`, which refuses when a peer's queue is full:
what is refused is lost, and reconciliation makes up for it. It works the same in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

import trio

from tallystick.channels.errors import PeerError
from tallystick.channels.ports import Clock
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.channels.storage.writer import Writer
from tallystick.channels.transport.retries import Jitter, Pauses, Retry
from tallystick.router.gossip.announcements import ChannelUpdate, NodeAnnouncement
from tallystick.router.gossip.core import Gossip
from tallystick.router.gossip.own_announcements import Description
from tallystick.router.gossip.peer_state import GossipEffects, GossipStatistics
from tallystick.router.gossip.schema import GossipChanged, load_announcements, load_gossip_channels
from tallystick.router.gossip.store import ChannelFacts, GraphEvent
from tallystick.router.objects import Edge, ForwardingPolicy, NodeKey
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


class Oracle(Protocol):
    """What gossip asks of a chain: `settlement.chain.Chain` is one."""

    async def channel(self, channel: ChannelId) -> ContractChannel | None:
        """The contract's state of a channel, None if it never existed. Raises ChainUnavailable or ChainError."""


class GossipService:
    """Runs one node's gossip. Call everything within trio, on the node's loop.

    `say(peer, frame)` queues a frame for a connected peer, or returns False; `punish(peer, error)` ends a connection;
    `tell` gets the changes of the graph; `jitter` returns a number in [0, 1).
    """

    def __init__(
        self,
        gossip: Gossip,
        chain: Oracle,
        writer: Writer,
        *,
        clock: Clock,
        steady: Clock | None = None,
        say: Callable[[bytes, bytes], bool],
        punish: Callable[[bytes, PeerError], None],
        tell: Callable[[GraphEvent], None],
        jitter: Jitter,
    ) -> None:
        """Make the shell. `writer`'s store must have GOSSIP_SCHEMA. `steady` goes on whatever becomes of `clock`."""
        self._gossip = gossip
        self._chain = chain
        self._writer = writer
        self._clock = clock
        self._steady = steady or clock
        self._say = say
        self._punish = punish
        self._tell = tell
        self._jitter = jitter
        self._curious = trio.Event()
        self._changed = trio.Event()
        self.unsent = 0
        """Frames that `say` refused since the start."""

    def load(self) -> None:
        """Take in what is on disk and tell its edges. Call it once, before `run` and before the chain is followed."""
        store = self._writer.store
        self._gossip.load(load_gossip_channels(store), load_announcements(store), self._now())
        self._release()

    async def run(self) -> None:
        """Ask, answer and tell until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(LOOKUPS):
                nursery.start_soon(self._ask_forever)
            while True:
                self._gossip.tick(self._now())
                self._release()
                self._changed = trio.Event()
                await trio.sleep(TICK * (1 + self._jitter() / 10))
                if not self._gossip.busy:
                    with trio.move_on_after(CALM):
                        await self._changed.wait()

    # --- peers -------------------------------------------------------------------------------------------------------

    def on_connected(self, peer: bytes) -> None:
        """That peer is connected now, if its first frame did not say so already."""
        self._gossip.on_connected(peer, self._now())
        self._changed.set()

    def on_disconnected(self, peer: bytes) -> None:
        """That peer is connected no more."""
        self._gossip.on_disconnected(peer)
        self._changed.set()

    def receive(self, peer: bytes, frame: bytes) -> None:
        """Take a frame of a peer. Raise PeerError for what no honest peer sends: its connection should end."""
        for _ in self.receiving(peer, frame):
            pass

    def receiving(self, peer: bytes, frame: bytes) -> Iterator[None]:
        """The same in steps of about a millisecond, between which others may have their turn."""
        self.on_connected(peer)
        try:
            yield from self._gossip.receiving(peer, frame, self._now())
        finally:
            self._release()

    # --- the chain ---------------------------------------------------------------------------------------------------

    def on_block(self, events: Sequence[Event]) -> None:
        """Take the events of a block that was added. Call it before the step's own moments are committed."""
        gossip, now = self._gossip, self._now()
        for event in events:
            match event:
                case ChannelOpened(channel):
                    gossip.on_opened(channel, now)
                case Closed(channel) | CooperativelyClosed(channel) | Settled(channel):
                    gossip.on_closed(channel, now)
                case Deposited(channel) | Withdrawn(channel):
                    gossip.recheck(channel)
                case _:
                    pass
        if events:
            self._release()

    def on_undone(self) -> None:
        """A block left the best branch."""
        self._gossip.recheck_since(self._now() - UNDONE_SECONDS)
        self._release()

    # --- our own node ------------------------------------------------------------------------------------------------

    def announce(self, channel: ChannelId, policy: ForwardingPolicy) -> None:
        """Let the network know what we ask for carrying payments out of a channel of ours, from now on.

        It is repeated while the channel is open, also after restarts. Raise InvalidInput if it cannot be announced.
        """
        self._gossip.announce(channel, policy, self._now())
        self._release()

    def describe(self, description: Description) -> None:
        """Let the network know our name and addresses once we have a channel. Raise InvalidInput if they are none."""
        self._gossip.describe(description)
        self._changed.set()

    def prefer(self, assets: Collection[Address]) -> None:
        """Keep room for channels in these assets, besides the coin. Call it before `load`, and when they change."""
        self._gossip.prefer(assets)
        self._release()

    def edges(self, asset: Address) -> Iterable[Edge]:
        """Return the directions in one asset that are routable now: what `tell` has said of it, all at once."""
        return self._gossip.store.edges(asset).values()

    def update_of(self, channel: ChannelId) -> bytes:
        """Return our newest update of a channel, as failures carry it; empty if there is none."""
        return self._gossip.update_of(channel)

    def learn(self, update: bytes) -> ChannelUpdate | None:
        """Take in an update out of a failure; return it if it is sound and news. Our graph is told, and nobody else."""
        news = self._gossip.learn(update, self._now())
        self._release()
        return news

    def addresses_of(self, node: bytes) -> tuple[str, ...]:
        """Return the addresses, <host>:<port>, that a node tells the network; none if it told nothing."""
        kept = self._gossip.store.get(NodeKey(node))
        said = kept.announcement if kept is not None else None
        return said.addresses if isinstance(said, NodeAnnouncement) else ()

    def statistics(self) -> GossipStatistics:
        """Sizes and counters."""
        return self._gossip.statistics()

    def _now(self) -> float:
        """Return the time by which rounds are counted; tell the core what the clock shows."""
        now = self._steady()
        self._gossip.set_date(self._clock(), now)
        return now

    # --- inside ------------------------------------------------------------------------------------------------------

    def _release(self) -> None:
        """Store what is to be stored; send and tell the rest after that commit."""
        self._changed.set()
        effects = self._gossip.take()
        if effects.questions:
            self._curious.set()
            self._curious = trio.Event()
        if effects.changes or effects.frames or effects.events or effects.faults:
            moments = [GossipChanged(tuple(effects.changes))] if effects.changes else []
            self._writer.add(moments, partial(self._act, effects))

    def _act(self, effects: GossipEffects) -> None:
        for peer, frame in effects.frames:
            self.unsent += not self._say(peer, frame)
        for event in effects.events:
            self._tell(event)
        for peer, error in effects.faults:
            self._punish(peer, error)

    async def _ask_forever(self) -> None:
        while True:
            channel = self._gossip.next_question(self._now())
            if channel is None:
                await self._curious.wait()
                continue
            facts = await self._look_up(channel)
            self._gossip.answer(channel, facts, self._now())
            self._release()

    async def _look_up(self, channel: ChannelId) -> ChannelFacts | None:
        """Return what the chain says of a channel, None if it is none that is open."""
        retry = Retry(LOOK_UP_AGAIN, self._jitter)
        try:
            return self._facts(await retry.until_done(partial(self._chain.channel, channel), ChainUnavailable))
        except ChainError:
            return None

    def _facts(self, view: ContractChannel | None) -> ChannelFacts | None:
        if view is None or view.status != OPEN:
            return None
        return ChannelFacts(view.terms.participants, sum(view.deposits) - sum(view.withdrawn), view.terms.asset)
