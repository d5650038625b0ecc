"""What payments have taught about where liquidity sits, and what of it parts under way have taken.

Of a channel everybody knows the capacity c; only its owners know the balance x in one direction (c − x in the other).
Before anything is known, x follows a *prior*: uniform, or bimodal (most channels are nearly full at one end, as
measured on real networks). Each part that passes or fails narrows x to [lower, upper): at least `lower` passes, `upper`
does not. What is learned of one direction is mirrored onto the other, and fades: after `half_life` seconds half of it
is left, as others pay, too. Of our own channels the balance is known.

`Knowledge` keeps the beliefs, exact, and writes what follows from them into the columns of the `Graph`, where searches
read it. Beliefs are bounded in number, and survive restarts (`beliefs`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import msgspec

from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.storage.store import Moment
from tallystick.router.objects import Edge, Hop, NodeKey, Route
from tallystick.router.pathfinding.beliefs import BIMODAL, Belief, BeliefLearned, BeliefsForgotten, Prior
from tallystick.router.pathfinding.graph import Direction, Graph, capacity_of
from tallystick.router.pathfinding.steps import Steps

HALF_LIFE = 3600.0
"""Seconds."""

BELIEFS_MAX = 20_000
"""Channels of which something is remembered; beyond, the oldest beliefs are forgotten."""

FORGET_AFTER = 10
"""Half-lives after which a belief is no longer worth its row."""

_STEPS = 32
"""How often per half-life the columns follow the fading."""

_PAUSE = 250
"""Channels whose columns follow before others may work: some 4 ms."""

_PAUSE_FRESH = 4_000
"""The same for slots of which nothing may be known."""

_Place = Direction | NodeKey

_News = Callable[[Belief, int], Belief]
"""What a belief becomes, given the channel's capacity."""


class Knowledge:
    """What is known of liquidity, and what parts under way have taken of it: see the module's docstring. Times are
    chain time in seconds and may not go back by more than a little."""

    def __init__(
        self,
        graph: Graph,
        *,
        prior: Prior = BIMODAL,
        half_life: float = HALF_LIFE,
        beliefs_max: int = BELIEFS_MAX,
    ) -> None:
        self.graph = graph
        self.prior = prior
        self.half_life = half_life
        self.beliefs_max = beliefs_max
        self._beliefs: dict[ChannelId, Belief] = {}
        self._own: dict[Direction, int] = {}
        self._reserved: dict[Direction, int] = {}
        self._penciled: dict[Direction, int] = {}
        self._avoided: dict[_Place, float] = {}
        self._avoided_nodes: dict[_Place, float] = {}
        self._brief: dict[_Place, float] = {}
        """Since when those of the avoided are that may be back at any moment."""
        self._hoping = False
        self._refreshed = -math.inf
        self._changed: set[ChannelId] = set()
        self._forgotten = -math.inf

    def __len__(self) -> int:
        return len(self._beliefs)

    def __repr__(self) -> str:
        return f"<Knowledge beliefs={len(self._beliefs)} reserved={len(self._reserved)} avoided={len(self._avoided)}>"

    # --- what is known -------------------------------------------------------------------------------------------

    def bounds(self, channel: ChannelId, node: NodeKey, now: float) -> tuple[int, int] | None:
        """Return (passes, does not pass) of the direction to `node`, None if it is not in the graph."""
        slot = self.graph.slot(channel, node)
        return None if slot is None else self._bounds(self.graph.edge(slot), now)

    def reserved(self, channel: ChannelId, node: NodeKey) -> int:
        """Return what parts under way have taken of the direction."""
        return self._reserved.get((channel, node), 0)

    def room(self, edge: Edge) -> int:
        """Return the largest lock that may still pass, by all that is known: bounds, and parts under way."""
        if self._avoids((edge.channel, edge.target)):
            return 0
        upper = min(capacity_of(edge) + 1, self._bounds(edge, self._refreshed)[1])
        direction = (edge.channel, edge.target)
        return upper - 1 - self._reserved.get(direction, 0) - self._penciled.get(direction, 0)

    def chance(self, hop: Hop) -> float:
        """Return how probable it is that the hop's direction carries its amount, beside what is reserved."""
        slot = self.graph.slot(hop.channel, hop.node)
        if slot is None:
            return 0.0
        columns = self.graph.columns
        wanted = hop.amount + columns.held[slot]
        if wanted <= columns.lower[slot]:
            return 1.0
        if wanted >= columns.upper[slot]:
            return 0.0
        low, high = columns.share_lower[slot], columns.share_upper[slot]
        return float((high - self.prior.below(wanted * columns.per_capacity[slot])) / (high - low))

    def refreshing(self, now: float) -> Steps[None]:
        """Bring the graph's columns up to date, with pauses: run it before a search. Cheap if little has happened."""
        if now >= self._refreshed + self.half_life / _STEPS or now < self._refreshed:
            self._refreshed = now
            self._forget(now)
            for number, channel in enumerate(list(self._beliefs), start=1):
                self._touch(channel)
                if number % _PAUSE == 0:
                    yield
        fresh, self.graph.fresh = self.graph.fresh, []
        for number, slot in enumerate(fresh, start=1):
            edge = self.graph.occupant(slot)
            if edge is not None and self._knows_of(edge):
                self._write(slot)
            if number % _PAUSE_FRESH == 0:
                yield
        for avoided in (self._avoided, self._avoided_nodes):
            for key in [key for key, until in avoided.items() if until <= now]:
                self._allow(key)

    # --- what happens --------------------------------------------------------------------------------------------

    def own(self, channel: ChannelId, node: NodeKey, spendable: int | None) -> None:
        """Tell what our own channel could carry if none of our payments were under way; None: no longer known."""
        if self._own.get((channel, node)) == spendable:
            return
        if spendable is None:
            self._own.pop((channel, node), None)
        else:
            self._own[channel, node] = spendable
        self._touch(channel)

    def on_passed(self, channel: ChannelId, node: NodeKey, amount: int, now: float) -> None:
        """The direction carried `amount`, or could have, beside what is reserved."""
        self._is_back(channel, node)
        wanted = amount + self.reserved(channel, node)
        self._learn(channel, node, now, lambda belief, capacity: belief.passes(wanted, capacity))

    def on_failed(self, channel: ChannelId, node: NodeKey, amount: int, now: float) -> None:
        """The direction could not carry `amount` beside what is reserved."""
        wanted = amount + self.reserved(channel, node)
        if (channel, node) in self._own:
            self._own[channel, node] = max(0, min(self._own[channel, node], wanted - 1))
            self._touch(channel)
        self._learn(channel, node, now, lambda belief, _: belief.fails(wanted))

    def on_settled(self, route: Route, now: float) -> None:
        """A part was paid: all its directions carried it, and what they carried sits at the other end now."""
        for hop in route.hops:
            self._is_back(hop.channel, hop.node)
            self._moved(hop, now)

    def _moved(self, hop: Hop, now: float) -> None:
        paid, wanted = hop.amount, hop.amount + self.reserved(hop.channel, hop.node)
        self._learn(
            hop.channel, hop.node, now, lambda belief, size: belief.passes(wanted, size).with_payment(paid, size)
        )

    def reserve(self, route: Route) -> None:
        """A part is under way: what it carries is not there for others."""
        self._take(self._reserved, route)

    def release(self, route: Route) -> None:
        """A part has ended, whichever way."""
        self._take(self._reserved, route, -1)

    def pencil_in(self, route: Route) -> None:
        """A plan that is being made has this part: what it carries is not there for the plan's other parts."""
        self._take(self._penciled, route)

    def erase(self, route: Route) -> None:
        """The plan is made, or given up."""
        self._take(self._penciled, route, -1)

    def _take(self, taken: dict[Direction, int], route: Route, times: int = 1) -> None:
        for hop in route.hops:
            direction = (hop.channel, hop.node)
            left = taken.pop(direction, 0) + times * hop.amount
            if left > 0:
                taken[direction] = left
            self._hold(direction)

    # --- what is avoided -----------------------------------------------------------------------------------------

    def avoid(self, channel: ChannelId, node: NodeKey, until: float, since: float | None = None) -> None:
        """Use the direction for nothing until then (`math.inf`: for ever).

        `since`: it failed then, and may be back at any moment. What passes over it is proof that it is.
        """
        self._avoid(self._avoided, (channel, node), until, since)

    def avoid_node(self, node: NodeKey, until: float, since: float | None = None) -> None:
        """Lead nothing to the node until then; `since` as with `avoid`."""
        self._avoid(self._avoided_nodes, node, until, since)

    def _avoid(self, avoided: dict[_Place, float], place: _Place, until: float, since: float | None) -> None:
        if since is None:  # what is avoided for longer than a moment is not hoped for, whatever else happens to it
            self._brief.pop(place, None)
        elif place not in avoided or place in self._brief:
            self._brief[place] = since
        avoided[place] = max(until, avoided.get(place, until))
        self._touch_place(place)
        if len(avoided) > self.beliefs_max:
            self._allow(next(iter(avoided)))

    @property
    def hopes(self) -> bool:
        """Whether anything is avoided that may be back at any moment."""
        return bool(self._brief)

    def failed_since(self, hop: Hop) -> float | None:
        """Return when a hop that may be back at any moment failed last; None if it is not avoided for that."""
        times = [self._brief[key] for key in ((hop.channel, hop.node), hop.node) if key in self._brief]
        return max(times, default=None)

    @contextmanager
    def hoping(self, back: Mapping[Direction, int]) -> Iterator[None]:
        """Know, meanwhile, of nothing that failed for a moment only, and of own channels what they can carry then."""
        own = {direction: self._own.get(direction) for direction in back}
        self._hope(True)
        for direction, spendable in back.items():
            self.own(*direction, spendable)
        try:
            yield
        finally:
            self._hope(False)
            for direction, before in own.items():
                self.own(*direction, before)

    def _hope(self, hoping: bool) -> None:
        self._hoping = hoping
        for place in self._brief:
            self._touch_place(place)

    def _avoids(self, direction: Direction) -> bool:
        """Whether a direction is avoided, by itself or because of where it leads."""
        hoped = self._brief if self._hoping else ()
        return (direction in self._avoided and direction not in hoped) or (
            direction[1] in self._avoided_nodes and direction[1] not in hoped
        )

    def _allow(self, place: _Place) -> None:
        del (self._avoided if isinstance(place, tuple) else self._avoided_nodes)[place]
        self._brief.pop(place, None)
        self._touch_place(place)

    def _is_back(self, channel: ChannelId, node: NodeKey) -> None:
        """Something passed over a direction, to a node."""
        for place in ((channel, node), node) if self._brief else ():
            if place in self._brief:
                self._allow(place)

    # --- what is kept --------------------------------------------------------------------------------------------

    def changes(self, asset: Address = NATIVE) -> list[Moment]:
        """Return what has changed since the last call, to be stored when convenient as what is known of that asset."""
        known = [BeliefLearned(key, self._beliefs[key], asset) for key in sorted(self._changed) if key in self._beliefs]
        gone = [BeliefsForgotten(self._forgotten, asset)] if self._forgotten > -math.inf else []
        self._changed.clear()
        self._forgotten = -math.inf
        return [*gone, *known]

    def restore(self, learned: Iterable[tuple[ChannelId, Belief]], now: float = math.inf) -> None:
        """Take over what was known before a restart. What was learned later than `now`, by another clock, is of now."""
        for channel, belief in learned:
            self._beliefs[channel] = msgspec.structs.replace(belief, time=min(belief.time, now))
            self._touch(channel)

    def reset(self) -> None:
        """Forget everything: what was learned, parts under way, exclusions, own balances."""
        channels = [*self._beliefs, *(channel for channel, _ in (*self._own, *self._reserved))]
        places = [*self._avoided, *self._avoided_nodes]
        for known in (self._beliefs, self._own, self._reserved, self._avoided, self._avoided_nodes, self._changed):
            known.clear()
        self._brief.clear()
        self._forgotten = math.inf
        for channel in channels:
            self._touch(channel)
        for place in places:
            self._touch_place(place)

    def _forget(self, now: float) -> None:
        before = now - FORGET_AFTER * self.half_life
        if len(self._beliefs) > self.beliefs_max:
            times = sorted(belief.time for belief in self._beliefs.values())
            before = max(before, times[len(times) - self.beliefs_max * 7 // 8])
        old = [channel for channel, belief in self._beliefs.items() if belief.time < before]
        for channel in old:
            del self._beliefs[channel]
            self._touch(channel)
        if old:
            self._forgotten = before

    def _learn(self, channel: ChannelId, node: NodeKey, now: float, news: _News) -> None:
        edge = self.graph.get(channel, node)
        if edge is None or (channel, node) in self._own:
            return
        capacity = capacity_of(edge)
        known = self._beliefs.get(channel, Belief(0, capacity + 1, now)).with_fading(capacity, now, self.half_life)
        if edge.source < edge.target:
            known = news(known.with_ends_swapped(capacity), capacity).with_ends_swapped(capacity)
        else:
            known = news(known, capacity)
        self._beliefs[channel] = known
        self._changed.add(channel)
        if len(self._beliefs) > self.beliefs_max + self.beliefs_max // 8:
            self._forget(now)
        self._touch(channel)

    # --- columns -------------------------------------------------------------------------------------------------

    def _bounds(self, edge: Edge, now: float) -> tuple[int, int]:
        own = self._own.get((edge.channel, edge.target))
        if own is not None:
            return own, own + 1
        capacity = capacity_of(edge)
        belief = self._beliefs.get(edge.channel)
        if belief is None:
            return 0, capacity + 1
        belief = belief.with_fading(capacity, now, self.half_life)
        if edge.source < edge.target:
            belief = belief.with_ends_swapped(capacity)
        return belief.lower, belief.upper

    def _touch(self, channel: ChannelId) -> None:
        for slot in self.graph.slots_of(channel):
            self._write(slot)

    def _touch_place(self, place: _Place) -> None:
        for slot in self.graph.slots_of(place[0]) if isinstance(place, tuple) else self.graph.slots_at(place):
            self._write(slot)

    def _knows_of(self, edge: Edge) -> bool:
        direction = (edge.channel, edge.target)
        if edge.channel in self._beliefs or edge.target in self._avoided_nodes:
            return True
        return any(direction in known for known in (self._own, self._reserved, self._penciled, self._avoided))

    def settle(self) -> None:
        """Write what had to wait while a search paused."""
        for slot in self.graph.take_stale():
            self._write(slot)

    def _write(self, slot: int) -> None:
        edge = self.graph.occupant(slot)
        if edge is None or self.graph.wait_with(slot):
            return
        columns, capacity = self.graph.columns, capacity_of(edge)
        direction = (edge.channel, edge.target)
        lower, upper = self._bounds(edge, self._refreshed)
        columns.lower[slot] = float(lower)
        columns.upper[slot] = float(lower if direction in self._own else min(upper, capacity))
        columns.share_lower[slot] = low = self.prior.below(lower / capacity)
        columns.share_upper[slot] = max(self.prior.below(upper / capacity), low + 1e-12)
        columns.held[slot] = self._held(direction)

    def _hold(self, direction: Direction) -> None:
        """What parts under way take of a direction has changed, and nothing else."""
        slot = self.graph.slot(*direction)
        if slot is not None and not self.graph.wait_with(slot):
            self.graph.columns.held[slot] = self._held(direction)

    def _held(self, direction: Direction) -> float:
        if self._avoids(direction):
            return math.inf
        return float(self._reserved.get(direction, 0) + self._penciled.get(direction, 0))
