"""What strangers may use up: places, memory, the loop's time, answers. Others are served all the while."""

from __future__ import annotations

import resource
import socket
import sys
from collections.abc import Iterable
from random import Random

import pytest
import trio
import trio.lowlevel
import trio.testing

from simulation.pair import CHAIN_ID, CONTRACT
from tallystick.channels.errors import LinkClosed
from tallystick.channels.limits import Policy
from tallystick.channels.node.engine import Engine
from tallystick.channels.node.peers import Peers
from tallystick.channels.ports import Link, PeerAddress
from tallystick.channels.protocol.core import new_channel
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.messages import Error, Hello, Message, Ping, Pong, Reestablish, decode, encode
from tallystick.channels.protocol.objects import NATIVE, ChannelId, Terms
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.inputs import FundingConfirmed
from tallystick.channels.storage.sqlite.channels import SCHEMA
from tallystick.channels.storage.writer import Writer
from tallystick.channels.testing.clock import EPOCH, seeded_entropy, virtual_clock
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.channels.testing.scheduling import simulate
from tallystick.channels.transport import descriptors
from tallystick.channels.transport.descriptors import RESERVED, allowance
from tallystick.channels.transport.guests import Guest, Guests, Rank
from tallystick.channels.transport.links import TcpNetwork
from tallystick.channels.transport.turns import CREDIT, Turns, source_of
from tallystick.channels.transport.wires import (
    STRANGER_QUEUE_MAX,
    STRANGER_UNPAID_BURST,
    STRANGER_UNPAID_RATE,
    STRANGERS_QUEUE_MAX,
    PeerWire,
)

HELLO = encode(Hello(1, CHAIN_ID, CONTRACT))
PARTNER = PrivateKey(b"\x77" * 32)


async def sleep_out(link: Link) -> None:
    """Handle a link that never gets so far."""
    await trio.sleep_forever()


def stranger(number: int) -> PrivateKey:
    return PrivateKey(number.to_bytes(32, "big"))


class Host:
    """A node without a chain, with a funded channel to PARTNER."""

    def __init__(self, network: MemoryNetwork, strangers: int) -> None:
        key = PrivateKey(b"\x11" * 32)
        self.writer = Writer(SimulatedDisk([SCHEMA]).open(), inline=True)
        self.engine = Engine(
            key, self.writer, virtual_clock(), Policy(), chain_id=CHAIN_ID, contract=CONTRACT, tell=lambda event: None
        )
        self.peers = Peers(self.engine, network.endpoint(key), Random(1), lambda event: None, strangers=strangers)
        self.address = PeerAddress(bytes(key.public), "host", 9735)
        first, second = sorted((key.address, PARTNER.address))
        self.terms = Terms(CHAIN_ID, CONTRACT, (first, second), NATIVE, 0, 3_600, bytes(32))
        side = self.terms.side_of(key.address)
        session = self.engine.add_channel(new_channel(self.terms, side, bytes(PARTNER.public), 0))
        self.engine.apply(session.channel.id, FundingConfirmed((10_000, 10_000)))
        self.engine.on_chain_moved(ChainTime(int(EPOCH), int(EPOCH)))

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.writer.run)
            await self.peers.run((self.address.host, 9735), started=lambda address: task_status.started())


class World:
    def __init__(self, strangers: int = 8) -> None:
        self.network = MemoryNetwork(1, buffer=10_000)
        self.host = Host(self.network, strangers)

    async def meet(self, key: PrivateKey) -> Link:
        """Connect as this key, and be greeted."""
        link = await self.network.endpoint(key).dial(self.host.address)
        await link.send([HELLO])
        assert isinstance(decode((await link.receive())[0]), Hello)
        return link


def play(story: object, **options: int) -> None:
    async def run() -> None:
        world = World(**options)
        async with trio.open_nursery() as nursery:
            await nursery.start(world.host.run)
            await story(world)  # type: ignore[operator]
            nursery.cancel_scope.cancel()

    simulate(run, 1)


async def heard(link: Link, seconds: float) -> list[Message]:
    """All that comes within so many seconds."""
    got: list[Message] = []
    with trio.move_on_after(seconds):
        while True:
            got += [decode(frame) for frame in await link.receive()]
    return got


async def is_served(link: Link) -> bool:
    """Whether a ping is answered within a second."""
    try:
        await link.send([encode(Ping(7))])
        return Pong(7) in await heard(link, 1)
    except LinkClosed:
        return False


# --- descriptors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [512, 1_024, 4_096, 20_000, 2**20])
def test_strangers_get_a_small_part_of_the_descriptors_and_something_is_always_left(limit: int) -> None:
    allowed = allowance(limit)
    assert allowed.handshakes + allowed.links + RESERVED <= limit
    assert 8 <= allowed.handshakes <= limit // 8
    assert 16 <= allowed.strangers <= limit // 4
    assert allowed.strangers < allowed.links


def test_a_daemon_raises_its_limit_as_far_as_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [256, 10_000]

    def change(which: int, new: tuple[int, int]) -> None:
        limits[:] = new

    monkeypatch.setattr(resource, "getrlimit", lambda which: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", change)
    assert descriptors.raise_descriptor_limit() == 10_000
    limits[:] = [300_000, 400_000]
    assert descriptors.raise_descriptor_limit() == 300_000


# --- places ----------------------------------------------------------------------------------------------------------


def guests_of(sources: Iterable[str], ended: list[int], most: int = 4) -> Guests:
    guests = Guests(most)
    for number, source in enumerate(sources):
        guests.admit(Guest(source, lambda: Rank.STRANGER, lambda number=number: ended.append(number)))  # type: ignore[misc]
    return guests


def test_whoever_takes_the_most_places_gives_back_its_oldest() -> None:
    ended: list[int] = []
    guests_of(["home", *["flood"] * 9], ended)
    assert ended == [1, 2, 3, 4, 5, 6]
    ended.clear()
    guests_of([str(n) for n in range(7)], ended)
    assert ended == [0, 1, 2]


def test_who_has_a_channel_under_way_stays_and_who_has_a_funded_one_takes_no_place() -> None:
    ended: list[str] = []
    ranks = {"opening": Rank.OPENING, "partner": Rank.PARTNER}
    guests = Guests(3)
    for name in ("opening", "partner", "a", "b", "c", "d"):
        guests.admit(Guest("", lambda name=name: ranks.get(name, Rank.STRANGER), lambda name=name: ended.append(name)))  # type: ignore[misc]
    assert ended == ["a", "b"] and len(guests) == 3


def test_strangers_without_end_end_each_other_and_no_partner() -> None:
    async def story(world: World) -> None:
        partner = await world.meet(PARTNER)
        links = [await world.meet(stranger(number)) for number in range(1, 30)]
        await trio.sleep(1)
        statistics = world.host.peers.statistics()
        assert (statistics.connected, statistics.strangers, statistics.evicted) == (9, 8, 21)
        assert await is_served(partner)
        assert [await is_served(link) for link in links] == [False] * 21 + [True] * 8

    play(story)


def test_addresses_count_as_one_as_those_who_get_them_do() -> None:
    assert source_of("2001:db8:1:2:3::4") == source_of("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert source_of("2001:db8:1:3::1") != source_of("2001:db8:1:2::1")
    assert source_of("::ffff:192.0.2.1") == source_of("192.0.2.1") == "192.0.2.1"
    assert source_of("fe80::1%eth0") == "fe80::/64" and source_of("name") == "name"


# --- memory ----------------------------------------------------------------------------------------------------------


def test_what_waits_is_counted_as_the_memory_it_takes() -> None:
    async def story(world: World) -> None:
        wire = PeerWire(await world.network.endpoint(PARTNER).dial(world.host.address))
        frames = [encode(Pong(number % 100)) for number in range(1_000)]
        for frame in frames:
            wire.put(frame)
        slots = sys.getsizeof(wire._frames) / len(frames)
        assert wire.waiting >= sum(sys.getsizeof(frame) + slots for frame in frames)

    play(story)


def test_answers_that_nobody_reads_do_not_pile_up() -> None:
    async def story(world: World) -> None:
        world.network.buffer = 50
        async with trio.open_nursery() as nursery:

            async def flood(number: int) -> None:
                link = await world.meet(stranger(number))
                with pytest.raises(LinkClosed):
                    while True:
                        await link.send([encode(Ping(1))] * 40)

            most = 0
            for number in range(1, 5):
                nursery.start_soon(flood, number)
            for _ in range(300):
                await trio.sleep(1)
                most = max(most, world.host.peers.statistics().queued)
            # a pong has 3 bytes, and takes more than 60
            assert 10_000 < most < 4 * (STRANGER_QUEUE_MAX + 5_000)
            nursery.cancel_scope.cancel()

    play(story)


def test_what_all_strangers_leave_unread_is_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.channels.transport.wires.STRANGERS_QUEUE_MAX", 400_000)

    async def story(world: World) -> None:
        world.network.buffer = 1
        keys = [bytes(stranger(number).public) for number in range(1, 9)]
        links = [await world.meet(stranger(number)) for number in range(1, 9)]
        partner = await world.meet(PARTNER)
        for _ in range(100):
            for key in keys:
                world.host.peers.say(key, bytes(10_000))
        assert 390_000 < world.host.peers.statistics().queued < 420_000 < STRANGERS_QUEUE_MAX
        await partner.send([encode(Ping(1))])
        assert Pong(1) in await heard(partner, 1)
        assert world.host.peers.say(bytes(PARTNER.public), bytes(10_000))
        for link in links:
            await link.aclose()
        await trio.sleep(100)
        assert world.host.peers.statistics().queued < 20_000

    play(story)


# --- answers and time ------------------------------------------------------------------------------------------------


def test_what_nobody_pays_for_is_answered_at_a_rate_and_a_partner_is_not_held_up() -> None:
    async def story(world: World) -> None:
        link, partner = await world.meet(stranger(1)), await world.meet(PARTNER)
        seconds = 30
        unknown = [encode(Reestablish(ChannelId(n.to_bytes(32, "big")), 0, None, None, 0)) for n in range(3_000)]
        with trio.move_on_after(1):
            await link.send(unknown)
        answers = [message for message in await heard(link, seconds) if isinstance(message, Error)]
        most = STRANGER_UNPAID_BURST + 1 + STRANGER_UNPAID_RATE * seconds
        assert STRANGER_UNPAID_BURST <= len(answers) <= most
        await partner.send([encode(Ping(n)) for n in range(3_000)])
        assert len([m for m in await heard(partner, 5) if isinstance(m, Pong)]) == 3_000

    play(story)


async def test_strangers_take_their_part_of_the_time_and_addresses_take_turns(
    autojump_clock: trio.testing.MockClock,
) -> None:
    part, work, turns, done = 0.1, 0.001, Turns(0.1), list[str]()

    async def ask(source: str) -> None:
        async with turns.turn(source):
            autojump_clock.jump(work)
            done.append(source)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(ask, "flood")
        await trio.testing.wait_all_tasks_blocked()
        before = len(done)
        nursery.start_soon(ask, "home")
    assert done.index("home") <= before + 2
    assert trio.current_time() - began >= (200 * work - CREDIT) / part
    assert abs(turns.spent - 201 * work) < 0.01


async def test_whoever_leaves_while_it_waits_holds_nobody_up(autojump_clock: trio.testing.MockClock) -> None:
    turns, served = Turns(0.1), 0

    async def ask(seconds: float) -> None:
        nonlocal served
        with trio.move_on_after(seconds):
            async with turns.turn("somewhere"):
                autojump_clock.jump(0.05)
                served += 1

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, 0.01 * number if number % 2 else 100)
    assert served >= 10 and turns.waiting == 0


# --- handshakes ------------------------------------------------------------------------------------------------------


async def test_a_flood_of_handshakes_does_not_shut_out_the_address_of_a_partner() -> None:
    """The flood comes from more addresses than there are places, so that all are as greedy as the partner's."""
    network = TcpNetwork(PARTNER, seeded_entropy("partner"), handshakes_max=8)
    bound: list[PeerAddress] = []

    async def serve() -> None:
        await network.serve("127.0.0.1", 0, sleep_out, started=bound.append)

    async def knock(source: str) -> trio.SocketStream:
        connection = trio.socket.socket()
        await connection.bind((source, 0))
        await connection.connect((bound[0].host, bound[0].port))
        return trio.SocketStream(connection)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            while not bound:
                await trio.lowlevel.checkpoint()
            network.favour("127.0.0.9")
            ours = await knock("127.0.0.9")
            while network.statistics().handshakes < 1:
                await trio.lowlevel.checkpoint()
            flood = [await knock(f"127.0.1.{number}") for number in range(1, 21)]
            while network.statistics().failed < 13:
                await trio.lowlevel.checkpoint()
            assert network.statistics().handshakes == 8
            with trio.move_on_after(0.05) as still_open:
                assert await ours.receive_some(1) != b"", "the partner's handshake had to make room"
            assert still_open.cancelled_caught
            for stream in (ours, *flood):
                await stream.aclose()
            nursery.cancel_scope.cancel()


def test_connections_wait_in_the_system_when_too_many_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.channels.transport.links.ACCEPTS_BURST", 2.0)
    network, bound = TcpNetwork(PARTNER, seeded_entropy("partner")), list[PeerAddress]()

    async def story() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: network.serve("127.0.0.1", 0, sleep_out, started=bound.append))
            while not bound:
                await trio.lowlevel.checkpoint()
            knocking = [socket.create_connection((bound[0].host, bound[0].port)) for _ in range(10)]
            for _ in range(200):
                await trio.lowlevel.checkpoint()
            assert network.statistics().handshakes <= 3
            for each in knocking:
                each.close()
            nursery.cancel_scope.cancel()

    trio.run(story, clock=trio.testing.MockClock())
