"""Treasuries: paid once, after a vote with a quorum, by units that were there before it was proposed and vote once."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from simulation.module_ledger import ALICE, BOB, CAROL, DAVE, GOLD, PEOPLE, SILVER, START, ModuleLedger
from tallystick.channels.protocol.objects import ZERO32, Address
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.treasury import GRACE, TREASURY

QUORUM, VOTE = 400_000, 1_000
VOTES, FUNDS = (TREASURY.account_of(name + bytes(8)) for name in (b"votes", b"funds"))
PAYEE = Address(b"\x55" * 20)


def with_treasury() -> ModuleLedger:
    """Return a ledger with a treasury of 1,000 where Alice has 50 votes, Bob 30, and Carol 20."""
    ledger = ModuleLedger()
    assert ledger.call(ALICE, "treasury", "createTreasury", GOLD, QUORUM, VOTE) == (0,)
    ledger.call(DAVE, "treasury", "fund", 0, SILVER, 1_000)
    for account, votes in ((ALICE, 50), (BOB, 30), (CAROL, 20)):
        ledger.call(account, "treasury", "lock", 0, votes)
    ledger.time += 1
    return ledger


def proposed(ledger: ModuleLedger, amount: int = 300) -> int:
    number: int = ledger.call(BOB, "treasury", "propose", 0, SILVER, amount, PAYEE, ZERO32)[0]
    return number


def test_a_payout_is_made_once_after_a_vote_that_approves_with_a_quorum() -> None:
    ledger = with_treasury()
    number = proposed(ledger)
    assert ledger.call(BOB, "treasury", "vote", 0, number, True) == (30,)
    assert ledger.call(CAROL, "treasury", "vote", 0, number, False) == (20,)
    assert ledger.refused(BOB, "treasury", "vote", 0, number, True) == Revert.NOT_ALLOWED
    assert ledger.refused(DAVE, "treasury", "execute", 0, number) == Revert.WINDOW_OPEN
    assert ledger.refused(BOB, "treasury", "unlock", 0, 1) == Revert.NOT_ALLOWED, "its votes are cast"
    assert ledger.refused(ALICE, "treasury", "unlock", 0, 50) is None
    ledger.time += VOTE
    assert ledger.refused(DAVE, "treasury", "execute", 0, number) == Revert.WINDOW_OPEN
    ledger.time += 1
    assert ledger.refused(DAVE, "treasury", "vote", 0, number, True) == Revert.EXPIRED
    assert ledger.refused(DAVE, "treasury", "execute", 0, number) is None
    assert ledger.balance(PAYEE, SILVER) == 300
    assert ledger.refused(DAVE, "treasury", "execute", 0, number) == Revert.NOTHING_OWED
    assert ledger.refused(BOB, "treasury", "unlock", 0, 30) is None
    assert ledger.read("treasury", "funds", 0, SILVER) == (700,)


def test_without_quorum_or_majority_or_funds_nothing_is_paid() -> None:
    ledger = with_treasury()
    few, tied, dear, late = (proposed(ledger, amount) for amount in (300, 300, 1_001, 300))
    ledger.call(BOB, "treasury", "vote", 0, few, True)
    ledger.call(ALICE, "treasury", "vote", 0, tied, False)
    for each in (BOB, CAROL):
        ledger.call(each, "treasury", "vote", 0, tied, True)
    for number in (dear, late):
        ledger.call(ALICE, "treasury", "vote", 0, number, True)
    ledger.time += VOTE + 1
    assert ledger.refused(DAVE, "treasury", "execute", 0, few) == Revert.NOT_ALLOWED
    assert ledger.refused(DAVE, "treasury", "execute", 0, tied) == Revert.NOT_ALLOWED
    assert ledger.refused(DAVE, "treasury", "execute", 0, dear) == Revert.INSUFFICIENT_BALANCE
    ledger.time += GRACE
    assert ledger.refused(DAVE, "treasury", "execute", 0, late) == Revert.EXPIRED
    assert ledger.balance(FUNDS, SILVER) == 1_000 and ledger.balance(PAYEE, SILVER) == 0


def test_no_unit_votes_twice_nor_one_that_came_with_or_after_the_proposal() -> None:
    ledger = with_treasury()
    ledger.call(DAVE, "treasury", "lock", 0, 10**6)  # in the block of the proposal
    assert ledger.refused(DAVE, "treasury", "propose", 0, SILVER, 1, PAYEE, ZERO32) == Revert.NOT_ALLOWED
    number = proposed(ledger)
    ledger.time += 5
    assert ledger.refused(DAVE, "treasury", "vote", 0, number, True) == Revert.NOT_ALLOWED
    ledger.call(ALICE, "treasury", "lock", 0, 1)
    assert ledger.refused(ALICE, "treasury", "vote", 0, number, True) == Revert.NOT_ALLOWED, "she added to it since"
    ledger.call(BOB, "treasury", "vote", 0, number, True)
    assert ledger.refused(BOB, "treasury", "unlock", 0, 30) == Revert.NOT_ALLOWED
    assert ledger.read("treasury", "lockedBy", 0, BOB) == (30, ledger.time - 5 + VOTE)


def test_units_that_were_locked_for_a_moment_before_a_proposal_raise_no_quorum() -> None:
    ledger = with_treasury()
    ledger.call(DAVE, "treasury", "lock", 0, 10**6)
    ledger.time += 1
    first, second = proposed(ledger, 300), proposed(ledger, 200)
    ledger.time += 1
    ledger.call(BOB, "treasury", "vote", 0, first, True)
    ledger.call(CAROL, "treasury", "vote", 0, first, True)
    ledger.call(BOB, "treasury", "vote", 0, second, True)
    ledger.call(DAVE, "treasury", "unlock", 0, 10**6)
    assert ledger.call(ALICE, "treasury", "vote", 0, second, True) == (50,), "who votes counts again"
    assert ledger.read("treasury", "proposal", 0, second)[6] == 100
    assert ledger.call(DAVE, "treasury", "recount", 0, first) == (100,)
    ledger.call(DAVE, "treasury", "lock", 0, 10**6)
    assert ledger.call(DAVE, "treasury", "recount", 0, first) == (100,), "what comes later counts for nothing"
    ledger.time += VOTE
    assert [ledger.refused(DAVE, "treasury", "execute", 0, each) for each in (first, second)] == [None, None]
    assert ledger.balance(PAYEE, SILVER) == 500


def test_a_quorum_falls_by_nothing_that_is_unlocked_after_the_vote() -> None:
    ledger = with_treasury()
    number = proposed(ledger)
    ledger.call(BOB, "treasury", "vote", 0, number, True)
    ledger.time += VOTE + 1
    for account, votes in ((ALICE, 50), (BOB, 30)):
        ledger.call(account, "treasury", "unlock", 0, votes)
    assert ledger.refused(BOB, "treasury", "recount", 0, number) == Revert.EXPIRED
    assert ledger.refused(BOB, "treasury", "execute", 0, number) == Revert.NOT_ALLOWED


class Votes(RuleBasedStateMachine):
    """A treasury beside a model of who may vote for what."""

    @initialize()
    def begin(self) -> None:
        self.ledger = with_treasury()
        self.given, self.out = 1_000, 0
        self.proposals: dict[int, dict[Address, tuple[int, bool]]] = {}
        self.made: dict[int, tuple[int, int]] = {}

    @rule(by=st.sampled_from(PEOPLE), amount=st.integers(1, 100))
    def lock(self, by: Address, amount: int) -> None:
        self.ledger.call(by, "treasury", "lock", 0, amount)

    @rule(by=st.sampled_from(PEOPLE), amount=st.integers(1, 100))
    def unlock(self, by: Address, amount: int) -> None:
        self.ledger.refused(by, "treasury", "unlock", 0, amount)

    @rule(amount=st.integers(1, 500))
    def fund(self, amount: int) -> None:
        self.ledger.call(DAVE, "treasury", "fund", 0, SILVER, amount)
        self.given += amount

    @rule(by=st.sampled_from(PEOPLE), amount=st.integers(1, 600))
    def propose(self, by: Address, amount: int) -> None:
        number = len(self.proposals)
        if self.ledger.refused(by, "treasury", "propose", 0, SILVER, amount, PAYEE, ZERO32) is None:
            self.proposals[number] = {}
            self.made[number] = (self.ledger.read("treasury", "treasury", 0)[3], self.ledger.time)

    @rule(by=st.sampled_from(PEOPLE), which=st.integers(0, 3), approves=st.booleans())
    def vote(self, by: Address, which: int, approves: bool) -> None:
        held, _ = self.ledger.read("treasury", "lockedBy", 0, by)
        if self.ledger.refused(by, "treasury", "vote", 0, which, approves) is None:
            assert by not in self.proposals[which], "somebody voted twice"
            self.proposals[which][by] = (held, approves)
            self._count(which)

    @rule(by=st.sampled_from(PEOPLE), which=st.integers(0, 3))
    def recount(self, by: Address, which: int) -> None:
        if self.ledger.refused(by, "treasury", "recount", 0, which) is None:
            self._count(which)

    def _count(self, which: int) -> None:
        least, created = self.made[which]
        self.made[which] = (min(least, self.ledger.read("treasury", "treasury", 0)[3]), created)

    @rule(which=st.integers(0, 3), seconds=st.integers(0, 2 * VOTE))
    def execute(self, which: int, seconds: int) -> None:
        self.ledger.time += seconds
        before = self.ledger.balance(PAYEE, SILVER)
        if self.ledger.refused(DAVE, "treasury", "execute", 0, which) is None:
            for_it, against = (
                sum(votes for votes, way in self.proposals[which].values() if way is approves)
                for approves in (True, False)
            )
            total, created = self.made.pop(which)  # once
            assert for_it > against and (for_it + against) * 10**6 >= QUORUM * total
            assert self.ledger.time > created + VOTE and for_it + against <= total
            self.out += self.ledger.balance(PAYEE, SILVER) - before

    @invariant()
    def holds(self) -> None:
        self.ledger.check_conservation()
        assert self.ledger.balance(FUNDS, SILVER) == self.given - self.out
        held = sum(self.ledger.read("treasury", "lockedBy", 0, each)[0] for each in PEOPLE)
        assert held == self.ledger.balance(VOTES, GOLD) == self.ledger.read("treasury", "treasury", 0)[3]
        assert sum(self.ledger.balance(each, GOLD) for each in PEOPLE) + held == len(PEOPLE) * START


TestVotes = Votes.TestCase
TestVotes.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
