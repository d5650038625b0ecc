"""Alice and Bob at the ends of a row of hubs, with a virtual channel over all of them: what tests of that share."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator

from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.virtual import VIRTUAL
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.forwarding.stakes import StakeLimits
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Config
from tallystick.sdk.testing.world import World, open_world
from tallystick.settlement.enforcement.budgets import DutyPolicy

DEPOSIT, STAKE = 10**9, 10**8
CONFIG = Config(
    challenge_period=600,
    duties=DutyPolicy(worth_percent=0, unlock_patience=60),
    routing=RoutingOptions(stakes=StakeLimits(percent=50)),
    app_patience=120,
    virtual_deposit=2 * STAKE,
)
ROW = ("alice", "hub", "inn", "bob")


@contextlib.asynccontextmanager
async def row(
    seed: int, config: Config = CONFIG, names: tuple[str, ...] = ROW, others: tuple[str, ...] = ()
) -> AsyncIterator[World]:
    """Nodes in a row, each with a channel to the next in which both have coins; the ends are connected.

    `others` may be started later.
    """
    async with open_world(seed, config=config, names=(*names, *others)) as world:
        for name in names:
            await world.start(name)
        for one, other in itertools.pairwise(names):
            channel = await world.node(one).open_channel(world.address(other), DEPOSIT)
            await world.node(other).channel(channel.id).deposit(DEPOSIT)
        await world.node("alice").connect(world.address("bob"))
        graphs = [world.node(name).routing.graph for name in names]
        assert await world.until(lambda: all(len(graph) == 2 * (len(names) - 1) for graph in graphs), 600)
        assert await world.until(lambda: all(c.spendable > DEPOSIT // 2 for n in names for c in world.node(n).channels))
        yield world


async def opened(
    world: World, deposit: int = STAKE, peer_deposit: int = STAKE, *, life: int | None = None, period: int = 3_600
) -> ChannelHandle:
    """Let Alice open one with Bob, by whatever way her node finds; return it once Bob can use it, too."""
    alice, bob = world.node("alice"), world.node("bob")
    expiry = None if life is None else world.chain.newest.header.time + life
    channel = await alice.open_virtual(bob.key.public, deposit, peer_deposit, expiry=expiry, period=period)
    assert await world.until(lambda: bob.channel(channel.id).phase is Phase.OPEN)
    return channel


def real(world: World, name: str) -> list[ChannelHandle]:
    """The channels with deposits of a node."""
    return [handle for handle in world.node(name).channels if not handle.view.channel.is_virtual]


def wealth(world: World) -> dict[str, int]:
    """What each owns in its channels with deposits."""
    return {
        name: sum(each.balances[0] for each in real(world, name) if each.phase is not Phase.GONE)
        for name in world.seats
    }


def pending(world: World, name: str) -> int:
    """How many locks of virtual channels are in a node's channels, in any state that counts."""
    channels = [handle.view.channel for handle in real(world, name) if handle.phase is not Phase.GONE]
    states = [state.simplex for each in channels for state in (each.ours, *each.flight, each.theirs)]
    return sum(lock.kind == VIRTUAL for state in states for lock in state.locks)


def rests(world: World) -> bool:
    """Whether all are there, and nothing of a virtual channel is left."""
    return all(
        world.is_up(name)
        and not pending(world, name)
        and not world.node(name).virtual.virtuals.held
        and not world.node(name).statistics().router.forwarding
        for name in world.seats
    )


def all_open(world: World) -> bool:
    """Whether no channel with a deposit closed."""
    return all(handle.phase is Phase.OPEN for name in world.seats for handle in real(world, name))


def gains(world: World, before: dict[str, int]) -> dict[str, int]:
    """What each has more than before."""
    return {name: owned - before[name] for name, owned in wealth(world).items()}
