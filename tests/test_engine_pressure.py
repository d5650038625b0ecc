"""Under load: what is not secured is capped and reported, who floods starves nobody, who does not read costs little."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from simulation.pair import CHAIN_ID, CONTRACT, Pair, Party
from tallystick.channels.errors import ChannelNotReady
from tallystick.channels.limits import BATCH_PAYMENTS_MAX, Policy
from tallystick.channels.protocol.core import Phase, new_channel
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.messages import Funding, Update, decode
from tallystick.channels.protocol.objects import NATIVE, ChannelId, Terms
from tallystick.channels.session.inputs import FundingConfirmed, PhaseReached

CAROL = PrivateKey(b"\x33" * 32)


def connected(policy: Policy) -> Pair:
    pair = Pair((10**9, 10**9), policy=policy)
    pair.connect()
    pair.settle()
    return pair


class Carol:
    """A peer of Alice's that only listens: the frames that would reach her."""

    def __init__(self, alice: Party) -> None:
        self.frames: list[bytes] = []
        first, second = sorted((alice.key.address, CAROL.address))
        terms = Terms(CHAIN_ID, CONTRACT, (first, second), NATIVE, 0, 86_400, bytes(32))
        peer = bytes(CAROL.public)
        session = alice.engine.add_channel(new_channel(terms, terms.side_of(alice.key.address), peer, 0))
        alice.engine.apply(session.channel.id, FundingConfirmed((100, 100)))
        alice.engine.on_connected(peer, self)
        session.learn(ready=True)
        session.counting.on_funding(Funding(session.channel.id, 100))
        self.channel: ChannelId = session.channel.id

    def put_all(self, frames: list[bytes]) -> None:
        self.frames += frames

    @property
    def updates(self) -> list[Update]:
        return [message for message in map(decode, self.frames) if isinstance(message, Update)]


async def test_whoever_pays_waits_while_too_much_is_unsecured() -> None:
    pair = connected(Policy(unsecured=10))
    engine = pair.alice.engine
    for amount in (4, 7):
        await engine.room(pair.id)
        engine.pay(pair.id, amount)
    pair.alice.step()
    statistics = engine.statistics()
    assert (statistics.unsecured, statistics.payments_accepted, statistics.payments_secured) == (11, 2, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.room, pair.id)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        pair.settle()
    statistics = engine.statistics()
    assert (statistics.unsecured, statistics.payments_accepted, statistics.payments_secured) == (0, 2, 2)


async def test_whoever_waits_for_room_hears_that_the_channel_closes() -> None:
    pair = connected(Policy(unsecured=10))
    engine = pair.alice.engine
    engine.pay(pair.id, 10)
    pair.alice.step()
    with pytest.RaisesGroup(ChannelNotReady):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.room, pair.id)
            await trio.testing.wait_all_tasks_blocked()
            pair.alice.apply(PhaseReached(Phase.CLOSING))
            pair.alice.step()


def test_a_quiet_channel_is_served_in_the_next_round_whatever_waits_elsewhere() -> None:
    pair = connected(Policy())
    flooded, carol = pair.id, Carol(pair.alice)
    for _ in range(5 * BATCH_PAYMENTS_MAX):
        pair.alice.engine.pay(flooded, 1)
    pair.alice.begin()
    ticket = pair.alice.engine.pay(carol.channel, 7)
    pair.alice.finish()
    assert carol.updates == []
    pair.alice.step()
    (update,) = carol.updates
    assert (ticket.payment, update.seq) == (0, 1)


async def test_a_receiver_that_stops_costs_the_sender_a_window_and_an_outbox() -> None:
    pair = connected(Policy(window=2, outbox=100))
    engine, session = pair.alice.engine, pair.alice.session
    pair.bob.incoming.clear()
    offered = 0
    while not session.full:
        await engine.room(pair.id)
        engine.pay(pair.id, 1)
        offered += 1
        if offered % 50 == 0:
            pair.alice.step()
    pair.alice.step()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.room, pair.id)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        nursery.cancel_scope.cancel()
    assert len(session.channel.flight) <= 2
    assert offered == session.outbox.payments + sum(sent.payments for sent in session.sent)
    assert session.outbox.payments == 100
    updates = [message for message in map(decode, pair.bob.incoming) if isinstance(message, Update)]
    assert len(updates) <= 2
