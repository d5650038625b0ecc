"""The rules of gossip: what is believed, what is refused, what a flood can do (nothing), and that all come to agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.gossip_fixtures import DOMAIN, ChainTruth, person
from tallystick.channels.errors import InvalidInput, InvalidSignature, MalformedMessage
from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.errors import GossipRefused
from tallystick.router.gossip import wire
from tallystick.router.gossip.announcements import Announcement, ChannelUpdate, sign_node
from tallystick.router.gossip.core import Gossip, GossipEffects
from tallystick.router.gossip.own_announcements import Description
from tallystick.router.gossip.policy import DAY, GossipPolicy
from tallystick.router.gossip.private_updates import encode_update
from tallystick.router.gossip.store import ChannelDropped, EdgeKnown, GraphEvent, item_of
from tallystick.router.objects import Edge, ForwardingPolicy

NOW = 1_750_000_000
ANN, BEA, CAL, DEE = map(person, range(1, 5))
PEER, OTHER = b"peer", b"other"


class House:
    """One node's gossip, whose questions are answered at once unless told otherwise."""

    def __init__(self, truth: ChainTruth, number: int = 99, **policy: Any) -> None:
        self.truth = truth
        self.gossip = Gossip(person(number), DOMAIN, GossipPolicy(**policy))
        self.told: list[GraphEvent] = []
        self.sent: list[tuple[bytes, wire.Message]] = []
        self.faults: list[bytes] = []
        self.now = float(NOW)
        for peer in (PEER, OTHER):
            self.gossip.connected(peer, self.now)

    def take(self) -> GossipEffects:
        effects = self.gossip.take()
        self.told += effects.events
        self.sent += [(peer, wire.decode(frame)) for peer, frame in effects.frames]
        self.faults += [peer for peer, _ in effects.faults]
        return effects

    def answer(self) -> int:
        """Let the chain answer all questions; return how many there were."""
        asked = 0
        while (channel := self.gossip.next_question(self.now)) is not None:
            asked += 1
            self.gossip.answer(channel, self.truth.facts(channel), self.now)
        self.take()
        return asked

    def hear(self, *announcements: Announcement, peer: bytes = PEER) -> None:
        for frame in wire.frames(list(announcements)):
            self.gossip.receive(peer, frame, self.now)
        self.answer()

    def pass_time(self, seconds: float, step: float = 1) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += step
            self.gossip.tick(self.now)
            self.answer()

    def relayed(self, peer: bytes) -> list[Announcement]:
        found: list[Announcement] = []
        for to, message in self.sent:
            if to == peer and isinstance(message, wire.Updates):
                found += message.updates
            elif to == peer and isinstance(message, wire.Nodes):
                found += message.nodes
        return found

    def graph(self) -> dict[tuple[ChannelId, bytes], Edge]:
        """What a path search that heard the events sees."""
        edges: dict[tuple[ChannelId, bytes], Edge] = {}
        for event in self.told:
            if isinstance(event, EdgeKnown):
                edges[event.edge.channel, event.edge.source] = event.edge
            else:
                edges = {key: edge for key, edge in edges.items() if key[0] != event.channel}
        return edges

    def contents(self) -> dict[Any, bytes]:
        buckets, store = self.gossip.store.buckets, self.gossip.store
        found = {}
        for number in range(512):
            for item in buckets.items(number):
                kept = store.get(item)
                assert kept is not None
                found[item] = kept.digest
        return found

    def check(self) -> None:
        """The incremental graph is the one computed from scratch (I10)."""
        scratch = {(edge.channel, bytes(edge.source)): edge for edge in self.gossip.store.edges().values()}
        assert self.graph() == scratch


@pytest.fixture
def truth() -> ChainTruth:
    return ChainTruth()


@pytest.fixture
def house(truth: ChainTruth) -> House:
    return House(truth)


# --- what is believed ------------------------------------------------------------------------------------------------


def test_a_direction_is_an_edge_once_its_policy_and_the_other_ends_key_are_known(
    truth: ChainTruth, house: House
) -> None:
    channel = truth.open(ANN, BEA, capacity=500)
    keys = [bytes(owner.public) for owner in truth.owners[channel]]
    house.hear(truth.update(channel, 0, NOW, base_fee=7))
    assert house.graph() == {}
    house.hear(truth.update(channel, 1, NOW))
    edges = house.graph()
    assert set(edges) == {(channel, keys[0]), (channel, keys[1])}
    edge = edges[channel, keys[0]]
    assert (edge.target, edge.capacity, edge.policy.base_fee) == (keys[1], 500, 7)
    house.check()


def test_a_name_makes_the_other_ends_key_known_too(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    side = truth.owners[channel].index(ANN)
    house.hear(truth.update(channel, side, NOW))
    house.hear(sign_node(BEA, DOMAIN, NOW, alias="Bea"))
    assert set(house.graph()) == {(channel, bytes(ANN.public))}
    house.check()


def test_an_unknown_channel_is_asked_about_once_and_its_update_waits(truth: ChainTruth) -> None:
    house = House(truth)
    channel = truth.open(ANN, BEA)
    for side in (0, 1):
        for peer in (PEER, OTHER):
            house.gossip.receive(peer, wire.frames([truth.update(channel, side, NOW)])[0], NOW)
    assert house.gossip.statistics().announcements == 0
    assert house.answer() == 1
    assert house.gossip.statistics().announcements == 2
    assert len(house.graph()) == 2


@pytest.mark.parametrize("spoil", ["never opened", "closed"])
def test_an_update_of_a_channel_that_the_chain_does_not_confirm_is_dropped(
    truth: ChainTruth, house: House, spoil: str
) -> None:
    channel = truth.open(ANN, BEA)
    update = truth.update(channel, 0, NOW)
    if spoil == "closed":
        truth.close(channel)
    else:
        del truth.views[channel]
    house.hear(update)
    assert (len(house.gossip.store), house.gossip.statistics().refused, house.faults) == (0, 1, [])
    assert house.answer() == 0
    house.hear(update)  # known to be none for a while: the chain is not asked again
    assert house.gossip.statistics().pending == 0


def test_a_channel_that_is_closed_on_chain_is_removed_and_stays_removed(truth: ChainTruth, house: House) -> None:
    channel, other = truth.open(ANN, BEA), truth.open(ANN, CAL)
    for each in (channel, other):
        house.hear(truth.update(each, 0, NOW), truth.update(each, 1, NOW))
    house.hear(sign_node(BEA, DOMAIN, NOW, alias="Bea"), sign_node(ANN, DOMAIN, NOW, alias="Ann"))
    assert len(house.contents()) == 6
    house.gossip.closed(channel, house.now)
    house.take()
    assert {edge.channel for edge in house.graph().values()} == {other}
    assert len(house.contents()) == 3  # and Bea, who has no other channel, is gone
    house.hear(truth.update(channel, 0, NOW + 1))  # an answer that was on its way does no harm either
    house.gossip.answer(channel, truth.facts(channel), house.now)
    assert len(house.contents()) == 3
    house.check()


def test_a_close_that_overtakes_the_chains_answer_wins(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    house.gossip.receive(PEER, wire.frames([truth.update(channel, 0, NOW)])[0], NOW)
    assert house.gossip.next_question(NOW) == channel
    facts = truth.facts(channel)
    house.gossip.closed(channel, NOW)
    house.gossip.answer(channel, facts, NOW)
    assert house.contents() == {}


def test_new_funding_changes_the_capacity(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA, capacity=5)
    house.hear(truth.update(channel, 0, NOW), truth.update(channel, 1, NOW))
    truth.views[channel] = msgspec.structs.replace(truth.views[channel], deposits=(5, 10), withdrawn=(1, 0))
    house.gossip.recheck(channel)
    house.answer()
    assert {edge.capacity for edge in house.graph().values()} == {14}
    house.check()


def test_what_was_refused_before_its_opening_was_seen_is_fetched_soon_after(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    view = truth.views.pop(channel)
    house.pass_time(2)
    house.hear(truth.update(channel, 0, NOW))
    truth.views[channel] = view
    house.sent.clear()
    house.gossip.opened(channel, house.now)
    house.pass_time(7)
    assert {to for to, message in house.sent if isinstance(message, wire.Query)} == {PEER, OTHER}
    house.hear(truth.update(channel, 0, NOW))
    assert len(house.contents()) == 1


# --- what is refused -------------------------------------------------------------------------------------------------


def test_an_update_by_somebody_else_is_the_peers_fault_at_once_or_when_the_chain_answers(
    truth: ChainTruth, house: House
) -> None:
    channel = truth.open(ANN, BEA)
    forged = truth.update(channel, 0, NOW + 5, signer=CAL)
    swapped = truth.update(channel, 0, NOW + 5, signer=truth.owners[channel][1])
    house.hear(forged, peer=OTHER)
    assert (house.faults, house.contents()) == ([OTHER], {})
    house.hear(truth.update(channel, 0, NOW))
    for bad in (forged, swapped):
        with pytest.raises(GossipRefused, match="participant"):
            house.hear(bad)
    assert house.faults == [OTHER]
    assert len(house.contents()) == 1


def test_a_forged_update_does_not_keep_an_honest_one_from_waiting(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    house.gossip.receive(OTHER, wire.frames([truth.update(channel, 0, NOW + 9, signer=CAL)])[0], NOW)
    house.hear(truth.update(channel, 0, NOW), peer=PEER)
    assert (house.faults, len(house.contents())) == ([OTHER], 1)


def test_a_wrong_signature_is_the_peers_fault(truth: ChainTruth, house: House) -> None:
    known, unknown = truth.open(ANN, BEA), truth.open(ANN, CAL)
    house.hear(truth.update(known, 0, NOW))
    for channel in (known, unknown):
        forged = msgspec.structs.replace(truth.update(channel, 0, NOW + 1), signature=bytes([1]) * 64)
        with pytest.raises(InvalidSignature):
            house.hear(forged)
    name = msgspec.structs.replace(sign_node(ANN, DOMAIN, NOW), alias="Mallory")
    with pytest.raises(InvalidSignature):
        house.hear(name)
    with pytest.raises(MalformedMessage):
        house.gossip.receive(PEER, b"junk", NOW)
    assert len(house.contents()) == 1


def test_what_is_too_old_or_from_the_future_is_dropped_without_blame(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    house.hear(truth.update(channel, 0, NOW - 14 * DAY), truth.update(channel, 1, NOW + 601))
    assert (house.contents(), house.faults, house.gossip.statistics().refused) == ({}, [], 2)
    house.hear(truth.update(channel, 0, NOW - 14 * DAY + 1), truth.update(channel, 1, NOW + 600))
    assert len(house.contents()) == 2


def test_a_name_without_a_channel_is_not_kept(truth: ChainTruth, house: House) -> None:
    house.hear(sign_node(ANN, DOMAIN, NOW, alias="Ann"))
    assert (house.contents(), house.faults) == ({}, [])


def test_what_is_not_renewed_is_dropped_after_two_weeks(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    house.hear(truth.update(channel, 0, NOW), truth.update(channel, 1, NOW - DAY))
    house.hear(sign_node(ANN, DOMAIN, NOW))
    house.pass_time(13 * DAY + 600, step=300)
    house.pass_time(600)
    side_of_ann = truth.owners[channel].index(ANN)
    assert len(house.contents()) == 2
    assert (channel, 1) not in house.contents()
    assert len(house.graph()) == (1 if side_of_ann == 1 else 0)  # routable still, if the other end's name is known
    house.check()
    house.pass_time(DAY + 600, step=300)
    house.pass_time(600)
    assert (house.contents(), len(house.gossip.store), house.graph()) == ({}, 0, {})


# --- telling others --------------------------------------------------------------------------------------------------


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


# --- what failures carry ---------------------------------------------------------------------------------------------


def test_an_update_from_a_failure_changes_our_graph_and_nobody_is_told(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    house.hear(truth.update(channel, 0, NOW), truth.update(channel, 1, NOW))
    house.pass_time(2)
    before = house.contents()
    house.sent.clear()
    news = truth.update(channel, 0, NOW + 1, base_fee=9)
    assert house.gossip.learn(encode_update(news), house.now) == news
    house.pass_time(3)
    assert house.graph()[channel, bytes(news.key)].policy.base_fee == 9
    assert (house.contents(), house.relayed(PEER), house.relayed(OTHER)) == (before, [], [])
    assert house.gossip.learn(encode_update(news), house.now) is None  # no news any more
    assert house.gossip.learn(encode_update(truth.update(channel, 0, NOW, base_fee=5)), house.now) is None
    house.hear(news)  # when it comes as gossip, it is told on as all is
    house.pass_time(2)
    assert house.relayed(OTHER) == [news]
    house.check()


def test_an_update_from_a_failure_that_is_not_sound_is_ignored_and_uses_up_nothing(
    truth: ChainTruth, house: House
) -> None:
    channel, unknown = truth.open(ANN, BEA), truth.open(ANN, CAL)
    house.hear(truth.update(channel, 0, NOW), truth.update(channel, 1, NOW))
    bad = [
        truth.update(channel, 0, NOW + 1, signer=CAL),
        msgspec.structs.replace(truth.update(channel, 0, NOW + 1), signature=bytes([1]) * 64),
        truth.update(channel, 0, NOW + 700),
        truth.update(channel, 0, NOW - 14 * DAY),
        truth.update(unknown, 0, NOW),
    ]
    for each in [b"", b"junk", *(map(encode_update, bad * 5))]:
        assert house.gossip.learn(each, house.now) is None
    assert house.gossip.learn(encode_update(truth.update(channel, 0, NOW + 1)), house.now) is not None


def test_our_own_update_is_what_our_failures_carry(truth: ChainTruth) -> None:
    house = House(truth, number=1)
    channel = truth.open(ANN, BEA)
    assert house.gossip.update_of(channel) == b""
    house.gossip.announce(channel, ForwardingPolicy(base_fee=4), house.now)
    house.pass_time(2)
    there = house.gossip.update_of(channel)
    payer = House(truth)
    payer.hear(*(truth.update(channel, side, NOW - 5) for side in (0, 1)))
    learned = payer.gossip.learn(there, payer.now + 5)
    assert learned is not None and learned.policy.base_fee == 4


# --- our own announcements -------------------------------------------------------------------------------------------


def test_our_own_policy_is_said_when_the_chain_confirms_and_renewed_in_time(truth: ChainTruth) -> None:
    house = House(truth, number=1)
    channel = truth.open(ANN, BEA)
    view = truth.views.pop(channel)
    house.gossip.announce(channel, ForwardingPolicy(base_fee=3), house.now)
    house.gossip.describe(Description("Ann", ("ann.example:7735",)))
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
        house.gossip.describe(Description("Ann", ("nowhere",)))
    with pytest.raises(InvalidInput, match="addresses"):
        house.gossip.describe(Description("Ann", ("a:1",) * 5))


def test_a_channel_that_is_not_ours_is_never_announced(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    house.gossip.announce(channel, ForwardingPolicy(), house.now)
    house.pass_time(70)
    assert house.contents() == {}


# --- floods ----------------------------------------------------------------------------------------------------------


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
        house.gossip.receive(OTHER, wire.frames([update])[0], NOW)
    assert house.gossip.statistics().pending == 20
    house.gossip.receive(PEER, wire.frames([truth.update(channel, 0, NOW)])[0], NOW)
    asked = [house.gossip.next_question(NOW) for _ in range(2)]
    assert channel in asked  # peers take turns: nobody waits behind a flood
    for question in asked:
        assert question is not None
        house.gossip.answer(question, truth.facts(question), NOW)
    house.answer()
    assert [item[0] for item in house.contents()] == [channel]


def test_two_floods_share_the_places_and_leave_some_for_others(truth: ChainTruth) -> None:
    house = House(truth, parked_per_peer=20, parked_max=30)
    house.gossip.connected(b"third", NOW)
    for salt, peer in enumerate((PEER, OTHER)):
        for update in flood(truth, 40, salt):
            house.gossip.receive(peer, wire.frames([update])[0], NOW)
    channels = [truth.open(ANN, BEA, number=number) for number in range(10)]
    for channel in channels:
        house.gossip.receive(b"third", wire.frames([truth.update(channel, 0, NOW)])[0], NOW)
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
    house.gossip.disconnected(PEER)
    house.gossip.connected(PEER, house.now)
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
        house.gossip.receive(PEER, wire.encode(wire.Query(number)), NOW)
    house.take()
    assert [m.round for _, m in house.sent if isinstance(m, wire.Summary)] == [0, 1]
    house.pass_time(60)
    assert [m.round for _, m in house.sent if isinstance(m, wire.Summary)] == [0, 1, 2, 3, 4]


def test_answers_that_were_not_asked_for_are_ignored(house: House) -> None:
    house.gossip.receive(PEER, wire.encode(wire.Summary(5, bytes([1]) * 8_192)), NOW)
    house.gossip.receive(PEER, wire.encode(wire.Filled(5, 1)), NOW)
    assert house.take().frames == []


def test_peers_are_asked_for_different_parts_first_and_for_names_last(truth: ChainTruth, house: House) -> None:
    house.gossip.connected(b"\x80", NOW)
    house.gossip.connected(b"\x00", NOW)
    house.pass_time(1)
    asked = {}
    for peer in (b"\x00", b"\x80"):
        house.sent.clear()
        house.gossip.receive(peer, wire.encode(wire.Summary(1, bytes(8_192))), house.now)
        house.take()
        fills = []
        while [message for _, message in house.sent if isinstance(message, wire.Fill)]:
            news, house.sent = [m for _, m in house.sent if isinstance(m, wire.Fill)], []
            fills += [message.bucket for message in news]
            for message in news:
                house.gossip.receive(peer, wire.encode(wire.Filled(1, message.bucket)), house.now)
            house.take()
        asked[peer] = fills
    assert asked[b"\x00"] == list(range(512))
    assert asked[b"\x80"] == [*range(128, 256), *range(128), *range(256, 512)]


def test_a_peer_that_never_answers_is_asked_again_and_costs_nothing_else(house: House) -> None:
    house.pass_time(130)
    rounds = [message.round for to, message in house.sent if to == PEER and isinstance(message, wire.Query)]
    assert rounds == [1, 2, 3]


# --- agreement -------------------------------------------------------------------------------------------------------

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
FACTS += [sign_node(key, DOMAIN, NOW + time, alias=f"{time}") for key in (ANN, BEA) for time in (0, 2)]


def feed(order: list[int]) -> House:
    house = House(WORLD, update_burst=100)
    for index in order:
        house.hear(FACTS[index])
        house.check()
    return house


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
            house.gossip.disconnected(peer)
        house.gossip.connected(b"user", house.now)
        for index in data.draw(st.lists(st.integers(0, len(FACTS) - 1), max_size=12)):
            house.hear(FACTS[index], peer=b"user")
        house.gossip.disconnected(b"user")
    lossy = data.draw(st.integers(0, 30))
    for first, second in [(0, 1), (1, 2)]:
        houses[first].gossip.connected(b"%d" % second, NOW)
        houses[second].gossip.connected(b"%d" % first, NOW)
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
            other.gossip.receive(b"%d" % index, wire.encode(message), other.now)
            deliver(houses, int(to), lost)


def test_a_dropped_channel_event_precedes_the_edges_that_stay(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    house.hear(truth.update(channel, 0, NOW), truth.update(channel, 1, NOW))
    house.hear(sign_node(ANN, DOMAIN, NOW), sign_node(BEA, DOMAIN, NOW))
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
            house.gossip.disconnected(PEER)
    assert steps == 2 and house.gossip.statistics().pending == 0
