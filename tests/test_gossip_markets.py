"""What makers tell the network: signed, bounded, short-lived, kept while the maker has a channel, the same for all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eth_account.messages import _hash_eip191_message, encode_typed_data  # isort: skip
from simulation.gossip_fixtures import CHAIN_ID, CONTRACT, DOMAIN, ChainTruth, person
from simulation.gossip_house import NOW, OTHER, PEER, House
from tallystick.channels.errors import InvalidInput, InvalidSignature
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.testing.memory import MemoryDisk
from tallystick.router.errors import GossipRefused
from tallystick.router.gossip import wire
from tallystick.router.gossip.announcements import TYPES, digest_of, sign_market
from tallystick.router.gossip.markets import (
    MARKET_LIFE_MAX,
    OFFERS_MAX,
    MarketAnnouncement,
    MarketId,
    MarketOffer,
)
from tallystick.router.gossip.schema import GOSSIP, GossipChanged, load_announcements
from tallystick.router.gossip.store import AnnouncementForgotten, KeptAnnouncement
from tallystick.router.objects import NodeKey

ANN, BEA, CAL, DEE = map(person, range(1, 5))
THERE = Address(bytes([7]) * 20)
AMOUNTS = st.integers(0, 2**128 - 1)
ADDRESSES = st.binary(min_size=20, max_size=20).map(Address)


def offer(number: int = 0, **values: Any) -> MarketOffer:
    named = {"asset": NATIVE, "chain": number, "contract": THERE, "target": NATIVE, "take": 3, "give": 2, "base": 7}
    return MarketOffer(**{**named, "least": 1, "most": 1_000, "route_base": 0, "route_ppm": 0, "margin": 900, **values})


def market(key: Any = ANN, timestamp: int = NOW, life: int = 1_800, offers: Any = None) -> MarketAnnouncement:
    return sign_market(key, DOMAIN, timestamp, timestamp + life, (offer(),) if offers is None else offers)


@pytest.fixture
def truth() -> ChainTruth:
    return ChainTruth()


@pytest.fixture
def house(truth: ChainTruth) -> House:
    """One that knows a channel of Ann and Bea."""
    made = House(truth)
    channel = truth.open(ANN, BEA, capacity=500)
    made.hear(truth.update(channel, 0, NOW), truth.update(channel, 1, NOW))
    return made


def known(house: House, date: float | None = None) -> list[MarketAnnouncement]:
    return house.gossip.store.markets(house.now if date is None else date)


OFFERS = st.builds(
    lambda least, more, **values: MarketOffer(least=least, most=max(least, more), **values),
    least=st.integers(1, 2**128 - 1),
    more=AMOUNTS,
    asset=ADDRESSES,
    chain=st.integers(0, 2**64 - 1),
    contract=ADDRESSES,
    target=ADDRESSES,
    take=st.integers(1, 2**128 - 1),
    give=st.integers(1, 2**128 - 1),
    base=AMOUNTS,
    route_base=AMOUNTS,
    route_ppm=AMOUNTS,
    margin=st.integers(0, 2**32 - 1),
)


@given(st.lists(OFFERS, max_size=4, unique_by=lambda each: each.asset), st.integers(0, 2**40), st.integers(0, 3_600))
@settings(max_examples=60, deadline=None)
def test_the_digest_of_a_market_is_that_of_eip712(offers: list[MarketOffer], time: int, life: int) -> None:
    said = MarketAnnouncement(NodeKey(bytes(ANN.public)), time, time + life, tuple(sorted(offers)))
    domain = {"name": "Tallystick", "version": "1", "chainId": CHAIN_ID, "verifyingContract": "0x" + CONTRACT.hex()}
    names = [field["name"] for field in TYPES["MarketOffer"]]
    plain = [
        {
            name: "0x" + value.hex() if isinstance(value, bytes) else value
            for name, value in zip(names, each, strict=True)
        }
        for each in map(msgspec.structs.astuple, said.offers)
    ]
    values = {"key": said.key, "timestamp": said.timestamp, "until": said.until, "offers": plain}
    types = {name: TYPES[name] for name in ("MarketAnnouncement", "MarketOffer")}
    assert digest_of(DOMAIN, said) == bytes(_hash_eip191_message(encode_typed_data(domain, types, values)))
    [frame] = wire.frames([said])
    assert wire.decode(frame) == wire.Markets((said,))


def test_a_market_is_kept_told_on_and_replaced_by_a_newer_one(house: House) -> None:
    first, second = market(), market(timestamp=NOW + 1, offers=(offer(take=4),))
    house.hear(first)
    house.pass_time(2)
    assert known(house) == [first] and house.relayed(OTHER)[-1] == first and first not in house.relayed(PEER)
    house.hear(second)
    house.hear(first)
    assert known(house) == [second], "an older one changes nothing"


def test_a_market_of_a_node_without_a_channel_is_refused_and_forgotten_with_the_last_one(
    truth: ChainTruth, house: House
) -> None:
    house.hear(market(CAL))
    assert known(house) == [] and house.gossip.statistics().refused == 1
    house.hear(market())
    [channel] = house.gossip.store.verified_since(0)
    house.gossip.on_closed(channel, house.now)
    assert known(house) == []
    assert AnnouncementForgotten(MarketId(NodeKey(bytes(ANN.public)))) in house.take().changes


def test_a_market_counts_until_it_ends_and_is_swept_then(house: House) -> None:
    house.hear(market(life=300))
    assert known(house, NOW + 300) and not known(house, NOW + 301)
    house.pass_time(301)
    house.pass_time(520)
    assert house.gossip.store.get(MarketId(NodeKey(bytes(ANN.public)))) is None
    house.hear(market(life=300))
    assert house.gossip.store.get(MarketId(NodeKey(bytes(ANN.public)))) is None, "what has ended is not taken in"


def test_a_forged_market_and_one_that_cannot_be_is_the_peers_fault(house: House) -> None:
    for forged in (
        msgspec.structs.replace(market(), until=NOW + 5),
        msgspec.structs.replace(market(), offers=(offer(take=1),)),
    ):
        with pytest.raises(InvalidSignature):
            house.hear(forged)
    for flaw in (
        {"until": NOW + MARKET_LIFE_MAX + 1},
        {"timestamp": NOW + 5, "until": NOW + 4},
        {"offers": (offer(2), offer(1))},
        {"offers": (offer(1), offer(1, take=9))},
        {"offers": (offer(least=5, most=4),)},
        {"offers": (offer(margin=2**32),)},
        {"offers": (offer(chain=2**64),)},
    ):
        with pytest.raises(GossipRefused):
            house.hear(msgspec.structs.replace(market(), **flaw))
    with pytest.raises(GossipRefused):
        sign_market(ANN, DOMAIN, 0, 0, (offer(2), offer(1)))
    frame = wire.encode(wire.Markets((market(offers=tuple(map(offer, range(OFFERS_MAX)))),)))
    assert len(frame) < 4_200
    assert known(house) == []


def test_a_market_may_change_as_often_as_any_announcement_and_no_more(house: House) -> None:
    for number in range(10):
        house.hear(market(timestamp=NOW + number, offers=(offer(take=number + 1),)))
    [said] = known(house)
    assert said.offers[0].take == 7, "the first one, and six changes"


def test_of_too_many_makers_those_with_the_largest_channels_stay(truth: ChainTruth) -> None:
    house = House(truth, markets_max=2)
    for key, capacity in ((ANN, 100), (BEA, 300), (CAL, 200)):
        channel = truth.open(key, DEE, capacity=capacity)
        house.hear(*(truth.update(channel, side, NOW) for side in (0, 1)))
    kept = {key: market(key) for key in (ANN, BEA, CAL)}
    for key in (ANN, BEA, CAL):
        house.hear(kept[key])
    assert {said.key for said in known(house)} == {bytes(BEA.public), bytes(CAL.public)}
    house.hear(kept[ANN])
    assert {said.key for said in known(house)} == {bytes(BEA.public), bytes(CAL.public)}


def test_our_own_market_is_renewed_changed_and_taken_back(truth: ChainTruth) -> None:
    house = House(truth)
    own = person(99)
    channel = truth.open(own, BEA, capacity=500)
    house.gossip.own.offer((offer(2), offer(1)))
    house.pass_time(5)
    assert known(house) == [], "without a channel nobody would take it"
    house.hear(*(truth.update(channel, side, NOW) for side in (0, 1)))
    house.pass_time(61)
    [first] = known(house)
    assert [each.chain for each in first.offers] == [1, 2] and first.until - first.timestamp == 1_800
    house.pass_time(700)
    [second] = known(house)
    assert second.timestamp >= first.timestamp + 600 and second.offers == first.offers
    house.gossip.own.offer(())
    house.pass_time(2)
    assert [said.offers for said in known(house)] == [()]
    house.pass_time(700)
    assert [said.timestamp for said in known(house)] == [house.gossip.store.markets(0)[0].timestamp]
    with pytest.raises(InvalidInput, match="one for each pair"):
        house.gossip.own.offer((offer(1), offer(1, take=8)))
    house.pass_time(2_000)
    assert known(house) == []


def test_what_two_houses_were_told_differently_reconciliation_brings_to_the_other(truth: ChainTruth) -> None:
    one, other = House(truth, 98), House(truth, 99)
    channel = truth.open(ANN, BEA, capacity=500)
    for each in (one, other):
        each.hear(*(truth.update(channel, side, NOW) for side in (0, 1)))
    one.hear(market())
    bucket = 256 + bytes(ANN.public)[1]
    frame = wire.encode(wire.Fill(1, bucket, b""))
    list(one.gossip.receiving(PEER, frame, one.now))
    one.take()
    answers = [message for _, message in one.sent if isinstance(message, wire.Markets)]
    assert answers == [wire.Markets((market(),))]
    other.hear(market())
    assert one.gossip.store.buckets.digests() == other.gossip.store.buckets.digests()


def test_markets_are_on_disk_and_forgotten_there(house: House) -> None:
    store = MemoryDisk([GOSSIP]).open()
    said = market()
    store.commit([GossipChanged((KeptAnnouncement(said, digest_of(DOMAIN, said)),))])
    assert [kept.announcement for kept in load_announcements(store)] == [said]
    store.commit([GossipChanged((AnnouncementForgotten(MarketId(said.key)),))])
    assert list(load_announcements(store)) == []
