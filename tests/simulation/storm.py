"""Storms: a small payment network in which everything happens at once, from a seed.

    PYTHONPATH=tests python -m simulation.storm --seed 1 --runs 100
    PYTHONPATH=tests python -m simulation.storm --seed 1 --runs 2000 --small

Four to six nodes (`--small`: three or four, and fewer steps), one of which may keep its channels out of gossip, pay
each other in every way there is, in the coin and in a token: invoices (small ones, ones for many parts, ones that two
pay), hold invoices that are settled late, cancelled or forgotten, without invoices, and themselves (`storm_load`).
Meanwhile nodes crash, some past the expiry of all locks, links break, chains are silent or reorganised, chain nodes lie
(`settlement.testing.chaos`), clocks are put forward and back, channels are closed, policies change, one node may cheat
(`fault_schedule`), and strangers knock (`strangers`). Then all heals and comes to rest: whatever a payer was told must
be what its coins say, and all invariants hold (`invariants`, `solvency`).

One loss is excused, and no other: of whoever gave a secret away, and was not there for long enough (`THERE`) in the
time in which it would have been registered on chain (docs/forwarding.md). Who is lied to by its chain node is not
there.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import trio

from simulation import seeds
from simulation.fault_rates import CHALLENGE_PERIOD, DEPOSIT, LOCK_SECONDS, FaultRates, draw_rates
from simulation.fault_schedule import FaultSchedule
from simulation.invariants import check_always, check_settled, unsettled
from simulation.mallory import repeat
from simulation.seeds import replayed
from simulation.simulated_network import CHEATS
from simulation.solvency import Loss, check_circuits, check_payments, ledgers, losses
from simulation.storm_load import Load
from simulation.storm_network import StormNetwork
from simulation.strangers import Stranger, draw_strangers
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.network.options import PaymentOptions
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.testing.audit import Violation
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world

REGISTERED = 120
"""Seconds before a lock's expiry at which a secret that was not paid for is registered."""
THERE = 60
"""Seconds at a stretch, with a chain that answers, in which a node registers what it has to."""
REST = 8_000.0
"""Seconds within which a healed network comes to rest."""
STEPS, SMALL_STEPS = 40, 16
"""Things that happen in a storm, and in a small one."""
TOKEN = Address(b"\1" * 20)


class Storm:
    """One network in one storm."""

    def __init__(self, world: World, rng: random.Random, rates: FaultRates, log: list[str]) -> None:
        self.network = StormNetwork(world, rng, rates, log)
        self.world = world
        self.rng = rng
        self.rates = rates
        self.names = self.network.names
        self.load = Load(self.network)
        self.faults = FaultSchedule(self.network)
        self.strangers: Sequence[Stranger] = ()
        self._seen: dict[str, list[int]] = {name: [] for name in self.names}
        """Second by second, the chain time if each was up and had a chain, else -1."""

    async def run(self) -> None:
        """Go through all phases; raise Violation if anything was wrong."""
        async with self.world.brisk():
            await self._build()
        self.strangers = draw_strangers(self.world, self.rng, self.rates.strangers)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            self.network.nursery = nursery
            if self.rates.cheat:
                self.world.seats[self.names[1]].tamper = self._tamper()
            for liar in self.network.liars.values():
                liar.start()
            for stranger in self.strangers:
                nursery.start_soon(stranger.run)
            for _ in range(self.rates.steps):
                await trio.sleep(self.rng.uniform(0.01, self.rates.pause))
                await self._step()
                if self.rng.random() < 0.1:
                    check_always(self.world)
                    check_circuits(self.world)
            await trio.sleep(self.rates.aftermath)
            await self._come_to_rest()
            nursery.cancel_scope.cancel()

    async def _build(self) -> None:
        for number, name in enumerate(self.names):
            config = self.world.config
            if self.rates.shy and number == len(self.names) - 1:
                payments = msgspec.structs.replace(config.payments, announce=False)
                config = msgspec.structs.replace(config, payments=payments)
            await self.world.start(name, config)
        if any(token for _, _, token in self.rates.pairs):
            self.world.give_everybody(TOKEN)
        for one, other, token in self.rates.pairs:
            await self._open(self.world.node(self.names[one]), self.names[other], TOKEN if token else NATIVE)
        shy = len(self.names) - 1 if self.rates.shy else -1
        coins = sum(not token and shy not in (one, other) for one, other, token in self.rates.pairs)
        nodes = [self.world.node(name) for name in self.names]
        if not await self.world.until(lambda: all(len(node.routing.graph) >= 2 * coins for node in nodes), REST):
            raise Violation(f"gossip did not reach everybody: {sorted(len(node.routing.graph) for node in nodes)}")

    async def _open(self, one: Node, name: str, asset: Address) -> None:
        other = self.world.node(name)
        handle = await one.open_channel(self.world.address(name), DEPOSIT, asset=asset)
        await other.until(lambda: any(channel.id == handle.id for channel in other.channels))
        await other.channel(handle.id).wait_usable()
        await other.channel(handle.id).deposit(DEPOSIT)

    def _tamper(self) -> Callable[[bytes], list[bytes]]:
        name, cheat = self.names[1], self.rates.cheat
        if cheat not in CHEATS:
            return repeat()
        return CHEATS[cheat](self.world, name, random.Random(f"{self.world.seed}/{name}"))

    async def _watch(self) -> None:
        """Note who is there."""
        while True:
            for name in self.names:
                there = self.network.sees_the_chain(name)
                self._seen[name].append(self.world.chain.newest.header.time if there else -1)
            await trio.sleep(1.0)

    async def _step(self) -> None:
        draw = self.rng.random()
        for rate, act in self.faults.rates():
            if draw < rate:
                act()
                return
            draw -= rate
        await self.load.act()

    # --- the end -------------------------------------------------------------------------------------------------

    async def _come_to_rest(self) -> None:
        self.network.log.append(f"{trio.current_time():.0f} heal")
        for name, seat in self.world.seats.items():
            seat.tamper = None
            seat.clock.step(-seat.clock.off)
            if name in self.network.liars:
                self.network.liars[name].heal()
        self.world.heal()
        for name in self.names:
            self.world.network.cut(self.world.seats[name].key.public)
        names = list(self.names)
        await self.world.until(lambda: not self.network.away and all(map(self.world.is_up, names)), REST)
        for _ in range(int(REST / 20)):
            busy = any(len(self.world.node(name).routing.outgoing) for name in names)
            if not busy and not unsettled(self.world, names):
                break
            await trio.sleep(20.0)
        check_always(self.world)
        check_settled(self.world, names)
        lost = losses(self.world)
        for loss in lost:
            if not self._is_excused(loss):
                raise Violation(f"{loss.name} claimed lock {loss.lock} at {loss.since}, was there, and was not paid")
            self.network.counts["losses"] += 1
        check_payments(self.world, excused=lost, shared=self.load.shared)
        self.load.check()

    def _is_excused(self, loss: Loss) -> bool:
        """Whether a node was nowhere long enough at a stretch to register what it had claimed."""
        first, stretch = max(loss.since, loss.lock.expiry - REGISTERED), 0
        for time in self._seen[loss.name]:
            stretch = stretch + 1 if first <= time <= loss.lock.expiry else 0
            if stretch >= THERE:
                return False
        return True


class StormReport(msgspec.Struct, frozen=True):
    """How it went."""

    seed: int
    trace: str
    """Hash of everything that happened."""
    events: int
    paid: int
    unpaid: dict[str, int]
    """By reason."""
    forwarded: int
    counts: dict[str, int]
    lies: dict[str, int]
    """What the chain nodes told, of all nodes together."""
    strangers: dict[str, int]
    """How often which kind was let in."""
    seconds: float
    """Virtual time."""


def run_storm(seed: int, steps: int = 0, *, small: bool = False) -> StormReport:
    """Run the storm of a seed to its end; raise Failed with the line that replays it. `steps` 0: as many as usual."""
    rng = random.Random(seed)
    rates = draw_rates(rng, steps or (SMALL_STEPS if small else STEPS), small=small)
    log: list[str] = []
    names = tuple(f"n{number}" for number in range(rates.nodes))
    config = Config(
        challenge_period=CHALLENGE_PERIOD,
        confirmations=rates.confirmations,
        duties=CLAIM_ALL,
        payments=PaymentOptions(lock_seconds=LOCK_SECONDS),
    )

    async def main() -> StormReport:
        delay = (rates.delay / 10, rates.delay)
        async with open_world(seed, config=config, interval=rates.interval, delay=delay, names=names) as world:
            storm = Storm(world, rng, rates, log)
            await storm.run()
            return _report(storm, seed)

    arguments = f"--seed {seed} --steps {rates.steps}{' --small' if small else ''}"
    with replayed("storm", arguments, lambda: f"{rates}\n" + "\n".join(log)):
        return simulate(main, seed)


def _report(storm: Storm, seed: int) -> StormReport:
    world = storm.world
    records = [record for ledger in ledgers(world).values() for record in ledger.payments]
    lies: Counter[str] = Counter()
    for liar in storm.network.liars.values():
        lies.update(liar.told)
    met: Counter[str] = Counter()
    for stranger in storm.strangers:
        met[stranger.manner] += stranger.done["met"]
    return StormReport(
        seed=seed,
        trace=world.trace.digest(),
        events=world.trace.events,
        paid=sum(record.is_paid for record in records),
        unpaid=dict(Counter(str(record.reason) for record in records if not record.is_paid)),
        forwarded=sum(len(ledger.forwards) for ledger in ledgers(world).values()),
        counts=dict(storm.network.counts),
        lies=dict(lies),
        strangers=dict(met),
        seconds=trio.current_time(),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run storms from a first seed on; print one line each; return how many failed."""
    parser = seeds.options("Run small payment networks through random storms.")
    parser.add_argument("--steps", type=int, default=0, help="things that happen (0: 40, in small ones 20)")
    parser.add_argument("--small", action="store_true", help="of three or four nodes")
    chosen = parser.parse_args(arguments)

    def run(seed: int) -> str:
        return msgspec.json.encode(run_storm(seed, chosen.steps, small=chosen.small)).decode()

    return seeds.run_seeds(chosen, run)


if __name__ == "__main__":
    sys.exit(main())
