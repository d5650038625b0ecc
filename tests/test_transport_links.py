"""Real TCP links on loopback: order, batches, backpressure, cancellation, and how they end."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tallystick.channels.errors import HandshakeFailed, InvalidInput, LinkClosed, MalformedMessage
from tallystick.channels.limits import MESSAGE_MAX
from tallystick.channels.node.peers import PeerWire
from tallystick.channels.ports import Link, PeerAddress
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.testing.clock import seeded_entropy
from tallystick.channels.transport.links import PROMPT_MAX, TcpLink, TcpNetwork
from tallystick.channels.transport.noise import FRAME_OVERHEAD

ALICE, BOB, MALLORY = (PrivateKey(bytes([number]) * 32) for number in (1, 2, 3))


@asynccontextmanager
async def served(network: TcpNetwork, handler: Callable[[Link], Awaitable[None]]) -> AsyncIterator[PeerAddress]:
    """Serve on loopback within the block."""
    bound: list[PeerAddress] = []
    ready = trio.Event()

    def started(address: PeerAddress) -> None:
        bound.append(address)
        ready.set()

    async def serve() -> None:
        await network.serve("127.0.0.1", 0, handler, started=started)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await ready.wait()
            yield bound[0]
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[TcpLink, TcpLink]]:
    """A real link within the block: Alice's end, which dialed, and Bob's."""
    send, receive = trio.open_memory_channel[Link](1)

    async def handler(link: Link) -> None:
        await send.send(link)
        await trio.sleep_forever()

    async with served(TcpNetwork(BOB, seeded_entropy("bob")), handler) as address:
        alice = await TcpNetwork(ALICE, seeded_entropy("alice")).dial(address)
        bob = await receive.receive()
        assert isinstance(alice, TcpLink)
        assert isinstance(bob, TcpLink)
        yield alice, bob
        await alice.aclose()


async def read(link: Link, count: int) -> list[bytes]:
    """Receive until `count` messages are there."""
    messages: list[bytes] = []
    while len(messages) < count:
        messages += await link.receive()
    return messages


async def fill(link: Link) -> None:
    """Send until the link ends."""
    while True:
        await link.send([bytes(60_000)] * 10)


async def test_both_ends_know_each_other_and_who_dialed() -> None:
    async with linked() as (alice, bob):
        assert (alice.peer, alice.is_dialed) == (BOB.public, True)
        assert (bob.peer, bob.is_dialed) == (ALICE.public, False)
        assert alice._stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_messages_arrive_in_order_both_ways_and_bytes_are_counted() -> None:
    messages = [number.to_bytes(4, "big") * (number % 97) for number in range(3000)] + [bytes(MESSAGE_MAX)]
    async with linked() as (alice, bob):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.send, messages)
            nursery.start_soon(bob.send, messages[::-1])
            assert await read(bob, len(messages)) == messages
            assert await read(alice, len(messages)) == messages[::-1]
        size = sum(map(len, messages)) + FRAME_OVERHEAD * len(messages)
        assert [alice.bytes_sent, alice.bytes_received, bob.bytes_sent, bob.bytes_received] == [size] * 4


async def test_what_was_sent_together_is_received_together() -> None:
    async with linked() as (alice, bob):
        await alice.send([b"one", b"two", b"three"])
        assert await bob.receive() == [b"one", b"two", b"three"]


async def test_concurrent_senders_never_mix_their_frames() -> None:
    async with linked() as (alice, bob), trio.open_nursery() as nursery:
        for sender in range(8):
            nursery.start_soon(alice.send, [bytes([sender]) * 20_000] * 30)
        received = await read(bob, 240)
        runs = [received[start][0] for start in range(0, 240, 30)]
        assert sorted(runs) == list(range(8))
        assert received == [bytes([sender]) * 20_000 for sender in runs for _ in range(30)]


async def test_a_peer_that_does_not_read_makes_the_sender_wait_and_loses_nothing() -> None:
    count = 400
    sent = trio.Event()

    async def send() -> None:
        await alice.send([bytes(60_000)] * count)
        sent.set()

    async with linked() as (alice, bob), trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not sent.is_set()
        assert len(await read(bob, count)) == count
        await sent.wait()


def stuff(link: TcpLink) -> list[bytes]:
    """Send at once until the socket takes no more; return what was taken over."""
    sent: list[bytes] = []
    while not link.behind:
        sent.append(len(sent).to_bytes(4, "big") * 4_000)
        assert link.send_now(sent[-1:])
    return sent


async def test_what_is_sent_at_once_is_there_without_a_turn_of_the_event_loop() -> None:
    async with linked() as (alice, bob):
        assert alice.send_now([b"one", b"two"])
        assert not alice.behind
        assert alice.bytes_sent == 6 + 2 * FRAME_OVERHEAD
        assert await bob.receive() == [b"one", b"two"]


async def test_what_a_full_socket_did_not_take_at_once_leaves_with_the_next_send_and_in_order() -> None:
    async with linked() as (alice, bob):
        sent = stuff(alice)
        assert not alice.send_now([b"refused: bytes wait before it"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.send, [b"last"])
            assert await read(bob, len(sent) + 1) == [*sent, b"last"]
        assert not alice.behind
        assert alice.bytes_sent == bob.bytes_received
        assert alice.send_now([b"again"])
        assert await bob.receive() == [b"again"]


async def test_nothing_is_sent_at_once_beside_another_sender_in_large_or_after_the_end() -> None:
    async with linked() as (alice, bob):
        assert not alice.send_now([bytes(PROMPT_MAX), b"1"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill, alice)
            await trio.testing.wait_all_tasks_blocked()
            assert not alice.send_now([b"overtakes"])
            nursery.cancel_scope.cancel()
        assert not alice.send_now([b"late"])
        assert not bob.behind


async def test_a_connection_that_breaks_under_what_is_sent_at_once_is_met_by_the_next_send() -> None:
    async with linked() as (alice, _):
        alice._stream.socket.shutdown(socket.SHUT_WR)
        assert alice.send_now([b"lost"])
        assert alice.behind
        with pytest.raises(LinkClosed):
            await alice.send([])


async def test_a_wire_keeps_the_order_of_what_it_sends_at_once_and_what_it_queues() -> None:
    async with linked() as (alice, bob), trio.open_nursery() as nursery:
        wire = PeerWire(alice)
        nursery.start_soon(wire.send_forever)
        sent = [number.to_bytes(4, "big") * (4_000 if number % 5 else 6_000) for number in range(1_500)]
        for start in range(0, 600, 3):
            wire.put_all(sent[start : start + 3])
        await trio.testing.wait_all_tasks_blocked()
        assert wire.full  # nobody reads: what the socket did not take is kept, and counted
        for frame in sent[600:1_200]:
            wire.put(frame)
        assert await read(bob, 1_200) == sent[:1_200]
        for frame in sent[1_200:]:
            wire.put_all([frame])
            assert await bob.receive() == [frame]
        await trio.testing.wait_all_tasks_blocked()  # the wire counts a frame when its send returns: perhaps behind us
        assert wire.sent == sum(map(len, sent))
        nursery.cancel_scope.cancel()


async def test_cancelling_a_receive_loses_nothing() -> None:
    async with linked() as (alice, bob):
        with trio.CancelScope() as scope:
            scope.cancel()
            await bob.receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bob.receive)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await alice.send([b"still here"])
        assert await bob.receive() == [b"still here"]


async def test_cancelling_a_send_in_the_middle_ends_the_link_rather_than_tear_a_frame() -> None:
    async with linked() as (alice, bob):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill, alice)
            await trio.testing.wait_all_tasks_blocked(0.05)
            nursery.cancel_scope.cancel()
        with pytest.raises(LinkClosed):
            await alice.send([b"more"])
        with pytest.raises(LinkClosed):
            while True:
                assert set(await bob.receive()) == {bytes(60_000)}


async def test_cancelling_a_send_that_waits_for_its_turn_leaves_the_link_whole() -> None:
    async with linked() as (alice, bob), trio.open_nursery() as outer:
        outer.start_soon(alice.send, [bytes(60_000)] * 400)
        await trio.testing.wait_all_tasks_blocked(0.05)
        async with trio.open_nursery() as inner:
            inner.start_soon(alice.send, [b"never"])
            await trio.testing.wait_all_tasks_blocked(0.05)
            inner.cancel_scope.cancel()
        assert set(await read(bob, 400)) == {bytes(60_000)}
        await alice.send([b"next"])
        assert await bob.receive() == [b"next"]


async def test_closing_delivers_what_was_sent_then_ends_the_other_side() -> None:
    async with linked() as (alice, bob):
        await alice.send([b"last words"])
        await alice.aclose()
        assert await bob.receive() == [b"last words"]
        with pytest.raises(LinkClosed):
            await bob.receive()
        with pytest.raises(LinkClosed):
            await bob.send([b"anybody?"])


async def test_closing_wakes_our_own_sender_and_receiver() -> None:
    async def expect_end(call: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(LinkClosed):
            await call()

    async def fill_alice() -> None:
        await fill(alice)

    async with linked() as (alice, _), trio.open_nursery() as nursery:
        nursery.start_soon(expect_end, alice.receive)
        nursery.start_soon(expect_end, fill_alice)
        await trio.testing.wait_all_tasks_blocked(0.05)
        await alice.aclose()


async def test_aclose_may_be_called_twice_and_when_cancelled() -> None:
    async with linked() as (alice, bob):
        with trio.CancelScope() as scope:
            scope.cancel()
            await alice.aclose()
            await alice.aclose()
        assert not scope.cancelled_caught
        with pytest.raises(LinkClosed):
            await bob.receive()
        with pytest.raises(LinkClosed):
            await alice.receive()


async def test_a_half_open_connection_is_an_ended_one() -> None:
    async with linked() as (alice, bob):
        await alice._stream.send_eof()
        with pytest.raises(LinkClosed):
            await bob.receive()
        with pytest.raises(LinkClosed):
            await alice.receive()


async def test_a_reset_in_the_middle_of_a_frame_is_link_closed() -> None:
    async with linked() as (alice, bob):
        await alice._stream.send_all(alice._session.encrypt_all([bytes(1000)])[:500])
        alice._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        await alice.aclose()
        with pytest.raises(LinkClosed):
            await bob.receive()


async def test_forged_bytes_end_the_link_after_the_good_messages_before_them() -> None:
    async with linked() as (alice, bob):
        await alice._stream.send_all(alice._session.encrypt_all([b"good"]) + bytes(40))
        assert await bob.receive() == [b"good"]
        with pytest.raises(MalformedMessage):
            await bob.receive()
        with pytest.raises(LinkClosed):
            await bob.send([b"no more"])
        with pytest.raises(LinkClosed):
            await alice.receive()


async def test_a_message_that_is_too_long_is_refused_and_the_link_stays() -> None:
    async with linked() as (alice, bob):
        with pytest.raises(InvalidInput):
            await alice.send([b"fine", bytes(MESSAGE_MAX + 1)])
        await alice.send([b"fine"])
        assert await bob.receive() == [b"fine"]


async def test_dialing_nobody_is_link_closed() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: the port refuses
        network = TcpNetwork(ALICE, seeded_entropy("alice"))
        for host in ("127.0.0.1", "no\x00host", "x" * 70):
            with pytest.raises(LinkClosed, match="cannot connect"):
                await network.dial(PeerAddress(bytes(BOB.public), host, taken.getsockname()[1]))


async def test_dialing_another_node_than_expected_fails_the_handshake() -> None:
    bob = TcpNetwork(BOB, seeded_entropy("bob"))
    async with served(bob, lambda link: link.aclose()) as address:
        with pytest.raises(HandshakeFailed):
            await TcpNetwork(ALICE, seeded_entropy("alice")).dial(
                PeerAddress(bytes(MALLORY.public), address.host, address.port)
            )


async def test_an_address_that_is_taken_is_refused_in_words() -> None:
    network = TcpNetwork(BOB, seeded_entropy("bob"))
    async with served(network, lambda link: link.aclose()) as address:
        with pytest.raises(InvalidInput, match="choose another address") as caught:
            await network.serve(address.host, address.port, lambda link: link.aclose(), started=print)
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.EADDRINUSE


async def test_one_port_is_told_where_a_host_has_several_addresses() -> None:
    bound: list[PeerAddress] = []
    network = TcpNetwork(BOB, seeded_entropy("bob"))

    async def echo(link: Link) -> None:
        await link.send(await link.receive())

    async def serve() -> None:
        await network.serve("localhost", 0, echo, started=bound.append)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        while not bound:
            await trio.testing.wait_all_tasks_blocked()
        link = await TcpNetwork(ALICE, seeded_entropy("alice")).dial(bound[0])
        await link.send([b"hello"])
        assert await link.receive() == [b"hello"]
        await link.aclose()
        nursery.cancel_scope.cancel()
