"""A stake that the chain's court decided is unlocked by its word, once both sides' confirmed chains say the same."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from simulation.pair import Pair, Party
from tallystick.channels.errors import Fault, InvalidUpdate
from tallystick.channels.protocol.apps import APP
from tallystick.channels.protocol.conditions import BY_COURT
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.messages import Error, Message, Update
from tallystick.channels.protocol.objects import Lock, Puzzle
from tallystick.channels.protocol.operations import Unlock
from tallystick.channels.protocol.virtual import VIRTUAL
from tallystick.channels.session.chaintime import MARGIN, StakeInCourt
from tallystick.channels.session.inputs import PayLock, SubmitLock, SubmitPayment
from tallystick.channels.testing.clock import EPOCH

NOW = int(EPOCH)
EXPIRY, DECIDED = NOW + 3_600, NOW + 5_000
"""The court may decide after the expiry."""
CONDITION = keccak(b"a stake")
KINDS = pytest.mark.parametrize("kind", [APP, VIRTUAL])


class AwaitsAll:
    def objection(self, channel: Channel, lock: Lock, word: bytes | None) -> str | None:
        return None

    def on_dropped(self, lock: Lock) -> None:
        raise AssertionError("every lock is signed")


class StakePair(Pair):
    """Alice has locked a stake of 100 in her channel with Bob."""

    def __init__(self, kind: int) -> None:
        self.told: list[tuple[Party, Message]] = []
        super().__init__((1_000, 1_000), sent=lambda party, message: self.told.append((party, message)))
        self.puzzle: Puzzle = (kind, CONDITION)
        for party in self.parties:
            self.register(party)
        self.connect()
        self.settle()
        self.alice.apply(SubmitLock(100, EXPIRY, CONDITION, kind=kind))
        self.settle()
        assert self.pending() == (True, True)

    def register(self, party: Party) -> None:
        for kind in (APP, VIRTUAL):
            party.engine.expected.register(kind, AwaitsAll())

    def says(self, paid: int, decides: int = DECIDED, expiry: int = EXPIRY) -> Mapping[Puzzle, StakeInCourt]:
        return {self.puzzle: StakeInCourt(expiry, decides, paid)}

    def at(self, party: Party, final: int, stakes: Mapping[Puzzle, StakeInCourt] | None) -> None:
        """A block comes: this side sees so much confirmed."""
        party.time(final + 20, final, stakes=stakes)

    def pending(self) -> tuple[bool, bool]:
        """Whether the stake pends at Alice's, and at Bob's."""
        mine = (*self.alice.channel.flight, self.alice.channel.ours)
        return any(state.simplex.locks for state in mine), bool(self.bob.channel.theirs.simplex.locks)

    def given(self) -> tuple[int, int]:
        """What has gone over, as Alice and Bob count it."""
        return self.alice.channel.ours.simplex.proof.transferred, self.bob.channel.theirs.simplex.proof.transferred

    def aside(self) -> list[int]:
        return [message.code for party, message in self.told if party is self.bob and isinstance(message, Error)]

    def unlocks(self) -> list[Unlock]:
        updates = [message for party, message in self.told if party is self.alice and isinstance(message, Update)]
        return [each for update in updates for each in update.operations if isinstance(each, Unlock)]


@KINDS
@pytest.mark.parametrize("paid", [1, 40, 100, 10_000])
def test_both_unlock_it_by_what_it_gave_and_the_channel_lives_on(kind: int, paid: int) -> None:
    pair = StakePair(kind)
    for party in pair.parties:
        pair.at(party, DECIDED + MARGIN, pair.says(paid))
    pair.settle()
    assert pair.pending() == (False, False) and pair.given() == (min(paid, 100),) * 2
    assert [each.proof for each in pair.unlocks()] == [BY_COURT]
    pair.alice.apply(SubmitPayment(50))
    pair.bob.apply(SubmitPayment(10))
    pair.settle()
    left = 1_000 - min(paid, 100) - 40
    assert pair.alice.channel.balances() == pair.bob.channel.balances() == (left, 2_000 - left)
    assert pair.alice.channel.phase is pair.bob.channel.phase is Phase.OPEN and pair.faults == []


@KINDS
def test_its_writer_waits_until_the_other_has_seen_it_too(kind: int) -> None:
    pair = StakePair(kind)
    for final in (DECIDED - 1, DECIDED, DECIDED + MARGIN - 1):
        for party in pair.parties:
            pair.at(party, final, pair.says(40))
        pair.settle()
        assert pair.unlocks() == [] and pair.pending() == (True, True)
    for party in pair.parties:
        pair.at(party, DECIDED + MARGIN, None)
    pair.settle()
    assert pair.pending() == (False, False) and pair.aside() == []


@KINDS
def test_of_a_stake_of_which_it_gave_nothing_all_comes_back(kind: int) -> None:
    pair = StakePair(kind)
    for party in pair.parties:
        pair.at(party, DECIDED + MARGIN, pair.says(0))
    pair.settle()
    assert pair.pending() == (False, False) and pair.given() == (0, 0) and pair.unlocks() == []


@pytest.mark.parametrize(
    "seen",
    [
        {},
        {"paid": 40, "decides": DECIDED + 900},
        {"paid": 39},
        {"paid": 41},
        {"paid": 0},
        {"paid": 40, "expiry": EXPIRY + 1},
    ],
    ids=["nothing", "not yet", "less", "more", "none of it", "of other terms"],
)
@KINDS
def test_what_the_other_s_chain_does_not_say_is_left_aside_until_it_does(kind: int, seen: dict[str, int]) -> None:
    """The writer lies, or its chain is ahead, or another branch: nothing of it counts here, and nothing is lost."""
    pair = StakePair(kind)
    pair.at(pair.alice, DECIDED + MARGIN, pair.says(40))
    pair.at(pair.bob, DECIDED + MARGIN, pair.says(**seen) if seen else {})
    pair.settle()
    assert pair.unlocks()[0].amount == 40 and set(pair.aside()) == {Fault.UNLOCK_REFUSED}
    assert pair.pending() == (True, True) and pair.bob.channel.theirs.simplex.proof.transferred == 0
    pair.bob.apply(SubmitPayment(10))
    pair.settle()
    assert pair.alice.channel.theirs.simplex.proof.transferred == 10, "the other direction goes on"
    assert pair.bob.channel.phase is Phase.OPEN and pair.faults == []
    pair.at(pair.bob, DECIDED + MARGIN + 12, pair.says(40))
    pair.settle()
    assert pair.pending() == (False, False) and pair.given() == (40, 40)


def test_a_verdict_that_is_not_confirmed_counts_for_nobody() -> None:
    pair = StakePair(APP)
    pair.at(pair.alice, DECIDED + MARGIN, pair.says(40))
    pair.at(pair.bob, DECIDED - 1, pair.says(40))
    pair.settle()
    assert pair.pending() == (True, True) and pair.given() == (0, 0)
    pair.at(pair.bob, DECIDED, None)
    pair.settle()
    assert pair.pending() == (False, False) and pair.given() == (40, 40)


def test_what_was_agreed_stays_so_if_the_chain_says_otherwise_later() -> None:
    """A reorganisation deeper than both took for confirmed: the two go on by what they signed."""
    pair = StakePair(VIRTUAL)
    for party in pair.parties:
        pair.at(party, DECIDED + MARGIN, pair.says(40))
    pair.settle()
    for party in pair.parties:
        pair.at(party, DECIDED + MARGIN + 12, pair.says(90))
    pair.settle()
    pair.connect()
    pair.settle()
    assert pair.given() == (40, 40) and pair.bob.channel.phase is Phase.OPEN and pair.faults == []


@pytest.mark.parametrize("takes_effect", [False, True])
@pytest.mark.parametrize("who", ["alice", "bob"])
def test_either_may_die_in_the_commit_that_unlocks_it(who: str, takes_effect: bool) -> None:
    pair = StakePair(VIRTUAL)
    victim: Party = getattr(pair, who)
    for party in pair.parties:
        pair.at(party, DECIDED + MARGIN, pair.says(40))
    if victim is pair.bob:
        pair.alice.step()
        assert pair.deliver(pair.bob)
    pair.crash_at_commit(victim, takes_effect=takes_effect)
    pair.register(victim)
    pair.connect()
    pair.settle()
    assert pair.pending() == (False, False) and pair.given() == (40, 40) and pair.faults == []


def test_it_is_resumed_after_a_restart_on_a_chain_that_has_forgotten() -> None:
    """The unlock was signed and stored; what the writer's chain says afterwards does not undo it."""
    pair = StakePair(APP)
    for party in pair.parties:
        pair.at(party, DECIDED + MARGIN, pair.says(40))
    pair.alice.step()
    pair.at(pair.alice, DECIDED + MARGIN + 1, {})
    pair.crash(pair.alice)
    pair.register(pair.alice)
    pair.connect()
    pair.settle()
    assert pair.pending() == (False, False) and pair.given() == (40, 40)


@KINDS
def test_nobody_unlocks_by_the_court_s_word_at_will(kind: int) -> None:
    pair = StakePair(kind)
    with pytest.raises(InvalidUpdate):
        pair.alice.apply(PayLock(0, BY_COURT))
    pair.settle()
    assert pair.pending() == (True, True)
