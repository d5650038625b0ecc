"""A rollup's user who holds tokens: an account of its own, with numbers of its own, at the desk and by the chain."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from simulation.local_evm import on_a_node
from simulation.rollup_paying import PaidChannel
from simulation.rollup_world import OPERATOR, USERS, WINDOW, RollupWorld, open_world
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE, Address, to_address
from tallystick.channels.testing.memory import MemoryDisk
from tallystick.sdk.errors import CallFailed
from tallystick.sdk.rollup.calls import RollupCall, RollupPlace
from tallystick.sdk.rollup.chain import open_rollup_chain
from tallystick.sdk.rollup.leaving import RollupLeaving
from tallystick.sdk.rollup.operating import OperatorPolicy
from tallystick.sdk.rollup.reading import read_rollup
from tallystick.sdk.rollup.record import SIGNING
from tallystick.sdk.rollup.user import RollupUser
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.rollup.steps import RollupTransfer, encode_step
from tallystick.settlement.testing.anvil import start_anvil
from tallystick.settlement.testing.token import TOKEN, TRANSFER

GOLD = Address(b"\x70" * 20)
FAR = 2**39
FEE = 5


def holder(world: RollupWorld, at: int, fee_max: int = 0) -> RollupUser:
    """Return a user's account of gold, with a record of its own."""
    store = MemoryDisk((SIGNING,)).open()
    return RollupUser(world.rollup, world.place, USERS[at], world.desk, store, fee_max=fee_max, asset=GOLD)


async def begun(world: RollupWorld) -> list[RollupUser]:
    """Let two users deposit coins and gold, of both the first one more."""
    users = [holder(world, at) for at in range(2)]
    for at, user in enumerate(users):
        world.chain.fund(user.address, 10_000, GOLD)
        await world.user(at).deposit(500)
        await user.deposit(2_000 - 1_000 * at)
    await world.go_on(14)
    return users


async def test_tokens_are_paid_put_into_a_channel_and_taken_out_beside_coins(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        first, second = await begun(world)
        coins = world.user(0)
        await first.transfer(second.address, 100)
        await coins.transfer(second.address, 7)
        assert ((await first.account()).balance, (await coins.account()).balance) == (1_900, 493)
        assert ((await first.account()).nonce, (await coins.account()).nonce) == (1, 1)
        await first.open_channel(7, second.address, 600)
        await second.fund(7, 50)
        with pytest.raises(CallFailed, match="signature is not that of"):
            await coins.close(7, 400, FAR, await second.sign_close(7, 400, FAR))
        await first.close(7, 400, FAR, await second.sign_close(7, 400, FAR))
        await second.exit(1_000)
        await world.go_on(20)
        with pytest.raises(InvalidInput, match="is one of 0x7070"):
            await coins.force_close(7, 400, FAR, bytes(64))
        await first.force_exit()
        await world.go_on(14)
        world.chain.advance(WINDOW + 1)
        for user, gets in ((first, 1_700), (second, 1_000)):
            before = await world.chain.balance(user.address, GOLD)
            assert await user.withdraw() is not None
            assert await world.chain.balance(user.address, GOLD) == before + gets
        assert not world.told("convict", "refuses", "stopped")


async def test_a_channel_of_tokens_is_closed_alone_and_reclaimed_in_tokens(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        first, second = await begun(world)
        await first.open_channel(7, second.address, 600)
        await world.go_on(14)
        paid = PaidChannel(await first.disputes.parties(7), (first, second))
        newest = paid.pay(0, 250)
        await RollupLeaving(world.rollup, OPERATOR).stop()
        world.chain.advance(WINDOW + 1)
        await second.disputes.close(7, newest)
        world.chain.advance(WINDOW + 1)
        assert await second.disputes.answer(7, newest)
        await second.leaving.reclaim(7)
        before = [await world.chain.balance(user.address, GOLD) for user in (first, second)]
        for user in (first, second):
            assert await user.withdraw() is not None and await user.leaving.claim() is not None
        after = [await world.chain.balance(user.address, GOLD) for user in (first, second)]
        assert [now - then for now, then in zip(after, before, strict=True)] == [1_750, 1_250]


@pytest.mark.soak
@on_a_node
async def test_a_contract_is_allowed_what_it_takes_of_a_token_and_no_more() -> None:
    with start_anvil("--block-time", "1") as node:
        by = node.ask("eth_accounts")[0]
        for key in (OPERATOR, USERS[0]):
            node.ask("anvil_setBalance", f"0x{key.address.hex()}", hex(10**20))
        sent = node.ask("eth_sendTransaction", {"from": by, "data": f"0x{TOKEN.hex()}", "gas": hex(2_000_000)})
        while (made := node.ask("eth_getTransactionReceipt", sent)) is None:  # noqa: ASYNC110 (it tells nobody)
            await trio.sleep(0.3)
        token = to_address(made["contractAddress"])
        gift = f"0x{TRANSFER.encode_call(USERS[0].address, 1_000).hex()}"
        node.ask("eth_sendTransaction", {"from": by, "to": made["contractAddress"], "data": gift})
        async with open_rollup_chain(node.url, RollupPlace()) as maker:
            place = await maker.create(OPERATOR, (10**9, 4_000, 600, 300, 10**6))
        async with open_rollup_chain(node.url, place) as chain:
            user = RollupUser(chain, await chain.rules_of(), USERS[0], asset=token)
            await user.deposit(400)
            await chain.allow(USERS[0], token, 100)
            await user.deposit(600)
            with pytest.raises(Reverted) as refused:
                await user.deposit(1)
            assert refused.value.code == Revert.INSUFFICIENT_BALANCE
            assert (await chain.facts()).deposited == 1_000
            assert (await chain.account(USERS[0].address, token))[0] == 0
            await user.force_exit()


async def test_a_desk_that_takes_a_fee_in_coins_alone_takes_no_step_of_tokens(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        first, second = await begun(world)
        await world.start_operator(OperatorPolicy(fee=FEE))
        with pytest.raises(InvalidInput, match="takes a fee for a step, and none in 0x7070"):
            await holder(world, 0).transfer(second.address, 100)
        assert (await first.account()).nonce == 0
        sent = RollupTransfer(1, 3, 100, 0)
        with pytest.raises(CallFailed, match="and none in 0x7070"):  # nor whoever signs one without asking
            await world.desk.ask("/steps", {"steps": [{"step": encode_step(sent).hex(), "signatures": ["00" * 64]}]})
        assert world.operating.core.is_idle


async def test_a_step_of_tokens_pays_its_fee_in_the_token(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        first, second = await begun(world)
        world.chain.fund(OPERATOR.address, 10, GOLD)
        await world.rollup.act(OPERATOR, RollupCall("depositToken", (OPERATOR.address, GOLD, 1)))
        await world.rollup.act(OPERATOR, RollupCall("deposit", (OPERATOR.address,), 1))
        await world.go_on(14)
        await world.start_operator(OperatorPolicy(fee=FEE, token_fees={GOLD: 3}))
        user = holder(world, 0, fee_max=3)
        await user.transfer(second.address, 100)
        await user.open_channel(7, second.address, 50)
        coins = world.user(0, fee_max=FEE)
        await coins.transfer(second.address, 7)
        await world.go_on(14)
        accounts = (await read_rollup(world.rollup)).state.accounts
        held = {(each.owner, each.asset): each.balance for at in range(6) if (each := accounts.get(at)) is not None}
        assert held[OPERATOR.address, GOLD] == 1 + 2 * 3 and held[OPERATOR.address, NATIVE] == 1 + FEE
        assert held[user.address, GOLD] == 2_000 - 100 - 50 - 6 and held[user.address, NATIVE] == 500 - 7 - FEE
        with pytest.raises(InvalidInput, match="takes 3 for a step, and 2 at most"):
            await holder(world, 1, fee_max=2).transfer(first.address, 1)
        assert (await user.where(RollupTransfer(1, 4, 3, 1))).what == "posted", "the fee has a number of its own"


async def test_a_fee_in_coins_pays_for_no_step_of_tokens(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await begun(world)
        await world.rollup.act(OPERATOR, RollupCall("deposit", (OPERATOR.address,), 1))
        await world.go_on(14)
        await world.start_operator(OperatorPolicy(fee=FEE, token_fees={GOLD: 3}))
        operator = world.operating.number_of(OPERATOR.address)
        assert operator is not None
        steps = [RollupTransfer(1, 3, 100, 0), RollupTransfer(0, operator, 100, 0)]
        body = {"steps": [{"step": encode_step(each).hex(), "signatures": ["00" * 64]} for each in steps]}
        with pytest.raises(CallFailed, match="pay 0 to the operator, and it takes 3"):
            await world.desk.ask("/steps", body)
