"""A raffle of three players with one hub: each ticket is drawn with the hub alone, and all at the same time."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from simulation.hub_games import CONFIG, owns, rests
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.apps import ProposedApp
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.world import World, open_world

PLAYERS = ("alice", "bob", "carol")
DEPOSIT, PRICE, ODDS, TICKETS = 10**9, 10**6, 3, 4
PRIZE = PRICE * (ODDS - 1)


def secret_of(name: str, ticket: int) -> bytes:
    return keccak(f"{name} {ticket}".encode())


async def draw_all(hub: Node) -> None:
    """Draw whatever is bought, as the hub's program would."""
    async with trio.open_nursery() as nursery:
        async for proposal in hub.apps.proposals():
            nursery.start_soon(draw, proposal)


async def draw(proposal: ProposedApp) -> None:
    async with proposal.accept() as ticket:
        if await ticket.wait_turn():
            await ticket.move(number=keccak(b"the hub's number" + ticket.instance))


async def buy(world: World, name: str, ticket: int, won: dict[tuple[str, int], bool]) -> None:
    """Buy a ticket of the hub, show its secret, and note whether it won."""
    parameters: dict[str, Any] = {"holder": 0, "odds": ODDS, "commitment": keccak(secret_of(name, ticket))}
    node, peer = world.node(name), world.address("hub")
    async with node.open_app(peer, "raffle", stake=PRICE, their_stake=PRIZE, **parameters) as game:
        if await game.wait_turn():
            await game.move(secret=secret_of(name, ticket))
        won[name, ticket] = (await game.wait_ended()) == (0, PRIZE)


@pytest.mark.parametrize("dies", ["nobody", "alice", "hub"])
def test_every_ticket_of_every_player_is_drawn_once_and_paid_to_the_unit(dies: str) -> None:
    async def main() -> None:
        async with open_world(31, config=CONFIG, names=("hub", *PLAYERS)) as world:
            hub = await world.start("hub")
            for name in PLAYERS:
                node = await world.start(name)
                channel = await node.open_channel(world.address("hub"), DEPOSIT)
                await hub.channel(channel.id).deposit(DEPOSIT)
            channels = [channel for name in world.seats for channel in world.node(name).channels]
            assert await world.until(lambda: all(channel.spendable > DEPOSIT // 2 for channel in channels))
            before, won = {name: owns(world, name) for name in world.seats}, dict[tuple[str, int], bool]()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(draw_all, hub)
                async with trio.open_nursery() as buyers:
                    for name in PLAYERS:
                        for ticket in range(TICKETS):
                            buyers.start_soon(buy, world, name, ticket, won)
                nursery.cancel_scope.cancel()
            if dies != "nobody":
                await world.restart(dies)
            assert await world.until(lambda: rests(world), 2_000, every=5)
            gains = {name: owns(world, name) - before[name] for name in world.seats}
            for name in PLAYERS:
                wins = sum(won[name, ticket] for ticket in range(TICKETS))
                assert gains[name] == wins * PRIZE - (TICKETS - wins) * PRICE
            assert sum(gains.values()) == 0 and 0 < sum(won.values()) < len(won) == len(PLAYERS) * TICKETS

    simulate(main, 31)
