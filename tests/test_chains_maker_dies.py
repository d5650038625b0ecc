"""A maker between two chains that dies at any of its effects, or whose payee is silent: paid on both or on neither."""

from __future__ import annotations

import random

import pytest
import trio

from simulation.two_chains import AMOUNT, DEPOSIT, PRICE, Hub, mine, play
from tallystick.router.errors import PaymentFailed
from tallystick.sdk.testing.world import World

UNPAID, PAID = (DEPOSIT, 0, DEPOSIT, 0), (DEPOSIT - PRICE, PRICE, DEPOSIT - AMOUNT, AMOUNT)

EFFECTS = 8
"""Of the hub's node on either shard, while a payment passes: about."""


def balances(zero: World, one: World) -> tuple[int, int, int, int]:
    return mine(zero, "alice"), mine(zero, "hub"), mine(one, "hub"), mine(one, "bob")


def locked(world: World, name: str) -> int:
    [channel] = world.node(name).channels
    state = channel.view.channel
    return state.ours.simplex.proof.locked + state.theirs.simplex.proof.locked


async def settled(zero: World, one: World) -> tuple[int, int, int, int]:
    """Return the balances once nothing is locked any more."""
    both = ((zero, "alice"), (zero, "hub"), (one, "hub"), (one, "bob"))
    assert await zero.until(lambda: all(world.is_up(name) and not locked(world, name) for world, name in both))
    return balances(zero, one)


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(6, 60))])
def test_a_maker_that_dies_at_any_of_its_effects_loses_nothing(seed: int) -> None:
    """Bob's node refuses the payment of every other seed."""
    rng = random.Random(seed)

    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT)
        text = await hub.cross(asked.text)
        if seed % 2:
            await one.node("bob").cancel_invoice(asked.payment_hash)
        for world in rng.choice(([zero], [one], [zero, one])):
            life = world.seats["hub"].life
            assert life is not None
            life.gate.aim(rng.randrange(EFFECTS), after=rng.random() < 0.5)
        paying = zero.attempt("alice", lambda alice: alice.pay(text, timeout=3_600))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.serve)
            with trio.fail_after(7_200):
                await paying.ended.wait()
                found = await settled(zero, one)
            nursery.cancel_scope.cancel()
        assert found == (PAID if paying.error is None else UNPAID)
        assert (found == PAID) is (seed % 2 == 0)

    play(story)


def test_a_payee_that_is_silent_until_its_lock_has_ended_is_paid_by_nobody() -> None:
    async def story(zero: World, one: World, hub: Hub) -> None:
        asked = await one.node("bob").create_invoice(AMOUNT, hold=True)
        text = await hub.cross(asked.text)
        paying = zero.attempt("alice", lambda alice: alice.pay(text, timeout=4 * 3_600))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.serve)
            with trio.fail_after(4 * 3_600):
                await paying.ended.wait()
            assert isinstance(paying.error, PaymentFailed)
            assert await settled(zero, one) == UNPAID
            nursery.cancel_scope.cancel()

    play(story, (30.0, 12.0))
