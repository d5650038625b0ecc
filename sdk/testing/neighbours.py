"""Three nodes in a line on real sockets, for tests of what programs and people do with the payment network.

alice ──10,000,000──▶ bob ──10,000,000──▶ carol
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from tallystick.channels.keys import PrivateKey
from tallystick.channels.objects import ChannelId
from tallystick.sdk.node import Node, open_node
from tallystick.settlement.branch import ChainSettings
from tallystick.settlement.testing.local import LocalChain

DEPOSIT = 10_000_000
PATIENCE = 30
"""Seconds after which it is given up."""


@asynccontextmanager
async def a_line(directory: Path) -> AsyncIterator[tuple[Node, Node, Node]]:
    """Run alice, bob and carol on a chain with 50 blocks per second; all know of both channels."""
    keys = [PrivateKey(bytes([number]) * 32) for number in (1, 2, 3)]
    chain = LocalChain(funds={key.address: 10**18 for key in keys}, settings=ChainSettings(dev=True, interval=0.02))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chain.run)
            async with (
                open_node(directory / "alice", key=keys[0], chain=chain) as alice,
                open_node(directory / "bob", key=keys[1], chain=chain) as bob,
                open_node(directory / "carol", key=keys[2], chain=chain) as carol,
            ):
                first = await alice.open_channel(str(bob.listening), DEPOSIT)
                second = await bob.open_channel(str(carol.listening), DEPOSIT)
                for node in (alice, bob, carol):
                    await node.until(partial(_knows, node, (first.id, second.id)))
                yield alice, bob, carol
            nursery.cancel_scope.cancel()


def _knows(node: Node, channels: tuple[ChannelId, ...]) -> bool:
    return all(len(node.routing.graph.slots_of(channel)) == 2 for channel in channels)
