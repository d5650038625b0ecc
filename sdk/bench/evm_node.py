"""An Ethereum node for measurements: accounts that it fills, transactions that are mined before they are told of.

Development nodes alone: coins come from the node's own methods (`anvil_setBalance`, `hardhat_setBalance`), from an
account whose key the node holds (`geth --dev`), or from one whose key everybody knows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address
from tallystick.sdk.errors import MeasurementVoid
from tallystick.settlement.errors import RpcError
from tallystick.settlement.ethereum.abi import Envelope
from tallystick.settlement.ethereum.evm.endpoint import TIMEOUT, Endpoint, NodeQuestion
from tallystick.settlement.ethereum.evm.questions import result
from tallystick.settlement.ethereum.http import make_client
from tallystick.settlement.ethereum.rpc_shapes import quantity, read_address, read_bytes, read_quantity, to_hex
from tallystick.settlement.ethereum.transactions import sign_creation, sign_envelope, transaction_hash
from tallystick.settlement.testing.anvil import RICH_KEY

GAS_MAX = 2**24
"""Of one transaction (EIP-7825)."""

COINS = 10**20
"""What each account is given."""

TIP = 10**9
TRANSFER_GAS = 21_000
MINED_SECONDS = 120.0
"""How long a transaction may take until it is in a block."""

LOOK_SECONDS = 0.01, 1.0
"""Between two looks for a receipt: at first, and at most."""

PROBES = (
    ("amsterdam", "4b"),
    ("osaka", "60011e"),
    ("prague", "5f5f5f5f600b5afa15600d57fe5b"),
    ("cancun", "5f5f5f5e"),
)
"""Code that only this fork's machine and later ones run to the end: SLOTNUM; CLZ; a call of the precompile for BLS
without its input, which fails only if it is there; MCOPY."""


class EvmNode:
    """One node. Make it with `open_evm_node`."""

    def __init__(self, endpoint: Endpoint, chain_id: int, skip: Callable[[int], None] | None = None) -> None:
        """`skip` sets the node's clock forward, in seconds; without it, the node is asked to."""
        self._endpoint = endpoint
        self.chain_id = chain_id
        self._skip = skip
        self._nonces: dict[Address, int] = {}

    @property
    def url(self) -> str:
        """Where it is."""
        return self._endpoint.url

    async def ask(self, method: str, *parameters: Any) -> Any:
        """Return the answer to one question; raise ChainError or ChainUnavailable."""
        (answer,) = await self._endpoint.ask((NodeQuestion(method, parameters),), timeout=MINED_SECONDS)
        return result(answer)

    async def client(self) -> str:
        """Return what the node calls itself."""
        return str(await self.ask("web3_clientVersion"))

    async def fork(self) -> str:
        """Return by which fork's rules the node's machine runs, as far as what it can do tells."""
        for name, code in PROBES:
            try:
                await self.ask("eth_call", {"data": f"0x{code}", "gas": quantity(10**6)}, "latest")
            except RpcError:
                continue
            return name
        return "older than cancun"

    async def fund(self, *accounts: Address) -> None:
        """Give coins to each that has none; raise MeasurementVoid if the node gives none."""
        for account in accounts:
            if read_quantity(await self.ask("eth_getBalance", to_hex(account), "latest")):
                continue
            for method in ("anvil_setBalance", "hardhat_setBalance"):
                try:
                    await self.ask(method, to_hex(account), quantity(COINS))
                    break
                except RpcError:
                    continue
            else:
                await self._give(account)

    async def _give(self, account: Address) -> None:
        held = [read_address(each) for each in await self.ask("eth_accounts") or ()]
        if held:
            gift = {"from": to_hex(held[0]), "to": to_hex(account), "value": quantity(COINS)}
            await self.receipt(read_bytes(await self.ask("eth_sendTransaction", gift)))
            return
        rich = PrivateKey(RICH_KEY)
        if read_quantity(await self.ask("eth_getBalance", to_hex(rich.address), "latest")) <= COINS:
            raise MeasurementVoid("this node gives no coins: it needs to be a development node (anvil, geth --dev)")
        await self.send(rich, Envelope(account, COINS, b""), TRANSFER_GAS)

    async def create(self, key: PrivateKey, code: bytes) -> Address:
        """Put a contract onto the chain; `code` ends in its constructor's arguments."""
        base, call = await self._base_fee(), {"from": to_hex(key.address), "data": to_hex(code)}
        gas = read_quantity(await self.ask("eth_estimateGas", call)) * 5 // 4
        raw = sign_creation(key, self.chain_id, code, await self._nonce(key.address), 4 * base + TIP, TIP, gas)
        return read_address((await self.receipt(await self._submit(key, raw))).get("contractAddress"))

    async def send(self, key: PrivateKey, envelope: Envelope, gas: int = 2_000_000) -> int:
        """Make a call, and return how much gas it took; raise MeasurementVoid if it fails."""
        (used,) = await self.send_all(key, [envelope], gas)
        return used

    async def send_all(self, key: PrivateKey, envelopes: Sequence[Envelope], gas: int = 1_000_000) -> list[int]:
        """Make calls one after the other, in as few blocks as the node likes; return the gas of each."""
        base = await self._base_fee()
        sent = []
        for envelope in envelopes:
            nonce = await self._nonce(key.address)
            raw = sign_envelope(key, self.chain_id, envelope, nonce, 4 * base + TIP, TIP, gas)
            sent.append(await self._submit(key, raw))
        return [read_quantity((await self.receipt(transaction)).get("gasUsed")) for transaction in sent]

    async def receipt(self, transaction: bytes) -> dict[str, Any]:
        """Wait for a receipt; raise MeasurementVoid if it says that the transaction failed, or does not come."""
        pause, longest = LOOK_SECONDS
        with trio.move_on_after(MINED_SECONDS):
            while not isinstance(found := await self.ask("eth_getTransactionReceipt", to_hex(transaction)), dict):
                await trio.sleep(pause)
                pause = min(longest, 2 * pause)
            if read_quantity(found.get("status")) != 1:
                raise MeasurementVoid(f"a call failed that should not: transaction {to_hex(transaction)}")
            return found
        raise MeasurementVoid(f"the node did not mine {to_hex(transaction)} within {MINED_SECONDS:g} seconds")

    async def pass_time(self, key: PrivateKey, seconds: int) -> None:
        """Return once a block is so much later than the newest one now: at once where the node can set its clock."""
        start = await self._time()
        if self._skip is not None:
            self._skip(seconds)
        else:
            try:
                await self.ask("evm_increaseTime", quantity(seconds))
            except RpcError:
                await trio.sleep(seconds)
        while await self._time() < start + seconds:
            await self.send(key, Envelope(key.address, 0, b""))  # some nodes mine only when something is sent

    async def _time(self) -> int:
        return read_quantity((await self.ask("eth_getBlockByNumber", "latest", False)).get("timestamp"))

    async def _base_fee(self) -> int:
        return read_quantity((await self.ask("eth_getBlockByNumber", "latest", False)).get("baseFeePerGas"))

    async def _nonce(self, account: Address) -> int:
        if account not in self._nonces:
            self._nonces[account] = read_quantity(await self.ask("eth_getTransactionCount", to_hex(account), "latest"))
        return self._nonces[account]

    async def _submit(self, key: PrivateKey, raw: bytes) -> bytes:
        await self.ask("eth_sendRawTransaction", to_hex(raw))
        self._nonces[key.address] += 1
        return transaction_hash(raw)


@asynccontextmanager
async def open_evm_node(url: str, skip: Callable[[int], None] | None = None) -> AsyncIterator[EvmNode]:
    """Give the node at a URL; raise ChainUnavailable if there is none. `skip`: see `EvmNode`."""
    async with make_client(url, TIMEOUT) as client:
        endpoint = Endpoint(client)
        (chain_id,) = await endpoint.ask((NodeQuestion("eth_chainId"),))
        yield EvmNode(endpoint, read_quantity(result(chain_id)), skip)
