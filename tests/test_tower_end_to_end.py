"""A whole tower on the simulated chain, in virtual time: the cheat is caught, whatever happens to the tower.

Each known failure of existing towers (PROTOCOL section 7) has its test:

| failure elsewhere                                   | test                                                           |
| --------------------------------------------------- | -------------------------------------------------------------- |
| position saved only on blocks with a match          | position_moves_…, during_downtime_…, test_follower_shell.py    |
| appointment deleted on an unknown RPC error         | test_tower_troubles.py: after_the_chain_node_failed_…          |
| one try at a response; a failed response dropped    | reorganisation_takes_back_…, under_congestion_…, at_any_moment |
| event lost because its handler raised               | test_tower_troubles.py: handler_that_fails_in_mid_block_…      |
| nonce reuse                                         | test_obligations_core.py, test_tower_seeded.py                 |
| memory-only queues                                  | restarts_after_every_block, test_tower_client.py               |
| upload sent before it was stored                    | test_tower_client.py                                           |
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from simulation.tower_world import ALICE, CAROL, MALLORY, TOWER, TowerWorld, settle_down
from tallystick.channels.protocol.objects import Address
from tallystick.channels.testing.clock import seeded_entropy
from tallystick.settlement.chain import (
    CloseCall,
    SettleCall,
)
from tallystick.settlement.sending.obligations import ObligationStatus
from tallystick.watchtower.messages import VERSION, TowerReceipt, Upload
from tallystick.watchtower.sealing import Appointment, locator_of, seal


@pytest.fixture
def world(tmp_path: Path) -> AsyncIterator[TowerWorld]:
    made = TowerWorld(tmp_path)
    yield made  # type: ignore[misc]  # a plain generator fixture
    made.store.close()


async def test_a_cheat_is_caught_while_the_tower_runs(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    async with world.house.open() as (tower, _):
        await world.cheat()
        await world.mine(6)
        assert tower.statistics().challenges == 2
        assert tower.statistics().sender.done == 2
    await world.assert_caught()
    assert world.alarms == []


async def test_a_cheat_during_downtime_is_caught_although_no_block_ever_matched_before(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    await world.mine(20)
    await world.cheat()
    await world.mine(20)
    async with world.house.open():
        await world.mine(3)
        await world.assert_caught()


async def test_the_position_moves_with_every_block_though_none_matches(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    for _ in range(3):
        async with world.house.open() as (tower, _):
            await world.mine(10)
            assert tower.follower.followed.position == world.chain.newest.header
        async with world.house.open() as (tower, _):
            assert tower.follower.followed.position == world.chain.newest.header, "as stored"


async def test_a_cheat_is_caught_by_a_tower_that_restarts_after_every_block(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    await world.cheat()
    for _ in range(8):
        async with world.house.open():
            await world.mine(1, pause=0.5)
    await world.assert_caught()


async def test_a_cheat_is_caught_at_any_moment_of_a_crash(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    await world.cheat()
    for pause in range(12):
        async with world.house.open():
            for _ in range(5 * pause):
                await trio.lowlevel.checkpoint()
        if pause % 3 == 2:
            world.chain.mine()
    async with world.house.open():
        await world.mine(3)
    await world.assert_caught()


async def test_a_challenge_that_a_reorganisation_takes_back_is_made_again(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    async with world.house.open():
        await world.cheat()
        await world.mine(1)
        assert (await world.view()).seqs[world.mallory] == 7
        world.chain.reorganise(2, keep=lambda transaction: transaction.sender == MALLORY.address)
        assert (await world.view()).seqs[world.mallory] == 1
        await world.mine(4)
        await world.assert_caught()


async def test_a_close_that_a_reorganisation_takes_away_and_brings_back_is_caught(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    async with world.house.open() as (tower, _):
        await world.cheat()
        await world.mine(5)
        world.chain.reorganise(6, keep=lambda transaction: False)
        await world.mine(2)
        assert (await world.view()).status == 0
        assert tower.statistics().cases == 0
        await world.cheat()
        await world.mine(8)
        await world.assert_caught()


async def test_a_challenge_is_made_once_though_its_close_left_the_chain_and_came_back(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    async with world.house.open() as (tower, _):
        world.chain.censor(lambda transaction: transaction.sender == TOWER.address)
        await world.cheat()
        await world.mine(1)
        world.chain.reorganise(2, keep=lambda transaction: transaction.sender == TOWER.address)
        await world.mine(1)
        assert tower.statistics().cases == 0
        world.chain.advance(60)
        await world.cheat()
        await world.mine(1)
        deadline = (await world.view()).deadline
        assert {one.deadline for one in tower.sender.obligations()} == {deadline}
        world.chain.censor(None)
        await world.mine(6)
        assert await world.chain.nonce(TOWER.address) == 2, "a challenge of each side"
        await world.assert_caught()


async def test_a_cheat_is_caught_under_congestion_by_rising_fees(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    async with world.house.open() as (tower, _):
        await world.cheat()
        world.chain.congest(5 * 10**9)
        prices: list[int] = []
        for _ in range(80):
            await world.mine(1, pause=3)
            prices += [o.fee_price for o in tower.sender.obligations() if o.status is ObligationStatus.SENT]
        assert max(prices) > 5 * 10**9
        assert max(prices) * 110_000 <= 10**15
        await world.assert_caught()


async def test_its_own_clients_close_is_never_challenged(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    async with world.house.open() as (tower, _):
        await world.chain.call(ALICE, CloseCall(world.pair.channel, None, None, world.pair.close_key))
        await world.mine(4)
        assert tower.statistics().cases == 1
        assert tower.sender.obligations() == ()
        assert not (await world.view()).convicted


async def test_an_honest_close_is_left_alone_and_forgotten_once_settled_for_good(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    async with world.house.open() as (tower, _):
        proofs = sorted(
            (world.proof(world.mallory, 7, 600), world.proof(world.alice, 3, 40)), key=lambda s: s.proof.sender
        )
        await world.chain.call(MALLORY, CloseCall(world.pair.channel, *proofs, world.pair.close_key))
        await world.mine(3)
        assert tower.sender.obligations() == ()
        world.chain.advance(700)
        await world.chain.call(CAROL, SettleCall(world.pair.channel))
        world.chain.mine(130)
        await trio.sleep(5)
        assert tower.statistics().cases == 0
        assert tower.statistics().appointments == 0


async def test_a_newer_appointment_within_the_window_counts(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.open_channel()
    old = world.proof(world.mallory, 1, 10)
    await world.upload(*((old, None) if world.mallory == 0 else (None, old)))
    async with world.house.open() as (tower, at):
        await world.cheat()
        await world.mine(2)
        assert tower.sender.obligations() == ()
        async with world.client(at) as client:
            proofs = sorted(
                (world.proof(world.mallory, 7, 600), world.proof(world.alice, 3, 40)), key=lambda s: s.proof.sender
            )
            client.offer(world.pair.terms, world.pair.close_key, *proofs)
            await client.wait_covered()
        await world.mine(4)
        await world.assert_caught()


async def test_an_appointment_given_while_the_tower_was_cut_off_arrives_later(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.open_channel()
    async with world.house.open() as (tower, at):
        await settle_down(tower.follower.wait_reached, world.chain.newest.header.number)
        world.network.partition(TOWER.public)
        async with world.client(at) as client:
            client.offer(world.pair.terms, world.pair.close_key, world.proof(0, 1, 5), None)
            await trio.sleep(60)
            assert client.statistics().dirty == 1
            assert client.statistics().exposed == 5
            world.network.heal(TOWER.public)
            await client.wait_covered()
            assert client.statistics().exposed == 0


async def test_what_others_leave_under_a_clients_locator_delays_no_challenge(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    locator = locator_of(world.pair.close_key, TOWER.address, ALICE.address)
    async with world.house.open() as (tower, _):
        await world.mine(1)
        for number, seq in enumerate(range(2, 6)):  # Mallory shares the close key, and can be many clients
            low = world.proof(world.mallory, seq, 10 * seq)
            proofs = (low, None) if world.mallory == 0 else (None, low)
            blob = seal(
                Appointment(world.pair.terms, *proofs, bytes(64)),
                world.pair.close_key,
                TOWER.address,
                ALICE.address,
                seeded_entropy(str(seq)),
            )
            answer = await tower.service.answer(Address(bytes([number + 10]) * 20), Upload(VERSION, locator, 1, blob))
            assert isinstance(answer, TowerReceipt)
        await world.cheat()
        await world.mine(8)
        assert tower.statistics().challenges == 2
        assert tower.statistics().sender.done == 2
    await world.assert_caught()
