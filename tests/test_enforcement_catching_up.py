"""Who was away looks at all that happened before it does what seems due: perhaps somebody did it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from simulation.mallory import ready_to_cheat
from simulation.tower_world import CAROL, TowerWorld, settle_down
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.testing.world import CLAIM_ALL, open_world
from tallystick.settlement.chain import ChallengeCall
from tallystick.settlement.sending.obligations import Duty

CONFIG = Config(challenge_period=600, duties=CLAIM_ALL)


def challenges(node: Node) -> int:
    return sum(obligation.duty is Duty.CHALLENGE for obligation in node.onchain.sender.obligations())


def test_a_node_that_was_down_does_not_challenge_what_was_challenged_long_ago() -> None:
    async def main() -> None:
        async with open_world(1, config=CONFIG, interval=12.0) as world:
            channel, villain, old = await ready_to_cheat(world)
            await world.crash("alice")
            await villain.close(channel, *old)
            await world.blocks(1)
            for side in (0, 1):
                if villain.newest(channel, side) > old[side]:
                    await villain.challenge(channel, side, villain.newest(channel, side))
            await world.blocks(5)
            alice = await world.start("alice")
            await world.blocks(5)
            assert challenges(alice) == 0
            assert not [o for o in alice.onchain.sender.obligations() if o.attempts and o.duty is Duty.CHALLENGE]

    simulate(main, 1)


@pytest.fixture
def world(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> Iterator[TowerWorld]:
    made = TowerWorld(tmp_path)
    yield made
    made.store.close()


async def test_a_tower_that_was_down_does_not_challenge_what_was_challenged_long_ago(world: TowerWorld) -> None:
    await world.appointed()
    await world.cheat()
    world.chain.mine(2)
    for sender, seq, amount in ((world.mallory, 7, 600), (world.alice, 3, 40)):
        receipt = await world.chain.call(CAROL, ChallengeCall(world.proof(sender, seq, amount)))
        assert receipt.success
    world.chain.mine(5)
    async with world.house.open() as (tower, _):
        await settle_down(tower.follower.wait_reached, world.chain.newest.header.number)
        await world.mine(3)
        assert tower.watch.challenged == 0


async def test_a_tower_that_was_down_challenges_what_nobody_did(world: TowerWorld) -> None:
    await world.appointed()
    await world.cheat()
    world.chain.mine(5)
    async with world.house.open() as (tower, _):
        await settle_down(tower.follower.wait_reached, world.chain.newest.header.number)
        assert tower.watch.challenged == 2
        await world.mine(3)
    await world.assert_caught()
