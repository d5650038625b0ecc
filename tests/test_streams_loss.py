"""A payer whose disk is an old copy has forgotten links: its payee proves that to it, and the channel recovers."""

from __future__ import annotations

import pytest

from simulation.pair import Pair
from tallystick.channels.errors import Fault
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.hashchain import HashChain, StreamProof, stream_seed
from tallystick.channels.protocol.messages import CloseRequest, LinksHeld, Message, encode
from tallystick.channels.session.effects import CloseRequested, StreamReceived
from tallystick.channels.session.inputs import BeginStream, FinishStream, SubmitUnits
from tallystick.channels.session.streamed import OutgoingStreamState
from tallystick.channels.storage.schema import load_streams
from tallystick.channels.testing.clock import EPOCH

EXPIRY = int(EPOCH) + 10_000
UNIT = 3


@pytest.fixture
def sent() -> list[tuple[str, Message]]:
    return []


@pytest.fixture
def pair(sent: list[tuple[str, Message]]) -> Pair:
    pair = Pair(sent=lambda party, message: sent.append((party.name, message)))
    pair.connect()
    pair.settle()
    return pair


def begin(pair: Pair) -> OutgoingStreamState:
    chain = HashChain.built(stream_seed(pair.alice.key, pair.id, 0), 100)
    stream = pair.alice.apply(BeginStream(chain, UNIT, EXPIRY))
    pair.settle()
    return stream


def pay(pair: Pair, units: int) -> None:
    stream = pair.alice.session.streams.outgoing[0]
    pair.alice.apply(SubmitUnits(stream.lock, stream.condition, units))
    pair.settle()


def forget(pair: Pair, before: int) -> None:
    """Alice pays `before` units, then 3 more, and loses what she knew of these."""
    begin(pair)
    if before:
        pay(pair, before)
    image = pair.alice.disk.image()
    pay(pair, 3)
    pair.disconnect()
    pair.alice.restore(image)
    pair.alice.start()
    assert pair.alice.session.streams.outgoing[0].released == before


@pytest.mark.parametrize("before", [0, 2])
def test_a_payer_that_forgot_links_learns_it_from_its_payee_and_recovers(
    pair: Pair, sent: list[tuple[str, Message]], before: int
) -> None:
    forget(pair, before)
    pair.connect()
    pair.settle()
    assert pair.faults == []
    assert pair.alice.channel.phase is Phase.RECOVERING
    assert ("alice", CloseRequest(pair.id)) in sent and CloseRequested(pair.id) in pair.bob.events
    (row,) = load_streams(pair.alice.store, pair.id)
    assert StreamProof.decode(row.proof).depth == before + 3, "what the payee holds is owed"
    pair.crash(pair.alice)
    sent.clear()
    pair.connect()
    pair.settle()
    assert ("alice", CloseRequest(pair.id)) in sent, "it asks again, although it knows the link now"


def test_a_payer_that_forgot_links_and_settles_at_once_recovers_all_the_same(pair: Pair) -> None:
    """Its unlock is for less than the payee holds, which is a fault; but the proof is on its way before that."""
    forget(pair, 2)
    pair.alice.session.streams.outgoing[0].closing = True
    pair.connect()
    for party in pair.parties:
        party.step()
    while pair.deliver(pair.alice) or pair.deliver(pair.bob):
        pass  # the greetings
    for party in pair.parties:
        party.step()
    assert len(pair.alice.channel.flight) == 1
    for party in pair.parties:  # what both had said by then
        while pair.deliver(party):
            pass
    assert [fault.code for _, fault in pair.faults] == [Fault.BAD_AMOUNT] and not pair.connected
    pair.connect()
    pair.settle()
    assert len(pair.faults) == 1 and CloseRequested(pair.id) in pair.bob.events
    assert pair.alice.channel.phase is Phase.RECOVERING


def test_a_payer_that_crashed_without_loss_takes_it_as_the_acknowledgement(
    pair: Pair, sent: list[tuple[str, Message]]
) -> None:
    begin(pair)
    pay(pair, 5)
    pair.crash(pair.alice)
    sent.clear()
    pair.connect()
    pair.settle()
    assert [message.depth for _, message in sent if isinstance(message, LinksHeld)] == [5]
    assert pair.alice.session.streams.outgoing[0].acked == 5
    pay(pair, 1)
    assert pair.faults == [] and pair.alice.channel.phase is Phase.OPEN
    assert sum(event.units for event in pair.bob.events if isinstance(event, StreamReceived)) == 6


@pytest.mark.parametrize("depth", [6, 100, 101])
def test_a_forged_link_proves_nothing_and_is_a_fault(pair: Pair, depth: int) -> None:
    stream = begin(pair)
    pay(pair, 5)
    pair.inject(pair.alice, encode(LinksHeld(pair.id, 0, depth, bytes(32))))
    ((party, fault),) = pair.faults
    assert (party, fault.code) == (pair.alice, Fault.BAD_PROOF)
    assert (stream.released, pair.alice.channel.phase) == (5, Phase.OPEN)


def test_what_is_held_of_a_stream_that_is_gone_says_nothing(pair: Pair) -> None:
    stream = begin(pair)
    pay(pair, 5)
    pair.alice.apply(FinishStream(stream.lock, stream.condition))
    pair.settle()
    pair.inject(pair.alice, encode(LinksHeld(pair.id, 0, 6, bytes(32))))
    assert pair.faults == [] and pair.alice.channel.phase is Phase.OPEN


def test_an_acknowledgement_that_never_left_is_not_said_on_the_next_connection(pair: Pair) -> None:
    """It may have been to a payer that lost it since; what is held is said with its proof."""
    begin(pair)
    stream = pair.alice.session.streams.outgoing[0]
    pair.alice.apply(SubmitUnits(stream.lock, stream.condition, 4))
    image = pair.alice.disk.image()
    pair.alice.step()
    while pair.deliver(pair.bob):
        pass
    pair.disconnect()
    pair.bob.step()
    pair.alice.restore(image)
    pair.alice.start()
    pair.connect()
    pair.settle()
    assert pair.faults == [] and pair.alice.channel.phase is Phase.RECOVERING
