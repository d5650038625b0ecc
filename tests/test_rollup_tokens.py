"""A rollup's user who holds tokens: an account of its own, with numbers of its own, at the desk and by the chain."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from simulation.local_evm import on_a_node
from simulation.rollup_paying import PaidChannel
from simulation.rollup_world import FEE, OPERATOR, USERS, WINDOW, RollupWorld, open_world
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import Address, to_address
from tallystick.channels.testing.memory import MemoryDisk
from tallystick.sdk.errors import CallFailed
from tallystick.sdk.rollup.calls import RollupPlace
from tallystick.sdk.rollup.chain import open_rollup_chain
from tallystick.sdk.rollup.leaving import RollupLeaving
from tallystick.sdk.rollup.operating import OperatorPolicy
from tallystick.sdk.rollup.record import SIGNING
from tallystick.sdk.rollup.user import RollupUser
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.testing.anvil import start_anvil
from tallystick.settlement.testing.token import TOKEN, TRANSFER

GOLD = Address(b"\x70" * 20)
FAR = 2**39


def holder(world: RollupWorld, at: int) -> RollupUser:
    """Return a user's account of gold, with a record of its own."""
    store = MemoryDisk((SIGNING,)).open()
    return RollupUser(world.rollup, world.place, USERS[at], world.desk, store, asset=GOLD)


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


async def test_a_desk_that_takes_a_fee_takes_none_from_tokens(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        first, second = await begun(world)
        await world.start_operator(OperatorPolicy(fee=FEE))
        with pytest.raises(InvalidInput, match="of a token cannot pay it"):
            await holder(world, 0).transfer(second.address, 100)
        assert (await first.account()).nonce == 0
