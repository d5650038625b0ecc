"""The node in pure Python: what our client asks of it, what its pool takes, and what web3 reads there."""

from __future__ import annotations

import urllib.request
from typing import Any

import msgspec
import pytest

from simulation.disputes import ChannelFixture
from simulation.evm_house import CAP, CAROL, COIN, TIP, EvmHouse
from simulation.python_evm import START, URL, PythonEvm
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address, Lock
from tallystick.contracts import artifact
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
)
from tallystick.settlement.errors import Refusal, Revert, TransactionRefused
from tallystick.settlement.ethereum.abi import Envelope
from tallystick.settlement.ethereum.evm.doctor import Grade, examine
from tallystick.settlement.ethereum.evm.endpoint import Endpoint
from tallystick.settlement.ethereum.http import make_client
from tallystick.settlement.ethereum.rpc_shapes import to_hex
from tallystick.settlement.ethereum.transactions import sign_envelope
from tallystick.settlement.testing.pyevm.node import start_pyevm
from tallystick.settlement.testing.token import TOKEN, TRANSFER

FAR = 2**40


@pytest.fixture(scope="module")
def evm() -> PythonEvm:
    return PythonEvm()


@pytest.fixture(scope="module")
def house(evm: PythonEvm) -> EvmHouse:
    return EvmHouse(evm, URL, evm.transport)


async def test_what_our_client_asks_of_a_node_is_all_there(evm: PythonEvm, house: EvmHouse) -> None:
    async with make_client(URL, 10.0, evm.transport) as http:
        newest = int(evm.ask("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        found = await examine(Endpoint(http), lambda: newest, house.at.contract, artifact().code)
    assert [each.what for each in found.findings if each.grade is not Grade.GOOD] == ["client", "court"]
    assert "headers" in {each.what for each in found.findings}, "their fields make their hashes"
    court = next(each for each in found.findings if each.what == "court")
    assert court.grade is Grade.LIMITED, "the adjudicator of the fixture asks none"


@pytest.mark.parametrize("token", (False, True), ids=("coin", "token"))
async def test_a_channel_lives_and_dies_on_it(
    evm: PythonEvm, house: EvmHouse, token: bool, autojump_clock: object
) -> None:
    asset, amount = (house.token, 10**8) if token else (NATIVE, COIN)
    fixture = ChannelFixture(chain_id=31_337, contract=house.at.contract, asset=asset)
    first, second = fixture.keys
    secret = keccak(b"a secret of" + asset)
    lock = Lock(10, 1_000, FAR, 0, digest_of(secret))
    async with house.client() as chain:
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
                assert (await house.make(chain, key, ApproveCall(asset, amount))).success
            if isinstance(call, SettleCall):
                early = await house.make(chain, key, call)
                assert early.revert is Revert.WINDOW_OPEN, "why it failed is told"
                evm.ask("evm_increaseTime", hex(fixture.terms.challenge_period))
            receipt = await house.make(chain, key, call)
            assert receipt.success, receipt.why
        view = await chain.channel(fixture.id)
        assert view is not None and view.status == GONE and view.convicted
        assert await chain.evidence(await chain.head(), (fixture.terms,)) == ((view,), ()), "proven by the block's hash"
        unknown = msgspec.structs.replace(fixture.terms, number=9)
        assert await chain.evidence(await chain.head(), (unknown,)) == ((None,), ())
        assert await chain.balance(house.at.contract, asset) == 0
        blocks = await chain.blocks(start, 100)
        kinds = [type(event) for block in blocks for event in block.events]
        assert kinds[:3] == [ChannelOpened, Deposited, Deposited] and Closed in kinds
        history = await chain.history(start)
        assert history is not None
        assert [each for each in blocks if each.events][: len(history.blocks)] == list(history.blocks)


def test_blocks_are_a_second_apart_and_headers_and_receipts_agree_with_web3(evm: PythonEvm, house: EvmHouse) -> None:
    web3 = pytest.importorskip("web3")

    def checksummed(account: Address) -> Any:
        return web3.Web3.to_checksum_address(to_hex(account))

    class Provider(web3.providers.BaseProvider):  # type: ignore[misc,name-defined]
        def make_request(self, method: str, params: Any) -> Any:
            return evm.say(method, *params)

    reader = web3.Web3(Provider())
    token = house.create(TOKEN)
    receipt = house.send(CAROL, Envelope(token, 0, TRANSFER.encode_call(house.keys[0].address, 7)))
    block = reader.eth.get_block(int(receipt["blockNumber"], 16), True)
    before = reader.eth.get_block(block.number - 1)
    assert block.parentHash == before.hash and block.timestamp == before.timestamp + 1 > START
    (sent,) = block.transactions
    told = reader.eth.get_transaction_receipt(sent.hash)
    assert told.gasUsed == block.gasUsed and told.effectiveGasPrice == block.baseFeePerGas + TIP
    (log,) = reader.eth.get_logs({"address": checksummed(token), "fromBlock": block.number, "toBlock": "latest"})
    assert log == told.logs[0] and log.transactionHash == sent.hash
    assert (
        reader.eth.get_balance(checksummed(CAROL.address), block.number - 1)
        - reader.eth.get_balance(checksummed(CAROL.address), block.number)
        == told.gasUsed * told.effectiveGasPrice
    )
    assert reader.eth.get_logs({"address": checksummed(token), "topics": ["0x" + "11" * 32], "fromBlock": 0}) == []


def test_the_pool_takes_what_geth_takes_and_refuses_in_its_words() -> None:
    evm = PythonEvm(at_once=False)
    rich = evm.ask("eth_accounts")[0]
    evm.ask("eth_sendTransaction", {"from": rich, "to": to_hex(CAROL.address), "value": hex(COIN)})
    evm.mine()

    def raw(nonce: int, cap: int = CAP, tip: int = TIP, value: int = 1, gas: int = 21_000, chain: int = 31_337) -> str:
        return to_hex(sign_envelope(CAROL, chain, Envelope(Address(b"\x55" * 20), value, b""), nonce, cap, tip, gas))

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
    assert evm.ask("eth_getTransactionCount", to_hex(CAROL.address), "pending") == "0x3"
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


def test_what_makes_no_sense_is_refused_and_harms_nothing(evm: PythonEvm, house: EvmHouse) -> None:
    unknown = "0x" + "12" * 32
    head = evm.ask("eth_blockNumber")
    account = to_hex(CAROL.address)
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
    asked = {"from": account, "to": to_hex(house.token), "data": to_hex(TRANSFER.encode_call(house.keys[0].address, 1))}
    estimate = int(evm.ask("eth_estimateGas", asked), 16)
    used = int(
        house.send(CAROL, Envelope(house.token, 0, TRANSFER.encode_call(house.keys[0].address, 1)))["gasUsed"], 16
    )
    assert used <= estimate <= used + 6_000
    assert evm.say("eth_estimateGas", {**asked, "from": "0x" + "77" * 20})["error"]["code"] == 3


async def test_our_client_reads_its_refusals(evm: PythonEvm, house: EvmHouse, autojump_clock: object) -> None:
    async with house.client() as chain:
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
