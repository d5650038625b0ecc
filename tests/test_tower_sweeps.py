"""Boundaries of a tower, swept in virtual time: how long it may be down, how deep and when the chain is reorganised.

Whatever happened, what it holds of open disputes is what a new tower finds that reads the chain from its start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
import trio

from simulation.tower_world import MALLORY, TowerWorld, settle_down
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.settlement.ethereum.transactions import Transaction
from tallystick.watchtower.disputes import Dispute
from tallystick.watchtower.schema import read_appointments
from tallystick.watchtower.sqlite import SCHEMAS
from tallystick.watchtower.tower import Tower

PERIOD = 600
KEEPS: dict[str, Callable[[Transaction], bool]] = {
    "all": lambda transaction: True,
    "the cheat's": lambda transaction: transaction.sender == MALLORY.address,
    "none": lambda transaction: False,
}


@pytest.fixture
def world(tmp_path: Path) -> AsyncIterator[TowerWorld]:
    made = TowerWorld(tmp_path)
    yield made  # type: ignore[misc]  # a plain generator fixture
    made.store.close()


async def rebuilt(world: TowerWorld, tower: Tower, directory: Path) -> dict[bytes, Dispute]:
    """Return the disputes as a tower finds them that has the same appointments, and begins with the first block."""
    store = open_store(directory, SCHEMAS, owner="a new tower", durable=False)
    for dispute in tower.watch.disputes.values():
        for locator in tower.watch._locators(dispute):
            store.commit(read_appointments(tower.sender.store, locator))
    house = msgspec.structs.replace(world.house, network=world.network.endpoint(MALLORY), alarms=[])
    world.chain.censor(lambda transaction: True)  # it shall look, and change nothing
    async with house.run_on(store, 9912) as (other, _):
        await settle_down(other.follower.wait_reached, world.chain.newest.header.number)
        found = dict(other.watch.disputes)
    world.chain.censor(None)
    store.close()
    return found


@pytest.mark.parametrize(
    ("left", "caught"), [(PERIOD, True), (PERIOD // 2, True), (90, True), (30, True), (-1, False), (-200, False)]
)
async def test_a_tower_may_be_down_until_shortly_before_the_window_ends_and_no_longer(
    world: TowerWorld, left: int, caught: bool, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    await world.cheat()
    deadline = (await world.view()).deadline
    assert deadline is not None
    while (away := deadline - left - world.chain.newest.header.time) > 0:
        world.chain.advance(min(away, 60))
    async with world.house.open():
        await world.mine(8)
    view = await world.view()
    assert (view.seqs[world.mallory] == 7) is caught and view.convicted is caught


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("depth", [1, 3, 8])
@pytest.mark.parametrize("step", [0, 2, 7])
async def test_a_reorganisation_of_any_depth_at_any_step_saves_no_cheat(
    world: TowerWorld, tmp_path: Path, step: int, depth: int, keep: str, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    await world.mine(9, pause=0.1)
    async with world.house.open() as (tower, _):
        await world.cheat()
        await world.mine(step)
        world.chain.reorganise(depth, keep=KEEPS[keep])
        await world.mine(1)
        if (await world.view()).status == 0:
            await trio.sleep(2)
            assert tower.statistics().cases == 0, "nobody has closed"
            await world.cheat()
        await settle_down(tower.follower.wait_reached, world.chain.newest.header.number)
        assert await rebuilt(world, tower, tmp_path / "again") == tower.watch.disputes
        await world.mine(10)
        assert await rebuilt(world, tower, tmp_path / "and again") == tower.watch.disputes != {}
        await world.assert_caught()
