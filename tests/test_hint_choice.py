"""Which ways in an invoice names, and what a payer believes of those that it was told."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.gossip_fixtures import DOMAIN, person
from tallystick.channels.errors import MalformedMessage
from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.gossip.announcements import ChannelUpdate, sign_update
from tallystick.router.gossip.policy import GossipPolicy
from tallystick.router.gossip.private_updates import encode_update
from tallystick.router.network.private_channels import (
    OFFERED,
    TOLD,
    HintUpdates,
    InboundChannel,
    Told,
    choose_hints,
)
from tallystick.router.objects import Edge, ForwardingPolicy, NodeKey
from tallystick.router.pathfinding.graph import Graph

NOW = 1_750_000_000
PAYEE, HUB = NodeKey(bytes(person(1).public)), NodeKey(bytes(person(2).public))
CHANNEL = ChannelId(bytes([9]) * 32)
FREE = ForwardingPolicy()


def candidate(number: int, inbound: int, *, ready: bool = True, policy: ForwardingPolicy = FREE) -> InboundChannel:
    return InboundChannel(Edge(ChannelId(bytes([number]) * 32), HUB, PAYEE, 10**6, policy), inbound, ready)


def chosen(amount: int | None, *candidates: InboundChannel) -> list[int]:
    return [edge.channel[0] for edge in choose_hints(candidates, amount)]


def test_ways_that_carry_all_come_first_and_the_cheap_before_the_dear() -> None:
    dear = ForwardingPolicy(base_fee=50)
    assert chosen(100, candidate(1, 99), candidate(2, 500, policy=dear), candidate(3, 100)) == [3, 2, 1]
    assert chosen(None, candidate(1, 99), candidate(2, 500, policy=dear), candidate(3, 100)) == [2, 3, 1]
    assert chosen(100, candidate(1, 200, policy=ForwardingPolicy(maximum=10)), candidate(2, 50)) == [2, 1]


def test_ways_whose_peers_are_away_come_last() -> None:
    assert chosen(100, candidate(1, 500, ready=False), candidate(2, 7)) == [2, 1]


def test_ways_that_carry_nothing_are_left_out_and_no_more_than_a_few_are_named() -> None:
    closed, large = ForwardingPolicy(enabled=False), ForwardingPolicy(minimum=1_000)
    assert chosen(100, candidate(1, 0), candidate(2, 500, policy=closed), candidate(3, 5_000, policy=large)) == []
    assert len(chosen(100, *(candidate(number, 500) for number in range(20)))) == OFFERED


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans(), st.integers(0, 50)), max_size=9), st.integers(1, 400))
def test_the_choice_does_not_depend_on_the_order_and_never_leaves_out_what_would_do(
    ways: list[tuple[int, bool, int]], amount: int
) -> None:
    candidates = [
        candidate(number, inbound, ready=ready, policy=ForwardingPolicy(base_fee=fee))
        for number, (inbound, ready, fee) in enumerate(ways)
    ]
    names = chosen(amount, *candidates)
    assert names == chosen(amount, *reversed(candidates))
    if any(one.ready and one.inbound >= amount for one in candidates):
        assert candidates[names[0]].ready and candidates[names[0]].inbound >= amount


def test_what_a_peer_is_told_alone_is_read_back_and_noise_is_refused() -> None:
    told = Told(CHANNEL, ForwardingPolicy(base_fee=2**127, fee_ppm=3), True)
    assert TOLD.decode(TOLD.encode(told)) == told
    for noise in (
        b"",
        b"\x93\x26\xc0\xc0",
        TOLD.encode(told) + b"x",
        msgspec.msgpack.encode(Told(ChannelId(b"short"), FREE, True)),
    ):
        with pytest.raises(MalformedMessage):
            TOLD.decode(noise)


def lessons() -> tuple[Graph, HintUpdates]:
    graph = Graph()
    graph.hint([Edge(CHANNEL, HUB, PAYEE, 10**6, FREE)])
    return graph, HintUpdates(graph, DOMAIN)


def update(fee: int = 7, *, signer: int = 2, time: int = NOW, channel: ChannelId = CHANNEL) -> ChannelUpdate:
    return sign_update(person(signer), DOMAIN, channel, 0, time, ForwardingPolicy(base_fee=fee))


def test_the_newest_policy_of_a_hint_is_learned_and_goes_with_it() -> None:
    graph, learner = lessons()
    assert learner.learn(encode_update(update()), NOW)
    found = graph.get(CHANNEL, PAYEE)
    assert found is not None and found.policy.base_fee == 7
    assert not learner.learn(encode_update(update()), NOW), "nothing changed"
    graph.unhint([found])
    assert graph.get(CHANNEL, PAYEE) is None


@pytest.mark.parametrize(
    "wrong",
    [
        b"noise",
        encode_update(update(signer=3)),  # by another node
        encode_update(msgspec.structs.replace(update(), policy=ForwardingPolicy(base_fee=1))),  # not what was signed
        encode_update(update(time=NOW - 15 * 86_400)),
        encode_update(update(time=NOW + 3_600)),
        encode_update(update(channel=ChannelId(b"?" * 32))),
    ],
)
def test_what_is_not_the_words_of_the_hints_own_node_teaches_nothing(wrong: bytes) -> None:
    graph, learner = lessons()
    assert not learner.learn(wrong, NOW)
    found = graph.get(CHANNEL, PAYEE)
    assert found is not None and found.policy == FREE


def test_what_gossip_told_is_not_changed_by_a_hints_lesson() -> None:
    graph, learner = lessons()
    graph.put(Edge(CHANNEL, HUB, PAYEE, 10**6, FREE))
    assert not learner.learn(encode_update(update()), NOW)


def test_a_forwarder_that_asks_for_more_each_time_is_believed_a_few_times_only() -> None:
    _, learner = lessons()
    learned = [learner.learn(encode_update(update(fee)), NOW) for fee in range(1, 50)]
    assert sum(learned) == GossipPolicy().update_burst
