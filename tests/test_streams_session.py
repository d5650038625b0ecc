"""Streams between two nodes: crashes, reconnects, repetitions, cheats on either side, and time that runs out."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from simulation.pair import Pair, Party
from tallystick.channels.errors import ChannelNotReady, Fault, InsufficientFunds, InvalidInput
from tallystick.channels.limits import Policy
from tallystick.channels.protocol.conditions import STREAM
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.hashchain import HashChain, StreamProof, StreamTerms, stream_seed
from tallystick.channels.protocol.messages import Links, LinksAck, Message, encode
from tallystick.channels.protocol.operations import Cancel, Unlock
from tallystick.channels.session.effects import LockRejected, StreamReceived
from tallystick.channels.session.inputs import (
    BeginStream,
    FinishStream,
    ForceClose,
    RejectLock,
    RequestClose,
    RevealSecret,
    SignDue,
    SubmitLock,
    SubmitUnits,
)
from tallystick.channels.session.streamed import OutgoingStreamState
from tallystick.channels.storage.schema import load_streams
from tallystick.channels.testing.clock import EPOCH

NOW = int(EPOCH)
EXPIRY = NOW + 10_000
UNIT = 3


def connected(policy: Policy | None = None, deposits: tuple[int, int] = (1_000, 1_000)) -> Pair:
    pair = Pair(deposits, policy=policy)
    pair.connect()
    pair.settle()
    return pair


@pytest.fixture
def pair() -> Pair:
    return connected()


def begin(pair: Pair, length: int = 100, unit: int = UNIT, expiry: int = EXPIRY) -> OutgoingStreamState:
    session = pair.alice.session
    chain = HashChain(stream_seed(session.key, session.channel.id, session.next_lock), length)
    for _ in chain.build():
        pass
    stream = pair.alice.apply(BeginStream(chain, unit, expiry))
    pair.settle()
    return stream


def submit(pair: Pair, stream: OutgoingStreamState, units: int) -> None:
    pair.alice.apply(SubmitUnits(stream.lock, stream.condition, units))


def close(pair: Pair, stream: OutgoingStreamState) -> None:
    pair.alice.apply(FinishStream(stream.lock, stream.condition))
    pair.settle()


def received(party: Party) -> int:
    """Units that the application was told of, by this run of the node."""
    return sum(event.units for event in party.events if isinstance(event, StreamReceived))


def held(party: Party, lock: int = 0) -> int:
    """Units that the disk of the payee holds."""
    rows = [row for row in load_streams(party.store, party.channel.id) if row.sender == 0 and row.lock == lock]
    return StreamProof.decode(rows[0].proof).depth if rows else 0


def transferred(pair: Pair) -> int:
    return pair.bob.channel.theirs.simplex.proof.transferred


# --- the way it goes --------------------------------------------------------------------------------------------


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


# --- crashes and repetitions ------------------------------------------------------------------------------------


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


# --- cheats -----------------------------------------------------------------------------------------------------


def fault_of(pair: Pair, party: Party) -> Fault:
    ((who, fault),) = pair.faults
    assert who is party
    return fault.code


def cheating_chain(pair: Pair, length: int = 100) -> HashChain:
    return HashChain.built(stream_seed(pair.alice.key, pair.id, 0), length)


@pytest.mark.parametrize(("depth", "said"), [(5, 6), (6, 5), (0, 3), (100, 101)])
def test_a_link_that_does_not_continue_the_stream_is_a_fault(pair: Pair, depth: int, said: int) -> None:
    submit(pair, begin(pair), 2)
    pair.settle()
    pair.inject(pair.bob, encode(Links(pair.id, 0, said, cheating_chain(pair).link(depth))))
    assert fault_of(pair, pair.bob) is Fault.BAD_PROOF
    assert held(pair.bob) == 2


def test_links_of_unknown_streams_are_ignored(pair: Pair) -> None:
    begin(pair)
    pair.inject(pair.bob, encode(Links(pair.id, 9, 1, bytes(32))))
    pair.inject(pair.alice, encode(Links(pair.id, 0, 1, bytes(32))))
    pair.inject(pair.alice, encode(LinksAck(pair.id, 9, 1)))
    pair.settle()
    assert (pair.faults, received(pair.alice), received(pair.bob)) == ([], 0, 0)


def test_an_acknowledgement_of_more_than_was_released_is_a_fault(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 2)
    pair.settle()
    pair.inject(pair.alice, encode(LinksAck(pair.id, 0, 3)))
    assert fault_of(pair, pair.alice) is Fault.STATE_MISMATCH
    assert stream.acked == 2


def test_an_unlock_for_less_than_the_payee_holds_is_refused(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 8)
    pair.settle()
    proof = StreamProof(cheating_chain(pair).link(7), 7, stream.terms)
    pair.alice.session.outbox.end_lock(Unlock(0, proof.encode(), proof.amount))
    pair.alice.apply(SignDue())
    pair.settle()
    assert fault_of(pair, pair.bob) is Fault.BAD_AMOUNT
    assert (held(pair.bob), transferred(pair)) == (8, 0)
    assert pair.bob.session.streams.claims()[0].depth == 8


def test_a_stream_cannot_be_cancelled_without_consent(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 8)
    pair.settle()
    pair.alice.session.outbox.end_lock(Cancel(0))
    pair.alice.apply(SignDue())
    pair.settle()
    assert transferred(pair) == 0 and pair.bob.channel.theirs.simplex.lock(0) is not None
    assert pair.bob.session.streams.claims()[0].depth == 8


def test_the_payee_cannot_reject_a_stream_that_has_paid(pair: Pair) -> None:
    submit(pair, begin(pair), 1)
    pair.settle()
    with pytest.raises(InvalidInput):
        pair.bob.apply(RejectLock(0, b""))
    with pytest.raises(InvalidInput):
        pair.bob.apply(RevealSecret(0, bytes(32)))


def test_a_stream_on_other_terms_than_its_locks_is_rejected(pair: Pair) -> None:
    tip = cheating_chain(pair).tip
    right, wrong = StreamTerms(tip, 3, 100), StreamTerms(tip, 30, 100)
    for terms, onion in ((right, wrong.encode()), (right, b""), (wrong, wrong.encode())):
        pair.alice.apply(SubmitLock(300, EXPIRY, terms.condition(EXPIRY), onion, STREAM))
        pair.settle()
    assert len([event for event in pair.alice.events if isinstance(event, LockRejected)]) == 3
    assert pair.bob.session.streams.incoming == {} and pair.faults == []


# --- time -------------------------------------------------------------------------------------------------------


def test_a_stream_is_settled_before_it_expires_although_nobody_closes_it(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 5)
    pair.settle()
    pair.alice.time(EXPIRY - 300, EXPIRY - 300)
    pair.settle()
    assert not stream.ended
    pair.alice.time(EXPIRY - 299, EXPIRY - 299)
    pair.settle()
    assert (stream.paid, transferred(pair)) == (15, 15)


def test_a_payee_takes_no_link_that_it_could_not_register_any_more(pair: Pair) -> None:
    stream = begin(pair)
    pair.bob.time(EXPIRY - 59, EXPIRY - 59)
    submit(pair, stream, 5)
    pair.settle()
    assert (held(pair.bob), stream.acked, received(pair.bob)) == (0, 0, 0)
    close(pair, stream)
    assert transferred(pair) == 15


def test_a_registered_link_makes_the_payer_unlock_with_its_deepest_one(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 5)
    pair.settle()
    proof = StreamProof(cheating_chain(pair).link(3), 3, stream.terms)
    condition = stream.terms.condition(EXPIRY)
    pair.alice.time(NOW + 10, NOW + 10, {(STREAM, condition): (NOW + 5, proof.encode())})
    pair.settle()
    assert (stream.paid, transferred(pair)) == (15, 15)


def test_a_registered_link_that_the_payer_has_forgotten_is_owed_all_the_same(pair: Pair) -> None:
    stream = begin(pair)
    submit(pair, stream, 2)
    pair.settle()
    proof = StreamProof(cheating_chain(pair).link(6), 6, stream.terms)
    pair.alice.time(NOW + 10, NOW + 10, {(STREAM, stream.terms.condition(EXPIRY)): (NOW + 5, proof.encode())})
    pair.settle()
    assert (stream.paid, transferred(pair), pair.faults) == (18, 18, [])


@pytest.mark.parametrize("registered", [False, True])
def test_consent_to_cancel_an_expired_stream_depends_on_the_confirmed_registry(pair: Pair, registered: bool) -> None:
    stream = begin(pair)
    submit(pair, stream, 5)
    pair.settle()
    pair.disconnect()
    condition = stream.terms.condition(EXPIRY)
    found = {(STREAM, condition): (EXPIRY, pair.bob.session.streams.claims()[0].encode())} if registered else {}
    pair.bob.time(EXPIRY + 100, EXPIRY + 100, found)
    pair.alice.session.outbox.end_lock(Cancel(0))
    pair.connect()
    pair.settle()
    assert (pair.bob.channel.theirs.simplex.lock(0) is None) is not registered
    assert transferred(pair) == 0


# --- everything at once -----------------------------------------------------------------------------------------


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
