"""Streams between two nodes: crashes, reconnects, repetitions, cheats on either side, and time that runs out."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from simulation.pair import Pair, Party
from simulation.stream_pair import NOW, UNIT, begin, close, connected, held, received, submit, transferred
from tallystick.channels.errors import ChannelNotReady, InsufficientFunds, InvalidInput
from tallystick.channels.limits import Policy
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.hashchain import HashChain, StreamProof, stream_seed
from tallystick.channels.protocol.messages import Links, LinksAck, Message, encode
from tallystick.channels.session.inputs import (
    FinishStream,
    ForceClose,
    RequestClose,
    SignDue,
    SubmitUnits,
)
from tallystick.channels.session.streamed import OutgoingStreamState
from tallystick.channels.storage.schema import load_streams


@pytest.fixture
def pair() -> Pair:
    return connected()


# --- the way it goes ----------------------------------------------------------------------------------------------


def test_units_are_paid_acknowledged_and_in_the_end_unlocked(pair: Pair) -> None:
    stream = begin(pair)
    signatures = pair.alice.session.signatures
    for units in (1, 2, 5):
        submit(pair, stream, units)
        pair.settle()
    assert (stream.acked, received(pair.bob), held(pair.bob)) == (8, 8, 8)
    assert pair.alice.session.signatures == signatures
    close(pair, stream)
    assert (stream.paid, transferred(pair)) == (24, 24)
    assert pair.alice.channel.ours.simplex.locks == () and pair.alice.session.spendable == 976
    assert load_streams(pair.alice.store, pair.id) == load_streams(pair.bob.store, pair.id) == []
    assert pair.faults == []


def test_only_the_newest_link_of_a_round_is_sent() -> None:
    sent: list[Message] = []
    pair = Pair(sent=lambda party, message: sent.append(message))
    pair.connect()
    pair.settle()
    stream = begin(pair)
    for _ in range(50):
        submit(pair, stream, 1)
    pair.settle()
    assert [message.depth for message in sent if isinstance(message, Links)] == [50]
    assert received(pair.bob) == 50


def test_a_stream_that_was_never_used_returns_all(pair: Pair) -> None:
    stream = begin(pair)
    close(pair, stream)
    assert (stream.paid, transferred(pair), pair.alice.session.spendable) == (0, 0, 1_000)


def test_what_was_submitted_and_not_released_is_paid_by_the_close(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 7)
    close(pair, stream)
    assert (stream.paid, stream.acked, transferred(pair), received(pair.bob)) == (21, 7, 21, 7)


def test_more_than_the_stream_the_bound_or_its_life_allows_is_refused() -> None:
    pair = connected(Policy(stream_unsecured=10))
    stream = begin(pair, length=15)
    for units, error in ((16, InsufficientFunds), (11, ChannelNotReady), (0, InvalidInput)):
        with pytest.raises(error):
            pair.alice.apply(SubmitUnits(stream.lock, stream.condition, units))
    submit(pair, stream, 10)
    with pytest.raises(ChannelNotReady):
        pair.alice.apply(SubmitUnits(stream.lock, stream.condition, 1))
    pair.settle()
    submit(pair, stream, 5)
    close(pair, stream)
    with pytest.raises(ChannelNotReady):
        pair.alice.apply(SubmitUnits(stream.lock, stream.condition, 1))
    with pytest.raises(InvalidInput):
        begin(pair, expiry=NOW + 599)
    with pytest.raises(InsufficientFunds):
        begin(pair, length=1_000)
    assert transferred(pair) == 45


def test_a_cooperative_close_settles_open_streams_first(pair: Pair) -> None:
    submit(pair, begin(pair), 9)
    pair.alice.apply(RequestClose())
    pair.settle()
    assert pair.alice.channel.phase is pair.bob.channel.phase is Phase.FROZEN
    assert pair.alice.channel.offer is not None
    assert (pair.alice.channel.offer.close.balance0, pair.alice.channel.offer.close.balance1) == (973, 1_027)


def test_no_unit_is_taken_once_the_channel_closes_alone_and_what_came_is_stored_and_claimed(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 9)
    pair.alice.step()
    pair.deliver(pair.bob)
    for party in pair.parties:
        party.apply(ForceClose())
    pair.settle()
    pair.crash(pair.alice)
    for same in (stream, pair.alice.session.streams.outgoing[0]):
        with pytest.raises(ChannelNotReady):
            submit(pair, same, 1)
    pair.connect()
    pair.settle()
    assert held(pair.bob) == received(pair.bob) == pair.bob.session.streams.claims()[0].depth == 9
    pair.inject(pair.bob, encode(Links(pair.id, 0, 10, cheating_chain(pair).link(10))))
    pair.settle()
    assert held(pair.bob) == 9


def test_the_peers_wish_to_close_settles_them_too(pair: Pair) -> None:
    submit(pair, begin(pair), 9)
    pair.settle()
    pair.bob.apply(RequestClose())
    pair.settle()
    assert pair.bob.channel.phase is Phase.FROZEN and transferred(pair) == 27


# --- crashes and repetitions --------------------------------------------------------------------------------------


def test_a_payer_that_crashes_before_its_link_is_stored_has_paid_nothing(pair: Pair) -> None:
    submit(pair, begin(pair), 5)
    pair.crash_at_commit(pair.alice, takes_effect=False)
    pair.connect()
    pair.settle()
    assert (held(pair.bob), pair.alice.session.streams.outgoing[0].released) == (0, 0)


def test_a_payer_that_crashes_after_its_link_is_stored_pays_it_later_and_goes_on(pair: Pair) -> None:
    submit(pair, begin(pair), 5)
    pair.crash_at_commit(pair.alice, takes_effect=True)
    pair.connect()
    pair.settle()
    stream = pair.alice.session.streams.outgoing[0]
    assert (held(pair.bob), stream.acked) == (5, 5)
    submit(pair, stream, 6)  # its chain is computed again from the key
    pair.settle()
    close(pair, stream)
    assert (transferred(pair), pair.faults) == (33, [])


@pytest.mark.parametrize("stored", [False, True])
def test_a_payee_that_crashes_in_its_commit_gets_the_link_again(pair: Pair, stored: bool) -> None:
    stream = begin(pair)
    submit(pair, stream, 5)
    pair.alice.step()
    pair.deliver(pair.bob)
    pair.crash_at_commit(pair.bob, takes_effect=stored)
    assert (held(pair.bob), stream.acked, received(pair.bob)) == (5 if stored else 0, 0, 0)
    pair.connect()
    pair.settle()
    assert (held(pair.bob), stream.acked) == (5, 5)


def test_repeated_and_old_links_change_nothing_and_are_acknowledged(pair: Pair) -> None:
    stream = begin(pair)
    frames: list[bytes] = []
    for _ in range(2):
        submit(pair, stream, 4)
        pair.alice.step()
        frames.append(pair.bob.incoming[-1])
        pair.settle()
    for frame in (frames[0], frames[1], frames[0]):
        pair.inject(pair.bob, frame)
        pair.settle()
    assert (held(pair.bob), received(pair.bob), stream.acked, pair.faults) == (8, 8, 8, [])


def test_a_deeper_link_that_comes_first_covers_those_that_were_lost(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 4)
    pair.alice.step()
    pair.bob.incoming.clear()
    submit(pair, stream, 4)
    pair.alice.apply(SignDue())  # a round begins for another reason: the first link is not acknowledged yet
    pair.settle()
    assert (held(pair.bob), received(pair.bob), stream.acked) == (8, 8, 8)


def test_an_unlock_that_is_in_flight_at_a_crash_is_repeated_and_the_stream_is_gone(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 4)
    pair.settle()
    pair.alice.apply(FinishStream(stream.lock, stream.condition))
    pair.crash_at_commit(pair.alice, takes_effect=True)
    pair.connect()
    pair.settle()
    assert pair.alice.session.streams.outgoing == {} and transferred(pair) == 12
    assert load_streams(pair.alice.store, pair.id) == load_streams(pair.bob.store, pair.id) == []


def cheating_chain(pair: Pair, length: int = 100) -> HashChain:
    return HashChain.built(stream_seed(pair.alice.key, pair.id, 0), length)


class StreamMachine(RuleBasedStateMachine):
    """A stream under crashes, cuts and arbitrary timing."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair((10_000, 0), sent=self.left)
        self.sent = self.acked = 0
        """The deepest link and acknowledgement that ever left a node."""
        self.pair.connect()
        self.pair.settle()
        begin(self.pair, length=60, unit=UNIT)
        self.total = 0
        self.lock = 0

    def left(self, party: Party, message: Message) -> None:
        if isinstance(message, Links):
            assert party is self.pair.alice
            durable = load_streams(party.store, self.pair.id)
            depths = [StreamProof.decode(row.proof).depth for row in durable if row.lock == message.lock]
            assert depths[0] >= message.depth
            self.sent = max(self.sent, message.depth)
        elif isinstance(message, LinksAck):
            assert party is self.pair.bob
            assert message.depth <= self.sent
            gone = party.channel.theirs.simplex.lock(message.lock) is None
            assert gone or held(party, message.lock) >= message.depth
            self.acked = max(self.acked, message.depth)

    @property
    def stream(self) -> OutgoingStreamState | None:
        return self.pair.alice.session.streams.outgoing.get(self.lock)

    @precondition(lambda self: self.stream is not None and not self.stream.closing)
    @rule(units=st.integers(1, 6))
    def pay(self, units: int) -> None:
        assert self.stream is not None
        if self.stream.wanted + units <= 60:
            submit(self.pair, self.stream, units)

    @rule(who=st.integers(0, 1))
    def step(self, who: int) -> None:
        self.pair.parties[who].step()

    @rule(who=st.integers(0, 1))
    def half_a_step(self, who: int) -> None:
        self.pair.parties[who].begin()

    @rule(who=st.integers(0, 1))
    def deliver(self, who: int) -> None:
        self.pair.deliver(self.pair.parties[who])

    @rule()
    def reconnect(self) -> None:
        self.pair.connect()

    @rule(who=st.integers(0, 1), how=st.sampled_from([None, False, True]))
    def crash(self, who: int, how: bool | None) -> None:
        party = self.pair.parties[who]
        if how is None:
            self.pair.crash(party)
        else:
            self.pair.crash_at_commit(party, takes_effect=how)

    @precondition(lambda self: self.stream is not None and self.stream.wanted > 40)
    @rule()
    def close(self) -> None:
        assert self.stream is not None
        self.pair.alice.apply(FinishStream(self.stream.lock, self.stream.condition))

    @invariant()
    def nobody_forgets(self) -> None:
        assert self.pair.faults == []
        if self.stream is not None:
            assert self.sent <= self.stream.released
        if self.pair.bob.channel.theirs.simplex.lock(self.lock) is not None:
            assert self.acked <= held(self.pair.bob, self.lock)

    def teardown(self) -> None:
        self.pair.connect()
        self.pair.settle()
        if self.stream is not None:
            released = self.stream.wanted
            close(self.pair, self.stream)
            assert transferred(self.pair) == released * UNIT
        assert self.pair.faults == []
        assert transferred(self.pair) >= self.sent * UNIT >= self.acked * UNIT
        for party in self.pair.parties:
            assert load_streams(party.store, self.pair.id) == []
            assert party.session.streams.outgoing == party.session.streams.incoming == {}
        ours, theirs = self.pair.alice.channel.ours.simplex, self.pair.bob.channel.theirs.simplex
        assert ours.proof == theirs.proof


StreamMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestStreamMachine = StreamMachine.TestCase
