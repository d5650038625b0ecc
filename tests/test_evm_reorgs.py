"""Reorganisations on a real geth: a slice of `simulation.evm_reorgs`, and that its own word on finality is kept.

`make soak` plays the whole matrix.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from simulation.evm_reorgs import IN_ONE_WORLD, KINDS, STORIES, Twist, matrix, play
from simulation.geth_world import CONFIRMATIONS, PROFILE, on_geth, open_geth_world

pytestmark = [pytest.mark.processes, on_geth]

SLICE = (
    ("alone", Twist("lost", 5)),
    ("cheat", Twist("moved", 2)),
    ("agreed", Twist("held", 8)),
)
"""Each story, each kind but rivals, below and above the depth at which the nodes believe the chain."""


async def test_lives_of_channels_survive_what_a_reorganisation_does_to_each_transaction(tmp_path: Path) -> None:
    assert {name for name, _ in SLICE} == set(STORIES)
    assert any(twist.depth < CONFIRMATIONS for _, twist in SLICE) and any(twist.depth == 8 for _, twist in SLICE)
    told: list[str] = []
    await play(tmp_path, list(SLICE), told.append)
    assert len(told) == len(SLICE)


async def test_the_chains_own_word_on_finality_is_kept(tmp_path: Path) -> None:
    """A new node takes up to there by events alone; what is above may be another branch the moment after."""
    async with open_geth_world(tmp_path, ["alice"]) as world:
        await world.beacon.switch(await world.beacon.make(world.beacon.head, [()] * 140))
        final = world.beacon.blocks[-20]
        await world.beacon.finalize(final)
        assert await world.chain.final_number() == final.number
        history = await world.chain.history(0)
        assert history is not None and history.last.number == final.number
        assert f"0x{history.last.hash.hex()}" == final.hash
        node = await world.start("alice")
        await world.seen()
        assert len(node.onchain.follower.followed.headers) == 20, "the final one, and what is above, one by one"
        await world.reorganise(19, [()] * 20)
        assert await world.chain.final_number() == final.number
        removed = node.onchain.follower.statistics().removed
        assert removed == 19 and node.onchain.follower.lost is None
        near = world.beacon.blocks[-PROFILE.final_blocks // 4]
        await world.beacon.finalize(near)
        assert await world.chain.final_number() == world.beacon.head.number - PROFILE.final_blocks // 2, (
            "so near is none"
        )


@pytest.mark.soak
@pytest.mark.parametrize("part", range(-(-len(matrix(1)) // IN_ONE_WORLD)))
async def test_the_whole_matrix(tmp_path: Path, part: int) -> None:
    plan = matrix(random.Random(part).randrange(10**6))
    assert {twist.kind for _, twist in plan} == set(KINDS)
    await play(tmp_path, plan[part * IN_ONE_WORLD : (part + 1) * IN_ONE_WORLD])
