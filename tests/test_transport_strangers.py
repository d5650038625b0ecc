"""Hostile and broken peers at the door: each harms nobody and ends its own connection only."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tallystick.channels.errors import HandshakeFailed, LinkClosed
from tallystick.channels.ports import Link, PeerAddress
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.testing.clock import seeded_entropy
from tallystick.channels.transport.links import TcpNetwork, TransportStatistics
from tallystick.channels.transport.noise import ACT_ONE_SIZE, Initiator, Responder

ALICE, BOB, MALLORY = (PrivateKey(bytes([number]) * 32) for number in (1, 2, 3))
IDLE = TransportStatistics(handshakes=0, links=0, failed=0, refused=0)


async def echo(link: Link) -> None:
    """Send back what comes, until the link ends."""
    while True:
        await link.send(await link.receive())


@asynccontextmanager
async def bob_serves(network: TcpNetwork) -> AsyncIterator[PeerAddress]:
    """Bob echoes on loopback within the block."""
    bound: list[PeerAddress] = []

    async def serve() -> None:
        await network.serve("127.0.0.1", 0, echo, started=bound.append)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        while not bound:
            await trio.lowlevel.checkpoint()
        yield bound[0]
        nursery.cancel_scope.cancel()


def bob_network(**limits: int) -> TcpNetwork:
    return TcpNetwork(BOB, seeded_entropy("bob"), **limits)


async def settle(network: TcpNetwork, reached: Callable[[TransportStatistics], bool]) -> None:
    """Wait until the network's inbound side has come to some state."""
    while not reached(network.statistics()):
        await trio.lowlevel.checkpoint()


async def alice_is_served(address: PeerAddress) -> None:
    """Check that an honest node still gets through."""
    link = await TcpNetwork(ALICE, seeded_entropy("alice")).dial(address)
    await link.send([b"hello"])
    assert await link.receive() == [b"hello"]
    await link.aclose()


async def ended(stream: trio.SocketStream) -> None:
    """Wait until the other side has closed; whatever it sent before is ignored."""
    try:
        while await stream.receive_some():
            pass
    except trio.BrokenResourceError:
        pass
    await stream.aclose()


def openings() -> list[bytes]:
    """What strangers might say first."""
    act_one = Initiator(MALLORY, BOB.public, PrivateKey(b"\x09" * 32)).act_one
    wrong_node = Initiator(MALLORY, ALICE.public, PrivateKey(b"\x09" * 32)).act_one
    noise = random.Random(7).randbytes
    return [
        b"GET / HTTP/1.1\r\nHost: somewhere.example\r\nUser-Agent: scanner\r\n\r\n",
        noise(ACT_ONE_SIZE),
        noise(20_000),
        wrong_node,
        b"\x01" + act_one[1:],
        act_one + noise(66),
        act_one + bytes(66),
    ]


@pytest.mark.parametrize("opening", openings(), ids=range(len(openings())))
async def test_garbage_ends_only_its_own_connection(opening: bytes) -> None:
    network = bob_network()
    with trio.fail_after(20):
        async with bob_serves(network) as address:
            stream = await trio.open_tcp_stream(address.host, address.port)
            await stream.send_all(opening)
            await ended(stream)
            assert network.statistics().failed == 1
            await alice_is_served(address)


@pytest.mark.parametrize("size", [0, 1, 49, 50])
async def test_closing_in_the_middle_of_the_handshake_harms_nobody(size: int) -> None:
    network = bob_network()
    with trio.fail_after(20):
        async with bob_serves(network) as address:
            stream = await trio.open_tcp_stream(address.host, address.port)
            await stream.send_all(Initiator(MALLORY, BOB.public, PrivateKey(b"\x09" * 32)).act_one[:size])
            await stream.aclose()
            await settle(network, lambda now: now.failed == 1)
            await alice_is_served(address)


async def test_a_stranger_who_says_nothing_is_dropped_in_time(mock_clock: MockClock) -> None:
    network = bob_network()
    async with bob_serves(network) as address:
        silent = await trio.open_tcp_stream(address.host, address.port)
        await settle(network, lambda now: now.handshakes == 1)
        await alice_is_served(address)
        mock_clock.jump(10.5)
        await ended(silent)
        await settle(network, lambda now: now.links == 0)
        assert network.statistics() == TransportStatistics(handshakes=0, links=0, failed=1, refused=0)


async def test_many_silent_strangers_cannot_keep_an_honest_node_out() -> None:
    network = bob_network(handshakes_max=4)
    with trio.fail_after(20):
        async with bob_serves(network) as address:
            silent = [await trio.open_tcp_stream(address.host, address.port) for _ in range(10)]
            await settle(network, lambda now: now.failed == 6)
            assert network.statistics().handshakes == 4
            await alice_is_served(address)
            for stream in silent[:6]:
                await ended(stream)
            for stream in silent[6:]:
                await stream.aclose()
            await settle(network, lambda now: now.handshakes == 0)


async def test_links_above_the_limit_are_refused_until_one_ends() -> None:
    network = bob_network(links_max=2)
    alice = TcpNetwork(ALICE, seeded_entropy("alice"))
    with trio.fail_after(20):
        async with bob_serves(network) as address:
            links = [await alice.dial(address) for _ in range(3)]
            await settle(network, lambda now: now.refused == 1)
            with pytest.raises(LinkClosed):
                await links[2].receive()
            await links[0].aclose()
            await settle(network, lambda now: now.links == 1)
            await alice_is_served(address)
            await links[1].aclose()
            await settle(network, lambda now: now.links == 0)
            assert network.statistics() == TransportStatistics(handshakes=0, links=0, failed=0, refused=1)


async def test_forged_frames_of_a_known_peer_end_only_that_link() -> None:
    network = bob_network()
    with trio.fail_after(20):
        async with bob_serves(network) as address:
            stream = await trio.open_tcp_stream(address.host, address.port)
            handshake = Initiator(MALLORY, BOB.public, PrivateKey(b"\x09" * 32))
            await stream.send_all(handshake.act_one)
            act_three, session = handshake.read_act_two(await stream.receive_some(50))
            # The first message may travel with act three.
            await stream.send_all(act_three + session.encrypt_all([b"hello"]))
            assert session.feed(await stream.receive_some()) == [b"hello"]
            await stream.send_all(bytes(34))
            await ended(stream)
            await settle(network, lambda now: now == IDLE)
            await alice_is_served(address)


async def test_a_bug_in_a_handler_is_not_hidden() -> None:
    async def broken(link: Link) -> None:
        raise KeyError("a bug")

    async def dial(address: PeerAddress) -> None:
        link = await TcpNetwork(ALICE, seeded_entropy("alice")).dial(address)
        await link.aclose()

    with trio.fail_after(20), pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await bob_network().serve("127.0.0.1", 0, broken, started=lambda at: nursery.start_soon(dial, at))
    assert caught.group_contains(KeyError, match="a bug")


async def test_cancelling_serve_closes_its_links() -> None:
    network = bob_network()
    with trio.fail_after(20):
        async with bob_serves(network) as address:
            link = await TcpNetwork(ALICE, seeded_entropy("alice")).dial(address)
            await link.send([b"hello"])
            assert await link.receive() == [b"hello"]
        with pytest.raises(LinkClosed):
            await link.receive()
    assert network.statistics() == IDLE


async def test_dialing_somebody_who_never_answers_ends_in_time(mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        outcome: list[Exception] = []

        async def dial() -> None:
            try:
                await TcpNetwork(ALICE, seeded_entropy("alice")).dial(
                    PeerAddress(bytes(BOB.public), *listener.socket.getsockname())
                )
            except LinkClosed as error:
                outcome.append(error)

        nursery.start_soon(dial)
        stream = await listener.accept()
        assert len(await stream.receive_some(100)) == ACT_ONE_SIZE
        mock_clock.jump(10.5)
        await ended(stream)
        await listener.aclose()
    assert "did not answer within 10 seconds" in str(outcome[0])


@pytest.mark.parametrize("answer", ["nothing", "garbage", "impostor", "half"])
async def test_dialing_something_else_than_the_node_fails_the_handshake(answer: str) -> None:
    async def pretend(stream: trio.SocketStream) -> None:
        act_one = await stream.receive_some(ACT_ONE_SIZE)
        act_two = Responder(BOB, PrivateKey(b"\x09" * 32)).read_act_one(act_one)
        unknowing = Responder(MALLORY, PrivateKey(b"\x09" * 32))
        forged = unknowing.read_act_one(Initiator(ALICE, MALLORY.public, PrivateKey(b"\x08" * 32)).act_one)
        said = {"nothing": b"", "garbage": b"220 mail ready\r\n" * 9, "impostor": forged, "half": act_two[:20]}
        await stream.send_all(said[answer])
        await stream.aclose()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
            nursery.start_soon(trio.serve_listeners, pretend, [listener])
            with pytest.raises(HandshakeFailed):
                await TcpNetwork(ALICE, seeded_entropy("alice")).dial(
                    PeerAddress(bytes(BOB.public), *listener.socket.getsockname())
                )
            nursery.cancel_scope.cancel()
