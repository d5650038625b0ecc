"""No chain node's word, and no number of small obligations, keeps a duty from ever being sent."""

from __future__ import annotations

import msgspec
import pytest

from simulation.accounts import GAS, POLICY, AccountWorld
from tallystick.settlement.chain import Header, TransactionReceipt
from tallystick.settlement.errors import Refusal, Revert
from tallystick.settlement.sending.judging import may_try_again
from tallystick.settlement.sending.obligations import FINAL, Observation

FAR = 2**62


def rounds(world: AccountWorld, count: int, minimum: int = 0) -> None:
    for _ in range(count):
        world.round()
        world.check()
        world.mine(minimum=minimum)


def owners(world: AccountWorld) -> list[str]:
    return [tx.owner for _, tx in world.mined().values() if not tx.filler]


def sent(world: AccountWorld, name: str = "duty") -> bytes:
    """Require a duty, let it be sent, and return its transaction's hash."""
    world.require(name, deadline=None, budget=10_000, paying=False)
    world.round()
    return world.book.obligations[name].attempts[-1].hash


def test_small_ones_that_cannot_be_mined_do_not_keep_an_urgent_one_out() -> None:
    """Anybody can make a node claim many small locks, whose fee has risen above their worth when they are sent."""
    world = AccountWorld(0)
    world.market = 4
    for index in range(POLICY.in_flight + 2):
        world.require(f"small{index}", deadline=world.head.time + 10_000, budget=4 * GAS, paying=False)
    world.round()
    world.market = 8
    rounds(world, 3, minimum=8)
    world.require("challenge", deadline=world.head.time + 1_000, budget=10_000, paying=False)
    rounds(world, 10, minimum=8)
    assert "challenge" in owners(world)


def test_a_fee_that_no_transaction_can_cost_takes_no_budget_away() -> None:
    world = AccountWorld(0)
    made = sent(world)

    def lie(truth: Observation) -> Observation:
        failed = TransactionReceipt(made, world.blocks[0][0], False, 10**30, "no such channel", Revert.UNKNOWN_CHANNEL)
        return msgspec.structs.replace(truth, receipts={made: failed})

    rounds(world, 3, minimum=10**9)
    world.lie = lie
    rounds(world, 3, minimum=10**9)
    world.lie = None
    left = world.disk["duty"]
    assert left.spent <= 10 * GAS
    world.require("after", deadline=None, budget=10_000, paying=False)
    world.pool.clear()
    rounds(world, 20)
    assert "duty" in owners(world)


@pytest.mark.parametrize("success", [True, False])
def test_what_ended_at_a_head_that_is_no_head_is_tried_again(success: bool) -> None:
    world = AccountWorld(0)
    made = sent(world)
    rounds(world, 4, minimum=10**9)

    def lie(truth: Observation) -> Observation:
        head = Header(FAR, bytes(32), bytes(32), truth.head.time + 1)
        block = Header(FAR - 100, bytes(32), bytes(32), truth.head.time)
        return msgspec.structs.replace(
            truth, head=head, receipts={made: TransactionReceipt(made, block, success, 1, "", Revert.BAD_PROOF)}
        )

    world.lie = lie
    world.round()
    world.round()
    assert world.disk["duty"].status in FINAL
    world.lie = None
    rounds(world, 3, minimum=10**9)
    duty = world.disk["duty"]
    assert duty.status not in FINAL or may_try_again(duty, 0, world.head.number + 1, world.head.number)


def test_what_waits_until_a_block_that_never_comes_is_sent() -> None:
    world = AccountWorld(0)
    world.require("duty", deadline=None, budget=10_000, paying=False)
    for _ in range(POLICY.tries + 1):
        world.round(refusal=Refusal.MALFORMED)
        world.mine()
    world.round()
    filler = world.book.obligations["duty"].attempts[-1]
    assert filler.filler

    def lie(truth: Observation) -> Observation:
        head = Header(FAR, bytes(32), bytes(32), truth.head.time + 1)
        block = Header(FAR - 100, bytes(32), bytes(32), truth.head.time)
        told = TransactionReceipt(filler.hash, block, True, 1, "")
        return msgspec.structs.replace(truth, head=head, receipts={filler.hash: told})

    world.lie = lie
    world.round()
    world.round()
    assert world.disk["duty"].again_at > FAR
    world.lie = None
    world.pool.clear()
    rounds(world, 30)
    assert "duty" in owners(world)
