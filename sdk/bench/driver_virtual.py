"""Commands of `driver` about virtual channels, for `bench virtual`: open one, end one, and what is owned meanwhile."""

from __future__ import annotations

import time
from typing import Any

from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.protocol.virtual import VIRTUAL
from tallystick.sdk.bench.driver_network import look_for
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Node


class VirtualDriver:
    """The commands about virtual channels, by name: each method `do_NAME` is one."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def do_connect(self, command: dict[str, Any]) -> dict[str, Any]:
        """Connect to `peer`, and keep the connection."""
        await self.node.connect(command["peer"])
        return {}

    async def do_open_virtual(self, command: dict[str, Any]) -> dict[str, Any]:
        """Open a virtual channel with `stake` of each side with node `to`, `over` hubs; tell the seconds it took."""
        stake, began = command["stake"], time.perf_counter()
        channel = await self.node.open_virtual(command["to"], stake, stake, over=command["over"])
        return {"channel": channel.id.hex(), "seconds": time.perf_counter() - began}

    async def do_end_virtual(self, command: dict[str, Any]) -> dict[str, Any]:
        """Close a virtual `channel`; tell the seconds until nothing is locked for it on this side any more."""
        began = time.perf_counter()
        await self._virtual(command).close()
        return {"seconds": time.perf_counter() - began}

    async def do_free(self, command: dict[str, Any]) -> dict[str, Any]:
        """Wait until no lock of a virtual channel is in any channel here."""
        await look_for(lambda: not any(map(_locks, self._deposited())))
        return {}

    async def do_wealth(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell what is ours in channels with deposits, and how many transactions this node has made."""
        own = sum(handle.balances[0] for handle in self.node.channels if not handle.view.channel.is_virtual)
        return {"own": own, "transactions": await self.node.chain.nonce(self.node.address)}

    def _virtual(self, command: dict[str, Any]) -> ChannelHandle:
        return self.node.channel(ChannelId(bytes.fromhex(command["channel"])))

    def _deposited(self) -> list[Channel]:
        """All channels with deposits that are not gone."""
        channels = [handle.view.channel for handle in self.node.channels]
        return [channel for channel in channels if not channel.is_virtual and channel.phase is not Phase.GONE]


def _locks(channel: Channel) -> int:
    """How many locks of virtual channels there are in a channel, both ways, under way or agreed."""
    return sum(lock.kind == VIRTUAL for lock in (*channel.newest.locks, *channel.theirs.simplex.locks))
