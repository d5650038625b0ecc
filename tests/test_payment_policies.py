"""What an owner asks for payments over a channel: refused while it is only a wish, never once it is stored."""

from __future__ import annotations

import pytest

from simulation.journeys import AMOUNT, Journey, live_through
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.errors import NoRoute
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.objects import MARGIN_MAX, Edge, ForwardingPolicy, NodeKey
from tallystick.router.pathfinding.graph import Graph
from tallystick.router.pathfinding.liquidity import Knowledge
from tallystick.router.pathfinding.planner import Planner
from tallystick.sdk.node.node import Config
from tallystick.sdk.testing.world import open_world


def margin_of(graph: Graph, journey: Journey) -> int:
    """Return the margin of Carol's channel to Dave in a graph."""
    (channel,) = journey.world.channels_between("carol", "dave")
    (edge,) = [edge for slot in graph.slots_of(channel) if (edge := graph.edge(slot)).source == carol(journey)]
    return edge.policy.margin


def carol(journey: Journey) -> bytes:
    return bytes(journey.node("carol").key.public)


@pytest.mark.parametrize("margin", [86_400, MARGIN_MAX])
@pytest.mark.parametrize("known", [True, False])
def test_a_forwarders_margin_is_left_to_it_by_locks_that_live_longer_on_all_hops(margin: int, known: bool) -> None:
    """With a margin that the payer knows, or learns of by a failure."""

    async def fault(journey: Journey) -> None:
        (channel,) = journey.world.channels_between("carol", "dave")
        node, graph = journey.node("carol"), journey.node("alice").routing.graph
        invoice = await journey.invoice()
        await node.set_policy(channel, ForwardingPolicy(fee_ppm=1_000, margin=margin))
        if known:
            assert await journey.world.until(lambda: margin_of(graph, journey) == margin, 600)
        journey.ask(invoice)
        assert await journey.world.until(lambda: bool(journey.receipts or journey.errors), 60)
        assert journey.receipts and journey.receipts[0].amount == AMOUNT, journey.errors

    live_through(fault)


def test_a_channel_whose_margin_nobody_can_leave_is_no_way() -> None:
    ends = [NodeKey(b"\x02" + bytes([number]) * 32) for number in range(3)]

    def edge(number: int, margin: int) -> Edge:
        channel = ChannelId(bytes([number]) * 32)
        return Edge(channel, ends[number], ends[number + 1], 10_000, ForwardingPolicy(margin=margin))

    for margin, found in ((MARGIN_MAX, True), (MARGIN_MAX + 1, False)):
        graph = Graph([edge(0, 0), edge(1, margin)])
        planner = Planner(graph, Knowledge(graph))
        if found:
            assert len(planner.route(ends[0], ends[2], 100, max_fee=0, now=0.0).hops) == 2
        else:
            with pytest.raises(NoRoute):
                planner.route(ends[0], ends[2], 100, max_fee=0, now=0.0)


def test_a_node_whose_own_policy_asks_for_too_large_a_margin_does_not_start() -> None:
    with pytest.raises(InvalidInput, match="margin"):
        Config(routing=RoutingOptions(policy=ForwardingPolicy(margin=MARGIN_MAX + 1)))


@pytest.mark.parametrize(
    "policy",
    [
        ForwardingPolicy(fee_ppm=2**32),
        ForwardingPolicy(base_fee=-1),
        ForwardingPolicy(maximum=2**128),
        ForwardingPolicy(margin=MARGIN_MAX + 1),
    ],
    ids=["fee_ppm", "base_fee", "maximum", "margin"],
)
def test_a_policy_that_cannot_be_announced_is_refused_and_the_node_starts_again(policy: ForwardingPolicy) -> None:
    async def main() -> None:
        async with open_world(1) as world:
            alice, _ = await world.start("alice"), await world.start("bob")
            channel = await alice.open_channel(world.address("bob"), 10_000_000)
            before = alice.policy(channel.id)
            with pytest.raises(InvalidInput, match="policy"):
                await alice.set_policy(channel.id, policy)
            assert alice.policy(channel.id) == before
            alice = await world.restart("alice")
            assert alice.policy(channel.id) == before

    simulate(main, 1)
