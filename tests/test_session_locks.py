"""Companions of our locks, onions of the peer's, and when secrets are told: what a router stands on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest

from simulation.pair import Pair, Party
from tallystick.channels.limits import Policy
from tallystick.channels.protocol.conditions import HASH
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.protocol.operations import AddLock
from tallystick.channels.session.effects import LockDropped, LockEnded, SecretLearned
from tallystick.channels.session.inputs import (
    ForceClose,
    PhaseReached,
    RejectLock,
    RequestClose,
    RevealSecret,
    SubmitLock,
)
from tallystick.channels.storage.schema import StreamSaved, load_onions, load_streams
from tallystick.channels.storage.store import Moment
from tallystick.channels.testing.clock import EPOCH
from tallystick.settlement.enforcement.claims import pending_puzzles

NOW = int(EPOCH)
SECRET = b"s" * 32
CONDITION = hashlib.sha256(SECRET).digest()
ONION = bytes(1_366)


class Keeper:
    """Remembers what it was told, and marks each with a moment (any moment will do: a stream's row)."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.number = 900

    def _mark(self, what: str, lock: Lock) -> Sequence[Moment]:
        self.told.append((what, lock.id))
        self.number += 1
        return [StreamSaved(ChannelId(bytes(32)), 0, self.number, what.encode())]

    def on_lock_received(self, channel: ChannelId, added: AddLock) -> Sequence[Moment]:
        return self._mark("received", added.lock)

    def refusal(self, channel: ChannelId, added: AddLock, objection: str) -> bytes:
        return b"wrapped " + objection.encode()

    def on_secret_learned(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        return self._mark("secret", lock)

    def on_lock_rejected(self, channel: ChannelId, lock: Lock, reason: bytes) -> Sequence[Moment]:
        return self._mark("rejected", lock)

    def on_lock_ended(self, channel: ChannelId, sender: int, lock: Lock, paid: int, secret: bytes) -> Sequence[Moment]:
        return self._mark(f"ended {sender} {paid}", lock)

    def stands_for(self, channel: ChannelId, lock: int) -> bool:
        return False

    def on_proof_shown(self, channel: ChannelId, lock: Lock, proof: bytes) -> Sequence[Moment]:
        raise AssertionError("nothing stands for anything here")

    def covers(self, channel: ChannelId, lock: Lock, paid: int) -> bool:
        return True

    def on_channel_ready(self, channel: ChannelId) -> Sequence[Moment]:
        return ()

    def on_chain_moved(self) -> Sequence[Moment]:
        return ()

    def on_lock_dropped(self, channel: ChannelId, lock: Lock) -> Sequence[Moment]:
        return self._mark("dropped", lock)


def connected(policy: Policy | None = None) -> tuple[Pair, Keeper, Keeper]:
    pair = Pair((1_000, 1_000), policy=policy)
    keepers = Keeper(), Keeper()
    for party, keeper in zip(pair.parties, keepers, strict=True):
        party.engine.keep_locks(keeper)
    pair.connect()
    pair.settle()
    return pair, *keepers


def companion(number: int) -> Moment:
    return StreamSaved(ChannelId(bytes(32)), 1, number, b"companion")


def companions(party: Party) -> list[int]:
    return [row.lock for row in load_streams(party.store, ChannelId(bytes(32))) if row.proof == b"companion"]


def marks(party: Party) -> list[bytes]:
    return [row.proof for row in load_streams(party.store, ChannelId(bytes(32))) if row.sender == 0]


def lock(party: Party, amount: int = 10, onion: bytes = ONION, attach: Moment | None = None) -> int:
    return party.apply(SubmitLock(amount, party.chain.now + 600, CONDITION, onion, attach=attach))


# --- companions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("takes_effect", [True, False])
def test_a_companion_is_durable_exactly_when_its_lock_is_signed(takes_effect: bool) -> None:
    pair, _, _ = connected()
    lock(pair.alice, attach=companion(7))
    assert companions(pair.alice) == []
    pair.crash_at_commit(pair.alice, takes_effect=takes_effect)
    assert len(pair.alice.channel.newest.locks) == takes_effect
    assert companions(pair.alice) == [7] * takes_effect


def test_a_lock_that_waits_has_no_companion_on_disk_and_gets_it_when_it_is_signed() -> None:
    pair, _, _ = connected()
    lock(pair.alice)
    pair.alice.step()  # in flight: what follows gathers
    lock(pair.alice, attach=companion(1))
    pair.alice.step()
    assert companions(pair.alice) == []
    pair.settle()
    assert companions(pair.alice) == [1]


def test_locks_that_are_given_up_unsigned_are_told_and_leave_no_companion() -> None:
    pair, keeper, _ = connected()
    pair.disconnect()
    first = lock(pair.alice, attach=companion(1))
    pair.alice.step()
    pair.alice.apply(ForceClose())
    pair.alice.step()
    assert [event.lock.id for event in pair.alice.events if isinstance(event, LockDropped)] == [first]
    assert keeper.told == [("dropped", first)]
    assert companions(pair.alice) == []
    assert marks(pair.alice) == [b"dropped"]


def test_a_peer_that_closes_makes_us_drop_what_is_not_signed() -> None:
    pair, keeper, _ = connected()
    lock(pair.alice)
    pair.alice.step()
    number = lock(pair.alice, attach=companion(1))
    pair.bob.apply(RequestClose())
    pair.settle()
    assert ("dropped", number) in keeper.told
    assert companions(pair.alice) == []


def test_only_locks_with_companions_are_dropped_on_request_and_numbers_leave_no_gap() -> None:
    pair, keeper, _ = connected()
    pair.disconnect()
    session = pair.alice.session
    lock(pair.alice)
    lock(pair.alice, attach=companion(1))
    lock(pair.alice, attach=companion(2))
    session.locks.drop(accompanied=True)
    assert keeper.told == [("dropped", 2), ("dropped", 1)]
    assert session.next_lock == 1 and session.outbox.total == 10
    lock(pair.alice, 20)
    pair.connect()
    pair.settle()
    assert [(pending.id, pending.amount) for pending in pair.bob.channel.theirs.simplex.locks] == [(0, 10), (1, 20)]
    assert companions(pair.alice) == []


# --- onions -----------------------------------------------------------------------------------------------------


def test_a_pending_lock_keeps_its_onion_across_a_crash_until_it_is_gone() -> None:
    pair, _, _ = connected()
    number = lock(pair.alice)
    pair.settle()
    pair.crash(pair.bob)
    assert pair.bob.session.locks.undecided_locks() == [AddLock(pair.bob.channel.theirs.simplex.locks[0], ONION)]
    pair.bob.apply(RejectLock(number, b""))
    assert pair.bob.session.locks.undecided_locks() == []
    pair.connect()
    pair.settle()
    assert load_onions(pair.bob.store, pair.id) == []


@pytest.mark.parametrize("answer", ["reveal", "reject"])
def test_an_onion_that_is_answered_in_the_step_that_brought_it_is_not_kept_and_the_answer_is(
    answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, _, bob = connected()

    def at_once(channel: ChannelId, added: AddLock) -> Sequence[Moment]:
        session = pair.bob.session
        (session.reveal if answer == "reveal" else session.reject)(added.lock.id, SECRET)
        return ()

    monkeypatch.setattr(bob, "on_lock_received", at_once)
    lock(pair.alice)
    pair.alice.step()
    while not pair.bob.channel.theirs.simplex.locks:
        assert pair.deliver(pair.bob)
    pair.bob.step()
    assert load_onions(pair.bob.store, pair.id) == []
    pair.crash(pair.bob)
    assert pair.bob.session.locks.undecided_locks() == []
    pair.connect()
    pair.settle()
    assert pair.alice.channel.newest.locks == ()


def test_a_lock_that_policy_objects_to_is_rejected_in_the_keepers_words() -> None:
    pair, _, _ = connected(Policy(locked_value=5))
    lock(pair.alice)
    pair.bob.events.clear()
    pair.settle()
    reasons = [event.reason for event in pair.alice.events if hasattr(event, "reason")]
    assert reasons == [b"wrapped too much is locked: at most 5"]


# --- secrets ----------------------------------------------------------------------------------------------------


def revealed(pair: Pair) -> int:
    number = lock(pair.alice)
    pair.settle()
    pair.bob.apply(RevealSecret(number, SECRET))
    pair.bob.step()
    return number


def test_a_secret_is_told_and_durable_before_the_peer_acknowledges_the_unlock() -> None:
    pair, keeper, _ = connected()
    number = revealed(pair)
    while pair.deliver(pair.alice):
        pass
    pair.alice.step()
    assert [(event.lock.id, event.secret) for event in pair.alice.events if isinstance(event, SecretLearned)] == [
        (number, SECRET)
    ]
    assert marks(pair.alice) == [b"secret"]
    assert not [event for event in pair.alice.events if isinstance(event, LockEnded)]
    pair.settle()
    assert marks(pair.alice) == [b"secret", b"ended 0 10"]
    assert keeper.told == [("secret", number), ("ended 0 10", number)]


def test_what_a_secret_leads_to_is_in_the_commit_of_the_unlock() -> None:
    pair, _, _ = connected()
    revealed(pair)
    while pair.deliver(pair.alice):
        pass
    pair.crash_at_commit(pair.alice, takes_effect=False)
    assert marks(pair.alice) == [] and len(pair.alice.channel.newest.locks) == 1
    pair.alice.engine.keep_locks(Keeper())
    pair.connect()
    pair.settle()
    assert pair.alice.channel.newest.locks == () and b"secret" in marks(pair.alice)


@pytest.mark.parametrize("phase", [Phase.CLOSING, Phase.CLOSED, Phase.GONE])
def test_a_secret_on_chain_is_told_once_whatever_the_channels_phase(phase: Phase) -> None:
    pair, keeper, _ = connected()
    number = lock(pair.alice)
    pair.settle()
    pair.alice.apply(PhaseReached(phase))
    for _ in range(2):
        pair.alice.time(NOW + 100, NOW + 90, {(HASH, CONDITION): (NOW + 50, SECRET)})
        pair.alice.step()
    assert keeper.told == [("secret", number)]


def test_a_secret_of_a_lock_whose_cancellation_the_peer_holds_back_is_told() -> None:
    pair, keeper, _ = connected()
    number = lock(pair.alice)
    pair.settle()
    pair.bob.apply(RejectLock(number, b"no"))
    pair.bob.step()
    while pair.deliver(pair.alice):
        pass
    pair.alice.step()
    pair.disconnect()  # the acknowledgement never comes: the older state, with the lock, can still be enforced
    assert pair.alice.channel.newest.locks == ()
    assert (HASH, CONDITION) in pending_puzzles([pair.alice.channel])
    pair.alice.time(NOW + 100, NOW + 90, {(HASH, CONDITION): (NOW + 50, SECRET)})
    assert keeper.told == [("rejected", number), ("secret", number)]


def test_a_secret_that_came_too_late_is_not_told() -> None:
    pair, keeper, _ = connected()
    lock(pair.alice)
    pair.settle()
    pair.alice.apply(PhaseReached(Phase.CLOSED))
    pair.alice.time(NOW + 700, NOW + 690, {(HASH, CONDITION): (NOW + 601, SECRET)})
    assert keeper.told == []


def test_a_node_with_an_old_view_of_the_chain_pays_once_its_view_is_new() -> None:
    pair, keeper, _ = connected()
    pair.alice.fresh = False
    revealed(pair)
    pair.settle()
    assert len(pair.alice.channel.newest.locks) == 1 and keeper.told == []
    pair.alice.fresh = True
    pair.alice.time(NOW + 20, NOW + 10)
    pair.settle()
    assert pair.alice.channel.newest.locks == () and ("secret", 0) in keeper.told


def test_a_node_with_an_old_view_of_the_chain_pays_nothing_when_the_new_one_shows_that_it_is_late() -> None:
    pair, keeper, _ = connected()
    pair.alice.fresh = False
    revealed(pair)
    pair.settle()
    pair.alice.fresh = True
    pair.alice.time(NOW + 541, NOW + 530)
    pair.settle()
    assert len(pair.alice.channel.newest.locks) == 1 and keeper.told == []


def test_both_sides_are_told_how_a_lock_ended() -> None:
    pair, alice, bob = connected()
    number = lock(pair.alice)
    pair.settle()
    pair.bob.apply(RejectLock(number, b"no"))
    pair.settle()
    assert alice.told == [("rejected", number), ("ended 0 0", number)]
    assert bob.told == [("received", number), ("ended 0 0", number)]
