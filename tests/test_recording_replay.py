"""What was recorded of a channel, and is lived through again, comes to the same states, and holds no secret."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import settings
from hypothesis.stateful import rule, run_state_machine_as_test
from test_session_machine import MOMENTS, SIDES, Payments

from simulation.line import Line
from simulation.pair import Pair, Party
from tallystick.channels.errors import InvalidInput, InvalidUpdate
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.hashchain import HashChain, stream_seed
from tallystick.channels.protocol.messages import Reveal, Shutdown, decode, encode
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session.inputs import (
    BeginStream,
    FinishStream,
    ForceClose,
    RequestClose,
    RequestWithdrawal,
    RevealSecret,
    SubmitLock,
    SubmitPayment,
    SubmitPayments,
    SubmitUnits,
)
from tallystick.channels.session.recording import recorder
from tallystick.channels.session.recording.document import FORMAT, Recording, read, written
from tallystick.channels.session.recording.replay import Lived, Replay
from tallystick.channels.testing.clock import EPOCH

NOW = int(EPOCH)
SECRET = b"not for anybody else's eyes, it is"[:32]


def again(recording: Recording) -> list[Lived]:
    """Write a recording, read it, and live through it; it must agree all along."""
    data = written(recording)
    read_back = read(data)
    assert written(read_back) == data
    lived = list(Replay(read_back).run())
    assert [(one.number, one.what, one.refused) for one in lived if not one.agrees] == []
    return lived


def connected(deposits: tuple[int, int] = (100_000, 100_000)) -> Pair:
    pair = Pair(deposits, reserve_ppm=10_000)
    pair.connect()
    pair.settle()
    return pair


def record(pair: Pair) -> None:
    for party in pair.parties:
        party.engine.recordings.begin(pair.id)


def recorded(pair: Pair, party: Party) -> Recording:
    return party.engine.recordings.of(pair.id)


# --- any history ------------------------------------------------------------------------------------------------


class Recorded(Payments):
    """The machine of payments, locks, withdrawals, closes and crashes, recorded from any moment on."""

    @rule(side=SIDES)
    def record(self, side: int) -> None:
        self.parties[side].engine.recordings.begin(self.pair.id)

    @rule(side=SIDES)
    def replay(self, side: int) -> None:
        self.check(side)

    def check(self, side: int) -> None:
        try:
            recording = self.parties[side].engine.recordings.of(self.pair.id)
        except InvalidInput:
            return
        again(recording)

    @rule(side=SIDES, moments=MOMENTS)
    def crash(self, side: int, moments: list[tuple[str, int]]) -> None:
        self.check(side)
        super().crash(side, moments)

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "pair"):
            for side in (0, 1):
                self.check(side)


def test_any_history_that_is_recorded_from_any_moment_on_is_lived_through_to_the_same_states() -> None:
    run_state_machine_as_test(Recorded, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))


# --- all kinds of inputs ----------------------------------------------------------------------------------------


def with_streams(pair: Pair) -> None:
    alice = pair.alice
    chain = HashChain.built(stream_seed(alice.key, pair.id, alice.session.next_lock), 200)
    stream = alice.apply(BeginStream(chain, 3, NOW + 50_000))
    pair.settle()
    alice.apply(SubmitUnits(stream.lock, stream.condition, 17))
    pair.settle()
    pair.connect()
    alice.apply(SubmitUnits(stream.lock, stream.condition, 5))
    pair.settle()


def everything(pair: Pair) -> None:
    """Let one of each happen, with refusals, faults, reconnections and chain time."""
    alice, bob = pair.parties
    alice.apply(SubmitPayment(7, b"a memo that is private", "order 4711"))
    given_up = alice.apply(SubmitPayment(9))
    given_up.give_up()
    pair.settle()
    alice.apply(SubmitPayments(tuple(range(1, 300))))
    bob.apply(SubmitPayment(2**65)) if bob.session.spendable > 2**65 else bob.apply(SubmitPayment(5))
    pair.settle()
    for condition in (digest_of(SECRET), digest_of(b"x" * 32)):
        alice.apply(SubmitLock(40, NOW + 900, condition, b"an onion"))
    pair.settle()
    bob.apply(RevealSecret(0, SECRET))
    with pytest.raises(InvalidUpdate):
        bob.apply(RevealSecret(1, b"y" * 32))
    pair.settle()
    with_streams(pair)
    for party in pair.parties:
        party.time(NOW + 1_000, NOW + 990, {(0, digest_of(b"x" * 32)): (NOW + 5, b"x" * 32)})
    pair.settle()
    alice.apply(RequestWithdrawal(50))
    pair.settle()
    pair.disconnect()
    alice.apply(SubmitPayment(3))
    pair.connect()
    pair.settle()
    bob.apply(RequestClose())
    pair.settle()


def test_everything_that_can_happen_is_lived_through_again_with_what_was_said() -> None:
    pair = connected()
    record(pair)
    everything(pair)
    for party in pair.parties:
        lived = again(recorded(pair, party))
        assert lived[-1].state.channel.phase is party.channel.phase
        assert lived[-1].state.channel.balances() == party.channel.balances()
        assert {"Update", "Ack", "Reestablish", "Shutdown"} <= {said for one in lived for said in one.says}
        assert not any(one.depth for one in lived)
    assert any("does not open lock" in one.refused for one in again(recorded(pair, pair.bob)))


def test_it_may_begin_in_the_middle_of_everything() -> None:
    pair = connected()
    for moment in range(6):
        pair.alice.apply(SubmitLock(40, NOW + 900 + moment, digest_of(SECRET), b"an onion"))
        pair.alice.apply(SubmitPayment(5, b"memo"))
        pair.alice.begin()
        if moment % 2:
            pair.alice.finish()
            pair.deliver(pair.bob)
    with_streams(pair)
    pair.alice.apply(SubmitPayments((1,) * 20))
    pair.alice.begin()
    pair.alice.apply(SubmitLock(4, NOW + 900, digest_of(SECRET)))
    record(pair)
    everything_after(pair)


def everything_after(pair: Pair) -> None:
    pair.settle()
    pair.bob.apply(RevealSecret(0, SECRET))
    pair.settle()
    (stream,) = pair.alice.session.streams.outgoing.values()
    pair.alice.apply(SubmitUnits(stream.lock, stream.condition, 2))
    pair.settle()
    pair.alice.apply(FinishStream(stream.lock, stream.condition))
    pair.settle()
    pair.alice.apply(ForceClose())
    pair.settle()
    assert pair.faults == []
    for party in pair.parties:
        assert len(again(recorded(pair, party))) > 10


def test_a_lie_and_a_signature_that_does_not_hold_are_seen_again() -> None:
    pair = connected()
    record(pair)
    pair.alice.apply(SubmitPayment(5))
    pair.alice.step()
    update = decode(pair.bob.incoming.popleft())
    forged = encode(type(update)(update.channel, update.seq, update.seen, update.operations, bytes(64)))  # type: ignore
    pair.inject(pair.bob, forged)
    pair.connect()
    pair.settle()
    pair.alice.apply(SubmitLock(40, NOW + 900, digest_of(SECRET)))
    pair.settle()
    pair.inject(pair.alice, encode(Reveal(pair.id, 0, b"z" * 32)))
    faults = [type(fault).__name__ for _, fault in pair.faults]
    assert faults == ["InvalidSignature", "InvalidUpdate"]
    told = [
        [one.refused.partition(":")[0] for one in again(recorded(pair, who)) if one.refused] for who in pair.parties
    ]
    assert told == [["InvalidUpdate"], ["InvalidSignature"]]


def test_what_a_router_does_within_an_input_is_done_within_it_again() -> None:
    world = Line()
    world["C"].secrets[digest_of(SECRET)] = SECRET
    b = world["B"]
    for name in ("AB", "BC"):
        b.engine.recordings.begin(world.channel(name))
    world["C"].engine.recordings.begin(world.channel("BC"))
    world.send("ABC", [5_100, 5_000], SECRET)
    world.settle()
    lived = [again(b.engine.recordings.of(world.channel(name))) for name in ("AB", "BC")]
    assert {one.what for one in lived[0]} >= {"RevealSecret", "Update"}
    assert "SubmitLock" in {one.what for one in lived[1]}
    assert any(one.depth == 0 and one.what == "Reveal" for one in lived[1])
    at_end = again(world["C"].engine.recordings.of(world.channel("BC")))  # its payee answers in the very channel
    assert {one.what for one in at_end if one.depth} == {"RevealSecret"}


# --- secrets ----------------------------------------------------------------------------------------------------


def spelled(secret: bytes) -> list[bytes]:
    """Return how bytes may stand in a text."""
    return [secret, secret.hex().encode(), *(base64.b64encode(bytes(n) + secret)[4 * (n > 0) : -4] for n in range(3))]


def secrets_of(pair: Pair) -> list[bytes]:
    """All that must be in no file: keys, secrets, seeds and links of streams, signatures, memos, names of payments."""
    chain = HashChain.built(stream_seed(pair.alice.key, pair.id, 2), 200)
    links = [chain.link(depth) for depth in range(1, 201)]
    keys = [party.key.reveal() for party in pair.parties]
    states = [state for party in pair.parties for state in (party.channel.ours, party.channel.theirs)]
    signatures = [sig for state in states for sig in (state.signature, state.countersignature) if sig]
    return [SECRET, b"x" * 32, *links, *keys, *signatures, b"a memo that is private", b"order 4711", b"an onion"]


def test_no_secret_no_key_and_no_signature_is_in_what_is_exported() -> None:
    pair = connected()
    record(pair)
    everything(pair)
    secrets = secrets_of(pair)
    assert len(secrets) > 205
    for party in pair.parties:
        data = written(recorded(pair, party))
        assert len(data) > 10_000
        for secret in secrets:
            assert not any(spelling in data for spelling in spelled(secret) if len(spelling) > 7)


def test_stand_ins_are_no_way_back_and_the_same_in_every_recording() -> None:
    pair = connected()
    record(pair)
    pair.alice.apply(SubmitLock(40, NOW + 900, digest_of(SECRET)))
    pair.settle()
    first, second = (recorded(pair, party).steps for party in pair.parties)
    assert base64.b64encode(digest_of(SECRET)) not in written(recorded(pair, pair.alice))
    assert [step.kind for step in first] != [step.kind for step in second]


# --- files ------------------------------------------------------------------------------------------------------


def damaged(change: Callable[[bytes], bytes]) -> bytes:
    pair = connected()
    record(pair)
    pair.alice.apply(SubmitPayment(5))
    pair.settle()
    return change(written(recorded(pair, pair.alice)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: b"", "no recording"),
        (lambda data: data[: len(data) // 2], "no recording"),
        (lambda data: b"\xff" + data, "no recording"),
        (lambda data: b"[1, 2]", "no recording"),
        (lambda data: b'{"recording": {}}', "no recording"),
        (lambda data: data.replace(FORMAT.encode(), b"tallystick recording 9"), "use its release"),
        (lambda data: data.replace(b'"amount":5', b'"amount":6'), "damaged"),
        (lambda data: data.replace(b'"lost":false', b'"lost":true', 1), "damaged"),
    ],
)
def test_a_file_that_is_not_what_was_exported_is_refused_in_a_sentence(
    change: Callable[[bytes], bytes], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        read(damaged(change))


@pytest.mark.parametrize("field", ["kind", "given", "now", "asked"])
def test_a_step_that_has_not_its_form_is_refused_in_a_sentence_though_its_checksum_is_right(field: str) -> None:
    document = json.loads(damaged(lambda data: data))
    document["recording"]["steps"][0][field] = "nonsense"
    from tallystick.channels.session.recording import document as form

    document["checksum"] = form._checksum(document["recording"])
    with pytest.raises(InvalidInput):
        list(Replay(read(json.dumps(document).encode())).run())


def test_a_state_that_is_not_what_it_was_is_said_to_be_so() -> None:
    pair = connected()
    record(pair)
    pair.alice.apply(SubmitPayment(5))
    pair.settle()
    recording = recorded(pair, pair.alice)
    changed = [step for step in recording.steps if step.kind != "SubmitPayment"]
    lived = list(Replay(Recording(recording.start, tuple(changed), True)).run())
    assert not any(one.agrees for one in lived if one.what == "Ack")
    steps = list(recording.steps)
    steps[2] = msgspec.structs.replace(steps[2], state="0" * 16)
    lived = list(Replay(Recording(recording.start, tuple(steps), True)).run())
    assert [one.number for one in lived if not one.agrees] == [2]


def test_recording_is_bounded_begins_anew_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "STEPS_MAX", 12)
    pair = connected()
    record(pair)
    for _ in range(10):
        pair.alice.apply(SubmitPayment(5))
        pair.settle()
    recording = recorded(pair, pair.alice)
    assert not recording.whole and len(recording.steps) == 12 and pair.alice.session.recorder is None
    again(recording)
    pair.alice.engine.recordings.begin(pair.id)
    pair.inject(pair.alice, encode(Shutdown(pair.id, 0)))
    assert [step.kind for step in recorded(pair, pair.alice).steps] == ["PeerMessage"]
    pair.alice.engine.recordings.end(pair.id)
    assert pair.alice.session.recorder is None
    with pytest.raises(InvalidInput, match="tally channel record"):
        recorded(pair, pair.alice)
    with pytest.raises(InvalidInput, match="no channel"):
        pair.alice.engine.recordings.begin(ChannelId(bytes(32)))


def test_what_is_kept_of_large_messages_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "BYTES_MAX", 10_000)
    pair = connected()
    record(pair)
    for _ in range(20):
        pair.alice.apply(SubmitPayments((1,) * 1_000))
        pair.settle()
    for party in pair.parties:
        recording = recorded(pair, party)
        assert not recording.whole and 1 < len(recording.steps) < 100 and party.session.recorder is None
        again(recording)


def test_a_channel_that_is_proposed_anew_is_recorded_no_longer() -> None:
    pair = Pair((0, 0))
    record(pair)
    engine, channel = pair.alice.engine, pair.alice.channel
    assert engine.add_channel(channel).recorder is None
    with pytest.raises(InvalidInput, match="not being recorded"):
        recorded(pair, pair.alice)
    engine.recordings.begin(pair.id)
    engine.forget_channel(pair.id)
    with pytest.raises(InvalidInput, match="not being recorded"):
        engine.recordings.of(channel.id)


def test_what_policy_says_of_a_lock_is_lived_through_again_and_not_told() -> None:
    pair = connected()
    record(pair)
    pair.alice.apply(SubmitLock(40, NOW + 50, digest_of(SECRET)))
    pair.alice.step()
    pair.deliver(pair.bob)
    (rejection,) = pair.bob.channel.rejections
    assert rejection.reason and not any(one.refused for one in again(recorded(pair, pair.bob)))
    pair.settle()
    again(recorded(pair, pair.alice))
    assert base64.b64encode(rejection.reason) not in written(recorded(pair, pair.alice))
