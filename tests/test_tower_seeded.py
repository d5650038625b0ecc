"""A tower under random faults of every kind that it claims to survive, in virtual time, replayable by its seed."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
import trio

from simulation.tower_house import Pair, TowerHouse
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.testing.disk import Disk
from tallystick.channels.testing.memory import MemoryDisk
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.channels.testing.scheduling import simulate
from tallystick.settlement.chain import CloseCall, DepositCall, OpenCall
from tallystick.settlement.ethereum.transactions import Transaction
from tallystick.settlement.testing.local import LocalChain
from tallystick.watchtower.messages import VERSION, TowerReceipt, Upload
from tallystick.watchtower.sealing import Appointment, locator_of, seal
from tallystick.watchtower.sqlite import SCHEMAS
from tallystick.watchtower.tower import TowerPolicy

ALICE, MALLORY, TOWER = (PrivateKey(bytes([n]) * 32) for n in (1, 2, 3))
NEWEST = 7


class Ordeal:
    """One run: Mallory cheats, and for two thirds of the window everything may go wrong."""

    def __init__(self, seed: int, directory: Path, disk: Disk | None = None) -> None:
        self.random = random.Random(seed)
        self.chain = LocalChain(funds=dict.fromkeys((key.address for key in (ALICE, MALLORY, TOWER)), 10**18))
        self.pair = Pair(ALICE, MALLORY, chain_id=self.chain.chain_id, contract=self.chain.contract)
        self.mallory = self.pair.keys.index(MALLORY)
        self.used: dict[int, set[bytes]] = {}
        self.house = TowerHouse(
            key=TOWER,
            directory=directory,
            network=MemoryNetwork(seed).endpoint(TOWER),
            chain=self.chain,
            policy=TowerPolicy(budget=10**15, fee_reserve=1),
            alarms=[],
            disk=disk,
        )

    async def appoint(self) -> None:
        """Open the channel, and hand the appointment to the tower's desk."""
        await self.chain.call(self.pair.keys[0], OpenCall(self.pair.terms, 1_000))
        await self.chain.call(self.pair.keys[1], DepositCall(self.pair.channel, 1, 1_000))
        self.chain.mine(8)
        proofs = [self.pair.proof(0, NEWEST, 500), self.pair.proof(1, NEWEST, 600)]
        party = (self.pair.close_key, TOWER.address, ALICE.address)
        blob = seal(Appointment(self.pair.terms, proofs[0], proofs[1], bytes(64)), *party, self.random.randbytes)
        async with self.house.open() as (tower, _):
            await tower.follower.wait_reached(self.chain.newest.header.number)
            await trio.sleep(1)
            answer = await tower.service.answer(ALICE.address, Upload(VERSION, locator_of(*party), 1, blob))
            assert isinstance(answer, TowerReceipt)

    def note(self) -> None:
        """Remember what the tower has signed, by nonce."""
        for transaction in self.chain.waiting():
            if transaction.sender == TOWER.address:
                self.used.setdefault(transaction.nonce, set()).add(transaction.envelope.data)

    def disturb(self) -> None:
        """Do something to the chain that the tower must survive. Mallory's close stays on it."""
        match self.random.randrange(5):
            case 0:
                depth = self.random.randint(1, 3)
                self.chain.reorganise(depth, keep=self.keeps if self.random.random() < 0.5 else self.loses)
            case 1:
                self.chain.congest(self.random.choice([0, 0, 10**8, 5 * 10**9]))
            case 2:
                self.chain.censor(self.loses_tower if self.random.random() < 0.3 else None)
            case _:
                self.chain.mine()

    def keeps(self, transaction: Transaction) -> bool:
        return True

    def loses(self, transaction: Transaction) -> bool:
        return transaction.sender == MALLORY.address

    def loses_tower(self, transaction: Transaction) -> bool:
        return transaction.sender == TOWER.address

    async def run(self) -> None:
        await self.appoint()
        await self.chain.call(MALLORY, CloseCall(self.pair.channel, None, None, self.pair.close_key))
        view = await self.chain.channel(self.pair.channel)
        assert view is not None
        assert view.deadline is not None
        while self.chain.newest.header.time < view.deadline - 200:
            async with self.house.open():
                for _ in range(self.random.randint(0, 4)):
                    await trio.sleep(self.random.uniform(0, 8))
                    self.note()
                    self.disturb()
                for _ in range(self.random.randint(0, 40)):
                    await trio.lowlevel.checkpoint()
            self.note()
            await trio.sleep(self.random.uniform(0, 8))
        self.chain.congest(0)
        self.chain.censor(None)
        async with self.house.open():
            for _ in range(6):
                await trio.sleep(10)
                self.note()
                self.chain.mine()

    def check(self) -> None:
        """The newest proofs stand, and no nonce ever served two calls."""
        record = trio.run(self.chain.channel, self.pair.channel)
        assert record is not None
        assert record.seqs == (NEWEST, NEWEST)
        assert record.convicted
        assert self.used
        assert all(len(calls) == 1 for calls in self.used.values())
        self.chain.check_conservation()


@pytest.mark.parametrize("seed", range(12))
def test_the_cheat_is_caught_under_any_faults(seed: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        ordeal = Ordeal(seed, Path(directory))
        simulate(ordeal.run, seed)
        ordeal.check()


def test_the_same_seed_gives_the_same_run_whatever_engine_keeps_it() -> None:
    traces = []
    for disk in (None, None, MemoryDisk([schema.subject for schema in SCHEMAS])):
        with tempfile.TemporaryDirectory() as directory:
            ordeal = Ordeal(5, Path(directory), disk)
            simulate(ordeal.run, 5)
            traces.append((ordeal.chain.newest.header, ordeal.house.alarms))
    assert traces[0] == traces[1] == traces[2]
