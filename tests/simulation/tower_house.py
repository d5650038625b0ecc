"""A kit to test with towers: channels with proofs at will, and a whole tower on a simulated chain in virtual time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from tallystick.channels.node.alarms import Alarm
from tallystick.channels.ports import Network, PeerAddress
from tallystick.channels.protocol.eip712 import channel_id, digest_proof, domain_separator, locks_root
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address, BalanceProof, ChannelId, Lock, SignedProof, Terms
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.storage.store import Store
from tallystick.channels.testing.clock import virtual_clock
from tallystick.channels.testing.disk import Disk
from tallystick.settlement.port import Chain
from tallystick.watchtower.covers import Registry
from tallystick.watchtower.sqlite import SCHEMAS
from tallystick.watchtower.tower import Tower, TowerPolicy


class Pair:
    """A channel between two keys that sign whatever a test asks for: honest or not. Side 0 has the lower address."""

    def __init__(
        self,
        one: PrivateKey,
        other: PrivateKey,
        *,
        chain_id: int,
        contract: Address,
        period: int = 600,
        number: int = 0,
    ) -> None:
        self.keys = tuple(sorted((one, other), key=lambda key: key.address))
        self.close_key = keccak(b"close key" + one.reveal() + other.reveal())
        participants = self.keys[0].address, self.keys[1].address
        self.terms = Terms(chain_id, contract, participants, NATIVE, 0, period, keccak(self.close_key))
        self._domain = domain_separator(chain_id, contract)

    @property
    def channel(self) -> ChannelId:
        """The channel's id."""
        return channel_id(self.terms)

    def proof(
        self, sender: int, seq: int, transferred: int, *, seen: int = 0, locks: Sequence[Lock] = ()
    ) -> SignedProof:
        """Return a balance proof with both signatures."""
        locked = sum(lock.amount for lock in locks)
        bare = BalanceProof(self.channel, sender, seq, transferred, locked, locks_root(locks), seen)
        digest = digest_proof(self._domain, bare)
        return SignedProof(bare, self.keys[sender].sign(digest), self.keys[1 - sender].sign(digest))


class TowerHouse(msgspec.Struct):
    """Where a tower lives through its restarts: key, disk, network and chain. `alarms` gathers what it says."""

    key: PrivateKey
    directory: Path
    network: Network
    chain: Chain
    policy: TowerPolicy
    alarms: list[Alarm]
    free_space: int = 2**40
    disk: Disk | None = None
    """If there is one, the tower keeps everything on it instead of in the directory."""
    registry: Registry | None = None
    """Of towers' bonds, if it has one."""

    @asynccontextmanager
    async def open(self, port: int = 9911) -> AsyncIterator[tuple[Tower, PeerAddress]]:
        """Run the tower in this house until the block ends."""
        disk = self.disk
        store = disk.open() if disk else open_store(self.directory, SCHEMAS, owner="a tower", durable=False)
        try:
            async with self.run_on(store, port) as running:
                yield running
        finally:
            store.close()

    @asynccontextmanager
    async def run_on(self, store: Store, port: int = 9911) -> AsyncIterator[tuple[Tower, PeerAddress]]:
        """Run the tower on a given store until the block ends."""
        async with trio.open_nursery() as nursery:
            tower = Tower(
                key=self.key,
                store=store,
                network=self.network,
                chain=self.chain,
                clock=virtual_clock(),
                elapsed=trio.current_time,
                jitter=random.Random(1).random,
                alarm=self.alarms.append,
                free_space=lambda: self.free_space,
                policy=self.policy,
                inline=True,
                registry=self.registry,
            )
            address: list[PeerAddress] = []
            started = trio.Event()

            def listening(at: PeerAddress) -> None:
                address.append(at)
                started.set()

            async def run() -> None:
                await tower.run("tower", port, started=listening)

            nursery.start_soon(run)
            await started.wait()
            yield tower, address[0]
            nursery.cancel_scope.cancel()
