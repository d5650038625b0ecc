"""The chain node's JSON-RPC: Ethereum's encodings, bounds, and an error for everything that is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
import trio
from eth_utils.address import to_checksum_address

from simulation.disputes import ChannelFixture
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import DepositCall, OpenCall, RegisterSecretCall, TransferCall
from tallystick.settlement.ethereum.accounts import Account
from tallystick.settlement.ethereum.transactions import GAS, sign_call
from tallystick.settlement.ethereum.views import BALANCE_OF, CHANNEL_COUNT
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.simulated.chain import BLOCKS_MAX
from tallystick.settlement.simulated.rpc_methods import LOGS_MAX, METHODS, MINE_MAX
from tallystick.settlement.simulated.rpc_server import BODY_MAX, make_app
from tallystick.settlement.testing.local import LocalChain

FIXTURE = ChannelFixture()
ALICE = FIXTURE.keys[0]
BOB = PrivateKey(keccak(b"bob"))
START = 10**12


class Remote:
    """A JSON-RPC client without mercy, over an application in this process."""

    def __init__(self, chain: LocalChain, http: httpx.AsyncClient) -> None:
        self.chain = chain
        self.http = http

    async def call(self, method: str, *params: Any) -> Any:
        answer = await self.ask(method, *params)
        assert "error" not in answer, answer
        return answer["result"]

    async def error(self, method: str, *params: Any) -> int:
        answer = await self.ask(method, *params)
        assert answer["error"]["message"]
        code: int = answer["error"]["code"]
        return code

    async def ask(self, method: str, *params: Any) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
        answer: dict[str, Any] = await self.post(msgspec.json.encode(body))
        assert answer["id"] == 7 and answer["jsonrpc"] == "2.0"
        return answer

    async def post(self, body: bytes, content_type: str = "application/json") -> Any:
        response = await self.http.post("/", content=body, headers={"content-type": content_type})
        assert response.status_code == 200
        return response.json()


@asynccontextmanager
async def remote(**settings: Any) -> AsyncIterator[Remote]:
    chain = LocalChain(funds={ALICE.address: START}, settings=ChainSettings(**{"dev": True, **settings}))
    transport = httpx.ASGITransport(app=make_app(chain))
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as http:
        yield Remote(chain, http)


async def test_a_fault_of_the_program_is_an_error_of_its_call_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(chain: object, params: list[Any]) -> object:
        return 1 // 0

    monkeypatch.setitem(METHODS, "eth_chainId", broken)
    async with remote() as node:
        assert await node.error("eth_chainId") == -32603
        assert await node.call("eth_blockNumber") == "0x0"


async def test_an_ethereum_program_can_pay_with_what_the_node_says() -> None:
    async with remote() as node:
        account = Account.from_key(ALICE.reveal())
        fee = int(await node.call("eth_gasPrice"), 16)
        signed = account.sign_transaction(
            {
                "type": 2,
                "chainId": int(await node.call("eth_chainId"), 16),
                "nonce": int(await node.call("eth_getTransactionCount", account.address, "latest"), 16),
                "to": to_checksum_address(BOB.address),
                "value": 77,
                "gas": GAS[TransferCall],
                "maxFeePerGas": fee,
                "maxPriorityFeePerGas": fee,
            }
        )
        hash = await node.call("eth_sendRawTransaction", "0x" + signed.raw_transaction.hex())
        assert hash == "0x" + signed.hash.hex()
        assert await node.call("eth_getTransactionReceipt", hash) is None
        head = await node.call("tally_mine")
        receipt = await node.call("eth_getTransactionReceipt", hash)
        assert receipt["status"] == "0x1" and receipt["blockHash"] == head["hash"] and receipt["logs"] == []
        assert receipt["from"] == account.address.lower() and receipt["to"] == "0x" + BOB.address.hex()
        assert int(await node.call("eth_getBalance", "0x" + BOB.address.hex()), 16) == 77


async def test_blocks_have_ethereums_fields() -> None:
    async with remote() as node:
        receipt = await node.chain.call(ALICE, RegisterSecretCall(b"s" * 32))
        latest = await node.call("eth_getBlockByNumber", "latest", False)
        assert latest["transactions"] == ["0x" + receipt.transaction.hex()]
        assert latest["number"] == await node.call("eth_blockNumber") == "0x1"
        assert int(latest["gasUsed"], 16) == GAS[RegisterSecretCall]
        assert await node.call("eth_getBlockByHash", latest["hash"], False) == latest
        assert await node.call("eth_getBlockByNumber", "0x9", False) is None
        assert await node.call("eth_getBlockByHash", "0x" + "00" * 32, False) is None
        genesis = await node.call("eth_getBlockByNumber", "earliest", False)
        assert latest["parentHash"] == genesis["hash"] and genesis["parentHash"] == "0x" + "00" * 32


async def test_logs_are_filtered_by_block_address_and_topics() -> None:
    async with remote() as node:
        await node.chain.call(ALICE, OpenCall(FIXTURE.terms, 10))
        await node.chain.call(ALICE, DepositCall(FIXTURE.id, 1, 5))
        await node.chain.call(ALICE, RegisterSecretCall(b"s" * 32))
        everything = await node.call("eth_getLogs", {"fromBlock": "earliest"})
        assert [log["blockNumber"] for log in everything] == ["0x1", "0x1", "0x2", "0x3"]
        assert [log["logIndex"] for log in everything] == ["0x0", "0x1", "0x0", "0x0"]
        of_channel = {"fromBlock": "0x0", "toBlock": "latest", "topics": [None, "0x" + FIXTURE.id.hex()]}
        assert await node.call("eth_getLogs", of_channel) == everything[:3]
        deposits = {"fromBlock": "0x0", "topics": [[everything[1]["topics"][0].upper().replace("X", "x")]]}
        assert await node.call("eth_getLogs", deposits) == everything[1:3]
        assert await node.call("eth_getLogs", {"blockHash": everything[3]["blockHash"]}) == everything[3:]
        assert await node.call("eth_getLogs", {"blockHash": "0x" + "00" * 32}) == []
        assert await node.call("eth_getLogs", {"fromBlock": "0x0", "address": "0x" + "00" * 20}) == []
        assert await node.call("eth_getLogs", {"fromBlock": "0x0", "topics": [None, None, None]}) == []
        assert await node.call("eth_getLogs", {}) == everything[3:]
        opened = await node.call("eth_getTransactionReceipt", everything[0]["transactionHash"])
        assert opened["logs"] == everything[:2]


async def test_a_failed_transaction_says_why() -> None:
    async with remote() as node:
        failed = await node.chain.call(ALICE, DepositCall(FIXTURE.id, 0, 5))
        receipt = await node.call("eth_getTransactionReceipt", "0x" + failed.transaction.hex())
        assert receipt["status"] == "0x0" and receipt["tallyReason"].startswith("unknown-channel: ")


async def test_a_refused_transaction_is_an_error_with_its_code() -> None:
    async with remote() as node:
        raw = sign_call(BOB, 1337, node.chain.contract, TransferCall(NATIVE, ALICE.address, 1), 0, 1)
        answer = await node.ask("eth_sendRawTransaction", "0x" + raw.hex())
        assert answer["error"]["code"] == -32000
        assert answer["error"]["data"] == {"refusal": "insufficient-funds"}


async def test_waiting_for_the_head_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    async with remote() as node:
        head = (await node.chain.head()).hash
        started = trio.current_time()
        answer = await node.call("tally_waitHead", "0x" + head.hex(), "0xffff")
        assert answer["hash"] == "0x" + head.hex()
        assert trio.current_time() - started == pytest.approx(30)


async def test_minting_and_mining_are_for_development_chains() -> None:
    async with remote() as node:
        assert await node.call("tally_mint", "0x" + BOB.address.hex(), "0x5", "0x" + "70" * 20) is True
        await node.call("tally_mine", "0x2")
        assert await node.chain.balance(BOB.address, Address(b"\x70" * 20)) == 5
        assert await node.error("tally_mine", hex(MINE_MAX + 1)) == -32602
    async with remote(dev=False) as node:
        assert await node.error("tally_mint", "0x" + BOB.address.hex(), "0x5") == -32602
        assert await node.error("tally_mine") == -32602


async def test_an_answer_about_blocks_is_bounded() -> None:
    async with remote() as node:
        assert len(await node.call("tally_blocks", "0x0", hex(10 * BLOCKS_MAX))) == 1
        assert await node.error("eth_getLogs", {"fromBlock": "0x0", "toBlock": hex(BLOCKS_MAX)}) == -32602


async def test_too_many_logs_are_cut_at_a_block_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LOGS_MAX > 2
    monkeypatch.setattr("tallystick.settlement.simulated.rpc_methods.LOGS_MAX", 2)
    async with remote() as node:
        await node.chain.call(ALICE, OpenCall(FIXTURE.terms, 10))
        await node.chain.call(ALICE, RegisterSecretCall(b"s" * 32))
        assert len(await node.call("tally_blocks", "0x0", "0x10")) == 2
        assert len(await node.call("tally_blocks", "0x2", "0x10")) == 1
        assert await node.error("eth_getLogs", {"fromBlock": "0x0"}) == -32602


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("eth_unknown", [], -32601),
        ("eth_getBalance", [], -32602),
        ("eth_getBalance", ["0x12"], -32602),
        ("eth_getBalance", ["12" * 20], -32602),
        ("eth_getBalance", ["0x" + "zz" * 20], -32602),
        ("eth_getBalance", [5], -32602),
        ("eth_getBalance", ["0x" + "12" * 20, "0x1"], -32602),
        ("eth_getBlockByNumber", ["0x"], -32602),
        ("eth_getBlockByNumber", ["0x-1"], -32602),
        ("eth_getBlockByNumber", ["0x1_0"], -32602),
        ("eth_getBlockByNumber", [12], -32602),
        ("eth_getBlockByNumber", ["0x" + "f" * 65], -32602),
        ("eth_getBlockByHash", ["0x12"], -32602),
        ("eth_getLogs", ["latest"], -32602),
        ("eth_sendRawTransaction", ["0x" + "00" * 131_073], -32602),
        ("eth_sendRawTransaction", ["0x00"], -32000),
        ("eth_call", ["0x"], -32602),
        ("eth_call", [{"to": "0x" + "12" * 20, "data": "0x12345678"}], -32602),
        ("eth_call", [{"to": "0x" + "12" * 20, "data": "0x" + BALANCE_OF.selector.hex()}], -32602),
        ("tally_waitHead", ["0x00", "0x1"], -32602),
        ("tally_mint", ["0x" + "12" * 20, "0x0"], -32602),
    ],
)
async def test_wrong_parameters_get_an_error(method: str, params: list[Any], code: int) -> None:
    async with remote() as node:
        assert await node.error(method, *params) == code


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("junk", [[None] * 3, [{}] * 3, [[]] * 3, ["0x"] * 3, [{"to": [], "topics": 5, "address": {}}]])
async def test_no_method_breaks_on_junk(method: str, junk: list[Any]) -> None:
    async with remote() as node:
        with trio.move_on_after(5):
            answer = await node.ask(method, *junk)
            assert ("result" in answer) != ("error" in answer)


async def test_bodies_that_are_no_request_get_an_error() -> None:
    async with remote() as node:
        for body, code in (
            (b"", -32700),
            (b"{", -32700),
            (b"\xff", -32700),
            (b"[" * 50_000, -32700),
            (b'{"params": ' + b"[" * 50_000, -32700),
            (b"[]", -32600),
            (b"[" + b"0," * 100 + b"0]", -32600),
            (b"{}", -32600),
            (b'{"method": 5}', -32600),
            (b'{"method": "eth_chainId", "params": {}}', -32600),
            (b'{"method": "eth_chainId", "jsonrpc": "1.0"}', -32600),
        ):
            assert (await node.post(body))["error"]["code"] == code, body[:40]
        good = b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}'
        assert (await node.post(good, "text/plain"))["error"]["code"] == -32600
        assert (await node.post(good, "application/json; charset=utf-8"))["result"] == "0x539"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"type": "http.request", "body": b" " * (BODY_MAX + 1), "more_body": True}, "a request has at most"),
        ({"type": "http.disconnect"}, "the request ended early"),
    ],
)
async def test_an_endless_or_broken_off_body_is_not_read_on(message: dict[str, Any], text: str) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return message

    async def send(part: Any) -> None:
        sent.append(part)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b""}
    await make_app(LocalChain())(scope, receive, send)
    assert text in msgspec.json.decode(sent[1]["body"])["error"]["message"]


async def test_views_answer_over_eth_call() -> None:
    async with remote() as node:
        await node.chain.call(ALICE, OpenCall(FIXTURE.terms, 10))
        data = CHANNEL_COUNT.encode_call(*FIXTURE.terms.participants, NATIVE)
        call = {"to": "0x" + node.chain.contract.hex(), "input": "0x" + data.hex()}
        assert int(await node.call("eth_call", call, "latest"), 16) == 1
        assert channel_id(FIXTURE.terms) == FIXTURE.id
        assert await node.call("tally_contract") == call["to"]
