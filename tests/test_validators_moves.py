"""Delegations that move: behind one validator at a time, answering for the one they left, in no chain that escapes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simulation.module_ledger import BOB, CAROL, DAVE, PEOPLE
from simulation.stake_ledger import ADDRESSES, OWN, PUBLIC, RULES, StakeLedger
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.interface import rounded_up
from tallystick.settlement.modules.validator_records import MILLION
from tallystick.settlement.simulated.ledger import MINER

COMMISSION = 100_000


def loss(amount: int) -> int:
    return rounded_up(amount * RULES.slash, MILLION)


def moved_ledger(amount: int = 4_000) -> StakeLedger:
    """Return a ledger in whose block 4 delegation 2, of Carol's, moved from the first validator to the second one."""
    ledger = StakeLedger()
    ledger.call(CAROL, "validators", "delegate", ADDRESSES[0], amount)
    for _ in range(3):
        ledger.block()
    assert ledger.call(CAROL, "validators", "redelegate", 2, ADDRESSES[1], amount) == (2,)
    return ledger


def test_power_goes_with_it_two_blocks_later_and_nothing_waits() -> None:
    ledger = moved_ledger()
    assert set(ledger.block()) == {(PUBLIC[0], 100), (PUBLIC[1], 140)}
    assert (ledger.validator(0)["stake"], ledger.validator(1)["stake"]) == (OWN, OWN + 4_000)
    assert ledger.read("validators", "moved", 2) == (ADDRESSES[0], 4, True)
    assert ledger.read("validators", "delegation", 2)[1:3] == (ADDRESSES[1], 4_000)
    assert ledger.read("validators", "moved", 1) == (NATIVE, 0, False)


def test_it_answers_for_the_votes_that_it_stood_behind_of_both_and_for_no_others() -> None:
    for who, block, lost in ((0, 1, 0), (0, 3, 280), (0, 5, 280), (0, 6, 0), (1, 5, 0), (1, 6, 280)):
        ledger = moved_ledger()
        for _ in range(3):
            ledger.block()
        ledger.block(offences=[ledger.offence(who, block)])
        assert 4_000 - ledger.worth(2) == lost, (who, block)


def test_who_moved_answers_for_both_if_both_sign_twice_and_once_for_each() -> None:
    ledger = moved_ledger()
    for _ in range(2):
        ledger.block()
    first, second = (ledger.offence(who, block) for who, block in ((0, 4), (1, 6)))
    ledger.block(offences=[first])
    assert ledger.call(CAROL, "validators", "undelegate", 2, 1_000) == (3,)
    assert [ledger.worth(number) for number in (2, 3)] == [2_720, 1_000] and ledger.held[2] == 280
    ledger.block(offences=[second, ledger.offence(0, 5)])
    assert [ledger.worth(number) for number in (2, 3)] == [2_720 - loss(2_720), 930]


def test_it_does_not_move_on_before_it_has_answered_but_can_be_undelegated() -> None:
    ledger = moved_ledger()
    ledger.register(DAVE, 2, OWN)
    for _ in range(RULES.evidence_blocks + 2):
        assert ledger.refused(CAROL, "validators", "redelegate", 2, ADDRESSES[2], 9) == Revert.WINDOW_OPEN
        ledger.block(seconds=11)
    assert ledger.refused(CAROL, "validators", "redelegate", 2, ADDRESSES[2], 9) is None
    assert ledger.refused(CAROL, "validators", "redelegate", 4, ADDRESSES[0], 9) == Revert.WINDOW_OPEN
    assert ledger.refused(CAROL, "validators", "undelegate", 4, 4) is None
    assert ledger.read("validators", "moved", 5)[0] == ADDRESSES[1], "what is undelegated is let off"
    assert ledger.refused(CAROL, "validators", "redelegate", 2, ADDRESSES[2], 9) is None, "the rest answers for nothing"


def test_who_has_paid_moves_on() -> None:
    ledger = moved_ledger()
    ledger.register(DAVE, 2, OWN)
    ledger.block()
    ledger.block(offences=[ledger.offence(0, 4)])
    assert ledger.refused(CAROL, "validators", "redelegate", 2, ADDRESSES[0], 9) == Revert.NOT_ALLOWED
    assert ledger.call(CAROL, "validators", "redelegate", 2, ADDRESSES[2], 3_720) == (2,)
    assert ledger.held[2] == 280
    ledger.block(offences=[ledger.offence(1, 6)])
    assert ledger.worth(2) == 3_720 - loss(3_720), "a second hop escaped"


def test_anybody_may_have_burnt_what_is_lost_and_it_stands_behind_no_vote_any_more() -> None:
    ledger = moved_ledger()
    ledger.block()
    assert ledger.refused(BOB, "validators", "settle", 2) == Revert.NOTHING_OWED
    ledger.block(offences=[ledger.offence(0, 4)])
    assert ledger.validator(1)["stake"] == OWN + 4_000
    assert ledger.call(BOB, "validators", "settle", 2) == (280,)
    assert ledger.validator(1)["stake"] == OWN + 3_720 and ledger.held[2] == 280
    assert dict(ledger.block())[PUBLIC[1]] == 137
    assert ledger.refused(BOB, "validators", "settle", 2) == Revert.NOTHING_OWED
    assert ledger.worth(2) == 3_720


def test_what_is_refused() -> None:
    ledger = moved_ledger()
    for _ in range(10):
        ledger.block()
    ledger.call(BOB, "validators", "undelegate", 1, 3_000)

    def refused(number: int, to: Address, amount: int, by: Address = CAROL) -> object:
        return ledger.refused(by, "validators", "redelegate", number, to, amount)

    assert refused(2, ADDRESSES[1], 5) == Revert.NOT_ALLOWED, "to where it is"
    assert refused(2, ADDRESSES[0], 5, by=BOB) == Revert.NOT_ALLOWED, "somebody else's"
    assert refused(3, ADDRESSES[0], 5, by=BOB) == Revert.NOT_ALLOWED, "what is undelegated"
    assert refused(2, ADDRESSES[3], 5) == Revert.UNKNOWN_ENTRY
    assert refused(9, ADDRESSES[0], 5) == Revert.UNKNOWN_ENTRY
    assert refused(2, ADDRESSES[0], 0) == Revert.BAD_AMOUNT
    assert refused(2, ADDRESSES[0], 4_001) == Revert.BAD_AMOUNT
    most = (RULES.power_max + 1) * RULES.unit - OWN - 1
    assert ledger.refused(DAVE, "validators", "delegate", ADDRESSES[0], most) is None
    assert refused(2, ADDRESSES[0], 1) == Revert.BAD_AMOUNT, "power beyond its limit"
    ledger.block(offences=[ledger.offence(0, ledger.height)])
    assert refused(2, ADDRESSES[0], 5) == Revert.NOT_ALLOWED, "to who is convicted"


def test_an_operator_that_moves_its_own_stake_away_votes_no_more() -> None:
    ledger = StakeLedger()
    ledger.call(CAROL, "validators", "delegate", ADDRESSES[1], 9_000)
    ledger.block()
    ledger.call(BOB, "validators", "redelegate", 1, ADDRESSES[0], OWN - 999)
    assert dict(ledger.block()) == {PUBLIC[0]: 190, PUBLIC[1]: 0}
    assert ledger.validator(0)["ownStake"] == OWN, "it counts as the other operator's own"


def test_it_is_paid_for_the_last_votes_there_and_from_the_first_ones_here() -> None:
    ledger = StakeLedger(commission=0)
    ledger.call(CAROL, "validators", "delegate", ADDRESSES[0], OWN)
    for _ in range(3):
        ledger.block()
    ledger.call(CAROL, "validators", "redelegate", 2, ADDRESSES[1], OWN)

    def shares() -> list[int]:
        before = [ledger.read("validators", "delegation", number)[3] for number in (0, 1, 2)]
        ledger.block(fees=6_000)
        now = [ledger.read("validators", "delegation", number)[3] for number in (0, 1, 2)]
        return [round(after - first, -1) for after, first in zip(now, before, strict=True)]

    assert [shares() for _ in range(4)] == [[2_000] * 3] * 4
    ledger.call(CAROL, "validators", "claim", 2)
    ledger.block(fees=6_000, away=[0])
    assert [ledger.read("validators", "delegation", number)[3] for number in (1, 2)] == [10_999, 2_999]


@dataclass
class Coins:
    """A delegation, with all that it ever stood behind: nothing of it is ever forgotten."""

    by: int
    amount: int
    stood: list[list[int]]
    """Behind whom, from which block on, until which one (0: still)."""
    paid: set[int] = field(default_factory=set)
    owes: set[int] = field(default_factory=set)
    """Indices of `stood`: of whose votes one contradicts another."""
    owed: Fraction = Fraction(0)
    got: int = 0
    payments: int = 0

    def behind(self, who: int, block: int) -> list[int]:
        at = max(block - 2, 0)
        found = [index for index, each in enumerate(self.stood) if each[0] == who]
        return [each for each in found if self.stood[each][1] <= at and (self.stood[each][2] or 10**9) > at]

    @property
    def loss(self) -> int:
        rest = self.amount
        for _ in self.owes:
            rest -= loss(rest)
        return self.amount - rest

    @property
    def is_waiting(self) -> bool:
        return bool(self.stood[-1][2])


class Moves(RuleBasedStateMachine):
    """A ledger beside a model that keeps of each coin behind whom it stood, in all blocks of its life."""

    @initialize()
    def begin(self) -> None:
        self.ledger = StakeLedger()
        self.ledger.register(CAROL, 2, OWN, COMMISSION)
        self.coins = {who: Coins(who, OWN, [[who, int(who == 2), 0]]) for who in range(3)}
        self.ghosts: list[Coins] = []
        """What was burnt: it stood behind votes until then."""
        self.convicted: set[int] = set()

    def is_over(self, block: int) -> bool:
        ledger = self.ledger
        if block > ledger.height:
            return False
        return (
            ledger.height - block > RULES.evidence_blocks
            and ledger.clock - ledger.times[block] > RULES.evidence_seconds
        )

    def go_on(self, seconds: int, fees: int = 0, offence: tuple[int, int] | None = None) -> None:
        ledger = self.ledger
        pool = ledger.balance(MINER, NATIVE) + fees
        if offence is not None and not self.is_over(offence[1]):
            self.convicted.add(offence[0])
            for each in self.coins.values():
                each.owes |= {index for index in each.behind(*offence) if index not in each.paid}
        ledger.block(seconds, fees=fees, offences=[ledger.offence(*offence)] if offence else [])
        signed = {ADDRESSES.index(Address(each)): power for each, power in ledger.powers[-2].items()}
        for who in signed.keys() - self.convicted:
            share = pool * signed[who] // sum(signed.values())
            share -= share * COMMISSION // MILLION
            standing = [each for each in self.coins.values() if each.behind(who, ledger.height - 1)]
            ghosts = [each for each in self.ghosts if each.behind(who, ledger.height - 1)]
            whole = sum(each.amount for each in standing + ghosts)
            for each in standing:
                each.owed += Fraction(share * each.amount, whole)

    def paid(self, number: int, amount: int) -> None:
        self.coins[number].got += amount
        self.coins[number].payments += 1

    def bear(self, number: int) -> None:
        mine = self.coins[number]
        if mine.owes:
            ghost = deepcopy(mine)
            ghost.amount = mine.loss
            ghost.stood[-1][2] = ghost.stood[-1][2] or self.ledger.height
            self.ghosts.append(ghost)
            mine.amount -= mine.loss
            mine.paid |= mine.owes
            mine.owes = set()

    def split(self, number: int, amount: int) -> Coins:
        """Return what becomes of a part: it gets a number of its own, unless it is all."""
        mine = self.coins[number]
        if amount == mine.amount:
            return mine
        mine.amount -= amount
        made = Coins(mine.by, amount, deepcopy(mine.stood), set(mine.paid))
        self.coins[max(self.coins) + 1] = made
        return made

    def asked(self, number: int, function: str, *values: object) -> tuple[Revert | None, int]:
        """Return why it was refused, and what its owner got."""
        owner = PEOPLE[self.coins[number].by]
        before = self.ledger.balance(owner, NATIVE)
        said = self.ledger.refused(owner, "validators", function, number, *values)
        return said, self.ledger.balance(owner, NATIVE) - before

    @rule(by=st.sampled_from(range(4)), who=st.sampled_from(range(3)), amount=st.integers(1, 4_000))
    def delegate(self, by: int, who: int, amount: int) -> None:
        said = self.ledger.refused(PEOPLE[by], "validators", "delegate", ADDRESSES[who], amount)
        assert said == (Revert.NOT_ALLOWED if who in self.convicted else None)
        if said is None:
            self.coins[max(self.coins) + 1] = Coins(by, amount, [[who, self.ledger.height, 0]])

    @rule(data=st.data(), to=st.sampled_from(range(3)), part=st.sampled_from((1, 1, 2, 3)))
    def redelegate(self, data: st.DataObject, to: int, part: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.coins)))
        mine = self.coins[number]
        amount = (mine.amount - mine.loss) // part
        said, got = self.asked(number, "redelegate", ADDRESSES[to], amount)
        before = mine.stood[-2] if len(mine.stood) > 1 else None
        answered = before is None or self.is_over(before[2] + 1) or len(mine.stood) - 2 in mine.paid | mine.owes
        if not mine.amount:
            assert said == Revert.UNKNOWN_ENTRY
        elif mine.is_waiting or to == mine.stood[-1][0] or to in self.convicted:
            assert said == Revert.NOT_ALLOWED
        elif not answered:
            assert said == Revert.WINDOW_OPEN, "it moved on before it had answered"
        elif not amount:
            assert said == Revert.BAD_AMOUNT
        else:
            assert said is None, "it has answered, and may not move"
            self.paid(number, got)
            self.bear(number)
            made = self.split(number, amount)
            made.stood[-1][2] = self.ledger.height
            made.stood.append([to, self.ledger.height, 0])

    @rule(data=st.data(), part=st.sampled_from((1, 2)))
    def undelegate(self, data: st.DataObject, part: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.coins)))
        mine = self.coins[number]
        amount = (mine.amount - mine.loss) // part
        said, got = self.asked(number, "undelegate", amount)
        assert (said is None) == bool(amount and not mine.is_waiting)
        if said is None:
            self.paid(number, got)
            self.bear(number)
            self.split(number, amount).stood[-1][2] = self.ledger.height

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.coins)))
        mine = self.coins[number]
        worth, earned = mine.amount - mine.loss, self.earned(number)
        said, got = self.asked(number, "withdraw")
        assert (said is None) == bool(mine.amount and mine.is_waiting and self.is_over(mine.stood[-1][2] + 1))
        if said is None:
            assert got == worth + earned
            self.paid(number, earned)
            self.bear(number)
            mine.amount = 0

    @rule(data=st.data(), by=st.sampled_from(range(4)))
    def settle(self, data: st.DataObject, by: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.coins)))
        mine = self.coins[number]
        owner = PEOPLE[mine.by]
        before = self.ledger.balance(owner, NATIVE)
        said = self.ledger.refused(PEOPLE[by], "validators", "settle", number)
        assert (said is None) == bool(mine.amount and mine.owes)
        if said is None:
            self.paid(number, self.ledger.balance(owner, NATIVE) - before)
            self.bear(number)

    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.coins)))
        earned = self.earned(number)
        _, got = self.asked(number, "claim")
        assert got == earned
        if got:
            self.paid(number, got)

    @rule(seconds=st.sampled_from((1, 10, 10, 60)), fees=st.sampled_from((0, 0, 700, 9_001)))
    def block(self, seconds: int, fees: int) -> None:
        self.go_on(seconds, fees)

    @rule(seconds=st.sampled_from((15, 15, 60)))
    def window(self, seconds: int) -> None:
        for _ in range(RULES.evidence_blocks + 2):
            self.go_on(seconds, 100)

    @precondition(lambda self: len(self.convicted) < 2)
    @rule(data=st.data(), who=st.sampled_from(range(3)), fees=st.sampled_from((0, 5_000)))
    def sign_twice(self, data: st.DataObject, who: int, fees: int) -> None:
        height = self.ledger.height
        self.go_on(10, fees, (who, data.draw(st.integers(max(1, height - 8), height))))

    def earned(self, number: int) -> int:
        return int(self.ledger.read("validators", "delegation", number)[3]) if self.coins[number].amount else 0

    @invariant()
    def holds(self) -> None:
        ledger = self.ledger
        ledger.check_conservation()
        there = {number: each for number, each in self.coins.items() if each.amount}
        for number, each in there.items():
            assert ledger.worth(number) == each.amount - each.loss, "the wrong stake was slashed, or the wrong part"
        stakes, _, burnt = ledger.held
        assert stakes == sum(each.amount for each in there.values()) and burnt == sum(
            each.amount for each in self.ghosts
        )
        for who in range(3):
            bonded = [each for each in there.values() if each.stood[-1][0] == who and not each.is_waiting]
            seen = ledger.validator(who)
            assert seen["stake"] == sum(each.amount for each in bonded)
            assert seen["ownStake"] == sum(each.amount for each in bonded if each.by == who)
        for number, each in self.coins.items():
            got = each.got + self.earned(number)
            assert got <= each.owed, "a delegation got more than its part"
            assert got > each.owed - 2 * each.payments - 2 - Fraction(1, 10**6), "a delegation got less than its part"


TestMoves = Moves.TestCase
TestMoves.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
