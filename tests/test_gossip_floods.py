"""Floods of gossip use up their senders' budgets and places, and nobody else's."""

from __future__ import annotations

import pytest

from simulation.gossip_fixtures import ChainTruth, person
from simulation.gossip_house import NOW, OTHER, PEER, House
from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.gossip import wire
from tallystick.router.gossip.announcements import ChannelUpdate

ANN, BEA, CAL, DEE = map(person, range(1, 5))


@pytest.fixture
def truth() -> ChainTruth:
    return ChainTruth()


@pytest.fixture
def house(truth: ChainTruth) -> House:
    return House(truth)


def flood(truth: ChainTruth, count: int, salt: int) -> list[ChannelUpdate]:
    """Updates of channels that do not exist, well signed."""
    return [
        truth.update(channel, 0, NOW, signer=DEE)
        for channel in (ChannelId(salt.to_bytes(16, "big") + number.to_bytes(16, "big")) for number in range(count))
    ]


def test_a_flood_of_channels_that_do_not_exist_fills_only_its_senders_places(truth: ChainTruth) -> None:
    house = House(truth, parked_per_peer=20, parked_max=30)
    channel = truth.open(ANN, BEA)
    for update in flood(truth, 100, 1):
        list(house.gossip.receiving(OTHER, wire.frames([update])[0], NOW))
    assert house.gossip.statistics().pending == 20
    list(house.gossip.receiving(PEER, wire.frames([truth.update(channel, 0, NOW)])[0], NOW))
    asked = [house.gossip.pending.next_question(NOW) for _ in range(2)]
    assert channel in asked  # peers take turns: nobody waits behind a flood
    for question in asked:
        assert question is not None
        house.gossip.answer(question, truth.facts(question), NOW)
    house.answer()
    assert [item[0] for item in house.contents()] == [channel]


def test_two_floods_share_the_places_and_leave_some_for_others(truth: ChainTruth) -> None:
    house = House(truth, parked_per_peer=20, parked_max=30)
    house.gossip.on_connected(b"third", NOW)
    for salt, peer in enumerate((PEER, OTHER)):
        for update in flood(truth, 40, salt):
            list(house.gossip.receiving(peer, wire.frames([update])[0], NOW))
    channels = [truth.open(ANN, BEA, number=number) for number in range(10)]
    for channel in channels:
        list(house.gossip.receiving(b"third", wire.frames([truth.update(channel, 0, NOW)])[0], NOW))
    assert house.gossip.statistics().pending == 30
    house.answer()
    assert {item[0] for item in house.contents()} == set(channels)


def test_questions_that_come_to_nothing_use_up_their_senders_budget(truth: ChainTruth) -> None:
    house = House(truth, items_burst=200, items_rate=1, lookup_cost=20)
    house.hear(*flood(truth, 30, 1), peer=OTHER)
    channel = truth.open(ANN, BEA)
    house.hear(truth.update(channel, 0, NOW), peer=OTHER)
    assert house.contents() == {}
    house.hear(truth.update(channel, 0, NOW), peer=PEER)
    assert len(house.contents()) == 1


def test_bytes_and_announcements_per_peer_are_limited_and_budgets_refill(truth: ChainTruth) -> None:
    channels = [truth.open(ANN, BEA, number=number) for number in range(6)]
    size = len(wire.frames([truth.update(channel, 0, NOW) for channel in channels])[0])
    house = House(truth, items_burst=3, items_rate=1, bytes_burst=size, bytes_rate=size / 10)
    house.hear(*(truth.update(channel, 0, NOW) for channel in channels))
    assert len(house.contents()) == 3
    house.now += 3
    house.hear(*(truth.update(channel, 0, NOW) for channel in channels[3:]))
    assert len(house.contents()) == 3  # out of bytes
    house.now += 100
    house.hear(*(truth.update(channel, 0, NOW) for channel in channels[3:]))
    assert len(house.contents()) == 6


def test_coming_back_does_not_refill_a_budget(truth: ChainTruth) -> None:
    house = House(truth, items_burst=2, items_rate=0.001)
    channels = [truth.open(ANN, BEA, number=number) for number in range(4)]
    house.hear(*(truth.update(channel, 0, NOW) for channel in channels[:2]))
    house.gossip.on_disconnected(PEER)
    house.gossip.on_connected(PEER, house.now)
    house.hear(*(truth.update(channel, 0, NOW) for channel in channels[2:]))
    assert len(house.contents()) == 2


def test_one_channel_may_change_only_so_often(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    for step in range(20):
        house.hear(truth.update(channel, 0, NOW + step))
    kept = house.gossip.store.get((channel, 0))
    assert kept is not None and kept.announcement.timestamp == NOW + 6  # the first, and a burst of six
    house.now += 301
    house.hear(truth.update(channel, 0, NOW + 20))
    kept = house.gossip.store.get((channel, 0))
    assert kept is not None and kept.announcement.timestamp == NOW + 20


def test_a_full_book_keeps_the_channels_of_the_largest_capacity(truth: ChainTruth) -> None:
    house = House(truth, channels_max=10)
    rich = [truth.open(ANN, BEA, capacity=1_000 + number, number=number) for number in range(10)]
    house.hear(*(truth.update(channel, side, NOW) for channel in rich for side in (0, 1)))
    cheap = [truth.open(CAL, DEE, capacity=5, number=number) for number in range(50)]
    house.hear(*(truth.update(channel, side, NOW) for channel in cheap for side in (0, 1)), peer=OTHER)
    assert {item[0] for item in house.contents()} == set(rich)
    richer = truth.open(CAL, DEE, capacity=2_000, number=99)
    house.hear(truth.update(richer, 0, NOW, signer=ANN), peer=OTHER)  # not a participant: makes no room
    assert {item[0] for item in house.contents()} == set(rich)
    house.hear(truth.update(richer, 0, NOW))
    assert {item[0] for item in house.contents()} == {*rich[1:], richer}
    house.check()


def test_requests_are_served_within_a_budget_and_no_more_of_them_wait_than_allowed(truth: ChainTruth) -> None:
    house = House(truth, serve_burst=10_000, serve_rate=1_000, requests_max=3)
    for number in range(20):
        list(house.gossip.receiving(PEER, wire.encode(wire.Query(number)), NOW))
    house.take()
    assert [m.round for _, m in house.sent if isinstance(m, wire.Summary)] == [0, 1]
    house.pass_time(60)
    assert [m.round for _, m in house.sent if isinstance(m, wire.Summary)] == [0, 1, 2, 3, 4]


def test_answers_that_were_not_asked_for_are_ignored(house: House) -> None:
    list(house.gossip.receiving(PEER, wire.encode(wire.Summary(5, bytes([1]) * 8_192)), NOW))
    list(house.gossip.receiving(PEER, wire.encode(wire.Filled(5, 1)), NOW))
    assert house.take().frames == []


def test_peers_are_asked_for_different_parts_first_and_for_names_last(truth: ChainTruth, house: House) -> None:
    house.gossip.on_connected(b"\x80", NOW)
    house.gossip.on_connected(b"\x00", NOW)
    house.pass_time(1)
    asked = {}
    for peer in (b"\x00", b"\x80"):
        house.sent.clear()
        list(house.gossip.receiving(peer, wire.encode(wire.Summary(1, bytes(8_192))), house.now))
        house.take()
        fills = []
        while [message for _, message in house.sent if isinstance(message, wire.Fill)]:
            news, house.sent = [m for _, m in house.sent if isinstance(m, wire.Fill)], []
            fills += [message.bucket for message in news]
            for message in news:
                list(house.gossip.receiving(peer, wire.encode(wire.Filled(1, message.bucket)), house.now))
            house.take()
        asked[peer] = fills
    assert asked[b"\x00"] == list(range(512))
    assert asked[b"\x80"] == [*range(128, 256), *range(128), *range(256, 512)]


def test_a_peer_that_never_answers_is_asked_again_and_costs_nothing_else(house: House) -> None:
    house.pass_time(130)
    rounds = [message.round for to, message in house.sent if to == PEER and isinstance(message, wire.Query)]
    assert rounds == [1, 2, 3]
