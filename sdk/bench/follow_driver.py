"""A node or a tower that follows a chain from its beginning: a process of `tally bench follow`.

    python -m tallystick.sdk.bench.follow_driver '{"who": "tower", "data": "tower", "url": "http://127.0.0.1:8545"}'

The product from its data directory on: the store, the client of a real chain, and the node as `open_node` makes it, or
the tower as `tally tower run` does. Spoken to as a `driver` is.
"""

from __future__ import annotations

import random
import resource
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import trio

from tallystick.channels.ports import system_clock, system_entropy
from tallystick.channels.protocol.core import new_channel
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Terms
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.transport.links import TcpNetwork
from tallystick.channels.transport.retries import Jitter
from tallystick.sdk.bench.driver import obey, stay_on
from tallystick.sdk.bench.endurance import used_memory
from tallystick.sdk.bench.synthetic_chain import AT, FIRST
from tallystick.sdk.daemon.garbage import look_rarely
from tallystick.sdk.node.node import Config
from tallystick.sdk.node.running import open_node
from tallystick.settlement.ethereum.evm.client import open_evm_chain
from tallystick.settlement.following.follower import Follower
from tallystick.settlement.port import Chain
from tallystick.watchtower.sqlite import SCHEMAS
from tallystick.watchtower.tower import Tower, TowerPolicy

KEY, PEER = PrivateKey(keccak(b"who follows")), PrivateKey(keccak(b"its only peer"))
_PAIR = sorted((KEY.address, PEER.address))
OWN = Terms(*AT, (_PAIR[0], _PAIR[1]), NATIVE, 0, 86_400, keccak(bytes(32)))
"""The terms of the node's own channel."""

LOOK_SECONDS = 0.02
"""Between two looks at how far it is."""

PARTS = 10
"""Of the way, after each of which the memory is looked at."""


class FollowDriverOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the process is told on its command line."""

    who: str
    """node or tower."""
    data: str
    url: str
    cpu: int | None = None


Found: TypeAlias = Callable[[], list[Any]]
"""Returns what was made of the chain: deposits in a node's channels, or the channels whose window a tower watches."""


class Used(msgspec.Struct, frozen=True):
    """What this process has used so far: seconds, seconds of CPU, bytes."""

    time: float
    cpu: float
    memory: int


class FollowDriver:
    """The commands: what a measurement asks of whoever follows."""

    def __init__(self, follower: Follower, began: Used, found: Found) -> None:
        """`began`: before the store and the chain were opened."""
        self._follower = follower
        self._began = began
        self._found = found

    async def do_pass(self, command: dict[str, Any]) -> dict[str, Any]:
        """Return once this block was followed."""
        await self._follower.wait_reached(command["number"])
        return {}

    async def do_reach(self, command: dict[str, Any]) -> dict[str, Any]:
        """Follow up to this block; tell what it took since the start."""
        head, first, parts = command["number"], self._follower.followed.next, [self._began.memory]
        while (position := self._follower.followed.next) <= head:
            while position - first >= len(parts) * (head + 1 - first) / PARTS:
                parts.append(used_memory())
            await trio.sleep(LOOK_SECONDS)
        await self._follower.wait_reached(head)
        now = used()
        return {
            "seconds": now.time - self._began.time,
            "cpu": now.cpu - self._began.cpu,
            "memory": [*parts, now.memory],
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "found": self._found(),
        }


def used() -> Used:
    """Return what this process has used so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Used(time.perf_counter(), usage.ru_utime + usage.ru_stime, used_memory())


@asynccontextmanager
async def open_following_node(data: Path, chain: Chain, jitter: Jitter) -> AsyncIterator[tuple[Follower, Found]]:
    """Give a node whose only channel is not opened yet as far as it knows."""
    config = Config(start_block=FIRST)
    async with open_node(data, key=KEY, chain=chain, config=config, at_once=True) as node:
        if not node.channels:
            node.engine.add_channel(new_channel(OWN, OWN.side_of(KEY.address), bytes(PEER.public), 0))

        def found() -> list[Any]:
            index = node.onchain.index
            views = [index.view(channel, index.head_number) for channel in node.engine.views.ids]
            return [None if view is None else view.deposits for view in views]

        yield node.onchain.follower, found


@asynccontextmanager
async def open_following_tower(data: Path, chain: Chain, jitter: Jitter) -> AsyncIterator[tuple[Follower, Found]]:
    """Give a tower."""
    store = open_store(data, SCHEMAS, owner="bench tower")
    try:
        tower = Tower(
            key=KEY,
            store=store,
            network=TcpNetwork(KEY, system_entropy),
            chain=chain,
            clock=system_clock,
            jitter=jitter,
            alarm=lambda alarm: None,
            free_space=lambda: shutil.disk_usage(data).free,
            policy=TowerPolicy(start=FIRST),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(tower.run, "127.0.0.1", 0, started=lambda address: None))

            def found() -> list[Any]:
                position, disputes = tower.follower.followed.position, tower.watch.disputes.values()
                now = 0 if position is None else position.time
                closed = ((each.channel.hex(), each.closed) for each in disputes if each.settled is None)
                return sorted(channel for channel, close in closed if close is not None and close.deadline >= now)

            yield tower.follower, found
            nursery.cancel_scope.cancel()
    finally:
        store.close()


async def run(options: FollowDriverOptions) -> None:
    """Run the process until its input ends."""
    stay_on(options.cpu)
    rng = random.Random(int.from_bytes(system_entropy(16), "big"))
    look_rarely()  # as `tally node run` does
    began = used()
    opened = open_following_node if options.who == "node" else open_following_tower
    async with (
        open_evm_chain([options.url], AT, jitter=rng.random, start=FIRST) as chain,
        opened(Path(options.data), chain, rng.random) as (follower, found),
    ):
        await obey({"position": follower.followed.next - 1}, FollowDriver(follower, began, found))


def main() -> None:
    """Run the process."""
    trio.run(run, msgspec.json.decode(sys.argv[1], type=FollowDriverOptions))


if __name__ == "__main__":
    main()
