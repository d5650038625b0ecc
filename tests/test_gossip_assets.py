"""Gossip of channels in many assets: each is told with its own, and no flood pushes out what a node can use."""

from __future__ import annotations

import random

import pytest

from simulation.gossip_fixtures import DOMAIN, ChainTruth, person
from simulation.gossip_network import divide_and_heal
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.channels.storage.store import Moment, Subject
from tallystick.channels.storage.tables import Rows
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.gossip import wire
from tallystick.router.gossip.core import Gossip
from tallystick.router.gossip.policy import GossipPolicy
from tallystick.router.gossip.quota import ChannelQuota
from tallystick.router.gossip.schema import GOSSIP, GossipChanged, load_gossip_channels
from tallystick.router.gossip.store import ChannelFacts, EdgeKnown, FactsKept, GossipStore
from tallystick.router.sqlite import GOSSIP_SCHEMA

NOW = 1_750_000_000
ANN, BEA = person(1), person(2)
PEER = b"peer"
GOLD, SILVER, JUNK = (Address(bytes([number]) * 20) for number in (1, 2, 3))


def channel(number: int) -> ChannelId:
    return ChannelId(number.to_bytes(32, "big"))


def a_gossip(**limits: int) -> Gossip:
    gossip = Gossip(person(99), DOMAIN, GossipPolicy(**limits))
    gossip.on_connected(PEER, NOW)
    return gossip


def hear(gossip: Gossip, truth: ChainTruth, *channels: ChannelId) -> list[EdgeKnown]:
    """Let a peer tell of both directions of channels, and the chain answer; return the edges that were told."""
    updates = [truth.update(each, side, NOW) for each in channels for side in (0, 1)]
    for frame in wire.frames(list(updates)):
        list(gossip.receiving(PEER, frame, NOW))
    while (asked := gossip.pending.next_question(NOW)) is not None:
        gossip.answer(asked, truth.facts(asked), NOW)
    return [event for event in gossip.take().events if isinstance(event, EdgeKnown)]


# --- what is told ----------------------------------------------------------------------------------------------------


def test_an_edge_is_told_with_the_asset_that_the_chain_says_its_channel_carries() -> None:
    truth, gossip = ChainTruth(), a_gossip()
    coins, gold = truth.open(ANN, BEA), truth.open(ANN, BEA, asset=GOLD)
    told = hear(gossip, truth, coins, gold)
    assert {(event.edge.channel, event.asset) for event in told} == {(coins, NATIVE), (gold, GOLD)}
    assert {key[0] for key in gossip.store.edges(GOLD)} == {gold}
    assert {key[0] for key in gossip.store.edges(NATIVE)} == {coins}
    assert len(gossip.store.edges()) == 4


def test_a_land_of_several_assets_agrees_after_it_was_divided() -> None:
    statistics = simulate(divide_and_heal, 5, 5, 10, (NATIVE, GOLD, SILVER))
    assert all(figures.rounds > 0 for figures in statistics)


# --- floods ----------------------------------------------------------------------------------------------------------


def test_a_flood_of_channels_in_worthless_tokens_pushes_out_nothing_that_the_node_can_use() -> None:
    truth, gossip = ChainTruth(), a_gossip(channels_max=3, asset_channels_max=2)
    gossip.store.prefer([GOLD])
    useful = [truth.open(ANN, BEA, capacity=5, number=number) for number in range(3)]
    useful += [truth.open(ANN, BEA, capacity=5, number=number, asset=GOLD) for number in range(2)]
    hear(gossip, truth, *useful)
    tokens = [Address(bytes([number]) * 20) for number in range(10, 30)]
    flood = [truth.open(ANN, BEA, capacity=2**120, asset=token) for token in tokens]
    hear(gossip, truth, *flood)
    kept = {key[0] for key in gossip.store.edges()}
    assert kept >= set(useful)
    assert len(kept) == len(useful) + 2 == len(gossip.store)


def test_an_asset_that_becomes_of_use_gets_room_of_its_own_and_loses_it_with_its_use() -> None:
    store = GossipStore(native=2, other=2, makers=2)
    store.prefer([GOLD])
    for number in range(2):
        assert store.put_channel(channel(number), ChannelFacts((ANN.address, BEA.address), 10, GOLD), NOW)
        assert store.put_channel(channel(10 + number), ChannelFacts((ANN.address, BEA.address), 50, JUNK), NOW)
    assert not store.put_channel(channel(20), ChannelFacts((ANN.address, BEA.address), 9, JUNK), NOW)
    assert len(store) == 4
    store.prefer([GOLD, SILVER])
    assert len(store) == 4
    store.prefer([])
    assert [store.facts(channel(number)) is not None for number in (0, 1, 10, 11)] == [False, False, True, True]
    store.prefer([GOLD, JUNK])
    assert store.put_channel(channel(0), ChannelFacts((ANN.address, BEA.address), 1, GOLD), NOW)


def test_a_channel_that_grew_competes_with_its_new_capacity() -> None:
    quota = ChannelQuota(native=2, other=0)
    assert [quota.put(channel(number), NATIVE, 10 + number) for number in (1, 2)] == [[], []]
    assert quota.put(channel(1), NATIVE, 100) == []
    assert quota.put(channel(3), NATIVE, 50) == [channel(2)]
    assert quota.put(channel(4), NATIVE, 50) == [channel(3)], "of two with one capacity, the higher id stays"
    assert quota.put(channel(5), GOLD, 2**100) is None


@pytest.mark.parametrize("seed", range(5))
def test_which_channels_stay_does_not_depend_on_the_order_in_which_they_came(seed: int) -> None:
    rng = random.Random(seed)
    offers = [(channel(number), rng.choice((NATIVE, GOLD, SILVER, JUNK)), rng.randrange(20)) for number in range(60)]

    def outcome() -> set[ChannelId]:
        rng.shuffle(offers)
        quota, here = ChannelQuota(native=6, other=4), set[ChannelId]()
        quota.prefer([GOLD])
        for each, asset, capacity in offers:
            poorer = quota.put(each, asset, capacity)
            if poorer is not None:
                here = (here - set(poorer)) | {each}
        return here

    first = outcome()
    assert len(first) == 6 + 4 + 4
    assert all(outcome() == first for _ in range(10))


# --- the disk --------------------------------------------------------------------------------------------------------


class OldRow(Moment, frozen=True):
    """A row as it was written before there were other assets than the coin."""

    channel: ChannelId
    participants: tuple[Address, Address]
    capacity: int


_OLD_FACTS: Codec[tuple[tuple[bytes, bytes], int]] = Codec(tuple[tuple[bytes, bytes], int])


def _write_old(rows: Rows, row: OldRow) -> None:
    facts = _OLD_FACTS.encode((row.participants, row.capacity))
    rows.add(GOSSIP.tables[0], row.channel, facts, 6.0)


@pytest.mark.parametrize("capacity", [5, 2**100])
def test_the_asset_of_a_channel_is_stored_and_rows_from_before_there_were_others_are_of_the_coin(capacity: int) -> None:
    ends = (ANN.address, BEA.address)
    disk = SimulatedDisk([GOSSIP_SCHEMA, Schema(Subject("old", (), {OldRow: _write_old}), ())])
    kept = FactsKept(channel(1), ChannelFacts(ends, capacity, GOLD), 5.0)
    disk.open().commit([GossipChanged((kept,)), OldRow(channel(2), ends, capacity)])
    old = FactsKept(channel(2), ChannelFacts(ends, capacity, NATIVE), 6.0)
    assert list(load_gossip_channels(disk.open())) == [kept, old]
