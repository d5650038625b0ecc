"""Games between two players without a channel, over the nodes of a row: what tests of stakes over hubs share."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from tallystick.channels.errors import ChannelNotReady, InvalidInput, TallystickError
from tallystick.channels.node.views import Views
from tallystick.channels.protocol.apps import APP
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.forwarding.stakes import StakeLimits
from tallystick.sdk.node.apps import AppHandle
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.testing.world import World, open_world
from tallystick.settlement.enforcement.budgets import DutyPolicy

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


async def begin(world: World) -> None:
    """Let Alice propose a game to Bob, whom she has no channel with."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_all, world.node("bob"))
        async with world.node("alice").open_app(world.address("bob"), "tictactoe", stake=STAKE):
            assert await world.until(lambda: all(game.held.agreed is not None for game in world.node("bob").apps))
        nursery.cancel_scope.cancel()


def game_of(world: World, name: str) -> AppHandle:
    node = world.node(name)
    games: list[AppHandle] = [*node.apps, *node.apps.history()]
    return games[0]


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
