"""Players without a channel between them, and their hub, crash at any effect while a game begins or ends."""

from __future__ import annotations

import contextlib

import pytest
import trio

from simulation.hub_games import STAKE, WINS, accept_all, begin, game_of, line, owns, play, quietly, rests
from tallystick.channels.apps.inputs import MakeMove
from tallystick.channels.errors import InvalidInput, TallystickError
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.testing.world import World


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
