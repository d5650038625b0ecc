"""A rollup's programs on a simulated chain in one process: users, an operator and a watcher, which may crash."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import trio

from simulation.rollup_desks import HostileDesk
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.testing.memory import MemoryDisk
from tallystick.sdk.rollup.asking import RollupDesk
from tallystick.sdk.rollup.calls import RollupCall, RollupPlace
from tallystick.sdk.rollup.chain import RollupChain, open_rollup_chain
from tallystick.sdk.rollup.desk import make_desk
from tallystick.sdk.rollup.follower import RollupFollower
from tallystick.sdk.rollup.operating import Operating, OperatorPolicy
from tallystick.sdk.rollup.record import SIGNING
from tallystick.sdk.rollup.schema import OPERATING, WATCHING
from tallystick.sdk.rollup.user import RollupUser
from tallystick.sdk.rollup.watching import Watching
from tallystick.settlement.rollup.rules import Place
from tallystick.settlement.simulated.rpc_server import make_app
from tallystick.settlement.testing.local import LocalChain

BOND, FEE = 10**12, 10**6
WINDOW, ORDER_TIME, ANSWER_TIME = 4_000, 600, 300
RICH = 10**18
KEYS = [PrivateKey(keccak(b"rollup world %d" % at)) for at in range(8)]
OPERATOR, WATCHER, STRANGER = KEYS[0], KEYS[1], KEYS[7]
USERS = KEYS[2:7]


class Crash(Exception):
    """The process ended in the middle of a request to its chain node, or just after it."""


class CrashingTransport(httpx.AsyncBaseTransport):
    """Ends its process now and then, under a seed."""

    def __init__(self, inner: httpx.AsyncBaseTransport, rng: random.Random) -> None:
        self._inner = inner
        self._rng = rng
        self.rate = 0.0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass a request on; the process may end before it, or with the answer on its way."""
        if self._rng.random() < self.rate / 2:
            raise Crash
        response = await self._inner.handle_async_request(request)
        if self._rng.random() < self.rate / 2:
            raise Crash
        return response


class RollupWorld:
    """Make it with `open_world`."""

    def __init__(
        self, chain: LocalChain, rollup: RollupChain, place: Place, seed: int, crashing: RollupChain, faults: Any
    ) -> None:
        self.random = random.Random(seed)
        self.chain = chain
        self.rollup = rollup
        self.place = place
        self.faults: CrashingTransport = faults
        """Of the operator and the watcher."""
        self._crashing = crashing
        self.disks = {"operator": MemoryDisk((OPERATING, WATCHING)), "watcher": MemoryDisk((WATCHING,))}
        self.records = [MemoryDisk((SIGNING,)) for _ in USERS]
        """What users sign."""
        self.stores = [disk.open() for disk in self.records]
        self.between: dict[int, HostileDesk] = {}
        """Where users ask, if not at the operator's desk."""
        self.said: list[str] = []
        self.asks = True
        """Whether the watcher has the operator's desk."""

    async def start_operator(self, policy: OperatorPolicy | None = None) -> Operating:
        """Return the operator as it starts from its disk."""
        store = self.disks["operator"].open()
        follower = RollupFollower(self._crashing, store, self.place)
        facts = await self.rollup.facts()
        self.operating = Operating(self._crashing, follower, store, OPERATOR, facts, self.said.append, policy)
        transport = httpx.ASGITransport(make_desk(self.operating, "0"))
        self.desk = RollupDesk(httpx.AsyncClient(transport=transport, base_url="http://desk"))
        return self.operating

    async def start_watcher(self) -> Watching:
        """Return the watcher as it starts from its disk."""
        follower = RollupFollower(self._crashing, self.disks["watcher"].open(), self.place)

        async def ask(number: int) -> Any:
            return await self.desk.signatures(number)

        self.watching = Watching(self._crashing, follower, WATCHER, self.said.append, ask if self.asks else None)
        return self.watching

    def user(self, at: int, fee_max: int = 0) -> RollupUser:
        """Return a user, at the desk of the operator as it runs now."""
        desk = self.between.get(at, self.desk)
        return RollupUser(self.rollup, self.place, USERS[at], desk, self.stores[at], fee_max=fee_max)

    def restart_user(self, at: int) -> None:
        """Let a user's program end, and start from its disk."""
        self.stores[at] = self.records[at].open()

    def lose_record(self, at: int) -> None:
        """Let a user start without what was recorded."""
        self.records[at] = MemoryDisk((SIGNING,))
        self.restart_user(at)

    async def go_on(self, rounds: int = 1) -> None:
        """Let operator and watcher take steps, with a block after each; who crashes starts again from its disk."""
        for _ in range(rounds):
            for name, start in (("operating", self.start_operator), ("watching", self.start_watcher)):
                try:
                    await getattr(self, name).step()
                except Crash:
                    await start()
            self.chain.mine()

    def told(self, *words: str) -> list[str]:
        """Return what was said with one of these words in it."""
        return [each for each in self.said if any(word in each for word in words)]


@asynccontextmanager
async def open_world(seed: int = 0) -> AsyncIterator[RollupWorld]:
    """Give a world with a rollup, its bond, an operator and a watcher. Blocks come with trio's clock, and as asked."""
    chain = LocalChain(funds={key.address: RICH for key in KEYS})
    transport = httpx.ASGITransport(app=make_app(chain))
    faults = CrashingTransport(transport, random.Random(seed + 1))
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        nursery.start_soon(chain.run)
        maker = await stack.enter_async_context(open_rollup_chain("http://node", RollupPlace(), transport))
        made = await maker.create(OPERATOR, (BOND, WINDOW, ORDER_TIME, ANSWER_TIME, FEE))
        rollup = await stack.enter_async_context(open_rollup_chain("http://node", made, transport))
        crashing = await stack.enter_async_context(open_rollup_chain("http://node", made, faults))
        await rollup.act(OPERATOR, RollupCall("bond", (), BOND))
        world = RollupWorld(chain, rollup, await rollup.rules_of(), seed, crashing, faults)
        await world.start_operator()
        await world.start_watcher()
        yield world
        nursery.cancel_scope.cancel()
