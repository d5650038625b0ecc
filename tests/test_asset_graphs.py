"""The map of one payment: what a payee or a peer says cannot break it, nor the maps of other payments."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest

from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.errors import NoRoute, Unpaid
from tallystick.router.objects import Edge, ForwardingPolicy, NodeKey
from tallystick.router.pathfinding.graph import Graph
from tallystick.router.pathfinding.liquidity import Knowledge
from tallystick.router.pathfinding.planner import Planner
from tallystick.router.pathfinding.steps import finish
from tallystick.router.sending.asset_graph import AssetGraph, OwnChannel
from tallystick.router.sending.payments import Order


def node(number: int) -> NodeKey:
    return NodeKey(bytes(PrivateKey(number.to_bytes(32, "big")).public))


def channel(number: int) -> ChannelId:
    return ChannelId(number.to_bytes(32, "big"))


OWN, PEER, OTHER, FAR = node(1), node(2), node(3), node(4)
FREE = ForwardingPolicy()


def asset_graph(*edges: Edge) -> AssetGraph:
    """A node with channels 1 to PEER and 2 to OTHER, and what gossip told."""
    graph = Graph(edges)
    own = [OwnChannel(channel(1), PEER, 1_000, 1_000), OwnChannel(channel(2), OTHER, 1_000, 1_000)]
    known = {one.channel: one for one in own}
    return AssetGraph(OWN, Planner(graph, Knowledge(graph)), lambda: known, known.get, lambda update: False)


class Hub:
    """A node with many channels, which counts how often it is asked about one."""

    def __init__(self, channels: int) -> None:
        self.own = {
            channel(number): OwnChannel(channel(number), node(1_000 + number), 1_000, 1_000)
            for number in range(1, channels + 1)
        }
        self.changed = set(self.own)
        self.asked = 0
        graph = Graph([Edge(channel(10_000), node(1_001), FAR, 10_000, FREE)])
        self.asset_graph = AssetGraph(OWN, Planner(graph, Knowledge(graph)), self.take, self.ask, lambda update: False)

    def take(self) -> set[ChannelId]:
        changed, self.changed = self.changed, set()
        return changed

    def ask(self, which: ChannelId) -> OwnChannel | None:
        self.asked += 1
        return self.own.get(which)

    def holds(self, number: int) -> int:
        edge = self.asset_graph.planner.graph.get(channel(number), node(1_000 + number))
        return 0 if edge is None else self.asset_graph.knowledge.room(edge)

    def becomes(self, number: int, spendable: int | None) -> None:
        if spendable is None:
            del self.own[channel(number)]
        else:
            self.own[channel(number)] = msgspec.structs.replace(self.own[channel(number)], spendable=spendable)
        self.changed.add(channel(number))


def order(*hints: Edge, first: ChannelId | None = None, last: ChannelId | None = None) -> Order:
    return Order(
        payment_hash=bytes(32),
        target=FAR,
        amount=10,
        max_fee=5,
        hints=hints,
        lock_seconds=60,
        gives_up=9.0,
        created=0.0,
        first_channel=first,
        last_channel=last,
    )


def test_a_hint_leads_to_its_payee_as_long_as_the_payment_lasts() -> None:
    world = asset_graph()
    roads = world.routes_for(order(Edge(channel(7), PEER, FAR, 1_000, FREE)))
    assert [hop.node for hop in finish(roads.route(FAR, 10, max_fee=5, now=0.0)).hops] == [PEER, FAR]
    roads.close()
    with pytest.raises(NoRoute):
        finish(world.routes_for(order()).route(FAR, 10, max_fee=5, now=0.0))


@pytest.mark.parametrize(
    "hint",
    [
        Edge(channel(9), OWN, FAR, 10**9, FREE),
        Edge(channel(1), OWN, FAR, 10**9, FREE),
        Edge(channel(3), PEER, FAR, 10**9, FREE),
        Edge(channel(9), PEER, OTHER, 10**9, FREE),
        Edge(channel(9), FAR, PEER, 10**9, FREE),
    ],
)
def test_a_hint_cannot_name_a_channel_of_ours_or_one_that_others_have_or_that_leads_elsewhere(hint: Edge) -> None:
    world = asset_graph(Edge(channel(3), PEER, OTHER, 1_000, FREE))
    before = world.planner.graph.slots_of(hint.channel)
    roads = world.routes_for(order(hint))
    assert world.planner.graph.slots_of(hint.channel) == before
    with pytest.raises(NoRoute):
        finish(roads.route(FAR, 10, max_fee=5, now=0.0))


def test_a_peer_that_asks_for_the_moon_makes_a_way_round_too_dear_and_nothing_else() -> None:
    world = asset_graph(
        Edge(channel(2), OTHER, OWN, 1_000, ForwardingPolicy(base_fee=2**128 - 1, fee_ppm=2**64)),
        Edge(channel(5), PEER, OTHER, 1_000, FREE),
    )
    roads = world.routes_for(order(first=channel(1), last=channel(2)))
    with pytest.raises(NoRoute) as caught:
        finish(roads.route(OWN, 10, max_fee=5, now=0.0))
    assert caught.value.reason is Unpaid.FEE_LIMIT


def test_a_hub_asks_again_only_about_channels_to_which_something_has_happened() -> None:
    hub = Hub(300)
    hub.asset_graph.refresh()
    assert hub.asked == 300
    hub.becomes(7, 400)
    for _ in range(10):
        hub.asset_graph.refresh()
    assert hub.asked == 301 and hub.holds(7) == 400 and hub.holds(8) == 1_000


def test_a_channel_that_is_gone_is_in_the_graph_no_more_and_may_come_back() -> None:
    hub = Hub(3)
    hub.asset_graph.refresh()
    hub.becomes(2, None)
    hub.asset_graph.refresh()
    assert hub.asset_graph.planner.graph.slots_of(channel(2)) == ()
    hub.own[channel(2)] = OwnChannel(channel(2), node(1_002), 2_000, 1_500)
    hub.changed.add(channel(2))
    hub.asset_graph.refresh()
    assert hub.holds(2) == 1_500


def test_what_a_part_took_is_there_again_when_it_came_back_although_nothing_happened_to_its_channel() -> None:
    hub = Hub(1)
    roads = hub.asset_graph.routes_for(order())
    (route,) = finish(roads.plan(FAR, 600, max_fee=0, max_parts=1, now=0.0))
    roads.reserve(route)
    assert hub.holds(1) == 400
    hub.becomes(1, 400)  # its lock is queued
    hub.asset_graph.refresh()
    assert hub.holds(1) == 400
    hub.own[channel(1)] = msgspec.structs.replace(
        hub.own[channel(1)], spendable=1_000
    )  # and dropped, which told nobody
    roads.release(route)
    hub.asset_graph.refresh()
    assert hub.holds(1) == 1_000


def test_a_second_payment_to_the_same_payee_goes_the_way_of_the_first_without_a_search() -> None:
    hub = Hub(3)
    roads = hub.asset_graph.routes_for(order())
    (first,) = finish(roads.plan(FAR, 60, max_fee=0, max_parts=4, now=0.0))
    assert len(hub.asset_graph.route_cache) == 1
    hub.asset_graph.planner.planning = hub.asset_graph.planner.routing = None  # type: ignore[method-assign,assignment]  # no search
    assert finish(roads.plan(FAR, 60, max_fee=0, max_parts=4, now=1.0)) == (first,)
    hub.becomes(1, 59)
    with pytest.raises(TypeError):
        finish(roads.plan(FAR, 60, max_fee=0, max_parts=4, now=1.0))


def test_a_way_that_leaves_no_room_for_the_invoices_metadata_is_refused_with_these_words() -> None:
    nodes = [PEER, *map(node, range(10, 20)), FAR]  # with our own channel, 12 hops
    way = [Edge(channel(20 + n), nodes[n], nodes[n + 1], 1_000, FREE) for n in range(len(nodes) - 1)]
    for size, fits in ((0, True), (160, True), (256, False)):
        roads = asset_graph(*way).routes_for(msgspec.structs.replace(order(), metadata=bytes(size)))
        for find in (partial(roads.plan, max_parts=5), roads.route):
            if fits:
                finish(find(FAR, 10, max_fee=5, now=0.0))
                continue
            with pytest.raises(NoRoute, match=r"12 hops, and the 256 bytes of metadata .* room for 11"):
                finish(find(FAR, 10, max_fee=5, now=0.0))


def test_where_the_best_way_leaves_no_room_for_the_metadata_a_shorter_one_is_taken_if_it_is_not_too_dear() -> None:
    nodes = [PEER, *map(node, range(10, 20)), FAR]  # with our own channel, 12 hops
    way = [Edge(channel(20 + n), nodes[n], nodes[n + 1], 1_000, FREE) for n in range(len(nodes) - 1)]
    shorter = Edge(channel(50), nodes[0], nodes[3], 1_000, ForwardingPolicy(base_fee=4))
    world = asset_graph(*way, shorter)
    plain = world.routes_for(order())
    for find in (partial(plain.plan, max_parts=5), plain.route):
        found = finish(find(FAR, 10, max_fee=5, now=0.0))
        assert [len(route.hops) for route in (found if isinstance(found, tuple) else (found,))] == [12]
    roads = world.routes_for(msgspec.structs.replace(order(), metadata=bytes(256)))
    for find in (partial(roads.plan, max_parts=5), roads.route):
        found = finish(find(FAR, 10, max_fee=5, now=0.0))
        (route,) = found if isinstance(found, tuple) else (found,)
        assert (len(route.hops), route.fee) == (10, 4)
        with pytest.raises(NoRoute, match="room for 11"):
            finish(find(FAR, 10, max_fee=3, now=0.0))
