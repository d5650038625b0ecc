"""Two players who are Mallory both sign two outcomes, and show the hub between them one and the court the other."""

from __future__ import annotations

import pytest

from simulation.hub_games import STAKE, begin, game_of, line, rests, stakes
from tallystick.channels.protocol.apps import APP, OutcomeProof, stake_condition
from tallystick.channels.protocol.objects import NATIVE, ChannelId
from tallystick.channels.session.inputs import ShowProof
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.apps import AppHandle
from tallystick.sdk.node.holdings import holdings
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.world import World, key_of
from tallystick.settlement.chain import RegisterProofCall

FEES_MOST = STAKE // 20
"""What a hub's transactions cost at most here: closes, settlements, redemptions."""

ALL, NONE, PART = (STAKE, 0), (0, 0), (STAKE // 3, 0)
"""Of Alice's stake goes to Bob."""


async def worth(node: Node) -> int:
    """What is the node's own, in its account and in channels; what is locked is the sender's still."""
    return sum(await holdings(node, NATIVE))


def signed(game: AppHandle, paid: tuple[int, int]) -> bytes:
    """Return an outcome that both sign, whatever they have signed before: no node does, their keys do."""
    digest = game.held.digest_paid(paid)
    first, second = (key_of(name).sign(digest) for name in ("alice", "bob"))
    return OutcomeProof(game.held.terms, paid, (first, second)).encode()


def alices(world: World, between: tuple[str, str]) -> tuple[ChannelId, int]:
    """Return the channel between two, and the lock in it that is Alice's stake."""
    (channel,) = world.channels_between(*between)
    condition = stake_condition(game_of(world, "alice").instance, 0)
    states = world.node("hub").engine.views.channel(channel)
    locks = (*states.newest.locks, *states.theirs.simplex.locks)
    (lock,) = [lock for lock in locks if lock.kind == APP and lock.condition == condition]
    return channel, lock.id


async def register(world: World, game: AppHandle, paid: tuple[int, int]) -> None:
    """Bring an outcome to court, with the loser's key."""
    call = RegisterProofCall(APP, stake_condition(game.instance, 0), signed(game, paid))
    await world.chain.send(key_of("alice"), call)


@pytest.mark.parametrize(
    ("shown", "court"),
    [(ALL, NONE), (ALL, PART), (PART, ALL), (PART, NONE)],
    ids=["all, and none", "all, and a part", "a part, and all", "a part, and none"],
)
def test_a_hub_that_is_shown_one_outcome_and_judged_by_another_loses_nothing(
    shown: tuple[int, int], court: tuple[int, int]
) -> None:
    async def main() -> None:
        async with line(21) as world:
            hub, bob = world.node("hub"), world.node("bob")
            await begin(world)
            game = game_of(world, "bob")
            channel, lock = alices(world, ("hub", "bob"))
            before = await worth(hub)
            had_before = [await worth(world.node(name)) for name in ("alice", "bob")]
            await world.crash("alice")  # her node would pay what is shown: she does not
            bob.engine.apply(channel, ShowProof(lock, signed(game, shown)))
            assert not await world.until(lambda: len(stakes(world)) < 6, 120), "nothing is paid before it is paid"
            await register(world, game, court)
            await world.blocks(8)
            await world.restart("bob")
            await world.start("alice")
            async with world.brisk(2.0):
                assert await world.until(lambda: rests(world), 20_000, every=20)
            assert before - FEES_MOST < await worth(hub) <= before
            players = [await worth(world.node(name)) for name in ("alice", "bob")]
            gains = [held - had for held, had in zip(players, had_before, strict=True)]
            paid = court[0]
            assert abs(gains[0] + paid) < FEES_MOST > abs(gains[1] - paid), "the players have what the court said"

    simulate(main, 21)


def test_a_hub_that_was_paid_all_and_is_judged_to_have_had_nothing_keeps_what_it_cannot_pass_on() -> None:
    """Alice pays by one outcome, Bob does not take what he is owed by it, and both sign another one for the court."""

    async def main() -> None:
        async with line(22) as world:
            hub, alice = world.node("hub"), world.node("alice")
            await begin(world)
            game = game_of(world, "alice")
            before = await worth(hub)
            await world.crash("bob")
            channel, lock = alices(world, ("alice", "hub"))
            alice.unlock(channel, lock, signed(game, ALL))
            assert await world.until(lambda: not list(alice.apps.apps.stakes.of(game.held, 0)), 60)
            await register(world, game, NONE)
            await world.blocks(8)
            await world.start("bob")
            async with world.brisk(2.0):
                assert await world.until(lambda: rests(world), 20_000, every=20)
            assert before - FEES_MOST < await worth(hub) <= before + STAKE, "it keeps what it could not pass on"

    simulate(main, 22)
