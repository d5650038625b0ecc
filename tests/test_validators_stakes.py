"""Stakes of validators: powers follow, double signing costs those who stood behind it, and nobody else, to the unit."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simulation.module_ledger import ALICE, BOB, CAROL, DAVE, PEOPLE, ModuleLedger
from simulation.stake_ledger import ADDRESSES, OWN, PUBLIC, RULES, SEEDS, StakeLedger
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.interface import rounded_up
from tallystick.settlement.modules.validator_records import MILLION, SEATS
from tallystick.settlement.modules.validators import possession
from tallystick.settlement.simulated.ledger import MINER

SLASH = RULES.slash


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
        self.lost: dict[int, int] = {}

    def delegated(self, number: int, who: int, by: int, amount: int, since: int, until: int = 0) -> None:
        self.parts[number] = {"who": who, "by": by, "amount": amount, "since": since, "until": until}

    def behind(self, who: int, block: int) -> list[int]:
        at = max(block - 2, 0)
        return [
            number
            for number, part in self.parts.items()
            if part["who"] == who and part["since"] <= at and (not part["until"] or part["until"] > at)
        ]

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
        before = self.ledger.balance(PEOPLE[mine["by"]], NATIVE)
        said = self.ledger.refused(PEOPLE[mine["by"]], "validators", "undelegate", number, amount)
        self.claimed += self.ledger.balance(PEOPLE[mine["by"]], NATIVE) - before
        if not mine["amount"]:
            assert said == Revert.UNKNOWN_ENTRY
        elif mine["until"]:
            assert said == Revert.NOT_ALLOWED
        elif not amount:
            assert said == Revert.BAD_AMOUNT
        else:
            assert said is None
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
        before = ledger.balance(PEOPLE[mine["by"]], NATIVE)
        said = ledger.refused(PEOPLE[mine["by"]], "validators", "withdraw", number)
        if not mine["amount"]:
            assert said == Revert.UNKNOWN_ENTRY
        elif not mine["until"]:
            assert said == Revert.NOT_ALLOWED
        elif said is None:
            last = mine["until"] + 1
            assert ledger.height - last > RULES.evidence_blocks
            assert ledger.clock - ledger.times[last] > RULES.evidence_seconds
            assert ledger.balance(PEOPLE[mine["by"]], NATIVE) - before == worth
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
        before = self.ledger.balance(owner, NATIVE)
        self.ledger.refused(owner, "validators", "claim", number)
        self.claimed += self.ledger.balance(owner, NATIVE) - before

    @rule(who=st.sampled_from(range(4)))
    def commission(self, who: int) -> None:
        before = self.ledger.balance(PEOPLE[who], NATIVE)
        self.ledger.refused(PEOPLE[who], "validators", "claimCommission", ADDRESSES[who])
        self.claimed += self.ledger.balance(PEOPLE[who], NATIVE) - before

    @rule(seconds=st.sampled_from((1, 10, 10, 60)), away=st.sets(st.sampled_from(range(4)), max_size=2))
    def block(self, seconds: int, away: set[int]) -> None:
        self.ledger.block(seconds, tuple(away))

    @rule(fees=st.integers(1, 10_000))
    def pay(self, fees: int) -> None:
        self.ledger.block(10, fees=fees)
        self.fees += fees

    @rule(who=st.sampled_from(range(4)))
    def release(self, who: int) -> None:
        self.ledger.refused(PEOPLE[who], "validators", "release", ADDRESSES[who])

    @precondition(lambda self: self.ledger.height > 1)
    @rule(data=st.data(), who=st.sampled_from(range(4)))
    def sign_twice(self, data: st.DataObject, who: int) -> None:
        ledger = self.ledger
        block = data.draw(st.integers(1, ledger.height))
        too_old = (
            ledger.height - block > RULES.evidence_blocks
            and ledger.clock - ledger.times[block] > RULES.evidence_seconds
        )
        paid = {number for each in self.offences for number in self.behind(*each)}
        behind = self.behind(who, block)
        worth = {number: ledger.worth(number) for number, part in self.parts.items() if part["amount"]}
        ledger.block(10, offences=[ledger.offence(who, block)])
        guilty = who in self.registered and not too_old
        for number, amount in worth.items():
            expected = loss(amount) if guilty and number in behind and number not in paid else 0
            assert amount - ledger.worth(number) == expected, "the wrong stake was slashed, or the wrong part of it"
        if guilty:
            self.convicted.add(who)
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
        for who in self.registered:
            seen = ledger.validator(who)
            bonded = [
                part for part in self.parts.values() if part["who"] == who and part["amount"] and not part["until"]
            ]
            assert seen["stake"] == sum(part["amount"] for part in bonded)
            assert seen["ownStake"] == sum(part["amount"] for part in bonded if part["by"] == who)


def test_powers_follow_stake_two_blocks_later_in_whole_units() -> None:
    ledger = StakeLedger()
    ledger.call(CAROL, "validators", "delegate", ADDRESSES[0], 5_099)
    assert ledger.block() == ((PUBLIC[0], 150),)
    ledger.block()
    ledger.block()
    before, after = ledger.powers[1:3]
    assert before[ADDRESSES[0]] == 100 and after[ADDRESSES[0]] == 150 and after[ADDRESSES[1]] == 100
    ledger.call(CAROL, "validators", "undelegate", 2, 99)
    assert ledger.block() == (), "no whole unit changed"
    ledger.call(CAROL, "validators", "undelegate", 2, 1)
    assert ledger.block() == ((PUBLIC[0], 149),)


def test_those_with_most_stake_vote_and_of_equals_those_who_came_first() -> None:
    ledger = StakeLedger(count=3)
    ledger.register(DAVE, 3, OWN)
    assert ledger.block() == (), "three vote, and the fourth has no more than they"
    ledger.call(CAROL, "validators", "delegate", ADDRESSES[3], 100)
    told = dict(ledger.block())
    assert told == {PUBLIC[3]: 101, PUBLIC[2]: 0}
    ledger.call(BOB, "validators", "undelegate", 1, OWN)
    assert dict(ledger.block()) == {PUBLIC[1]: 0, PUBLIC[2]: 100}


def test_a_validator_below_its_least_own_stake_does_not_vote() -> None:
    ledger = StakeLedger()
    ledger.call(CAROL, "validators", "delegate", ADDRESSES[1], 5_000)
    ledger.block()
    ledger.call(BOB, "validators", "undelegate", 1, OWN - 999)
    assert ledger.block() == ((PUBLIC[1], 0),)
    assert ledger.refused(BOB, "validators", "delegate", ADDRESSES[1], 1) is None
    assert ledger.block() == ((PUBLIC[1], 60),)


def test_the_set_is_never_empty() -> None:
    ledger = StakeLedger()
    ledger.block(offences=[ledger.offence(0, 1), ledger.offence(1, 1)])
    assert ledger.block() == ()
    assert ledger.validator(0)["signedTwiceIn"] == 1 and ledger.validator(0)["power"] == 100
    ledger.register(CAROL, 2, 1_000)
    assert dict(ledger.block()) == {PUBLIC[0]: 0, PUBLIC[1]: 0, PUBLIC[2]: 10}


def test_a_seat_goes_to_who_brings_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("validator_records", "validator_blocks"):
        monkeypatch.setattr(f"tallystick.settlement.modules.{name}.SEATS", 2)
    ledger = StakeLedger()
    ledger.register(CAROL, 2, OWN)
    assert ledger.block() == (), "there are two seats, and both are taken by as much"
    ledger.call(CAROL, "validators", "delegate", ADDRESSES[2], 100)
    assert dict(ledger.block()) == {PUBLIC[0]: 0, PUBLIC[2]: 101}
    ledger.call(ALICE, "validators", "delegate", ADDRESSES[0], 200)
    assert dict(ledger.block()) == {PUBLIC[0]: 102, PUBLIC[1]: 0}
    assert SEATS == 128


def test_only_who_has_the_key_registers_it_and_once_and_on_its_chain() -> None:
    ledger = StakeLedger()

    def refused(proof: bytes, by: Address = CAROL, who: int = 2, amount: int = 1_000, commission: int = 0) -> object:
        return ledger.refused(by, "validators", "register", PUBLIC[who], proof, amount, commission)

    right = SEEDS[2].sign(possession(1337, CAROL, PUBLIC[2])).signature
    for wrong in (
        SEEDS[3].sign(possession(1337, CAROL, PUBLIC[2])).signature,
        SEEDS[2].sign(possession(1338, CAROL, PUBLIC[2])).signature,
        SEEDS[2].sign(possession(1337, BOB, PUBLIC[2])).signature,
        right[:-1],
        b"",
        bytes(64),
    ):
        assert refused(wrong) == Revert.BAD_SIGNATURE
    assert refused(right, by=BOB) == Revert.BAD_SIGNATURE
    assert refused(right, amount=999) == Revert.BAD_AMOUNT
    assert refused(right, commission=MILLION + 1) == Revert.BAD_TERMS
    assert refused(right) is None
    assert refused(right) == Revert.ALREADY_REGISTERED
    again = SEEDS[0].sign(possession(1337, CAROL, PUBLIC[0])).signature
    assert refused(again, who=0) == Revert.ALREADY_REGISTERED
    assert not possession(1337, CAROL, PUBLIC[2])[0], "a vote could begin so"


def test_power_has_a_limit_that_keeps_all_together_below_the_consensus_own() -> None:
    most = RULES.power_max
    assert most * RULES.validators_max < 2**60
    ledger = StakeLedger()
    room = (most + 1) * RULES.unit - 1 - OWN
    assert ledger.refused(CAROL, "validators", "delegate", ADDRESSES[0], room + 1) == Revert.BAD_AMOUNT
    assert ledger.refused(CAROL, "validators", "delegate", ADDRESSES[0], room) is None
    assert ledger.block() == ((PUBLIC[0], most),)


def test_fees_go_to_who_signed_by_power_and_to_delegators_after_the_commission() -> None:
    ledger = StakeLedger(commission=100_000)
    ledger.call(CAROL, "validators", "delegate", ADDRESSES[0], OWN)
    for _ in range(3):
        ledger.block()
    ledger.block(fees=3_000)
    assert ledger.validator(0)["commissionEarned"] == 200 and ledger.validator(1)["commissionEarned"] == 100
    assert [ledger.read("validators", "delegation", number)[3] for number in range(3)] == [899] * 3, "rounded down"
    ledger.block(fees=3_000, away=[0])
    assert ledger.read("validators", "delegation", 2)[3] == 899, "who did not sign earns nothing"
    assert ledger.read("validators", "delegation", 1)[3] == 3_599
    assert ledger.call(CAROL, "validators", "claim", 2) == (899,)
    assert ledger.refused(CAROL, "validators", "claim", 2) == Revert.NOTHING_OWED
    assert ledger.refused(BOB, "validators", "claim", 2) == Revert.NOT_ALLOWED
    assert ledger.call(BOB, "validators", "claimCommission", ADDRESSES[1]) == (400,)
    assert ledger.refused(BOB, "validators", "claimCommission", ADDRESSES[0]) == Revert.NOT_ALLOWED


def test_who_is_away_for_long_is_jailed_loses_nothing_and_comes_back_after_a_time() -> None:
    ledger = StakeLedger()
    for _ in range(RULES.absences_max - 1):
        ledger.block(away=[1])
    ledger.block()
    assert ledger.validator(1)["absences"] == RULES.absences_max - 2, "who is there again is forgiven block by block"
    for _ in range(2):
        ledger.block(away=[1])
    until = ledger.validator(1)["jailedUntil"]
    assert until == ledger.clock + RULES.jail_seconds
    assert ledger.block() == ((PUBLIC[1], 0),)
    assert ledger.worth(1) == OWN and ledger.held[2] == 0
    assert ledger.refused(BOB, "validators", "release", ADDRESSES[1]) == Revert.WINDOW_OPEN
    assert ledger.refused(ALICE, "validators", "release", ADDRESSES[1]) == Revert.NOT_ALLOWED
    ledger.block(seconds=RULES.jail_seconds)
    assert ledger.refused(BOB, "validators", "release", ADDRESSES[1]) is None
    assert ledger.block() == ((PUBLIC[1], 100),)
    assert ledger.refused(BOB, "validators", "release", ADDRESSES[1]) == Revert.NOT_ALLOWED


def test_a_chain_that_stood_still_lets_no_stake_out_before_its_evidence() -> None:
    """Between the block of an undelegation and the next one, a week may pass: the last votes are a week younger."""
    ledger = StakeLedger()
    ledger.block()
    ledger.call(BOB, "validators", "undelegate", 1, OWN // 2)
    ledger.block(seconds=10_000)
    for _ in range(RULES.evidence_blocks + 1):
        assert ledger.refused(BOB, "validators", "withdraw", 2) == Revert.WINDOW_OPEN
        ledger.block(seconds=1)
    assert ledger.refused(BOB, "validators", "withdraw", 2) == Revert.WINDOW_OPEN
    last = ledger.height - RULES.evidence_blocks - 1
    ledger.block(seconds=1, offences=[ledger.offence(1, last)])
    assert ledger.worth(2) == OWN // 2 - loss(OWN // 2)


def test_each_loses_its_share_who_stood_behind_the_vote_and_nobody_who_came_later_or_had_left() -> None:
    ledger = StakeLedger()
    here = [ledger.call(CAROL, "validators", "delegate", ADDRESSES[1], amount)[0] for amount in (1_001, 2_000, 3_000)]
    other = ledger.call(CAROL, "validators", "delegate", ADDRESSES[0], 1_000)[0]
    ledger.block()
    ledger.call(CAROL, "validators", "undelegate", here[1], 2_000)
    at = ledger.height
    ledger.block()
    late = ledger.call(CAROL, "validators", "delegate", ADDRESSES[1], 4_000)[0]
    part = ledger.call(CAROL, "validators", "undelegate", here[2], 1_000)[0]
    ledger.block()
    ledger.block()
    worth = [ledger.worth(each) for each in (1, *here, part, other, late)]
    assert worth == [OWN, 1_001, 2_000, 2_000, 1_000, 1_000, 4_000]
    offence = ledger.offence(1, at + 2)  # backed by what was there after block `at`
    ledger.block(offences=[offence])
    losses = [before - ledger.worth(each) for before, each in zip(worth, (1, *here, part, other, late), strict=True)]
    assert losses == [700, 71, 0, 140, 70, 0, 0]
    ledger.block(offences=[offence, ledger.offence(1, at + 3)])
    again = [before - ledger.worth(each) for before, each in zip(worth, (1, *here, part, other, late), strict=True)]
    assert again == [*losses[:-1], 280], "who came later pays for the later offence, and nobody pays twice"
    rest = ledger.call(CAROL, "validators", "undelegate", here[0], 500)[0]
    assert [ledger.worth(each) for each in (here[0], rest)] == [430, 500], "it was slashed again"
    assert ledger.held[2] == 71
    for _ in range(12):
        ledger.block()
    before = ledger.balance(CAROL, NATIVE)
    assert ledger.call(CAROL, "validators", "withdraw", part) == (930,)
    assert ledger.held[2] == 71 + 70, "what is lost at a withdrawal is not burnt"
    assert ledger.call(CAROL, "validators", "withdraw", here[1]) == (2_000,)
    assert ledger.balance(CAROL, NATIVE) - before == 2_930


def test_who_shows_an_offence_of_little_stake_first_pays_for_the_later_one_as_well() -> None:
    for early_first in (True, False):
        ledger = StakeLedger()
        ledger.block()
        early = ledger.height
        more = ledger.call(BOB, "validators", "delegate", ADDRESSES[1], 90_000)[0]
        for _ in range(3):
            ledger.block()
        late = ledger.height
        order = (early, late) if early_first else (late, early)
        for block in order:
            ledger.block(offences=[ledger.offence(1, block)])
        assert [ledger.worth(each) for each in (1, more)] == [OWN - loss(OWN), 90_000 - 6_300]
        for number in (1, more):
            ledger.call(BOB, "validators", "undelegate", number, ledger.worth(number))
        assert ledger.held[2] == 7_000, "the order of the evidence decides what it costs"


def test_who_has_paid_for_one_offence_does_not_pay_for_the_next() -> None:
    ledger = StakeLedger()
    for _ in range(3):
        ledger.block()
    ledger.block(offences=[ledger.offence(1, ledger.height)])
    rest = ledger.call(BOB, "validators", "undelegate", 1, 300)[0]
    for _ in range(4):
        ledger.block()
    for _ in range(3):
        ledger.block(offences=[ledger.offence(1, ledger.height)])
    assert (ledger.worth(1), ledger.worth(rest), ledger.held[2]) == (OWN - 700 - 300, 300, 700)


def test_what_is_too_old_is_no_evidence() -> None:
    for blocks, seconds, is_old in ((7, 100, True), (7, 5, False), (3, 100, False)):
        ledger = StakeLedger()
        ledger.block()
        offence = ledger.offence(1, ledger.height)
        for _ in range(blocks):
            ledger.block(seconds=seconds)
        ledger.block(offences=[offence])
        assert (ledger.worth(1) == OWN) == is_old


def test_on_a_chain_without_validators_all_of_it_is_refused() -> None:
    ledger = ModuleLedger()
    assert ledger.refused(ALICE, "validators", "delegate", ADDRESSES[0], 5) == Revert.NOT_ALLOWED
    assert ledger.refused(ALICE, "validators", "register", PUBLIC[0], bytes(64), 5, 0) == Revert.NOT_ALLOWED
    assert ledger.refused(ALICE, "validators", "withdraw", 0) == Revert.NOT_ALLOWED
    assert ledger.read("validators", "validators") == (0,)


TestStakes = Stakes.TestCase
TestStakes.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
