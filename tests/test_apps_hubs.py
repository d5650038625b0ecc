"""Players without a channel between them play over hubs: one and two, crashes, a hub that is away, a way that fails."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import msgspec
import pytest
import trio

from tallystick.channels.apps.inputs import MakeMove
from tallystick.channels.errors import ChannelNotReady, InvalidInput, TallystickError
from tallystick.channels.node.views import Views
from tallystick.channels.protocol.apps import APP
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session.expected import LockWanted
from tallystick.channels.storage.store import Moment
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.forwarding.stakes import StakeLimits
from tallystick.sdk.node.apps import AppHandle
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.testing.world import World, open_world
from tallystick.settlement.enforcement.budgets import DutyPolicy

Attach: TypeAlias = Callable[[ChannelId, int], Moment] | None
DEPOSIT, STAKE = 10**9, 10**8
CONFIG = Config(
    challenge_period=600,
    duties=DutyPolicy(worth_percent=0, unlock_patience=60),
    app_patience=120,
    routing=RoutingOptions(stakes=StakeLimits(percent=50)),
)
WINS = {"alice": (0, 3, 1, 4, 2), "bob": (0, 3, 1, 4, 8, 5), "nobody": (0, 1, 2, 4, 3, 5, 7, 6, 8)}
LINES = {"one hub": ("alice", "hub", "bob"), "two hubs": ("alice", "hub", "inn", "bob")}


@contextlib.asynccontextmanager
async def line(seed: int, names: tuple[str, ...] = LINES["one hub"], deposit: int = DEPOSIT) -> AsyncIterator[World]:
    """Nodes in a row, each with a channel to the next, in which both have coins."""
    async with open_world(seed, config=CONFIG, names=names) as world:
        for name in names:
            await world.start(name)
        for one, other in itertools.pairwise(names):
            channel = await world.node(one).open_channel(world.address(other), deposit)
            await world.node(other).channel(channel.id).deposit(deposit)
        graphs = [world.node(name).routing.graph for name in names]
        assert await world.until(lambda: all(len(graph) == 2 * (len(names) - 1) for graph in graphs), 600)
        assert await world.until(lambda: all(c.spendable > STAKE for n in names for c in world.node(n).channels))
        yield world


async def accept_all(node: Node) -> None:
    async for proposal in node.apps.proposals():
        with contextlib.suppress(InvalidInput, ChannelNotReady):
            async with proposal.accept():
                pass


async def begin(world: World, **terms: int) -> None:
    """Let Alice propose a game to Bob, whom she has no channel with."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_all, world.node("bob"))
        async with world.node("alice").open_app(world.address("bob"), "tictactoe", stake=STAKE, **terms):
            assert await world.until(lambda: all(game.held.agreed is not None for game in world.node("bob").apps))
        nursery.cancel_scope.cancel()


def game_of(world: World, name: str) -> AppHandle:
    node = world.node(name)
    return [*node.apps, *node.apps.history()][0]


async def play(world: World, cells: tuple[int, ...]) -> None:
    for count, cell in enumerate(cells):
        name = ("alice", "bob")[count % 2]
        assert await game_of(world, name).wait_turn()
        await game_of(world, name).move(cell=cell)


def owns(world: World, name: str) -> int:
    return sum(channel.balances[0] for channel in world.node(name).channels)


def stakes(world: World) -> list[int]:
    return [
        lock.amount
        for name in world.seats
        if world.is_up(name)
        for view in world.node(name).engine.views
        for lock in (*view.channel.newest.locks, *view.channel.theirs.simplex.locks)
        if lock.kind == APP
    ]


def rests(world: World) -> bool:
    """Whether no stake is pending, and nobody remembers one."""
    return not stakes(world) and not any(
        world.node(name).apps.apps.playing or world.node(name).statistics().router.forwarding for name in world.seats
    )


@pytest.mark.parametrize("names", LINES.values(), ids=LINES)
@pytest.mark.parametrize(("winner", "gain"), [("alice", STAKE), ("bob", -STAKE), ("nobody", 0)])
def test_a_game_over_hubs_is_locked_played_and_paid_and_no_hub_gains_or_loses(
    winner: str, gain: int, names: tuple[str, ...]
) -> None:
    async def main() -> None:
        async with line(1, names) as world:
            before = {name: owns(world, name) for name in names}
            await begin(world)
            assert len(stakes(world)) == 4 * (len(names) - 1), "both sides of each channel see both stakes"
            assert not world.channels_between("alice", "bob")
            await play(world, WINS[winner])
            assert await world.until(lambda: rests(world), 600)
            gains = {name: owns(world, name) - before[name] for name in names}
            assert gains == {**dict.fromkeys(names, 0), "alice": gain, "bob": -gain}

    simulate(main, 1)


@pytest.mark.parametrize("wrong", ["word", "amount", "expiry"])
def test_a_stake_that_nobody_waits_for_is_refused_where_it_arrives(wrong: str) -> None:
    """Bob awaits Alice's stake, as she has yet to send it: something else comes in its place, and goes back at once."""

    async def main() -> None:
        async with line(2) as world:
            alice, before = world.node("alice"), owns(world, "alice")
            sent = alice.routing.sent_locks.send
            others = {"word": bytes(32), "amount": STAKE - 1, "expiry": 1}
            tried: list[LockWanted] = []

            def send(wanted: LockWanted, attach: Attach = None) -> ChannelId:
                tried.append(wanted)
                other = others[wrong] if wrong != "expiry" else wanted.expiry - 1
                return sent(msgspec.structs.replace(wanted, **{wrong: other}), attach)

            alice.routing.sent_locks.send = send  # type: ignore[method-assign]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(quietly, lambda: begin(world))
                assert await world.until(lambda: bool(tried), 60)
                assert await world.until(lambda: not alice.routing.sent_locks._sent, 60), "long before it expires"
                assert not arrived(world, "bob")
                nursery.cancel_scope.cancel()
            assert not any(game.held.agreed for game in world.node("bob").apps)
            assert await world.until(lambda: rests(world), 60)
            assert owns(world, "alice") == before

    simulate(main, 2)


@pytest.mark.parametrize("reason", ["the hub takes none", "bob has no channel"])
def test_a_game_whose_stakes_find_no_way_does_not_begin(reason: str) -> None:
    async def main() -> None:
        async with line(3) as world:
            hub = world.node("hub")
            if reason == "the hub takes none":
                await world.crash("hub")
                limits = RoutingOptions(stakes=StakeLimits(count=0))
                await world.start("hub", msgspec.structs.replace(CONFIG, routing=limits))
            else:
                await hub.channel(world.channels_between("hub", "bob")[0]).close()
                await world.until(lambda: len(world.node("alice").routing.graph) == 2, 600)
            assert await world.until(lambda: world.node("alice").channels[0].view.usable, 120)
            assert await world.until(lambda: all(view.usable for view in hub_of(world) if view.payable), 120)
            before = owns(world, "alice")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(accept_all, world.node("bob"))
                with pytest.raises((ChannelNotReady, InvalidInput), match=r"way"):
                    await offer(world.node("alice"), world)
                nursery.cancel_scope.cancel()
            assert await world.until(lambda: rests(world), 300) and owns(world, "alice") == before

    simulate(main, 3)


@pytest.mark.parametrize("name", ["alice", "hub", "bob"])
def test_a_crash_of_anybody_while_it_begins_leaves_a_game_or_nothing(name: str) -> None:
    def rested(world: World) -> bool:
        if not all(world.is_up(each) for each in world.seats):
            return False
        played = [list(world.node(each).apps) for each in ("alice", "bob")]
        begun = all(len(each) == 1 and each[0].held.agreed is not None for each in played)
        return begun or (not any(played) and rests(world))

    async def main(index: int) -> bool:
        async with line(4) as world, trio.open_nursery() as nursery:
            before = sum(owns(world, each) for each in world.seats)
            life = world.seats[name].life
            assert life is not None
            life.gate.aim(index, after=False)
            last = len(life.gate.effects) + index
            nursery.start_soon(quietly, lambda: accept_all(world.node("bob")))
            nursery.start_soon(quietly, lambda: begin(world))
            await world.until(lambda: not world.is_up(name), 30)
            if not world.is_up(name):
                node = await world.start(name)
                if name == "bob":
                    nursery.start_soon(quietly, lambda: accept_all(node))
            assert await world.until(lambda: rested(world), 50_000, every=20)
            nursery.cancel_scope.cancel()
            if not any(world.node("bob").apps):
                assert sum(owns(world, each) for each in world.seats) == before
            return len(life.gate.effects) > last
        return False

    index = 0
    while simulate(main, 4, index) and index < 30:
        index += 3
    assert index > 6


@pytest.mark.parametrize("name", ["alice", "hub", "bob"])
def test_a_crash_of_anybody_at_its_end_pays_the_winner_and_nobody_else(name: str) -> None:
    async def main(index: int) -> bool:
        async with line(5) as world:
            before = {each: owns(world, each) for each in world.seats}
            await begin(world)
            await play(world, WINS["alice"][:-1])
            life = world.seats[name].life
            assert life is not None
            life.gate.aim(index, after=False)
            last = len(life.gate.effects) + index
            assert await game_of(world, "alice").wait_turn()
            with contextlib.suppress(TallystickError):
                game = game_of(world, "alice")
                game._desk.apps.apply(game.instance, MakeMove(game.held.app.move(cell=WINS["alice"][-1])))
            await world.until(lambda: not world.is_up(name), 30)
            if not world.is_up(name):
                await world.start(name)
                if name == "alice":  # her last move may not have been signed
                    game = game_of(world, "alice")
                    with contextlib.suppress(InvalidInput):
                        game._desk.apps.apply(game.instance, MakeMove(game.held.app.move(cell=WINS["alice"][-1])))
            assert await world.until(lambda: rests(world), 3_000, every=5)
            gains = {each: owns(world, each) - before[each] for each in world.seats}
            assert gains == {"alice": STAKE, "hub": 0, "bob": -STAKE}
            return len(life.gate.effects) > last

    index = 0
    while simulate(main, 5, index) and index < 30:
        index += 2
    assert index > 4


def test_a_hub_that_is_away_while_it_is_played_holds_up_no_move_and_its_end_goes_through_once_it_is_back() -> None:
    async def main() -> None:
        async with line(6) as world:
            before = {each: owns(world, each) for each in world.seats}
            await begin(world)
            await world.crash("hub")
            await play(world, WINS["bob"])
            assert await world.until(lambda: all(game_of(world, each).paid is not None for each in ("alice", "bob")))
            assert stakes(world), "nothing is paid without the hub"
            await world.start("hub")
            assert await world.until(lambda: rests(world), 600)
            gains = {each: owns(world, each) - before[each] for each in world.seats}
            assert gains == {"alice": -STAKE, "hub": 0, "bob": STAKE}

    simulate(main, 6)


def test_proposals_of_strangers_are_few_and_the_newest() -> None:
    async def main() -> None:
        async with line(7) as world:
            bob, alice = world.node("bob"), world.node("alice")
            await alice.connect(world.address("bob"))
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(quietly, lambda: offer(alice, world))
                assert await world.until(lambda: len(bob.apps.apps.heard) == 2, 60)
                await trio.sleep(5)
                assert len(bob.apps.apps.heard) == 2, "two of one who has no channel here"
                nursery.cancel_scope.cancel()

    simulate(main, 7)


def hub_of(world: World) -> Views:
    return world.node("hub").engine.views


async def offer(node: Node, world: World) -> None:
    async with node.open_app(world.address("bob"), "tictactoe", stake=STAKE):
        pass


async def quietly(ask: Callable[[], Awaitable[None]]) -> None:
    """Do something on a node that may crash meanwhile."""
    try:
        await ask()
    except* TallystickError:
        pass


def arrived(world: World, name: str) -> list[int]:
    return [
        lock.amount
        for view in world.node(name).engine.views
        for lock in view.channel.theirs.simplex.locks
        if lock.kind == APP and view.channel.theirs.countersignature
    ]
