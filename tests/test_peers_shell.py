"""The shell of connections, over a network in memory: storms, rivals, silence, garbage, slow readers and the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import msgspec
import pytest
import trio

from simulation.pair import CHAIN_ID, CONTRACT
from tallystick.channels.errors import Fault, LinkClosed, MalformedMessage
from tallystick.channels.limits import Policy
from tallystick.channels.node.engine import Engine
from tallystick.channels.node.peers import HELLO_SECONDS, KEEPALIVE, SLOW_SECONDS, Peers
from tallystick.channels.ports import Link, PeerAddress
from tallystick.channels.protocol.core import new_channel
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.messages import Error, Hello, Message, Ping, Pong, Reestablish, decode, encode
from tallystick.channels.protocol.objects import NATIVE, Terms
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.effects import Event, PeerConnected, PeerNotice
from tallystick.channels.session.inputs import FundingConfirmed
from tallystick.channels.storage.sqlite.channels import SCHEMA
from tallystick.channels.storage.writer import Writer
from tallystick.channels.testing.clock import EPOCH, virtual_clock
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.channels.testing.scheduling import simulate

KEYS = sorted((PrivateKey(bytes([n]) * 32) for n in (1, 2)), key=lambda key: key.address)
MALLORY = PrivateKey(b"\x66" * 32)
HELLO = encode(Hello(1, CHAIN_ID, CONTRACT))


class Host:
    """A node without a chain: engine, writer and peers, with one channel to the other host."""

    def __init__(self, network: MemoryNetwork, side: int) -> None:
        self.key, self.other = KEYS[side], KEYS[1 - side]
        self.events: list[Event] = []
        self.writer = Writer(SimulatedDisk([SCHEMA]).open(), inline=True)
        self.engine = Engine(
            self.key,
            self.writer,
            virtual_clock(),
            Policy(),
            chain_id=CHAIN_ID,
            contract=CONTRACT,
            tell=self.events.append,
        )
        self.endpoint = network.endpoint(self.key)
        self.peers = Peers(self.engine, self.endpoint, Random(side), self.events.append)
        self.address = PeerAddress(bytes(self.key.public), f"host{side}", 9735)
        terms = Terms(CHAIN_ID, CONTRACT, (KEYS[0].address, KEYS[1].address), NATIVE, 0, 3_600, bytes(32))
        self.channel = channel_id(terms)
        session = self.engine.add_channel(new_channel(terms, side, bytes(self.other.public), 0))
        self.engine.apply(session.channel.id, FundingConfirmed((10_000, 10_000)))
        self.engine.on_chain_moved(ChainTime(int(EPOCH), int(EPOCH)))

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.writer.run)
            place = (self.address.host, self.address.port)
            await self.peers.run(place, started=lambda address: task_status.started())

    async def pay(self, amount: int) -> None:
        with trio.fail_after(300):
            await self.engine.pay(self.channel, amount).wait()

    def notices(self) -> list[PeerNotice]:
        return [event for event in self.events if isinstance(event, PeerNotice)]


class World:
    def __init__(self, seed: int) -> None:
        self.network = MemoryNetwork(seed)
        self.alice, self.bob = Host(self.network, 0), Host(self.network, 1)
        self.mallory = self.network.endpoint(MALLORY)

    async def meet(self) -> None:
        self.alice.peers.keep(self.bob.address)
        with trio.fail_after(60):
            await self.alice.peers.wait_connected(self.bob.address.key)
            await self.bob.peers.wait_connected(self.alice.address.key)


@asynccontextmanager
async def running(seed: int) -> AsyncIterator[World]:
    world = World(seed)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.alice.run)
        await nursery.start(world.bob.run)
        yield world
        nursery.cancel_scope.cancel()
    assert not world.alice.endpoint.links and not world.bob.endpoint.links, "a link outlived its node"
    assert not world.alice.peers.connected_peers() and not world.bob.peers.connected_peers()


def play(story: Callable[[World], Awaitable[None]], seed: int = 1) -> None:
    async def run() -> None:
        async with running(seed) as world:
            await story(world)

    simulate(run, seed)


async def read_all(link: Link, seconds: float) -> list[Message]:
    """Everything that comes until the link ends or time is up."""
    got: list[Message] = []
    with trio.move_on_after(seconds):
        try:
            while True:
                got += map(decode, await link.receive())
        except LinkClosed:
            pass
    return got


class DyingLink:
    """A link that breaks in the very moment in which its connection is being ended."""

    dialed = False
    peer = MALLORY.public

    def __init__(self) -> None:
        self.messages = [HELLO]
        self.breaks = trio.Event()

    async def send(self, messages: list[bytes]) -> None:
        await trio.lowlevel.checkpoint()

    async def receive(self) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        if self.messages:
            return [self.messages.pop()]
        with trio.CancelScope(shield=True):
            await self.breaks.wait()
        raise LinkClosed("the link broke")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def test_a_link_that_breaks_while_its_connection_is_ended_harms_nobody() -> None:
    async def story(world: World) -> None:
        link, peers, key = DyingLink(), world.alice.peers, bytes(MALLORY.public)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peers._handle, link)
            await peers.wait_connected(key)
            await trio.sleep(1)
            peers.end(key, MalformedMessage("nonsense", Fault.MALFORMED))
            await trio.sleep(1)
            link.breaks.set()
        assert key not in peers.connected_peers()
        assert [notice.code for notice in world.alice.notices()] == [Fault.MALFORMED]

    play(story)


@pytest.mark.parametrize("seed", range(5))
def test_simultaneous_dials_leave_one_connection(seed: int) -> None:
    async def story(world: World) -> None:
        world.alice.peers.keep(world.bob.address)
        world.bob.peers.keep(world.alice.address)
        await trio.sleep(120)
        assert len(world.alice.endpoint.links) == len(world.bob.endpoint.links) == 1
        assert next(iter(world.alice.endpoint.links)).number == next(iter(world.bob.endpoint.links)).number
        await world.alice.pay(5)
        await world.bob.pay(6)
        assert world.alice.notices() == world.bob.notices() == []

    play(story, seed)


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_broken_connections_loses_and_doubles_nothing(seed: int) -> None:
    async def story(world: World) -> None:
        world.alice.peers.keep(world.bob.address)
        world.bob.peers.keep(world.alice.address)

        async def payer(host: Host) -> None:
            for _ in range(60):
                await host.pay(1)
                await trio.sleep(0.3)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(payer, world.alice)
            nursery.start_soon(payer, world.bob)
            for _ in range(40):
                await trio.sleep(0.7)
                world.network.cut(world.alice.key.public)
        for host in (world.alice, world.bob):
            session = host.engine.session(host.channel)
            assert session.channel.ours.simplex.proof.transferred == 60
            assert session.channel.theirs.simplex.proof.transferred == 60
            assert host.notices() == []
            assert host.peers.statistics().connected == 1

    play(story, seed)


@pytest.mark.parametrize(
    ("fault", "hello"),
    [
        (Fault.WRONG_VERSION, encode(Hello(2, CHAIN_ID, CONTRACT))),
        (Fault.WRONG_CHAIN, encode(Hello(1, CHAIN_ID + 1, CONTRACT))),
        (Fault.UNKNOWN_MESSAGE, encode(Ping(1))),
        (Fault.MALFORMED, b"GET / HTTP/1.1"),
    ],
)
def test_a_wrong_hello_is_answered_by_name(fault: Fault, hello: bytes) -> None:
    async def story(world: World) -> None:
        link = await world.mallory.dial(world.alice.address)
        await link.send([hello])
        said = await read_all(link, 60)
        assert isinstance(said[0], Hello)
        assert isinstance(said[-1], Error) and said[-1].code == fault
        assert [notice.code for notice in world.alice.notices()] == [fault]
        assert world.alice.peers.statistics().faults == 1
        await world.meet()
        await world.alice.pay(1)

    play(story)


def test_whoever_says_nothing_is_given_up() -> None:
    async def story(world: World) -> None:
        link = await world.mallory.dial(world.alice.address)
        began = trio.current_time()
        assert [type(message) for message in await read_all(link, 600)] == [Hello]
        assert trio.current_time() - began < HELLO_SECONDS + 1
        link = await world.mallory.dial(world.alice.address)
        await link.send([HELLO])
        began = trio.current_time()
        assert [type(message) for message in await read_all(link, 600)] == [Hello, Ping, Ping]
        assert trio.current_time() - began < 3 * KEEPALIVE + 1
        assert world.alice.peers.connected_peers() == []

    play(story)


def test_a_ping_is_answered_and_keeps_a_connection_alive() -> None:
    async def story(world: World) -> None:
        link = await world.mallory.dial(world.alice.address)
        await link.send([HELLO, encode(Ping(7))])
        assert Pong(7) in await read_all(link, 5)
        for number in range(20):
            await link.send([encode(Pong(number))])
            await trio.sleep(KEEPALIVE)
        assert len(world.alice.peers.connected_peers()) == 1

    play(story)


@pytest.mark.parametrize(
    ("fault", "frame"),
    [
        (Fault.MALFORMED, b"\xc1garbage"),
        (Fault.MALFORMED, b"\x91" * 60_000),
        (Fault.UNKNOWN_MESSAGE, HELLO),
    ],
)
def test_garbage_is_answered_by_name_and_harms_nobody_else(fault: Fault, frame: bytes) -> None:
    async def story(world: World) -> None:
        await world.meet()
        link = await world.mallory.dial(world.alice.address)
        await link.send([HELLO, frame])
        said = await read_all(link, 60)
        assert isinstance(said[-1], Error) and said[-1].code == fault
        await world.alice.pay(5)
        await world.bob.pay(5)
        assert [notice.code for notice in world.alice.notices()] == [fault]
        assert world.bob.notices() == []

    play(story)


def test_a_peer_that_breaks_the_protocol_finds_its_channel_working_afterwards() -> None:
    async def story(world: World) -> None:
        await world.meet()
        await world.alice.pay(5)
        world.alice.peers.drop(world.bob.address.key)
        await trio.sleep(1)
        link = await world.alice.endpoint.dial(world.bob.address)
        nonsense = encode(Reestablish(world.alice.channel, 0, None, None, 0))
        await link.send([HELLO, nonsense, b"\x00"])
        assert isinstance((await read_all(link, 60))[-1], Error)
        await world.meet()
        await world.bob.pay(3)
        await world.alice.pay(5)

    play(story)


def test_a_peer_that_does_not_read_is_given_up_and_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.channels.transport.wires.STRANGER_QUEUE_MAX", 10_000)

    async def story(world: World) -> None:
        link = await world.mallory.dial(world.alice.address)
        await link.send([HELLO])
        await link.receive()
        sent, began = 0, trio.current_time()
        with pytest.raises(LinkClosed):
            while True:
                await link.send([encode(Ping(n)) for n in range(100)])
                sent += 100
        assert trio.current_time() - began < SLOW_SECONDS + 30  # and a pause for pings beyond what is answered at once
        assert sent < 20_000
        assert world.alice.peers.connected_peers() == []
        await world.meet()
        await world.alice.pay(1)

    play(story)


def test_a_newer_connection_of_the_same_peer_replaces_the_older() -> None:
    async def story(world: World) -> None:
        first = await world.mallory.dial(world.alice.address)
        await first.send([HELLO])
        await first.receive()
        second = await world.mallory.dial(world.alice.address)
        await second.send([HELLO])
        assert await read_all(first, 5) == []
        with pytest.raises(LinkClosed):
            await first.send([HELLO])
        await second.send([encode(Ping(3))])
        assert Pong(3) in await read_all(second, 5)
        assert world.alice.notices() == []
        ups = [event.up for event in world.alice.events if isinstance(event, PeerConnected)]
        assert ups == [True, False, True]

    play(story)


def test_the_wrong_node_at_an_address_is_named_and_tried_again() -> None:
    async def story(world: World) -> None:
        wrong = msgspec.structs.replace(world.bob.address, key=bytes(MALLORY.public))
        world.alice.peers.keep(wrong)
        await trio.sleep(60)
        assert {notice.code for notice in world.alice.notices()} == {Fault.HANDSHAKE}
        assert 2 <= world.alice.peers.statistics().dials <= 60
        world.alice.peers.drop(wrong.key)
        dials = world.alice.peers.statistics().dials
        await trio.sleep(60)
        assert world.alice.peers.statistics().dials == dials

    play(story)


def test_a_peer_that_moves_is_found_at_its_new_address() -> None:
    async def story(world: World) -> None:
        nowhere = msgspec.structs.replace(world.bob.address, host="nowhere")
        world.alice.peers.keep(nowhere)
        await trio.sleep(10)
        await world.meet()
        await world.alice.pay(1)

    play(story)


def test_a_node_does_not_connect_to_itself() -> None:
    async def story(world: World) -> None:
        world.alice.peers.keep(world.alice.address)
        await trio.sleep(30)
        assert world.alice.peers.connected_peers() == []

    play(story)


def test_addresses_known_before_the_start_are_dialed_and_nobody_need_listen() -> None:
    async def run() -> None:
        world = World(1)
        world.alice.peers.keep(world.bob.address)
        async with trio.open_nursery() as nursery:
            await nursery.start(world.bob.run)
            nursery.start_soon(world.alice.writer.run)
            nursery.start_soon(lambda: world.alice.peers.run(None, started=lambda address: None))
            with trio.fail_after(60):
                await world.alice.peers.wait_connected(world.bob.address.key)
            await world.alice.pay(4)
            world.bob.peers.drop(world.alice.address.key)
            await world.alice.pay(4)
            nursery.cancel_scope.cancel()

    simulate(run, 1)


def test_a_peer_that_dials_afresh_need_not_wait_long_for_its_dead_connection_to_be_given_up() -> None:
    async def story(world: World) -> None:
        host = min((world.alice, world.bob), key=lambda host: bytes(host.key.public))
        assert bytes(host.key.public) < bytes(MALLORY.public), "the host's own dial must be the one that wins"
        place = PeerAddress(bytes(MALLORY.public), "mallory", 9735)

        async def say_hello_and_nothing_more(link: Link) -> None:
            await link.send([HELLO])
            await trio.sleep_forever()

        async def serve() -> None:
            await world.mallory.serve(place.host, place.port, say_hello_and_nothing_more, started=lambda address: None)

        async def is_taken() -> bool:
            link = await world.mallory.dial(host.address)
            await link.send([HELLO, encode(Ping(7))])
            return Pong(7) in await read_all(link, 1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            host.peers.keep(place)
            await host.peers.wait_connected(place.key)
            began = trio.current_time()
            assert not await is_taken()
            while not await is_taken():
                assert trio.current_time() - began < KEEPALIVE / 2
            nursery.cancel_scope.cancel()

    play(story)


def test_a_steady_connection_that_is_lost_is_back_at_once_and_one_that_does_not_last_is_dialed_ever_less() -> None:
    async def story(world: World) -> None:
        await world.meet()
        await trio.sleep(60)
        for _ in range(5):
            world.network.cut(world.alice.key.public)
            await trio.sleep(1)
            assert world.alice.peers.connected_peers() == [world.bob.address.key]
        dials = world.alice.peers.statistics().dials
        for _ in range(600):
            world.network.cut(world.alice.key.public)
            await trio.sleep(0.05)
        assert world.alice.peers.statistics().dials - dials <= 15

    play(story)
