"""The map of one payment: what a payee or a peer says cannot break it, nor the maps of other payments."""

from __future__ import annotations

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
from tallystick.router.steps import finish


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
    known = {one.channel: one for one in own}
    return Atlas(OWN, Planner(graph, Knowledge(graph)), lambda: known, known.get, lambda update: False)


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
    assert [hop.node for hop in finish(roads.route(FAR, 10, max_fee=5, now=0.0)).hops] == [PEER, FAR]
    roads.close()
    with pytest.raises(NoRoute):
        finish(world.map_for(order()).route(FAR, 10, max_fee=5, now=0.0))


@pytest.mark.parametrize(
    "hint",
    [
        Edge(channel(9), OWN, FAR, 10**9, FREE),
        Edge(channel(1), OWN, FAR, 10**9, FREE),
        Edge(channel(3), PEER, FAR, 10**9, FREE),
    ],
)
def test_a_hint_cannot_name_a_channel_of_ours_or_one_that_others_have(hint: Edge) -> None:
    world = atlas(Edge(channel(3), PEER, OTHER, 1_000, FREE))
    before = world.planner.graph.slots_of(hint.channel)
    roads = world.map_for(order(hint))
    assert world.planner.graph.slots_of(hint.channel) == before
    with pytest.raises(NoRoute):
        finish(roads.route(FAR, 10, max_fee=5, now=0.0))


def test_a_peer_that_asks_for_the_moon_makes_a_way_round_too_dear_and_nothing_else() -> None:
    world = atlas(
        Edge(channel(2), OTHER, OWN, 1_000, ForwardingPolicy(base_fee=2**128 - 1, fee_ppm=2**64)),
        Edge(channel(5), PEER, OTHER, 1_000, FREE),
    )
    roads = world.map_for(order(first=channel(1), last=channel(2)))
    with pytest.raises(NoRoute) as caught:
        finish(roads.route(OWN, 10, max_fee=5, now=0.0))
    assert caught.value.reason is Unpaid.FEE_LIMIT
