"""What counts as exposed is never less than what a cheat could take, and only so much waits for towers."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.tower_office import ALICE, BOB, PAIR
from tallystick.channels.errors import InvalidUpdate, StoreError
from tallystick.channels.limits import Policy
from tallystick.channels.node import custody
from tallystick.channels.node.custody import Custody, CustodyPolicy
from tallystick.channels.node.uncovered import FINENESS, Uncovered, worth
from tallystick.channels.protocol.conditions import HASH, digest_of
from tallystick.channels.protocol.core import Channel, Phase, move, new_channel, with_peer_update
from tallystick.channels.protocol.eip712 import digest_proof, domain_separator
from tallystick.channels.protocol.messages import Reveal, Shutdown, Update, encode
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.protocol.operations import AddLock, Cancel, Operation, Pay, Unlock
from tallystick.channels.protocol.simplex import Simplex, extend
from tallystick.channels.session.effects import Effects
from tallystick.channels.session.session import Session
from tallystick.channels.storage.schema import UpdateDeferred

SIDE = PAIR.keys.index(ALICE)
BARE = new_channel(PAIR.terms, SIDE, bytes(BOB.public))
SECRET = b"s" * 32


class Act(NamedTuple):
    kind: str
    amount: int
    pick: int
    covered: int
    """How many updates towers lag behind after it; above 20: they have heard nothing since the last time."""


ACTS = st.builds(
    Act,
    st.sampled_from(["pay", "lock", "unlock", "cancel"]),
    st.integers(1, 50),
    st.integers(0, 20),
    st.integers(0, 40),
)


def operation_of(simplex: Simplex, act: Act) -> Operation:
    if simplex.locks and act.kind in ("unlock", "cancel"):
        lock = simplex.locks[act.pick % len(simplex.locks)]
        return Unlock(lock.id, SECRET, lock.amount) if act.kind == "unlock" else Cancel(lock.id)
    if act.kind == "lock":
        return AddLock(Lock(simplex.next_lock, act.amount, 10**6, HASH, digest_of(SECRET)), b"")
    return Pay(simplex.next_payment, (act.amount,))


def at_stake(before: Simplex, after: Simplex, cancelled: set[int]) -> int:
    """What the payee has by `after`, all its locks paid, and would not have by `before`, whose locks it can claim but
    for those that it gave back."""
    claimed = sum(lock.amount for lock in before.locks if lock.id not in cancelled)
    return after.proof.transferred + after.proof.locked - before.proof.transferred - claimed


@given(st.lists(ACTS, max_size=60))
def test_no_less_counts_as_exposed_than_a_cheat_could_take(acts: list[Act]) -> None:
    channel, exposure = BARE, Uncovered(PAIR.terms.asset)
    states, cancelled, covered = [BARE.theirs.simplex], set[int](), 0
    for act in acts:
        before = states[-1]
        operation = operation_of(before, act)
        if isinstance(operation, Cancel):
            cancelled.add(operation.id)
        states.append(extend(before, (operation,), 0))
        channel = with_peer_update(channel, states[-1], b"")
        rose = exposure.amount
        exposure.reckon(channel, covered)
        assert exposure.amount <= rose + worth(operation), "what passes by its worth never turns out to be more"
        if act.covered <= 20:
            covered = max(covered, len(states) - 1 - act.covered)
        exposure.reckon(channel, covered)
        assert exposure.amount >= at_stake(states[covered], states[-1], cancelled)
        assert exposure.amount == 0 or covered < len(states) - 1
    exposure.reckon(channel, len(states) - 1)
    assert exposure.amount == 0


def test_without_receipts_for_long_little_is_remembered_and_what_is_exposed_stays_right() -> None:
    channel, exposure = BARE, Uncovered(PAIR.terms.asset)
    for number in range(30 * FINENESS):
        simplex = extend(channel.theirs.simplex, (Pay(number, (1,)),), 0)
        channel = with_peer_update(channel, simplex, b"")
        exposure.reckon(channel, 0)
        assert exposure.amount == number + 1
    assert len(exposure._marks) < 6 * FINENESS
    exposure.reckon(channel, 20 * FINENESS)
    assert 10 * FINENESS <= exposure.amount <= 10 * FINENESS + 30


class Desk:
    """An engine of one channel, as far as a custody needs it, in which nothing becomes durable by itself."""

    def __init__(self, channel: Channel) -> None:
        self.session = Session(channel, ALICE, Policy(), Effects())
        self.session.learn(ready=True, greeted=True)
        self.sessions = {channel.id: self.session}
        self.stored: list[UpdateDeferred] = []
        self.acts: list[object] = []
        self.admitted: list[object] = []
        self.offered: list[Channel] = []
        self.ended: list[object] = []
        self.covered = 0

    def store(self, moments: object) -> None:
        self.stored += moments  # type: ignore[arg-type, operator]  # a list

    def then(self, act: object) -> None:
        self.acts.append(act)

    def admit(self, channel: object, message: object, frame: bytes) -> None:
        self.admitted.append(message)
        if isinstance(message, Update):
            before = self.session.channel
            simplex = extend(before.theirs.simplex, message.operations, message.seen)
            self.session.channel = with_peer_update(before, simplex, message.signature)

    def apply(self, channel: object, command: object) -> None:
        self.admitted.append(command)

    def custody(self, unsecured: int = 0) -> Custody:
        return Custody(
            self,  # type: ignore[arg-type]  # it stands in for the engine
            CustodyPolicy(receipts=1, unsecured=unsecured),
            self.stored,
            covered=lambda channel: self.covered,
            offer=self.offered.append,
            end=lambda peer, fault: self.ended.append(fault),
            clock=lambda: 5.0,
        )


def open_channel() -> Channel:
    funded = new_channel(PAIR.terms, SIDE, bytes(BOB.public))
    return msgspec.structs.replace(move(funded, Phase.OPEN), deposits=(10**6, 10**6))


def update(channel: Channel, seq: int, *amounts: int) -> Update:
    """Bob's update with that number, if those before it had one payment of 1 each."""
    simplex = channel.theirs.simplex
    for number in range(simplex.proof.seq + 1, seq):
        simplex = extend(simplex, (Pay(number - 1, (1,)),), 0)
    run = (Pay(simplex.next_payment, amounts),)
    after = extend(simplex, run, 0)
    domain = domain_separator(PAIR.terms.chain_id, PAIR.terms.contract)
    return Update(channel.id, seq, 0, run, BOB.sign(digest_proof(domain, after.proof)))


def test_what_is_not_durable_yet_is_not_given_to_towers() -> None:
    channel = open_channel()
    desk = Desk(channel)
    kept = desk.custody()
    said = update(channel, 1, 1)
    assert kept.defers(desk.session, said, encode(said))
    assert kept.ahead(channel) is channel and not desk.offered, "in a crash now a tower would know more than we"
    (act,) = desk.acts
    act()  # type: ignore[operator]  # the commit
    assert kept.ahead(channel).theirs.seq == 1 and desk.offered == [channel]
    assert desk.stored[0].countersignature == kept.ahead(channel).theirs.countersignature


def test_what_builds_on_an_update_that_waits_waits_behind_it_and_what_does_not_passes() -> None:
    channel = open_channel()
    desk = Desk(channel)
    kept = desk.custody()
    first, second, last = update(channel, 1, 1), update(channel, 2, 1), Shutdown(channel.id, 2)
    for message in (first, second, last):
        assert kept.defers(desk.session, message, encode(message))
    reveal = Reveal(channel.id, 0, SECRET)
    assert not kept.defers(desk.session, reveal, encode(reveal))
    desk.covered = 1
    kept.look(channel.id)
    assert desk.admitted == [first], "the second one needs receipts of its own"
    desk.covered = 2
    kept.look(channel.id)
    assert desk.admitted == [first, second, last]
    assert kept.statistics().deferred == 0


def test_a_peer_that_says_too_much_while_something_waits_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody, "WAITING_BYTES_MAX", 1_000)
    channel = open_channel()
    desk = Desk(channel)
    kept = desk.custody()
    said = update(channel, 1, 1)
    with pytest.raises(InvalidUpdate, match="too much waits here"):
        for _ in range(100):
            assert kept.defers(desk.session, said, encode(said))
    kept.on_disconnected([desk.session])
    assert kept.defers(desk.session, said, encode(said)), "on another connection it may say it again"


def test_a_fault_in_what_waited_ends_the_connection_and_drops_the_rest() -> None:
    channel = open_channel()
    desk = Desk(channel)
    kept = desk.custody()
    bad = update(channel, 2, 1)
    for message in (update(channel, 1, 1), Update(bad.channel, 2, 0, bad.operations, bytes(64)), update(channel, 3, 1)):
        assert kept.defers(desk.session, message, encode(message))
    desk.covered = 1
    kept.look(channel.id)
    assert len(desk.admitted) == 1 and len(desk.ended) == 1
    assert kept.statistics().deferred == 0


def test_after_a_start_what_was_countersigned_is_what_towers_get_and_nothing_else_is_taken() -> None:
    channel = open_channel()
    desk = Desk(channel)
    said = update(channel, 1, 1)
    assert desk.custody().defers(desk.session, said, encode(said))
    again = desk.custody()
    assert again.ahead(channel).theirs.statement is not None
    other = update(channel, 1, 2)
    with pytest.raises(InvalidUpdate, match="another one than this node countersigned"):
        again.defers(desk.session, other, encode(other))
    desk.covered = 1
    assert not again.defers(desk.session, said, encode(said)), "towers have it already"
    ahead = update(channel, 3, 1)
    desk.stored[:] = [UpdateDeferred(channel.id, encode(ahead), b"")]
    with pytest.raises(StoreError, match="does not follow"):
        desk.custody()


def test_what_passes_within_one_round_counts_at_once() -> None:
    channel = open_channel()
    desk = Desk(channel)
    kept = desk.custody(unsecured=3)
    assert [kept.defers(desk.session, said, encode(said)) for said in (update(channel, 1, 2),)] == [False]
    again = update(channel, 1, 2)  # of another channel in the same round it would be the same: nothing was reckoned yet
    assert kept.defers(desk.session, again, encode(again))
