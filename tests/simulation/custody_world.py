"""Bob is paid by Alice, and two towers guard him: what he takes in waits for their receipts, as his policy says."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from simulation.tower_house import TowerHouse
from tallystick.channels.errors import PeerError
from tallystick.channels.node.custody import CustodyPolicy, CustodyStatistics
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.messages import Ack, Reestablish, decode
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.world import World, open_world
from tallystick.watchtower.offers import ClientPolicy
from tallystick.watchtower.schema import read_coverage
from tallystick.watchtower.tower import TowerPolicy

TOWERS = tuple(PrivateKey(keccak(b"a tower that is waited for %d" % number)) for number in (1, 2))
PORT = 9911
DEPOSIT = 10**9


class CustodyWorld:
    """A world with two towers that can be opened and closed."""

    def __init__(self, world: World, directory: Path, nursery: trio.Nursery) -> None:
        self.world = world
        self.houses = [
            TowerHouse(
                key=key,
                directory=directory / f"tower{number}",
                network=world.network.endpoint(key),
                chain=world.chain,
                policy=TowerPolicy(),
                alarms=[],
            )
            for number, key in enumerate(TOWERS)
        ]
        self._nursery = nursery
        self._doors: dict[int, tuple[trio.Event, trio.Event]] = {}
        """Of towers that are up: what closes one, and what tells that it is closed."""

    @property
    def bob(self) -> Node:
        return self.world.node("bob")

    @property
    def inbound(self) -> ChannelHandle:
        """The channel as Bob has it."""
        return self.bob.channels[0]

    @property
    def received(self) -> int:
        """What Bob's program is told that it got, and what he would claim."""
        return self.inbound.balances[0]

    def custody(self) -> CustodyStatistics:
        return self.bob.statistics().custody

    def watch(self, receipts: int) -> list[int]:
        """See to it that nothing leaves Bob for Alice which shows his countersignature of what fewer towers have.

        Return the numbers of the updates that he acknowledges, as they leave.
        """
        told: list[int] = []

        def look(message: bytes) -> list[bytes]:
            with contextlib.suppress(PeerError):
                found = decode(message)
                theirs = found.theirs if isinstance(found, Reestablish) else None
                seq = found.seq if isinstance(found, Ack) else theirs.proof.seq if theirs is not None else 0
                if seq:
                    assert self.holders(seq) >= receipts, f"update {seq} is acknowledged, and too few towers have it"
                    told.append(seq)
            return [message]

        self.world.seats["bob"].tamper = look
        return told

    def holders(self, seq: int) -> int:
        """Of how many towers Bob has a receipt, on his disk, for update `seq` of Alice's."""
        store, side = self.bob.store, self.inbound.view.channel.peer_side
        held = [read_coverage(store, key.address).get(self.inbound.id) for key in TOWERS]
        return sum(each is not None and (each.seq0, each.seq1)[side] >= seq for each in held)

    async def open_tower(self, number: int) -> None:
        await self._nursery.start(self._keep, number)

    async def close_tower(self, number: int) -> None:
        close, closed = self._doors.pop(number)
        close.set()
        await closed.wait()

    async def _keep(self, number: int, task_status: trio.TaskStatus[None]) -> None:
        self._doors[number] = close, closed = trio.Event(), trio.Event()
        async with self.houses[number].open(PORT + number):
            task_status.started()
            await close.wait()
        closed.set()


@asynccontextmanager
async def custody_world(directory: Path, seed: int, policy: CustodyPolicy) -> AsyncIterator[CustodyWorld]:
    """Open a world in which both towers are up, and Bob waits for receipts as `policy` says."""
    async with open_world(seed, names=("alice", "bob")) as world, trio.open_nursery() as nursery:
        made = CustodyWorld(world, directory, nursery)
        for key in TOWERS:
            world.chain.fund(key.address, 10**18)
        await world.start("alice")
        places = tuple(PeerAddress(bytes(key.public), "tower", PORT + number) for number, key in enumerate(TOWERS))
        hasty = ClientPolicy(ask_within=3.0, backoff_max=2.0, answer_within=5.0)
        config = msgspec.structs.replace(world.config, towers=places, tower_policy=hasty, custody=policy)
        await world.start("bob", config)
        for number in range(len(TOWERS)):
            await made.open_tower(number)
        yield made
        nursery.cancel_scope.cancel()


def play(
    directory: Path,
    policy: CustodyPolicy,
    act: Callable[[CustodyWorld, ChannelHandle], Awaitable[None]],
    seed: int = 7,
) -> None:
    """Let `act` happen to a channel that Alice opened to Bob."""

    async def main() -> None:
        async with custody_world(directory, seed, policy) as made:
            channel = await made.world.node("alice").open_channel(made.world.address("bob"), DEPOSIT)
            await made.world.until(lambda: channel.view.ready, 600)
            await act(made, channel)

    simulate(main, seed)
