"""What an operator changes of its validator, and who gets a seat: no surprise, and no vote that is not answered for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.module_ledger import ALICE, BOB, CAROL, DAVE
from simulation.stake_ledger import ADDRESSES, OWN, PUBLIC, RULES, SEEDS, StakeLedger
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.validator_blocks import PowerUpdate
from tallystick.settlement.modules.validator_changes import COMMISSION_STEP
from tallystick.settlement.modules.validator_records import MILLION, SEATS_LOOKED_AT
from tallystick.settlement.modules.validators import possession


def announce(ledger: StakeLedger, commission: int, by: Address = ALICE) -> Revert | None:
    return ledger.refused(by, "validators", "announceCommission", ADDRESSES[0], commission)


def test_a_commission_rises_a_step_at_a_time_and_only_after_everybody_could_leave() -> None:
    ledger = StakeLedger(commission=100_000)
    ledger.block()
    assert announce(ledger, 100_000 + COMMISSION_STEP + 1) == Revert.BAD_TERMS
    assert announce(ledger, 110_000, by=BOB) == Revert.NOT_ALLOWED
    assert announce(ledger, 110_000) is None
    assert ledger.read("validators", "commission", ADDRESSES[0]) == (100_000, 110_000, 2, RULES.evidence_blocks)
    assert ledger.call(CAROL, "validators", "delegate", ADDRESSES[0], OWN) == (2,)
    left = ledger.call(CAROL, "validators", "undelegate", 2, OWN)[0]
    for _ in range(RULES.evidence_blocks):
        ledger.block(seconds=20)
        assert ledger.validator(0)["commission"] == 100_000
        assert announce(ledger, 120_000) == Revert.BAD_TERMS, "two steps at once"
    ledger.block(fees=20_000)
    assert ledger.validator(0)["commission"] == 110_000
    assert ledger.validator(0)["commissionEarned"] == 1_100, "of the first fees that it may be taken of"
    assert ledger.read("validators", "commission", ADDRESSES[0]) == (110_000, 110_000, 0, 0)
    assert announce(ledger, 120_000) is None
    ledger.block()
    assert ledger.refused(CAROL, "validators", "withdraw", left) is None, "who left on hearing of it still waits"


def test_a_commission_that_was_announced_waits_by_blocks_and_by_time() -> None:
    for blocks, seconds, is_over in ((6, 8, False), (6, 9, True), (5, 60, False), (20, 2, False)):
        ledger = StakeLedger()
        announce(ledger, 110_000)
        for _ in range(blocks):
            ledger.block(seconds=seconds)
        assert (ledger.validator(0)["commission"] == 110_000) == is_over, (blocks, seconds)


def test_a_lower_commission_counts_at_once_and_ends_what_was_announced() -> None:
    ledger = StakeLedger(commission=100_000)
    announce(ledger, 105_000)
    assert announce(ledger, 3) is None
    assert ledger.validator(0)["commission"] == 3
    for _ in range(8):
        ledger.block(seconds=20)
    assert ledger.validator(0)["commission"] == 3
    assert announce(ledger, 100_000) == Revert.BAD_TERMS, "back at once"


def test_announcing_again_waits_again_and_nothing_is_beyond_all() -> None:
    ledger = StakeLedger(commission=MILLION - 5_000)
    announce(ledger, MILLION - 1_000)
    for _ in range(4):
        ledger.block(seconds=20)
    assert announce(ledger, MILLION) is None
    for _ in range(4):
        ledger.block(seconds=20)
    assert ledger.validator(0)["commission"] == MILLION - 5_000
    for _ in range(4):
        ledger.block(seconds=20)
    assert ledger.validator(0)["commission"] == MILLION
    assert announce(ledger, MILLION + 1) == Revert.BAD_TERMS


@given(
    st.lists(
        st.tuples(st.sampled_from((0, 1, 5, 9)), st.sampled_from((1, 11, 60)), st.integers(0, 130_000)), max_size=12
    )
)
@settings(max_examples=60, deadline=None)
def test_no_commission_is_taken_that_was_not_announced_a_wait_before(steps: list[tuple[int, int, int]]) -> None:
    ledger = StakeLedger(commission=100_000)
    at, said = 100_000, list[tuple[int, int, int]]()
    for blocks, seconds, wanted in steps:
        for _ in range(blocks):
            ledger.block(seconds=seconds)
            now = ledger.validator(0)["commission"]
            if now > at:
                block, time, most = said[-1]
                assert now == most and now - at <= COMMISSION_STEP
                assert ledger.height - block > RULES.evidence_blocks and ledger.clock - time > RULES.evidence_seconds
            assert now >= at, "it fell by itself"
            at = now
        if announce(ledger, wanted) is None:
            said.append((ledger.height, ledger.clock, wanted))
            at = min(at, wanted)
            assert ledger.validator(0)["commission"] == at


# --- the key of its votes ---------------------------------------------------------------------------------------


def replace(ledger: StakeLedger, who: int, key: int, by: Address = BOB, signer: int | None = None) -> Revert | None:
    """Let validator `who` vote by another key; return why not."""
    proof = SEEDS[key if signer is None else signer].sign(possession(1337, by, PUBLIC[key])).signature
    return ledger.refused(by, "validators", "replaceKey", ADDRESSES[who], PUBLIC[key], proof)


def test_a_key_is_replaced_two_blocks_later_with_all_its_power() -> None:
    ledger = StakeLedger(commission=0)
    ledger.call(CAROL, "validators", "delegate", ADDRESSES[1], OWN)
    for _ in range(4):
        ledger.block()
    assert replace(ledger, 1, 4) is None
    assert set(ledger.block()) == {PowerUpdate(PUBLIC[1], 0), PowerUpdate(PUBLIC[4], 200)}
    assert ledger.read("validators", "key", ADDRESSES[1]) == (PUBLIC[4], ADDRESSES[4])
    earned = []
    for _ in range(4):
        before = ledger.read("validators", "delegation", 2)[3]
        ledger.block(fees=9_000)
        earned.append(ledger.read("validators", "delegation", 2)[3] - before)
    assert min(earned) >= 2_999, "the votes of the old key, or of the new one, are paid to nobody"
    assert set(ledger.powers[-1]) == {ADDRESSES[0], ADDRESSES[4]}
    assert ledger.call(DAVE, "validators", "delegate", ADDRESSES[1], 100) == (3,), "its old address is no name any more"
    assert dict(ledger.block()) == {PUBLIC[4]: 201}


def test_who_is_away_with_its_new_key_is_jailed_and_only_the_new_one_is_taken_out() -> None:
    ledger = StakeLedger()
    replace(ledger, 1, 4)
    for _ in range(2):
        ledger.block()
    for _ in range(RULES.absences_max + 1):
        updates = ledger.block(away=[4])
    assert ledger.validator(4)["jailedUntil"] and ledger.validator(1)["jailedUntil"]
    assert (*updates, *ledger.block()) == (PowerUpdate(PUBLIC[4], 0),)


def test_the_old_key_is_answered_for_as_long_as_evidence_can_come() -> None:
    for old, block in ((1, 3), (1, 5), (4, 7)):
        ledger = StakeLedger()
        for _ in range(3):
            ledger.block()
        replace(ledger, 1, 4)
        for _ in range(3):
            ledger.block()
        ledger.block(offences=[ledger.offence(old, block)])
        assert ledger.worth(1) == OWN - 700
        assert ledger.block() == (PowerUpdate(PUBLIC[4], 0),)
        assert replace(ledger, 1, 5) == Revert.NOT_ALLOWED, "who is convicted begins anew"


def test_a_key_replaced_twice_in_a_block_never_votes_in_between() -> None:
    ledger = StakeLedger()
    assert replace(ledger, 1, 4) is None
    assert replace(ledger, 1, 5) is None
    assert set(ledger.block()) == {PowerUpdate(PUBLIC[1], 0), PowerUpdate(PUBLIC[5], 100)}
    assert ledger.block() == ()


def test_who_does_not_vote_changes_its_key_without_a_word_to_the_consensus() -> None:
    ledger = StakeLedger(count=3)
    ledger.register(DAVE, 3, OWN)
    assert replace(ledger, 3, 4, by=DAVE) is None
    assert ledger.block() == ()
    ledger.call(DAVE, "validators", "delegate", ADDRESSES[3], OWN)
    assert dict(ledger.block()) == {PUBLIC[4]: 200, PUBLIC[2]: 0}


def test_who_leaves_and_replaces_its_key_in_one_block_is_taken_out_once() -> None:
    ledger = StakeLedger()
    replace(ledger, 1, 4)
    ledger.call(BOB, "validators", "undelegate", 1, OWN)
    assert ledger.block() == (PowerUpdate(PUBLIC[1], 0),)
    assert ledger.block() == ()


def test_a_key_waits_until_somebody_else_may_vote() -> None:
    """Where nobody may, those who vote go on, with the keys that the consensus knows."""
    ledger = StakeLedger()
    ledger.call(ALICE, "validators", "undelegate", 0, OWN)
    ledger.call(BOB, "validators", "undelegate", 1, OWN)
    replace(ledger, 1, 4)
    assert ledger.block() == ()
    ledger.call(BOB, "validators", "delegate", ADDRESSES[1], 2_000)
    assert set(ledger.block()) == {PowerUpdate(PUBLIC[0], 0), PowerUpdate(PUBLIC[1], 0), PowerUpdate(PUBLIC[4], 20)}


def test_whose_key_it_is_and_who_may_replace_it() -> None:
    ledger = StakeLedger()
    assert replace(ledger, 1, 4, by=ALICE) == Revert.NOT_ALLOWED
    assert replace(ledger, 1, 4, signer=5) == Revert.BAD_SIGNATURE
    assert replace(ledger, 1, 0) == Revert.ALREADY_REGISTERED
    assert replace(ledger, 5, 4) == Revert.UNKNOWN_ENTRY
    assert replace(ledger, 1, 4) is None
    assert replace(ledger, 1, 1) == Revert.ALREADY_REGISTERED, "back to the old one"
    proof = SEEDS[1].sign(possession(1337, DAVE, PUBLIC[1])).signature
    assert ledger.refused(DAVE, "validators", "register", PUBLIC[1], proof, OWN, 0) == Revert.ALREADY_REGISTERED


# --- seats ------------------------------------------------------------------------------------------------------


def few_seats(monkeypatch: pytest.MonkeyPatch) -> StakeLedger:
    """Return a ledger with two seats, of which the second one has gone from Bob to Carol."""
    for name in ("validator_records", "validator_blocks"):
        monkeypatch.setattr(f"tallystick.settlement.modules.{name}.SEATS", 2)
    ledger = StakeLedger()
    ledger.call(ALICE, "validators", "delegate", ADDRESSES[0], 5_000)
    ledger.register(CAROL, 2, OWN + 100)
    assert dict(ledger.block()) == {PUBLIC[0]: 150, PUBLIC[1]: 0, PUBLIC[2]: 101}
    return ledger


def test_who_lost_its_seat_has_it_again_when_the_other_is_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = few_seats(monkeypatch)
    ledger.call(CAROL, "validators", "undelegate", 3, 100)
    assert dict(ledger.block()) == {PUBLIC[2]: 100}, "an equal one has no seat taken from it"
    ledger.call(CAROL, "validators", "undelegate", 3, 100)
    assert dict(ledger.block()) == {PUBLIC[1]: 100, PUBLIC[2]: 0}


def test_who_lost_its_seat_has_it_again_when_one_is_jailed_or_convicted(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = few_seats(monkeypatch)
    ledger.block(offences=[ledger.offence(2, 2)])
    assert dict(ledger.block()) == {PUBLIC[1]: 100, PUBLIC[2]: 0}
    ledger = few_seats(monkeypatch)
    told = [dict(ledger.block(away=[0])) for _ in range(RULES.absences_max + 2)]
    assert {PUBLIC[0]: 0, PUBLIC[1]: 100} in told


def test_of_many_the_largest_are_seated_before_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait: each block looks at some of them."""
    for name in ("validator_records", "validator_blocks"):
        monkeypatch.setattr(f"tallystick.settlement.modules.{name}.SEATS", 2)
    monkeypatch.setattr("tallystick.settlement.modules.validator_records.SEATS_LOOKED_AT", 1)
    ledger = StakeLedger()
    for who, by, amount in ((2, CAROL, 20_000), (3, DAVE, 30_000), (4, ALICE, 15_000), (5, BOB, 12_000)):
        ledger.register(by, who, amount)
    ledger.call(CAROL, "validators", "undelegate", 2, 19_500)
    ledger.call(DAVE, "validators", "undelegate", 3, 29_500)
    for _ in range(3 * 6):
        ledger.block()
    assert {who for who in range(6) if ledger.validator(who)["power"]} == {4, 5}
    assert SEATS_LOOKED_AT == 16
