"""The node as a process: `python -m tallystick.settlement.testing.pyevm --port 8545`.

    --block-time SECONDS   between blocks; without it, a block is made for each transaction
    --step SECONDS         of chain time between blocks; without it, chain time is that of the world

It prints its URL, and ends when its standard input does, or by a signal.
"""

from __future__ import annotations

import argparse
import math
import sys
from importlib.metadata import version

import trio

from tallystick.channels.ports import system_clock
from tallystick.settlement.testing.pyevm.chain import RECURSION_LIMIT, PythonChain
from tallystick.settlement.testing.pyevm.methods import DevelopmentNode
from tallystick.settlement.testing.pyevm.server import PythonMiner, serve

CHAIN_ID = 31_337
"""That of development nodes."""


def main() -> None:
    """Read the arguments, and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8545)
    parser.add_argument("--chain-id", type=int, default=CHAIN_ID)
    parser.add_argument("--block-time", type=float, default=0.0)
    parser.add_argument("--step", type=int, default=0)
    options = parser.parse_args()
    sys.setrecursionlimit(RECURSION_LIMIT)
    node = DevelopmentNode(PythonChain(options.chain_id, math.floor(system_clock())), f"py-evm/{version('py-evm')}")
    miner = PythonMiner(node, options.block_time, options.step, system_clock)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, node, miner, options.port, lambda url: print(url, flush=True))
            async for _ in trio.lowlevel.FdStream(0):
                pass
            nursery.cancel_scope.cancel()

    trio.run(run)


if __name__ == "__main__":
    main()
