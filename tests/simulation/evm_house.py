"""The contract, a token and three accounts that hold of both, on any development node that can be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import httpx
import trio

from simulation.disputes import ChannelFixture
from simulation.evm_tokens import code_of
from tallystick.channels.apps.table import SHIPPED
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import Address
from tallystick.contracts import RULES, artifact, court_code, creation_code
from tallystick.settlement.chain import Call, TransactionReceipt
from tallystick.settlement.ethereum.abi import Deployment, Envelope, Signature
from tallystick.settlement.ethereum.evm.client import EvmChain, open_evm_chain
from tallystick.settlement.ethereum.rpc_shapes import to_hex
from tallystick.settlement.ethereum.transactions import sign_creation, sign_envelope
from tallystick.settlement.testing.token import TRANSFER

COIN = 10**18
CAP, TIP = 10**11, 10**9
CAROL = PrivateKey(keccak(b"carol"))
MINED_SECONDS = 10.0
BLOCK_TO = Signature("block_to", ("address", "bool"))
"""Lets the token refuse an account as a receiver."""


class AskedNode(Protocol):
    """A node that makes a block with every transaction."""

    def ask(self, method: str, *params: Any) -> Any:
        """Return the result of one question."""


class EvmHouse:
    """See the module's docstring. `transport` carries our client's requests to `url` (None: TCP).

    `court`: the contract asks one about apps, which our client is told of.
    """

    def __init__(
        self, node: AskedNode, url: str, transport: httpx.AsyncBaseTransport | None = None, *, court: bool = False
    ) -> None:
        self.node, self.url, self.transport = node, url, transport
        self.keys = (*ChannelFixture().keys, CAROL)
        rich = node.ask("eth_accounts")[0]
        for key in self.keys:
            node.ask("eth_sendTransaction", {"from": rich, "to": to_hex(key.address), "value": hex(100 * COIN)})
        self.chain_id = int(node.ask("eth_chainId"), 16)
        self.court = self._court() if court else None
        self.at = Deployment(self.chain_id, self.create(creation_code(court=self.court or bytes(20))))
        self.token = self.create(code_of("ordinary"))
        for key in self.keys[:2]:
            self.send(CAROL, Envelope(self.token, 0, TRANSFER.encode_call(key.address, 10**9)))

    def _court(self) -> Address:
        rules = {app.id: self.create(artifact(RULES[app.name, app.version]).code) for app in SHIPPED}
        return self.create(court_code(rules))

    def nonce(self, key: PrivateKey) -> int:
        """The next one of an account."""
        return int(self.node.ask("eth_getTransactionCount", to_hex(key.address), "pending"), 16)

    def create(self, code: bytes) -> Address:
        """Put a contract onto the chain."""
        raw = sign_creation(CAROL, self.chain_id, code, self.nonce(CAROL), CAP, TIP, 8_000_000)
        return Address(bytes.fromhex(self._receipt(raw)["contractAddress"][2:]))

    def send(self, key: PrivateKey, envelope: Envelope) -> dict[str, Any]:
        """Send a transaction that must succeed; return its receipt."""
        return self._receipt(sign_envelope(key, self.chain_id, envelope, self.nonce(key), CAP, TIP, 300_000))

    def _receipt(self, raw: bytes) -> dict[str, Any]:
        sent = self.node.ask("eth_sendRawTransaction", to_hex(raw))
        while (receipt := self.node.ask("eth_getTransactionReceipt", sent)) is None:
            self.node.ask("evm_mine")  # some make the block a moment later
        assert receipt["status"] == "0x1", receipt
        told: dict[str, Any] = receipt
        return told

    @asynccontextmanager
    async def client(self) -> AsyncIterator[EvmChain]:
        """Give our client, with a view of this node."""
        where = open_evm_chain((self.url,), self.at, jitter=lambda: 0.5, transport=self.transport, court=self.court)
        async with where as chain:
            yield chain

    async def make(self, chain: EvmChain, key: PrivateKey, call: Call) -> TransactionReceipt:
        """Sign and send a call, which is mined at once; return its receipt once the client has seen its block."""
        signed = await chain.sign(key, call, await chain.nonce(key.address), await chain.fee_price())
        sent = await chain.submit(signed.raw)
        with trio.fail_after(MINED_SECONDS):
            while True:
                receipt = await chain.receipt(sent)
                if receipt is not None and (await chain.head()).number >= receipt.block.number:
                    return receipt
                await trio.sleep(0.02)
