"""What the network looks like from outside: nodes, channels, directions, routes.

A node is its public key (33 bytes, compressed secp256k1); its address on chain follows from it. A channel has two
directions; the one from side 0 of its terms is direction 0. Amounts are in the asset's smallest unit (any whole number
below 2**128), times are chain time in seconds.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, NewType, TypeAlias, cast

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.values.argument_rules import Hex, refuse

NodeKey = NewType("NodeKey", bytes)
"""33 bytes: a node's compressed public key."""


NODES_KNOWN = 1_000
"""Keys that were found to be points, and are taken without another look: who pays, pays some nodes again and again."""


@functools.lru_cache(NODES_KNOWN)
def _point(data: bytes) -> NodeKey:
    """Return a node's key; raise InvalidInput if it is no point of the curve."""
    return NodeKey(bytes(PublicKey(data)))


class _Node:
    """A node's key: a point of the curve, in 33 bytes."""

    expects = "a node's public key: a PublicKey, 33 bytes, or 66 hex digits"

    def take(self, value: Any, name: str) -> Any:
        """See `Rule`."""
        try:
            return NodeKey(bytes(value)) if isinstance(value, PublicKey) else _point(_KEY.take(value, name))
        except InvalidInput:
            raise refuse(name, self.expects, value) from None


_KEY = Hex(33)
_NODE = _Node()
AnyNode: TypeAlias = Annotated[NodeKey | PublicKey | str, _NODE]
"""A node, by its public key."""


def to_node(value: NodeKey | PublicKey | str, name: str = "to") -> NodeKey:
    """Return a node's key that was given in any way; raise InvalidInput if it is none."""
    return cast(NodeKey, _NODE.take(value, name))


Key33 = Annotated[NodeKey, msgspec.Meta(min_length=33, max_length=33)]

MILLION = 1_000_000
UINT32_MAX = 2**32 - 1
"""Largest `fee_ppm` and `margin` of a policy that is announced."""
MARGIN_MAX = 6 * 86_400
"""Largest `margin` that payers leave: a day less than the time for which forwarders let money be bound."""


class ForwardingPolicy(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """What one node asks for carrying a payment over one of its channels, outwards."""

    base_fee: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Per payment."""
    fee_ppm: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Per million units carried."""
    minimum: Annotated[int, msgspec.Meta(ge=0)] = 1
    """Smallest amount that is carried."""
    maximum: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Largest amount of one lock; 0: as much as there is."""
    margin: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Seconds that a lock has to have left when it is sent out over the channel, if that is more than the node asks for
    anyway. All locks of a payment share one expiry (PROTOCOL section 3): the payer leaves the largest on its way."""
    enabled: bool = True

    def flaw(self) -> str:
        """Return why this policy cannot be announced, as a sentence; empty if it can."""
        if not all(0 <= amount <= AMOUNT_MAX for amount in (self.base_fee, self.minimum, self.maximum)):
            return "the amounts of a policy must be whole numbers below 2**128"
        if not all(0 <= number <= UINT32_MAX for number in (self.fee_ppm, self.margin)):
            return "fee_ppm and margin of a policy must be whole numbers below 2**32"
        return ""

    def fee(self, amount: int) -> int:
        """Return what carrying `amount` onwards costs."""
        return self.base_fee + amount * self.fee_ppm // MILLION

    @property
    def usable(self) -> bool:
        """Whether it lets anything through: switched on, with a margin that payers leave."""
        return self.enabled and self.margin <= MARGIN_MAX

    def carries(self, amount: int) -> bool:
        """Whether one lock of `amount` is within the policy."""
        return self.usable and amount >= self.minimum and (not self.maximum or amount <= self.maximum)


class Edge(msgspec.Struct, frozen=True, array_like=True):
    """One direction of a channel, as a path search sees it."""

    channel: ChannelId
    source: NodeKey
    target: NodeKey
    capacity: int
    """Of the whole channel, both directions together."""
    policy: ForwardingPolicy


class Hop(msgspec.Struct, frozen=True, array_like=True):
    """One lock of a route: `amount` goes over `channel` to `node`."""

    channel: ChannelId
    node: NodeKey
    amount: int


class Route(msgspec.Struct, frozen=True, array_like=True):
    """Locks from the payer to the payee, in order; amounts fall by each forwarder's fee. At least one hop."""

    hops: tuple[Hop, ...]

    @property
    def delivered(self) -> int:
        """What reaches the payee."""
        return self.hops[-1].amount

    @property
    def fee(self) -> int:
        """What the forwarders keep."""
        return self.hops[0].amount - self.hops[-1].amount
