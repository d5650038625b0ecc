"""What a rollup's operator takes for a step, from whom how much, and when a batch is worth posting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from trio.testing import MockClock

from simulation.rollup_world import OPERATOR, RollupWorld, open_world
from tallystick.channels.errors import InvalidInput
from tallystick.sdk.errors import CallFailed, NodeUnreachable
from tallystick.sdk.rollup.calls import RollupCall
from tallystick.sdk.rollup.operating import OperatorPolicy
from tallystick.sdk.rollup.reading import read_rollup
from tallystick.sdk.rollup.signing import StepWaits
from tallystick.settlement.rollup.steps import RollupExit, RollupTransfer, encode_step

FEE = 5


@asynccontextmanager
async def begun(**policy: Any) -> AsyncIterator[RollupWorld]:
    """Give a world whose operator takes a fee, with an account of its own and two of users'."""
    async with open_world() as world:
        await world.rollup.act(OPERATOR, RollupCall("deposit", (OPERATOR.address,), 1))
        for at in range(2):
            await world.user(at).deposit(1_000)
        await world.go_on(14)
        await world.start_operator(OperatorPolicy(**({"fee": FEE} | policy)))
        yield world


async def balances(world: RollupWorld) -> list[int]:
    """Return what accounts have by the chain."""
    accounts = (await read_rollup(world.rollup)).state.accounts
    return [each.balance for at in range(3) if (each := accounts.get(at))]


async def test_a_step_pays_its_fee_and_a_close_is_free(autojump_clock: MockClock) -> None:
    async with begun() as world:
        first, second = world.user(0, fee_max=FEE), world.user(1, fee_max=FEE)
        await first.open_channel(7, second.address, 100)
        await second.fund(7, 50)
        await first.transfer(second.address, 10)
        await second.exit(20)
        await first.close(7, 120, 2**39, await second.sign_close(7, 120, 2**39))
        await world.go_on(14)
        assert await balances(world) == [
            1 + 4 * FEE,
            1_000 - 100 - 10 + 120 - 2 * FEE,
            1_000 - 50 + 10 - 20 + 30 - 2 * FEE,
        ]
        await first.transfer(OPERATOR.address, 2)  # 3 more are the fee for it
        await first.transfer(OPERATOR.address, FEE)  # and this pays for itself
        await world.go_on(14)
        assert (await balances(world))[0] == 1 + 4 * FEE + 2 * FEE


async def test_nobody_pays_more_than_was_allowed_and_a_fee_that_was_signed_stays(autojump_clock: MockClock) -> None:
    async with begun() as world:
        with pytest.raises(InvalidInput, match="takes 5 for a step, and 4 at most is allowed"):
            await world.user(0, fee_max=FEE - 1).exit(10)
        with pytest.raises(InvalidInput, match="this takes 996, and a fee of 5"):
            await world.user(0, fee_max=FEE).exit(996)
        made, _ = await world.user(0, fee_max=100).exit(10)
        await world.start_operator(OperatorPolicy(fee=FEE + 1))
        with pytest.raises(InvalidInput, match="takes 6"):
            await world.user(0, fee_max=FEE).exit(10)
        await world.go_on(14)
        assert (await world.user(0).where(made)).what == "posted"
        assert (await balances(world))[:2] == [1 + FEE, 1_000 - 10 - FEE]


async def test_a_step_without_its_fee_is_not_taken_and_neither_without_the_step(autojump_clock: MockClock) -> None:
    async with begun() as world:
        seen: list[Any] = []
        ask = world.desk.ask

        async def cut(path: str, body: Any = None) -> Any:
            if path == "/steps":
                seen.append(body["steps"])
                body = {"steps": body["steps"][: len(seen)]}
            return await ask(path, body)

        world.desk.ask = cut  # type: ignore[method-assign]
        with pytest.raises(StepWaits, match="these steps pay 0 to the operator, and it takes 5"):
            await world.user(0, fee_max=FEE).exit(10)
        assert world.operating.core.is_idle
        spoilt = [seen[0][0], seen[0][1] | {"signatures": ["00" * 64]}]
        with pytest.raises(CallFailed, match="signature is not that of"):
            await ask("/steps", {"steps": spoilt})
        assert world.operating.core.is_idle
        await world.user(0, fee_max=FEE).resend()
        assert seen[0] == seen[1] and len(seen[0]) == 2 and len(world.operating.core.pending) == 2
        free = encode_step(RollupTransfer(1, 0, 0, 2)).hex()
        with pytest.raises(CallFailed, match="pay 0 to the operator, and it takes 5"):
            await ask("/steps", {"steps": [{"step": free, "signatures": ["00" * 64]}]})


async def test_a_fee_pays_once(autojump_clock: MockClock) -> None:
    async with begun() as world:
        handed: list[Any] = []
        ask = world.desk.ask

        async def replayed(path: str, body: Any = None) -> Any:
            if path == "/steps":
                handed.append(body["steps"])
                if len(handed) > 1:
                    body = {"steps": [body["steps"][0], handed[0][1]]}
            return await ask(path, body)

        world.desk.ask = replayed  # type: ignore[method-assign]
        await world.user(0, fee_max=FEE).exit(10)
        with pytest.raises(StepWaits, match="pay 0 to the operator, and it takes 5"):
            await world.user(0, fee_max=FEE).exit(11)


async def test_a_bundle_that_was_taken_is_not_topped_up_though_the_fee_rose(autojump_clock: MockClock) -> None:
    async with begun() as world:
        ask = world.desk.ask

        async def lost(path: str, body: Any = None) -> Any:
            answer = await ask(path, body)
            if path == "/steps":
                raise NodeUnreachable("the answer was lost")
            return answer

        world.desk.ask = lost  # type: ignore[method-assign]
        with pytest.raises(NodeUnreachable):
            await world.user(0, fee_max=100).exit(10)
        await world.start_operator(OperatorPolicy(fee=2 * FEE))
        await world.user(0, fee_max=100).exit(10)
        await world.go_on(14)
        assert (await balances(world))[:2] == [1 + FEE, 1_000 - 10 - FEE]


async def test_what_a_fee_rose_by_before_the_step_was_taken_is_paid_under_another_number(
    autojump_clock: MockClock,
) -> None:
    async with begun(per_minute=0) as world:
        with pytest.raises(StepWaits, match="may 0: hand in the same step later"):
            await world.user(0, fee_max=100).exit(10)
        await world.start_operator(OperatorPolicy(fee=2 * FEE + 1))
        with pytest.raises(StepWaits, match="pay 5 to the operator, and it takes 11"):
            await world.user(0, fee_max=10).exit(10)
        step, _ = await world.user(0, fee_max=11).exit(10)
        assert isinstance(step, RollupExit) and step.nonce == 0
        await world.go_on(14)
        assert (await balances(world))[:2] == [1 + 2 * FEE + 1, 1_000 - 10 - 2 * FEE - 1]
        step, _ = await world.user(0, fee_max=11).exit(10)
        assert isinstance(step, RollupExit) and step.nonce == 3


async def test_an_account_hands_in_so_much_at_a_time_and_others_are_not_held_up(autojump_clock: MockClock) -> None:
    async with begun(per_minute=4, waiting_max=6, every=100) as world:
        for _ in range(2):
            await world.user(0, fee_max=FEE).exit(1)
        with pytest.raises(StepWaits, match="has handed in 4 steps within 60 seconds"):
            await world.user(0, fee_max=FEE).exit(1)
        await world.user(1, fee_max=FEE).exit(1)
        world.chain.advance(61)
        await world.operating._follower.follow()
        await world.user(0).resend()
        with pytest.raises(StepWaits, match="6 steps of account 1 wait for a batch: 6 may"):
            await world.user(0, fee_max=FEE).exit(2)


async def test_a_batch_is_posted_when_fees_pay_for_it_or_after_the_longest_wait(autojump_clock: MockClock) -> None:
    async with begun(worth=3 * FEE, wait=200, every=12) as world:
        await world.user(0, fee_max=FEE).exit(1)
        await world.go_on(100)
        assert (await world.rollup.facts()).batches == 1, "one with a single coin makes nobody post"
        for _ in range(2):
            await world.user(1, fee_max=FEE).exit(1)
        await world.go_on(2)
        assert (await world.rollup.facts()).batches == 2
        _, promise = await world.user(0, fee_max=FEE).exit(1)
        world.chain.advance(198)
        await world.go_on(1)
        assert (await world.rollup.facts()).batches == 2
        await world.go_on(8)
        assert (await world.rollup.facts()).batches == 3
        assert (await read_rollup(world.rollup)).standing[-1].batch.time <= promise.until
        await world.user(0).deposit(1)
        world.chain.advance(198)
        await world.go_on(8)
        assert (await world.rollup.facts()).batches == 4, "what the chain ordered waits no longer"


def test_an_operator_promises_nothing_that_its_longest_wait_breaks() -> None:
    with pytest.raises(InvalidInput, match="promise more, or wait less"):
        OperatorPolicy(wait=600, promise=600)
