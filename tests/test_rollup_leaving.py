"""An operator that stops pays for it, on both chains; and a list that is reordered convicts nobody."""

from __future__ import annotations

from simulation.rollup_house import Posted, RollupHouse
from simulation.rollup_twins import (
    ANSWER_TIME,
    BOND,
    FEE,
    OPERATOR,
    ORDER_TIME,
    WATCHER,
    WINDOW,
    Twins,
    withdrawal,
)
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.modules.rollups import BURNT, LEAVE_WINDOWS
from tallystick.settlement.rollup.steps import EntryKind, QueueEntry


def deposit(twins: Twins, user: int, amount: int, number: int | None = None) -> None:
    """Let a user deposit on both."""
    key = twins.house.keys[user]
    entry = QueueEntry(EntryKind.DEPOSIT, user if number is None else number, key.address, amount0=amount)
    assert twins.order(key.address, "deposit", entry, key.address, value=amount) is None


def begun(seed: int, users: int = 3) -> Twins:
    """Return twins with a bond and some deposits."""
    twins = Twins(RollupHouse(seed))
    assert twins.do(OPERATOR, "bond", value=BOND) is None
    for user in range(users):
        deposit(twins, user, 1_000 + user)
    return twins


def stopped(seed: int) -> tuple[Twins, Posted]:
    """Return twins whose operator has left out an order, so that somebody stopped them; all is final."""
    twins = begun(seed)
    house = twins.house
    posted = house.honest(4)
    assert twins.post(posted.batch) is None
    deposit(twins, 0, 5)
    twins.set_time(house.time + ORDER_TIME + 1)
    assert twins.do(WATCHER, "freeze") is None
    twins.set_time(house.time + WINDOW + 1)
    return twins, posted


def held(posted: Posted, user: int) -> int:
    """Return what a user's account holds after a batch."""
    account = posted.after.accounts.get(user)
    return account.balance + account.exited if account else 0


def owed(twins: Twins, who: Address) -> int:
    """Return what somebody may claim on both."""
    twins.check_equal()
    return twins.number("owed", bytes(12) + who)


def test_an_operator_that_stops_loses_half_of_its_bond_and_pays_for_everybodys_way_out() -> None:
    twins, posted = stopped(1)
    assert twins.number("bonded") == BOND // 2
    assert (owed(twins, WATCHER), owed(twins, BURNT)) == (FEE, BOND // 2 - FEE)
    assert twins.do(OPERATOR, "unbond") == "wrong-status"
    paid = 0
    for user in range(3):
        if twins.do(WATCHER, "escape", withdrawal(posted.after, user)) is None:
            paid += held(posted, user)
    assert 0 < paid < FEE
    assert twins.do(WATCHER, "escape", withdrawal(posted.after, 0)) == "nothing-owed"
    assert owed(twins, WATCHER) == FEE + paid and twins.number("bonded") == BOND // 2 - paid
    assert twins.do(OPERATOR, "unbond") == "wrong-status", "a deposit is not given back yet"
    at = len(twins.house.queue) - 1
    assert twins.do(WATCHER, "reclaim", at, list(twins.house.queue[at].words)) is None
    channels = sum(each.total for index in twins.house.channels if (each := posted.after.channels.get(index)))
    assert twins.number("deposited") == channels
    assert twins.do(OPERATOR, "unbond") == ("wrong-status" if channels else None)
    twins.check_equal()


def test_the_bond_is_not_held_for_ever_by_whoever_does_not_leave() -> None:
    twins, posted = stopped(2)
    proof = next(withdrawal(posted.after, user) for user in range(3) if held(posted, user))
    twins.set_time(twins.number("frozen") + LEAVE_WINDOWS * WINDOW)
    assert twins.do(OPERATOR, "unbond") == "wrong-status"
    twins.set_time(twins.house.time + 1)
    assert twins.do(OPERATOR, "unbond") is None
    assert owed(twins, OPERATOR) == BOND // 2 and twins.number("bonded") == 0
    assert twins.do(WATCHER, "escape", proof) is None, "they may leave later all the same"
    assert owed(twins, WATCHER) == FEE, "but nobody is paid for it any more"


def test_an_operator_does_not_take_its_bond_back_and_then_stop() -> None:
    twins = begun(2)
    house = twins.house
    assert twins.post(house.honest(4).batch) is None
    twins.set_time(house.time + WINDOW + 1)
    assert twins.do(OPERATOR, "unbond") == "wrong-status"


def test_an_operator_that_says_that_it_stops_loses_nothing() -> None:
    twins = begun(3)
    house = twins.house
    posted = house.honest(3)
    assert twins.post(posted.batch) is None
    assert twins.do(WATCHER, "freeze") == "window-open"
    assert twins.do(OPERATOR, "freeze") is None and twins.do(OPERATOR, "freeze") == "wrong-status"
    assert (twins.number("bonded"), owed(twins, BURNT)) == (BOND, 0)
    twins.set_time(house.time + WINDOW + 1)
    paid = sum(twins.do(WATCHER, "escape", withdrawal(posted.after, user)) is None for user in range(3))
    assert paid > 0 and owed(twins, WATCHER) == 0, "nothing was overdue"
    assert twins.number("bonded") == BOND


def test_a_way_out_is_paid_what_the_account_gets_and_a_fee_at_most() -> None:
    twins = begun(1, users=0)
    house = twins.house
    deposit(twins, 0, 1)
    deposit(twins, 1, 3 * FEE)
    posted = house.honest(0)
    assert twins.post(posted.batch) is None
    deposit(twins, 0, 5)
    twins.set_time(house.time + ORDER_TIME + 1)
    assert twins.do(house.keys[3].address, "freeze") is None
    twins.set_time(house.time + WINDOW + 1)
    for user, reward in ((0, 1), (1, FEE)):
        before = owed(twins, WATCHER)
        assert twins.do(WATCHER, "escape", withdrawal(posted.after, user)) is None
        assert owed(twins, WATCHER) - before == reward
    assert twins.number("bonded") == BOND // 2 - 1 - FEE


def test_whoever_demands_its_own_steps_pays_for_it() -> None:
    twins = begun(4)
    house = twins.house
    posted = house.honest(0)
    assert twins.post(posted.batch) is None
    assert twins.do(OPERATOR, "demand", 0, 0, value=FEE) is None
    proof = twins.proof(posted.batch, 0, posted.before)
    signed = twins.statements(proof, posted.batch)
    assert twins.do(OPERATOR, "answer", 0, list(proof.words), statements=signed) is None
    assert (owed(twins, OPERATOR), owed(twins, BURNT)) == (FEE // 2, FEE // 2)


def test_an_operator_that_says_so_too_late_loses_as_any_other() -> None:
    twins = begun(3)
    twins.set_time(twins.house.time + ORDER_TIME + 1)
    assert twins.do(OPERATOR, "freeze") is None
    assert (twins.number("bonded"), owed(twins, BURNT)) == (BOND // 2, BOND // 2 - FEE)


def test_a_rollup_that_everybody_has_left_gives_its_operator_the_bond_back() -> None:
    twins = Twins(RollupHouse(5))
    house = twins.house
    assert twins.do(OPERATOR, "bond", value=BOND) is None
    deposit(twins, 0, 77)
    owner = house.keys[0].address
    assert twins.order(owner, "forceExit", QueueEntry(EntryKind.EXIT, 0, owner)) is None
    posted = house.honest(0)
    assert twins.post(posted.batch) is None
    twins.set_time(house.time + WINDOW + 1)
    assert twins.do(OPERATOR, "unbond") == "wrong-status"
    assert twins.do(OPERATOR, "withdraw", 0, withdrawal(posted.after, 0)) is None
    assert twins.do(OPERATOR, "unbond") is None
    assert owed(twins, OPERATOR) == BOND


def test_a_batch_that_was_made_for_another_list_is_not_taken() -> None:
    house = RollupHouse(3)
    twins = Twins(house)
    assert twins.do(OPERATOR, "bond", value=BOND) is None
    first, second = (QueueEntry(EntryKind.DEPOSIT, at, house.keys[at].address, amount0=7) for at in range(2))
    house.order(first, second)
    batch = house.honest(2).batch
    house.queue = []
    for user, number in ((1, 0), (0, 1)):  # mined again after a reorganisation, the other way about
        deposit(twins, user, 7, number)
    assert twins.post(batch) == "bad-batch"


def test_a_flood_of_demands_leaves_time_to_answer_each() -> None:
    twins = begun(4)
    house = twins.house
    assert twins.post(house.honest(80).batch) is None
    for at in range(80):
        assert twins.do(WATCHER, "demand", 0, at, value=FEE) is None
    twins.set_time(house.time + ANSWER_TIME + 1)
    assert twins.do(WATCHER, "silence", 0, 79) == "window-open"
    assert twins.do(WATCHER, "silence", 0, 0) is None
    twins.check_equal()
