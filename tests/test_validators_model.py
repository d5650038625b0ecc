"""Stakes of validators beside a model: of each coin, from which block on it stood behind whom, and what that earned."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simulation.module_ledger import PEOPLE
from simulation.stake_ledger import ADDRESSES, OWN, PUBLIC, RULES, SEEDS, StakeLedger
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.interface import rounded_up
from tallystick.settlement.modules.validator_blocks import Offence
from tallystick.settlement.modules.validator_records import MILLION
from tallystick.settlement.modules.validators import possession
from tallystick.settlement.simulated.ledger import MINER

SLASH = RULES.slash
SHARES = {0: 100_000, 1: 100_000, 2: 250_000, 3: 250_000}
"""Commissions."""


def loss(amount: int) -> int:
    return rounded_up(amount * SLASH, MILLION)


class Stakes(RuleBasedStateMachine):
    """A ledger beside a model that remembers, of each coin, from which block on it stood behind whom, until when."""

    @initialize()
    def begin(self) -> None:
        self.ledger = StakeLedger()
        self.parts: dict[int, dict[str, int]] = {
            number: {"who": number, "by": number, "amount": OWN, "since": 0, "until": 0} for number in (0, 1)
        }
        self.registered = {0: 0, 1: 1}
        self.convicted: set[int] = set()
        self.offences: set[tuple[int, int]] = set()
        self.burnt = 0
        self.fees = 0
        self.claimed = 0
        self.owed = {0: Fraction(0), 1: Fraction(0)}
        """What each delegation earned, by its part of each block's fees, reckoned for each block."""
        self.got = {0: 0, 1: 0}
        self.rounded = {0: 0, 1: 0}
        """How often what it got was rounded down."""

    def delegated(self, number: int, who: int, by: int, amount: int, since: int, until: int = 0) -> None:
        self.parts[number] = {"who": who, "by": by, "amount": amount, "since": since, "until": until}
        self.owed[number], self.got[number], self.rounded[number] = Fraction(0), 0, 0

    def behind(self, who: int, block: int) -> list[int]:
        """Return what stands behind the votes on a block."""
        at = max(block - 2, 0)
        return [
            number
            for number, part in self.parts.items()
            if part["who"] == who and part["since"] <= at and (not part["until"] or part["until"] > at)
        ]

    def earned(self, number: int) -> int:
        return int(self.ledger.read("validators", "delegation", number)[3]) if self.parts[number]["amount"] else 0

    def paid(self, number: int, amount: int) -> None:
        self.got[number] += amount
        self.rounded[number] += 1
        self.claimed += amount

    def go_on(self, seconds: int, away: Collection[int] = (), offences: Sequence[Offence] = (), fees: int = 0) -> None:
        """Begin a block, and share its fees, naively: with each delegation that stood behind a vote that it carries."""
        ledger = self.ledger
        pool = ledger.balance(MINER, NATIVE) + fees
        out = {who for who in self.registered if ledger.validator(who)["jailedUntil"]} | self.convicted
        ledger.block(seconds, tuple(away), offences, fees)
        self.fees += fees
        out |= {ADDRESSES.index(Address(each.address)) for each in offences} & self.convicted
        voted = {ADDRESSES.index(Address(each)): power for each, power in ledger.powers[-2].items()}
        signed = {who: power for who, power in voted.items() if who not in away}
        for who in signed.keys() - out:
            share = pool * signed[who] // sum(signed.values())
            rest = share - share * SHARES[who] // MILLION
            behind = self.behind(who, ledger.height - 1)
            whole = sum(self.parts[number]["amount"] for number in behind)
            for number in behind:
                self.owed[number] += Fraction(rest * self.parts[number]["amount"], whole)

    @rule(by=st.sampled_from(range(4)), who=st.sampled_from(range(4)), amount=st.integers(1, 4_000))
    def delegate(self, by: int, who: int, amount: int) -> None:
        said = self.ledger.refused(PEOPLE[by], "validators", "delegate", ADDRESSES[who], amount)
        if who not in self.registered:
            assert said == Revert.UNKNOWN_ENTRY
        elif who in self.convicted:
            assert said == Revert.NOT_ALLOWED
        else:
            assert said is None
            self.delegated(max(self.parts) + 1, who, by, amount, self.ledger.height)

    @rule(who=st.sampled_from((2, 3)), amount=st.integers(900, 20_000))
    def register(self, who: int, amount: int) -> None:
        if who in self.registered or amount < RULES.own_least:
            proof = SEEDS[who].sign(possession(1337, PEOPLE[who], PUBLIC[who])).signature
            assert self.ledger.refused(PEOPLE[who], "validators", "register", PUBLIC[who], proof, amount, 0)
            return
        number = self.ledger.register(PEOPLE[who], who, amount, 250_000)
        self.registered[who] = who
        self.delegated(number, who, who, amount, self.ledger.height)

    @rule(data=st.data(), part=st.integers(1, 3))
    def undelegate(self, data: st.DataObject, part: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.parts)))
        mine = self.parts[number]
        worth = self.ledger.worth(number) if mine["amount"] else 0
        amount = worth // part
        before, earned = self.ledger.balance(PEOPLE[mine["by"]], NATIVE), self.earned(number)
        said = self.ledger.refused(PEOPLE[mine["by"]], "validators", "undelegate", number, amount)
        paid = self.ledger.balance(PEOPLE[mine["by"]], NATIVE) - before
        if not mine["amount"]:
            assert said == Revert.UNKNOWN_ENTRY
        elif mine["until"]:
            assert said == Revert.NOT_ALLOWED
        elif not amount:
            assert said == Revert.BAD_AMOUNT
        else:
            assert said is None and paid == earned
            self.paid(number, paid)
            since = mine["since"]
            if worth < mine["amount"]:
                since = mine["since"] = 10**9  # it has paid, once for all
                self.burnt += mine["amount"] - worth
            if amount == worth:
                mine |= {"until": self.ledger.height, "amount": worth}
            else:
                mine["amount"] = worth - amount
                self.delegated(max(self.parts) + 1, mine["who"], mine["by"], amount, since, self.ledger.height)

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.parts)))
        mine, ledger = self.parts[number], self.ledger
        worth = ledger.worth(number) if mine["amount"] else 0
        before, earned = ledger.balance(PEOPLE[mine["by"]], NATIVE), self.earned(number)
        said = ledger.refused(PEOPLE[mine["by"]], "validators", "withdraw", number)
        if not mine["amount"]:
            assert said == Revert.UNKNOWN_ENTRY
        elif not mine["until"]:
            assert said == Revert.NOT_ALLOWED
        elif said is None:
            last = mine["until"] + 1
            assert ledger.height - last > RULES.evidence_blocks
            assert ledger.clock - ledger.times[last] > RULES.evidence_seconds
            assert ledger.balance(PEOPLE[mine["by"]], NATIVE) - before == worth + earned
            self.paid(number, earned)
            self.burnt += mine["amount"] - worth
            mine["amount"] = 0
        else:
            assert said == Revert.WINDOW_OPEN
            last = mine["until"] + 1
            over = ledger.height - last > RULES.evidence_blocks
            assert not (over and ledger.clock - ledger.times[last] > RULES.evidence_seconds)

    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.parts)))
        owner = PEOPLE[self.parts[number]["by"]]
        before, earned = self.ledger.balance(owner, NATIVE), self.earned(number)
        self.ledger.refused(owner, "validators", "claim", number)
        assert self.ledger.balance(owner, NATIVE) - before == earned
        if earned:
            self.paid(number, earned)

    @rule(who=st.sampled_from(range(4)))
    def commission(self, who: int) -> None:
        before = self.ledger.balance(PEOPLE[who], NATIVE)
        self.ledger.refused(PEOPLE[who], "validators", "claimCommission", ADDRESSES[who])
        self.claimed += self.ledger.balance(PEOPLE[who], NATIVE) - before

    @rule(seconds=st.sampled_from((1, 10, 10, 60)), away=st.sets(st.sampled_from(range(4)), max_size=2))
    def block(self, seconds: int, away: set[int]) -> None:
        self.go_on(seconds, away)

    @rule(fees=st.integers(1, 10_000), away=st.sets(st.sampled_from(range(4)), max_size=1))
    def pay(self, fees: int, away: set[int]) -> None:
        self.go_on(10, away, fees=fees)

    @rule(who=st.sampled_from(range(4)))
    def release(self, who: int) -> None:
        self.ledger.refused(PEOPLE[who], "validators", "release", ADDRESSES[who])

    @precondition(lambda self: self.ledger.height > 1)
    @rule(data=st.data(), who=st.sampled_from(range(4)), fees=st.sampled_from((0, 0, 5_000)))
    def sign_twice(self, data: st.DataObject, who: int, fees: int) -> None:
        ledger = self.ledger
        block = data.draw(st.integers(1, ledger.height))
        too_old = (
            ledger.height - block > RULES.evidence_blocks
            and ledger.clock - ledger.times[block] > RULES.evidence_seconds
        )
        paid = {number for each in self.offences for number in self.behind(*each)}
        behind = self.behind(who, block)
        worth = {number: ledger.worth(number) for number, part in self.parts.items() if part["amount"]}
        guilty = who in self.registered and not too_old
        if guilty:
            self.convicted.add(who)
        self.go_on(10, offences=[ledger.offence(who, block)], fees=fees)
        for number, amount in worth.items():
            expected = loss(amount) if guilty and number in behind and number not in paid else 0
            assert amount - ledger.worth(number) == expected, "the wrong stake was slashed, or the wrong part of it"
        if guilty:
            self.offences.add((who, block))
            assert all(self.parts[number]["amount"] for number in behind), "a stake was gone before its evidence"

    @invariant()
    def holds(self) -> None:
        ledger = self.ledger
        ledger.check_conservation()
        stakes, rewards, burnt = ledger.held
        assert burnt == self.burnt, "not the share was slashed"
        there = {number: part["amount"] for number, part in self.parts.items() if part["amount"]}
        worth = [ledger.read("validators", "delegation", number) for number in there]
        slashed = {number for each in self.offences for number in self.behind(*each)} & set(there)
        assert stakes == sum(there.values()), "stakes are not what was delegated, less what was burnt"
        lost = sum(loss(there[number]) for number in slashed)
        assert stakes - sum(each[2] for each in worth) == lost, "stakes are not what delegations say"
        due = sum(each[3] for each in worth)
        due += sum(ledger.validator(who)["commissionEarned"] for who in self.registered)
        waiting = ledger.balance(MINER, NATIVE)
        assert due <= rewards and self.claimed + rewards + waiting == self.fees
        for number, naive in self.owed.items():
            got = self.got[number] + self.earned(number)
            assert got <= naive, "a delegation got more than its part"
            assert got > naive - self.rounded[number] - 1 - Fraction(1, 10**6), "a delegation got less than its part"
        for who in self.registered:
            seen = ledger.validator(who)
            bonded = [
                part for part in self.parts.values() if part["who"] == who and part["amount"] and not part["until"]
            ]
            assert seen["stake"] == sum(part["amount"] for part in bonded)
            assert seen["ownStake"] == sum(part["amount"] for part in bonded if part["by"] == who)


TestStakes = Stakes.TestCase
TestStakes.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
