"""What the control API does with apps where money hangs on it, asked of its handlers in a simulated world."""

from __future__ import annotations

import pytest
from test_apps_nodes import STAKE, balances, no_locks, table

from tallystick.channels.errors import InvalidInput
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.control.app_handlers import AppHandlers
from tallystick.sdk.control.app_views import AcceptApp, MoveApp, OpenApp, Outcome
from tallystick.sdk.testing.world import World


async def begin(world: World) -> tuple[AppHandlers, AppHandlers, str]:
    """Begin a game; return what answers for Alice and for Bob, and the game's id."""
    alice, bob = AppHandlers(world.node("alice")), AppHandlers(world.node("bob"))
    channel = world.node("alice").channels[0].id.hex()
    made = await alice.open_app(OpenApp(channel, "tictactoe", STAKE))
    assert await world.until(lambda: bool(world.node("bob").apps.proposed))
    for few in (4, 8, 15):
        with pytest.raises(InvalidInput, match="at least 16 hex digits"):
            await bob.accept_app(made.id[:few], AcceptApp())
    begun = await bob.accept_app(made.id[:16], AcceptApp())
    assert begun.phase == "playing"
    assert await world.until(lambda: all(game.held.is_ours for game in world.node("alice").apps))
    return alice, bob, made.id


def test_an_offer_is_said_from_ones_own_side_and_taken_only_as_it_was_seen() -> None:
    async def main() -> None:
        async with table(11) as world:
            before = balances(world)
            alice, bob, game = await begin(world)
            offering = (await bob.offer_outcome(game, Outcome(gets=7, pays=2))).offering
            assert offering == Outcome(gets=7, pays=2)
            found = world.node("alice").apps.find(bytes.fromhex(game))
            assert await world.until(lambda: found.offered is not None)
            for wrong in (Outcome(), Outcome(gets=7, pays=2), Outcome(gets=2, pays=6), Outcome(gets=3, pays=7)):
                with pytest.raises(InvalidInput, match="we get 2 and pay 7"):
                    await alice.take_offer(game, wrong)
            assert found.paid is None
            assert (await alice.take_offer(game, Outcome(gets=2, pays=7))).result == Outcome(gets=2, pays=7)
            # a part of a stake that is left over goes back in the channel between the two
            assert await world.until(lambda: no_locks(world) and balances(world) == (before[0] - 5, before[1] + 5))

    simulate(main, 11)


def test_a_move_that_is_asked_for_again_is_made_once() -> None:
    async def main() -> None:
        async with table(12) as world:
            alice, bob, game = await begin(world)
            assert (await alice.move_app(game, MoveApp({"cell": 0}, 1))).number == 1
            await bob.move_app(game, MoveApp({"cell": 3}, 1 + 1))
            with pytest.raises(InvalidInput, match="leads to state 3, not 1"):
                await alice.move_app(game, MoveApp({"cell": 1}, 1))
            assert (await alice.move_app(game, MoveApp({"cell": 1}, 3, wait=False))).number == 3

    simulate(main, 12)
