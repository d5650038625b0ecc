"""Crashes at every point that matters: before and after each effect of a node while one thing is being done.

A dry run counts the effects of either side. Then, for each effect and for both moments, a fresh world does the same
thing, the node dies at that effect, starts again from its disk, and whoever wanted the thing asks for it again, as a
person would. In the end it must be done exactly once, with the balances of a run without a crash, and every invariant
holds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import msgspec
import trio

from simulation.invariants import check_always, check_settled, unsettled
from tallystick.channels.errors import TallystickError
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.testing.audit import Violation
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world

DEPOSIT = 1_000_000
SECRET = keccak(b"the secret of the crash points")
UNITS = 5
"""Paid of a stream."""
INTERVAL = 20.0
DOWN = 3.0
"""Seconds that a crashed node stays down."""
LOOK = 5.0
"""Seconds between two looks at whether all has ended."""
PATIENCE = 2_400.0
"""Seconds within which everything must be done, crashes included."""
SIDES = ("alice", "bob")


class Outcome(msgspec.Struct, frozen=True):
    """What must not depend on crashes."""

    phase: str
    balances: tuple[int, int]
    """Alice's and Bob's in the channel."""
    payments: int
    """That Bob received."""


Ask = Callable[[World], Awaitable[None]]


class Scenario(msgspec.Struct, frozen=True):
    """One thing to do between Alice and Bob, and how whoever wants it asks for it until it is done."""

    name: str
    opened: bool
    """Whether the world begins with an open channel, in which Alice has paid 1,000."""
    ask: Ask
    """Asks for it on the nodes that are up; called again after every crash."""
    done: Callable[[World], bool]


async def _opened(world: World) -> None:
    channel = await world.node("alice").open_channel(world.address("bob"), DEPOSIT)
    await channel.pay(1_000, b"first")


def _first(world: World, name: str = "alice") -> Phase | None:
    node = world.node(name)
    return node.channels[0].phase if node.channels else None


def _live(world: World, name: str) -> bool:
    return world.is_up(name) and bool(world.node(name).channels)


def _try(world: World, name: str, action: Callable[[Node], Awaitable[object]]) -> None:
    if world.is_up(name):
        world.attempt(name, action)


async def _pay(world: World) -> None:
    async def pay(node: Node) -> None:
        channel = node.channels[0]
        await channel.wait_usable()
        await channel.pay(77, b"second", key="the only one")

    _try(world, "alice", pay)


async def _open(world: World) -> None:
    async def open_channel(node: Node) -> None:
        while not any(channel.phase is Phase.OPEN for channel in node.channels):
            try:
                await node.open_channel(world.address("bob"), DEPOSIT)
            except TallystickError:
                await trio.sleep(INTERVAL)

    _try(world, "alice", open_channel)


async def _close(world: World) -> None:
    async def close(node: Node) -> None:
        if node.channels[0].phase is Phase.OPEN:
            await node.channels[0].close()

    _try(world, "alice", close)


async def _force_close(world: World) -> None:
    async def force_close(node: Node) -> None:
        if node.channels[0].phase in (Phase.OPEN, Phase.FROZEN):
            await node.channels[0].force_close()

    _try(world, "alice", force_close)


async def _withdraw(world: World) -> None:
    async def withdraw(node: Node) -> None:
        channel = node.channels[0]
        await channel.wait_usable()
        state = channel.view.channel
        if state.withdrawn[state.side] == 0 and state.withdrawals[state.side] is None:
            await channel.withdraw(500)

    _try(world, "alice", withdraw)


async def _lock(world: World) -> None:
    async def lock(node: Node) -> None:
        channel = node.channels[0]
        await channel.wait_usable()
        if channel.view.channel.newest.next_lock == 0:
            await channel.lock(300, node.onchain.index.head_time + 900, digest_of(SECRET))

    async def reveal(node: Node) -> None:
        channel = node.channels[0]
        await node.until(lambda: bool(channel.view.channel.theirs.simplex.locks))
        channel.reveal(0, SECRET)

    _try(world, "alice", lock)
    _try(world, "bob", reveal)


async def _stream(world: World) -> None:
    async def stream(node: Node) -> None:
        channel = node.channels[0]
        await channel.wait_usable()
        if channel.view.channel.newest.next_lock == 0:
            await channel.open_stream(3, 20, expiry=node.onchain.index.head_time + 900)
        for own in channel.streams[0]:
            while own.submitted < UNITS:  # who did not crash may still be at it from before
                await own.pay() if own.submitted % 2 else own.submit()
            await own.close()

    _try(world, "alice", stream)


def _withdrawn(world: World) -> bool:
    return all(sum(world.node(name).channels[0].view.channel.withdrawn) == 500 for name in SIDES)


def _unlocked(world: World) -> bool:
    state = world.node("alice").channels[0].view.channel
    return state.ours.simplex.next_lock == 1 and not state.newest.locks and not state.flight


SCENARIOS = (
    Scenario("open", False, _open, lambda world: all(_first(world, name) is Phase.OPEN for name in SIDES)),
    Scenario("payment", True, _pay, lambda world: world.node("bob").channels[0].payments[1] == 2),
    Scenario("cooperative close", True, _close, lambda world: all(_first(world, n) is Phase.GONE for n in SIDES)),
    Scenario("unilateral close", True, _force_close, lambda world: all(_first(world, n) is Phase.GONE for n in SIDES)),
    Scenario("withdrawal", True, _withdraw, _withdrawn),
    Scenario("lock, reveal, unlock", True, _lock, _unlocked),
    Scenario("stream", True, _stream, _unlocked),
)


class Crash(msgspec.Struct, frozen=True):
    """Where a node dies: at its effect of this number since the thing was asked for, before or after it happens."""

    name: str
    index: int
    after: bool
    again: int | None = None
    """It dies a second time, before the effect of this number after its restart."""


async def _live_through(world: World, scenario: Scenario, crash: Crash | None) -> tuple[Outcome, dict[str, int]]:
    """Do the scenario's thing, crashes included; return how it ended, and how many effects each side had."""
    for name in SIDES:
        await world.start(name)
    if scenario.opened:
        await _opened(world)
    lives = {name: world.seats[name].life for name in SIDES}
    marks = {name: len(life.gate.effects) for name, life in lives.items() if life is not None}
    victim = lives[crash.name] if crash else None
    if crash is not None and victim is not None:
        victim.gate.aim(crash.index, after=crash.after)
    await scenario.ask(world)
    if crash is not None and victim is not None:
        await _revive(world, scenario, crash)
    both_up = await world.until(lambda: _settled(world, scenario), PATIENCE, every=LOOK)
    if not both_up:
        states = [world.node(name).channels for name in SIDES if world.is_up(name)]
        raise Violation(f"{scenario.name} is not done after {crash}: {states} {_pending(world)}")
    effects = {name: len(life.gate.effects) - marks[name] for name, life in lives.items() if life is not None}
    check_always(world)
    check_settled(world, list(SIDES))
    return _outcome(world), effects


def _settled(world: World, scenario: Scenario) -> bool:
    if not all(_live(world, name) for name in SIDES):
        return False
    return scenario.done(world) and not unsettled(world, list(SIDES))


def _pending(world: World) -> list[str]:
    return unsettled(world, [name for name in SIDES if world.is_up(name)])


async def _revive(world: World, scenario: Scenario, crash: Crash) -> None:
    """Wait for the crash, if the effect comes at all; start the node again, perhaps twice, and ask again."""
    life = world.seats[crash.name].life
    if life is None or not await world.until(life.ended.is_set, 1_200):
        return
    await trio.sleep(DOWN)
    if crash.again is not None:
        second = await world.begin(crash.name)
        second.gate.aim(crash.again, after=False)
        await world.until(second.ended.is_set, 60)
        await world.crash(crash.name)
    await world.start(crash.name)
    for name in SIDES:
        other = SIDES[1 - SIDES.index(name)]

        async def connect(node: Node, other: str = other) -> None:
            await node.connect(world.address(other))

        world.attempt(name, connect)
    await trio.sleep(1.0)
    await scenario.ask(world)


def _outcome(world: World) -> Outcome:
    handle = world.node("alice").channels[0]
    return Outcome(handle.phase.name, handle.balances, world.node("bob").channel(handle.id).payments[1])


def run_point(scenario: Scenario, crash: Crash | None, seed: int = 1) -> tuple[Outcome, dict[str, int]]:
    """Run a scenario in a fresh world with this crash (None: the dry run); raise Violation if anything is wrong."""

    async def main() -> tuple[Outcome, dict[str, int]]:
        config = Config(challenge_period=600, duties=CLAIM_ALL)
        async with open_world(seed, config=config, interval=INTERVAL) as world:
            return await _live_through(world, scenario, crash)

    return simulate(main, seed)


def points(effects: dict[str, int], *, every: int = 1, first: int = 0) -> Iterator[Crash]:
    """Yield the crashes at all effects of both sides, or at every so-manieth beyond the first ones."""
    for name in SIDES:
        for index in range(effects[name]):
            if index < first or index % every == 0:
                yield Crash(name, index, after=False)
                yield Crash(name, index, after=True)


def check_point(scenario: Scenario, crash: Crash, expected: Outcome, seed: int = 1) -> None:
    """Run a crash and raise Violation, with the line that replays it, unless it ends as `expected`."""
    try:
        outcome, _ = run_point(scenario, crash, seed)
    except* (Violation, TallystickError) as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise Violation(f"{error}; replay: run_point({scenario.name!r}, {crash}, seed={seed})") from error
    if outcome != expected:
        raise Violation(f"{scenario.name} with {crash} (seed {seed}) ended as {outcome}, not {expected}")
