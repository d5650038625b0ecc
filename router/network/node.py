"""The node that takes part in the payment network, as all parts of this room see it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tallystick.channels.node.alarms import OnAlarm
from tallystick.channels.node.engine import Engine
from tallystick.channels.node.peers import Peers
from tallystick.channels.ports import Clock, Entropy
from tallystick.channels.protocol.eip712 import domain_separator
from tallystick.router.forwarding.ports import NodeChannels
from tallystick.router.network.options import PaymentOptions
from tallystick.router.objects import NodeKey
from tallystick.settlement.port import Chain


@dataclass(frozen=True, kw_only=True, repr=False)
class LocalNode:
    """What a node gives the payment network: who it is, its channels, its disk, its owner's wishes."""

    chain: Chain
    engine: Engine
    peers: Peers
    options: PaymentOptions
    clock: Clock
    steady: Clock
    """Shows at the start what `clock` does, and is never set."""
    entropy: Entropy
    alarm: OnAlarm

    @cached_property
    def own(self) -> NodeKey:
        """Its name in the network."""
        return NodeKey(bytes(self.engine.key.public))

    @cached_property
    def domain(self) -> bytes:
        """The EIP-712 domain separator of its adjudicator."""
        return domain_separator(self.chain.chain_id, self.chain.contract)

    @cached_property
    def channels(self) -> NodeChannels:
        """Its channels."""
        return NodeChannels(self.engine)
