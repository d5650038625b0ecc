"""A tower whose chain node, account, disk or handler fails catches the cheat all the same, at a cost it can bear."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest
import trio

from simulation.tower_house import Pair
from simulation.tower_world import ALICE, CAROL, MALLORY, TOWER, TowerWorld
from tallystick.channels.errors import StoreError
from tallystick.channels.node.alarms import AlarmKind
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Voucher
from tallystick.channels.storage.sqlite.store import SqliteStore, open_store
from tallystick.channels.storage.store import Moment
from tallystick.settlement.chain import (
    ChallengeCall,
    ContractChannel,
    Header,
    TransferCall,
)
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.sending.obligations import ObligationStatus
from tallystick.settlement.testing.local import LocalChain
from tallystick.watchtower.disputes import ChallengeBudget, Defence
from tallystick.watchtower.sqlite import SCHEMAS
from tallystick.watchtower.tower import TowerPolicy


@pytest.fixture
def world(tmp_path: Path) -> AsyncIterator[TowerWorld]:
    made = TowerWorld(tmp_path)
    yield made  # type: ignore[misc]  # a plain generator fixture
    made.store.close()


class Fickle:
    """A chain node in front of the real one, that fails as it is told to."""

    def __init__(self, chain: LocalChain) -> None:
        self._chain = chain
        self.failing: Exception | None = None

    def __getattr__(self, name: str) -> object:
        found = getattr(self._chain, name)
        if name not in {"head", "header", "blocks", "submit", "receipt", "nonce", "fee_price", "balance", "channel"}:
            return found

        async def call(*arguments: object) -> object:
            if self.failing is not None:
                await trio.lowlevel.checkpoint()
                raise self.failing
            return await found(*arguments)

        return call


@pytest.mark.parametrize("fault", [ChainUnavailable("no answer"), ChainError("error -32603: unheard of")])
async def test_a_cheat_is_caught_after_the_chain_node_failed_for_most_of_the_window(
    world: TowerWorld, fault: Exception, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    fickle = Fickle(world.chain)
    world.house.chain = fickle  # type: ignore[assignment]  # it hands on the whole interface
    async with world.house.open() as (tower, _):
        await trio.sleep(1)
        fickle.failing = fault
        await world.cheat()
        await world.mine(10, pause=30)
        assert (await world.view()).seqs[world.mallory] == 1
        assert tower.troubles()
        assert tower.statistics().appointments == 1
        fickle.failing = None
        await world.mine(5, pause=31)
        assert tower.troubles() == ()
        await world.assert_caught()


async def test_a_handler_that_fails_in_mid_block_loses_no_event(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    fickle = Fickle(world.chain)
    world.house.chain = fickle  # type: ignore[assignment]  # it hands on the whole interface
    asked = 0
    channels = world.chain.channels

    async def stubborn(wanted: Sequence[ChannelId]) -> tuple[ContractChannel | None, ...]:
        nonlocal asked
        asked += 1
        if asked < 4:
            await trio.lowlevel.checkpoint()
            return (None,) * len(wanted)
        return await channels(wanted)

    fickle.channels = stubborn  # type: ignore[attr-defined]  # in place of the node's own
    async with world.house.open():
        await world.cheat()
        await world.mine(6, pause=10)
        assert asked >= 4
        await world.assert_caught()


async def test_a_cheat_is_caught_after_a_chain_node_said_for_a_while_that_the_window_was_over(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    fickle = Fickle(world.chain)
    world.house.chain = fickle  # type: ignore[assignment]  # it hands on the whole interface

    def later(found: Header) -> Header:
        return msgspec.structs.replace(found, time=found.time + 2 * 86_400)

    async def head() -> Header:
        return later(await world.chain.head())

    async def header(number: int) -> Header | None:
        found = await world.chain.header(number)
        return None if found is None else later(found)

    async with world.house.open() as (tower, _):
        await trio.sleep(1)
        await world.cheat()
        fickle.head, fickle.header = head, header  # type: ignore[attr-defined]  # in place of the node's own
        await world.mine(8)
        assert tower.statistics().sender.quarantined >= 2
        del fickle.head, fickle.header  # type: ignore[attr-defined]  # the node's own again
        await world.mine(10)
        await world.assert_caught()


async def test_a_tower_whose_account_holds_too_little_says_so_takes_nothing_new_and_says_when_it_is_over(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    async with world.house.open() as (tower, _):
        await trio.sleep(40)
        assert tower.troubles() == ()
        held = await world.chain.balance(TOWER.address, NATIVE)
        await world.chain.call(TOWER, TransferCall(NATIVE, CAROL.address, held - 10**11))
        await trio.sleep(70)
        assert any("fee account" in trouble for trouble in tower.troubles())
        await world.chain.call(CAROL, TransferCall(NATIVE, TOWER.address, 5 * 10**14))
        await trio.sleep(70)
        assert tower.troubles() == ()
        world.chain.congest(10**12)
        await trio.sleep(200)
    fees = [AlarmKind.FEE_ACCOUNT, AlarmKind.FEE_ACCOUNT_FUNDED, AlarmKind.FEE_ACCOUNT]
    assert [alarm.kind for alarm in world.alarms if alarm.kind in fees] == fees, (
        "dear gas makes what it guards dear, too"
    )


async def test_a_challenge_that_earns_next_to_nothing_costs_no_more_than_courtesy(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    """Both ends of a channel of 2,000 may belong to one who wants a tower's coins to be spent."""
    world.house.policy = TowerPolicy(budget=10**15, fee_reserve=10**12, courtesy=3 * 10**6)
    await world.appointed()
    async with world.house.open() as (tower, _):
        world.chain.congest(10**6)
        await world.cheat()
        await world.mine(2)
        budgets = {o.budget for o in tower.sender.obligations() if isinstance(o.call, ChallengeCall)}
        assert budgets == {3 * 10**6}
        world.chain.congest(0)
        await world.mine(6)
        await world.assert_caught()


def test_a_challenge_may_cost_half_of_what_it_earns() -> None:
    pair = Pair(ALICE, MALLORY, chain_id=1, contract=Address(bytes(20)))
    proofs = pair.proof(0, 7, 600), pair.proof(1, 3, 40)
    budget = ChallengeBudget(budget=10**6, courtesy=5, reward_bps=1_000)
    promised = Defence(pair.keys[0].address, proofs, Voucher(pair.channel, TOWER.address), bytes(64))
    unpromised = msgspec.structs.replace(promised, voucher=None, voucher_signature=b"")
    assert budget.for_challenge(promised, 1, (1_000, 1_000)) == (1_000 + 600 - 40) // 10 // 2
    assert budget.for_challenge(promised, 1, (10**9, 10**9)) == 10**6
    assert budget.for_challenge(promised, 1, (1_000, 0)) == 560 // 20
    assert budget.for_challenge(promised, 0, (600, 1_000)) == 5
    assert budget.for_challenge(promised, 1, None) == 10**6, "not known after a restart"
    assert budget.for_challenge(unpromised, 1, (10**9, 10**9)) == budget.for_challenge(unpromised, 1, None) == 5


class FullDisk(SqliteStore):
    """A store whose disk can be full."""

    full = False

    def commit(self, moments: Sequence[Moment]) -> None:
        if self.full:
            raise StoreError("no space left on device")
        super().commit(moments)


async def test_a_full_disk_stops_nothing_for_good(world: TowerWorld, autojump_clock: trio.testing.MockClock) -> None:
    await world.appointed()
    plain = open_store(world.house.directory, SCHEMAS, owner="a tower", durable=False)
    disk = FullDisk(plain._writer, plain._reader, SCHEMAS)
    async with world.house.run_on(disk) as (tower, _):
        disk.full = True
        await world.cheat()
        await world.mine(3, pause=10)
        assert any("disk" in trouble for trouble in tower.troubles())
        assert any("disk" in alarm.text for alarm in world.alarms)
        assert await world.chain.nonce(TOWER.address) == 0
        disk.full = False
        await world.mine(5, pause=31)
        assert tower.troubles() == ()
        await world.assert_caught()
    plain.close()


async def test_somebody_elses_equal_challenge_makes_the_towers_superfluous(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    world.chain.censor(lambda transaction: transaction.sender == TOWER.address)
    async with world.house.open() as (tower, _):
        await world.cheat()
        await world.mine(1)
        for sender, seq, amount in ((world.mallory, 7, 600), (world.alice, 3, 40)):
            await world.chain.call(CAROL, ChallengeCall(world.proof(sender, seq, amount)))
        await world.mine(2)
        assert {o.status for o in tower.sender.obligations()} == {ObligationStatus.SUPERSEDED}
        world.chain.censor(None)
        await world.mine(4)
        assert all(o.receipt is not None for o in tower.sender.obligations())
        assert (await world.view()).seqs[world.mallory] == 7


async def test_a_challenge_on_its_way_is_not_made_twice_when_somebody_challenges_with_less(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    world.chain.censor(lambda transaction: transaction.sender == TOWER.address)
    async with world.house.open() as (tower, _):
        await world.cheat()
        await world.mine(1)
        await world.chain.call(CAROL, ChallengeCall(world.proof(world.mallory, 3, 30)))
        await world.mine(2)
        assert tower.statistics().challenges == 2
        world.chain.censor(None)
        await world.mine(4)
        assert await world.chain.nonce(TOWER.address) == 2
        await world.assert_caught()
