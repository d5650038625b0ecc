"""Random campaigns: nodes that pay, lock, deposit, withdraw and close while everything around them fails.

    PYTHONPATH=tests python -m simulation.campaign --seed 1 --runs 100

First a safety phase: faults strike at random, and nothing may ever be wrong. Then a liveness phase: the world heals,
and everything must come to rest. The options are drawn from the seed too, and printed; one seed replays one run.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import trio

from simulation import seeds
from simulation.campaign_options import Options, draw_options
from simulation.invariants import Promise, check_always, check_settled, unsettled
from simulation.seeds import replayed
from tallystick.channels.errors import TallystickError
from tallystick.channels.limits import Policy
from tallystick.channels.protocol.conditions import HASH, digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.node.streams import OutgoingStream
from tallystick.sdk.testing.audit import Violation
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world
from tallystick.settlement.enforcement.depths import DepthPolicy, DepthStep

DEPOSIT = 1_000_000

LADDER = DepthPolicy(
    ladder=(
        DepthStep(worth=DEPOSIT // 4, blocks=4),
        DepthStep(worth=DEPOSIT, blocks=9),
        DepthStep(worth=2 * DEPOSIT, blocks=15),
    )
)
"""Of campaigns in which it matters how much is at risk."""
PERIOD = 600
LOOK = 5.0
"""Seconds between two looks at whether all has ended."""
REST = 6_000.0
"""Seconds within which a healed world comes to rest: an offer's life, a challenge period, the locks' expiries."""


class Campaign:
    """One world under random load and random faults."""

    def __init__(self, world: World, rng: random.Random, options: Options) -> None:
        self.world = world
        self.rng = rng
        self.options = options
        self.promises: list[Promise] = []
        self.log: list[str] = []
        self.counts: dict[str, int] = {}
        self._secrets: dict[bytes, bytes] = {}

    # --- phases --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Go through both phases; raise Violation if anything was wrong."""
        for name in self.options.peers:
            await self.world.start(name)
        await self._open_one()
        for _ in range(self.options.steps):
            await trio.sleep(self.rng.uniform(0.001, self.options.pause))
            await self._step()
            if self.rng.random() < 0.2:
                check_always(self.world, self.promises)
        await self._come_to_rest()
        await self._pay_everywhere()

    async def _come_to_rest(self) -> None:
        """Heal everything, wait for rest, and check."""
        self.world.heal()
        names = list(self.options.peers)
        for name in names:
            if not self.world.is_up(name):
                await self.world.start(name)
            await self._dial_all(name)
        await self.world.until(lambda: not unsettled(self.world, names), REST, every=LOOK)
        check_always(self.world, self.promises)
        check_settled(self.world, names)
        self._check_transactions()

    def _check_transactions(self) -> None:
        """Nobody gave a transaction up, in a world whose chain always answers and is never congested."""
        for name in self.options.peers:
            node = self.world.node(name)
            if node.onchain.sender.statistics().quarantined and not (self.options.outages or self.options.congestion):
                raise Violation(f"{name} has given up a transaction: {node.alarms}")

    async def _dial_all(self, name: str) -> None:
        for other in self.options.peers:
            if other > name:
                self._do(name, _connect(self.world, other))

    async def _pay_everywhere(self) -> None:
        """Every open channel still carries a payment in each direction that has something to spend."""
        before = len(self.promises)
        for name in self.options.peers:
            for channel in self.world.node(name).channels:
                if channel.phase is Phase.OPEN and channel.spendable:
                    self._promise(name, channel.id, 1)
        waiting = self.promises[before:]
        await self.world.until(lambda: all(promise.receipt for promise in waiting), 600)
        for promise in waiting:
            if promise.receipt is None:
                raise Violation(f"a healed channel cannot carry {promise.payer}'s payment to {promise.payee}")
        await self.world.until(lambda: not unsettled(self.world, list(self.options.peers)), REST, every=LOOK)
        check_always(self.world, self.promises)
        check_settled(self.world, list(self.options.peers))

    # --- one step ------------------------------------------------------------------------------------------------

    async def _step(self) -> None:
        options, draw = self.options, self.rng.random()
        faults: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (options.crashes, self._crash_one),
            (options.cuts, self._cut),
            (options.reorganisations, self._reorganise),
            (options.outages, self._outage),
            (options.congestion, self._congest),
            (options.closes, self._close_one),
        ]
        for rate, act in faults:
            if draw < rate:
                await act()
                return
            draw -= rate
        acts = [self._pay, self._pay, self._pay, self._pay, self._lock, self._decide, self._fund]
        if options.streams:
            acts += [self._open_stream, *3 * [self._pay_stream], self._close_stream]
        await self.rng.choice(acts)()

    def _note(self, what: str) -> None:
        self.log.append(f"{trio.current_time():.3f} {what}")
        kind = what.split(maxsplit=1)[0]
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def _someone(self) -> str | None:
        up = [name for name in self.options.peers if self.world.is_up(name)]
        return self.rng.choice(up) if up else None

    def _some_channel(self) -> tuple[str, ChannelId] | None:
        name = self._someone()
        if name is None:
            return None
        channels = [channel.id for channel in self.world.node(name).channels if channel.phase is Phase.OPEN]
        return (name, self.rng.choice(channels)) if channels else None

    def _do(self, name: str, action: Callable[[Node], Awaitable[object]]) -> None:
        self.world.attempt(name, action)

    # --- load ----------------------------------------------------------------------------------------------------

    async def _pay(self) -> None:
        chosen = self._some_channel()
        if chosen is None:
            await self._open_one()
            return
        name, channel = chosen
        count = self.rng.choice((1, 1, 3, 40))
        spendable = self.world.node(name).channel(channel).spendable
        self._note(f"pay {name} x{count}")
        for _ in range(count):
            self._promise(name, channel, self.rng.choice((1, self.rng.randrange(1, 50_000), max(1, spendable))))

    def _promise(self, name: str, channel: ChannelId, amount: int) -> None:
        node = self.world.node(name)
        payee = node.channel(channel).peer
        other = next(seat.name for seat in self.world.seats.values() if seat.key.public == payee)
        promise = Promise(name, other, channel, amount, b"%d" % len(self.promises))
        self.promises.append(promise)

        async def pay(node: Node) -> None:
            try:
                promise.ticket = await node.channel(channel).submit(amount, promise.memo)
            except TallystickError:
                promise.refused = True
                raise
            promise.receipt = await promise.ticket.wait()

        self._do(name, pay)

    async def _lock(self) -> None:
        chosen = self._some_channel()
        if chosen is None:
            return
        name, channel = chosen
        secret = self.rng.randbytes(32)
        amount, expiry = self.rng.randrange(1, 20_000), self.rng.choice((90, 300, 900))
        self._secrets[digest_of(secret)] = secret
        self._note(f"lock {name}")

        async def lock(node: Node) -> None:
            await node.channel(channel).lock(amount, node.onchain.index.head_time + expiry, digest_of(secret))

        self._do(name, lock)

    async def _decide(self) -> None:
        """Somebody reveals or rejects one of the locks that wait for it, or forgets about it."""
        chosen = self._some_channel()
        if chosen is None:
            return
        name, channel = chosen
        handle = self.world.node(name).channel(channel)
        locks = handle.view.channel.theirs.simplex.locks
        if not locks:
            return
        lock = self.rng.choice(locks)
        reveal = self.rng.random() < 0.7 and lock.kind == HASH
        self._note(f"{'reveal' if reveal else 'reject'} {name}")

        async def decide(node: Node) -> None:
            if reveal:
                node.channel(channel).reveal(lock.id, self._secrets[lock.condition])
            else:
                node.channel(channel).reject(lock.id, b"no")

        self._do(name, decide)

    async def _open_stream(self) -> None:
        chosen = self._some_channel()
        if chosen is None:
            return
        name, channel = chosen
        unit, length = self.rng.randrange(1, 50), self.rng.choice((1, 20, 400))
        lifetime = self.rng.choice((610, 900, 2_000))
        self._note(f"stream {name}")

        async def open_stream(node: Node) -> None:
            expiry = node.onchain.index.head_time + lifetime
            stream = await node.channel(channel).open_stream(unit, length, expiry=expiry)
            await stream.pay()

        self._do(name, open_stream)

    def _some_stream(self) -> tuple[str, OutgoingStream] | None:
        chosen = self._some_channel()
        streams = self.world.node(chosen[0]).channel(chosen[1]).streams[0] if chosen else []
        return (chosen[0], self.rng.choice(streams)) if chosen and streams else None

    async def _pay_stream(self) -> None:
        chosen = self._some_stream()
        if chosen is None:
            return
        name, stream = chosen
        counts = [self.rng.choice((1, 3, 100)) for _ in range(self.rng.choice((1, 5)))]
        self._note(f"units {name}")

        async def pay(node: Node) -> None:
            for count in counts:
                await stream.pay(min(count, max(1, stream.left)))

        self._do(name, pay)

    async def _close_stream(self) -> None:
        chosen = self._some_stream()
        if chosen is None:
            return
        name, stream = chosen
        self._note(f"end {name}")

        async def close(node: Node) -> None:
            await stream.close()

        self._do(name, close)

    async def _fund(self) -> None:
        chosen = self._some_channel()
        if chosen is None:
            return
        name, channel = chosen
        amount = self.rng.randrange(1, 100_000)
        deposits = self.rng.random() < 0.5
        self._note(f"{'deposit' if deposits else 'withdraw'} {name}")

        async def fund(node: Node) -> None:
            handle = node.channel(channel)
            await (handle.deposit(amount) if deposits else handle.withdraw(amount))

        self._do(name, fund)

    async def _open_one(self) -> None:
        name = self._someone()
        if name is None:
            return
        other = self.rng.choice([peer for peer in self.options.peers if peer != name])
        self._note(f"open {name} {other}")

        async def open_channel(node: Node) -> None:
            await node.open_channel(self.world.address(other), DEPOSIT, challenge_period=PERIOD)

        attempt = self.world.attempt(name, open_channel)
        with trio.move_on_after(10 * self.options.interval):
            await attempt.ended.wait()

    async def _close_one(self) -> None:
        chosen = self._some_channel()
        if chosen is None:
            return
        name, channel = chosen
        alone = self.rng.random() < 0.5
        self._note(f"{'force-close' if alone else 'close'} {name}")

        async def close(node: Node) -> None:
            handle = node.channel(channel)
            await (handle.force_close() if alone else handle.close())

        self._do(name, close)

    # --- faults --------------------------------------------------------------------------------------------------

    async def _crash_one(self) -> None:
        """Crash somebody, now or at one of its next effects; or bring somebody back."""
        down = [name for name in self.options.peers if self.world.is_down(name)]
        if down and self.rng.random() < 0.7:
            self._note(f"start {down[0]}")
            await self.world.begin(down[0])  # it is up once its chain node answers
            return
        name = self._someone()
        life = self.world.seats[name].life if name else None
        if name is None or life is None:
            return
        if self.rng.random() < 0.5:
            self._note(f"crash {name}")
            await self.world.crash(name)
        else:
            index, after = self.rng.randrange(12), self.rng.random() < 0.5
            self._note(f"aim {name} {index}{'+' if after else '-'}")
            life.gate.aim(index, after=after)

    async def _cut(self) -> None:
        one, other = self.rng.sample(self.options.peers, 2)
        keys = self.world.seats[one].key.public, self.world.seats[other].key.public
        kind = self.rng.choice(("cut", "cut", "part", "silence", "heal"))
        self._note(f"{kind} {one} {other}")
        if kind == "cut":
            self.world.network.cut(*keys)
        elif kind == "heal":
            self.world.network.heal()
        else:
            self.world.network.partition(*keys, silent=kind == "silence")

    async def _reorganise(self) -> None:
        """Replace blocks, at most as deep as is not yet confirmed; some of their transactions may be lost."""
        depth = self.rng.randrange(0, self.options.confirmations)
        if depth == 0 or self.world.chain.newest.header.number <= depth:
            return
        lost = self.rng.random() < 0.3
        self._note(f"reorganise {depth}{' lossy' if lost else ''}")
        self.world.chain.reorganise(depth, keep=lambda transaction: not (lost and self.rng.random() < 0.5))

    async def _outage(self) -> None:
        name = self.rng.choice(self.options.peers)
        down = self.rng.random() < 0.5
        self._note(f"outage {name} {down}")
        self.world.chain_outage(name, down)

    async def _congest(self) -> None:
        price = self.rng.choice((0, 0, 50))
        self._note(f"congest {price}")
        self.world.chain.congest(price)


def _connect(world: World, other: str) -> Callable[[Node], Awaitable[object]]:
    async def connect(node: Node) -> None:
        await node.connect(world.address(other))

    return connect


class Report(msgspec.Struct, frozen=True):
    """How a campaign went."""

    seed: int
    options: Options
    trace: str
    """Hash of everything that happened."""
    events: int
    payments: int
    """Payments with a receipt."""
    counts: dict[str, int]


def run_campaign(seed: int, steps: int = 80, *, streams: bool = False, by_worth: bool = False) -> Report:
    """Run the campaign of a seed to its end; raise Failed with the line that replays it.

    `by_worth`: what moves more has to be deeper.
    """
    rng = random.Random(seed)
    options = draw_options(rng, steps, streams)
    log: list[str] = []

    async def main() -> Report:
        channels = Policy(window=options.window)
        config = Config(
            challenge_period=PERIOD,
            confirmations=options.confirmations,
            depths=LADDER if by_worth else DepthPolicy(),
            channels=channels,
            duties=CLAIM_ALL,
        )
        async with open_world(seed, config=config, interval=options.interval, delay=(0.0005, options.delay)) as world:
            campaign = Campaign(world, rng, options)
            campaign.log = log
            await campaign.run()
            paid = sum(promise.receipt is not None for promise in campaign.promises)
            return Report(seed, options, world.trace.digest(), world.trace.events, paid, campaign.counts)

    arguments = f"--seed {seed} --runs 1 --steps {steps}{' --streams' if streams else ''}"
    arguments += " --by-worth" if by_worth else ""
    with replayed("campaign", arguments, lambda: f"{options}\n" + "\n".join(log[-25:])):
        return simulate(main, seed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run campaigns from a first seed on; print one line each; return how many failed."""
    parser = seeds.options("Run random campaigns in simulated worlds.")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--streams", action="store_true", help="with streams among what is paid")
    parser.add_argument("--by-worth", action="store_true", help="with deposits that count the later the more they are")
    chosen = parser.parse_args(arguments)

    def run(seed: int) -> str:
        report = run_campaign(seed, chosen.steps, streams=chosen.streams, by_worth=chosen.by_worth)
        return f"seed {seed}: {report.events} events, {report.payments} payments, trace {report.trace}"

    return seeds.run_seeds(chosen, run)


if __name__ == "__main__":
    sys.exit(main())
