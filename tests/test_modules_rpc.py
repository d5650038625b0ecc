"""Modules over JSON-RPC: what a call would return, why not, and its logs, as Ethereum's nodes say it."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest
from eth_abi.abi import decode
from test_rpc_server import Remote

from simulation.module_ledger import EVER, GOLD, calldata, signature
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE
from tallystick.settlement.chain import ModuleCall, TransferCall
from tallystick.settlement.errors import ChainError, Revert, Reverted
from tallystick.settlement.ethereum.abi import Deployment, Envelope
from tallystick.settlement.ethereum.module_calls import read_told
from tallystick.settlement.ethereum.rpc_client import open_rpc_chain
from tallystick.settlement.ethereum.rpc_shapes import to_hex
from tallystick.settlement.ethereum.transactions import BASE_GAS, gas_of, read_envelope
from tallystick.settlement.modules.exchange import EXCHANGE, SWAPPED
from tallystick.settlement.simulated.rpc_server import make_app
from tallystick.settlement.testing.local import LocalChain

KEY = PrivateKey(keccak(b"trader"))
PAIR = (NATIVE, GOLD, 0)


def call(function: str, *values: Any, value: int = 0) -> ModuleCall:
    return ModuleCall(EXCHANGE.address, calldata("exchange", function, *values), value)


async def made() -> LocalChain:
    chain = LocalChain(funds={KEY.address: 10**18}, clock=lambda: 1_000_000.0)
    chain.fund(KEY.address, 10**9, GOLD)
    for each in (call("createPool", *PAIR[:2], 3_000), call("addLiquidity", *PAIR, 10**6, 10**7, 0, EVER, value=10**6)):
        await chain.send(KEY, each)
    chain.mine()
    return chain


async def test_a_call_is_quoted_sent_and_read_back_over_json_rpc() -> None:
    chain = await made()
    transport = httpx.ASGITransport(app=make_app(chain))
    async with (
        open_rpc_chain("http://node", jitter=lambda: 0.5, transport=transport) as rpc,
        httpx.AsyncClient(transport=transport, base_url="http://node") as http,
    ):
        node = Remote(chain, http)
        swap = call("swap", *PAIR, 1_000, 0, EVER, value=1_000)
        quoted = await rpc.view(swap, KEY.address)
        (out,) = signature("exchange", "swap").decode_result(quoted)
        before = await rpc.balance(KEY.address, GOLD)
        done = await chain.send(KEY, swap)
        chain.mine()
        assert await rpc.balance(KEY.address, GOLD) == before + out, "the answer was what the call then did"
        receipt = await node.call("eth_getTransactionReceipt", to_hex(done))
        (log,) = receipt["logs"]
        assert log["address"] == to_hex(EXCHANGE.address) and log["topics"][0] == to_hex(SWAPPED.hash)
        told = decode(SWAPPED.types[1:], bytes.fromhex(log["data"][2:]))
        assert told[-2:] == (1_000, out)
        (event,) = await rpc.told(done)
        assert (event,) == await chain.told(done) and read_told(event).fields["amountOut"] == out
        asked = {"blockHash": receipt["blockHash"], "address": to_hex(EXCHANGE.address)}
        assert await node.call("eth_getLogs", asked) == [log]
        (block,) = await rpc.blocks(int(receipt["blockNumber"], 16), 1)
        assert block.events == (), "who follows channels is told of channels alone"
        answer = await node.ask("eth_call", {"to": to_hex(EXCHANGE.address), "data": to_hex(swap.data)}, "latest")
        assert answer["error"]["code"] == 3 and answer["error"]["data"].startswith("0x08c379a0")
        assert "execution reverted: " in answer["error"]["message"]
        with pytest.raises(Reverted, match="holds 0 of the 1000 needed") as caught:
            await rpc.view(swap)
        assert caught.value.code == Revert.INSUFFICIENT_BALANCE
        with pytest.raises(ChainError, match="has no view"):
            await rpc.view(msgspec.structs.replace(swap, module=GOLD))


async def test_each_function_costs_what_the_tariff_says_and_nonsense_what_a_transfer_does() -> None:
    at = Deployment(1337, LocalChain(funds={}).contract)
    for function in EXCHANGE.functions.values():
        made = Envelope(EXCHANGE.address, 0, function.selector + bytes(64))
        priced = function.gas + function.gas_per_byte * len(made.data)
        assert read_envelope(made, at).gas == (BASE_GAS if function.is_view else priced)
    assert read_envelope(Envelope(EXCHANGE.address, 0, b"what"), at).gas == BASE_GAS
    assert gas_of(call("swap", *PAIR, 1, 1, EVER)) == EXCHANGE.functions["swap"].gas


async def test_coins_cannot_be_sent_to_a_module_by_mistake() -> None:
    chain = await made()
    for asset in (NATIVE, GOLD):
        done = await chain.send(KEY, TransferCall(asset, EXCHANGE.address, 5))
        chain.mine()
        receipt = await chain.receipt(done)
        assert receipt is not None and receipt.revert == Revert.UNKNOWN_CALL
    assert await chain.balance(EXCHANGE.address, NATIVE) == await chain.balance(EXCHANGE.address, GOLD) == 0


async def test_what_a_module_did_is_undone_with_its_block_and_done_again() -> None:
    chain = await made()
    before = await chain.view(call("pool", *PAIR))
    await chain.send(KEY, call("swap", *PAIR, 1_000, 0, EVER, value=1_000))
    chain.mine()
    after = await chain.view(call("pool", *PAIR))
    assert after != before
    chain.reorganise(1, length=0, keep=lambda transaction: True)
    assert await chain.view(call("pool", *PAIR)) == before
    chain.mine()
    assert await chain.view(call("pool", *PAIR)) == after
    chain.check_conservation()
