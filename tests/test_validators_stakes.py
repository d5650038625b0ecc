"""Stakes of validators: powers follow, double signing costs those who stood behind it, and nobody else, to the unit."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from simulation.module_ledger import ALICE, BOB, CAROL, DAVE, ModuleLedger
from simulation.stake_ledger import ADDRESSES, OWN, PUBLIC, RULES, SEEDS, StakeLedger
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.interface import rounded_up
from tallystick.settlement.modules.validator_records import MILLION, SEATS
from tallystick.settlement.modules.validators import possession

SLASH = RULES.slash


def loss(amount: int) -> int:
    return rounded_up(amount * SLASH, MILLION)


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


def test_a_delegation_earns_of_the_votes_that_it_stood_behind_and_of_no_others() -> None:
    """Made in block n it stands behind the votes on block n + 2, which block n + 3 pays for; and so when it ends."""
    ledger = StakeLedger(commission=0)

    def shares() -> list[int]:
        """What the second validator's own stake and the delegation earn of 4,000 in a block, in tens."""
        before = [ledger.read("validators", "delegation", number)[3] for number in (1, 2)]
        ledger.block(fees=4_000)
        return [
            (ledger.read("validators", "delegation", number)[3] - earned + 5) // 10
            for number, earned in zip((1, 2), before, strict=True)
        ]

    for _ in range(3):
        ledger.block()
    ledger.call(CAROL, "validators", "delegate", ADDRESSES[1], OWN)
    assert [shares() for _ in range(4)] == [[200, 0], [200, 0], [133, 133], [133, 133]]
    ledger.call(CAROL, "validators", "undelegate", 2, OWN)
    assert [shares() for _ in range(3)] == [[133, 133], [133, 133], [200, 0]]
    for _ in range(6):
        ledger.block()
    before = ledger.balance(CAROL, NATIVE)
    assert ledger.call(CAROL, "validators", "withdraw", 2) == (OWN,)
    assert ledger.balance(CAROL, NATIVE) - before == OWN + 2 * 4_000 // 3, "it earned while it left"


def test_who_comes_for_one_block_of_large_fees_gets_nothing_of_it() -> None:
    ledger = StakeLedger(commission=0)
    for _ in range(3):
        ledger.block()
    made = [ledger.call(CAROL, "validators", "delegate", ADDRESSES[0], 50 * OWN)[0]]
    ledger.block(fees=10**9)
    made.append(ledger.call(CAROL, "validators", "undelegate", made[0], 20 * OWN)[0])
    ledger.block(fees=10**9)
    ledger.call(CAROL, "validators", "undelegate", made[0], 30 * OWN)
    assert [ledger.read("validators", "delegation", each)[3] for each in (0, 1, *made)] == [10**9, 10**9, 0, 0]
    assert ledger.refused(CAROL, "validators", "claim", made[0]) == Revert.NOTHING_OWED


def test_stakes_as_an_unreleased_build_kept_them_go_on() -> None:
    """The vector is the ledger of a chain before it was known which block a delegation counts from."""
    kept = msgspec.json.decode((Path(__file__).parent / "vectors" / "stakes-v0.json").read_bytes())
    ledger = StakeLedger()
    ledger.state.changes.clear()
    ledger.state.changes.update({bytes.fromhex(key): value for key, value in kept["world"].items()})
    ledger.height, ledger.clock = kept["height"], kept["clock"]
    ledger.times += [ledger.clock] * (ledger.height - 1)
    ledger.resume([dict(zip(ADDRESSES, powers, strict=False)) for powers in kept["powers"]])
    worth = [(10_000, 3_999), (10_000, 4_678), (10_000, 1_999), (3_000, 0), (2_000, 0), (1_000, 0)]

    def found(count: int) -> list[tuple[int, int]]:
        return [ledger.read("validators", "delegation", number)[2:4] for number in range(count)]

    ledger.block()
    assert found(6) == worth
    made = ledger.call(CAROL, "validators", "delegate", ADDRESSES[1], 7_000)[0]
    ledger.block(fees=330)
    ledger.block(fees=370)
    before = found(7)
    assert not any(earned for _, earned in before[4:]), "what left, or came, shares these fees"
    ledger.block(fees=4_000)
    grown = [after[1] - first[1] for after, first in zip(found(7), before, strict=True)]
    assert grown == [1_000, 1_000, 1_000, 300, 0, 0, 699]
    for _ in range(8):
        ledger.block()
    for number in (4, 5):
        assert ledger.call(CAROL, "validators", "withdraw", number) == (worth[number][0],)
    for number in (0, 1, 2, 3, made):
        ledger.call((ALICE, BOB, CAROL, CAROL, CAROL, CAROL, CAROL)[number], "validators", "claim", number)
    ledger.check_conservation()
    assert ledger.held[1] < 10, "more is left than was rounded down"
