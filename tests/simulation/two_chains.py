"""Two chains of different paces in one virtual time, and a maker with a node on each, between a payer and a payee.

    zero: alice ── hub        one: hub ── bob

Both are worlds (`tallystick.sdk.testing.world`) whose chains are shards of one group. The hub keeps its word on a disk
of its own, and goes on from it whenever one of its nodes has died.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import trio

from tallystick.channels.errors import TallystickError
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.network.options import PaymentOptions
from tallystick.router.receiving.payee import PayeeOptions
from tallystick.sdk.chains.assets import ChainAsset
from tallystick.sdk.chains.maker import Maker, source_config
from tallystick.sdk.chains.margins import ChainRisk, MakerRisk
from tallystick.sdk.chains.rates import Rate
from tallystick.sdk.chains.sqlite import MAKER_SCHEMA
from tallystick.sdk.node.node import Config
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world
from tallystick.settlement.testing.shards import local_group, local_role

DEPOSIT = 10_000_000
AMOUNT, BASE = 1_000, 7
PRICE = 1_507
"""Of AMOUNT, at three for two and BASE."""

CLAIM = 360
"""Seconds that Bob asks locks to have left."""


def place(world: World) -> ChainAsset:
    """Return the coin of a world's chain."""
    return ChainAsset(world.chain.chain_id, world.chain.contract)


class Hub:
    """The maker of both worlds, with a disk of its own: it serves whenever both its nodes are up."""

    def __init__(self, zero: World, one: World, risk: MakerRisk, chains: tuple[ChainRisk, ...]) -> None:
        self.worlds = (zero, one)
        self.risk = risk
        self.chains = {place(world).registry: chain for world, chain in zip(self.worlds, chains, strict=True)}
        self.disk = SimulatedDisk([MAKER_SCHEMA])
        self.store = self.disk.open()
        self.rate = Rate(source=place(zero), target=place(one), take=3, give=2, base=BASE)

    def made(self) -> Maker:
        maker = Maker([world.node("hub") for world in self.worlds], self.store, risk=self.risk, chains=self.chains)
        if not maker.rates:
            maker.set_rate(self.rate)
        return maker

    async def cross(self, text: str) -> str:
        return await self.made().cross(text)

    def margin(self) -> int:
        return self.made().margin(*map(place, self.worlds))

    async def serve(self) -> None:
        """Be the maker: begin anew whenever a node of it has died."""
        while True:
            for world in self.worlds:
                if not world.is_up("hub"):
                    await world.start("hub")
            lives = [world.seats["hub"].life for world in self.worlds]
            try:
                async with trio.open_nursery() as nursery:
                    for life in lives:
                        assert life is not None
                        nursery.start_soon(_cancel_after, life.ended, nursery.cancel_scope)
                    nursery.start_soon(self.made().run)
            except* TallystickError:
                pass  # a node of it died
            await trio.sleep(1)


async def _cancel_after(ended: trio.Event, scope: trio.CancelScope) -> None:
    await ended.wait()
    scope.cancel()


Story = Callable[[World, World, Hub], Awaitable[None]]


@asynccontextmanager
async def open_two_chains(
    seed: int,
    intervals: tuple[float, float] = (5.0, 12.0),
    *,
    claim: int = CLAIM,
    more: tuple[str, ...] = (),
    careful: bool = False,
    stall: float = 600.0,
    absence: int = 600,
) -> AsyncIterator[tuple[World, World, Hub]]:
    """Start all four nodes, with blocks so far apart; both channels are open, each paid in by its payer.

    `claim`: seconds that Bob asks locks to have left. `careful`: Alice and Bob, too, leave themselves the time that
    their chain may stand still. `stall`, `absence`: seconds that the maker takes into account (`margins`).
    """
    group = local_group(2)
    chains = tuple(ChainRisk(block_seconds=interval, stall=stall) for interval in intervals)
    async with (
        open_world(seed, names=("alice", "hub", *more), interval=intervals[0], shard=local_role(group, 0)) as zero,
        open_world(seed + 1, names=("hub", "bob", *more), interval=intervals[1], shard=local_role(group, 1)) as one,
    ):
        for world, chain in zip((zero, one), chains, strict=True):
            config = Config(challenge_period=600, duties=CLAIM_ALL)
            for name, seat in world.seats.items():
                seat.config = source_config(config, chain) if careful or name == "hub" else seat.config
        if not careful:
            patience = PayeeOptions(claim=claim)
            one.seats["bob"].config = msgspec.structs.replace(one.config, payments=PaymentOptions(patience=patience))
        alice = await zero.start("alice")
        for world, name in ((zero, "hub"), (one, "hub"), (one, "bob")):
            await world.start(name)
        await alice.open_channel(zero.address("hub"), DEPOSIT)
        await one.node("hub").open_channel(one.address("bob"), DEPOSIT)
        yield zero, one, Hub(zero, one, MakerRisk(absence=absence), chains)


def play(
    story: Story,
    intervals: tuple[float, float] = (5.0, 12.0),
    *,
    claim: int = CLAIM,
    seed: int = 3,
    more: tuple[str, ...] = (),
) -> None:
    """Alice and a maker on one chain, the maker and Bob on another; two worlds in one time, blocks so far apart."""

    async def main() -> None:
        async with open_two_chains(seed, intervals, claim=claim, more=more) as (zero, one, hub):
            await story(zero, one, hub)

    simulate(main, seed)


def mine(world: World, name: str) -> int:
    [channel] = world.node(name).channels
    return channel.balances[0]


def stand_still(world: World) -> None:
    """Let a world's chain mine nothing, until `go_on`."""
    world.chain.mine = lambda count=1: world.chain.newest.header  # type: ignore[method-assign]


def go_on(world: World) -> None:
    """Let a chain mine that stands still: its next block has the time of now."""
    del world.chain.mine


async def wait_held(world: World, **held: int) -> None:
    """Return once these hold so much each in their channel."""
    with trio.fail_after(60):
        for name, amount in held.items():
            await world.node(name).until(lambda name=name, amount=amount: mine(world, name) == amount)  # type: ignore[misc]
