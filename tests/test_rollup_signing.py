"""A user of a rollup signs one statement under one number, whatever its desk says and wherever its program ends."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from simulation.rollup_desks import HostileDesk
from simulation.rollup_world import OPERATOR, ORDER_TIME, USERS, WINDOW, RollupWorld, open_world
from tallystick.channels.errors import InvalidInput, StoreError
from tallystick.sdk.errors import CallFailed, NodeUnreachable
from tallystick.sdk.rollup import chain as rollup_chain
from tallystick.sdk.rollup.operating import OperatorPolicy
from tallystick.sdk.rollup.reading import read_rollup
from tallystick.sdk.rollup.record import read_promises
from tallystick.sdk.rollup.signing import StepWaits
from tallystick.settlement.rollup.steps import (
    RollupExit,
    RollupFund,
    RollupOpen,
    RollupTransfer,
)

HOUR = 3_600


async def begun(world: RollupWorld) -> HostileDesk:
    """Let three users deposit, and put a desk between them and the operator."""
    for at in range(3):
        await world.user(at).deposit(1_000)
    await world.go_on(14)
    desk = HostileDesk(lambda: world.desk)
    world.between = dict.fromkeys(range(len(USERS)), desk)
    return desk


async def test_a_desk_that_refuses_and_names_another_number_never_holds_two_statements_of_one(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        desk = await begun(world)
        desk.refuses = True
        with pytest.raises(StepWaits, match="step number 0, which was signed"):
            await world.user(0).transfer(USERS[1].address, 100)
        for nonce in (0, 5):
            desk.says = {"nonce": nonce}
            for _ in range(2):
                with pytest.raises(StepWaits, match="step number 0"):
                    await world.user(0).transfer(USERS[2].address, 50)
                with pytest.raises(StepWaits):
                    await world.user(0).exit(5)
                world.restart_user(0)
        assert {number: len(each) for number, each in desk.statements().items()} == {0: 1}
        desk.refuses, desk.says = False, {}
        await world.user(0).transfer(USERS[2].address, 50)  # what was signed goes first
        assert {number: len(each) for number, each in desk.statements().items()} == {0: 1, 1: 1}
        await world.go_on(14)
        state = (await read_rollup(world.rollup)).state
        assert [each.balance for at in range(3) if (each := state.accounts.get(at))] == [850, 1_100, 1_050]
        desk.says = {"nonce": 7}
        with pytest.raises(InvalidInput, match="knows steps of this account up to number 6 that are not in this"):
            await world.user(0).transfer(USERS[2].address, 50)
        desk.says = {"nonce": 1}
        with pytest.raises(StepWaits, match="number 1 was signed under"):
            await world.user(0).transfer(USERS[2].address, 51)
        assert max(map(len, desk.statements().values())) == 1


@pytest.mark.parametrize("effect", [False, True])
@pytest.mark.parametrize("commit", [0, 1])
async def test_a_user_that_ends_at_any_commit_pays_once(commit: int, effect: bool, autojump_clock: MockClock) -> None:
    async with open_world() as world:
        desk = await begun(world)
        world.stores[0].fail_at(commit, takes_effect=effect)
        with pytest.raises(StoreError):
            await world.user(0).transfer(USERS[1].address, 100)
        assert bool(desk.seen) == (commit == 1), "nothing is sent that is not on disk"
        world.restart_user(0)
        step, promise = await world.user(0).transfer(USERS[1].address, 100)
        if commit == 1 and effect:  # its promise was on disk already: this is another payment
            assert isinstance(step, RollupTransfer) and step.nonce == 1
        await world.go_on(14)
        assert (await world.user(0).where(step)).what == "posted"
        paid = 200 if commit == 1 and effect else 100
        state = (await read_rollup(world.rollup)).state
        assert [each.balance for at in range(2) if (each := state.accounts.get(at))] == [1_000 - paid, 1_000 + paid]
        assert max(map(len, desk.statements().values())) == 1
        assert promise in read_promises(world.stores[0])


@pytest.mark.parametrize("how", ["is_away", "loses"])
async def test_a_payment_whose_answer_was_lost_is_made_once_when_it_is_asked_for_again(
    how: str, autojump_clock: MockClock
) -> None:
    async with open_world() as world:
        desk = await begun(world)
        setattr(desk, how, True)
        with pytest.raises(NodeUnreachable):
            await world.user(0).transfer(USERS[1].address, 100)
        setattr(desk, how, False)
        world.restart_user(0)
        first, _ = await world.user(0).transfer(USERS[1].address, 100)
        second, _ = await world.user(0).transfer(USERS[1].address, 100)
        assert isinstance(first, RollupTransfer) and isinstance(second, RollupTransfer)
        assert (first.nonce, second.nonce) == (0, 1)
        await world.go_on(14)
        account = (await read_rollup(world.rollup)).state.accounts.get(0)
        assert account is not None and account.balance == 800


async def test_what_a_batch_has_is_known_though_the_desk_never_said_so(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        desk = await begun(world)
        desk.loses = True
        with pytest.raises(NodeUnreachable):
            await world.user(0).transfer(USERS[1].address, 100)
        await world.go_on(14)
        desk.loses, desk.refuses = False, True
        ((step, promise),) = await world.user(0).resend()
        assert promise is None, "the chain has it"
        desk.refuses = False
        step, _ = await world.user(0).exit(5)
        assert isinstance(step, RollupExit) and step.nonce == 1


async def test_a_number_is_free_again_only_once_the_chain_makes_its_step_impossible_for_good(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollup_chain, "LEDGER_FINAL", 20)
    async with open_world() as world:
        desk = await begun(world)
        desk.hidden = "/channels/7"
        await world.user(1).open_channel(7, USERS[2].address, 10)
        with pytest.raises(StepWaits, match="number 7 is a channel's already"):
            await world.user(0).open_channel(7, USERS[1].address, 10)
        for wait in (0, WINDOW // 2):
            world.chain.advance(wait)
            await world.go_on(14)
            with pytest.raises(StepWaits):
                await world.user(0).open_channel(8, USERS[1].address, 10)
        world.chain.advance(WINDOW + HOUR)
        with pytest.raises(StepWaits):  # the window is over, and a reorganisation might yet open it again
            await world.user(0).open_channel(8, USERS[1].address, 10)
        world.chain.mine(20)
        step, _ = await world.user(0).open_channel(8, USERS[1].address, 10)
        assert isinstance(step, RollupOpen) and (step.channel, step.nonce) == (8, 0)
        await world.go_on(14)
        desk.hidden = ""
        with pytest.raises(InvalidInput, match="number 7 is a channel's already"):
            await world.user(0).open_channel(7, USERS[1].address, 10)
        step, _ = await world.user(0).fund(8, 5)
        assert isinstance(step, RollupFund) and step.nonce == 1


async def test_whoever_lost_the_record_waits_until_the_chain_has_what_was_signed(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        desk = await begun(world)
        await world.user(0).exit(1)
        world.lose_record(0)
        with pytest.raises(InvalidInput, match="a record was lost"):
            await world.user(0).exit(2)
        await world.go_on(14)
        step, _ = await world.user(0).exit(2)
        assert isinstance(step, RollupExit) and step.nonce == 1
        assert max(map(len, desk.statements().values())) == 1


async def test_what_was_signed_is_handed_in_again_when_a_reorganisation_has_given_accounts_other_numbers(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        floor = world.chain.newest.header.number
        desk = await begun(world)
        step, _ = await world.user(0).transfer(USERS[1].address, 100)
        assert isinstance(step, RollupTransfer) and (step.payer, step.payee) == (0, 1)
        depth = world.chain.newest.header.number - floor
        world.chain.reorganise(depth, keep=lambda waiting: waiting.sender == OPERATOR.address)
        for at in (1, 0):
            await world.user(at).deposit(1_000)
        await world.go_on(20)
        await world.user(0).transfer(USERS[1].address, 7)
        await world.go_on(14)
        state = (await read_rollup(world.rollup)).state
        assert [each.balance for at in range(2) if (each := state.accounts.get(at))] == [1_107, 893]
        assert max(map(len, desk.statements().values())) == 1, "the same statements, in other words"


@pytest.mark.parametrize("commit", [0, 1])
@pytest.mark.parametrize("effect", [False, True])
async def test_under_one_key_there_is_one_step_wherever_the_program_ends(
    effect: bool, commit: int, autojump_clock: MockClock
) -> None:
    async with open_world() as world:
        await begun(world)
        world.stores[0].fail_at(commit, takes_effect=effect)
        for _ in range(3):
            try:
                made = await world.user(0).transfer(USERS[1].address, 100, key="order 17")
            except StoreError:
                world.restart_user(0)
        with pytest.raises(InvalidInput, match="'order 17' is the key of another step"):
            await world.user(0).transfer(USERS[1].address, 101, key="order 17")
        again = await world.user(0).transfer(USERS[1].address, 100)
        assert again != made, "without the key it is another payment"
        await world.go_on(14)
        account = (await read_rollup(world.rollup)).state.accounts.get(0)
        assert account is not None and account.balance == 800
        assert await world.user(0).transfer(USERS[1].address, 100, key="order 17") == made


async def test_a_step_that_a_batch_has_is_not_signed_again_though_nobody_promised_it(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        desk = await begun(world)
        desk.loses = True
        with pytest.raises(NodeUnreachable):
            await world.user(0).transfer(USERS[1].address, 100)
        await world.go_on(14)
        desk.loses, desk.refuses = False, True
        step, promise = await world.user(0).transfer(USERS[1].address, 100)
        assert isinstance(step, RollupTransfer) and (step.nonce, promise) == (0, None)


async def test_a_desk_that_names_another_account_as_the_payee_is_not_believed(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        desk = await begun(world)
        desk.says = {"number": 2}
        step, _ = await world.user(0).transfer(USERS[1].address, 100)
        assert isinstance(step, RollupTransfer) and (step.payer, step.payee) == (0, 1)


async def test_a_promise_for_later_than_the_chain_would_order_is_none(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await begun(world)
        await world.start_operator(OperatorPolicy(promise=ORDER_TIME + 90))
        with pytest.raises(CallFailed, match="orders what it must do within 600 seconds"):
            await world.user(0).exit(5)
        assert read_promises(world.stores[0]) == []


async def test_a_step_whose_coins_are_gone_is_carried_out_once_what_lacks_is_there(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        desk = await begun(world)
        desk.refuses = True
        with pytest.raises(StepWaits) as told:
            await world.user(0).transfer(USERS[1].address, 100)
        assert "held until coins come" not in str(told.value), "nothing lacks: the operator will not"
        await world.user(0).force_exit()
        await world.go_on(14)
        desk.refuses = False
        with pytest.raises(StepWaits, match=r"the account has 0, 100 less than was signed for.*Deposit 100"):
            await world.user(0).transfer(USERS[2].address, 5)
        await world.user(0).deposit(99)
        await world.go_on(14)
        with pytest.raises(StepWaits, match="Deposit 1 "):
            await world.user(0).resend()
        await world.user(0).deposit(1)
        await world.go_on(14)
        ((step, _),) = await world.user(0).resend()
        assert isinstance(step, RollupTransfer) and (step.nonce, step.amount) == (0, 100)
        assert max(map(len, desk.statements().values())) == 1
