"""What a node owns, in its account and in its channels, both at one block: so that nothing is counted twice."""

from __future__ import annotations

import trio

from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.objects import Address
from tallystick.sdk.node.node import Node
from tallystick.settlement.chain import CLOSED, OPEN, ContractChannel

TRIES = 5
"""Times that the account is asked for before a figure is taken that may be a block ahead of the channels'."""

FOLLOW_SECONDS = 2.0
"""How long to wait for a new block to be followed."""


async def holdings(node: Node, asset: Address) -> tuple[int, int]:
    """Return what the node's account holds of an asset, and what is the node's own in channels; raise ChainUnavailable.

    Both are as of the newest block, confirmed or not.
    """
    index = node.onchain.index
    for _ in range(TRIES):
        number = index.head_number
        held = await node.chain.balance(node.address, asset)
        head = (await node.chain.head()).number
        if number == index.head_number == head:
            break
        with trio.move_on_after(FOLLOW_SECONDS):
            await node.until(lambda head=head: index.head_number >= head)  # type: ignore[misc]
    channels = [handle.view.channel for handle in node.channels if handle.asset == asset]
    return held, sum(_own(channel, index.view(channel.id, index.head_number)) for channel in channels)


def _own(channel: Channel, view: ContractChannel | None) -> int:
    """Return what is ours in a channel at the newest block. Pots of a settled one are nobody's yet.

    Of a virtual one what was paid in it, either way, until it ends: what was put in counts where it is locked.
    """
    paid = channel.theirs.simplex.proof.transferred - channel.ours.simplex.proof.transferred
    if channel.is_virtual:
        return paid if channel.phase in (Phase.OPEN, Phase.FROZEN) else 0
    if view is None or view.terms != channel.terms or view.status not in (OPEN, CLOSED) or channel.phase is Phase.GONE:
        return 0
    funding = view.deposits[channel.side] - view.withdrawn[channel.side]
    return funding + paid
