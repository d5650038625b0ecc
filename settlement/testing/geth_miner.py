"""Lets a geth make blocks by itself, of all that waits: as many as are wanted in a second, at times of our own.

For programs that need a chain that goes on, not one whose branches a test decides on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tallystick.settlement.testing.geth import Geth


class GethMiner:
    """Makes the blocks of one node."""

    def __init__(self, geth: Geth, step: int = 1) -> None:
        """`step`: seconds of chain time between two blocks."""
        self._geth = geth
        self._step = step
        self._later = 0

    def skip(self, seconds: int) -> None:
        """Let the next block be so much later."""
        self._later += seconds

    async def make(self) -> None:
        """Make a block; raise RpcError if geth does not."""
        newest = await self._geth.ask("eth_getBlockByNumber", "latest", False)
        later, self._later = self._later, 0
        number, time = int(newest["number"], 16) + 1, int(newest["timestamp"], 16) + self._step + later
        attributes = self._geth.attributes(number, time)
        await self._geth.ask("testing_commitBlockV1", attributes, None, None)

    @asynccontextmanager
    async def mining(self, block_seconds: float) -> AsyncIterator[GethMiner]:
        """Make blocks as long as this is open, with so many seconds between them."""
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                while True:
                    await self.make()
                    await trio.sleep(block_seconds)

            await self.make()
            nursery.start_soon(run)
            yield self
            nursery.cancel_scope.cancel()
