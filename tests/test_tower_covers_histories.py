"""Over the wire: an honest tower is never slashed, whatever its client and the peer do, in league or not; one that
sleeps through a window is, whenever a promise was broken. By seeded histories, with restarts and reorganisations.

Who is guilty is worked out here from what happened on the chain, and not by what the client or a contract keeps.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from simulation.cover_world import COVER, CoverWorld
from simulation.tower_world import CAROL
from tallystick.channels.protocol.objects import SignedProof
from tallystick.settlement.chain import ChallengeCall, CloseCall
from tallystick.settlement.modules.covers import TowerPromise
from tallystick.watchtower.cover_schema import SignedCover
from tallystick.watchtower.covering import CoverClient
from tallystick.watchtower.errors import CoverRefused
from tallystick.watchtower.tower import Tower

PERIOD = 600
SEEDS = range(24)


class History:
    """What happens in one life of a channel, drawn from a seed."""

    def __init__(self, world: CoverWorld, seed: int, *, sleeps: bool) -> None:
        self.world = world
        self.seed, self.draw = seed, random.Random(seed)
        self.sleeps = sleeps
        self.promises: list[TowerPromise] = []
        self.closer = 0

    def proof(self, sender: int, most: int = 6) -> SignedProof | None:
        """A proof of any number, which both sign at will; or none."""
        seq = self.draw.randrange(most + 1)
        return self.world.proof(sender, seq, self.draw.choice((0, 5, 10**30))) if seq else None

    async def promise(self, client: CoverClient, held: SignedCover) -> None:
        """Ask for a promise on whatever proofs; what is refused is not promised."""
        try:
            made = await client.ask_promise(held, self.proof(0), self.proof(1))
        except CoverRefused:
            return
        self.promises.append(made.promise)

    async def close(self) -> None:
        """Either side closes, with whatever proofs; in every third history the peer does, with none."""
        cheats = self.seed % 3 == 0
        self.closer = self.world.mallory if cheats else self.draw.randrange(2)
        key = self.world.pair.keys[self.closer]
        proofs = (None, None) if cheats else (self.proof(0, 4), self.proof(1, 4))
        call = CloseCall(self.world.pair.channel, *proofs, self.world.pair.close_key)
        receipt = await self.world.chain.call(key, call)
        assert receipt.success, receipt.reason

    async def disturb(self) -> None:
        """A stray challenge, a reorganisation, or some blocks."""
        match self.draw.randrange(3):
            case 0 if (proof := self.proof(self.draw.randrange(2), 4)) is not None:
                await self.world.chain.call(CAROL, ChallengeCall(proof))
            case 1:
                self.world.chain.reorganise(self.draw.randrange(1, 3))
            case _:
                await self.world.mine(1)

    async def run(self) -> None:
        """Play it; at the end the window is over."""
        world = self.world
        await world.bonded()
        async with world.house.open() as (tower, at):
            await world.caught_up(tower)
            client = world.covers(at)
            held = await world.covered(tower, client)
            for _ in range(self.draw.randrange(1, 4)):
                await self.promise(client, held)
                await trio.sleep(self.draw.randrange(4))
            if not self.sleeps:
                await self.close()
                await self.promise(client, held)
                await self._answer(tower)
        if self.sleeps:
            await self.close()
        else:
            async with world.house.open() as (tower, at):  # it was restarted within the window
                await self._answer(tower)
        world.chain.advance(PERIOD + 1)

    async def _answer(self, tower: Tower) -> None:
        for _ in range(2):
            await self.disturb()
        await self.world.mine(3)

    async def is_guilty(self) -> bool:
        """Whether the client could rely on more than what stands, by what happened."""
        view = await self.world.view()
        closed = (view.deadline or 0) - PERIOD
        if self.closer == self.world.alice:
            return False
        return any(
            promise.since <= closed and (promise.seq0 > view.seqs[0] or promise.seq1 > view.seqs[1])
            for promise in self.promises
        )


@pytest.mark.parametrize("seed", SEEDS)
async def test_an_honest_tower_is_never_slashed(tmp_path: Path, seed: int, autojump_clock: MockClock) -> None:
    world = CoverWorld(tmp_path)
    try:
        history = History(world, seed, sleeps=False)
        await history.run()
        assert not await history.is_guilty()
        assert "" not in await world.accuse()
        assert (await world.bonds())[1] == COVER
    finally:
        world.store.close()


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_tower_that_sleeps_is_slashed_whenever_it_broke_a_promise(
    tmp_path: Path, seed: int, autojump_clock: MockClock
) -> None:
    world = CoverWorld(tmp_path)
    try:
        history = History(world, seed, sleeps=True)
        await history.run()
        guilty = await history.is_guilty()
        assert guilty or seed % 3 or not history.promises, "who closes with nothing breaks any promise"
        assert await world.accuse() == ([""] if guilty else [])
        assert (await world.bonds())[1] == (0 if guilty else COVER)
    finally:
        world.store.close()
