"""Lending: a market holds what its books say, no debt is without cover, no price can be pushed; flash loans."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from simulation.module_ledger import ALICE, BOB, CAROL, DAVE, EVER, GOLD, PEOPLE, SILVER, ModuleLedger, calldata
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.chain import ModuleCall
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.modules.exchange import EXCHANGE, PERIOD
from tallystick.settlement.modules.lending import BONUS, FLASH_FEE, LENDING, LIMIT_MAX, MARGIN, YEAR
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.module_calls import run_module
from tallystick.settlement.simulated.world import Layer, balance_key

LIMIT = 800_000
DEPTH = 10**15
AMOUNTS = st.integers(1, 10**12) | st.integers(1, 1_000)
ACCOUNT = LENDING.account_of(b"market" + bytes(8))


def with_market(limit: int = LIMIT) -> ModuleLedger:
    """Return a ledger where a unit of gold costs two of silver, and silver is lent against gold."""
    ledger = ModuleLedger()
    ledger.call(DAVE, "exchange", "createPool", GOLD, SILVER, 0)
    ledger.call(DAVE, "exchange", "addLiquidity", GOLD, SILVER, 0, DEPTH, 2 * DEPTH, 0, EVER)
    ledger.call(ALICE, "lending", "createMarket", GOLD, SILVER, 0, limit)
    settle(ledger)
    return ledger


def settle(ledger: ModuleLedger) -> None:
    """Let the mean price become that of this moment."""
    for _ in range(2):
        ledger.time += PERIOD
        ledger.call(DAVE, "exchange", "swap", GOLD, SILVER, 0, 10, 0, EVER)


def push(ledger: ModuleLedger, permille: int) -> None:
    """Make gold cost about so many thousandths of what it does."""
    _, gold, silver, *_ = ledger.read("exchange", "pool", GOLD, SILVER, 0)
    half = (1000 * 1000 // permille - 1000) // 2  # the product stays: the price goes by the square
    if half > 0:
        ledger.call(DAVE, "exchange", "swap", GOLD, SILVER, 0, gold * half // 1000, 0, EVER)
    elif half < 0:
        ledger.call(DAVE, "exchange", "swap", SILVER, GOLD, 0, silver * -half // 1000, 0, EVER)


def books(ledger: ModuleLedger) -> tuple[int, int, int]:
    *_, supplied, borrowed, _, lost = ledger.read("lending", "market", 0)
    return supplied, borrowed, lost


class Market(RuleBasedStateMachine):
    """A market under whatever people do, whose price moves less than the margin before somebody liquidates."""

    @initialize()
    def begin(self) -> None:
        self.ledger = with_market()

    def _try(self, by: Address, function: str, *values: Any) -> None:
        self.ledger.refused(by, "lending", function, *values)

    @rule(by=st.sampled_from(PEOPLE), amount=AMOUNTS)
    def supply(self, by: Address, amount: int) -> None:
        self._try(by, "supply", 0, amount)

    @rule(by=st.sampled_from(PEOPLE), part=st.integers(1, 4))
    def withdraw(self, by: Address, part: int) -> None:
        shares = self.ledger.read("lending", "position", 0, by)[0]
        self._try(by, "withdraw", 0, shares // part)

    @rule(by=st.sampled_from(PEOPLE), amount=AMOUNTS)
    def pledge(self, by: Address, amount: int) -> None:
        self._try(by, "addCollateral", 0, amount)

    @rule(by=st.sampled_from(PEOPLE), amount=AMOUNTS)
    def take(self, by: Address, amount: int) -> None:
        self._try(by, "takeCollateral", 0, amount)

    @rule(by=st.sampled_from(PEOPLE), parts=st.integers(1, 10))
    def borrow(self, by: Address, parts: int) -> None:
        worth = 2 * self.ledger.read("lending", "position", 0, by)[2]
        self._try(by, "borrow", 0, worth * parts // 12)

    @rule(by=st.sampled_from(PEOPLE), account=st.sampled_from(PEOPLE), amount=AMOUNTS)
    def repay(self, by: Address, account: Address, amount: int) -> None:
        self._try(by, "repay", 0, account, amount)

    @rule(amount=AMOUNTS)
    def flash(self, amount: int) -> None:
        self._try(BOB, "flash", 0, amount, [], [])

    @rule(by=st.sampled_from(PEOPLE), amount=AMOUNTS)
    def in_and_out(self, by: Address, amount: int) -> None:
        before = self.ledger.wealth(by)
        try:
            (shares,) = self.ledger.call(by, "lending", "supply", 0, amount)
            self.ledger.call(by, "lending", "withdraw", 0, shares)
        except Reverted:
            return
        after = self.ledger.wealth(by)
        assert all(after[asset] <= before[asset] for asset in before), "in and out at once gained something"

    @rule(permille=st.integers(960, 1040), days=st.integers(0, 20))
    def price_moves(self, permille: int, days: int) -> None:
        push(self.ledger, permille)
        settle(self.ledger)
        self.ledger.time += days * 86_400
        for account in PEOPLE:
            for _ in range(3):
                *_, used, liquidatable = self.ledger.read("lending", "position", 0, account)
                assert liquidatable == (used > LIMIT) or abs(used - LIMIT) <= 1
                if liquidatable:
                    self.ledger.refused(DAVE, "lending", "liquidate", 0, account, 2**127, 0)

    @invariant()
    def holds(self) -> None:
        self.ledger.check_conservation()
        supplied, borrowed, lost = books(self.ledger)
        assert supplied - borrowed == self.ledger.balance(ACCOUNT, SILVER) >= 0, "the books are not what is there"
        places = [self.ledger.read("lending", "position", 0, each) for each in PEOPLE]
        assert sum(place[2] for place in places) == self.ledger.balance(ACCOUNT, GOLD)
        assert sum(place[1] for place in places) <= supplied, "more is promised to suppliers than there is"
        assert sum(place[3] for place in places) >= borrowed, "somebody's debt is nobody's"
        assert lost <= len(PEOPLE) * 20, "a debt was lost though the price moved less than the margin"
        for place in places:
            assert not place[3] or place[2] or place[3] <= 20, "a debt without any cover"


TestMarket = Market.TestCase
TestMarket.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def lent(ledger: ModuleLedger) -> None:
    """Let Alice supply 10,000,000, and Bob borrow 1,400,000 of them against 1,000,000 of gold (worth 2,000,000)."""
    ledger.call(ALICE, "lending", "supply", 0, 10_000_000)
    ledger.call(BOB, "lending", "addCollateral", 0, 1_000_000)
    ledger.call(BOB, "lending", "borrow", 0, 1_400_000)


def test_what_can_be_borrowed_is_the_limit_less_the_margin() -> None:
    ledger = with_market()
    lent(ledger)
    most = 2_000_000 * (LIMIT - MARGIN) // 10**6
    assert ledger.refused(BOB, "lending", "borrow", 0, most - 1_400_000 + 1_000) == Revert.NOT_COVERED
    assert ledger.refused(BOB, "lending", "takeCollateral", 0, 100_000) == Revert.NOT_COVERED
    assert ledger.refused(CAROL, "lending", "borrow", 0, 1_000) == Revert.NOT_COVERED
    assert ledger.refused(BOB, "lending", "borrow", 0, most - 1_400_000 - 1_000) is None
    assert ledger.refused(CAROL, "lending", "liquidate", 0, BOB, 2**127, 0) == Revert.NOT_ALLOWED
    assert ledger.refused(ALICE, "lending", "createMarket", GOLD, SILVER, 0, LIMIT_MAX + 1) == Revert.BAD_TERMS
    assert ledger.refused(ALICE, "lending", "createMarket", GOLD, SILVER, 9, LIMIT) == Revert.UNKNOWN_ENTRY
    shares = ledger.read("lending", "position", 0, ALICE)[0]
    assert ledger.refused(ALICE, "lending", "withdraw", 0, shares) == Revert.NO_LIQUIDITY


def test_a_pushed_pool_lends_nobody_more_and_liquidates_nobody() -> None:
    ledger = with_market()
    lent(ledger)
    for permille in (500, 2_000):  # in one block: the mean stays
        pushed = ModuleLedger()
        pushed.state.changes.update(ledger.state.changes)
        pushed.time = ledger.time
        push(pushed, permille)
        assert pushed.refused(CAROL, "lending", "liquidate", 0, BOB, 2**127, 0) == Revert.NOT_ALLOWED
        assert pushed.refused(BOB, "lending", "borrow", 0, 110_000) == Revert.NOT_COVERED
        fallen = permille < 1_000  # then the mean is old
        assert pushed.refused(BOB, "lending", "borrow", 0, 50_000) == (Revert.NOT_COVERED if fallen else None)
    push(ledger, 700)
    settle(ledger)
    for _ in range(3):
        push(ledger, 1_300)  # back up for a moment, by the debtor
    assert ledger.refused(BOB, "lending", "takeCollateral", 0, 1) == Revert.NOT_COVERED
    assert ledger.refused(CAROL, "lending", "liquidate", 0, BOB, 2**127, 0) is None


def test_a_liquidator_gets_the_bonus_and_no_more_and_the_debtor_keeps_the_rest() -> None:
    ledger = with_market()
    lent(ledger)
    push(ledger, 860)
    settle(ledger)
    mean, _, _ = ledger.read("exchange", "average", GOLD, SILVER, 0)
    debt = ledger.read("lending", "position", 0, BOB)[3]
    paid, seized = ledger.call(CAROL, "lending", "liquidate", 0, BOB, 500_000, 0)
    assert paid == 500_000 and seized == (paid * (10**6 + BONUS) << 112) // (mean * 10**6)
    assert ledger.refused(CAROL, "lending", "liquidate", 0, BOB, 500_000, 10**9) in (
        Revert.LIMIT_MISSED,
        Revert.NOT_ALLOWED,
    )
    _, _, pledged, left, _, _ = ledger.read("lending", "position", 0, BOB)
    assert pledged == 1_000_000 - seized and 0 <= left - (debt - paid) <= 1
    assert books(ledger)[2] == 0


def test_what_a_fallen_collateral_does_not_pay_the_suppliers_lose_and_the_books_stay_whole() -> None:
    ledger = with_market()
    lent(ledger)
    for _ in range(6):
        push(ledger, 800)
    settle(ledger)
    before = ledger.read("lending", "position", 0, ALICE)[1]
    paid, seized = ledger.call(CAROL, "lending", "liquidate", 0, BOB, 2**127, 0)
    supplied, borrowed, lost = books(ledger)
    assert seized == 1_000_000 and borrowed == 0 and lost >= 1_400_000 - paid > 0
    assert supplied == ledger.balance(ACCOUNT, SILVER)
    assert abs(before - ledger.read("lending", "position", 0, ALICE)[1] - lost) <= 2
    assert ledger.read("lending", "position", 0, BOB)[2:4] == (0, 0)


def test_interest_is_what_debtors_owe_more_and_suppliers_have_more() -> None:
    ledger = with_market()
    lent(ledger)
    rate = ledger.read("lending", "market", 0)[6]
    assert rate == 140_000 * 40_000 // 800_000
    ledger.time += YEAR
    supplied, borrowed, _ = books(ledger)
    assert borrowed == 1_400_000 + 1_400_000 * rate // 10**6 and supplied == 10_000_000 + borrowed - 1_400_000
    settle(ledger)
    debt = ledger.read("lending", "position", 0, BOB)[3]
    (paid,) = ledger.call(BOB, "lending", "repay", 0, BOB, 2**127)
    assert paid == debt and ledger.read("lending", "position", 0, BOB)[3] == 0
    shares = ledger.read("lending", "position", 0, ALICE)[0]
    (amount,) = ledger.call(ALICE, "lending", "withdraw", 0, shares)
    assert 10_000_000 + paid - 1_400_000 - 10 <= amount <= 10_000_000 + paid - 1_400_000
    assert ledger.refused(BOB, "lending", "repay", 0, BOB, 5) == Revert.NOTHING_OWED


def flash(ledger: ModuleLedger, amount: int, *calls: tuple[Any, ...]) -> Revert | None:
    modules = {"exchange": EXCHANGE.address, "lending": LENDING.address}
    to, data = [modules[name] for name, *_ in calls], [calldata(*each) for each in calls]
    return ledger.refused(CAROL, "lending", "flash", 0, amount, to, data)


def impoverish(ledger: ModuleLedger) -> None:
    """Let Carol have nothing of her own."""
    for asset in (GOLD, SILVER):
        ledger.state.put(balance_key(asset, DAVE), ledger.balance(DAVE, asset) + ledger.balance(CAROL, asset))
        ledger.state.put(balance_key(asset, CAROL), 0)


def test_a_flash_loan_does_its_calls_and_is_paid_back_with_its_fee() -> None:
    ledger = with_market()
    lent(ledger)
    ledger.call(DAVE, "exchange", "createPool", GOLD, SILVER, 0)  # a second pool, where gold is cheaper
    ledger.call(DAVE, "exchange", "addLiquidity", GOLD, SILVER, 1, DEPTH, DEPTH, 0, EVER)
    impoverish(ledger)
    before = books(ledger)
    amount = 1_000_000
    (bought,) = ledger.read("exchange", "quote", SILVER, GOLD, 1, amount)
    buy = ("exchange", "swap", SILVER, GOLD, 1, amount, 0, EVER)
    sell = ("exchange", "swap", GOLD, SILVER, 0, bought, 0, EVER)
    assert flash(ledger, amount, buy) == Revert.NOT_REPAID
    assert flash(ledger, amount) == Revert.NOT_REPAID, "the fee is missing"
    assert flash(ledger, 10**9, buy, sell) == Revert.NO_LIQUIDITY
    assert ledger.balance(CAROL, SILVER) == 0
    assert flash(ledger, amount, buy, sell) is None
    fee = -(-amount * FLASH_FEE // 10**6)
    assert ledger.balance(CAROL, SILVER) > amount * 9 // 10 and ledger.balance(CAROL, GOLD) == 0
    assert books(ledger) == (before[0] + fee, before[1], 0)
    assert len(ledger.told) == 3
    ledger.check_conservation()


def test_a_flash_loan_makes_no_further_one_and_cannot_be_left_in_its_own_market() -> None:
    ledger = with_market()
    lent(ledger)
    inner = ("lending", "flash", 0, 1_000, [EXCHANGE.address], [calldata("exchange", "pools", 0, 1)])
    assert flash(ledger, 1_000, inner) == Revert.NOT_ALLOWED
    assert flash(ledger, 1_000, ("exchange", "pools", 0, 1)) == Revert.UNKNOWN_CALL, "a view"
    impoverish(ledger)
    assert flash(ledger, 5_000_000, ("lending", "supply", 0, 5_000_000)) == Revert.NOT_REPAID
    assert ledger.refused(CAROL, "lending", "flash", 0, 1, [EXCHANGE.address], []) == Revert.BAD_TERMS


def test_calls_within_a_flash_loan_each_pay_for_their_own_bytes() -> None:
    ledger = with_market()
    ledger.call(ALICE, "lending", "supply", 0, 10**9)
    within = calldata("exchange", "swapPath", [GOLD, SILVER, GOLD], [0, 0], 10**6, 0, EVER)
    honest = calldata("lending", "flash", 0, 1, [EXCHANGE.address] * 8, [within] * 8)
    offsets = honest.rindex((8).to_bytes(32, "big")) + 32
    first = honest[offsets : offsets + 32]
    assert int.from_bytes(first, "big") == 8 * 32
    shared = honest[:offsets] + first * 8 + honest[offsets + 256 : offsets + 256 + 32 + -(-len(within) // 32) * 32]
    for data, refused in ((honest, False), (shared, True)):
        call = ModuleCall(LENDING.address, data, 0)
        with pytest.raises(Reverted, match="is due after") if refused else nullcontext():
            run_module(Layer(ledger.state), CAROL, call, ledger.time, ADJUDICATOR)
