"""What a real node says of accounts, asked for without any of our code: plain JSON-RPC, nothing but httpx.

So that who pays and who counts are not the same program. Everything is read at one block.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

BALANCE_OF = "0x70a08231"
"""The first four bytes of keccak("balanceOf(address)"), as all of Ethereum's explorers have them."""


class Reader:
    """Asks one node. Make it with `Reader.opened`."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url
        self._next = 0
        self._fees: dict[str, int] = {}
        """By account in lower-case hex, in the blocks before `_next`."""

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str) -> AsyncIterator[Reader]:
        """Give a reader, which counts fees from the next block on."""
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            reader = cls(client, url)
            reader._next = await reader._newest() + 1
            yield reader

    async def balances(self, accounts: Mapping[str, bytes]) -> dict[str, int]:
        """Return the coins of accounts by name at the newest block, and the `fees` that they have paid until then."""
        newest = await self._newest()
        held = {}
        for name, address in accounts.items():
            held[name] = int(await self._ask("eth_getBalance", f"0x{address.hex()}", hex(newest)), 16)
        await self._count_fees(newest)
        return {**held, "fees": sum(self._fees.get(f"0x{address.hex()}", 0) for address in accounts.values())}

    async def tokens(self, token: bytes, account: bytes) -> int:
        """Return an account's balance of a token at the newest block."""
        call = {"to": f"0x{token.hex()}", "data": f"{BALANCE_OF}{account.hex().zfill(64)}"}
        return int(await self._ask("eth_call", call, "latest"), 16)

    async def _count_fees(self, newest: int) -> None:
        for number in range(self._next, newest + 1):
            block = await self._ask("eth_getBlockByNumber", hex(number), False)
            for transaction in block["transactions"]:
                receipt = await self._ask("eth_getTransactionReceipt", transaction)
                sender = receipt["from"].lower()
                fee = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
                self._fees[sender] = self._fees.get(sender, 0) + fee
        self._next = max(self._next, newest + 1)

    async def _newest(self) -> int:
        return int(await self._ask("eth_blockNumber"), 16)

    async def _ask(self, method: str, *parameters: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = (await self._client.post(self._url, json=body)).json()
        if "result" not in answer:
            raise RuntimeError(f"the node refuses {method}: {answer.get('error')}")
        return answer["result"]
