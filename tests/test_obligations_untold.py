"""A node that says that a batch was mined, and not what became of its calls, holds up that batch and nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio
from test_obligations_sender import Desk, Ledger, running, transfer

from simulation.accounts import TOGETHER, AccountWorld, secret_of
from simulation.evm_nodes import AT, FakeChain, FakeInternet, FakeNode
from tallystick.channels.node.alarms import AlarmKind
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import ZERO32
from tallystick.settlement.chain import BatchCall, SecretRegistered, TransactionReceipt
from tallystick.settlement.errors import ReceiptUntold
from tallystick.settlement.ethereum.abi import Envelope, encode_batch
from tallystick.settlement.ethereum.event_logs import encode_event
from tallystick.settlement.ethereum.evm.client import open_evm_chain
from tallystick.settlement.ethereum.rpc_shapes import quantity, to_hex
from tallystick.settlement.sending.obligations import Obligation, ObligationStatus, Observation, change

DONE, SENT, SUPERSEDED = ObligationStatus.DONE, ObligationStatus.SENT, ObligationStatus.SUPERSEDED
TRANSACTION = b"\x05" * 32


def hide(world: AccountWorld) -> None:
    """Leave out what became of the calls of batches."""

    def lie(said: Observation) -> Observation:
        untold = frozenset(tx.hash for _, tx in world.mined().values() if tx.carries)
        told = {hash: receipt for hash, receipt in said.receipts.items() if hash not in untold}
        return change(said, receipts=told, untold=untold)

    world.lie = lie


def world_of(names: str) -> AccountWorld:
    world = AccountWorld(0, TOGETHER)
    for name in names:
        world.require(name, deadline=None, budget=1_000, paying=False)
    return world


def rounds(world: AccountWorld, count: int) -> None:
    for _ in range(count):
        world.round()
        world.mine()
        world.check()


def sent(world: AccountWorld) -> list[tuple[str, ...]]:
    txs = sorted((tx for _, tx in world.mined().values()), key=lambda tx: tx.nonce)
    return [tx.carries or (tx.owner,) for tx in txs]


def test_what_comes_after_it_is_sent_and_done() -> None:
    world = world_of("abc")
    hide(world)
    rounds(world, 2)
    world.require("pay", deadline=None, budget=1_000)
    rounds(world, 4)
    assert world.disk["pay"].status is DONE and sent(world)[:2] == [("a", "b", "c"), ("pay",)]


@pytest.mark.parametrize("looks", range(1, 4))
def test_it_is_whole_again_after_some_looks_and_nothing_is_sent_twice(looks: int) -> None:
    world = world_of("abc")
    rounds(world, 1)
    world.fails = {"b"}
    hide(world)
    rounds(world, looks)
    world.lie = None
    rounds(world, 16)
    assert [world.disk[name].status for name in "abc"] == [DONE, DONE, DONE]
    assert sent(world) == [("a", "b", "c")] and world.alarms == [] and not world.book.obligations


def test_its_calls_go_alone_if_it_stays_so_and_nobody_is_told_of_another_program() -> None:
    """A challenge that did nothing in it must not wait for ever for a node to say so."""
    world = world_of("abc")
    hide(world)
    rounds(world, 4)
    assert sent(world) == [("a", "b", "c")], "it may be the node's index that is behind"
    world.supersede("c")  # the chain's events told that it was done
    rounds(world, 8)
    assert sent(world) == [("a", "b", "c"), ("a",), ("b",)]
    assert [world.disk[name].status for name in "abc"] == [DONE, DONE, SUPERSEDED]
    rounds(world, 20)
    assert world.alarms == [] and not world.book.obligations


def test_what_was_seen_done_before_stays_done() -> None:
    world = world_of("abc")
    rounds(world, 6)
    assert [world.disk[name].status for name in "abc"] == [DONE, DONE, DONE]
    hide(world)
    rounds(world, 12)
    assert [world.disk[name].status for name in "abc"] == [DONE, DONE, DONE]
    assert sent(world) == [("a", "b", "c")] and world.alarms == []


@pytest.mark.parametrize("looks", [2, 3])
def test_who_was_seen_mined_and_not_deep_enough_goes_alone_too(looks: int) -> None:
    world = world_of("ab")
    rounds(world, looks)
    assert world.disk["a"].receipt is not None and world.disk["a"].status is SENT
    hide(world)
    rounds(world, 12)
    assert sent(world) == [("a", "b"), ("a",), ("b",)]
    assert [world.disk[name].status for name in "ab"] == [DONE, DONE]


@pytest.mark.alarm("transaction-held-up")
async def test_the_shell_goes_on_with_the_others_and_tells_once(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    chain = Ledger()
    desk, receipt = Desk(tmp_path, chain), chain.receipt
    batch = keccak(msgspec.json.encode((BatchCall((secret_of("a"), secret_of("b"))), 0, 7)))

    async def untold(transaction: bytes) -> TransactionReceipt | None:
        if transaction == batch and await receipt(transaction) is not None:
            raise ReceiptUntold("left out")
        return await receipt(transaction)

    chain.receipt = untold  # type: ignore[method-assign]  # only this is told badly
    async with running(desk) as sender:
        for name in "ab":
            duty = Obligation(id=name, call=secret_of(name), purpose="a test", budget=1_000)
            await desk.commit(sender.require(duty))
        await trio.sleep(1)
        assert len(chain.pool) == 1
        chain.mine()
        await trio.sleep(1)
        await desk.commit(sender.require(transfer("two")))
        troubled: set[str] = set()
        for step in range(8):
            await trio.sleep(10)
            chain.mine()
            troubled.update(sender.statistics().troubled)
            assert step > 4 or desk.alarms == [], "it may be whole at the next look"
        await trio.sleep(10)
        with trio.fail_after(60):
            assert (await sender.wait("two")).status is DONE
        assert [alarm.kind for alarm in desk.alarms] == [AlarmKind.TRANSACTION_HELD_UP]
        assert "left out" in desk.alarms[0].text and len(troubled) == 1
        chain.receipt = receipt  # type: ignore[method-assign]
        for _ in range(4):
            chain.mine()
            await trio.sleep(10)
        assert sender.statistics().troubled == ()
        assert [(await sender.wait(name)).status for name in "ab"] == [DONE, DONE]


def telling(chain: FakeChain, effects: int) -> FakeNode:
    """Return a node whose receipt of a batch of two calls tells of so many."""
    node = FakeNode(chain)
    log = encode_event(SecretRegistered(ZERO32, ZERO32, 5))
    shown = {"address": to_hex(AT.contract), "topics": [to_hex(t) for t in log.topics], "data": to_hex(log.data)}
    batch = encode_batch([Envelope(AT.contract, 0, bytes([number]) * 36) for number in range(2)], AT)
    told = {
        "transactionHash": to_hex(TRANSACTION),
        "blockHash": chain.blocks[4]["hash"],
        "blockNumber": quantity(4),
        "status": "0x1",
        "gasUsed": "0x5208",
        "effectiveGasPrice": "0x7",
        "logs": [shown] * effects,
    }
    node.answers["eth_getTransactionReceipt"] = lambda *which: told
    made = {"from": "0x" + "01" * 20, "to": to_hex(AT.contract), "gas": "0x7530", "input": to_hex(batch.data)}
    node.answers["eth_getTransactionByHash"] = lambda *which: made
    return node


@pytest.mark.parametrize(("effects", "whole"), [((2,), True), ((1, 2), True), ((1, 0, 2), True), ((1, 1), False)])
async def test_a_receipt_that_one_node_leaves_things_out_of_is_asked_for_of_the_others(
    effects: tuple[int, ...], whole: bool, autojump_clock: trio.testing.MockClock
) -> None:
    chain = FakeChain(6)
    nodes = {f"n{index}": telling(chain, count) for index, count in enumerate(effects)}
    urls = [f"http://{name}" for name in nodes]
    async with open_evm_chain(urls, AT, jitter=lambda: 0.5, transport=FakeInternet(**nodes)) as client:
        if whole:
            receipt = await client.receipt(TRANSACTION)
            assert receipt is not None and receipt.success and receipt.block.number == 4
        else:
            with pytest.raises(ReceiptUntold):
                await client.receipt(TRANSACTION)
        assert all(each.failures == 0 for each in client.nodes())


async def test_a_lone_node_that_leaves_things_out_of_a_receipt_says_so(autojump_clock: trio.testing.MockClock) -> None:
    node = telling(FakeChain(6), 1)
    async with open_evm_chain(["http://one"], AT, jitter=lambda: 0.5, transport=FakeInternet(one=node)) as client:
        with pytest.raises(ReceiptUntold, match="leaves out"):
            await client.receipt(TRANSACTION)
