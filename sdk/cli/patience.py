"""Waiting for a peer that is away, without leaving the user in the dark."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import trio

from tallystick.sdk.cli.screen import say

if TYPE_CHECKING:
    from tallystick.sdk.control.client import ControlClient

Result = TypeVar("Result")

SILENT_SECONDS = 2.0
"""How long a command waits without a word."""


async def waiting_aloud(
    node: ControlClient, name: str, meanwhile: str, work: Callable[[], Awaitable[Result]]
) -> Result:
    """Do something in the channel (or with the peer) of that name; say so on stderr if its peer is away meanwhile."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_tell, node, name, meanwhile)
        result = await work()
        nursery.cancel_scope.cancel()
    return result


async def _tell(node: ControlClient, name: str, meanwhile: str) -> None:
    await trio.sleep(SILENT_SECONDS)
    wanted = name.partition("@")[0].lower().removeprefix("0x")
    named = [
        channel
        for channel in await node.channels()
        if wanted in (channel.peer, channel.peer_address.removeprefix("0x")) or channel.id.startswith(wanted)
    ]
    usable = [channel for channel in named if channel.phase == "open" and not channel.closing] or named
    if usable and not any(channel.connected for channel in usable):
        say(f"tally: the peer {usable[0].peer} is away; waiting for it. {meanwhile}", err=True)
