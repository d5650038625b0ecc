"""A whole tower on the simulated chain, in virtual time: the cheat is caught, whatever happens to the tower.

Each known failure of existing towers (PROTOCOL section 7) has its test:

| failure elsewhere                                   | test                                                           |
| --------------------------------------------------- | -------------------------------------------------------------- |
| position saved only on blocks with a match          | during_downtime_…, test_follower_shell.py                      |
| appointment deleted on an unknown RPC error         | after_the_chain_node_failed_…                                  |
| one try at a response; a failed response dropped    | reorganisation_takes_back_…, under_congestion_…, at_any_moment |
| event lost because its handler raised               | handler_that_fails_in_mid_block_…                              |
| nonce reuse                                         | test_obligations_core.py, test_tower_seeded.py                 |
| memory-only queues                                  | restarts_after_every_block, test_tower_appointments.py         |
| upload sent before it was stored                    | test_tower_appointments.py                                     |
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from simulation.tower_house import Pair, TowerHouse
from tallystick.channels.errors import StoreError
from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, SignedProof, Voucher
from tallystick.channels.storage.sqlite.store import SqliteStore, open_store
from tallystick.channels.storage.store import Moment
from tallystick.channels.testing.clock import seeded_entropy, virtual_clock
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.settlement.chain import (
    ChallengeCall,
    CloseCall,
    ContractChannel,
    DepositCall,
    Header,
    OpenCall,
    SettleCall,
    TransferCall,
)
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.sending.obligations import ObligationStatus
from tallystick.settlement.testing.local import LocalChain
from tallystick.watchtower.client import ClientPolicy, TowerClient
from tallystick.watchtower.disputes import ChallengeBudget, Defence
from tallystick.watchtower.messages import VERSION, TowerReceipt, Upload
from tallystick.watchtower.sealing import Appointment, locator_of, seal
from tallystick.watchtower.sqlite import CLIENT_SCHEMA, SCHEMAS
from tallystick.watchtower.tower import TowerPolicy

ALICE, MALLORY, TOWER, CAROL = (PrivateKey(bytes([n]) * 32) for n in (1, 2, 3, 4))
FUNDS = 10**18


class TowerWorld:
    """Alice and Mallory share a channel on a chain; a tower watches over Alice's side."""

    def __init__(self, directory: Path) -> None:
        self.chain = LocalChain(funds={key.address: FUNDS for key in (ALICE, MALLORY, TOWER, CAROL)})
        self.network = MemoryNetwork(1)
        self.alarms: list[Alarm] = []
        self.pair = Pair(ALICE, MALLORY, chain_id=self.chain.chain_id, contract=self.chain.contract)
        self.alice = self.pair.keys.index(ALICE)
        self.mallory = 1 - self.alice
        self.house = TowerHouse(
            key=TOWER,
            directory=directory / "tower",
            network=self.network.endpoint(TOWER),
            chain=self.chain,
            policy=TowerPolicy(budget=10**15, fee_reserve=10**12),
            alarms=self.alarms,
        )
        self.store: SqliteStore = open_store(directory / "alice", [CLIENT_SCHEMA], owner="alice", durable=False)

    async def open_channel(self) -> None:
        first, second = self.pair.keys
        await self.chain.call(first, OpenCall(self.pair.terms, 1_000))
        await self.chain.call(second, DepositCall(self.pair.channel, 1, 1_000))

    def proof(self, sender: int, seq: int, amount: int, seen: int = 0) -> SignedProof:
        return self.pair.proof(sender, seq, amount, seen=seen)

    @asynccontextmanager
    async def client(self, at: object) -> AsyncIterator[TowerClient]:
        """Alice's tower client, running."""

        async def commit(moments: Sequence[Moment]) -> None:
            await trio.lowlevel.checkpoint()
            self.store.commit(moments)

        async with trio.open_nursery() as nursery:
            client = TowerClient(
                key=ALICE,
                tower=at,  # type: ignore[arg-type]  # a PeerAddress
                network=self.network.endpoint(ALICE),
                store=self.store,
                commit=commit,
                entropy=seeded_entropy("alice"),
                jitter=random.Random(2).random,
                alarm=self.alarms.append,
                clock=virtual_clock(),
                policy=ClientPolicy(every=0.1),
            )
            nursery.start_soon(client.run)
            yield client
            nursery.cancel_scope.cancel()

    async def upload(self, proof0: SignedProof | None, proof1: SignedProof | None) -> None:
        """Run the tower for as long as it takes to cover Alice's channel."""
        async with self.house.open() as (tower, at):
            await settle_down(tower.follower.reached, self.chain.newest.header.number)
            await trio.sleep(1)
            async with self.client(at) as client:
                client.offer(self.pair.terms, self.pair.close_key, proof0, proof1)
                await client.covered()

    async def appointed(self) -> None:
        """Open the channel, and give the tower its newest proofs: Mallory has paid 600 up to seq 7."""
        await self.open_channel()
        newest = [self.proof(self.mallory, 7, 600), self.proof(self.alice, 3, 40)]
        newest.sort(key=lambda signed: signed.proof.sender)
        await self.upload(*newest)

    async def cheat(self) -> None:
        """Mallory closes with her first proof, of 10."""
        old = self.proof(self.mallory, 1, 10)
        proofs = (old, None) if self.mallory == 0 else (None, old)
        receipt = await self.chain.call(MALLORY, CloseCall(self.pair.channel, *proofs, self.pair.close_key))
        assert receipt.success, receipt.reason

    async def mine(self, count: int = 1, *, pause: float = 2.0) -> None:
        for _ in range(count):
            await trio.sleep(pause)
            self.chain.mine()
        await trio.sleep(pause)

    async def view(self) -> ContractChannel:
        view = await self.chain.channel(self.pair.channel)
        assert view is not None
        return view

    async def assert_caught(self) -> None:
        """The newest proofs stand, Mallory is convicted, and after settlement the tower has its reward."""
        view = await self.view()
        assert view.seqs[self.mallory] == 7
        assert view.seqs[self.alice] == 3
        assert view.convicted
        before = await self.chain.balance(TOWER.address, NATIVE)
        self.chain.advance(700)
        receipt = await self.chain.call(CAROL, SettleCall(self.pair.channel))
        assert receipt.success
        assert await self.chain.balance(TOWER.address, NATIVE) > before
        self.chain.check_conservation()


async def settle_down(reached: Callable[[int], Awaitable[None]], number: int) -> None:
    with trio.fail_after(600):
        await reached(number)


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
    channel = world.chain.channel

    async def stubborn(wanted: bytes) -> ContractChannel | None:
        nonlocal asked
        asked += 1
        if asked < 4:
            await trio.lowlevel.checkpoint()
            return None
        return await channel(wanted)  # type: ignore[arg-type]  # a ChannelId

    fickle.channel = stubborn  # type: ignore[attr-defined]  # in place of the node's own
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
            await client.covered()
        await world.mine(4)
        await world.assert_caught()


async def test_an_appointment_given_while_the_tower_was_cut_off_arrives_later(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.open_channel()
    async with world.house.open() as (tower, at):
        await settle_down(tower.follower.reached, world.chain.newest.header.number)
        world.network.partition(TOWER.public)
        async with world.client(at) as client:
            client.offer(world.pair.terms, world.pair.close_key, world.proof(0, 1, 5), None)
            await trio.sleep(60)
            assert client.statistics().dirty == 1
            assert client.statistics().exposed == 5
            world.network.heal(TOWER.public)
            await client.covered()
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
