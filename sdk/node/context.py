"""What a channel and its streams, as a program sees them, work with: parts of the node that they belong to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tallystick.channels.node.engine import Engine
from tallystick.settlement.enforcement.onchain import OnChain


@dataclass(frozen=True)
class NodeContext:
    """Parts of one node."""

    engine: Engine
    onchain: OnChain
    until: Callable[[Callable[[], bool]], Awaitable[None]]
    """Returns once a condition holds; it is looked at after each event and each block."""
