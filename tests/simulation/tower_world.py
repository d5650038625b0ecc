"""A world of one tower: Alice, over whose side of a channel it watches, and Mallory, who cheats."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from simulation.tower_house import Pair, TowerHouse
from tallystick.channels.node.alarms import Alarm
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, SignedProof
from tallystick.channels.storage.sqlite.store import SqliteStore, open_store
from tallystick.channels.storage.store import Moment
from tallystick.channels.testing.clock import seeded_entropy, virtual_clock
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.settlement.chain import (
    CloseCall,
    ContractChannel,
    DepositCall,
    OpenCall,
    SettleCall,
)
from tallystick.settlement.testing.local import LocalChain
from tallystick.watchtower.claims import LockClaim
from tallystick.watchtower.client import TowerClient
from tallystick.watchtower.offers import ClientPolicy
from tallystick.watchtower.sqlite import CLIENT_SCHEMA
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
        self.policy = ClientPolicy(every=0.1)
        """Of Alice's client."""
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
                policy=self.policy,
            )
            nursery.start_soon(client.run)
            yield client
            nursery.cancel_scope.cancel()

    async def upload(
        self, proof0: SignedProof | None, proof1: SignedProof | None, claims: tuple[LockClaim, ...] = ()
    ) -> None:
        """Run the tower for as long as it takes to cover Alice's channel."""
        async with self.house.open() as (tower, at):
            await settle_down(tower.follower.wait_reached, self.chain.newest.header.number)
            await trio.sleep(1)
            async with self.client(at) as client:
                client.offer(self.pair.terms, self.pair.close_key, proof0, proof1, claims)
                await client.wait_covered()

    async def appointed(self) -> None:
        """Open the channel, and give the tower its newest proofs: Mallory has paid 600 up to seq 7."""
        await self.open_channel()
        newest = [self.proof(self.mallory, 7, 600), self.proof(self.alice, 3, 40)]
        newest.sort(key=lambda signed: signed.proof.sender)
        await self.upload(newest[0], newest[1])

    async def cheat(self) -> None:
        """Mallory closes with her first proof, of 10."""
        old = self.proof(self.mallory, 1, 10)
        first, second = (old, None) if self.mallory == 0 else (None, old)
        receipt = await self.chain.call(MALLORY, CloseCall(self.pair.channel, first, second, self.pair.close_key))
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
