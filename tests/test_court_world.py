"""Whole nodes whose stakes the court decides: what it gave goes over in the channels, and each of them lives on."""

from __future__ import annotations

import pytest

from simulation import hub_games, virtual_row
from simulation.hub_games import LINES, begin, game_of, play
from simulation.virtual_row import ROW, all_open, gains, opened, row, wealth
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.testing.world import World

MOVED = 40_000
ONE_HUB = ("alice", "hub", "bob")


async def by_balances(world: World) -> None:
    """Let Bob, who was paid, bring balances to court at once."""
    channel = await opened(world, period=600)
    await channel.pay(MOVED)
    await world.node("bob").channel(channel.id).force_close()


def after(names: tuple[str, ...]) -> dict[str, int]:
    return {**dict.fromkeys(names, 0), "alice": -MOVED, "bob": MOVED}


@pytest.mark.parametrize("names", [ONE_HUB, ROW], ids=["one hub", "two hubs"])
def test_what_balances_in_court_gave_of_a_virtual_channel_goes_over_hubs_and_nothing_closes(
    names: tuple[str, ...],
) -> None:
    async def main() -> None:
        async with row(31, names=names) as world, world.brisk():
            before = wealth(world)
            await by_balances(world)
            assert await world.until(lambda: virtual_row.rests(world), 3_000, every=10)
            assert gains(world, before) == after(names) and all_open(world)

    simulate(main, 31)


@pytest.mark.parametrize("away", ROW)
def test_whoever_is_away_while_the_court_decides_finds_its_channels_open(away: str) -> None:
    """It comes back soon after: what it owes by the word of the court it unlocks then."""

    async def main() -> None:
        async with row(32) as world, world.brisk():
            before = wealth(world)
            channel = await opened(world, period=600)
            await channel.pay(MOVED)
            await world.node("bob").channel(channel.id).force_close()
            stake = world.node("hub").engine.views.channel(world.channels_between("alice", "hub")[0]).theirs
            condition = stake.simplex.locks[0].condition

            def court_until() -> int:
                found = world.node("hub" if away != "hub" else "inn").onchain.index.virtual(condition, 10**9)
                return 0 if found is None else found.record.until

            assert await world.until(lambda: court_until() > 0, 600, every=5)
            until = court_until()
            await world.crash(away)
            assert await world.until(lambda: world.chain.newest.header.time > until + 24, 2_000, every=5)
            await world.start(away)
            assert await world.until(lambda: virtual_row.rests(world), 3_000, every=10)
            assert gains(world, before) == after(ROW) and all_open(world)

    simulate(main, 32)


@pytest.mark.parametrize("names", LINES.values(), ids=LINES)
@pytest.mark.parametrize("moves", [1, 2])
def test_who_lets_its_clock_run_out_loses_the_stake_over_hubs_and_nothing_closes(
    names: tuple[str, ...], moves: int
) -> None:
    """The one whose turn it is stays up, and does not move."""
    stalls, other = (("bob", "alice"), ("alice", "bob"))[moves - 1]

    async def main() -> None:
        async with hub_games.line(33, names) as world:
            before = {name: hub_games.owns(world, name) for name in names}
            await begin(world)
            await play(world, hub_games.WINS["nobody"][:moves])
            game_of(world, other).dispute()
            async with world.brisk():
                assert await world.until(lambda: hub_games.rests(world), 30_000, every=20)
            won = {**dict.fromkeys(names, 0), stalls: -hub_games.STAKE, other: hub_games.STAKE}
            assert {name: hub_games.owns(world, name) - before[name] for name in names} == won
            assert all(channel.phase.name == "OPEN" for name in names for channel in world.node(name).channels)

    simulate(main, 33)
