"""A hub on a real node that closes all its channels at once, with batches and without: what a close costs.

    PYTHONPATH=tests python -m simulation.evm_hub --channels 100

Nodes in this process: a hub, and peers that share its channels between them. Anvil mines a block each second.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import trio

from simulation.local_evm import LocalEvm, open_local_evm
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import Address
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.options import Config
from tallystick.sdk.node.running import open_node
from tallystick.settlement.chain import CooperativelyClosed
from tallystick.settlement.ethereum.event_logs import topic_of
from tallystick.settlement.ethereum.evm.client import open_evm_chain

DEPOSIT = 10**15
SECONDS = 900


class Closing(NamedTuple):
    """How many channels were closed, and what that took."""

    channels: int
    transactions: int
    gas: int

    @property
    def each(self) -> int:
        """Gas of one close."""
        return self.gas // max(1, self.channels)


@contextlib.asynccontextmanager
async def living(evm: LocalEvm, directory: Path, name: str, *, together: int) -> AsyncIterator[Node]:
    """Open a node that sends at most so many calls in one transaction."""
    key = PrivateKey(keccak(name.encode()))
    evm.anvil.fund(key.address)
    config = Config(confirmations=1, challenge_period=600, start_block=evm.start)
    async with (
        open_evm_chain((evm.anvil.url,), evm.at, jitter=lambda: 0.5, start=evm.start) as chain,
        open_node(directory / name, key=key, chain=chain, config=config) as node,
    ):
        sender = node.onchain.sender
        sender.policy = msgspec.structs.replace(sender.policy, together=together)
        yield node


async def close_all(evm: LocalEvm, directory: Path, channels: int, together: int = 32, peers: int = 10) -> Closing:
    """Open so many channels, close them all at once, and return what that took."""
    hub_name = f"a hub of {together}"
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(living(evm, directory, hub_name, together=together))
        others = [
            await stack.enter_async_context(living(evm, directory, f"peer {number} of {together}", together=1))
            for number in range(min(peers, channels))
        ]

        async def open_some(peer: Node, count: int) -> None:
            for _ in range(count):
                await hub.open_channel(str(peer.peer_address), deposit=DEPOSIT)

        async with trio.open_nursery() as nursery:
            for number, peer in enumerate(others):
                nursery.start_soon(open_some, peer, len(range(number, channels, len(others))))
        before = int(evm.anvil.ask("eth_blockNumber"), 16)
        async with trio.open_nursery() as nursery:
            for channel in hub.channels:
                nursery.start_soon(channel.close)
        await hub.until(lambda: all(channel.phase is Phase.GONE for channel in hub.channels))
        return _took(evm, before + 1, hub.address)


def _took(evm: LocalEvm, first: int, sender: Address) -> Closing:
    """Return what an account's transactions took that closed channels, by the node's own word."""
    logs = evm.anvil.ask(
        "eth_getLogs",
        {
            "address": f"0x{evm.at.contract.hex()}",
            "fromBlock": hex(first),
            "toBlock": "latest",
            "topics": [f"0x{topic_of(CooperativelyClosed).hex()}"],
        },
    )
    made = [evm.anvil.ask("eth_getTransactionReceipt", hash) for hash in {log["transactionHash"] for log in logs}]
    own = [receipt for receipt in made if receipt["from"] == f"0x{sender.hex()}"]
    closed = sum(log["transactionHash"] in {receipt["transactionHash"] for receipt in own} for log in logs)
    return Closing(closed, len(own), sum(int(receipt["gasUsed"], 16) for receipt in own))


async def compare(channels: int) -> tuple[Closing, Closing]:
    """Return what closing takes alone, and together."""
    with (
        open_local_evm("--block-time", "1") as evm,
        tempfile.TemporaryDirectory() as directory,
        trio.fail_after(SECONDS),
    ):
        alone = await close_all(evm, Path(directory), channels, together=1)
        return alone, await close_all(evm, Path(directory), channels)


def main() -> int:
    """Say what was measured."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--channels", type=int, default=100)
    alone, together = trio.run(compare, arguments.parse_args().channels)
    for name, found in (("alone", alone), ("together", together)):
        print(f"{name:9} {found.channels} closes in {found.transactions} transactions: {found.each:,} gas each")
    return int(together.each >= alone.each)


if __name__ == "__main__":
    sys.exit(main())
