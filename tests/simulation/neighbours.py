"""Three nodes in a line on real sockets, for tests of what programs and people do with the payment network.

alice ──10,000,000──▶ bob ──10,000,000──▶ carol
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.values.arguments import checked
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.node.running import open_node
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.testing.local import LocalChain

DEPOSIT = 10_000_000
PATIENCE = 120
"""Seconds after which it is given up."""


@checked
@asynccontextmanager
async def a_line(
    directory: Path, assets: Sequence[Address] = (NATIVE,), config: Config | None = None
) -> AsyncIterator[tuple[Node, Node, Node]]:
    """Run alice, bob and carol on a chain with 50 blocks per second; all know of both channels, in each asset."""
    keys = [PrivateKey(bytes([number]) * 32) for number in (1, 2, 3)]
    chain = LocalChain(funds={key.address: 10**18 for key in keys}, settings=ChainSettings(dev=True, interval=0.02))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chain.run)
            async with (
                open_node(directory / "alice", key=keys[0], chain=chain, config=config) as alice,
                open_node(directory / "bob", key=keys[1], chain=chain, config=config) as bob,
                open_node(directory / "carol", key=keys[2], chain=chain, config=config) as carol,
            ):
                for asset in assets:
                    for key in keys if asset != NATIVE else ():
                        chain.fund(key.address, 10**18, asset)
                    first = await alice.open_channel(str(bob.listening), DEPOSIT, asset=asset)
                    second = await bob.open_channel(str(carol.listening), DEPOSIT, asset=asset)
                    for node in (alice, bob, carol):
                        await node.until(partial(_knows, node, asset, (first.id, second.id)))
                yield alice, bob, carol
            nursery.cancel_scope.cancel()


def _knows(node: Node, asset: Address, channels: tuple[ChannelId, ...]) -> bool:
    asset_graphs = node.routing.maps
    return asset in asset_graphs and all(len(asset_graphs.graph(asset).slots_of(channel)) == 2 for channel in channels)
