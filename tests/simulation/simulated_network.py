"""The payment network as a whole: whole nodes by the dozen, real fees and distances, crashes, cuts and cheats.

    PYTHONPATH=tests python -m simulation.simulated_network --graph GRAPH --nodes 100 --payments 2000 --seed 1

A core of a graph file (the best connected nodes and their largest channels) is rebuilt as nodes of this product, with
the file's policies and half of each channel's money on either side. Random pairs pay each other invoices while nodes
crash and links are cut, and some forwarders cheat (`CHEATS`), unless told otherwise two. Then everything heals:
each payment must have ended paid or unpaid, and all invariants hold (`invariants`, `solvency`). One seed is one run.
Amounts are in the file's unit (msat for Lightning's). With `--tokens N`, every channel is there once more in each of so
many tokens, and payments are in all of these assets.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import trio

from simulation.invariants import check_always, check_settled, unsettled
from simulation.mallory import (
    Tamper,
    drop_locks,
    flood,
    garble_onions,
    garble_reasons,
    play_late,
    withhold,
)
from simulation.solvency import check_circuits, check_payments, ledgers
from tallystick.channels.errors import InvalidInput, TallystickError
from tallystick.channels.protocol.messages import Ack, Reveal
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.testing.scheduling import rare_collections, simulate
from tallystick.router.errors import PaymentFailed
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.network.routing import PaymentOptions
from tallystick.router.objects import Edge, ForwardingPolicy, NodeKey
from tallystick.router.pathfinding.imports import read_graph
from tallystick.router.receiving.issued import InvoiceRecord
from tallystick.router.sending.payments import PAYMENTS
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.testing.audit import Violation
from tallystick.sdk.testing.world import World, open_world

LATE = 45.0
"""Seconds by which secrets come late."""

CHEATS: dict[str, Callable[[World, str, random.Random], Tamper]] = {
    "withholds secrets": lambda world, name, rng: withhold(Reveal),
    "garbles reasons": lambda world, name, rng: garble_reasons,
    "garbles onions": lambda world, name, rng: garble_onions,
    "drops locks": lambda world, name, rng: drop_locks,
    "plays secrets late": lambda world, name, rng: play_late(LATE, Reveal),
    "withholds acks": lambda world, name, rng: withhold(Ack),
    "floods with gossip": flood,
}
"""What a forwarder may do to others, by name."""

DEGREE = 6
"""A channel between two nodes that both have so many is left out, unless it joins what is apart."""
DOWN = 4.0
"""Seconds that a crashed node stays down, at most."""
REST = 20_000.0
"""Seconds within which a healed network comes to rest."""


class PlannedChannel(msgspec.Struct, frozen=True):
    """A channel to be opened between two nodes, by their numbers. Policies are what each asks for towards the other."""

    one: int
    other: int
    capacity: int
    policies: tuple[ForwardingPolicy, ForwardingPolicy]
    asset: Address = NATIVE


class NetworkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What happens in a network."""

    nodes: int
    payments: int
    rate: float = 20.0
    """Payments begun per second."""
    amounts: tuple[int, int] = (10_000, 100_000_000)
    """The smallest and the largest, evenly by magnitude."""
    faults: float = 0.02
    """Crashes, and as many cuts, per payment begun."""
    interval: float = 30.0
    """Seconds between blocks."""
    cheats: tuple[str, ...] = ("withholds secrets", "garbles reasons")
    """Names of CHEATS, one for each forwarder that cheats."""
    tokens: int = 0
    """Assets besides the coin."""

    @property
    def assets(self) -> list[Address]:
        """The coin and the tokens."""
        return [NATIVE, *(Address(bytes([number]) * 20) for number in range(1, self.tokens + 1))]


class NetworkReport(msgspec.Struct, frozen=True):
    """How it went."""

    seed: int
    trace: str
    """Hash of everything that happened."""
    events: int
    nodes: int
    channels: int
    payments: int
    """That somebody began."""
    paid: int
    paid_in: dict[str, int]
    """The same by asset."""
    unpaid: dict[str, int]
    """By reason."""
    forwarded: int
    """Locks that somebody passed on, and were paid."""
    attempts: int
    crashes: int
    cuts: int
    virtual_seconds: float
    seconds: dict[str, float]
    """Real time by phase."""


def core_of(edges: Sequence[Edge], nodes: int) -> list[PlannedChannel]:
    """Return the channels between the best connected nodes of a graph: the largest, and what holds them together."""
    ways: dict[ChannelId, list[Edge]] = {}
    for edge in edges:
        if edge.policy.enabled:
            ways.setdefault(edge.channel, []).append(edge)
    usable = [edge for both in ways.values() if len(both) == 2 for edge in both]
    number = {node: index for index, node in enumerate(_centre(usable, nodes))}
    pairs: dict[tuple[NodeKey, NodeKey], dict[ChannelId, list[Edge]]] = {}
    for edge in usable:
        if edge.source in number and edge.target in number:
            pair = (min(edge.source, edge.target), max(edge.source, edge.target))
            pairs.setdefault(pair, {}).setdefault(edge.channel, []).append(edge)
    largest = [max(channels.values(), key=lambda both: both[0].capacity) for channels in pairs.values()]
    group = list(range(nodes))
    count = [0] * nodes
    planned_channels: list[PlannedChannel] = []
    for both in sorted(largest, key=lambda both: (-both[0].capacity, both[0].channel)):
        first, second = both
        one, other = number[first.source], number[first.target]
        joins = group[one] != group[other]
        if not joins and min(count[one], count[other]) >= DEGREE // 2 and max(count[one], count[other]) >= DEGREE:
            continue
        group = [group[one] if each == group[other] else each for each in group]
        count[one] += 1
        count[other] += 1
        planned_channels.append(PlannedChannel(one, other, first.capacity, (first.policy, second.policy)))
    return planned_channels


def _centre(edges: Sequence[Edge], nodes: int) -> list[NodeKey]:
    """Return the best connected node, and again and again the best connected neighbour of those that are there."""
    beside: dict[NodeKey, set[NodeKey]] = {}
    for edge in edges:
        beside.setdefault(edge.source, set()).add(edge.target)

    def place(node: NodeKey) -> tuple[int, NodeKey]:
        return -len(beside[node]), node

    waiting = [min(map(place, beside))]
    seen, chosen = {waiting[0][1]}, list[NodeKey]()
    while waiting and len(chosen) < nodes:
        node = heapq.heappop(waiting)[1]
        chosen.append(node)
        for other in beside[node] - seen:
            heapq.heappush(waiting, place(other))
        seen |= beside[node]
    if len(chosen) < nodes:
        raise InvalidInput(f"only {len(chosen)} nodes of the graph hang together: ask for fewer")
    return chosen


def made_up(nodes: int, rng: random.Random) -> list[PlannedChannel]:
    """Return a ring with chords, for when there is no graph file."""
    pairs = {(index, (index + 1) % nodes) for index in range(nodes)}
    pairs |= {(index, (index + nodes // 3) % nodes) for index in range(nodes)}

    def policy() -> ForwardingPolicy:
        return ForwardingPolicy(base_fee=rng.choice((0, 1_000)), fee_ppm=rng.choice((0, 1, 100, 1_000, 2_500)))

    return [PlannedChannel(one, other, 10 ** rng.choice((9, 10)), (policy(), policy())) for one, other in sorted(pairs)]


class SimulatedNetwork:
    """One network under load and faults."""

    def __init__(
        self, world: World, plan: NetworkPlan, planned_channels: Sequence[PlannedChannel], rng: random.Random
    ) -> None:
        self.world = world
        self.plan = plan
        self.planned_channels = planned_channels
        self.rng = rng
        self.names = tuple(world.seats)
        self.cheats = dict(zip(self.names[1:], plan.cheats, strict=False))
        """Who does what. All of them forward much: numbers go by degree."""
        self.counts: Counter[str] = Counter()
        self._asked = 0

    async def build(self) -> None:
        """Start the nodes, open the channels, and wait until everybody knows of all."""
        async with trio.open_nursery() as nursery:
            for name in self.names:
                nursery.start_soon(self.world.start, name)
        async with self.world.brisk():
            for asset in self.plan.assets:  # one after the other: a node answers one opening of a peer's at a time
                async with trio.open_nursery() as nursery:
                    for planned in self.planned_channels:
                        if planned.asset == asset:
                            nursery.start_soon(self._open, planned)
        if not await self.world.until(lambda: not self._unknown(), REST):
            raise Violation(f"gossip did not reach everybody: {self._unknown()}")
        for _ in range(int(REST / 20)):
            if not unsettled(self.world, list(self.names)):
                return
            await trio.sleep(20.0)
        raise Violation(f"the network is not at rest from the start: {unsettled(self.world, list(self.names))[:5]}")

    def _unknown(self) -> list[str]:
        """Return who does not know all channels, and in which assets."""
        directions = {
            asset: 2 * sum(planned.asset == asset for planned in self.planned_channels) for asset in self.plan.assets
        }
        return [
            f"{name}: {len(asset_graphs.graph(asset))} of {count} in 0x{asset.hex()}"
            for name in self.names
            for asset_graphs in [self.world.node(name).routing.maps]
            for asset, count in directions.items()
            if asset not in asset_graphs or len(asset_graphs.graph(asset)) < count
        ]

    async def _open(self, planned: PlannedChannel) -> None:
        one, other = (self.world.node(self.names[number]) for number in (planned.one, planned.other))
        peer = self.world.address(self.names[planned.other])
        handle = await one.open_channel(peer, planned.capacity // 2, asset=planned.asset)
        await other.until(lambda: any(channel.id == handle.id for channel in other.channels))
        await other.channel(handle.id).wait_usable()
        await other.channel(handle.id).deposit(planned.capacity // 2)
        for node, policy in zip((one, other), planned.policies, strict=True):
            await node.routing.set_policy(handle.id, policy)

    async def live(self) -> None:
        """Begin all payments, with faults among them."""
        for name, cheat in self.cheats.items():
            rng = random.Random(f"{self.world.seed}/{name}")
            self.world.seats[name].tamper = CHEATS[cheat](self.world, name, rng)
        for _ in range(self.plan.payments):
            await trio.sleep(self.rng.expovariate(self.plan.rate))
            await self._pay()
            draw = self.rng.random() / self.plan.faults if self.plan.faults else 2.0
            if draw < 1:
                await self._crash()
            elif draw < 2:
                self._cut()

    async def _pay(self) -> None:
        payer, payee = self.rng.sample(self.names, 2)
        least, most = self.plan.amounts
        amount = int(least * (most / least) ** self.rng.random())
        asset = self.rng.choice(self.plan.assets)
        if not (self.world.is_up(payer) and self.world.is_up(payee)):
            self.counts["nobody there"] += 1
            return

        async def pay(node: Node) -> None:
            try:
                await node.routing.paying.pay(invoice.text, timeout=60.0)
            except PaymentFailed:
                return

        try:
            routing = self.world.node(payee).routing
            invoice: InvoiceRecord = await routing.invoicing.create_invoice(amount, lifetime=86_400, asset=asset)
        except TallystickError:  # it crashed in that very moment
            return
        self.world.attempt(payer, pay)

    async def _crash(self) -> None:
        name = self.rng.choice(self.names)
        life = self.world.seats[name].life
        if life is None or not self.world.is_up(name):
            return
        self.counts["crashes"] += 1
        life.gate.aim(self.rng.randrange(20), after=self.rng.random() < 0.5)
        assert life.nursery is not None and self.world._nursery is not None
        self.world._nursery.start_soon(self._return, name, self.rng.uniform(1.0, DOWN))

    async def _return(self, name: str, seconds: float) -> None:
        """Bring a node back some time after it died; one whose time has not come is ended there."""
        life = self.world.seats[name].life
        with trio.move_on_after(DOWN):
            while life is not None and not life.ended.is_set():
                await life.ended.wait()
        await self.world.crash(name)
        await trio.sleep(seconds)
        await self.world.start(name)

    def _cut(self) -> None:
        planned = self.rng.choice(self.planned_channels)
        one, other = (self.world.seats[self.names[number]].key.public for number in (planned.one, planned.other))
        self.counts["cuts"] += self.world.network.cut(one, other)

    async def rest(self) -> None:
        """Heal, wait for rest, and check everything."""
        await trio.sleep(60.0)
        check_circuits(self.world)
        for name in self.cheats:
            self.world.seats[name].tamper = None
            self.world.network.cut(self.world.seats[name].key.public)
        self.world.heal()
        for name in self.names:
            if not self.world.is_up(name):
                await self.world.start(name)
        names = list(self.names)
        for _ in range(int(REST / 20)):
            busy = any(len(self.world.node(name).routing.outgoing) for name in names)
            if not busy and not unsettled(self.world, names):
                break
            await trio.sleep(20.0)
        check_always(self.world)
        check_settled(self.world, names)
        check_payments(self.world)


def run_network(
    plan: NetworkPlan, seed: int, planned_channels: Sequence[PlannedChannel] = (), pings: Sequence[float] = ()
) -> NetworkReport:
    """Run a network; raise Violation if anything is wrong. `pings`: round trips in seconds to draw distances from."""
    rng = random.Random(seed)
    places = tuple(f"n{number}" for number in range(plan.nodes))
    planned_channels = planned_channels or made_up(plan.nodes, rng)
    planned_channels = [
        msgspec.structs.replace(planned, asset=asset) for asset in plan.assets for planned in planned_channels
    ]
    marks = [time.perf_counter()]

    async def main() -> NetworkReport:
        config = Config(
            challenge_period=600,
            routing=RoutingOptions(policies=dict.fromkeys(plan.assets[1:], ForwardingPolicy())),
            payments=PaymentOptions(lock_seconds=900, fee_percent=5),
        )
        async with open_world(
            seed, config=config, interval=plan.interval, delay=(0.0005, 0.002), names=places
        ) as world:
            for planned in planned_channels if pings else ():
                ends = frozenset(world.seats[places[number]].key.public for number in (planned.one, planned.other))
                world.network.distances[ends] = rng.choice(pings) / 2
            for asset in plan.assets[1:]:
                world.give_everybody(asset)
            network = SimulatedNetwork(world, plan, planned_channels, rng)
            for phase in (network.build, network.live, network.rest):
                await phase()
                marks.append(time.perf_counter())
            return _report(network, seed, marks)

    with rare_collections():
        return simulate(main, seed)


def _report(network: SimulatedNetwork, seed: int, marks: list[float]) -> NetworkReport:
    books = ledgers(network.world)
    records = [record for book in books.values() for record in book.payments]
    stores = [seat.audit.store for seat in network.world.seats.values() if seat.audit.store is not None]
    attempts = sum(store.read(PAYMENTS.tables[1].groups())[0][0] for store in stores)
    return NetworkReport(
        seed=seed,
        trace=network.world.trace.digest(),
        events=network.world.trace.events,
        nodes=network.plan.nodes,
        channels=len(network.planned_channels),
        payments=len(records),
        paid=sum(record.is_paid for record in records),
        paid_in=dict(Counter("0x" + record.order.asset.hex() for record in records if record.is_paid)),
        unpaid=dict(Counter(str(record.reason) for record in records if not record.is_paid)),
        forwarded=sum(network.world.node(name).routing.router.statistics().forwarded for name in network.names),
        attempts=attempts,
        crashes=network.counts["crashes"],
        cuts=network.counts["cuts"],
        virtual_seconds=trio.current_time(),
        seconds={
            name: round(after - before, 2)
            for name, before, after in zip(("build", "pay", "rest"), marks, marks[1:], strict=False)
        },
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one network and print its report as JSON."""
    parser = argparse.ArgumentParser(description="Run a payment network of whole nodes in virtual time.")
    parser.add_argument("--graph", type=Path, help="a graph file: LND's, Core Lightning's or CSV")
    parser.add_argument("--pings", type=Path, help="round trips in milliseconds, one a line")
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--payments", type=int, default=200)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--faults", type=float, default=0.02)
    parser.add_argument("--tokens", type=int, default=0, help="assets besides the coin")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cheats", nargs="*", choices=CHEATS, default=list(CHEATS)[:2])
    chosen = parser.parse_args(arguments)
    plan = NetworkPlan(
        nodes=chosen.nodes,
        payments=chosen.payments,
        rate=chosen.rate,
        faults=chosen.faults,
        tokens=chosen.tokens,
        cheats=tuple(chosen.cheats),
    )
    planned_channels = core_of(read_graph(chosen.graph.read_bytes()).edges, plan.nodes) if chosen.graph else ()
    pings = [float(line) / 1e3 for line in chosen.pings.read_text().split()] if chosen.pings else ()
    print(msgspec.json.encode(run_network(plan, chosen.seed, planned_channels, pings)).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
