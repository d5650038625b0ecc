"""Waiting for what takes a moment: a node that was just started, a channel that is not usable yet.

For scripts, and for programs that speak to a node beside them. A wait that is over says what was lacking.
"""

from __future__ import annotations

from pathlib import Path

import trio

from tallystick.sdk.control.client import ControlClient, connect_control
from tallystick.sdk.control.views import ChannelInfo, NodeInfo
from tallystick.sdk.errors import ControlError, NodeUnreachable

POLL_SECONDS = 0.1
"""Between two questions."""


async def wait_for_node(directory: Path, timeout: float) -> NodeInfo:
    """Return what the node in `directory` is, once it answers and knows the chain as it is now.

    `timeout` in seconds; then raise NodeUnreachable if none answers, ControlError if it does not know the chain.
    """
    lacking: ControlError = NodeUnreachable(f"no node runs in {directory}: start it with `tally node run`")
    with trio.move_on_after(timeout):
        while True:
            try:
                async with connect_control(directory) as node:
                    found = await node.info()
            except ControlError as error:  # also one that was killed, whose control files are still there
                lacking = error
            else:
                if found.ready:
                    return found
                lacking = ControlError(
                    "the node runs, and does not know the chain as it is now: see its alarms (`tally node info`), and "
                    "whether its chain node runs"
                )
            await trio.sleep(POLL_SECONDS)
    raise type(lacking)(f"{lacking} (waited {timeout:g} s)")


async def wait_for_channel(
    node: ControlClient, name: str, *, spendable: int, receivable: int, timeout: float
) -> ChannelInfo:
    """Return a channel once it is open, its peer is connected, and it can send and receive so much.

    `name` is the beginning of its id; "" takes the first channel that will do. Amounts in the asset's smallest unit,
    `timeout` in seconds; then raise ControlError, which says what was lacking.
    """
    channels: list[ChannelInfo] = []
    with trio.move_on_after(timeout):
        while True:
            channels = [found for found in await node.channels() if found.id.startswith(_digits(name))]
            for channel in channels:
                if not _lacking(channel, spendable, receivable):
                    return channel
            await trio.sleep(POLL_SECONDS)
    alive = [channel for channel in channels if channel.phase != "gone"]
    if not alive:
        raise ControlError(f"there is no such channel after {timeout:g} s: `tally channel list --all` shows all")
    reasons = "; ".join(f"{each.id[:8]} {_lacking(each, spendable, receivable)}" for each in alive)
    raise ControlError(f"no channel is usable so after {timeout:g} s: {reasons}")


async def close_all(node: ControlClient, *, wait: bool, timeout: float) -> list[ChannelInfo]:
    """Close all channels that are open with their peers' consent; return them as they are then.

    They are asked for together, so that closes that are agreed upon go to the chain together. `wait`: until all are
    gone; after `timeout` seconds raise ControlError, which says how many are not: these close once their peers agree.
    """
    names = {channel.id for channel in await node.channels() if channel.phase == "open" and not channel.closing}
    for name in names:
        await node.close(name, wait=False)
    with trio.move_on_after(timeout):
        while True:
            found = [channel for channel in await node.channels() if channel.id in names]
            left = [channel for channel in found if channel.phase != "gone"]
            if not wait or not left:
                return found
            await trio.sleep(POLL_SECONDS)
    away = sum(not channel.connected for channel in left)
    raise ControlError(
        f"{len(left)} of {len(names)} channels are not closed after {timeout:g} s, and will be once their peers agree: "
        f"{away} peers are away; `tally channel force-close` closes alone"
    )


def _digits(name: str) -> str:
    return name.lower().removeprefix("0x")


def _lacking(channel: ChannelInfo, spendable: int, receivable: int) -> str:
    """Return in words what a channel lacks, nothing if it is as it should be."""
    if channel.phase != "open":
        awaited = channel.awaited
        if awaited is None:
            return f"is {channel.phase}"
        wanted = "finality" if awaited.wanted is None else awaited.wanted
        return f"is {channel.phase}, with {awaited.seen} confirmations of {wanted}"
    if not channel.connected:
        return "has a peer that is not connected"
    if channel.spendable < spendable:
        return f"can send {channel.spendable}"
    if channel.receivable < receivable:
        return f"can receive {channel.receivable}"
    return ""
