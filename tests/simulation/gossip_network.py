"""A network of gossiping nodes in virtual time, whose links delay, lose and can be cut; and a story that it must
survive.

Every node is the real shell and core over a simulated disk; the chain is a table (`simulation.gossip_fixtures`). Run it
with `channels.testing.scheduling.simulate`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import trio

from simulation.gossip_fixtures import DOMAIN, ChainTruth, person
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.storage.writer import Writer
from tallystick.channels.testing.clock import virtual_clock
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.router.gossip.announcements import Description
from tallystick.router.gossip.core import Gossip
from tallystick.router.gossip.peer_state import GossipStatistics
from tallystick.router.gossip.policy import GossipPolicy
from tallystick.router.gossip.service import GossipService
from tallystick.router.gossip.store import ChannelDropped, EdgeKnown, GraphEvent
from tallystick.router.objects import Edge, ForwardingPolicy, NodeKey
from tallystick.router.sqlite import GOSSIP_SCHEMA
from tallystick.settlement.chain import CooperativelyClosed

Graph = dict[tuple[ChannelId, NodeKey], Edge]

QUICK = GossipPolicy(reconcile=60, stalled=20)
"""Minutes where others take ten, to keep simulations short."""


class GossipNode:
    """A node of the simulation: gossip on a disk, and the graph that it was told."""

    def __init__(
        self, number: int, truth: ChainTruth, disk: SimulatedDisk | None = None, policy: GossipPolicy | None = None
    ) -> None:
        self.number = number
        self.key = person(number)
        self.name = bytes(self.key.public)
        self.disk = disk or SimulatedDisk([GOSSIP_SCHEMA])
        self.gossip = Gossip(self.key, DOMAIN, policy or QUICK)
        self.graph: Graph = {}
        self.assets: dict[ChannelId, Address] = {}
        """What each channel of the graph was said to carry."""
        self.links: dict[bytes, trio.MemorySendChannel[bytes]] = {}
        self.writer = Writer(self.disk.open(), inline=True)
        self.punished: list[bytes] = []
        self.shell = GossipService(
            core=self.gossip,
            ask=truth.channel,
            writer=self.writer,
            clock=virtual_clock(),
            steady=virtual_clock(),
            say=self.say,
            punish=lambda peer, error: self.punished.append(peer),
            tell=self.tell,
            jitter=random.Random(number).random,
        )

    def say(self, peer: bytes, frame: bytes) -> bool:
        """Queue a frame on the link to a peer, if there is one with room."""
        link = self.links.get(peer)
        try:
            if link is not None:
                link.send_nowait(frame)
        except (trio.WouldBlock, trio.BrokenResourceError):
            return False
        return link is not None

    def tell(self, event: GraphEvent) -> None:
        """Follow the graph's changes, as a path search does."""
        if isinstance(event, EdgeKnown):
            self.graph[event.edge.channel, event.edge.source] = event.edge
            self.assets[event.edge.channel] = event.asset
        elif isinstance(event, ChannelDropped):
            self.graph = {key: edge for key, edge in self.graph.items() if key[0] != event.channel}

    async def run(self) -> None:
        """Live until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.writer.run)
            nursery.start_soon(self.shell.run)

    def from_scratch(self) -> Graph:
        """Return the graph as computed from what is believed now."""
        return {(edge.channel, edge.source): edge for edge in self.gossip.store.edges().values()}


class GossipNetwork:
    """Residents, and links between them that delay, lose and can be cut."""

    def __init__(self, nursery: trio.Nursery, seed: int, truth: ChainTruth) -> None:
        self.nursery = nursery
        self.rng = random.Random(seed)
        self.truth = truth
        self.nodes: list[GossipNode] = []
        self.loss = 0.0
        """Share of frames that get lost."""
        self._cuts: dict[tuple[int, int], trio.CancelScope] = {}

    def settle(self, number: int) -> GossipNode:
        """Let a node live here."""
        node = GossipNode(number, self.truth)
        self.nodes.append(node)
        self.nursery.start_soon(node.run)
        return node

    def link(self, first: GossipNode, second: GossipNode) -> None:
        """Connect two nodes, until `cut`."""
        scope = self._cuts[first.number, second.number] = trio.CancelScope()
        self.nursery.start_soon(self._carry_both, first, second, scope)

    def cut(self, first: int, second: int) -> None:
        """End the link that was made between these two, in this order."""
        self._cuts.pop((first, second)).cancel()

    async def _carry_both(self, first: GossipNode, second: GossipNode, scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                for here, there in ((first, second), (second, first)):
                    here.links[there.name], receiver = trio.open_memory_channel[bytes](200)
                    nursery.start_soon(self._carry, here, there, receiver)
                first.shell.on_connected(second.name)
                second.shell.on_connected(first.name)
        for here, there in ((first, second), (second, first)):
            del here.links[there.name]
            here.shell.on_disconnected(there.name)

    async def _carry(self, here: GossipNode, there: GossipNode, frames: trio.MemoryReceiveChannel[bytes]) -> None:
        async for frame in frames:
            await trio.sleep(self.rng.uniform(0.001, 0.1))
            if self.rng.random() >= self.loss:
                list(there.shell.receiving(here.name, frame))

    def close(self, channel: ChannelId) -> None:
        """Close a channel on chain, and let everybody's follower see it."""
        self.truth.close(channel)
        for node in self.nodes:
            node.shell.on_block([CooperativelyClosed(channel, 0, 0)])

    def check(self) -> None:
        """Raise AssertionError unless there is one graph everywhere, and each is as computed from scratch (I10)."""
        for node in self.nodes:
            if node.graph != node.from_scratch():
                raise AssertionError(f"node {node.number} told its graph of other changes than there were")
            if node.graph != self.nodes[0].graph:
                raise AssertionError(f"node {node.number} and node 0 see different graphs")
            if any(asset != self.truth.views[channel].terms.asset for channel, asset in node.assets.items()):
                raise AssertionError(f"node {node.number} believes that a channel carries another asset")
            if node.punished:
                raise AssertionError(f"node {node.number} blames honest peers")


async def divide_and_heal(seed: int, size: int, assets: Sequence[Address] = (NATIVE,)) -> list[GossipStatistics]:
    """Announce, lose frames, cut the network in two, change and close on both sides, heal: then all must agree.

    Channels are in these assets, in turn. Return everybody's figures; raise AssertionError if they do not agree.
    """
    rng = random.Random(seed)
    async with trio.open_nursery() as nursery:
        network = GossipNetwork(nursery, seed, ChainTruth())
        people = [network.settle(number) for number in range(size)]
        channels = _open_channels(network, rng, assets)
        for node in people:
            node.shell.describe(Description(f"node {node.number}"))
        network.loss = 0.2
        await trio.sleep(120)

        crossing = [pair for pair in channels if (pair[0] < size // 2) != (pair[1] < size // 2)]
        for pair in crossing:
            network.cut(*pair)
        for i, j in rng.sample(sorted(channels), size):
            people[i].shell.announce(channels[i, j], ForwardingPolicy(base_fee=rng.randrange(100, 1_000)))
        for pair in rng.sample(sorted(channels), 3):
            network.close(channels.pop(pair))
        await trio.sleep(120)
        if all(node.graph == people[0].graph for node in people):
            raise AssertionError("the network was not divided: this shows nothing")

        for i, j in crossing:
            network.link(people[i], people[j])
        network.loss = 0.0
        await trio.sleep(600)
        network.check()
        named = {number for pair in channels for number in pair}  # a name is kept while a channel of it is
        for node in people:
            names = node.gossip.store.announcements - len(node.graph)
            if len(node.graph) != 2 * len(channels) or names != len(named):
                raise AssertionError(f"node {node.number} does not know all channels and names")
        nursery.cancel_scope.cancel()
    return [node.gossip.statistics() for node in people]


def _open_channels(
    network: GossipNetwork, rng: random.Random, assets: Sequence[Address]
) -> dict[tuple[int, int], ChannelId]:
    """Open a ring of channels and as many chords, link their ends, and announce them."""
    people = network.nodes
    size = len(people)
    ends = [(i, (i + 1) % size) for i in range(size)]
    ends += [(rng.randrange(size), rng.randrange(size)) for _ in range(size)]
    pairs = {(min(pair), max(pair)) for pair in ends if pair[0] != pair[1]}
    channels: dict[tuple[int, int], ChannelId] = {}
    for i, j in sorted(pairs):
        number, asset = len(channels), assets[len(channels) % len(assets)]
        channels[i, j] = network.truth.open(people[i].key, people[j].key, number=number, asset=asset)
        network.link(people[i], people[j])
        for each in (i, j):
            people[each].shell.announce(channels[i, j], ForwardingPolicy(base_fee=each))
    return channels
