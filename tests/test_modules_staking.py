"""Staking: no more is paid than was funded, and each second's reward goes to who had staked then."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from simulation.module_ledger import ALICE, BOB, CAROL, GOLD, PEOPLE, SILVER, ModuleLedger
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.staking import SECONDS_MAX, STAKING

STAKES, REWARDS = (STAKING.account_of(name + bytes(8)) for name in (b"stakes", b"rewards"))
AMOUNTS = st.integers(1, 10**12) | st.integers(1, 50)


def with_pool() -> ModuleLedger:
    ledger = ModuleLedger()
    assert ledger.call(ALICE, "staking", "createPool", GOLD, SILVER) == (0,)
    return ledger


class Stakes(RuleBasedStateMachine):
    """A pool beside a model of it that counts in fractions, second by second."""

    @initialize()
    def begin(self) -> None:
        self.ledger = with_pool()
        self.staked = dict.fromkeys(PEOPLE, 0)
        self.due = dict.fromkeys(PEOPLE, Fraction(0))
        self.paid = dict.fromkeys(PEOPLE, 0)
        self.left, self.ahead, self.funded = Fraction(0), 0, 0

    @rule(seconds=st.integers(1, 500))
    def wait(self, seconds: int) -> None:
        self.ledger.time += seconds
        total = sum(self.staked.values())
        if not total or not self.ahead:
            return
        shared = self.left * min(seconds, self.ahead) / self.ahead
        self.left, self.ahead = self.left - shared, max(0, self.ahead - seconds)
        for account, amount in self.staked.items():
            self.due[account] += shared * amount / total

    @rule(amount=AMOUNTS, seconds=st.integers(1, 1_000))
    def fund(self, amount: int, seconds: int) -> None:
        slower = self.ahead and (self.left + amount) / seconds < self.left / self.ahead
        said = self.ledger.refused(ALICE, "staking", "fund", 0, amount, seconds)
        if said is None:
            self.left, self.ahead, self.funded = self.left + amount, seconds, self.funded + amount
        else:  # a unit's rounding may decide
            assert said == Revert.BAD_TERMS and (slower or (self.left + amount - 1) / seconds < self.left / self.ahead)

    @rule(by=st.sampled_from(PEOPLE), amount=AMOUNTS)
    def stake(self, by: Address, amount: int) -> None:
        self.ledger.call(by, "staking", "stake", 0, amount)
        self.staked[by] += amount

    @rule(by=st.sampled_from(PEOPLE), part=st.integers(1, 3))
    def unstake(self, by: Address, part: int) -> None:
        amount = self.staked[by] // part
        assert (self.ledger.refused(by, "staking", "unstake", 0, amount) is None) == (amount > 0)
        self.staked[by] -= amount

    @rule(by=st.sampled_from(PEOPLE))
    def claim(self, by: Address) -> None:
        before = self.ledger.balance(by, SILVER)
        if self.ledger.refused(by, "staking", "claim", 0) is None:
            self.paid[by] += self.ledger.balance(by, SILVER) - before

    @invariant()
    def holds(self) -> None:
        self.ledger.check_conservation()
        assert self.ledger.balance(STAKES, GOLD) == sum(self.staked.values())
        assert self.ledger.balance(REWARDS, SILVER) == self.funded - sum(self.paid.values())
        earned = 0
        for account in PEOPLE:
            staked, claimable = self.ledger.read("staking", "stakeOf", 0, account)
            assert staked == self.staked[account]
            assert abs(self.paid[account] + claimable - self.due[account]) <= 60, "this is not its share"
            earned += claimable
        assert earned + sum(self.paid.values()) <= self.funded, "more was promised than was funded"


TestStakes = Stakes.TestCase
TestStakes.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


def test_rewards_are_shared_by_what_was_staked_for_how_long_and_wait_while_nothing_is() -> None:
    ledger = with_pool()
    ledger.call(ALICE, "staking", "fund", 0, 1_000, 100)
    ledger.time += 50
    ledger.call(BOB, "staking", "stake", 0, 30)
    ledger.time += 20
    assert ledger.read("staking", "stakeOf", 0, BOB) == (30, 199), "the stream had waited for somebody"
    ledger.call(CAROL, "staking", "stake", 0, 10)
    ledger.time += 1_000
    assert ledger.call(BOB, "staking", "claim", 0) == (799,) and ledger.call(CAROL, "staking", "claim", 0) == (200,)
    assert ledger.refused(BOB, "staking", "claim", 0) == Revert.NOTHING_OWED
    assert ledger.refused(BOB, "staking", "unstake", 0, 31) == Revert.BAD_AMOUNT
    ledger.call(BOB, "staking", "unstake", 0, 30)


def test_only_the_maker_funds_a_pool_and_never_slows_it_down() -> None:
    ledger = with_pool()
    assert ledger.refused(BOB, "staking", "fund", 0, 1_000, 100) == Revert.NOT_ALLOWED
    ledger.call(ALICE, "staking", "fund", 0, 1_000, 100)
    assert ledger.refused(ALICE, "staking", "fund", 0, 1, 1_000) == Revert.BAD_TERMS
    assert ledger.refused(ALICE, "staking", "fund", 0, 1, SECONDS_MAX + 1) == Revert.BAD_TERMS
    assert ledger.refused(ALICE, "staking", "fund", 0, 1_000, 200) is None
    assert ledger.refused(ALICE, "staking", "stake", 1, 5) == Revert.UNKNOWN_ENTRY
    assert ledger.read("staking", "pool", 0)[2:] == (ALICE, 0, 2_000, ledger.time + 200)
