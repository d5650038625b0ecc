"""A peer that asks us to close for it has lost its data, or at least has not just shown that it lost nothing."""

from __future__ import annotations

import hashlib

import pytest

from simulation.pair import Pair
from tallystick.channels.errors import Fault
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.hashchain import HashChain, stream_seed
from tallystick.channels.protocol.messages import CloseRequest, encode
from tallystick.channels.session.effects import CloseRequested, PeerNotice
from tallystick.channels.session.inputs import BeginStream, SubmitLock, SubmitUnits
from tallystick.channels.testing.clock import EPOCH
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.testing.world import open_world

SECRET = bytes(range(32))


@pytest.fixture
def pair() -> Pair:
    pair = Pair()
    pair.connect()
    pair.settle()
    return pair


def ask(pair: Pair) -> bool:
    """Alice asks Bob to close for her; return whether he lets his node decide."""
    pair.bob.events.clear()
    pair.inject(pair.bob, encode(CloseRequest(pair.id)))
    pair.settle()
    assert pair.faults == []
    return CloseRequested(pair.id) in pair.bob.events


def test_who_has_just_shown_the_newest_states_lost_nothing(pair: Pair) -> None:
    assert not ask(pair)
    for party in pair.parties:
        party.engine.pay(pair.id, 5)
    pair.settle()
    assert not ask(pair)
    pair.connect()
    pair.settle()
    assert not ask(pair) and pair.bob.channel.phase is Phase.OPEN
    told = [event for event in pair.alice.events if isinstance(event, PeerNotice)]
    assert [notice.code for notice in told] == [Fault.REFUSED] * 3 and "close with our consent" in told[0].text


def test_what_is_on_its_way_when_the_link_breaks_is_no_loss(pair: Pair) -> None:
    """Alice's update has arrived, its acknowledgement has not; Bob's has been signed, and has not left him."""
    pair.alice.engine.pay(pair.id, 5)
    pair.bob.apply(SubmitLock(7, int(EPOCH) + 900, hashlib.sha256(SECRET).digest()))
    pair.alice.step()
    pair.deliver(pair.bob)
    pair.bob.step()
    pair.connect()
    for _ in range(10):
        for party in pair.parties:
            party.step()
        pair.deliver(pair.bob)
        pair.deliver(pair.alice)
    assert not ask(pair)


@pytest.mark.parametrize("amounts", [(5, 0), (0, 5), (5, 5)])
def test_who_shows_less_than_it_signed_is_believed(pair: Pair, amounts: tuple[int, int]) -> None:
    image = pair.alice.disk.image()
    for party, amount in zip(pair.parties, amounts, strict=True):
        if amount:
            party.engine.pay(pair.id, amount)
            pair.settle()
    pair.disconnect()
    pair.alice.restore(image)
    pair.alice.start()
    pair.bob.events.clear()
    pair.connect()
    pair.settle()
    assert pair.alice.channel.phase is Phase.RECOVERING and CloseRequested(pair.id) in pair.bob.events


def test_who_has_not_greeted_may_know_nothing_of_the_channel_any_more(pair: Pair) -> None:
    pair.connect()
    assert ask(pair)


def test_who_does_not_show_a_link_that_it_released_is_believed(pair: Pair) -> None:
    chain = HashChain.built(stream_seed(pair.alice.key, pair.id, 0), 100)
    stream = pair.alice.apply(BeginStream(chain, 3, int(EPOCH) + 10_000))
    pair.settle()
    pair.alice.apply(SubmitUnits(stream.lock, stream.condition, 5))
    pair.settle()
    assert not ask(pair)
    pair.connect()
    pair.settle()
    assert not ask(pair), "the payer repeats its newest link"
    stream.released = 0
    pair.connect()
    for _ in range(3):
        for party in pair.parties:
            party.step()
        pair.deliver(pair.bob)
    assert pair.bob.session.ready and pair.bob.session.streams.is_forgotten
    pair.inject(pair.bob, encode(CloseRequest(pair.id)))
    pair.bob.step()
    assert CloseRequested(pair.id) in pair.bob.events


def test_a_node_does_not_close_at_its_own_cost_for_a_peer_that_lost_nothing() -> None:
    async def main() -> None:
        async with open_world(3) as world:
            hub, mallory = await world.start("alice"), await world.start("mallory")
            channel = await mallory.open_channel(world.address("alice"), 10**7)
            await channel.pay(1)
            mallory.engine.send(bytes(hub.key.public), CloseRequest(channel.id))
            await world.blocks(5)
            assert hub.channel(channel.id).phase is Phase.OPEN
            await channel.pay(1)

    simulate(main, 3)
