"""Gossip over the connections of nodes: the messages pass beside those of channels, and liars are disconnected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import trio

from simulation.gossip_fixtures import CHAIN_ID, CONTRACT, DOMAIN, ChainTruth, person
from tallystick.channels.errors import Fault
from tallystick.channels.limits import Policy
from tallystick.channels.node.engine import Engine
from tallystick.channels.node.peers import Peers
from tallystick.channels.ports import PeerAddress
from tallystick.channels.session.effects import Event, PeerConnected, PeerNotice
from tallystick.channels.storage.sqlite.channels import SCHEMA
from tallystick.channels.storage.writer import Writer
from tallystick.channels.testing.clock import virtual_clock
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.gossip import wire
from tallystick.router.gossip.core import Gossip
from tallystick.router.gossip.service import GossipService
from tallystick.router.gossip.store import EdgeKnown, GraphEvent
from tallystick.router.objects import ForwardingPolicy
from tallystick.router.pathfinding.graph import Graph
from tallystick.router.sqlite import GOSSIP_SCHEMA


class Host:
    """A node's connections with gossip on them, and the graph that a path search reads."""

    def __init__(self, network: MemoryNetwork, number: int, truth: ChainTruth) -> None:
        self.key = person(number)
        self.events: list[Event] = []
        self.graph = Graph()
        clock = virtual_clock()
        self.writer = Writer(SimulatedDisk([SCHEMA, GOSSIP_SCHEMA]).open(), inline=True)
        self.engine = Engine(
            self.key, self.writer, clock, Policy(), chain_id=CHAIN_ID, contract=CONTRACT, tell=self.on_event
        )
        self.peers = Peers(self.engine, network.endpoint(self.key), Random(number), self.on_event)
        self.gossip = Gossip(self.key, DOMAIN)
        self.service = GossipService(
            core=self.gossip,
            ask=truth.channel,
            writer=self.writer,
            clock=clock,
            steady=clock,
            say=self.peers.say,
            punish=self.peers.end,
            tell=self.follow,
            jitter=Random(number).random,
        )
        self.peers.extend(self.service.receiving)
        self.address = PeerAddress(bytes(self.key.public), f"host{number}", 9735)

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, PeerConnected):
            (self.service.on_connected if event.up else self.service.on_disconnected)(event.peer)

    def follow(self, event: GraphEvent) -> None:
        if isinstance(event, EdgeKnown):
            self.graph.put(event.edge)
        else:
            self.graph.drop(event.channel)

    def faults(self) -> list[int]:
        return [event.code for event in self.events if isinstance(event, PeerNotice) and event.ours]

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.writer.run)
            nursery.start_soon(self.service.run)
            await self.peers.run((self.address.host, 9735), started=lambda address: task_status.started())


@asynccontextmanager
async def line(truth: ChainTruth) -> AsyncIterator[list[Host]]:
    """Three hosts in a line."""
    network = MemoryNetwork(1)
    hosts = [Host(network, number, truth) for number in range(3)]
    async with trio.open_nursery() as nursery:
        for host in hosts:
            await nursery.start(host.run)
        hosts[0].peers.keep(hosts[1].address)
        hosts[1].peers.keep(hosts[2].address)
        yield hosts
        nursery.cancel_scope.cancel()


async def spread() -> None:
    truth = ChainTruth()
    async with line(truth) as hosts:
        first = truth.open(hosts[0].key, hosts[1].key, capacity=500)
        second = truth.open(hosts[1].key, hosts[2].key)
        for host, channel in zip((0, 1, 1, 2), (first, first, second, second), strict=True):
            hosts[host].service.announce(channel, ForwardingPolicy(base_fee=host))
        await trio.sleep(30)
        for host in hosts:
            assert {(edge.channel, edge.policy.base_fee) for edge in host.graph} == {
                *((first, 0), (first, 1), (second, 1), (second, 2))
            }
            assert len(list(host.graph)) == 4
            scratch = {(edge.channel, edge.target): edge for edge in host.gossip.store.edges().values()}
            assert {(edge.channel, edge.target): edge for edge in host.graph} == scratch

        hosts[0].peers.drop(hosts[1].address.key)  # a change that it makes alone arrives once it is back
        await trio.sleep(5)
        hosts[0].service.announce(first, ForwardingPolicy(base_fee=77))
        await trio.sleep(10)
        assert all(edge.policy.base_fee != 77 for edge in hosts[2].graph)
        hosts[0].peers.keep(hosts[1].address)
        await trio.sleep(30)
        assert any(edge.policy.base_fee == 77 for edge in hosts[2].graph)
        assert [host.faults() for host in hosts] == [[], [], []]


def test_news_passes_over_real_connections_into_the_graphs_of_all() -> None:
    simulate(spread, 1)


async def lie() -> None:
    truth = ChainTruth()
    async with line(truth) as hosts:
        await trio.sleep(5)
        known, unknown = truth.open(person(5), person(6)), truth.open(person(5), person(7))
        now = int(virtual_clock()())
        for update in (truth.update(known, 0, now), truth.update(known, 1, now)):
            hosts[0].peers.say(hosts[1].address.key, wire.encode(wire.Updates((update,))))
        await trio.sleep(5)
        assert len(list(hosts[2].graph)) == 2
        for channel in (known, unknown):  # found out at once, or when the chain has answered
            forged = truth.update(channel, 0, now + 1, signer=person(9))
            hosts[0].peers.say(hosts[1].address.key, wire.encode(wire.Updates((forged,))))
            await trio.sleep(20)
        assert hosts[1].faults() == [Fault.REFUSED, Fault.REFUSED]
        assert hosts[0].address.key in hosts[1].peers.connected_peers()  # dialed again: its next lie is found out too
        assert (len(list(hosts[2].graph)), hosts[2].faults()) == (2, [])


def test_a_liar_is_disconnected_and_its_lies_go_no_further() -> None:
    simulate(lie, 1)
