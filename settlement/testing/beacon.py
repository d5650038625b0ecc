"""A consensus client for tests: says to a geth which blocks there are, which one is the head, and which are final.

Two nodes of one chain: `node` is the one that programs under test speak to; in the `workshop` the blocks of other
branches are made, so that `node` sees a reorganisation as it happens on a network: at one moment, from one head to
another. A block holds exactly the transactions that a test names, in that order, or all that wait.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from tallystick.settlement.ethereum.rpc_shapes import quantity
from tallystick.settlement.testing.geth import NOTHING, Geth, start_geth

SLOT = 12
"""Seconds between two blocks, unless told otherwise."""


class MadeBlock(msgspec.Struct, frozen=True):
    """A block that was made."""

    hash: str
    number: int
    time: int
    transactions: tuple[str, ...]
    """As they were signed, in hex."""


class WaitingTransaction(msgspec.Struct, frozen=True):
    """A transaction that waits to be mined."""

    hash: str
    sender: bytes
    nonce: int
    to: bytes
    """Empty if it makes a contract."""
    value: int
    data: bytes
    raw: str
    """As it was signed, in hex."""


class Beacon:
    """See the module. Make it with `start_beacon`."""

    def __init__(self, node: Geth, workshop: Geth, first: MadeBlock) -> None:
        self.node = node
        self.workshop = workshop
        self.blocks = [first]
        """The best branch, the genesis block first."""
        self._final = first.hash
        self._salt = 0

    @property
    def head(self) -> MadeBlock:
        """The newest block of the best branch."""
        return self.blocks[-1]

    async def mine(self, transactions: Sequence[str] | None = None, *, seconds: int = SLOT) -> MadeBlock:
        """Put a block onto the best branch, so many seconds after the one before; None: with all that waits."""
        if transactions is None:
            transactions = [each.raw for each in await self.waiting()]
        (made,) = await self.make(self.head, [transactions], seconds=seconds)
        await self.switch((made,))
        return made

    async def make(
        self, parent: MadeBlock, contents: Sequence[Sequence[str]], *, seconds: int = SLOT
    ) -> tuple[MadeBlock, ...]:
        """Return blocks on top of another one, one for each list of transactions; no head moves on `node`.

        Raise RpcError if a transaction cannot be mined there.
        """
        made = []
        await self._point(self.workshop, parent.hash)
        for transactions in contents:
            self._salt += 1
            attributes = self.workshop.attributes(parent.number + 1, parent.time + seconds, self._salt)
            built = await self.workshop.ask("testing_buildBlockV1", parent.hash, attributes, list(transactions), "0x")
            payload = built["executionPayload"]
            for geth in (self.workshop, self.node):
                await _accepted(geth, "engine_newPayloadV4", payload, [], NOTHING, built["executionRequests"])
            parent = MadeBlock(payload["blockHash"], parent.number + 1, parent.time + seconds, tuple(transactions))
            await self._point(self.workshop, parent.hash)
            made.append(parent)
        return tuple(made)

    async def switch(self, branch: Sequence[MadeBlock]) -> None:
        """Make the last of these blocks the head; the first one stands on a block of the best branch."""
        self.blocks = [*self.blocks[: branch[0].number], *branch]
        await self._point(self.node, self.head.hash)

    async def reorganise(self, depth: int, contents: Sequence[Sequence[str]], *, seconds: int = SLOT) -> None:
        """Replace the newest blocks by others, of which there may be more or fewer."""
        await self.switch(await self.make(self.blocks[-1 - depth], contents, seconds=seconds))

    async def finalize(self, block: MadeBlock) -> None:
        """Say that a block of the best branch is final; it is `safe`, too."""
        self._final = block.hash
        await self._point(self.node, self.head.hash)

    async def waiting(self) -> list[WaitingTransaction]:
        """Return the transactions that wait on `node` and can be mined, in order of nonce."""
        pending: dict[str, dict[str, Any]] = (await self.node.ask("txpool_content"))["pending"]
        sent = [each for account in pending.values() for each in account.values()]
        sent.sort(key=lambda each: int(each["nonce"], 16))
        found = []
        for each in sent:
            raw = await self.node.ask("eth_getRawTransactionByHash", each["hash"])
            if len(raw) > 2:  # it has not left in between
                sender, to = bytes.fromhex(each["from"][2:]), bytes.fromhex((each["to"] or "0x")[2:])
                data, value = bytes.fromhex(each["input"][2:]), int(each["value"], 16)
                found.append(WaitingTransaction(each["hash"], sender, int(each["nonce"], 16), to, value, data, raw))
        return found

    async def forget(self) -> None:
        """Let `node` forget all transactions that wait."""
        await self.node.ask("miner_setGasPrice", quantity(10**30))
        await self.node.ask("miner_setGasPrice", quantity(1))

    async def _point(self, geth: Geth, head: str) -> None:
        """Tell a node which block is the head."""
        state = {"headBlockHash": head, "safeBlockHash": self._final, "finalizedBlockHash": self._final}
        await _accepted(geth, "engine_forkchoiceUpdatedV3", state, None)


async def _accepted(geth: Geth, method: str, *params: Any) -> None:
    """Tell a node something; raise RuntimeError unless it finds it valid."""
    answer = await geth.engine(method, *params)
    status = answer.get("payloadStatus", answer)
    if status["status"] != "VALID":
        raise RuntimeError(f"geth, {method}: {status}")


@asynccontextmanager
async def start_beacon(*flags: str, funds: Mapping[str, int] | None = None) -> AsyncIterator[Beacon]:
    """Start both nodes, `node` with these flags, and put a first block onto the genesis block, which gives `funds`.

    Raise FileNotFoundError if geth is not there.
    """
    async with start_geth(*flags, funds=funds) as node:
        first = await node.ask("eth_getBlockByNumber", "0x0", False)
        time = int(first["timestamp"], 16)
        async with start_geth(funds=funds, time=time) as workshop:
            beacon = Beacon(node, workshop, MadeBlock(first["hash"], 0, time, ()))
            await beacon.mine(())
            yield beacon
