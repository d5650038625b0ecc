"""The rules of gossip: what is believed, what is refused, what a flood can do (nothing), and that all come to agree."""

from __future__ import annotations

import msgspec
import pytest

from simulation.gossip_fixtures import DOMAIN, ChainTruth, person
from simulation.gossip_house import NOW, OTHER, PEER, House
from tallystick.channels.errors import InvalidSignature, MalformedMessage
from tallystick.router.errors import GossipRefused
from tallystick.router.gossip import wire
from tallystick.router.gossip.announcements import Description, sign_node
from tallystick.router.gossip.policy import DAY
from tallystick.router.gossip.private_updates import encode_update
from tallystick.router.objects import ForwardingPolicy

ANN, BEA, CAL, DEE = map(person, range(1, 5))


@pytest.fixture
def truth() -> ChainTruth:
    return ChainTruth()


@pytest.fixture
def house(truth: ChainTruth) -> House:
    return House(truth)


# --- what is believed ---------------------------------------------------------------------------------------------


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
    house.hear(sign_node(BEA, DOMAIN, NOW, Description("Bea")))
    assert set(house.graph()) == {(channel, bytes(ANN.public))}
    house.check()


def test_an_unknown_channel_is_asked_about_once_and_its_update_waits(truth: ChainTruth) -> None:
    house = House(truth)
    channel = truth.open(ANN, BEA)
    for side in (0, 1):
        for peer in (PEER, OTHER):
            list(house.gossip.receiving(peer, wire.frames([truth.update(channel, side, NOW)])[0], NOW))
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
    house.hear(sign_node(BEA, DOMAIN, NOW, Description("Bea")), sign_node(ANN, DOMAIN, NOW, Description("Ann")))
    assert len(house.contents()) == 6
    house.gossip.on_closed(channel, house.now)
    house.take()
    assert {edge.channel for edge in house.graph().values()} == {other}
    assert len(house.contents()) == 3  # and Bea, who has no other channel, is gone
    house.hear(truth.update(channel, 0, NOW + 1))  # an answer that was on its way does no harm either
    house.gossip.answer(channel, truth.facts(channel), house.now)
    assert len(house.contents()) == 3
    house.check()


def test_a_close_that_overtakes_the_chains_answer_wins(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    list(house.gossip.receiving(PEER, wire.frames([truth.update(channel, 0, NOW)])[0], NOW))
    assert house.gossip.pending.next_question(NOW) == channel
    facts = truth.facts(channel)
    house.gossip.on_closed(channel, NOW)
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
    house.gossip.on_opened(channel, house.now)
    house.pass_time(7)
    assert {to for to, message in house.sent if isinstance(message, wire.Query)} == {PEER, OTHER}
    house.hear(truth.update(channel, 0, NOW))
    assert len(house.contents()) == 1


# --- what is refused ----------------------------------------------------------------------------------------------


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
    list(house.gossip.receiving(OTHER, wire.frames([truth.update(channel, 0, NOW + 9, signer=CAL)])[0], NOW))
    house.hear(truth.update(channel, 0, NOW), peer=PEER)
    assert (house.faults, len(house.contents())) == ([OTHER], 1)


def test_a_wrong_signature_is_the_peers_fault(truth: ChainTruth, house: House) -> None:
    known, unknown = truth.open(ANN, BEA), truth.open(ANN, CAL)
    house.hear(truth.update(known, 0, NOW))
    for channel in (known, unknown):
        forged = msgspec.structs.replace(truth.update(channel, 0, NOW + 1), signature=bytes([1]) * 64)
        with pytest.raises(InvalidSignature):
            house.hear(forged)
    name = msgspec.structs.replace(sign_node(ANN, DOMAIN, NOW, Description()), alias="Mallory")
    with pytest.raises(InvalidSignature):
        house.hear(name)
    with pytest.raises(MalformedMessage):
        list(house.gossip.receiving(PEER, b"junk", NOW))
    assert len(house.contents()) == 1


def test_what_is_too_old_or_from_the_future_is_dropped_without_blame(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    house.hear(truth.update(channel, 0, NOW - 14 * DAY), truth.update(channel, 1, NOW + 601))
    assert (house.contents(), house.faults, house.gossip.statistics().refused) == ({}, [], 2)
    house.hear(truth.update(channel, 0, NOW - 14 * DAY + 1), truth.update(channel, 1, NOW + 600))
    assert len(house.contents()) == 2


def test_a_name_without_a_channel_is_not_kept(truth: ChainTruth, house: House) -> None:
    house.hear(sign_node(ANN, DOMAIN, NOW, Description("Ann")))
    assert (house.contents(), house.faults) == ({}, [])


def test_what_is_not_renewed_is_dropped_after_two_weeks(truth: ChainTruth, house: House) -> None:
    channel = truth.open(ANN, BEA)
    house.hear(truth.update(channel, 0, NOW), truth.update(channel, 1, NOW - DAY))
    house.hear(sign_node(ANN, DOMAIN, NOW, Description()))
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


# --- what failures carry ------------------------------------------------------------------------------------------


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
    assert house.gossip.own.said_of(channel) == b""
    house.gossip.announce(channel, ForwardingPolicy(base_fee=4), house.now)
    house.pass_time(2)
    there = house.gossip.own.said_of(channel)
    payer = House(truth)
    payer.hear(*(truth.update(channel, side, NOW - 5) for side in (0, 1)))
    learned = payer.gossip.learn(there, payer.now + 5)
    assert learned is not None and learned.policy.base_fee == 4
