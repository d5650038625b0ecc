"""Ethereum nodes for tests, without an EVM: a chain of blocks with logs, told over JSON-RPC, well or badly."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

from simulation.disputes import ChannelFixture
from tallystick.channels.protocol.eip712 import domain_separator
from tallystick.channels.protocol.keys import keccak
from tallystick.sdk.bench.synthetic_chain import SyntheticChain
from tallystick.sdk.bench.synthetic_node import SyntheticNode
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.event_logs import Log
from tallystick.settlement.ethereum.evm.abi import DOMAIN_SEPARATOR
from tallystick.settlement.ethereum.evm.headers import bloom_of, hash_of
from tallystick.settlement.ethereum.rpc_shapes import quantity, to_hex

FIXTURE = ChannelFixture(chain_id=31_337)
AT = Deployment(FIXTURE.terms.chain_id, FIXTURE.terms.contract)
EMPTY = "0x" + "00" * 32


class Refused(Exception):
    """What a node answers instead of a result."""

    def __init__(self, code: int, text: str, data: object = None) -> None:
        super().__init__(text)
        self.error = {"code": code, "message": text, "data": data}


def refuse(code: int, text: str, data: object = None) -> Any:
    """Return what answers every question with an error."""

    def answer(*params: object) -> object:
        raise Refused(code, text, data)

    return answer


class FakeChain:
    """Blocks with logs of the contract. Grows by `add`; `fork` replaces the newest."""

    def __init__(self, length: int = 1) -> None:
        self.blocks: list[dict[str, Any]] = []
        self.logs: dict[str, list[dict[str, Any]]] = {}
        for _ in range(length):
            self.add()

    def add(self, *logs: Log, salt: str = "0x") -> dict[str, Any]:
        """Add a block with these logs."""
        number = len(self.blocks)
        values = [AT.contract, *(topic for log in logs for topic in log.topics)] if logs else []
        block = {
            **dict.fromkeys(("sha3Uncles", "stateRoot", "transactionsRoot", "receiptsRoot", "mixHash"), EMPTY),
            "parentHash": self.blocks[-1]["hash"] if self.blocks else EMPTY,
            "miner": "0x" + "00" * 20,
            "logsBloom": to_hex(bloom_of(*values)),
            "number": quantity(number),
            "timestamp": quantity(1_000 + number),
            **dict.fromkeys(("difficulty", "gasUsed"), "0x0"),
            "gasLimit": "0x3938700",
            "baseFeePerGas": "0x7",
            "extraData": salt,
            "nonce": "0x" + "00" * 8,
        }
        block["hash"] = to_hex(hash_of(block) or b"")
        self.blocks.append(block)
        self.logs[block["hash"]] = [
            {
                "address": to_hex(AT.contract),
                "topics": [to_hex(topic) for topic in log.topics],
                "data": to_hex(log.data),
                "blockNumber": block["number"],
                "blockHash": block["hash"],
                "logIndex": quantity(index),
                "removed": False,
            }
            for index, log in enumerate(logs)
        ]
        return block

    def fork(self, depth: int, length: int) -> None:
        """Replace the newest blocks."""
        del self.blocks[-depth:]
        for _ in range(length):
            self.add(salt="0xff")


class FakeNode:
    """One node of the chain, with its own faults, which tests set."""

    def __init__(self, chain: FakeChain, *, chain_id: int = AT.chain_id) -> None:
        self.chain = chain
        self.chain_id = chain_id
        self.lag = 0
        """Blocks that it is behind."""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.batches = True
        self.range_max = 10**9
        self.hides = False
        """Whether it leaves out all logs of ranges."""
        self.hides_all = False
        self.asked: list[tuple[str, Any]] = []
        self.answers: dict[str, Callable[..., Any]] = {}
        """By method: what it answers instead."""

    @property
    def known(self) -> list[dict[str, Any]]:
        """The blocks that it knows."""
        return self.chain.blocks[: len(self.chain.blocks) - self.lag]

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        if self.status != 200:
            return httpx.Response(self.status, headers=self.headers, text="no")
        body = json.loads(request.content)
        if isinstance(body, list):
            if not self.batches:
                return httpx.Response(
                    200, json={"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no"}}
                )
            return httpx.Response(200, json=[self._answer(each) for each in reversed(body)])
        return httpx.Response(200, json=self._answer(body))

    def _answer(self, call: dict[str, Any]) -> dict[str, Any]:
        method, params = call["method"], call["params"]
        self.asked.append((method, params))
        try:
            found = self.answers[method](*params) if method in self.answers else getattr(self, method)(*params)
        except Refused as refused:
            return {"jsonrpc": "2.0", "id": call["id"], "error": refused.error}
        except AttributeError:
            return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32601, "message": f"no method {method}"}}
        return {"jsonrpc": "2.0", "id": call["id"], "result": found}

    def eth_chainId(self) -> str:
        return quantity(self.chain_id)

    def eth_blockNumber(self) -> str:
        return quantity(len(self.known) - 1)

    def web3_clientVersion(self) -> str:
        return "Geth/v1.17.10"

    def eth_getCode(self, account: str, at: str) -> str:
        return "0x60"

    def eth_call(self, call: dict[str, str], at: object) -> str:
        if call["data"] == to_hex(DOMAIN_SEPARATOR.encode_call()):
            return to_hex(domain_separator(*AT))
        raise Refused(3, "execution reverted", "0x")

    def eth_getBlockByNumber(self, which: str, full: bool) -> dict[str, Any] | None:
        blocks = self.known
        if which == "finalized":
            return blocks[0]
        number = len(blocks) - 1 if which == "latest" else int(which, 16)
        return blocks[number] if number < len(blocks) else None

    def eth_getLogs(self, which: dict[str, Any]) -> list[dict[str, Any]]:
        if self.hides_all:
            return []
        if "blockHash" in which:
            return self.chain.logs.get(which["blockHash"], [])
        first, last = int(which["fromBlock"], 16), int(which["toBlock"], 16)
        if last >= len(self.known):
            raise Refused(-32602, "invalid block range params")
        if last - first + 1 > self.range_max:
            raise Refused(-32000, "a range too far")
        found = [log for block in self.known[first : last + 1] for log in self.chain.logs[block["hash"]]]
        return [] if self.hides else found

    def eth_getTransactionCount(self, account: str, at: dict[str, str]) -> str:
        if not any(block["hash"] == at["blockHash"] for block in self.known):
            raise Refused(-32000, "header not found")
        return quantity(7)

    def eth_sendRawTransaction(self, raw: str) -> str:
        return to_hex(keccak(bytes.fromhex(raw[2:])))

    def eth_getTransactionReceipt(self, hash: str) -> None:
        return None


class SyntheticHost:
    """A node of the chain of `tally bench follow`."""

    def __init__(self, chain: SyntheticChain, range_max: int = 10_000) -> None:
        self.node = SyntheticNode(chain, range_max=range_max, batch_max=1_000)

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        return httpx.Response(200, content=self.node.answer(request.content))


class FakeInternet(httpx.AsyncBaseTransport):
    """Nodes by host name."""

    def __init__(self, **nodes: FakeNode | SyntheticHost) -> None:
        self.nodes = nodes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Let the node answer; one that is not there cannot be reached."""
        await request.aread()
        node = self.nodes.get(request.url.host)
        if node is None:
            raise httpx.ConnectError("nobody is there", request=request)
        return node.handle(request)
