"""The map of one payment: what a payee or a peer says cannot break it, nor the maps of other payments."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest

from tallystick.channels.keys import PrivateKey
from tallystick.channels.objects import NATIVE, ChannelId
from tallystick.router.atlas import Atlas, OwnChannel
from tallystick.router.errors import NoRoute, Unpaid
from tallystick.router.graph import Graph
from tallystick.router.liquidity import Knowledge
from tallystick.router.objects import Edge, ForwardingPolicy, NodeKey
from tallystick.router.payments import Order
from tallystick.router.planner import Planner


def node(number: int) -> NodeKey:
    return NodeKey(bytes(PrivateKey(number.to_bytes(32, "big")).public))


def channel(number: int) -> ChannelId:
    return ChannelId(number.to_bytes(32, "big"))


OWN, PEER, OTHER, FAR = node(1), node(2), node(3), node(4)
FREE = ForwardingPolicy()


def atlas(*edges: Edge) -> Atlas:
    """A node with channels 1 to PEER and 2 to OTHER, and what gossip told."""
    graph = Graph(edges)
    own = [OwnChannel(channel(1), PEER, NATIVE, 1_000, 1_000), OwnChannel(channel(2), OTHER, NATIVE, 1_000, 1_000)]
    return Atlas(OWN, Planner(graph, Knowledge(graph)), lambda: own, lambda update: False)


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
    world = atlas()
    roads = world.map_for(order(Edge(channel(7), PEER, FAR, 1_000, FREE)))
    assert [hop.node for hop in roads.route(FAR, 10, max_fee=5, now=0.0).hops] == [PEER, FAR]
    roads.close()
    with pytest.raises(NoRoute):
        world.map_for(order()).route(FAR, 10, max_fee=5, now=0.0)


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
    world = atlas(Edge(channel(3), PEER, OTHER, 1_000, FREE))
    before = world.planner.graph.slots_of(hint.channel)
    roads = world.map_for(order(hint))
    assert world.planner.graph.slots_of(hint.channel) == before
    with pytest.raises(NoRoute):
        roads.route(FAR, 10, max_fee=5, now=0.0)


def test_a_peer_that_asks_for_the_moon_makes_a_way_round_too_dear_and_nothing_else() -> None:
    world = atlas(
        Edge(channel(2), OTHER, OWN, 1_000, ForwardingPolicy(base_fee=2**128 - 1, fee_ppm=2**64)),
        Edge(channel(5), PEER, OTHER, 1_000, FREE),
    )
    roads = world.map_for(order(first=channel(1), last=channel(2)))
    with pytest.raises(NoRoute) as caught:
        roads.route(OWN, 10, max_fee=5, now=0.0)
    assert caught.value.reason is Unpaid.FEE_LIMIT


def test_a_way_that_leaves_no_room_for_the_invoices_metadata_is_refused_with_these_words() -> None:
    nodes = [PEER, *map(node, range(10, 20)), FAR]  # with our own channel, 12 hops
    way = [Edge(channel(20 + n), nodes[n], nodes[n + 1], 1_000, FREE) for n in range(len(nodes) - 1)]
    for size, fits in ((0, True), (160, True), (256, False)):
        roads = atlas(*way).map_for(msgspec.structs.replace(order(), metadata=bytes(size)))
        for find in (partial(roads.plan, max_parts=5), roads.route):
            if fits:
                find(FAR, 10, max_fee=5, now=0.0)
                continue
            with pytest.raises(NoRoute, match=r"12 hops, and the 256 bytes of metadata .* room for 11"):
                find(FAR, 10, max_fee=5, now=0.0)
