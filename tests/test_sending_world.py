"""Whole nodes with a chain node that is wrong for a while: what they must do there is done, once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio

from simulation.mallory import Mallory, ready_to_cheat
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world
from tallystick.settlement.chain import Header, TransactionReceipt
from tallystick.settlement.errors import Refusal, Revert, TransactionRefused

CONFIG = Config(challenge_period=600, duties=CLAIM_ALL)
DEPOSIT = 10_000_000


def play(story: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_world(1, config=CONFIG, interval=12.0) as world:
            await story(world)

    simulate(main, 1)


def chain_of(world: World, name: str) -> Any:
    """The chain node of a role, whose methods may be replaced by lies."""
    return world.seats[name].chain


def due(node: Node, name: str) -> bool:
    return any(obligation.purpose.startswith(name) for obligation in node.onchain.sender.obligations())


def test_one_wrong_nonce_while_a_close_waits_costs_nothing() -> None:
    async def story(world: World) -> None:
        alice, _ = await world.start("alice"), await world.start("bob")
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)
        await world.blocks(3)
        chain, lies = chain_of(world, "alice"), [1_000_000]
        real = chain.nonce

        async def nonce(account: bytes) -> int:
            return int(await real(account)) + (lies.pop() if lies and due(alice, "close") else 0)

        chain.nonce = nonce
        before = await alice.balance()
        await alice.channel(channel.id).force_close()
        await world.blocks(6)
        view = await world.chain.channel(channel.id)
        assert view is not None and view.status == 1
        assert not lies
        assert before - await alice.balance() < 10**6

    play(story)


async def closed_by_mallory(world: World) -> tuple[Node, ChannelId, Mallory]:
    """Mallory has paid 9,000,000 of her deposit, and closed with her first proofs."""
    channel, villain, old = await ready_to_cheat(world)
    await villain.close(channel, *old)
    return world.node("alice"), channel, villain


def refusing(chain: Any) -> None:
    """Let it refuse five transactions as malformed."""
    real, left = chain.submit, [None] * 5

    async def submit(raw: bytes) -> bytes:
        if left:
            left.pop()
            raise TransactionRefused("the transaction is malformed", Refusal.MALFORMED)
        return bytes(await real(raw))

    chain.submit = submit


def in_the_future(chain: Any) -> None:
    """Let it say for more than a minute, in all answers, that two days have passed."""
    head, header, until = chain.head, chain.header, trio.current_time() + 80

    def late(real: Header) -> Header:
        shift = 2 * 86_400 if trio.current_time() < until else 0
        return msgspec.structs.replace(real, time=real.time + shift)

    async def lying_head() -> Header:
        return late(await head())

    async def lying_header(number: int) -> Header | None:
        found = await header(number)
        return None if found is None else late(found)

    chain.head, chain.header = lying_head, lying_header


def failing(chain: Any) -> None:
    """Let it drop transactions, and show receipts of their failure, for a minute and a half."""
    submit, receipt, nonce, head = chain.submit, chain.receipt, chain.nonce, chain.head
    until, seen = trio.current_time() + 90, dict[bytes, Header]()

    async def dropped(raw: bytes) -> bytes:
        from tallystick.settlement.ethereum.transactions import transaction_hash

        if trio.current_time() > until:
            return bytes(await submit(raw))
        seen.setdefault(transaction_hash(raw), await head())
        return transaction_hash(raw)

    async def failed(transaction: bytes) -> TransactionReceipt | None:
        if trio.current_time() > until or transaction not in seen:
            found: TransactionReceipt | None = await receipt(transaction)
            return found
        return TransactionReceipt(transaction, seen[transaction], False, 7, "no", Revert.BAD_PROOF)

    async def higher(account: bytes) -> int:
        return int(await nonce(account)) + (len(seen) if trio.current_time() <= until else 0)

    chain.submit, chain.receipt, chain.nonce = dropped, failed, higher


@pytest.mark.parametrize("lie", [refusing, in_the_future, failing])
def test_a_challenge_is_made_though_the_chain_node_was_wrong_for_a_while(lie: Callable[[Any], None]) -> None:
    async def story(world: World) -> None:
        alice, channel, _ = await closed_by_mallory(world)
        lie(chain_of(world, "alice"))
        before = await alice.balance()
        async with world.brisk(6.0):
            await world.until(lambda: alice.channel(channel).phase.name == "GONE", 1_500)
        assert await alice.balance() - before > 7_000_000  # of 9,000,001, less fees

    play(story)


@pytest.mark.parametrize("blocks", [4, 40])
def test_a_deposit_whose_receipt_comes_late_is_paid_once(blocks: int) -> None:
    async def story(world: World) -> None:
        alice, _ = await world.start("alice"), await world.start("bob")
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)
        await world.blocks(3)
        chain = chain_of(world, "alice")
        real = chain.receipt

        async def receipt(transaction: bytes) -> TransactionReceipt | None:
            found: TransactionReceipt | None = await real(transaction)
            late = found is not None and world.chain.newest.header.number < found.block.number + blocks
            return None if late else found

        chain.receipt = receipt
        asked = world.attempt("alice", lambda node: node.channel(channel.id).deposit(1_000_000))
        async with world.brisk():
            await world.blocks(60)
        assert asked.ended.is_set() and asked.error is None
        view = await world.chain.channel(channel.id)
        assert view is not None and sum(view.deposits) == DEPOSIT + 1_000_000

    play(story)
