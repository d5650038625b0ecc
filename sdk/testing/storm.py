"""Storms: a small payment network in which everything happens at once, from a seed.

    python -m tallystick.sdk.testing.storm --seed 1 --runs 100

Four to six nodes, one of which may keep its channels out of gossip, pay each other in every way there is, in the coin
and in a token: invoices (small ones, ones for many parts, ones that two pay), hold invoices that are settled late,
cancelled or forgotten, without invoices, and themselves. Meanwhile nodes crash, some past the expiry of all locks,
links break, chains are silent or reorganised, channels are closed, policies change, and one node may cheat. Then all
heals and comes to rest: whatever a payer was told must be what its coins say, and all invariants hold (`invariants`,
`solvency`).

One loss is excused, and no other: of whoever gave a secret away, and was not there for long enough (`THERE`) in the
time in which it would have been registered on chain (docs/forwarding.md).
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import trio

from tallystick.channels.core import Phase
from tallystick.channels.errors import TallystickError
from tallystick.channels.objects import NATIVE, Address, ChannelId
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.errors import PaymentFailed
from tallystick.router.objects import ForwardingPolicy, NodeKey
from tallystick.sdk.node import Config, Node
from tallystick.sdk.paying import PaymentReceipt
from tallystick.sdk.payment_options import PaymentOptions
from tallystick.sdk.testing.audit import Violation
from tallystick.sdk.testing.invariants import check_always, check_settled, unsettled
from tallystick.sdk.testing.mallory import repeat
from tallystick.sdk.testing.solvency import Loss, check_circuits, check_payments, ledgers, losses
from tallystick.sdk.testing.town import CHEATS
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world

DEPOSIT = 1_000_000
"""Of either side of a channel."""
LOCK_SECONDS = 900
CHALLENGE_PERIOD = LOCK_SECONDS + 700
"""Longer than anybody is away: no towers watch here."""
REGISTERED = 120
"""Seconds before a lock's expiry at which a secret that was not paid for is registered."""
THERE = 60
"""Seconds at a stretch, with a chain that answers, in which a node registers what it has to."""
REST = 8_000.0
"""Seconds within which a healed network comes to rest."""
CLOSES = 5
TOKEN = Address(b"\1" * 20)

WAYS_TO_CHEAT = (*CHEATS, "repeats itself")


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """How bad a storm is. Rates are shares of all steps."""

    nodes: int
    streets: tuple[tuple[int, int, bool], ...]
    """Pairs of nodes that share a channel, and whether it is in the token; some share two."""
    shy: bool
    """Whether the last node keeps its channels out of gossip."""
    cheat: str
    """What the second node does to others; empty: nothing."""
    shares: bool
    """Whether two pay one invoice now and then."""
    steps: int
    pause: float
    interval: float
    confirmations: int
    delay: float
    crashes: float
    sleeps: float
    """Of crashes after which a node stays away past all expiries."""
    cuts: float
    outages: float
    reorganisations: float
    closes: float
    policies: float


def draw_weather(rng: random.Random, steps: int) -> Weather:
    """Draw a storm; each kind of fault is absent in some."""

    def rate(most: float) -> float:
        return round(rng.choice((0.0, most / 4, most)), 3)

    nodes = rng.choice((4, 5, 6))
    ring = [(index, (index + 1) % nodes, False) for index in range(nodes)]
    others = [tuple(sorted(rng.sample(range(nodes), 2))) for _ in range(rng.choice((7, 8, 9)) - nodes)]
    token = rng.random() < 0.4
    return Weather(
        nodes=nodes,
        streets=(*ring, *((one, other, token) for one, other in others)),
        shy=rng.random() < 0.6,
        cheat=rng.choice(("", "", *WAYS_TO_CHEAT)),
        shares=rng.random() < 0.4,
        steps=steps,
        pause=rng.choice((1.0, 5.0, 15.0)),
        interval=rng.choice((5.0, 10.0, 20.0)),
        confirmations=rng.choice((2, 3)),
        delay=rng.choice((0.002, 0.05, 0.5)),
        crashes=rate(0.12),
        sleeps=rng.choice((0.0, 0.2)),
        cuts=rate(0.12),
        outages=rate(0.06),
        reorganisations=rate(0.06),
        closes=rate(0.05),
        policies=rate(0.06),
    )


class Storm:
    """One network in one storm."""

    def __init__(self, world: World, rng: random.Random, weather: Weather, log: list[str]) -> None:
        self.world = world
        self.rng = rng
        self.weather = weather
        self.names = tuple(world.seats)
        self.log = log
        self.counts: Counter[str] = Counter()
        self.shared: set[bytes] = set()
        """Invoices that two paid."""
        self._held: list[tuple[str, bytes, bytes]] = []
        """Payee, hash and secret of invoices to be settled or cancelled."""
        self._receipts: dict[tuple[str, bytes], PaymentReceipt] = {}
        self._failures: dict[tuple[str, bytes], PaymentFailed] = {}
        self._seen: dict[str, list[int]] = {name: [] for name in self.names}
        """Second by second, the chain time if each was up and had a chain, else -1."""
        self._away: set[str] = set()
        """Who is down, or about to be, and will be back."""

    # --- phases --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Go through all phases; raise Violation if anything was wrong."""
        await self._build()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            self._nursery = nursery
            if self.weather.cheat:
                self.world.seats[self.names[1]].tamper = self._tamper()
            for _ in range(self.weather.steps):
                await trio.sleep(self.rng.uniform(0.01, self.weather.pause))
                await self._step()
                if self.rng.random() < 0.1:
                    check_always(self.world)
                    check_circuits(self.world)
            await self._come_to_rest()
            nursery.cancel_scope.cancel()

    async def _build(self) -> None:
        for number, name in enumerate(self.names):
            config = self.world.config
            if self.weather.shy and number == len(self.names) - 1:
                payments = msgspec.structs.replace(config.payments, announce=False)
                config = msgspec.structs.replace(config, payments=payments)
            await self.world.start(name, config)
        if any(token for _, _, token in self.weather.streets):
            self.world.give_everybody(TOKEN)
        for one, other, token in self.weather.streets:
            await self._open(self.world.node(self.names[one]), self.names[other], TOKEN if token else NATIVE)
        shy = len(self.names) - 1 if self.weather.shy else -1
        coins = sum(not token and shy not in (one, other) for one, other, token in self.weather.streets)
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
        name, cheat = self.names[1], self.weather.cheat
        if cheat not in CHEATS:
            return repeat()
        return CHEATS[cheat](self.world, name, random.Random(f"{self.world.seed}/{name}"))

    async def _watch(self) -> None:
        """Note who is there."""
        while True:
            for name in self.names:
                if self.world.is_up(name) and not self.world.seats[name].outage:
                    self._seen[name].append(self.world.chain.newest.header.time)
                else:
                    self._seen[name].append(-1)
            await trio.sleep(1.0)

    async def _come_to_rest(self) -> None:
        self.log.append(f"{trio.current_time():.0f} heal")
        for seat in self.world.seats.values():
            seat.tamper = None
        self.world.heal()
        for name in self.names:
            self.world.network.cut(self.world.seats[name].key.public)
        names = list(self.names)
        await self.world.until(lambda: not self._away and all(map(self.world.is_up, names)), REST)
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
            self.counts["losses"] += 1
        check_payments(self.world, excused=lost, shared=self.shared)
        self._check_words()

    def _is_excused(self, loss: Loss) -> bool:
        """Whether a node was nowhere long enough at a stretch to register what it had claimed."""
        first, stretch = max(loss.since, loss.lock.expiry - REGISTERED), 0
        for time in self._seen[loss.name]:
            stretch = stretch + 1 if first <= time <= loss.lock.expiry else 0
            if stretch >= THERE:
                return False
        return True

    def _check_words(self) -> None:
        """What each payer was told is what its records say, which were checked against its coins."""
        records = {
            (name, record.order.payment_hash): record
            for name, ledger in ledgers(self.world).items()
            for record in ledger.payments
        }
        for (name, digest), receipt in self._receipts.items():
            record = records[name, digest]
            if not record.paid or (record.secret, record.fee) != (receipt.secret, receipt.fee):
                raise Violation(f"{name} has {receipt}, its record says {record}")
        for (name, digest), error in self._failures.items():
            if records[name, digest].paid and (name, digest) not in self._receipts:
                raise Violation(f"{name} was told that payment {digest.hex()[:8]} failed, and it was paid: {error}")

    # --- one step ------------------------------------------------------------------------------------------------

    async def _step(self) -> None:
        weather, draw = self.weather, self.rng.random()
        faults: list[tuple[float, Callable[[], Awaitable[None] | None]]] = [
            (weather.crashes, self._crash),
            (weather.cuts, self._cut),
            (weather.outages, self._outage),
            (weather.reorganisations, self._reorganise),
            (weather.closes, self._close),
            (weather.policies, self._change),
        ]
        for rate, act in faults:
            if draw < rate:
                act()
                return
            draw -= rate
        loads = [self._invoice, self._invoice, self._parts, self._hold, self._decide, self._keysend, self._rebalance]
        await self.rng.choice([*loads, self._share] if weather.shares else loads)()

    def _note(self, what: str) -> None:
        self.log.append(f"{trio.current_time():.1f} {what}")
        self.counts[what.split(maxsplit=1)[0]] += 1

    def _up(self) -> list[str]:
        return [name for name in self.names if self.world.is_up(name)]

    def _two(self) -> tuple[str, str] | None:
        up = self._up()
        return (*self.rng.sample(up, 2),) if len(up) > 1 else None  # type: ignore[return-value]

    def _asset(self, name: str) -> Address:
        """Return the coin or the token: what one of a node's channels carries."""
        found = [handle.session.channel.terms.asset for handle in self.world.node(name).channels]
        return self.rng.choice(found or [NATIVE])

    # --- load ----------------------------------------------------------------------------------------------------

    async def _ask(self, payee: str, amount: int, *, hold: bool = False) -> tuple[str, bytes]:
        """Return an invoice and its hash; nothing if its payee crashed in that very moment."""
        try:
            asset = self._asset(payee)
            record = await self.world.node(payee).create_invoice(amount, hold=hold, lifetime=86_400, asset=asset)
        except TallystickError:
            return "", b""
        if hold:
            self._held.append((payee, record.payment_hash, record.secret))
        return record.text, record.payment_hash

    def _pay(self, payer: str, text: str, digest: bytes) -> None:
        timeout = self.rng.choice((20.0, 60.0, 300.0))

        async def pay(node: Node) -> None:
            await self._told(payer, digest, lambda: node.routing.pay(text, timeout=timeout))

        if text:
            self.world.attempt(payer, pay)

    async def _told(self, payer: str, digest: bytes, pay: Callable[[], Awaitable[PaymentReceipt]]) -> None:
        try:
            receipt = await pay()
        except PaymentFailed as error:
            if digest:
                self._failures[payer, digest] = error
        else:
            self._receipts[payer, receipt.payment_hash] = receipt

    async def _pay_invoice(self, amount: int, *, hold: bool = False, payers: int = 1) -> None:
        chosen = self.rng.sample(self._up(), payers + 1) if len(self._up()) > payers else []
        if not chosen:
            return
        self._note(f"{'hold' if hold else 'pay'} {chosen[1:]} to {chosen[0]}: {amount}")
        text, digest = await self._ask(chosen[0], amount, hold=hold)
        if payers > 1:
            self.shared.add(digest)
        for payer in chosen[1:]:
            self._pay(payer, text, digest)

    async def _invoice(self) -> None:
        await self._pay_invoice(self.rng.choice((1, 5_000, 50_000, 200_000)))

    async def _parts(self) -> None:
        await self._pay_invoice(self.rng.randrange(DEPOSIT // 2, 3 * DEPOSIT))

    async def _hold(self) -> None:
        await self._pay_invoice(self.rng.choice((5_000, 50_000, DEPOSIT)), hold=True)

    async def _share(self) -> None:
        hold = self.rng.random() < 0.3
        await self._pay_invoice(self.rng.choice((50_000, 500_000, DEPOSIT)), hold=hold, payers=2)

    async def _decide(self) -> None:
        """Settle or cancel what was asked for to be held: most, some time or other."""
        if not self._held:
            await self._hold()
            return
        payee, digest, secret = self._held.pop(self.rng.randrange(len(self._held)))
        settles = self.rng.random() < 0.7
        self._note(f"{'settle' if settles else 'cancel'} {payee}")

        async def decide(node: Node) -> None:
            await (node.routing.settle_invoice(secret) if settles else node.routing.cancel_invoice(digest))

        self.world.attempt(payee, decide)

    async def _keysend(self) -> None:
        chosen = self._two()
        if chosen is None:
            return
        payer, payee = chosen
        key, amount = NodeKey(bytes(self.world.seats[payee].key.public)), self.rng.choice((1, 20_000, 100_000))
        asset = self._asset(payer)
        self._note(f"keysend {payer} to {payee}: {amount}")

        async def pay(node: Node) -> None:
            await self._told(payer, b"", lambda: node.routing.keysend(key, amount, timeout=60.0, asset=asset))

        self.world.attempt(payer, pay)

    async def _rebalance(self) -> None:
        name = self.rng.choice(self._up() or [""])
        channels = self._open_channels(name) if name else []
        if len(channels) < 2:
            return
        out, back = self.rng.sample(channels, 2)
        amount = self.rng.choice((10_000, 300_000))
        self._note(f"rebalance {name}: {amount}")

        async def pay(node: Node) -> None:
            await self._told(name, b"", lambda: node.routing.rebalance(out, back, amount, timeout=60.0))

        self.world.attempt(name, pay)

    def _open_channels(self, name: str) -> list[ChannelId]:
        return [channel.id for channel in self.world.node(name).channels if channel.phase is Phase.OPEN]

    # --- faults --------------------------------------------------------------------------------------------------

    def _crash(self) -> None:
        up = [name for name in self._up() if name not in self._away]
        life = self.world.seats[self.rng.choice(up)].life if up else None
        if life is None:
            return
        sleeps = self.rng.random() < self.weather.sleeps
        seconds = self.rng.uniform(LOCK_SECONDS, LOCK_SECONDS + 400) if sleeps else self.rng.choice((0.5, 5.0, 60.0))
        index, after = self.rng.randrange(20), self.rng.random() < 0.5
        self._note(
            f"{'sleep' if sleeps else 'crash'} {life.seat.name} at {index}{'+' if after else '-'}, {seconds:.0f}"
        )
        life.gate.aim(index, after=after)
        self._away.add(life.seat.name)
        self._nursery.start_soon(self._return, life.seat.name, seconds)

    async def _return(self, name: str, seconds: float) -> None:
        """Bring a node back some time after it died; one whose time has not come is ended there."""
        life = self.world.seats[name].life
        with trio.move_on_after(5.0):
            while life is not None and not life.ended.is_set():
                await life.ended.wait()
        await self.world.crash(name)
        await trio.sleep(seconds)
        await self.world.begin(name)  # it is up once its chain answers
        self._away.discard(name)

    def _cut(self) -> None:
        one, other = (self.world.seats[name].key.public for name in self.rng.sample(self.names, 2))
        kind = self.rng.choice(("cut", "cut", "part", "silence"))
        self._note(f"{kind} {self.world._names[one]} {self.world._names[other]}")
        if kind == "cut":
            self.world.network.cut(one, other)
            return
        self.world.network.partition(one, other, silent=kind == "silence")
        seconds = self.rng.choice((3.0, 40.0, 200.0))
        self._later(seconds, lambda: self.world.network.heal(one, other))

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        async def wait() -> None:
            await trio.sleep(seconds)
            act()

        self._nursery.start_soon(wait)

    def _outage(self) -> None:
        name, seconds = self.rng.choice(self.names), self.rng.choice((5.0, 30.0, 200.0))
        self._note(f"outage {name} for {seconds:.0f}")
        self.world.chain_outage(name, True)
        self._later(seconds, lambda: self.world.chain_outage(name, False))

    def _reorganise(self) -> None:
        """Replace the newest block or two; some of their transactions may have to be sent again."""
        depth = self.rng.randrange(1, self.weather.confirmations)
        self._note(f"reorganise {depth}")
        lossy = self.rng.random() < 0.3
        self.world.chain.reorganise(depth, keep=lambda transaction: not lossy or self.rng.random() < 0.5)

    def _close(self) -> None:
        name = self.rng.choice(self._up() or [""])
        channels = self._open_channels(name) if name and self.counts["close"] < CLOSES else []
        if not channels:
            return
        identity, alone = self.rng.choice(channels), self.rng.random() < 0.7
        self._note(f"close {name} {identity.hex()[:8]}{' alone' if alone else ''}")

        async def close(node: Node) -> None:
            handle = node.channel(identity)
            await (handle.force_close() if alone else handle.close())

        self.world.attempt(name, close)

    def _change(self) -> None:
        name = self.rng.choice(self._up() or [""])
        channels = self._open_channels(name) if name else []
        if not channels:
            return
        channel = self.rng.choice(channels)
        policy = ForwardingPolicy(
            base_fee=self.rng.choice((0, 7, 100)),
            fee_ppm=self.rng.choice((0, 1_000, 20_000)),
            minimum=self.rng.choice((0, 0, 100)),
            enabled=self.rng.random() < 0.9,
        )
        self._note(f"policy {name} {channel.hex()[:8]}")

        async def change(node: Node) -> None:
            await node.routing.set_policy(channel, policy)

        self.world.attempt(name, change)


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
    seconds: float
    """Virtual time."""


class Failed(AssertionError):
    """A storm went wrong; its text has the line that replays it."""


def run_storm(seed: int, steps: int = 40) -> StormReport:
    """Run the storm of a seed to its end; raise Failed with the line that replays it."""
    rng = random.Random(seed)
    weather = draw_weather(rng, steps)
    log: list[str] = []
    names = tuple(f"n{number}" for number in range(weather.nodes))
    config = Config(
        challenge_period=CHALLENGE_PERIOD,
        confirmations=weather.confirmations,
        duties=CLAIM_ALL,
        payments=PaymentOptions(lock_seconds=LOCK_SECONDS),
    )

    async def main() -> StormReport:
        delay = (weather.delay / 10, weather.delay)
        async with open_world(seed, config=config, interval=weather.interval, delay=delay, names=names) as world:
            storm = Storm(world, rng, weather, log)
            await storm.run()
            return _report(storm, seed)

    try:
        return simulate(main, seed)
    except BaseException as error:
        raise Failed(
            f"{_leaf(error)!r}\n{weather}\n" + "\n".join(log) + f"\nreplay: python -m tallystick.sdk.testing.storm "
            f"--seed {seed} --steps {steps}"
        ) from error


def _leaf(error: BaseException) -> BaseException:
    """Return the first error inside of groups of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _report(storm: Storm, seed: int) -> StormReport:
    world = storm.world
    records = [record for ledger in ledgers(world).values() for record in ledger.payments]
    return StormReport(
        seed=seed,
        trace=world.trace.digest(),
        events=world.trace.events,
        paid=sum(record.paid for record in records),
        unpaid=dict(Counter(str(record.reason) for record in records if not record.paid)),
        forwarded=sum(len(ledger.forwards) for ledger in ledgers(world).values()),
        counts=dict(storm.counts),
        seconds=trio.current_time(),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run storms from a first seed on; print one line each; return how many failed."""
    parser = argparse.ArgumentParser(description="Run small payment networks through random storms.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=40)
    chosen = parser.parse_args(arguments)
    failed = 0
    for seed in range(chosen.seed, chosen.seed + chosen.runs):
        try:
            print(msgspec.json.encode(run_storm(seed, chosen.steps)).decode(), flush=True)
        except Failed as error:
            failed += 1
            print(f"seed {seed}: FAILED {error}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 100))
