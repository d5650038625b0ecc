"""A payment over three hops, and everything that can go wrong on its way: Alice pays Dave through Bob and Carol.

    live_through(fault)     builds the line, lets `fault` happen around one payment, and waits for rest
    count_effects           a dry run: how many effects each node has while the payment is made
    check_crash             a node dies at one of them, returns, and the payer asks again until the payment is made

Whatever happens, at rest nothing pends, nobody has lost or was paid twice, and all records agree (`solvency`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise

import msgspec
import trio

from simulation.crashpoints import Crash
from simulation.invariants import check_always, check_settled, unsettled
from simulation.solvency import check_circuits, check_payments
from tallystick.channels.errors import TallystickError
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.errors import PaymentFailed
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.network.routing import PaymentOptions, PaymentReceipt
from tallystick.router.receiving.issued import InvoiceRecord
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.testing.audit import Violation
from tallystick.sdk.testing.world import World, open_world

LINE = ("alice", "bob", "carol", "dave")
DEPOSIT = 10_000_000
AMOUNT = 50_000
LOCK_SECONDS = 900
INTERVAL = 20.0
"""Seconds between blocks: a payment takes less, so that its effects are its own."""
DOWN = 3.0
"""Seconds that a crashed node stays down."""
AGAIN = 60.0
"""Seconds after which a person asks again for a payment that failed."""
LOOK = 5.0
"""Seconds between two looks at whether all has ended."""
PATIENCE = 4_000.0
"""Seconds within which everything has ended: locks, what was avoided for a while, a challenge period."""


class Journey:
    """The line in a world: Alice's channel with Bob, Bob's with Carol, Carol's with Dave; all know of all."""

    def __init__(self, world: World, asset: Address = NATIVE) -> None:
        self.world = world
        self.asset = asset
        self.errors: list[PaymentFailed] = []
        """What Alice was told, each time that her payment failed."""
        self.receipts: list[PaymentReceipt] = []
        self.dishonest: tuple[str, ...] = ()
        """Who cheats, and may lose by it."""
        self.final: tuple[int, ...] = ()
        """What each node has in its channels in the end."""

    def node(self, name: str) -> Node:
        """Return a running node."""
        return self.world.node(name)

    async def build(self) -> None:
        """Start the nodes, open the channels and wait until everybody knows of everything."""
        if self.asset != NATIVE:
            self.world.give_everybody(self.asset)
        nodes = [await self.world.start(name) for name in LINE]
        for one, other in pairwise(LINE):
            await self.node(one).open_channel(self.world.address(other), DEPOSIT, asset=self.asset)
        channels = {channel.id for node in nodes for channel in node.channels}
        graphs = [node.routing.maps.graph(self.asset) for node in nodes]
        known = await self.world.until(lambda: all(len(graph.slots_of(c)) == 2 for graph in graphs for c in channels))
        if not known:
            raise Violation("gossip did not reach everybody")

    async def invoice(self, amount: int = AMOUNT, *, hold: bool = False) -> InvoiceRecord:
        """Let Dave ask for a payment."""
        return await self.node("dave").routing.invoicing.create_invoice(
            amount, hold=hold, lifetime=86_400, asset=self.asset
        )

    async def held(self) -> InvoiceRecord:
        """Let Alice pay an invoice that Dave holds: return it once its lock has come to him."""
        invoice = await self.invoice(hold=True)
        self.ask(invoice)
        await self.until_held()
        return invoice

    async def until_held(self) -> None:
        """Wait until Dave holds a payment."""
        if not await self.world.until(lambda: bool(self.node("dave").routing.receiving.held_payments), 60):
            raise Violation("the payment has not come to Dave")

    def ask(self, invoice: InvoiceRecord, timeout: float = 30.0) -> None:
        """Let Alice pay in the background; what comes of it is in `receipts` or `errors`."""

        async def pay(node: Node) -> None:
            try:
                self.receipts.append(await node.routing.paying.pay(invoice.text, timeout=timeout))
            except PaymentFailed as error:
                self.errors.append(error)

        if self.world.is_up("alice"):
            self.world.attempt("alice", pay)

    async def insist(self, invoice: InvoiceRecord) -> None:
        """Let Alice ask for the payment until she has the receipt."""
        for _ in range(int(PATIENCE / AGAIN)):
            self.ask(invoice)
            failed = len(self.errors)
            await self.world.until(lambda failed=failed: bool(self.receipts) or len(self.errors) > failed, AGAIN)  # type: ignore[misc]
            if self.receipts:
                return
            await trio.sleep(AGAIN)
        raise Violation(f"the payment cannot be made: {[str(error) for error in self.errors]}")

    def at_rest(self) -> bool:
        """Whether every node is up and nothing pends."""
        return all(self.world.is_up(name) for name in LINE) and not unsettled(self.world, list(LINE))

    async def rest(self) -> None:
        """Wait for rest, and check everything that must hold."""
        await self.world.until(self.at_rest, PATIENCE, every=LOOK)
        await self.world.until(lambda: not self.node("alice").routing.outgoing, PATIENCE, every=LOOK)
        check_always(self.world, dishonest=frozenset(self.dishonest))
        check_settled(self.world, [name for name in LINE if self.world.is_up(name)])
        check_payments(self.world, self.dishonest)
        self.final = self.balances()

    def balances(self) -> tuple[int, ...]:
        """Return what each node has in its channels."""
        return tuple(sum(handle.balances[0] for handle in self.node(name).channels) for name in LINE)


Fault = Callable[[Journey], Awaitable[None]]


def configuration() -> Config:
    """Return how the nodes of the line behave."""
    return Config(challenge_period=600, routing=RoutingOptions(), payments=PaymentOptions(lock_seconds=LOCK_SECONDS))


def live_through(
    fault: Fault,
    seed: int = 1,
    *,
    interval: float = INTERVAL,
    config: Config | None = None,
    asset: Address = NATIVE,
) -> Journey:
    """Let `fault` happen in a fresh world with channels in one asset; wait for rest, check everything, return it."""

    async def main() -> Journey:
        async with open_world(seed, config=config or configuration(), interval=interval, names=LINE) as world:
            journey = Journey(world, asset)
            await journey.build()
            await fault(journey)
            await journey.rest()
            return journey

    return simulate(main, seed)


# --- crashes ----------------------------------------------------------------------------------------------------


class Made(msgspec.Struct, frozen=True):
    """What must not depend on crashes, and how many effects each node had."""

    final: tuple[int, ...]
    effects: dict[str, int]


def make_payment(crash: Crash | None, seed: int = 1, asset: Address = NATIVE) -> Made:
    """Make the payment, with a crash or (None: the dry run) without."""
    made: list[Made] = []

    async def fault(journey: Journey) -> None:
        world = journey.world
        invoice = await journey.invoice()
        lives = {name: world.seats[name].life for name in LINE}
        marks = {name: len(life.gate.effects) for name, life in lives.items() if life is not None}
        victim = lives[crash.name] if crash else None
        if crash is not None and victim is not None:
            victim.gate.aim(crash.index, after=crash.after)
        async with trio.open_nursery() as nursery:
            if crash is not None:
                nursery.start_soon(_revive, journey, crash)
            await journey.insist(invoice)
        await world.until(journey.at_rest, PATIENCE, every=LOOK)
        check_circuits(world)
        effects = {name: len(life.gate.effects) - marks[name] for name, life in lives.items() if life is not None}
        made.append(Made(journey.balances(), effects))

    live_through(fault, seed, asset=asset)
    return made[0]


async def _revive(journey: Journey, crash: Crash) -> None:
    """Wait for the crash, if it comes, and start the node again, perhaps twice."""
    world, life = journey.world, journey.world.seats[crash.name].life
    if life is None or not await world.until(life.ended.is_set, AGAIN):
        return
    check_circuits(world)
    await trio.sleep(DOWN)
    if crash.again is not None:
        second = await world.begin(crash.name)
        second.gate.aim(crash.again, after=False)
        await world.until(second.ended.is_set, AGAIN)
        await world.crash(crash.name)
        check_circuits(world)
    await world.start(crash.name)


def crash_points(effects: dict[str, int], *, every: int = 1) -> Iterator[Crash]:
    """Yield the crashes before and after each effect of each node, or each so-manieth, all kinds in turn."""
    points = [
        Crash(name, index, after=after) for name in LINE for index in range(effects[name]) for after in (False, True)
    ]
    yield from points[::every]


def check_crash(crash: Crash, expected: Made, seed: int = 1, asset: Address = NATIVE) -> None:
    """Make the payment with this crash; raise Violation, with the line that replays it, unless it ends as expected."""
    try:
        made = make_payment(crash, seed, asset)
    except* (Violation, TallystickError) as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise Violation(f"{error}; replay: make_payment({crash}, seed={seed}, asset={asset!r})") from error
    if made.final != expected.final:
        raise Violation(f"{crash} (seed {seed}) ended with {made.final}, not {expected.final}")
