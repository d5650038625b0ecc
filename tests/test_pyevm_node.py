"""The node in pure Python: what our client asks of it, what its pool takes, and what web3 reads there."""

from __future__ import annotations

import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio

from simulation.disputes import ChannelFixture
from simulation.local_evm import bytecode
from simulation.python_evm import START, URL, PythonEvm
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address, Lock
from tallystick.settlement.chain import (
    GONE,
    ApproveCall,
    Call,
    ChannelOpened,
    Closed,
    DepositCall,
    Deposited,
    OpenCall,
    RedeemCall,
    RegisterSecretCall,
    SettleCall,
    TransactionReceipt,
)
from tallystick.settlement.errors import Refusal, Revert, TransactionRefused
from tallystick.settlement.ethereum.abi import Deployment, Envelope
from tallystick.settlement.ethereum.evm.client import EvmChain, open_evm_chain
from tallystick.settlement.ethereum.evm.doctor import Grade, examine
from tallystick.settlement.ethereum.evm.endpoint import Endpoint
from tallystick.settlement.ethereum.http import make_client
from tallystick.settlement.ethereum.transactions import sign_creation, sign_envelope
from tallystick.settlement.testing.pyevm.node import start_pyevm
from tallystick.settlement.testing.token import TOKEN, TRANSFER

COIN = 10**18
FAR = 2**40
CAROL = PrivateKey(keccak(b"carol"))
CAP, TIP = 10**11, 10**9


class House:
    """A node with the contract and a token on it, and three accounts that hold of both."""

    def __init__(self, evm: PythonEvm) -> None:
        self.evm = evm
        self.keys = (*ChannelFixture().keys, CAROL)
        rich = evm.ask("eth_accounts")[0]
        for key in self.keys:
            evm.ask("eth_sendTransaction", {"from": rich, "to": hexed(key.address), "value": hex(100 * COIN)})
        self.at = Deployment(31_337, self.create(bytecode() + (1_000).to_bytes(32, "big")))
        self.token = self.create(TOKEN)
        for key in self.keys[:2]:
            self.send(CAROL, Envelope(self.token, 0, TRANSFER.encode_call(key.address, 10**9)))

    def nonce(self, key: PrivateKey) -> int:
        return int(self.evm.ask("eth_getTransactionCount", hexed(key.address), "pending"), 16)

    def create(self, code: bytes) -> Address:
        sent = self.evm.ask(
            "eth_sendRawTransaction",
            hexed(sign_creation(CAROL, 31_337, code, self.nonce(CAROL), CAP, TIP, 8_000_000)),
        )
        receipt = self.evm.ask("eth_getTransactionReceipt", sent)
        assert receipt["status"] == "0x1"
        return Address(bytes.fromhex(receipt["contractAddress"][2:]))

    def send(self, key: PrivateKey, envelope: Envelope) -> dict[str, Any]:
        raw = sign_envelope(key, 31_337, envelope, self.nonce(key), CAP, TIP, 300_000)
        receipt: dict[str, Any] = self.evm.ask(
            "eth_getTransactionReceipt", self.evm.ask("eth_sendRawTransaction", hexed(raw))
        )
        assert receipt["status"] == "0x1"
        return receipt


def hexed(value: bytes) -> str:
    return f"0x{value.hex()}"


@pytest.fixture(scope="module")
def house() -> House:
    return House(PythonEvm())


@asynccontextmanager
async def client(house: House) -> AsyncIterator[EvmChain]:
    async with open_evm_chain((URL,), house.at, jitter=lambda: 0.5, transport=house.evm.transport) as chain:
        yield chain


async def make(chain: EvmChain, key: PrivateKey, call: Call) -> TransactionReceipt:
    """Sign and send a call, which is mined at once; return its receipt."""
    nonce = await chain.nonce(key.address)
    signed = await chain.sign(key, call, nonce, await chain.fee_price())
    receipt = await chain.receipt(await chain.submit(signed.raw))
    assert receipt is not None
    await trio.sleep(1)  # of virtual time: what is known of the head is asked for again
    return receipt


async def test_what_our_client_asks_of_a_node_is_all_there(house: House) -> None:
    async with make_client(URL, 10.0, house.evm.transport) as http:
        newest = int(house.evm.ask("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        found = await examine(Endpoint(http), lambda: newest, house.at.contract, bytecode())
    assert [each.what for each in found.findings if each.grade is not Grade.GOOD] == ["client", "proofs"]
    assert "headers" in {each.what for each in found.findings}, "their fields make their hashes"


@pytest.mark.parametrize("token", (False, True), ids=("coin", "token"))
async def test_a_channel_lives_and_dies_on_it(house: House, token: bool, autojump_clock: object) -> None:
    asset, amount = (house.token, 10**8) if token else (NATIVE, COIN)
    fixture = ChannelFixture(chain_id=31_337, contract=house.at.contract, asset=asset)
    first, second = fixture.keys
    secret = keccak(b"a secret of" + asset)
    lock = Lock(10, 1_000, FAR, 0, digest_of(secret))
    async with client(house) as chain:
        start = (await chain.head()).number + 1
        calls: list[tuple[PrivateKey, Call]] = [
            (first, OpenCall(fixture.terms, amount)),
            (second, DepositCall(fixture.id, 1, amount, asset)),
            (first, fixture.close(fixture.proof(0, 5, 100, seen=4), fixture.proof(1, 6, 200, [lock], seen=5))),
            (second, fixture.challenge(fixture.proof(0, 9, 5_000, seen=8), tower=CAROL.address, victim=1)),
            (CAROL, SettleCall(fixture.id)),
            (CAROL, RegisterSecretCall(secret)),
            (CAROL, RedeemCall(fixture.id, 1, (lock,))),
        ]
        for key, call in calls:
            if asset != NATIVE and isinstance(call, OpenCall | DepositCall):
                assert (await make(chain, key, ApproveCall(asset, amount))).success
            if isinstance(call, SettleCall):
                early = await make(chain, key, call)
                assert early.revert is Revert.WINDOW_OPEN, "why it failed is told"
                house.evm.ask("evm_increaseTime", hex(fixture.terms.challenge_period))
            receipt = await make(chain, key, call)
            assert receipt.success, receipt.why
        view = await chain.channel(fixture.id)
        assert view is not None and view.status == GONE and view.convicted
        assert await chain.balance(house.at.contract, asset) == 0
        blocks = await chain.blocks(start, 100)
        kinds = [type(event) for block in blocks for event in block.events]
        assert kinds[:3] == [ChannelOpened, Deposited, Deposited] and Closed in kinds
        history = await chain.history(start)
        assert history is not None
        assert [each for each in blocks if each.events][: len(history.blocks)] == list(history.blocks)


def test_blocks_are_a_second_apart_and_headers_and_receipts_agree_with_web3(house: House) -> None:
    web3 = pytest.importorskip("web3")

    def checksummed(account: Address) -> Any:
        return web3.Web3.to_checksum_address(hexed(account))

    class Provider(web3.providers.BaseProvider):  # type: ignore[misc,name-defined]
        def make_request(self, method: str, params: Any) -> Any:
            return house.evm.say(method, *params)

    reader = web3.Web3(Provider())
    receipt = house.send(CAROL, Envelope(house.token, 0, TRANSFER.encode_call(house.keys[0].address, 7)))
    block = reader.eth.get_block(int(receipt["blockNumber"], 16), True)
    before = reader.eth.get_block(block.number - 1)
    assert block.parentHash == before.hash and block.timestamp == before.timestamp + 1 > START
    (sent,) = block.transactions
    told = reader.eth.get_transaction_receipt(sent.hash)
    assert told.gasUsed == block.gasUsed and told.effectiveGasPrice == block.baseFeePerGas + TIP
    (log,) = reader.eth.get_logs({"address": checksummed(house.token), "fromBlock": block.number, "toBlock": "latest"})
    assert log == told.logs[0] and log.transactionHash == sent.hash
    assert (
        reader.eth.get_balance(checksummed(CAROL.address), block.number - 1)
        - reader.eth.get_balance(checksummed(CAROL.address), block.number)
        == told.gasUsed * told.effectiveGasPrice
    )
    assert (
        reader.eth.get_logs({"address": checksummed(house.token), "topics": ["0x" + "11" * 32], "fromBlock": 0}) == []
    )


def test_the_pool_takes_what_geth_takes_and_refuses_in_its_words() -> None:
    evm = PythonEvm(at_once=False)
    rich = evm.ask("eth_accounts")[0]
    evm.ask("eth_sendTransaction", {"from": rich, "to": hexed(CAROL.address), "value": hex(COIN)})
    evm.mine()

    def raw(nonce: int, cap: int = CAP, tip: int = TIP, value: int = 1, gas: int = 21_000, chain: int = 31_337) -> str:
        return hexed(sign_envelope(CAROL, chain, Envelope(Address(b"\x55" * 20), value, b""), nonce, cap, tip, gas))

    first = evm.ask("eth_sendRawTransaction", raw(0))
    assert "already known" in evm.refusal("eth_sendRawTransaction", raw(0))
    for refused, words in (
        (raw(0, CAP * 12 // 10, TIP), "underpriced"),
        (raw(0, CAP, TIP * 12 // 10), "underpriced"),
        (raw(0, value=2 * COIN), "insufficient funds"),
        (raw(0, value=COIN - 21_000 * CAP + 1, cap=CAP), "insufficient funds"),
        (raw(0, gas=20_999), "intrinsic gas too low"),
        (raw(0, gas=60_000_001), "exceeds block gas limit"),
        (raw(0, chain=1), "invalid chain id"),
        ("0x02c0", "rlp"),
        ("0x", "rlp"),
        ("0x05", "rlp"),
    ):
        assert words in evm.refusal("eth_sendRawTransaction", refused), words
    second = evm.ask("eth_sendRawTransaction", raw(0, CAP * 11 // 10, TIP * 11 // 10))
    later = evm.ask("eth_sendRawTransaction", raw(2))
    poor = evm.ask("eth_sendRawTransaction", raw(1, 10**6, 10**6))
    assert evm.ask("eth_getTransactionCount", hexed(CAROL.address), "pending") == "0x3"
    evm.mine()
    assert evm.ask("eth_getTransactionReceipt", first) is None
    assert evm.ask("eth_getTransactionReceipt", second)["status"] == "0x1"
    assert evm.ask("eth_getTransactionReceipt", poor) is None, "it offers less than the base fee, and waits"
    assert evm.ask("eth_getTransactionByHash", later)["blockHash"] is None
    assert "nonce too low" in evm.refusal("eth_sendRawTransaction", raw(0, 2 * CAP, 2 * TIP))
    evm.ask("eth_sendRawTransaction", raw(1))
    evm.mine()
    block = evm.ask("eth_getBlockByNumber", "latest", False)
    assert len(block["transactions"]) == 2 and evm.ask("eth_getTransactionReceipt", later)["transactionIndex"] == "0x1"
    history = evm.ask("eth_feeHistory", "0x2", "latest", [50])
    assert history["reward"] == [[hex(TIP * 11 // 10)], [hex(TIP)]] and len(history["baseFeePerGas"]) == 3


def test_what_makes_no_sense_is_refused_and_harms_nothing(house: House) -> None:
    evm, unknown = house.evm, "0x" + "12" * 32
    head = evm.ask("eth_blockNumber")
    account = hexed(CAROL.address)
    for method, params, words in (
        ("eth_getBalance", (account, {"blockHash": unknown}), "header not found"),
        ("eth_getBalance", (account, hex(10**6)), "header not found"),
        ("eth_getBalance", ("0x12",), "20 bytes"),
        ("eth_getLogs", ({"fromBlock": head, "toBlock": hex(10**6)},), "invalid block range"),
        ("eth_getLogs", ({"blockHash": unknown},), "header not found"),
        ("eth_getLogs", ("no",), "object"),
        ("eth_sendTransaction", ({"from": account, "to": account, "value": "0x1"},), "own account"),
        ("eth_call", ({"from": account, "to": account, "value": hex(10**30)}, "latest"), "insufficient funds"),
        ("eth_unheard", (), "does not exist"),
    ):
        assert words in evm.refusal(method, *params), method
    assert evm.ask("eth_getBlockByNumber", hex(10**6), False) is None
    assert evm.ask("eth_getBlockByHash", unknown, False) is None
    assert evm.ask("eth_getTransactionReceipt", unknown) is None
    reverted = evm.say("eth_call", {"data": "0x6112345f526002601efd"}, "latest")["error"]
    assert reverted["code"] == 3 and reverted["data"] == "0x1234"
    asked = {"from": account, "to": hexed(house.token), "data": hexed(TRANSFER.encode_call(house.keys[0].address, 1))}
    estimate = int(evm.ask("eth_estimateGas", asked), 16)
    used = int(
        house.send(CAROL, Envelope(house.token, 0, TRANSFER.encode_call(house.keys[0].address, 1)))["gasUsed"], 16
    )
    assert used <= estimate <= used + 6_000
    assert evm.say("eth_estimateGas", {**asked, "from": "0x" + "77" * 20})["error"]["code"] == 3


async def test_our_client_reads_its_refusals(house: House, autojump_clock: object) -> None:
    async with client(house) as chain:
        for envelope, nonce, code in (
            (Envelope(CAROL.address, 10**21, b""), house.nonce(CAROL), Refusal.INSUFFICIENT_FUNDS),
            (Envelope(CAROL.address, 1, b""), 0, Refusal.NONCE_TOO_LOW),
        ):
            with pytest.raises(TransactionRefused) as refused:
                await chain.submit(sign_envelope(CAROL, 31_337, envelope, nonce, CAP, TIP, 21_000))
            assert refused.value.code is code
        terms = msgspec.structs.replace(ChannelFixture(chain_id=31_337, contract=house.at.contract).terms, number=99)
        assert await chain.channel(channel_id(terms)) is None


@pytest.mark.processes
def test_as_a_process_it_makes_blocks_by_time_and_ends_when_it_is_told() -> None:
    def head(url: str) -> int:
        body = b'{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}'
        request = urllib.request.Request(url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as reply:
            return int(msgspec.json.decode(reply.read())["result"], 16)

    with start_pyevm("--block-time", "0.01", "--step", "1") as url:
        while head(url) < 3:
            pass
    with pytest.raises(OSError):
        head(url)
