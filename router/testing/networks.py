"""Random networks, and the balances hidden in a network's channels."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterable

from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.objects import Edge, ForwardingPolicy, NodeKey, Route
from tallystick.router.pathfinding.beliefs import Prior
from tallystick.router.pathfinding.graph import Direction

_STEPS = 2**40
"""Of a share: its quantiles are exact to one."""


def node_key(number: int) -> NodeKey:
    """Return the key of a made-up node (no curve point)."""
    return NodeKey(b"\x02" + number.to_bytes(32, "big"))


def channel_id(number: int) -> ChannelId:
    """Return a made-up channel's id."""
    return ChannelId(number.to_bytes(32, "big"))


def random_network(rng: random.Random, nodes: int, channels: int, *, capacity: int = 10**7) -> list[Edge]:
    """Return both directions of `channels` random channels, of up to `capacity`, with policies as seen in the wild."""
    edges: list[Edge] = []
    for number in range(channels):
        one, other = (node_key(index) for index in rng.sample(range(nodes), 2))
        size = rng.randint(capacity // 10, capacity)
        for source, target in ((one, other), (other, one)):
            policy = ForwardingPolicy(
                base_fee=rng.choice((0, 0, 1, 1000)),
                fee_ppm=rng.choice((0, 1, 10, 100, 500, 1000, 2500)),
                minimum=rng.choice((1, 1, 1000)),
                maximum=rng.choice((0, size, size * 99 // 100, size // 2)),
                margin=rng.choice((0, 0, 3600, 86400)),
                enabled=rng.random() < 0.9,
            )
            edges.append(Edge(channel_id(number), source, target, size, policy))
    return edges


def quantile(prior: Prior, chance: float) -> float:
    """Return the share of the capacity that a balance is under with that probability: what `Prior.below` undoes."""
    return max(0, bisect_left(range(_STEPS), chance, key=lambda step: prior.below(step / _STEPS)) - 1) / _STEPS


class HiddenBalances:
    """What only the owners know: how much each direction can carry."""

    def __init__(self, edges: Iterable[Edge], prior: Prior, rng: random.Random) -> None:
        self.edges = {(edge.channel, edge.target): edge for edge in edges}
        self.balances: dict[Direction, int] = {}
        for (channel, target), edge in sorted(self.edges.items()):
            if (channel, edge.source) in self.balances:
                self.balances[channel, target] = edge.capacity - self.balances[channel, edge.source]
            else:
                self.balances[channel, target] = int(edge.capacity * quantile(prior, rng.random()))

    def lock(self, route: Route) -> int | None:
        """Lock a part hop by hop; return the number of the first hop that refuses (nothing is locked then), or None."""
        for at, hop in enumerate(route.hops):
            if not self._carries(route, at):
                self._unlock(route, at)
                return at
            self.balances[hop.channel, hop.node] -= hop.amount
        return None

    def unlock(self, route: Route) -> None:
        """Take back a part that was locked."""
        self._unlock(route, len(route.hops))

    def settle(self, route: Route) -> None:
        """Pay a part that was locked: what it locked is on the other side now."""
        for hop in route.hops:
            back = (hop.channel, self.edges[hop.channel, hop.node].source)
            if back in self.balances:
                self.balances[back] += hop.amount

    def _unlock(self, route: Route, hops: int) -> None:
        for hop in route.hops[:hops]:
            self.balances[hop.channel, hop.node] += hop.amount

    def _carries(self, route: Route, at: int) -> bool:
        hop = route.hops[at]
        policy = self.edges[hop.channel, hop.node].policy
        if at and route.hops[at - 1].amount < hop.amount + policy.fee(hop.amount):
            return False
        return policy.carries(hop.amount) and self.balances[hop.channel, hop.node] >= hop.amount
