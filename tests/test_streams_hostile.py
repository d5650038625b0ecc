"""Streams under attack or in bad luck: rejected as a link is on its way, dropped unsigned, unlocked at great cost."""

from __future__ import annotations

import pytest
import trio

from simulation.pair import Pair
from tallystick.channels.errors import Fault, InvalidInput, InvalidUpdate
from tallystick.channels.limits import STREAM_LENGTH_MAX, UINT64_MAX
from tallystick.channels.protocol import hashchain
from tallystick.channels.protocol.conditions import STREAM, digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.hashchain import HashChain, StreamProof, StreamTerms, stream_seed
from tallystick.channels.protocol.messages import Links, Reveal, Shutdown, encode
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.protocol.operations import AddLock, Operation, Unlock
from tallystick.channels.protocol.simplex import extend, genesis
from tallystick.channels.session.inputs import (
    BeginStream,
    FinishStream,
    ForceClose,
    RejectLock,
    SignDue,
    SubmitLock,
    SubmitPayment,
    SubmitUnits,
)
from tallystick.channels.session.streamed import OutgoingStreamState
from tallystick.channels.testing.clock import EPOCH

NOW = int(EPOCH)
EXPIRY = NOW + 10_000
UNIT = 3


@pytest.fixture
def pair() -> Pair:
    pair = Pair((10_000_000, 1_000))
    pair.connect()
    pair.settle()
    return pair


def queue(pair: Pair, length: int = 100, unit: int = UNIT) -> OutgoingStreamState:
    session = pair.alice.session
    chain = HashChain(stream_seed(session.key, session.channel.id, session.next_lock), length)
    for _ in chain.build():
        pass
    return pair.alice.apply(BeginStream(chain, unit, EXPIRY))


def begin(pair: Pair, length: int = 100, unit: int = UNIT) -> OutgoingStreamState:
    stream = queue(pair, length, unit)
    pair.settle()
    return stream


def pay(pair: Pair, stream: OutgoingStreamState, units: int) -> None:
    pair.alice.apply(SubmitUnits(stream.lock, stream.condition, units))
    pair.settle()


def link(pair: Pair, depth: int, length: int = 100) -> bytes:
    return HashChain.built(stream_seed(pair.alice.key, pair.id, 0), length).link(depth)


def held(pair: Pair) -> int:
    stream = pair.bob.session.streams.incoming.get(0)
    return stream.depth if stream else 0


def transferred(pair: Pair) -> int:
    return pair.bob.channel.theirs.simplex.proof.transferred


# --- the payee's side -------------------------------------------------------------------------------------------


def test_a_link_that_meets_our_rejection_is_not_taken(pair: Pair) -> None:
    stream = begin(pair)
    pair.bob.apply(RejectLock(0, b"no"))
    pair.inject(pair.bob, encode(Links(pair.id, 0, 5, link(pair, 5))))
    assert held(pair) == 0 and not pair.bob.session.streams.claims()
    pair.settle()
    assert (stream.acked, stream.paid, pair.faults) == (0, 0, [])


def test_a_payee_that_does_not_know_the_time_takes_a_link_once_it_does(pair: Pair) -> None:
    stream = begin(pair)
    pair.crash(pair.bob)
    pair.bob.time(0, 0)
    pair.connect()
    pay(pair, stream, 5)
    assert (held(pair), stream.acked) == (0, 0)
    pair.bob.time(NOW, NOW)
    pair.settle()
    assert (held(pair), stream.acked, pair.faults) == (5, 5, [])


def test_a_link_that_waits_for_the_time_is_not_forgotten_over_a_payment(pair: Pair) -> None:
    stream = begin(pair)
    pair.crash(pair.bob)
    pair.bob.time(0, 0)
    pair.connect()
    pay(pair, stream, 5)
    pair.alice.apply(SubmitPayment(1))
    pair.settle()
    pair.bob.time(NOW, NOW)
    pair.settle()
    assert (held(pair), stream.acked, pair.faults) == (5, 5, [])


def test_a_payee_whose_view_of_the_chain_is_old_takes_a_link_once_it_is_not(pair: Pair) -> None:
    """Else it would deliver for links that it may not be able to register any more."""
    stream, pair.bob.fresh = begin(pair), False
    for units in (2, 3):
        pay(pair, stream, units)
    assert (held(pair), stream.acked) == (0, 0)
    pair.bob.time(NOW + 1, NOW + 1)
    pair.settle()
    assert (held(pair), stream.acked) == (0, 0)
    pair.bob.fresh = True
    pair.bob.time(NOW + 2, NOW + 2)
    pair.settle()
    assert (held(pair), stream.acked, pair.faults) == (5, 5, [])
    pay(pair, stream, 4)
    assert (held(pair), stream.acked) == (9, 9)


def test_a_link_that_came_under_an_old_view_is_not_taken_if_time_has_run_out_meanwhile(pair: Pair) -> None:
    stream, pair.bob.fresh = begin(pair), False
    pay(pair, stream, 5)
    pair.bob.fresh = True
    pair.bob.time(EXPIRY - 149, EXPIRY - 149)
    pair.settle()
    assert (held(pair), stream.acked, pair.bob.session.streams.claims()) == (0, 0, {})


def test_a_link_that_waits_ends_with_its_stream(pair: Pair) -> None:
    stream, pair.bob.fresh = begin(pair), False
    pay(pair, stream, 5)
    pair.alice.apply(FinishStream(stream.lock, stream.condition))
    pair.settle()
    pair.bob.fresh = True
    pair.bob.time(NOW + 2, NOW + 2)
    pair.settle()
    assert (transferred(pair), stream.paid, pair.faults) == (15, 15, [])


def test_links_that_wait_are_checked_and_cost_each_hash_once(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(pair)
    pair.bob.fresh = False
    steps: list[int] = []
    walk = hashchain.walk
    monkeypatch.setattr(hashchain, "walk", lambda link, count: steps.append(count) or walk(link, count))
    for depth in (50, 50, 49, 80, 80):
        pair.inject(pair.bob, encode(Links(pair.id, 0, depth, link(pair, depth))))
    assert sum(steps) <= 80 + 5 * 100, "besides what building the chain five times took"
    steps.clear()
    nonsense = encode(Links(pair.id, 0, 90, bytes(32)))
    pair.inject(pair.bob, nonsense)
    assert steps == [10]
    ((_, fault),) = pair.faults
    assert fault.code is Fault.BAD_PROOF and held(pair) == 0


def test_a_payee_without_time_takes_no_link_of_an_expired_stream(pair: Pair) -> None:
    begin(pair)
    pair.crash(pair.bob)
    pair.bob.time(0, 0)
    pair.connect()
    pair.settle()
    pair.inject(pair.bob, encode(Links(pair.id, 0, 5, link(pair, 5))))
    pair.bob.time(EXPIRY + 1, EXPIRY + 1)
    pair.settle()
    assert held(pair) == 0


@pytest.mark.parametrize(("left", "taken"), [(150, True), (149, False)])
def test_the_last_link_leaves_time_to_register_it_once(pair: Pair, left: int, taken: bool) -> None:
    begin(pair)
    pair.bob.time(EXPIRY - left, EXPIRY - left)
    pair.inject(pair.bob, encode(Links(pair.id, 0, 5, link(pair, 5))))
    assert (held(pair) == 5) is taken


def unlocking(pair: Pair, depths: tuple[int, ...]) -> list[Operation]:
    """New streams, and their unlocks at those depths with links that belong to no chain."""
    adds: list[Operation] = []
    ends: list[Operation] = []
    for number, depth in enumerate(depths):
        terms = StreamTerms(number.to_bytes(32, "big"), 1, STREAM_LENGTH_MAX)
        adds.append(AddLock(Lock(number, terms.amount, EXPIRY, STREAM, terms.condition(EXPIRY)), terms.encode()))
        ends.append(Unlock(number, StreamProof(bytes(32), depth, terms).encode(), depth))
    return [*adds, *ends]


def test_the_hashes_that_an_update_can_ask_for_are_bounded_whatever_it_unlocks(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = 0

    def counting(link: bytes, steps: int) -> bytes:
        nonlocal hashed
        hashed += steps
        return (hashed - steps).to_bytes(32, "big")

    monkeypatch.setattr("tallystick.channels.protocol.hashchain.walk", counting)
    operations = unlocking(pair, (0, STREAM_LENGTH_MAX, STREAM_LENGTH_MAX, STREAM_LENGTH_MAX))
    # The chains are such that each walk ends at its stream's tip: only the bound stops them.
    tips = {0: 0, 1: 0, 2: STREAM_LENGTH_MAX, 3: 2 * STREAM_LENGTH_MAX}
    rightly = [_with_tip(operation, tips) for operation in operations]
    with pytest.raises(InvalidUpdate):
        extend(genesis(pair.id, 0), rightly, 0)
    assert hashed <= STREAM_LENGTH_MAX


def _with_tip(operation: Operation, tips: dict[int, int]) -> Operation:
    if isinstance(operation, AddLock):
        terms = StreamTerms(tips[operation.lock.id].to_bytes(32, "big"), 1, STREAM_LENGTH_MAX)
        lock = Lock(operation.lock.id, terms.amount, EXPIRY, STREAM, terms.condition(EXPIRY))
        return AddLock(lock, terms.encode())
    assert isinstance(operation, Unlock)
    depth = StreamProof.decode(operation.proof).depth
    terms = StreamTerms(tips[operation.id].to_bytes(32, "big"), 1, STREAM_LENGTH_MAX)
    return Unlock(operation.id, StreamProof(bytes(32), depth, terms).encode(), depth)


def test_a_payer_spreads_deep_unlocks_over_several_updates(pair: Pair) -> None:
    streams = [begin(pair, 40_000, 1) for _ in range(3)]
    for stream in streams:
        pay(pair, stream, 40_000)
    before = pair.bob.channel.theirs.seq
    for stream in streams:
        pair.alice.apply(FinishStream(stream.lock, stream.condition))
    pair.settle()
    assert [stream.paid for stream in streams] == [40_000] * 3 and not pair.faults
    assert pair.bob.channel.theirs.seq == before + 3


def test_a_stream_whose_unlock_is_on_its_way_has_not_ended(pair: Pair) -> None:
    stream = begin(pair)
    pay(pair, stream, 5)
    stream.closing = True
    for _ in range(3):
        pair.alice.apply(SignDue())
        pair.alice.step()
    assert pair.alice.channel.newest.lock(0) is None and not stream.is_ended
    pair.settle()
    assert stream.paid == 15


def test_what_was_streamed_is_counted_once_also_while_the_unlock_is_in_flight(pair: Pair) -> None:
    stream = begin(pair)
    pay(pair, stream, 5)
    assert pair.alice.session.streams.streamed == 15
    pair.alice.apply(FinishStream(stream.lock, stream.condition))
    pair.alice.step()
    pair.crash(pair.alice)
    assert pair.alice.channel.newest.lock(0) is None
    assert pair.alice.session.streams.streamed == 15
    pair.connect()
    pair.settle()
    assert pair.alice.session.streams.streamed == transferred(pair) == 15
    pair.crash(pair.alice)
    assert pair.alice.session.streams.streamed == 15


# --- the payer's side -------------------------------------------------------------------------------------------


def test_a_stream_that_was_dropped_unsigned_ends_and_leaves_its_number_to_another_lock(pair: Pair) -> None:
    pair.alice.apply(SubmitPayment(1))
    pair.alice.step()  # one update is in flight: the lock has to wait
    stream = queue(pair)
    pair.alice.step()
    assert pair.alice.channel.newest.next_lock == 0
    pair.inject(pair.alice, encode(Shutdown(pair.id, 0)))
    pair.alice.step()
    assert (stream.is_ended, stream.paid) == (True, 0)
    pair.disconnect()
    pair.connect()
    pair.settle()
    assert pair.alice.apply(SubmitLock(50, EXPIRY, digest_of(bytes(32)))) == 0
    pair.settle()
    pair.alice.apply(FinishStream(stream.lock, stream.condition))
    pair.settle()
    assert pair.alice.channel.newest.lock(0) is not None and not pair.faults


async def test_a_stream_that_is_dropped_as_the_channel_closes_alone_ends_at_once(pair: Pair) -> None:
    pair.alice.apply(SubmitPayment(1))
    pair.alice.step()
    stream = queue(pair)
    pair.alice.apply(ForceClose())
    pair.settle()
    with trio.fail_after(1):
        await stream.wait_ended()
    assert stream.paid == 0


async def test_whoever_waits_for_units_that_will_never_be_released_is_told(pair: Pair, autojump_clock: object) -> None:
    stream = begin(pair)
    pair.disconnect()
    pair.alice.apply(SubmitUnits(stream.lock, stream.condition, 7))
    pair.alice.apply(ForceClose())
    with trio.fail_after(1):
        await stream.wait(7)
    assert (stream.acked, stream.released) == (0, 0)
    assert pair.alice.channel.phase is Phase.CLOSING


async def test_whoever_gives_up_waiting_leaves_nothing_behind(pair: Pair, autojump_clock: object) -> None:
    stream = begin(pair)
    for _ in range(5):
        with trio.move_on_after(1):
            await stream.wait(1)
    assert not stream._waiting


def test_a_payee_cannot_have_a_stream_ended_by_revealing_a_link_of_it(pair: Pair) -> None:
    stream = begin(pair)
    pay(pair, stream, 5)
    proof = StreamProof(link(pair, 3), 3, stream.terms).encode()
    pair.inject(pair.alice, encode(Reveal(pair.id, 0, proof)))
    ((finder, fault),) = pair.faults
    assert (finder, fault.code) == (pair.alice, Fault.BAD_PROOF)
    pair.connect()
    pair.settle()
    pay(pair, stream, 4)
    assert (held(pair), stream.acked, stream.paid) == (9, 9, None)


def test_a_stream_until_a_time_that_nobody_can_tell_is_refused_and_nothing_is_done() -> None:
    pair = Pair((1_000, 1_000))
    pair.connect()
    pair.settle()
    session = pair.alice.session
    chain = HashChain.built(stream_seed(session.key, session.channel.id, session.next_lock), 10)
    with pytest.raises(InvalidInput, match="the last time that there is"):
        pair.alice.apply(BeginStream(chain, 1, UINT64_MAX + 1))
    assert not session.streams.outgoing and session.next_lock == 0
