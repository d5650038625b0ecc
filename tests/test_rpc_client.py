"""The chain client: passing faults are tried again, wrong answers refused, and nothing unchecked is believed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, ZERO32
from tallystick.settlement.chain import TransferCall
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.rpc_client import REQUEST_AGAIN, RpcChain, open_rpc_chain
from tallystick.settlement.ethereum.transactions import sign_call
from tallystick.settlement.simulated.branch import ADJUDICATOR

AT = Deployment(1337, ADJUDICATOR)
GOOD: dict[str, Any] = {"eth_chainId": "0x539", "tally_contract": "0x" + ADJUDICATOR.hex()}
HEADER = {"number": "0x5", "hash": "0x" + "11" * 32, "parentHash": "0x" + "22" * 32, "timestamp": "0x9"}

Handler = Callable[[httpx.Request], httpx.Response]


def answering(**results: Any) -> Handler:
    """A node with these results; one that is an httpx.Response is sent as it is."""

    def handle(request: httpx.Request) -> httpx.Response:
        method = msgspec.json.decode(request.content)["method"]
        result = {**GOOD, **results}[method]
        return result if isinstance(result, httpx.Response) else httpx.Response(200, json={"result": result})

    return handle


def opened(handler: Handler, monkeypatch: pytest.MonkeyPatch, expected: Deployment | None = AT) -> Any:
    transport = httpx.MockTransport(handler)
    return open_rpc_chain("http://node", jitter=lambda: 0.5, expected=expected, transport=transport)


async def test_without_expectation_the_node_says_what_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(answering(), monkeypatch, None) as chain:
        assert (chain.chain_id, chain.contract) == AT
        assert "http://node" in repr(chain)


@pytest.mark.parametrize("wrong", [{"eth_chainId": "0x1"}, {"tally_contract": "0x" + "01" * 20}])
async def test_another_chain_or_contract_is_refused(wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(answering(eth_gasPrice="0x1", **wrong), monkeypatch) as chain:
        with pytest.raises(ChainError, match="use another node"):
            await chain.fee_price()


async def test_passing_faults_are_tried_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    faults: list[Exception | int] = [503, httpx.ConnectError("down"), 200, 429, 200, httpx.ReadTimeout("slow"), 200]
    fine = answering(eth_gasPrice="0x7")

    def handle(request: httpx.Request) -> httpx.Response:
        fault = faults.pop(0)
        if isinstance(fault, Exception):
            raise fault
        return fine(request) if fault == 200 else httpx.Response(fault)

    async with opened(handle, monkeypatch) as chain:
        assert await chain.fee_price() == 7
    assert faults == []


async def test_a_node_that_stays_down_is_unavailable_and_checked_again_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    tries = 0
    back: list[Handler] = []

    def handle(request: httpx.Request) -> httpx.Response:
        nonlocal tries
        tries += 1
        if back:
            return back[0](request)
        raise httpx.ConnectError("refused")

    async with opened(handle, monkeypatch) as chain:
        with pytest.raises(ChainUnavailable, match="does not answer"):
            await chain.head()
        assert tries == REQUEST_AGAIN.tries == 3
        back.append(answering(eth_gasPrice="0x1"))
        assert await chain.fee_price() == 1
        back.clear()
        with pytest.raises(ChainUnavailable):
            await chain.fee_price()
        back.append(answering(eth_gasPrice="0x1", eth_chainId="0x2"))
        with pytest.raises(ChainError):
            await chain.fee_price()


RAW = sign_call(PrivateKey(keccak(b"alice")), *AT, TransferCall(NATIVE, ADJUDICATOR, 0), 0, 1)


def header_at(number: int, hash: str, parent: str) -> dict[str, Any]:
    return {"number": hex(number), "hash": hash, "parentHash": parent, "timestamp": hex(number), "logs": []}


A, B, C = ("0x" + digit * 64 for digit in "abc")
LOG = {"address": "0x" + "01" * 20, "topics": [], "data": "0x"}


@pytest.mark.parametrize(
    ("results", "ask"),
    [
        ({"eth_gasPrice": httpx.Response(200, content=b"no json")}, lambda c: c.fee_price()),
        ({"eth_gasPrice": httpx.Response(404)}, lambda c: c.fee_price()),
        ({"eth_gasPrice": "12"}, lambda c: c.fee_price()),
        ({"eth_gasPrice": None}, lambda c: c.fee_price()),
        ({"eth_gasPrice": httpx.Response(200, json={"error": {"code": -1, "message": "no"}})}, lambda c: c.fee_price()),
        ({"eth_getBlockByNumber": None}, lambda c: c.head()),
        ({"eth_getBlockByNumber": {"number": "0x1"}}, lambda c: c.head()),
        ({"eth_getBlockByNumber": "block"}, lambda c: c.head()),
        ({"eth_getBlockByNumber": HEADER}, lambda c: c.header(6)),
        ({"eth_sendRawTransaction": A}, lambda c: c.submit(RAW)),
        ({"tally_blocks": {}}, lambda c: c.blocks(0, 1)),
        ({"tally_blocks": [HEADER]}, lambda c: c.blocks(5, 1)),
        ({"tally_blocks": [header_at(1, A, B)]}, lambda c: c.blocks(2, 1)),
        ({"tally_blocks": [header_at(1, A, B), header_at(2, C, A)]}, lambda c: c.blocks(1, 1)),
        ({"tally_blocks": [header_at(1, A, B), header_at(2, C, B)]}, lambda c: c.blocks(1, 2)),
        ({"tally_blocks": [header_at(1, A, B), header_at(3, C, A)]}, lambda c: c.blocks(1, 2)),
        ({"tally_blocks": [{**HEADER, "logs": [LOG]}]}, lambda c: c.blocks(5, 1)),
        ({"tally_blocks": [{**HEADER, "logs": [{**LOG, "address": AT.contract.hex()}]}]}, lambda c: c.blocks(5, 1)),
        ({"eth_call": "0x00"}, lambda c: c.channel(ZERO32)),
        ({"eth_call": "0x00"}, lambda c: c.secret_time(ZERO32)),
        ({"eth_getTransactionReceipt": {}}, lambda c: c.receipt(ZERO32)),
        (
            {
                "eth_getTransactionReceipt": {
                    "blockHash": HEADER["hash"],
                    "status": "0x1",
                    "gasUsed": "0x1",
                    "effectiveGasPrice": "0x1",
                    "transactionHash": A,
                },
                "eth_getBlockByHash": HEADER,
            },
            lambda c: c.receipt(ZERO32),
        ),
    ],
)
async def test_an_answer_that_cannot_be_right_is_a_chain_error(
    results: dict[str, Any], ask: Callable[[RpcChain], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(answering(**results), monkeypatch) as chain:
        with pytest.raises(ChainError):
            await ask(chain)


async def test_a_receipt_whose_block_just_left_the_branch_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = answering(eth_getTransactionReceipt={"blockHash": A}, eth_getBlockByHash=None)
    async with opened(gone, monkeypatch) as chain:
        assert await chain.receipt(ZERO32) is None


async def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.settlement.ethereum.rpc_client.RESPONSE_MAX", 100)
    async with opened(answering(eth_gasPrice="0x" + "1" * 200), monkeypatch) as chain:
        with pytest.raises(ChainError, match="more than 100 bytes"):
            await chain.fee_price()


async def test_minting_and_mining_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(answering(tally_mine=HEADER, tally_mint=True), monkeypatch) as chain:
        assert (await chain.mine(2)).number == 5
        await chain.mint(ADJUDICATOR, 5)


@pytest.mark.parametrize("url", ["http://a:b", "127.0.0.1:8545", "ftp://node", "http://", ""])
async def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        async with open_rpc_chain(url, jitter=lambda: 0.0):
            pass
