"""Following a fast chain: how deep a reorganisation may go, how far a tower may lag, follow the chain's own figures."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from simulation.following import one_by_one
from simulation.tower_house import TowerHouse
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.options import Config
from tallystick.sdk.testing.world import open_world
from tallystick.settlement.ethereum.evm.profiles import PROFILES, profile_of
from tallystick.settlement.following.follower import HEADERS_KEPT, Follower, Step, headers_kept
from tallystick.settlement.port import PACE
from tallystick.settlement.sending.moments import read_followed, step_moment
from tallystick.settlement.sending.policy import policy_for
from tallystick.settlement.sending.sqlite import SCHEMA
from tallystick.settlement.simulated.chain import SimulatedChain
from tallystick.settlement.testing.local import LocalChain
from tallystick.watchtower.tower import TowerPolicy

TOWER = PrivateKey(b"\x0a" * 32)
BASE, ARBITRUM = profile_of(8_453).figures, profile_of(42_161).figures


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_reorganisation_is_followed_as_deep_as_the_chain_may_have_one(
    restarts: bool, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    chain, kept = LocalChain(), headers_kept(BASE)
    store = open_store(tmp_path, [SCHEMA], owner="a test", durable=False)

    def begin() -> Follower:
        async def keep(step: Step) -> None:
            await trio.lowlevel.checkpoint()
            store.commit([step_moment(chain.chain_id, step, kept)])

        return Follower(chain, read_followed(store, chain.chain_id, 0, kept=kept), one_by_one(keep), jitter=lambda: 0.5)

    async def follow(follower: Follower) -> None:
        with trio.move_on_after(60):
            await follower.run()

    follower = begin()
    chain.mine(700)
    await follow(follower)
    chain.reorganise(500)
    if restarts:
        follower = begin()
    await follow(follower)
    assert follower.fault is None
    assert follower.followed.position == chain.newest.header
    assert len(read_followed(store, chain.chain_id, 0, kept=kept).headers) == kept == 600
    store.close()


def test_a_node_knows_the_time_that_counts_however_deep_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedChain, "figures", property(lambda self: ARBITRUM))

    async def act() -> None:
        async with open_world(4, config=Config(confirmations=480), interval=0.25) as world:
            world.chain.mine(600)
            for _ in range(2):
                node = await world.start("alice")
                following = node.onchain.following
                assert await world.until(lambda: following.final_number > 0, 60)  # noqa: B023 (it is this round's)
                assert following.final_time > 0, "what is offered for a while would never expire"
                await world.crash("alice")

    simulate(act, 4)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_what_is_remembered_is_no_less_than_what_may_change(profile: object) -> None:
    figures = profile.figures  # type: ignore[attr-defined]
    assert headers_kept(figures) >= max(HEADERS_KEPT, figures.final_blocks)
    assert policy_for(figures).resting_depth >= headers_kept(figures)


def test_a_tower_sends_and_lags_by_the_pace_of_its_chain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(SimulatedChain, "figures", property(lambda self: ARBITRUM))

    async def act() -> None:
        house = TowerHouse(
            key=TOWER,
            directory=tmp_path,
            network=MemoryNetwork(1).endpoint(TOWER),
            chain=LocalChain(),
            policy=TowerPolicy(),
            alarms=[],
        )
        async with house.open() as (tower, _):
            assert tower.sender.policy == policy_for(ARBITRUM)
            assert tower.follower.followed.kept == ARBITRUM.final_blocks
            assert tower.follower.followed.rechecked == ARBITRUM.confirmations
            await tower.follower.wait_reached(0)
            tower.follower._head += 6 * ARBITRUM.pace
            assert not [trouble for trouble in tower.troubles() if "behind" in trouble], "it is a minute"
            tower.follower._head += 1
            assert [trouble for trouble in tower.troubles() if "behind" in trouble]

    simulate(act, 3)
    assert 6 * ARBITRUM.pace * ARBITRUM.block_seconds == 6 * PACE
