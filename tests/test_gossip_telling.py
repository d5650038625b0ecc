"""What a node says of its own channels, to whom it tells news, and that all agree in the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.gossip_fixtures import DOMAIN, ChainTruth, person
from simulation.gossip_house import NOW, OTHER, PEER, House
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.gossip import wire
from tallystick.router.gossip.announcements import Announcement, ChannelUpdate, Description, sign_node
from tallystick.router.gossip.policy import DAY
from tallystick.router.gossip.store import ChannelDropped, EdgeKnown, item_of
from tallystick.router.objects import ForwardingPolicy

ANN, BEA, CAL, DEE = map(person, range(1, 5))


@pytest.fixture
def truth() -> ChainTruth:
    return ChainTruth()


@pytest.fixture
def house(truth: ChainTruth) -> House:
    return House(truth)


# --- telling others -----------------------------------------------------------------------------------------------


def test_news_is_told_to_all_but_its_source_and_once(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    update = truth.update(channel, 0, NOW)
    house.hear(update)
    house.pass_time(3)
    assert (house.relayed(OTHER), house.relayed(PEER)) == ([update], [])
    house.hear(update, peer=OTHER)
    house.pass_time(3)
    assert (house.relayed(OTHER), house.relayed(PEER)) == ([update], [])


def test_a_peer_that_knows_already_is_not_told(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    house.hear(truth.update(channel, 0, NOW))
    house.hear(truth.update(channel, 0, NOW), peer=OTHER)
    house.pass_time(3)
    assert house.relayed(OTHER) == []


def test_old_news_is_left_to_reconciliation(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    house.hear(truth.update(channel, 0, NOW - 2 * 3_600))
    house.pass_time(3)
    assert house.relayed(OTHER) == []
    assert len(house.contents()) == 1


# --- our own announcements ----------------------------------------------------------------------------------------


def test_our_own_policy_is_said_when_the_chain_confirms_and_renewed_in_time(truth: ChainTruth) -> None:
    house = House(truth, number=1)
    channel = truth.open(ANN, BEA)
    view = truth.views.pop(channel)
    house.gossip.announce(channel, ForwardingPolicy(base_fee=3), house.now)
    house.gossip.own.describe(Description("Ann", ("ann.example:7735",)))
    house.pass_time(5)
    assert house.contents() == {}
    truth.views[channel] = view
    house.pass_time(130)
    first = {item_of(said): said for said in house.relayed(PEER)}
    assert len(first) == 2
    house.sent.clear()
    house.pass_time(4 * DAY - 300, step=60)
    assert house.relayed(PEER) == []
    house.pass_time(600, step=30)
    again = {item_of(said): said for said in house.relayed(PEER)}
    assert {item: said.timestamp > first[item].timestamp for item, said in again.items()} == dict.fromkeys(first, True)


def test_a_changed_policy_is_said_with_a_higher_timestamp_and_an_unchanged_one_is_not(truth: ChainTruth) -> None:
    house = House(truth, number=1)
    channel = truth.open(ANN, BEA)
    stamps = []
    for fee in (1, 1, 2, 3):
        house.gossip.announce(channel, ForwardingPolicy(base_fee=fee), house.now)
        house.gossip.tick(house.now)  # no time passes
        house.answer()
        stamps.append(
            max(kept.announcement.timestamp for kept in map(house.gossip.store.get, house.contents()) if kept)
        )
    assert stamps == [NOW, NOW, NOW + 1, NOW + 2]


def test_what_an_earlier_life_of_ours_said_is_replaced(truth: ChainTruth) -> None:
    house = House(truth, number=1)
    channel = truth.open(ANN, BEA)
    side = truth.owners[channel].index(ANN)
    house.gossip.announce(channel, ForwardingPolicy(base_fee=1), house.now)
    house.pass_time(2)
    house.hear(truth.update(channel, side, NOW + 300, base_fee=50))
    house.pass_time(2)
    kept = house.gossip.store.get((channel, side))
    assert kept is not None and isinstance(kept.announcement, ChannelUpdate)
    assert (kept.announcement.timestamp, kept.announcement.policy.base_fee) == (NOW + 301, 1)


def test_what_cannot_be_announced_is_refused_at_once(house: House) -> None:
    with pytest.raises(InvalidInput, match="policy"):
        house.gossip.announce(ChannelId(bytes(32)), ForwardingPolicy(base_fee=2**128), house.now)
    with pytest.raises(InvalidInput, match="address"):
        house.gossip.own.describe(Description("Ann", ("nowhere",)))
    with pytest.raises(InvalidInput, match="addresses"):
        house.gossip.own.describe(Description("Ann", ("a:1",) * 5))


def test_a_channel_that_is_not_ours_is_never_announced(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    house.gossip.announce(channel, ForwardingPolicy(), house.now)
    house.pass_time(70)
    assert house.contents() == {}


WORLD = ChainTruth()
CHANNELS = [
    WORLD.open(*pair, capacity=1_000 + index)
    for index, pair in enumerate([(ANN, BEA), (BEA, CAL), (CAL, DEE), (ANN, DEE)])
]
FACTS: list[Announcement] = [
    WORLD.update(channel, side, NOW + time, base_fee=fee)
    for channel in CHANNELS
    for side in (0, 1)
    for time, fee in ((0, 1), (0, 2), (1, 3))
]
FACTS += [sign_node(key, DOMAIN, NOW + time, Description(f"{time}")) for key in (ANN, BEA) for time in (0, 2)]


def feed(order: list[int]) -> House:
    house = House(WORLD, update_burst=100)
    for index in order:
        house.hear(FACTS[index])
        house.check()
    return house


# --- agreement ----------------------------------------------------------------------------------------------------


@given(st.permutations(range(len(FACTS))), st.lists(st.integers(0, len(FACTS) - 1), max_size=15))
@settings(max_examples=40, deadline=None)
def test_updates_in_any_order_and_repeated_lead_to_one_result(order: list[int], more: list[int]) -> None:
    names_again = [len(FACTS) - 1, len(FACTS) - 3]  # names may have come before their channels, and are told again
    house = feed([*order, *more, *names_again])
    assert house.contents() == feed(list(range(len(FACTS)))).contents()
    assert len(house.contents()) == 2 * len(CHANNELS) + 2


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_nodes_that_heard_different_things_agree_after_reconciliation_although_frames_get_lost(data: Any) -> None:
    houses = [House(WORLD, number=50 + n, update_burst=100, stalled=20, young=0.0) for n in range(3)]
    for house in houses:
        for peer in (PEER, OTHER):
            house.gossip.on_disconnected(peer)
        house.gossip.on_connected(b"user", house.now)
        for index in data.draw(st.lists(st.integers(0, len(FACTS) - 1), max_size=12)):
            house.hear(FACTS[index], peer=b"user")
        house.gossip.on_disconnected(b"user")
    lossy = data.draw(st.integers(0, 30))
    for first, second in [(0, 1), (1, 2)]:
        houses[first].gossip.on_connected(b"%d" % second, NOW)
        houses[second].gossip.on_connected(b"%d" % first, NOW)
    carry(houses, lossy, lambda: data.draw(st.booleans()))
    carry(houses, 1_400, lambda: False)
    assert houses[0].contents() == houses[1].contents() == houses[2].contents()
    for house in houses:
        house.check()
        assert house.faults == []


def carry(houses: list[House], seconds: int, lost: Callable[[], bool]) -> None:
    """Carry frames between houses, whose peers are called by their numbers."""
    for _ in range(seconds):
        for index, house in enumerate(houses):
            house.now += 1
            house.gossip.tick(house.now)
            deliver(houses, index, lost)


def deliver(houses: list[House], index: int, lost: Callable[[], bool]) -> None:
    house = houses[index]
    house.answer()
    sent, house.sent = house.sent, []
    for to, message in sent:
        if not lost():
            other = houses[int(to)]
            list(other.gossip.receiving(b"%d" % index, wire.encode(message), other.now))
            deliver(houses, int(to), lost)


def test_a_dropped_channel_event_precedes_the_edges_that_stay(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    house.hear(truth.update(channel, 0, NOW), truth.update(channel, 1, NOW))
    house.hear(sign_node(ANN, DOMAIN, NOW, Description()), sign_node(BEA, DOMAIN, NOW, Description()))
    house.told.clear()
    house.gossip.store.drop((channel, 0))
    house.take()
    assert house.told[0] == ChannelDropped(channel)
    assert [type(event) for event in house.told[1:]] == [EdgeKnown]


def test_a_large_frame_is_taken_in_steps_and_its_sender_may_leave_between_them(truth: ChainTruth, house: House) -> None:
    channels = [truth.open(ANN, BEA) for _ in range(40)]
    frames = wire.frames([truth.update(channel, 0, NOW) for channel in channels])
    assert len(frames) == 1
    steps = 0
    for _ in house.gossip.receiving(PEER, frames[0], NOW):
        steps += 1
        if steps == 2:
            house.gossip.on_disconnected(PEER)
    assert steps == 2 and house.gossip.statistics().pending == 0
