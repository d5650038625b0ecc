"""The network as a path search reads it: flat columns, patched in place, never rebuilt.

Each direction of a channel has a *slot*, each node an *index*. What kernels read of them stands in `columns`, so that
the same functions run over lists as plain Python and over numpy arrays when compiled (`kernels`). What a route is made
of stands in the slot's `Edge`, exact.

    first_out[node] → slot → next_out[slot] → …    slots that leave a node; first_in and next_in: those that reach it

Only slots that can carry something are in these chains, so a search never meets a channel that is switched off. A new
channel costs O(1), a changed policy O(1), a removal O(degree): no index has to be made anew, whatever gossip says.
Kernels read amounts as floats; whoever makes a route of what they find computes it again in whole numbers.

A search may pause, so that others can work. Meanwhile nothing that it reads may change: `paused` is set, changes wait
(those of channels in order, those of what is known of a slot as a set of slots), and `settle` makes up for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.objects import MILLION, Edge, NodeKey
from tallystick.router.pathfinding.columns import BY_NODE, BY_SLOT, Column, empty_columns, grown
from tallystick.router.pathfinding.inbound import InboundFee

LOCK_RATE = 0.1 / (365 * 86400)
"""What a unit that is locked for a second longer is worth: a tenth per year."""

UNKNOWN_CAPACITY = 2**128
"""Stands for the capacity of a channel that a route hint names without one (0), and without a maximum."""

WAITING_MAX = 10_000
"""Changes that wait for a search that pauses; with that many, it pauses no more."""

_FIRST_ROOM = 64

Direction = tuple[ChannelId, NodeKey]
"""A channel, and the node that this direction of it leads to."""


class Graph:
    """The known network. `compiled` says which kind of columns to keep."""

    def __init__(
        self,
        edges: Iterable[Edge] = (),
        *,
        compiled: bool = False,
        lock_rate: float = LOCK_RATE,
        inbound: Mapping[Direction, InboundFee] | None = None,
    ) -> None:
        self.compiled = compiled
        self.inbound = dict(inbound or {})
        """What a direction's target asks for what comes in over it. Of imported graphs; it stays as it is."""
        self.lock_rate = lock_rate
        self.count = 0
        """All indices of nodes are below this."""
        self.fresh: list[int] = []
        """Slots that were put since someone last emptied this list: what was learned has to be written to them."""
        self.version = 0
        """Changes with everything that may make another route the best one, but for what is learned."""
        self.paused = False
        """Whether a search is in the middle of reading: see the module's docstring."""
        self._waiting: list[Callable[[], None]] = []
        self._stale: set[int] = set()
        self.columns = empty_columns(_FIRST_ROOM, compiled=compiled)
        self._edges: list[Edge | None] = [None] * _FIRST_ROOM
        self._channels: dict[ChannelId, tuple[int, ...]] = {}
        self._indices: dict[NodeKey, int] = {}
        self._nodes: list[NodeKey | None] = [None] * _FIRST_ROOM
        self._uses: list[int] = [0] * _FIRST_ROOM
        self._free_slots = list(range(_FIRST_ROOM - 1, -1, -1))
        self._free_nodes = list(range(_FIRST_ROOM - 1, -1, -1))
        self._hints: dict[Direction, int] = {}
        for edge in sorted(edges, key=_by_source):  # neighbours in memory, too
            self.put(edge)

    def __len__(self) -> int:
        return sum(map(len, self._channels.values()))

    def __iter__(self) -> Iterator[Edge]:
        return (edge for edge in self._edges if edge is not None)

    def __contains__(self, node: NodeKey) -> bool:
        return node in self._indices

    def __repr__(self) -> str:
        return f"<Graph nodes={len(self._indices)} directions={len(self)} compiled={self.compiled}>"

    @property
    def nodes(self) -> list[NodeKey]:
        """All nodes that have a channel."""
        return list(self._indices)

    def get(self, channel: ChannelId, target: NodeKey) -> Edge | None:
        """Return what is known of the channel's direction to `target`."""
        slot = self.slot(channel, target)
        return None if slot is None else self._edges[slot]

    def slot(self, channel: ChannelId, target: NodeKey) -> int | None:
        """Return the slot of a direction, None if it is unknown."""
        for slot in self._channels.get(channel, ()):
            if self.edge(slot).target == target:
                return slot
        return None

    def slots_of(self, channel: ChannelId) -> tuple[int, ...]:
        """Return the slots of a channel's directions."""
        return self._channels.get(channel, ())

    def index(self, node: NodeKey) -> int | None:
        """Return the index of a node, None if it has no channel."""
        return self._indices.get(node)

    def edge(self, slot: int) -> Edge:
        """Return the direction in a slot that is taken."""
        edge = self._edges[slot]
        if edge is None:
            raise LookupError(f"slot {slot} is free")
        return edge

    def occupant(self, slot: int) -> Edge | None:
        """Return the direction in a slot, None if it is free."""
        return self._edges[slot]

    def leaving(self, node: NodeKey) -> Iterator[Edge]:
        """Give the directions that leave a node and can carry something."""
        return (self.edge(slot) for slot in self._chain(node, self.columns.first_out, self.columns.next_out))

    def reaching(self, node: NodeKey) -> Iterator[Edge]:
        """Give the directions that reach a node and can carry something."""
        return (self.edge(slot) for slot in self._chain(node, self.columns.first_in, self.columns.next_in))

    def slots_at(self, node: NodeKey) -> list[int]:
        """Return the slots that leave or reach a node and can carry something."""
        columns = self.columns
        leaving = self._chain(node, columns.first_out, columns.next_out)
        return [*leaving, *self._chain(node, columns.first_in, columns.next_in)]

    # --- changes -------------------------------------------------------------------------------------------------

    def put(self, edge: Edge) -> None:
        """Add a direction, or replace what was known of it."""
        if edge.source == edge.target or self._waits(partial(self.put, edge)):
            return
        self._hints.pop((edge.channel, edge.target), None)
        slot = self.slot(edge.channel, edge.target)
        if slot is not None and self.edge(slot).source != edge.source:
            self.remove(edge.channel, edge.target)
            slot = None
        known = None if slot is None else self._edges[slot]
        if slot is None:
            slot = self._take_slot(edge)
            self._channels[edge.channel] = (*self._channels.get(edge.channel, ()), slot)
        if known is None or known.capacity != edge.capacity:
            self._forget(slot, edge)
        self.version += known != edge
        could = known is not None and _useful(known)
        self._edges[slot] = edge
        self._write(slot, edge)
        if _useful(edge) and not could:
            self._link(slot)
            if known is not None:
                self.fresh.append(slot)  # what was said of its node meanwhile passed it by
        elif could and not _useful(edge):
            self._unlink(slot)

    def drop(self, channel: ChannelId) -> None:
        """Forget a channel."""
        if self._waits(partial(self.drop, channel)):
            return
        for slot in self.slots_of(channel):
            self.remove(channel, self.edge(slot).target)

    def remove(self, channel: ChannelId, target: NodeKey) -> None:
        """Forget one direction of a channel."""
        if self._waits(partial(self.remove, channel, target)):
            return
        slot = self.slot(channel, target)
        if slot is None:
            return
        self.version += 1
        left = tuple(other for other in self._channels[channel] if other != slot)
        if left:
            self._channels[channel] = left
        else:
            del self._channels[channel]
        edge = self.edge(slot)
        if _useful(edge):
            self._unlink(slot)
        self._edges[slot] = None
        self._free_slots.append(slot)
        for node in (edge.source, edge.target):
            index = self._indices[node]
            self._uses[index] -= 1
            if not self._uses[index]:
                del self._indices[node]
                self._nodes[index] = None
                self._free_nodes.append(index)

    def hint(self, edges: Iterable[Edge]) -> None:
        """Add directions that a payee names, for as long as nobody takes them back; what gossip says goes before."""
        edges = tuple(edges)
        if self._waits(partial(self.hint, edges)):
            return
        for edge in edges:
            direction = (edge.channel, edge.target)
            count, known = self._hints.get(direction, 0), self.slot(*direction) is not None
            if not known:
                self.put(edge)
            if count or not known:
                self._hints[direction] = count + 1

    def unhint(self, edges: Iterable[Edge]) -> None:
        """Take back hints: each call undoes one `hint`."""
        edges = tuple(edges)
        if self._waits(partial(self.unhint, edges)):
            return
        for edge in edges:
            direction = (edge.channel, edge.target)
            if direction in self._hints:
                self._hints[direction] -= 1
                if not self._hints[direction]:
                    del self._hints[direction]
                    self.remove(*direction)

    def is_hint(self, channel: ChannelId, target: NodeKey) -> bool:
        """Whether a direction is known from hints alone."""
        return (channel, target) in self._hints

    def revise(self, edge: Edge) -> None:
        """Replace what is known of a direction; one that is there as a hint stays one."""
        if self._waits(partial(self.revise, edge)):
            return
        count = self._hints.get((edge.channel, edge.target))
        self.put(edge)
        if count is not None:
            self._hints[edge.channel, edge.target] = count

    # --- while a search pauses -----------------------------------------------------------------------------------

    @property
    def is_crowded(self) -> bool:
        """Whether so much waits for the search that it should come to an end."""
        return len(self._waiting) >= WAITING_MAX

    def settle(self) -> None:
        """Make the changes that waited: the search has ended."""
        self.paused = False
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            change()

    def wait_with(self, slot: int) -> bool:
        """Whether what is known of a slot must not be written now; it is `stale` then."""
        if self.paused:
            self._stale.add(slot)
        return self.paused

    def take_stale(self) -> set[int]:
        """Return the slots to be written anew, and forget them."""
        stale, self._stale = self._stale, set()
        return stale

    def _waits(self, change: Callable[[], None]) -> bool:
        if self.paused:
            self._waiting.append(change)
        return self.paused

    # --- columns -------------------------------------------------------------------------------------------------

    def _chain(self, node: NodeKey, first: Column, following: Column) -> Iterator[int]:
        index = self._indices.get(node)
        slot = -1 if index is None else int(first[index])
        while slot >= 0:
            yield slot
            slot = int(following[slot])

    def _take_slot(self, edge: Edge) -> int:
        if not self._free_slots:
            self._grow_slots()
        slot = self._free_slots.pop()
        columns = self.columns
        columns.source[slot] = self._take_node(edge.source)
        columns.target[slot] = self._take_node(edge.target)
        return slot

    def _take_node(self, node: NodeKey) -> int:
        index = self._indices.get(node)
        if index is None:
            if not self._free_nodes:
                self._grow_nodes()
            index = self._free_nodes.pop()
            self._indices[node] = index
            self.columns.discount_base[index] = self.columns.discount_share[index] = 0.0
            self._nodes[index] = node
            self.count = max(self.count, index + 1)
        self._uses[index] += 1
        return index

    def _grow_slots(self) -> None:
        room = len(self._edges)
        self._edges += [None] * room
        self._free_slots = list(range(2 * room - 1, room - 1, -1))
        self.columns = grown(self.columns, BY_SLOT, room, compiled=self.compiled)

    def _grow_nodes(self) -> None:
        room = len(self._nodes)
        self._nodes += [None] * room
        self._uses += [0] * room
        self._free_nodes = list(range(2 * room - 1, room - 1, -1))
        self.columns = grown(self.columns, BY_NODE, room, compiled=self.compiled)

    def _forget(self, slot: int, edge: Edge) -> None:
        """Nothing is known of what is in this slot's channel."""
        columns = self.columns
        columns.lower[slot] = columns.share_lower[slot] = columns.held[slot] = 0.0
        columns.upper[slot] = float(capacity_of(edge))
        columns.share_upper[slot] = 1.0
        self.fresh.append(slot)

    def _write(self, slot: int, edge: Edge) -> None:
        columns, policy = self.columns, edge.policy
        share = policy.fee_ppm / MILLION
        columns.base[slot] = float(policy.base_fee)
        columns.share[slot] = share
        columns.weight[slot] = share + policy.margin * self.lock_rate
        columns.minimum[slot] = float(policy.minimum)
        columns.limit[slot] = float(limit_of(edge))
        columns.per_capacity[slot] = 1.0 / max(1, capacity_of(edge))
        fee = self.inbound.get((edge.channel, edge.target))
        columns.inbound_base[slot] = 0.0 if fee is None else float(fee.base)
        columns.inbound_share[slot] = 0.0 if fee is None else fee.rate / MILLION
        if fee is not None:
            node = int(columns.target[slot])
            columns.discount_base[node] = max(columns.discount_base[node], -float(fee.base))
            columns.discount_share[node] = max(columns.discount_share[node], -fee.rate / MILLION)

    def _link(self, slot: int) -> None:
        columns = self.columns
        source, target = int(columns.source[slot]), int(columns.target[slot])
        columns.next_out[slot], columns.first_out[source] = columns.first_out[source], slot
        columns.next_in[slot], columns.first_in[target] = columns.first_in[target], slot
        self._note_only(source, target)

    def _unlink(self, slot: int) -> None:
        columns = self.columns
        source, target = int(columns.source[slot]), int(columns.target[slot])
        _cut(columns.first_out, columns.next_out, source, slot)
        _cut(columns.first_in, columns.next_in, target, slot)
        self._note_only(source, target)

    def _note_only(self, source: int, target: int) -> None:
        columns = self.columns
        columns.only_next[source] = _only(columns.first_out[source], columns.next_out, columns.target)
        columns.only_before[target] = _only(columns.first_in[target], columns.next_in, columns.source)


def capacity_of(edge: Edge) -> int:
    """Return the channel's capacity, a stand-in if it is unknown."""
    return edge.capacity or edge.policy.maximum or UNKNOWN_CAPACITY


def limit_of(edge: Edge) -> int:
    """Return the largest lock that could pass: by policy, and by the channel's capacity."""
    return min(edge.policy.maximum or UNKNOWN_CAPACITY, capacity_of(edge))


def _useful(edge: Edge) -> bool:
    return edge.policy.usable and limit_of(edge) >= edge.policy.minimum


def _by_source(edge: Edge) -> tuple[bytes, bytes, bytes]:
    return edge.source, edge.target, edge.channel


def _only(slot: int, following: Column, ends: Column) -> int:
    """Return the one node at the end of all slots of a chain, -1 if there are several or none."""
    if slot < 0:
        return -1
    found = int(ends[slot])
    while slot >= 0:
        if ends[slot] != found:
            return -1
        slot = following[slot]
    return found


def _cut(first: Column, following: Column, node: int, slot: int) -> None:
    """Take a slot out of a node's chain."""
    if first[node] == slot:
        first[node] = following[slot]
        return
    before = first[node]
    while following[before] != slot:
        before = following[before]
    following[before] = following[slot]
