"""Network conditions delay and cut, and do nothing else: order and throughput stay, memory is bounded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import pytest
import trio
import trio.testing

from tallystick.channels.errors import LinkClosed
from tallystick.channels.ports import Link, PeerAddress
from tallystick.channels.protocol.keys import PrivateKey, PublicKey
from tallystick.sdk.bench.network_conditions import CUT_SECONDS, DIAL_TRIPS, ImpairedLink, NetworkConditions

KEY = PrivateKey(b"\x01" * 32).public


class FakeLink:
    """One end of a link without any delay; what arrives is stamped with its time."""

    def __init__(self) -> None:
        self.arrived: list[tuple[float, list[bytes]]] = []
        self.open = True
        self._ended = trio.Event()

    @property
    def peer(self) -> PublicKey:
        return KEY

    @property
    def is_dialed(self) -> bool:
        return True

    async def send(self, messages: list[bytes]) -> None:
        await trio.lowlevel.checkpoint()
        if not self.open:
            raise LinkClosed("closed")
        self.arrived.append((trio.current_time(), messages))

    async def receive(self) -> list[bytes]:
        await self._ended.wait()
        raise LinkClosed("closed")

    async def aclose(self) -> None:
        self.open = False
        self._ended.set()


class FakeNetwork:
    async def dial(self, address: PeerAddress) -> Link:
        return FakeLink()

    async def serve(
        self,
        host: str,
        port: int,
        handler: Callable[[Link], Awaitable[None]],
        *,
        started: Callable[[PeerAddress], None],
    ) -> None:
        await handler(FakeLink())


@pytest.fixture
async def conditions(nursery: trio.Nursery) -> NetworkConditions:
    conditions = NetworkConditions(Random(1))
    await nursery.start(conditions.run)
    return conditions


def times(inner: FakeLink, since: float) -> list[float]:
    return [round(time - since, 6) for time, _ in inner.arrived]


async def test_every_message_arrives_half_a_round_trip_after_it_was_sent_whatever_is_ahead_of_it(
    conditions: NetworkConditions, autojump_clock: trio.testing.MockClock
) -> None:
    conditions.rtt = 0.1
    inner = FakeLink()
    link = conditions.link(inner)
    began = trio.current_time()
    for number in range(20):
        await link.send([bytes([number])])
        await trio.sleep(0.001)
    await trio.sleep(0.1)
    assert times(inner, began) == pytest.approx([0.05 + 0.001 * number for number in range(20)])
    assert [messages for _, messages in inner.arrived] == [[bytes([number])] for number in range(20)]


async def test_what_is_sent_at_once_arrives_at_once_and_in_order(
    conditions: NetworkConditions, autojump_clock: trio.testing.MockClock
) -> None:
    conditions.rtt = 0.02
    inner = FakeLink()
    link = conditions.link(inner)
    began = trio.current_time()
    for number in range(1_000):
        await link.send([number.to_bytes(2, "big"), b"x" * 6_000])
    await trio.sleep(0.02)
    assert times(inner, began) == [0.01]
    assert inner.arrived[0][1][::2] == [number.to_bytes(2, "big") for number in range(1_000)]


async def test_without_conditions_nothing_is_added(
    conditions: NetworkConditions, autojump_clock: trio.testing.MockClock
) -> None:
    inner = FakeLink()
    link = conditions.link(inner)
    began = trio.current_time()
    await link.send([b"a"])
    assert times(inner, began) == [0]


async def test_a_sender_waits_while_too_much_is_on_its_way(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    conditions = NetworkConditions(Random(1), buffer=100)
    await nursery.start(conditions.run)
    conditions.rtt = 1.0
    inner = FakeLink()
    link = conditions.link(inner)
    began = trio.current_time()
    for _ in range(4):
        await link.send([b"x" * 60])
    assert trio.current_time() - began == pytest.approx(0.5)
    await trio.sleep(1)
    assert sum(len(messages) for _, messages in inner.arrived) == 4


async def test_what_is_on_its_way_is_lost_with_its_link_and_both_calls_say_so(
    conditions: NetworkConditions, autojump_clock: trio.testing.MockClock
) -> None:
    conditions.rtt = 1.0
    inner = FakeLink()
    link = conditions.link(inner)
    await link.send([b"lost"])
    await link.aclose()
    await trio.sleep(2)
    assert inner.arrived == []
    with pytest.raises(LinkClosed):
        await link.send([b"more"])
    with pytest.raises(LinkClosed):
        await link.receive()
    assert not conditions.links


async def test_a_sender_that_waits_hears_that_its_link_was_cut(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    conditions = NetworkConditions(Random(1), buffer=1)
    await nursery.start(conditions.run)
    conditions.rtt, conditions.cuts = 100.0, 100.0
    link = conditions.link(FakeLink())
    await link.send([b"first"])
    with pytest.raises(LinkClosed):
        await link.send([b"second"])


async def test_a_link_whose_peer_is_gone_takes_nothing_more(
    conditions: NetworkConditions, autojump_clock: trio.testing.MockClock
) -> None:
    conditions.rtt = 0.1
    inner = FakeLink()
    link = conditions.link(inner)
    await inner.aclose()
    await link.send([b"into the void"])
    await trio.sleep(0.2)
    with pytest.raises(LinkClosed):
        await link.send([b"more"])


@pytest.mark.parametrize(
    ("links", "percent", "a_second"), [(1, 1, 1), (100, 1, 1), (101, 1, 2), (200, 2.5, 5), (3, 100, 3), (9, 0, 0)]
)
async def test_so_many_of_the_links_are_cut_each_second(
    conditions: NetworkConditions, autojump_clock: trio.testing.MockClock, links: int, percent: float, a_second: int
) -> None:
    conditions.cuts = percent
    inner = [FakeLink() for _ in range(links)]
    for each in inner:
        conditions.link(each)
    await trio.sleep(CUT_SECONDS * 1.5)
    assert conditions.cut == sum(not each.open for each in inner) == a_second
    assert len(conditions.links) == links - a_second


async def test_the_same_seed_cuts_the_same_links(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    survivors = []
    for _ in range(2):
        conditions = NetworkConditions(Random(5))
        await nursery.start(conditions.run)
        conditions.cuts = 10
        inner = [FakeLink() for _ in range(40)]
        for each in inner:
            conditions.link(each)
        await trio.sleep(CUT_SECONDS * 2.5)
        survivors.append([each.open for each in inner])
    assert survivors[0] == survivors[1]
    assert survivors[0].count(False) == 8


async def test_a_change_of_conditions_ends_all_links_and_is_not_counted(
    conditions: NetworkConditions, autojump_clock: trio.testing.MockClock
) -> None:
    inner = [FakeLink() for _ in range(3)]
    for each in inner:
        conditions.link(each)
    await conditions.change(0.1, 0.0)
    assert not any(each.open for each in inner)
    assert (conditions.cut, conditions.rtt, conditions.links) == (0, 0.1, {})


async def test_a_dial_takes_the_round_trips_of_its_handshakes_and_gives_a_rough_link(
    conditions: NetworkConditions, autojump_clock: trio.testing.MockClock
) -> None:
    conditions.rtt = 0.1
    began = trio.current_time()
    link = await conditions.network(FakeNetwork()).dial(PeerAddress(bytes(KEY), "host", 1))
    assert trio.current_time() - began == pytest.approx(DIAL_TRIPS * 0.1)
    assert isinstance(link, ImpairedLink)
    assert (link.peer, link.is_dialed) == (KEY, True)


async def test_inbound_links_are_rough_too(
    conditions: NetworkConditions, autojump_clock: trio.testing.MockClock
) -> None:
    seen: list[Link] = []

    async def handler(link: Link) -> None:
        seen.append(link)

    await conditions.network(FakeNetwork()).serve("", 0, handler, started=lambda address: None)
    assert [type(link) for link in seen] == [ImpairedLink]
