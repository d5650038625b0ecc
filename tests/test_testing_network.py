"""The in-memory network: order, delay, backpressure, and every way in which it breaks."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import ParamSpec

import pytest
import trio
import trio.testing

from tallystick.channels.errors import HandshakeFailed, InvalidInput, InvalidSignature, LinkClosed
from tallystick.channels.limits import MESSAGE_MAX
from tallystick.channels.ports import Link, PeerAddress
from tallystick.channels.protocol.keys import PrivateKey, PublicKey
from tallystick.channels.testing.network import MemoryEndpoint, MemoryLink, MemoryNetwork
from tallystick.channels.testing.pipes import Delivery
from tallystick.channels.testing.scheduling import simulate

ALICE, BOB, CAROL = (PrivateKey(bytes([number]) * 32) for number in (1, 2, 3))
HOME = PeerAddress(bytes(BOB.public), "bob", 9735)


P = ParamSpec("P")


def simulated(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run a test in virtual time, with the same schedule every time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        simulate(functools.partial(test, *args, **kwargs), 1)

    return run


@asynccontextmanager
async def served(
    endpoint: MemoryEndpoint, handler: Callable[[Link], Awaitable[None]], host: str = "bob", port: int = 9735
) -> AsyncIterator[PeerAddress]:
    """Serve within the block."""
    bound: list[PeerAddress] = []

    async def serve() -> None:
        await endpoint.serve(host, port, handler, started=bound.append)

    with trio.fail_after(100_000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await trio.testing.wait_all_tasks_blocked()
            yield bound[0]
            nursery.cancel_scope.cancel()


class Pair:
    """A network with one link from Alice to Bob."""

    def __init__(self, network: MemoryNetwork, alice: MemoryLink, bob: MemoryLink, homes: list[MemoryEndpoint]) -> None:
        self.network = network
        self.alice = alice
        self.bob = bob
        self.alice_home, self.bob_home = homes


@asynccontextmanager
async def linked(
    seed: int = 1, *, buffer: int = 256, trace: Callable[[Delivery], None] | None = None
) -> AsyncIterator[Pair]:
    """A link from Alice to Bob within the block."""
    network = MemoryNetwork(seed, buffer=buffer, trace=trace)
    homes = [network.endpoint(ALICE), network.endpoint(BOB)]
    send, receive = trio.open_memory_channel[Link](1)

    async def handler(link: Link) -> None:
        await send.send(link)
        await trio.sleep_forever()

    async with served(homes[1], handler):
        alice = await homes[0].dial(HOME)
        bob = await receive.receive()
        assert isinstance(alice, MemoryLink)
        assert isinstance(bob, MemoryLink)
        yield Pair(network, alice, bob, homes)


async def read_to_the_end(link: Link) -> list[bytes]:
    """All messages until the link ends."""
    messages: list[bytes] = []
    try:
        while True:
            messages += await link.receive()
    except LinkClosed:
        return messages


async def hold(link: Link) -> None:
    """A handler that keeps its link and does nothing."""
    await trio.sleep_forever()


async def is_closed(link: Link) -> bool:
    """Whether a link refuses both ways."""
    for call in (lambda: link.send([b"x"]), link.receive):
        try:
            await call()
        except LinkClosed:
            continue
        return False
    return True


@simulated
async def test_both_ends_know_each_other_and_who_dialed() -> None:
    async with linked() as pair:
        assert (pair.alice.peer, pair.alice.is_dialed) == (BOB.public, True)
        assert (pair.bob.peer, pair.bob.is_dialed) == (ALICE.public, False)
        assert pair.alice.number == pair.bob.number


@pytest.mark.parametrize("seed", range(5))
@simulated
async def test_messages_arrive_in_order_after_a_delay_and_are_traced_and_counted(seed: int) -> None:
    deliveries: list[Delivery] = []
    messages = [number.to_bytes(2, "big") for number in range(500)]
    async with linked(seed, trace=deliveries.append) as pair:
        start = trio.current_time()

        async def send() -> None:
            for first in range(0, 500, 7):
                await pair.alice.send(messages[first : first + 7])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            received: list[bytes] = []
            while len(received) < 500:
                received += await pair.bob.receive()
        assert received == messages == [delivery.message for delivery in deliveries]
        assert start + 0.001 < deliveries[0].time < start + 0.021
        assert {(delivery.sender, delivery.receiver) for delivery in deliveries} == {(ALICE.public, BOB.public)}
        assert (pair.alice.bytes_sent, pair.bob.bytes_received) == (1000, 1000)


@simulated
async def test_a_receiver_that_does_not_read_makes_the_sender_wait() -> None:
    async with linked(buffer=10) as pair, trio.open_nursery() as nursery:
        sent: list[int] = []

        async def send() -> None:
            for number in range(30):
                await pair.alice.send([bytes([number])])
                sent.append(number)

        nursery.start_soon(send)
        await trio.sleep(100)
        assert len(sent) == 10
        received: list[bytes] = []
        while len(received) < 30:
            received += await pair.bob.receive()
        assert received == [bytes([number]) for number in range(30)]


@simulated
async def test_two_sides_that_both_wait_for_room_stand_still_until_one_leaves() -> None:
    outcome: list[str] = []

    async def fill(link: Link) -> None:
        try:
            while True:
                await link.send([b"x"])
        except LinkClosed:
            outcome.append("closed")

    async with linked(buffer=2) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(fill, pair.alice)
        nursery.start_soon(fill, pair.bob)
        await trio.sleep(10)
        assert outcome == []
        await pair.bob.aclose()
        await trio.sleep(10)
        assert outcome == ["closed", "closed"]
        assert await read_to_the_end(pair.alice) == [b"x", b"x"]


@simulated
async def test_cancelling_a_send_that_waits_for_room_ends_the_link() -> None:
    async with linked(buffer=1) as pair:
        await pair.alice.send([b"one"])
        with trio.move_on_after(1) as scope:
            await pair.alice.send([b"two"])
        assert scope.cancelled_caught
        assert await is_closed(pair.alice)
        assert await read_to_the_end(pair.bob) == [b"one"]


@simulated
async def test_cancelling_a_receive_loses_nothing() -> None:
    async with linked() as pair:
        with trio.move_on_after(1):
            await pair.bob.receive()
        await pair.alice.send([b"still here"])
        with trio.CancelScope() as scope:
            scope.cancel()
            await pair.bob.receive()
        assert await pair.bob.receive() == [b"still here"]


@simulated
async def test_a_message_that_is_too_long_is_refused() -> None:
    async with linked() as pair:
        await pair.alice.send([bytes(MESSAGE_MAX)])
        with pytest.raises(InvalidInput):
            await pair.alice.send([bytes(MESSAGE_MAX + 1)])
        assert await pair.bob.receive() == [bytes(MESSAGE_MAX)]


@simulated
async def test_closing_delivers_what_was_sent_then_ends_the_other_side() -> None:
    async with linked() as pair:
        await pair.alice.send([b"last", b"words"])
        with trio.CancelScope() as scope:
            scope.cancel()
            await pair.alice.aclose()
            await pair.alice.aclose()
        await pair.bob.send([b"lost without an error: the end is not known here yet"])
        assert await read_to_the_end(pair.bob) == [b"last", b"words"]
        assert await is_closed(pair.bob)
        assert await is_closed(pair.alice)


@simulated
async def test_a_sender_to_nobody_is_held_up_like_any_other_until_it_learns_of_the_end() -> None:
    async with linked(buffer=4) as pair:
        await pair.bob.aclose()
        for _ in range(4):
            await pair.alice.send([b"lost"])
        before = trio.current_time()
        with pytest.raises(LinkClosed):
            await pair.alice.send([b"one too many"])
        assert trio.current_time() > before


@simulated
async def test_a_cut_loses_what_is_on_its_way_and_each_side_learns_in_its_own_time() -> None:
    async with linked() as pair:
        await pair.alice.send([b"arrives"])
        await trio.sleep(1)
        await pair.alice.send([b"lost"])
        assert pair.network.cut(ALICE.public, CAROL.public) == 0
        assert pair.network.cut(BOB.public, ALICE.public) == 1
        await pair.bob.send([b"lost too"])
        assert await read_to_the_end(pair.bob) == [b"arrives"]
        assert await read_to_the_end(pair.alice) == []


@simulated
async def test_cutting_randomly_takes_about_the_asked_share() -> None:
    network = MemoryNetwork(3)
    alice = network.endpoint(ALICE)
    async with served(network.endpoint(BOB), hold):
        links = [await alice.dial(HOME) for _ in range(200)]
        assert network.cut_randomly(0.0) == 0
        cut = network.cut_randomly(0.25)
        assert 25 < cut < 75
        await trio.sleep(1)
        alive = 0
        for link in links:
            with trio.move_on_after(0.001) as scope:
                await read_to_the_end(link)
            alive += scope.cancelled_caught
        assert alive == 200 - cut


@simulated
async def test_a_partition_breaks_links_and_refuses_dials_until_healed() -> None:
    async with linked() as pair:
        pair.network.partition(ALICE.public, BOB.public)
        assert await read_to_the_end(pair.bob) == []
        with pytest.raises(LinkClosed):
            await pair.alice_home.dial(HOME)
        await pair.network.endpoint(CAROL).dial(HOME)
        pair.network.heal(ALICE.public, BOB.public)
        link = await pair.alice_home.dial(HOME)
        assert link.peer == BOB.public


@simulated
async def test_a_node_can_be_parted_from_everybody() -> None:
    async with linked() as pair:
        pair.network.partition(BOB.public)
        for key in (ALICE, CAROL):
            with pytest.raises(LinkClosed):
                await pair.network.endpoint(key).dial(HOME)
        assert await read_to_the_end(pair.alice) == []
        pair.network.heal()
        await pair.alice_home.dial(HOME)


@simulated
async def test_a_silent_partition_tells_nobody_and_delivers_late_in_order() -> None:
    async with linked() as pair:
        await pair.alice.send([b"one"])
        pair.network.partition(ALICE.public, BOB.public, silent=True)
        await pair.alice.send([b"two"])
        for link in (pair.alice, pair.bob):
            with trio.move_on_after(3600) as scope:
                await link.receive()
            assert scope.cancelled_caught
        before = trio.current_time()
        with pytest.raises(LinkClosed, match="did not answer"):
            await pair.alice_home.dial(HOME)
        assert trio.current_time() - before >= 10

        pair.network.heal()
        await pair.alice.send([b"three"])
        received: list[bytes] = []
        while len(received) < 3:
            received += await pair.bob.receive()
        assert received == [b"one", b"two", b"three"]


@simulated
async def test_an_end_behind_a_silent_partition_is_learnt_after_it() -> None:
    async with linked() as pair:
        pair.network.partition(ALICE.public, None, silent=True)
        await pair.alice.send([b"goodbye"])
        await pair.alice.aclose()
        with trio.move_on_after(3600) as scope:
            await pair.bob.receive()
        assert scope.cancelled_caught
        pair.network.heal(ALICE.public)
        assert await read_to_the_end(pair.bob) == [b"goodbye"]


@simulated
async def test_a_killed_node_is_dead_at_once_but_what_it_had_sent_arrives() -> None:
    async with linked() as pair:
        await pair.bob.send([b"sent before the crash"])
        await pair.alice.send([b"never read"])
        pair.network.kill(pair.bob_home)
        pair.network.kill(pair.bob_home)
        assert await is_closed(pair.bob)
        with pytest.raises(LinkClosed):
            await pair.bob_home.dial(HOME)
        with pytest.raises(LinkClosed):
            await pair.alice_home.dial(HOME)
        assert await read_to_the_end(pair.alice) == [b"sent before the crash"]


@simulated
async def test_a_killed_node_wakes_its_own_waiting_tasks() -> None:
    async with linked(buffer=1) as pair, trio.open_nursery() as nursery:

        async def fill() -> None:
            with pytest.raises(LinkClosed):
                while True:
                    await pair.bob.send([b"x"])

        nursery.start_soon(read_to_the_end, pair.bob)
        nursery.start_soon(fill)
        await trio.sleep(1)
        pair.network.kill(pair.bob_home)


@simulated
async def test_a_restarted_node_takes_its_old_address_while_the_old_one_still_unwinds() -> None:
    network = MemoryNetwork(1)
    old, alice = network.endpoint(BOB), network.endpoint(ALICE)
    async with served(old, hold):
        network.kill(old)
        async with served(network.endpoint(BOB), lambda link: link.send([b"new"])):
            link = await alice.dial(HOME)
            assert await link.receive() == [b"new"]
        with pytest.raises(LinkClosed):
            await alice.dial(HOME)


@simulated
async def test_dialing_nobody_or_somebody_else_fails_as_on_tcp() -> None:
    async with linked() as pair:
        with pytest.raises(LinkClosed):
            await pair.alice_home.dial(PeerAddress(bytes(BOB.public), "bob", 1))
        with pytest.raises(HandshakeFailed):
            await pair.alice_home.dial(PeerAddress(bytes(CAROL.public), "bob", 9735))


@simulated
async def test_addresses_are_unique_port_0_is_a_free_one_and_serve_gives_them_back() -> None:
    network = MemoryNetwork(1)
    ports: set[int] = set()
    async with served(network.endpoint(BOB), lambda link: link.aclose()) as address:
        assert address == HOME
        with pytest.raises(InvalidInput, match="in use"):
            await network.endpoint(CAROL).serve("bob", 9735, lambda link: link.aclose(), started=print)
        for _ in range(2):
            async with served(network.endpoint(CAROL), lambda link: link.aclose(), "carol", 0) as carol:
                ports.add(carol.port)
    assert len(ports) == 2
    async with served(network.endpoint(CAROL), lambda link: link.aclose()):
        pass


@simulated
async def test_a_handler_ends_its_link_by_returning_or_by_a_peers_fault_and_a_bug_ends_serve() -> None:
    def refuse(error: Exception | None) -> Callable[[Link], Awaitable[None]]:
        async def handler(link: Link) -> None:
            await link.send([b"once"])
            if error is not None:
                raise error

        return handler

    network = MemoryNetwork(1)
    alice = network.endpoint(ALICE)
    for error in (None, LinkClosed("over"), InvalidSignature("forged"), ExceptionGroup("", [LinkClosed("over")])):
        async with served(network.endpoint(BOB), refuse(error)):
            for _ in range(2):
                assert await read_to_the_end(await alice.dial(HOME)) == [b"once"]
    with pytest.raises(ExceptionGroup) as caught:
        async with served(network.endpoint(BOB), refuse(KeyError("a bug"))):
            await alice.dial(HOME)
            await trio.sleep_forever()
    assert caught.group_contains(KeyError, match="a bug")


@simulated
async def test_knobs_take_public_keys_of_any_copy() -> None:
    async with linked() as pair:
        assert pair.network.cut(PublicKey(bytes(ALICE.public))) == 1
