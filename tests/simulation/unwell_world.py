"""A world on a real chain that may be unwell: nodes and a tower in virtual time, a real node that mines when told.

Everybody lives in one process (`World`), and sees the chain through wires of their own (`UnwellWire`), two each. The
chain is anvil's: its blocks are mined here, every twelve seconds of virtual time, at the base fee that is asked for.
What accounts hold is asked of anvil itself.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio

from simulation.local_evm import MortalEvm, open_mortal_evm
from simulation.mallory import Mallory
from simulation.tower_house import TowerHouse
from tallystick.channels.node.alarms import Alarm
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.keys import PrivateKey, close_key
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.testing.clock import EPOCH
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.network import MemoryEndpoint
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.testing.world import World, key_of, open_world
from tallystick.settlement.chain import Call, CloseCall, ContractChannel
from tallystick.settlement.ethereum.evm.client import EvmChain, open_evm_chain
from tallystick.settlement.ethereum.evm.profiles import COIN, ChainProfile, Depth
from tallystick.settlement.testing.unwell import DirectWire, Illness, UnwellWire
from tallystick.watchtower.offers import ClientPolicy
from tallystick.watchtower.sqlite import SCHEMAS
from tallystick.watchtower.tower import Tower, TowerPolicy

BLOCK = 12.0
"""Seconds between two blocks."""

PERIOD = 600
"""Of challenges."""

GWEI = 10**9
CHAIN_ID = 1337
NAMES = ("alice", "bob", "mallory")
TOWER = "tower"
HELD = 100 * COIN
"""What each account holds at the beginning."""

URLS = ("http://one", "http://two")


class Patient(ChainProfile, frozen=True, kw_only=True):
    """A profile by which the head is asked for less often: three times a block."""

    @property
    def poll_seconds(self) -> float:
        """Between two looks."""
        return self.block_seconds / 3


PROFILE = Patient(
    name="a chain that may be unwell",
    chain_id=CHAIN_ID,
    coin="ETH",
    block_seconds=BLOCK,
    depths=(Depth(COIN * COIN, 3),),
    final_blocks=64,
)


class Hosts(httpx.AsyncBaseTransport):
    """Wires by the names of hosts."""

    def __init__(self, wires: dict[str, UnwellWire]) -> None:
        self._wires = wires

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Take the wire to that host."""
        return await self._wires[request.url.host].handle_async_request(request)


class UnwellWorld:
    """See the module's docstring. Make it with `open_unwell_world`."""

    def __init__(self, world: World, mortal: MortalEvm, urls: int) -> None:
        self.world = world
        self.evm = mortal.evm
        self.urls = URLS[:urls]
        self.rng = random.Random(world.seed)
        self.height = mortal.evm.start
        """The newest block's number."""
        self.is_down = False
        """Whether the chain's node does not run."""
        self._mortal = mortal
        self.anvil = mortal.evm.anvil
        self._remembered: dict[bytes, bytes] = {}
        self.wires: dict[str, tuple[UnwellWire, ...]] = {}
        """Of everybody, the first URL's first."""
        self.alarms: list[Alarm] = []
        """The tower's, of all its lives."""
        self.alarms_before = 0
        """How many of these are of earlier lives."""
        self.base: Iterator[int] | None = None
        """The base fees of the blocks to come; None: it is anvil's own."""
        self.before_block: Callable[[], None] = lambda: None
        """What happens before each block."""
        self.paused = False
        """Whether no blocks are mined."""
        self._chains = contextlib.AsyncExitStack()
        self.tower: Tower | None = None
        self.house: TowerHouse | None = None
        self._endpoint: MemoryEndpoint | None = None
        self._tower_scope: trio.CancelScope | None = None
        self._tower_ended = trio.Event()

    # --- the chain -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Mine for ever."""
        while True:
            await trio.sleep(BLOCK)
            if not self.paused and not self.is_down:
                self.before_block()
                self.mine()

    def mine(self) -> None:
        """Mine a block of now."""
        if self.base is not None:
            base = next(self.base, None)
            if base is None:
                self.base = None
            else:
                self.ask("anvil_setNextBlockBaseFeePerGas", hex(base))
        newest = int(self.block()["timestamp"], 16)
        self.ask("evm_mine", {"timestamp": hex(max(newest + 1, int(EPOCH + trio.current_time())))})
        self.height = int(self.block()["number"], 16)

    def ask(self, method: str, *params: object) -> Any:
        """Ask anvil for something that may change it."""
        self._remembered.clear()
        return self.anvil.ask(method, *params)

    def block(self, which: str = "latest", full: bool = False) -> dict[str, Any]:
        """Return a block as anvil tells it."""
        found: dict[str, Any] = self.anvil.ask("eth_getBlockByNumber", which, full)
        return found

    @property
    def base_fee(self) -> int:
        """The newest block's."""
        return int(self.block()["baseFeePerGas"], 16)

    def forget(self) -> None:
        """Throw away what waits to be mined."""
        self.ask("anvil_dropAllTransactions")

    def stop_node(self) -> None:
        """End the chain's node: nobody is there, and what waits to be mined is gone."""
        self.is_down = True
        self._remembered.clear()
        self._mortal.stop()

    def start_node(self) -> None:
        """Start it again, if it is down."""
        if self.is_down:
            self._mortal.start()
            self.is_down = False

    # --- who lives here ------------------------------------------------------------------------------------------

    def key(self, name: str) -> PrivateKey:
        """Return somebody's key."""
        return key_of(name)

    async def chain(self, name: str) -> EvmChain:
        """Return somebody's sight of the chain, with nothing remembered, through the wires that they have."""
        if name not in self.wires:
            self.wires[name] = tuple(self._wire(f"{self.world.seed}/{name}/{url}") for url in self.urls)
        names = (url.removeprefix("http://") for url in self.urls)
        hosts = Hosts(dict(zip(names, self.wires[name], strict=True)))
        jitter = random.Random(f"{self.world.seed}/{name}").random
        return await self._chains.enter_async_context(
            open_evm_chain(
                self.urls, self.evm.at, jitter=jitter, profile=PROFILE, start=self.evm.start, transport=hosts
            )
        )

    def _wire(self, seed: str) -> UnwellWire:
        return UnwellWire(DirectWire(self.anvil.url, self._remembered), random.Random(seed))

    async def start(self, name: str) -> Node:
        """Start somebody's node, from what is durable."""
        await self.begin(name)
        return await self.world.start(name)

    async def begin(self, name: str) -> None:
        """The same, without waiting for it to be up."""
        if not self.world.is_down(name):
            return
        self.world.seats[name].chain_node = await self.chain(name)
        await self.world.begin(name)

    async def start_tower(self) -> Tower:
        """Start the tower, from what is durable."""
        key = self.key(TOWER)
        chain = await self.chain(TOWER)
        disk = self.house.disk if self.house is not None else SimulatedDisk(SCHEMAS)
        network = self._endpoint = self.world.network.endpoint(key)
        policy = TowerPolicy(start=self.evm.start, fee_reserve=10**15)
        self.house = TowerHouse(key, Path("unused"), network, chain, policy, self.alarms, disk=disk)
        self.alarms_before = len(self.alarms)
        self._tower_ended = trio.Event()
        assert self.world._nursery is not None
        self.tower = await self.world._nursery.start(self._live)
        assert self.tower is not None
        return self.tower

    async def _live(self, *, task_status: trio.TaskStatus[Tower]) -> None:
        assert self.house is not None
        with trio.CancelScope() as self._tower_scope:
            async with self.house.open() as (tower, _):
                task_status.started(tower)
                await trio.sleep_forever()
        self._tower_ended.set()

    async def crash_tower(self) -> None:
        """End the tower where it is."""
        assert self._tower_scope is not None and self.house is not None and self.house.disk is not None
        self.house.disk.open().kill()
        assert self._endpoint is not None
        self.world.network.kill(self._endpoint)
        self._tower_scope.cancel()
        await self._tower_ended.wait()
        self.tower = None

    # --- what is asked of anvil itself ---------------------------------------------------------------------------

    def held(self, name: str) -> int:
        """Return what somebody's account holds."""
        return int(self.anvil.ask("eth_getBalance", f"0x{self.key(name).address.hex()}", "latest"), 16)

    async def view(self, channel: ChannelId) -> ContractChannel | None:
        """Return a channel's state by the contract, through a wire that is well."""
        async with self._well() as chain:
            return await chain.channel(channel)

    async def cheat(self, channel: ChannelId, seqs: Sequence[int], victim: str = "alice") -> None:
        """Let Mallory, whose node is down, close with old proofs, and mine that."""
        mallory = Mallory(self.world, victim)
        key = close_key(self.key("mallory"), self.key(victim).public, channel)
        first, second = (mallory.proof(channel, side, seq) for side, seq in enumerate(seqs))
        call = CloseCall(channel, first, second, key)
        await self.send("mallory", call)

    async def send(self, name: str, call: Call) -> None:
        """Make a call by somebody's key, through a wire that is well, and mine it."""
        key = self.key(name)
        async with self._well() as chain:
            signed = await chain.sign(key, call, await chain.nonce(key.address), 4 * await chain.fee_price())
            made = await chain.submit(signed.raw)
            self.mine()
            receipt = await chain.receipt(made)
            assert receipt is not None and receipt.success, receipt

    @asynccontextmanager
    async def _well(self) -> AsyncIterator[EvmChain]:
        wire = DirectWire(self.anvil.url)
        async with open_evm_chain(
            URLS[:1], self.evm.at, jitter=lambda: 0.5, profile=PROFILE, start=self.evm.start, transport=wire
        ) as chain:
            yield chain

    # --- illness -------------------------------------------------------------------------------------------------

    def sicken(self, *illnesses: Illness, rate: float = 0.3, urls: int = 2, names: tuple[str, ...] = ()) -> None:
        """Give the wires of everybody, or of some, to so many URLs, these illnesses."""
        for name in names or tuple(self.wires):
            for wire in self.wires[name][:urls]:
                wire.illnesses, wire.rate = illnesses, rate

    def heal(self) -> None:
        """Let all be well."""
        self.paused = False
        self.start_node()
        self.before_block = lambda: None
        for wires in self.wires.values():
            for wire in wires:
                wire.heal()

    async def aclose(self) -> None:
        """Close all wires."""
        for wires in self.wires.values():
            for wire in wires:
                await wire.aclose()

    async def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until a condition holds; raise AssertionError if it does not within so many seconds."""
        if not await self.world.until(condition, seconds):
            raise AssertionError(f"not within {seconds:g} s: {what}")


@asynccontextmanager
async def open_unwell_world(seed: int, mortal: MortalEvm, urls: int = 1) -> AsyncIterator[UnwellWorld]:
    """Open a world on a chain that nobody else mines; a tower lives in it already."""
    guard = PeerAddress(bytes(key_of(TOWER).public), "tower", 9911)
    config = Config(
        challenge_period=PERIOD,
        start_block=mortal.evm.start,
        towers=(guard,),
        tower_policy=ClientPolicy(every=1.0),
    )
    async with open_world(seed, config=config, interval=BLOCK, names=NAMES) as world:
        unwell = UnwellWorld(world, mortal, urls)
        for name in (*NAMES, TOWER):
            unwell.anvil.fund(key_of(name).address, HELD)
        async with unwell._chains, trio.open_nursery() as nursery:
            nursery.start_soon(unwell.run)
            await unwell.start_tower()
            yield unwell
            unwell.heal()
            for name in NAMES:
                await world.crash(name)
            await unwell.crash_tower()
            nursery.cancel_scope.cancel()
        await unwell.aclose()


@contextlib.contextmanager
def unwell_chain() -> Iterator[MortalEvm]:
    """Give a chain for one such world, with the contract on it. Its time begins with the world's."""
    with open_mortal_evm("--no-mining", "--timestamp", str(int(EPOCH)), chain_id=CHAIN_ID) as mortal:
        yield mortal
