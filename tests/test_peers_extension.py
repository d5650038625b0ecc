"""Messages that are not the channel layer's: they pass through the same connections, and harm none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import msgspec
import pytest
import trio

from simulation.pair import CHAIN_ID, CONTRACT
from tallystick.channels.errors import Fault, InvalidUpdate
from tallystick.channels.limits import Policy
from tallystick.channels.node.engine import Engine
from tallystick.channels.node.peers import EXTENSION_TAGS, Peers
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.session.effects import Event, PeerNotice
from tallystick.channels.storage.sqlite.channels import SCHEMA
from tallystick.channels.storage.writer import Writer
from tallystick.channels.testing.clock import virtual_clock
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.channels.testing.scheduling import simulate
from tallystick.channels.transport.wires import STRANGER_QUEUE_MAX


class Host:
    def __init__(self, network: MemoryNetwork, number: int) -> None:
        key = PrivateKey(bytes([number]) * 32)
        self.events: list[Event] = []
        self.heard: list[tuple[bytes, bytes]] = []
        self.writer = Writer(SimulatedDisk([SCHEMA]).open(), inline=True)
        self.engine = Engine(
            key,
            self.writer,
            virtual_clock(),
            Policy(),
            chain_id=CHAIN_ID,
            contract=CONTRACT,
            tell=self.events.append,
        )
        self.peers = Peers(self.engine, network.endpoint(key), Random(number), self.events.append)
        self.address = PeerAddress(bytes(key.public), f"host{number}", 9735)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.writer.run)
            await self.peers.run((self.address.host, 9735), started=lambda address: task_status.started())


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Host, Host]]:
    network = MemoryNetwork(1)
    one, other = Host(network, 1), Host(network, 2)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.run)
        await nursery.start(other.run)
        one.peers.keep(other.address)
        await one.peers.wait_connected(other.address.key)
        await other.peers.wait_connected(one.address.key)
        yield one, other
        nursery.cancel_scope.cancel()


def play(story: Callable[[Host, Host], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running() as hosts:
            await story(*hosts)

    simulate(run, 1)


def frame(tag: int, *rest: object) -> bytes:
    return msgspec.msgpack.encode([tag, *rest])


def test_frames_of_the_extension_arrive_in_order_and_with_the_name_of_who_said_them() -> None:
    async def story(one: Host, other: Host) -> None:
        other.peers.extend(lambda peer, what: other.heard.append((peer, what)))
        frames = [frame(EXTENSION_TAGS[0], 1), frame(EXTENSION_TAGS[-1], *range(20)), frame(40)]
        for each in frames:
            assert one.peers.say(other.address.key, each)
        await trio.sleep(1)
        assert other.heard == [(one.address.key, each) for each in frames]

    play(story)


@pytest.mark.parametrize("what", [frame(31), frame(48), frame(40), b"\x91", b"\xdc\x00", b""])
def test_what_nobody_takes_is_refused_as_before(what: bytes) -> None:
    async def story(one: Host, other: Host) -> None:
        if what != frame(40):
            other.peers.extend(lambda peer, heard: other.heard.append((peer, heard)))
        one.peers.say(other.address.key, what)
        await trio.sleep(1)
        notices = [event for event in other.events if isinstance(event, PeerNotice)]
        assert [notice.code for notice in notices] == [Fault.MALFORMED] and other.heard == []

    play(story)


def test_an_extension_that_finds_fault_ends_the_connection_and_says_why() -> None:
    def refuse(peer: bytes, heard: bytes) -> None:
        raise InvalidUpdate("no such gossip here", Fault.REFUSED)

    async def story(one: Host, other: Host) -> None:
        other.peers.extend(refuse)
        one.peers.say(other.address.key, frame(32))
        await trio.sleep(1)
        told = [event for event in one.events if isinstance(event, PeerNotice)]
        assert [(notice.code, notice.text) for notice in told] == [(Fault.REFUSED, "no such gossip here")]

    play(story)


def test_a_slow_peer_is_told_no_more_than_fits_and_a_stranger_nothing() -> None:
    async def story(one: Host, other: Host) -> None:
        other.peers.extend(lambda peer, heard: other.heard.append((peer, heard)))
        large = frame(32, bytes(50_000))
        said = sum(one.peers.say(other.address.key, large) for _ in range(100))
        assert said == STRANGER_QUEUE_MAX // len(large)
        await trio.sleep(5)
        assert len(other.heard) == said and one.peers.say(other.address.key, large)
        assert not one.peers.say(bytes(33), large)

    play(story)
