"""Calls that travel in one transaction, each ending by itself: failures, crashes, reorganisations, company."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.accounts import POLICY, TOGETHER, AccountWorld, Tx, gas, secret_of
from tallystick.channels.node.alarms import AlarmKind
from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address, ChannelId, Lock
from tallystick.settlement.chain import (
    BatchCall,
    Call,
    CloseCall,
    Header,
    RedeemCall,
    RegisterLinkCall,
    SettleCall,
    TransferCall,
)
from tallystick.settlement.errors import Refusal, Revert
from tallystick.settlement.sending.batches import BATCH_GAS_MAX, gather, may_join, with_members
from tallystick.settlement.sending.judging import due_again
from tallystick.settlement.sending.obligations import (
    Look,
    Obligation,
    ObligationBook,
    ObligationStatus,
    Observation,
    change,
)
from tallystick.settlement.sending.policy import SendingPolicy

DONE, SENT, WAITING = ObligationStatus.DONE, ObligationStatus.SENT, ObligationStatus.WAITING
SUPERSEDED, QUARANTINED = ObligationStatus.SUPERSEDED, ObligationStatus.QUARANTINED


def world_of(*names: str, budget: int = 1_000, deadline: int | None = None) -> AccountWorld:
    """An account that has these duties, all at once."""
    world = AccountWorld(0, TOGETHER)
    for name in names:
        world.require(name, deadline=deadline, budget=budget, paying=False)
    return world


def rounds(world: AccountWorld, count: int) -> None:
    for _ in range(count):
        world.round()
        world.mine()
        world.check()


def transactions(world: AccountWorld) -> list[Tx]:
    return [tx for _, tx in sorted(world.mined().values(), key=lambda found: found[1].nonce)]


def statuses(world: AccountWorld, names: str = "abc") -> list[ObligationStatus]:
    return [world.disk[name].status for name in names]


def batch_of(world: AccountWorld) -> Obligation:
    (found,) = (o for o in world.disk.values() if o.members)
    return found


def test_what_is_due_at_once_goes_in_one_transaction_and_each_ends_by_itself() -> None:
    world = world_of("a", "b", "c")
    rounds(world, 5)
    (tx,) = transactions(world)
    assert tx.carries == ("a", "b", "c") and tx.nonce == 0
    assert statuses(world) == [DONE] * 3
    fees = [receipt.fee for name in "abc" if (receipt := world.disk[name].receipt)]
    assert len(fees) == 3 and sum(fees) <= tx.price * (4 + 3 * 6), "each is told its part of the fee"
    rounds(world, 12)
    assert not world.book.obligations, "batch and members rest"


def test_one_is_not_kept_waiting_and_more_gather_until_the_next_head() -> None:
    world = world_of("a")
    world.round()
    assert world.disk["a"].nonce == 0, "nobody waits for company"
    for name in "bcd":
        world.require(name, deadline=None, budget=1_000, paying=False)
        world.round()
    assert {world.disk[name].status for name in "bcd"} == {WAITING}
    rounds(world, 3)
    assert [tx.carries for tx in transactions(world)] == [(), ("b", "c", "d")]


def test_a_head_that_does_not_come_holds_up_no_payment() -> None:
    world = world_of("a")
    world.round()
    world.require("pay", deadline=None, budget=1_000)
    world.round()
    assert world.disk["pay"].nonce == 1


@pytest.mark.parametrize(("revert", "status"), [(Revert.NOT_NEWER, SUPERSEDED), (Revert.OUT_OF_GAS, DONE)])
def test_a_member_that_failed_ends_or_goes_on_alone_and_harms_nobody(revert: Revert, status: ObligationStatus) -> None:
    world = world_of("a", "b", "c")
    world.fails, world.revert = {"b"}, revert
    rounds(world, 3)
    world.fails = set()
    rounds(world, 7)
    assert [world.disk[name].status for name in "ac"] == [DONE, DONE]
    assert world.disk["b"].status is status
    assert [tx.owner for tx in transactions(world)[1:]] == (["b"] if status is DONE else [])
    assert world.disk["b"].spent > 0, "its part of the fee is counted"


@pytest.mark.alarm("transaction-held-up", "transaction-given-up")
@pytest.mark.parametrize("revert", [None, Revert.BAD_PROOF])
def test_a_member_that_failed_for_bad_goes_on_alone_with_its_reason_before_it_is_given_up(
    revert: Revert | None,
) -> None:
    world = world_of("a", "b", "c")
    world.fails, world.revert = {"b"}, revert
    rounds(world, 4)
    assert [world.disk[name].status for name in "ac"] == [DONE, DONE]
    assert any("(b) is held up" in alarm.text and "stands" in alarm.text for alarm in world.alarms)
    rounds(world, 6)
    assert world.disk["b"].status is QUARANTINED
    assert transactions(world)[1].owner == "b"


@pytest.mark.alarm("transaction-held-up")
def test_if_a_batch_fails_as_a_whole_each_goes_on_alone() -> None:
    world = world_of("a", "b", "c")
    world.round()
    world.pool = {0: change(world.pool[0], fails=True)}
    batch = batch_of(world)
    attempt = change(batch.attempts[-1], hash=world.pool[0].hash, raw=world.pool[0].raw)
    world.store(change(batch, attempts=(attempt,)))
    world.restart()
    rounds(world, 10)
    assert statuses(world) == [DONE] * 3
    assert [tx.owner for tx in transactions(world)[1:]] == ["a", "b", "c"]
    assert batch_of(world).status is SUPERSEDED
    assert {alarm.kind for alarm in world.alarms} == {AlarmKind.TRANSACTION_HELD_UP}


@pytest.mark.alarm("transaction-undone")
def test_members_are_undone_with_their_batch_and_done_with_it_again() -> None:
    world = world_of("a", "b", "c")
    world.fails = {"c"}
    rounds(world, 4)
    world.round()
    assert statuses(world) == [DONE, DONE, SUPERSEDED]
    world.reorganise(5, forget=True)
    for _ in range(3):  # its receipt is missing for so many heads
        world.mine()
        world.round()
    assert statuses(world) == [SENT, SENT, SUPERSEDED]
    assert world.pool[0].carries == ("a", "b", "c"), "it is sent again as it was"
    rounds(world, 5)
    assert statuses(world) == [DONE, DONE, SUPERSEDED]
    assert {alarm.kind for alarm in world.alarms} == {AlarmKind.TRANSACTION_UNDONE}


def test_a_replacement_offers_more_and_carries_the_same() -> None:
    world = world_of("a", "b", "c", budget=10_000)
    seen: list[Tx] = []
    for _ in range(8):
        world.round()
        seen.append(world.pool[0])
        world.mine(minimum=10**9)
    assert len({tx.price for tx in seen}) > 3
    assert {tx.carries for tx in seen} == {("a", "b", "c")} and {tx.nonce for tx in seen} == {0}
    assert seen[-1].price == 3 * 10_000 // (4 + 3 * 6), "and reaches what the members may cost together"


@pytest.mark.parametrize("crash", range(4))
@pytest.mark.parametrize("at", range(6))
def test_a_crash_anywhere_loses_no_member_and_sends_none_in_two_batches(crash: int, at: int) -> None:
    world = world_of("a", "b", "c")
    world.fails, world.revert = {"c"}, Revert.OUT_OF_GAS
    for number in range(20):
        world.round(crash if number == at else -1)
        world.mine()
        world.check()
        if number == 2:
            world.fails = set()
    assert statuses(world) == [DONE] * 3
    assert [tx.carries for tx in transactions(world) if tx.carries] == [("a", "b", "c")]


@pytest.mark.alarm("nonce-taken")
def test_a_batch_whose_nonce_another_program_used_takes_another_one_with_all_its_members() -> None:
    world = world_of("a", "b", "c")
    world.round()
    world.foreign()
    rounds(world, 9)
    assert statuses(world) == [DONE] * 3
    assert [tx.carries for tx in transactions(world)] == [(), ("a", "b", "c")]
    assert {alarm.kind for alarm in world.alarms} == {AlarmKind.NONCE_TAKEN}


@pytest.mark.alarm("nonce-taken")
def test_members_are_done_if_their_batch_is_mined_after_all_under_a_nonce_that_it_has_left() -> None:
    world = world_of("a", "b", "c")
    world.round()
    first = world.pool[0]
    world.foreign()
    for _ in range(5):
        world.round()
        world.mine(minimum=10**9)
    assert batch_of(world).nonce == 1
    world.reorganise(6, forget=True)
    world.pool = {0: first}
    world.mine()
    for _ in range(4):
        world.mine(minimum=10**9)
    rounds(world, 2)
    assert statuses(world) == [DONE] * 3
    assert {alarm.kind for alarm in world.alarms} == {AlarmKind.NONCE_TAKEN}


@pytest.mark.alarm("transaction-held-up")
@pytest.mark.parametrize("refusal", [Refusal.MALFORMED, Refusal.INSUFFICIENT_FUNDS, Refusal.FEE_CAPPED])
def test_if_nodes_refuse_a_batch_for_long_its_nonce_is_used_up_and_each_goes_on_alone(refusal: Refusal) -> None:
    """For less than all of them together, there may be enough coins; and no node's cap on fees may be met."""
    world = world_of("a", "b", "c")
    for _ in range(TOGETHER.tries):
        world.round(refusal=refusal)
        world.mine()
    rounds(world, 12)
    assert statuses(world) == [DONE] * 3
    assert [(tx.filler, tx.done) for tx in transactions(world)] == [
        (True, ()),
        *((False, (name,)) for name in "abc"),
    ]
    assert {alarm.kind for alarm in world.alarms} == {AlarmKind.TRANSACTION_HELD_UP}


def test_a_batch_hurries_for_who_was_moot_and_is_due_again() -> None:
    """A close that left the chain in a reorganisation, and came back with less time left than the others have."""
    world = world_of("a", "b", "c")
    world.round()
    world.supersede("a")
    world.round()
    assert batch_of(world).deadline is None
    again = due_again(world.disk["a"], 5_000, 1_000)
    world.store(again)
    world.restart()
    world.mine(minimum=10**9)
    world.round()
    assert (batch_of(world).deadline, batch_of(world).budget) == (1_000, 7_000)
    rounds(world, 6)
    assert statuses(world) == [DONE] * 3 and [tx.carries for tx in transactions(world)] == [("a", "b", "c")]


def test_a_batch_is_let_through_cheaply_once_all_its_members_are_moot() -> None:
    world = world_of("a", "b", "c", budget=10_000)
    world.round()
    for name in "ab":
        world.supersede(name)
    world.round()
    assert batch_of(world).status is SENT, "the third needs it still"
    world.supersede("c")
    for _ in range(8):
        world.round()
        world.mine(minimum=10**9)
    assert batch_of(world).status is SUPERSEDED and world.pool[0].price == world.market
    rounds(world, 17)
    assert not world.book.obligations


@pytest.mark.alarm("transaction-given-up")
def test_a_member_that_is_late_ends_alone_and_the_batch_hurries_for_the_next_one() -> None:
    world = AccountWorld(0, TOGETHER)
    for name, deadline in (("a", 2_000), ("b", 4_000)):
        world.require(name, deadline=deadline, budget=1_000, paying=False)
    world.round()
    for header in (Header(1, b"\1" * 32, bytes(32), 60), Header(2, b"\2" * 32, b"\1" * 32, 120)):
        world.blocks.append((header, ()))
        world.round()
    assert batch_of(world).deadline == 2_000
    for number in range(3, 45):
        world.blocks.append((Header(number, bytes([number]) * 32, bytes([number - 1]) * 32, 60 * number), ()))
        world.round()
    assert statuses(world, "ab") == [QUARANTINED, SENT]
    assert batch_of(world).deadline == 4_000
    rounds(world, 5)
    assert statuses(world, "ab") == [DONE, DONE], "late as it was, it was done"
    assert {alarm.kind for alarm in world.alarms} == {AlarmKind.TRANSACTION_GIVEN_UP}


# --- who travels with whom -----------------------------------------------------------------------------------------

LOOKS = tuple(Look(number, 10 * number, 0, 0, 5) for number in range(1, 5))
NOW = 40
SEEN = Observation(Header(4, bytes(32), bytes(32), NOW), NOW, 0, 5, {})
SPARE = 10 * (16 + 4 * 4)
"""What has to be left until a deadline where blocks take 10 seconds and 3 confirm."""


def obligation(name: str, budget: int = 1_000, call: Call | None = None, deadline: int | None = None) -> Obligation:
    return Obligation(id=name, call=call or secret_of(name), purpose="a test", budget=budget, deadline=deadline)


def joins(one: Obligation, policy: SendingPolicy = TOGETHER) -> bool:
    return may_join(one, ObligationBook({}, -1, LOOKS), policy, gas, NOW)


def gathered(
    due: list[Obligation], policy: SendingPolicy = TOGETHER, *, gas: object = gas, fresh: bool = True
) -> list[Obligation]:
    return gather(due, ObligationBook({}, -1, LOOKS), SEEN, policy, gas, NOW, fresh)  # type: ignore[arg-type]


def test_nothing_that_pays_or_was_in_a_batch_before_or_has_little_time_travels_with_others() -> None:
    channel = ChannelId(ZERO32)
    assert joins(obligation("a")) and joins(obligation("a", call=SettleCall(channel)))
    assert not joins(obligation("a", call=TransferCall(NATIVE, Address(bytes(20)), 1)))
    assert not joins(obligation("a", call=CloseCall(channel, None, None, ZERO32)))
    assert not joins(change(obligation("a"), alone=True))
    assert not joins(obligation("a"), POLICY)
    assert joins(obligation("a", deadline=NOW + SPARE + 1))
    assert not joins(obligation("a", deadline=NOW + SPARE))
    assert not may_join(obligation("a", deadline=1_000), ObligationBook({}, -1, LOOKS[:1]), TOGETHER, gas, NOW)
    locks = tuple(Lock(number, 1, 1, 0, ZERO32) for number in range(6))
    assert joins(obligation("a", call=RedeemCall(channel, 0, locks[:5])))
    assert not joins(obligation("a", call=RedeemCall(channel, 0, locks)))
    deep = RegisterLinkCall(ZERO32, 60_000, ZERO32, 1, 65_536, 100)
    assert not may_join(
        obligation("a", call=deep), ObligationBook({}, -1, LOOKS), TOGETHER, lambda call: 10_000_000, NOW
    )


@given(budgets=st.lists(st.integers(1, 10**6), min_size=1, max_size=40), together=st.integers(1, 32))
def test_nobody_in_a_batch_could_offer_more_alone(budgets: list[int], together: int) -> None:
    due = [obligation(f"o{number}", budget) for number, budget in enumerate(budgets)]
    found = gathered(due, change(TOGETHER, together=together))
    carried = [name for one in found for name in one.members or (one.id,)]
    assert sorted(carried) == sorted(one.id for one in due), "each is in one of them"
    by_name = {one.id: one for one in due}
    for batch in (one for one in found if one.members):
        members = [by_name[name] for name in batch.members]
        assert isinstance(batch.call, BatchCall) and batch.call.calls == tuple(one.call for one in members)
        assert 2 <= len(members) <= together
        assert batch.budget == sum(one.budget for one in members), "no member pays more than its own budget"
        assert batch.budget // gas(batch.call) >= max(one.budget // gas(one.call) for one in members)


def test_many_that_may_cost_the_same_go_in_few_batches_the_most_urgent_first() -> None:
    deadlines = [None if number % 7 == 0 else 100_000 - number for number in range(100)]
    due = [obligation(f"o{number}", 1_000, deadline=deadline) for number, deadline in enumerate(deadlines)]
    found = gathered(due, change(TOGETHER, together=32))
    assert [len(one.members) for one in found] == [32, 32, 32, 4]
    for batch in found:
        times = [deadlines[int(name[1:])] or 10**9 for name in batch.members]
        assert times == sorted(times) and batch.deadline == times[0]


def test_a_batch_is_no_larger_than_what_finds_room_in_a_block_and_only_made_if_it_is_cheaper() -> None:
    due = [obligation(f"o{number}", 10**9) for number in range(32)]

    def heavy(call: Call) -> int:
        return sum(290_000 for _ in call.calls) if isinstance(call, BatchCall) else 300_000

    found = gathered(due, change(TOGETHER, together=32), gas=heavy)
    assert [len(one.members) for one in found] == [27, 5]
    assert all(heavy(one.call) <= BATCH_GAS_MAX for one in found)
    assert len(gathered(due[:2], gas=lambda call: 21 if isinstance(call, BatchCall) else 10)) == 2


def test_a_batch_never_offers_more_in_all_than_a_node_takes_of_one_transaction() -> None:
    """Else it is refused again and again before its calls go alone."""
    due = [obligation(f"o{number}", 10**17) for number in range(32)]
    found = gathered(due, change(TOGETHER, together=32))
    assert [(len(one.members), one.budget) for one in found] == [(10, 10**18)] * 3 + [(2, 2 * 10**17)]
    dear = [obligation(name, 10**18) for name in "ab"]
    assert [one.members for one in gathered(dear)] == [(), ()], "each alone, as it would be without batches"
    (batch,) = gathered(due[:10], change(TOGETHER, together=32))
    more = [change(one, budget=3 * 10**17) for one in due[:10]]
    assert with_members(batch, more).budget == 10**18, "nor when its members may cost more later"


def test_the_same_call_twice_is_not_in_one_batch() -> None:
    call = secret_of("same")
    due = [obligation("a", call=call), obligation("b"), obligation("c", call=call)]
    assert [one.members for one in gathered(due)] == [(), ("a", "b")]
