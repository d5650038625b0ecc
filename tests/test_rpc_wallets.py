"""What wallets and libraries of Ethereum's ask a node of the ledger: answers in their shapes, and true ones."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from eth_abi.abi import encode
from test_rpc_server import ALICE, BOB, Remote, remote

from simulation.module_ledger import EVER, GOLD, calldata
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import Call, ModuleCall, TransferCall
from tallystick.settlement.ethereum.rpc_shapes import quantity, to_hex
from tallystick.settlement.ethereum.transactions import GAS, gas_of, sign_call
from tallystick.settlement.modules.exchange import EXCHANGE
from tallystick.settlement.simulated import rpc_records, rpc_server
from tallystick.settlement.simulated.rpc_server import BATCH_MAX, WAITING

STRANGER = Address(b"\x99" * 20)
TRANSFER = keccak(b"transfer(address,uint256)")[:4]
PAY = TransferCall(NATIVE, BOB.address, 5)


def signed(node: Remote, nonce: int, price: int = 1, call: Call = PAY, key: PrivateKey = ALICE) -> str:
    return to_hex(sign_call(key, node.chain.chain_id, node.chain.contract, call, nonce, price))


def token_call(to: Address, amount: int) -> str:
    return to_hex(TRANSFER + encode(["address", "uint256"], [to_hex(to), amount]))


async def test_a_library_finds_out_which_chain_it_is() -> None:
    async with remote() as node:
        assert (await node.call("web3_clientVersion")).startswith("Tallystick/")
        assert int(await node.call("net_version")) == int(await node.call("eth_chainId"), 16)
        assert await node.call("net_listening") is True and await node.call("eth_syncing") is False
        assert await node.call("eth_accounts") == []


async def test_a_transaction_is_shown_in_the_pool_and_in_its_block() -> None:
    async with remote() as node:
        hash = await node.call("eth_sendRawTransaction", signed(node, 0, price=7))
        assert await node.call("eth_getTransactionByHash", to_hex(bytes(32))) is None
        waiting = await node.call("eth_getTransactionByHash", hash)
        assert waiting["blockHash"] is waiting["blockNumber"] is waiting["transactionIndex"] is None
        head = await node.call("tally_mine")
        found = await node.call("eth_getTransactionByHash", hash)
        assert {**waiting, "blockHash": head["hash"], "blockNumber": head["number"], "transactionIndex": "0x0"} == found
        assert found["from"] == to_hex(ALICE.address) and found["to"] == to_hex(BOB.address)
        assert (found["value"], found["nonce"], found["gasPrice"], found["type"]) == ("0x5", "0x0", "0x7", "0x2")
        assert found["v"] == found["yParity"]
        full = await node.call("eth_getBlockByNumber", "latest", True)
        assert full["transactions"] == [found]
        for method, block in (("Number", head["number"]), ("Hash", head["hash"])):
            assert await node.call(f"eth_getTransactionByBlock{method}AndIndex", block, "0x0") == found
            assert await node.call(f"eth_getTransactionByBlock{method}AndIndex", block, "0x1") is None
            assert await node.call(f"eth_getBlockTransactionCountBy{method}", block) == "0x1"
        assert await node.call("eth_getBlockReceipts", "0x63") is None


async def test_receipts_count_the_gas_of_their_block_up_to_them() -> None:
    async with remote() as node:
        hashes = [await node.call("eth_sendRawTransaction", signed(node, nonce)) for nonce in range(3)]
        await node.call("tally_mine")
        receipts = [await node.call("eth_getTransactionReceipt", hash) for hash in hashes]
        gas = GAS[TransferCall]
        assert [int(each["cumulativeGasUsed"], 16) for each in receipts] == [gas, 2 * gas, 3 * gas]
        assert await node.call("eth_getBlockReceipts", "latest") == receipts


async def test_a_bloom_filter_has_the_bits_of_its_logs_and_no_others() -> None:
    async with remote() as node:
        assert (await node.call("eth_getBlockByNumber", "latest"))["logsBloom"] == "0x" + "00" * 256
        node.chain.fund(ALICE.address, 10**9, GOLD)
        node.chain.mine()
        made = ModuleCall(EXCHANGE.address, calldata("exchange", "createPool", NATIVE, GOLD, 3_000))
        hash = await node.call("eth_sendRawTransaction", signed(node, 0, call=made))
        await node.call("tally_mine")
        receipt = await node.call("eth_getTransactionReceipt", hash)
        bloom = int(receipt["logsBloom"], 16)
        items = {item for log in receipt["logs"] for item in (log["address"], *log["topics"])}
        wanted = 0
        for item in items:
            digest = keccak(bytes.fromhex(item[2:]))
            for at in (0, 2, 4):
                wanted |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2_047)
        assert items and bloom == wanted
        assert (await node.call("eth_getBlockByNumber", "latest"))["logsBloom"] == receipt["logsBloom"]


async def test_what_waits_counts_for_the_next_number_that_a_wallet_takes() -> None:
    async with remote() as node:
        for nonce in (0, 1, 3):  # 2 is missing
            await node.call("eth_sendRawTransaction", signed(node, nonce))
        account = to_hex(ALICE.address)
        assert await node.call("eth_getTransactionCount", account, "pending") == "0x2"
        assert await node.call("eth_getTransactionCount", account, "latest") == "0x0"
        await node.call("tally_mine")
        assert await node.call("eth_getTransactionCount", account, "latest") == "0x2"
        assert await node.call("eth_getTransactionCount", account, "0x1") == "0x2", "the head by its number"
        assert await node.error("eth_getTransactionCount", account, "0x0") == -32602


async def test_gas_is_told_before_it_is_paid() -> None:
    async with remote() as node:
        node.chain.fund(ALICE.address, 100, GOLD)
        node.chain.mine()
        me = to_hex(ALICE.address)
        plain = {"from": me, "to": to_hex(BOB.address), "value": "0x5"}
        assert int(await node.call("eth_estimateGas", plain), 16) == GAS[TransferCall]
        token = {"from": me, "to": to_hex(GOLD), "data": token_call(BOB.address, 100)}
        assert int(await node.call("eth_estimateGas", token), 16) == GAS[TransferCall]
        assert await node.call("eth_call", token, "latest") == to_hex((1).to_bytes(32, "big"))
        swap = ModuleCall(EXCHANGE.address, calldata("exchange", "createPool", NATIVE, GOLD, 3_000))
        module = {"from": me, "to": to_hex(EXCHANGE.address), "input": to_hex(swap.data)}
        assert int(await node.call("eth_estimateGas", module), 16) == gas_of(swap)
        assert await node.call("eth_getTransactionCount", me) == "0x0" and len(node.chain.waiting()) == 0, "only tried"
        assert await node.call("eth_estimateGas", plain) == await node.call("eth_estimateGas", plain)


@pytest.mark.parametrize("method", ["eth_estimateGas", "eth_call"])
async def test_what_would_fail_is_an_error_that_says_why(method: str) -> None:
    async with remote() as node:
        node.chain.fund(ALICE.address, 100, GOLD)
        node.chain.mine()
        too_much = {"from": to_hex(ALICE.address), "to": to_hex(GOLD), "data": token_call(BOB.address, 101)}
        answer = await node.ask(method, too_much)
        assert answer["error"]["code"] == 3 and "execution reverted" in answer["error"]["message"]
        late = calldata("exchange", "swap", NATIVE, GOLD, 0, 1, 0, EVER)
        nothing_there = {"to": to_hex(EXCHANGE.address), "data": to_hex(late), "value": "0x1"}
        assert (await node.ask(method, nothing_there))["error"]["code"] == 3


async def test_contracts_of_users_are_refused_before_they_cost() -> None:
    async with remote() as node:
        for nobody in ({"data": "0x6000"}, {"to": None, "data": "0x6000"}):
            answer = await node.ask("eth_estimateGas", nobody)
            assert answer["error"]["code"] == -32602 and "no contracts of users" in answer["error"]["message"]


async def test_code_stands_where_rules_do() -> None:
    async with remote() as node:
        assert await node.call("eth_getCode", to_hex(node.chain.contract), "latest") == "0xfe"
        assert await node.call("eth_getCode", to_hex(EXCHANGE.address)) == "0xfe"
        assert await node.call("eth_getCode", to_hex(STRANGER)) == "0x"
        assert await node.call("eth_call", {"to": to_hex(STRANGER), "data": "0x"}) == "0x"


async def test_the_history_of_fees_is_that_of_the_blocks() -> None:
    async with remote(gas_limit=4 * GAS[TransferCall]) as node:
        for nonce, price in enumerate((9, 9, 2, 4)):  # in order of nonce, whatever they offer
            await node.call("eth_sendRawTransaction", signed(node, nonce, price))
        await node.call("tally_mine")
        await node.call("tally_mine")
        told = await node.call("eth_feeHistory", "0x2", "latest", [0, 25, 26, 50, 51, 100])
        assert told["oldestBlock"] == "0x1" and told["baseFeePerGas"] == ["0x0"] * 3
        assert told["gasUsedRatio"] == [1.0, 0.0]
        assert told["reward"] == [[quantity(price) for price in (2, 2, 4, 4, 9, 9)], ["0x0"] * 6]
        assert "reward" not in await node.call("eth_feeHistory", "0x400", "latest")
        assert await node.call("eth_maxPriorityFeePerGas") == await node.call("eth_gasPrice")
        for wrong in ([50, 25], [101], ["5"], [True], [1] * 101, 5):
            assert await node.error("eth_feeHistory", "0x2", "latest", wrong) == -32602


def batch(*calls: tuple[str, list[Any]]) -> bytes:
    return msgspec.json.encode(
        [{"jsonrpc": "2.0", "id": i, "method": m, "params": p} for i, (m, p) in enumerate(calls)]
    )


async def test_a_batch_is_answered_in_order_each_call_by_itself() -> None:
    async with remote() as node:
        answers = await node.post(batch(("eth_chainId", []), ("eth_nothing", []), ("eth_blockNumber", [])))
        assert [answer["id"] for answer in answers] == [0, 1, 2]
        assert [answer.get("result") for answer in answers] == ["0x539", None, "0x0"]
        assert answers[1]["error"]["code"] == -32601
        (broken, good) = await node.post(b'[5, {"id": 8, "method": "eth_chainId"}]')
        assert broken["error"]["code"] == -32600 and broken["id"] is None and good["result"] == "0x539"


async def test_what_is_asked_of_a_full_block_takes_as_long_as_the_block_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = 0
    write = rpc_records.write_event

    def counted(*values: Any) -> Any:
        nonlocal written
        written += 1
        return write(*values)

    monkeypatch.setattr(rpc_records, "write_event", counted)
    async with remote() as node:
        for nonce in range(20):
            to = Address(bytes([nonce + 1]) * 20)
            call = ModuleCall(EXCHANGE.address, calldata("exchange", "createPool", GOLD, to, 0), 0)
            await node.call("eth_sendRawTransaction", signed(node, nonce, call=call))
        await node.call("tally_mine")
        receipts = await node.call("eth_getBlockReceipts", "latest")
        assert written == 20 and all(len(receipt["logs"]) == 1 for receipt in receipts)
        assert receipts == [await node.call("eth_getTransactionReceipt", each["transactionHash"]) for each in receipts]


async def test_others_get_their_turn_between_the_calls_of_a_batch() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with remote() as node, trio.open_nursery() as nursery:
        ask = [{"jsonrpc": "2.0", "id": number, "method": "net_version"} for number in range(BATCH_MAX)]
        await node.http.post("/", json=ask[:1])
        nursery.start_soon(other)
        await trio.lowlevel.checkpoint()
        before = turns
        await node.http.post("/", json=ask)
        assert turns - before > BATCH_MAX // 2
        nursery.cancel_scope.cancel()


async def test_a_batch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with remote() as node:
        assert len(await node.post(batch(*[("eth_chainId", [])] * BATCH_MAX))) == BATCH_MAX
        assert (await node.post(batch(*[("eth_chainId", [])] * (BATCH_MAX + 1))))["error"]["code"] == -32600
        (waited,) = await node.post(batch((WAITING, [to_hex(bytes(32)), "0x1e"])))
        assert waited["error"]["code"] == -32600
        monkeypatch.setattr(rpc_server, "ANSWER_MAX", 100)
        answers = await node.post(batch(*[("eth_getBlockByNumber", ["latest"])] * 3))
        assert "result" in answers[0] and [each["error"]["code"] for each in answers[1:]] == [-32005, -32005]
        assert [each["id"] for each in answers] == [0, 1, 2]
