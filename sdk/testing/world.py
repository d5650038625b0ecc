"""A whole world in one process and virtual time: a chain, a network, and nodes with roles that live, crash and return.

    async def main() -> None:
        async with open_world(seed=7) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            channel = await alice.open_channel(world.address("bob"), 10**6)
            world.network.cut(alice.key.public)
            await world.crash("bob")
            ...
    simulate(main, 7)

The code of the nodes is the real one. A crash first makes the node's disk, links and chain refuse everything, and only
then cancels its tasks, so that no `finally` can tidy up; a restart begins from what was committed. All that happens
goes into `trace`, a hash: equal seeds give equal hashes, in every process.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec
import trio

from tallystick.channels.errors import InvalidInput, TallystickError
from tallystick.channels.node.alarms import Alarm
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.keys import PrivateKey, PublicKey, keccak
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.channels.storage.store import Moment
from tallystick.channels.testing.clock import SteppedClock, seeded_entropy
from tallystick.channels.testing.disk import SimulatedDisk, SimulatedStore
from tallystick.channels.testing.network import MemoryEndpoint, MemoryNetwork
from tallystick.channels.testing.pipes import Delivery
from tallystick.channels.values.arguments import checked
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.node.running import open_node
from tallystick.sdk.node.sqlite import SCHEMAS
from tallystick.sdk.testing.audit import Audit
from tallystick.sdk.testing.gates import Gate, GatedChain, GatedNetwork, GatedStore, Hooks
from tallystick.settlement.chain import Header
from tallystick.settlement.enforcement.budgets import DutyPolicy
from tallystick.settlement.port import Chain
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.simulated.ledger import Mint
from tallystick.settlement.simulated.shard import Shard
from tallystick.settlement.testing.local import LocalChain

ROLES = ("alice", "bob", "carol", "mallory")
"""Who lives in a world, unless told otherwise. Mallory cheats."""

CLAIM_ALL = DutyPolicy(worth_percent=0)
"""In most worlds, amounts are small and fees are no reason not to claim them."""

PORT = 9735
GAS_LIMIT = ChainSettings().gas_limit
ALARMS_KEPT = 1_000
COINS = 10**24
"""What each account holds at the beginning."""


class Trace:
    """A running hash over everything that happens, and how much it was."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.events = 0

    def note(self, kind: str, *what: object) -> None:
        """Take in one thing that happened."""
        self.events += 1
        self._hash.update(repr((kind, *what)).encode())

    def digest(self) -> str:
        """Return the hash so far, in hex."""
        return self._hash.hexdigest()


class Traced(Hooks):
    """Puts what a node does into the trace, then shows it to the node's audit."""

    def __init__(self, seat: Seat) -> None:
        self._seat, self._name, self._audit, self._trace = seat, seat.name, seat.audit, seat.world.trace

    def on_stored(self, moments: Sequence[Moment]) -> None:
        """Note a commit."""
        self._trace.note("commit", trio.current_time(), self._name, moments)
        self._audit.on_stored(moments)

    def on_sending(self, peer: PublicKey, messages: list[bytes]) -> list[bytes]:
        """Check what is sent; its delivery will be noted."""
        self._audit.on_sending(peer, messages)
        tamper = self._seat.tamper
        return messages if tamper is None else [left for message in messages for left in tamper(message)]

    def on_submitting(self, raw: bytes) -> None:
        """Note a transaction."""
        self._trace.note("submit", trio.current_time(), self._name, raw)
        self._audit.on_submitting(raw)


def key_of(name: str) -> PrivateKey:
    """Return the key of a role, the same in every world."""
    return PrivateKey(keccak(b"the world's " + name.encode()))


class Life:
    """One run of a node, from its start to its crash."""

    def __init__(self, seat: Seat, store: SimulatedStore, endpoint: MemoryEndpoint) -> None:
        self.seat = seat
        self.scope = trio.CancelScope()
        self.gate = Gate(self.die)
        self.store = store
        self.endpoint = endpoint
        self.node: Node | None = None
        self.nursery: trio.Nursery | None = None
        self.up = trio.Event()
        self.ended = trio.Event()

    def die(self) -> None:
        """Cut this node off from everything at once; then its tasks are cancelled."""
        self.gate.close()
        self.store.kill()
        self.seat.world.network.kill(self.endpoint)
        self.scope.cancel()


class Seat:
    """A role in the world: the key and the disk that survive, and the life that goes on at the moment."""

    def __init__(self, world: World, name: str, key: PrivateKey) -> None:
        self.world = world
        self.name = name
        self.key = key
        self.disk = SimulatedDisk(SCHEMAS)
        self.config = world.config
        self.life: Life | None = None
        self.lives = 0
        self.clock = SteppedClock()
        """Its machine's clock, which goes on while the node is down."""
        self.chain_node: Chain = world.chain
        """Through what it sees the chain."""
        self.chain: GatedChain | None = None
        self.outage = False
        """Whether its chain node is silent."""
        self.tamper: Callable[[bytes], list[bytes]] | None = None
        """What becomes of each message that this role sends, if it cheats."""
        self.alarms: deque[Alarm] = deque(maxlen=ALARMS_KEPT)
        """What its node told of late, in all its lives."""
        self.audit = Audit(name, knows=world.knows, now=lambda: world.chain.newest.header.time)

    @property
    def address(self) -> PeerAddress:
        """Where the others find it."""
        return PeerAddress(bytes(self.key.public), self.name, PORT)


class World:
    """A chain, a network and nodes with roles, in one process and in virtual time: see the module's docstring. Make one
    with `open_world`."""

    def __init__(
        self,
        seed: int,
        config: Config,
        chain: ChainSettings,
        delay: tuple[float, float],
        names: Sequence[str],
        shard: Shard | None = None,
    ) -> None:
        self.seed = seed
        self.config = config
        self.trace = Trace()
        self.network = MemoryNetwork(seed, delay=delay, trace=self._delivered)
        self._nursery: trio.Nursery | None = None
        keys = {name: key_of(name) for name in names}
        self._names = {key.public: name for name, key in keys.items()}
        self.chain = _NotedChain(self.trace, chain, {key.address: COINS for key in keys.values()}, shard)
        self.chain.mine()
        self.seats = {name: Seat(self, name, key) for name, key in keys.items()}

    def _delivered(self, delivery: Delivery) -> None:
        self.trace.note("deliver", delivery.time, delivery.link, bytes(delivery.receiver), delivery.message)

    def knows(self, key: PublicKey) -> bool:
        """Whether that is the key of one of this world's nodes."""
        return key in self._names

    def give_everybody(self, asset: Address) -> None:
        """Let each account hold as much of an asset as of the coin."""
        for seat in self.seats.values():
            self.chain.mint(Mint(seat.key.address, asset, COINS))
        self.chain.mine()

    # --- lives ---------------------------------------------------------------------------------------------------

    def node(self, name: str) -> Node:
        """Return the running node of a role; raise InvalidInput if it is down."""
        life = self.seats[name].life
        if life is None or life.node is None or life.gate.dead:
            raise InvalidInput(f"{name} is down: start it first")
        return life.node

    def is_up(self, name: str) -> bool:
        """Whether a role's node runs."""
        life = self.seats[name].life
        return life is not None and life.node is not None and not life.gate.dead

    def is_down(self, name: str) -> bool:
        """Whether a role's node neither runs nor is about to."""
        life = self.seats[name].life
        return life is None or life.gate.dead or life.ended.is_set()

    def address(self, name: str) -> PeerAddress:
        """Return where a role's node listens."""
        return self.seats[name].address

    async def start(self, name: str, config: Config | None = None) -> Node:
        """Start a role's node from what is durable; return it once peers can connect."""
        running = self.seats[name].life
        life = await self.begin(name, config) if running is None or self.is_down(name) else running
        while not (life.up.is_set() or life.ended.is_set()):
            async with trio.open_nursery() as nursery:
                for event in (life.up, life.ended):
                    nursery.start_soon(_cancel_after, event, nursery.cancel_scope)
        return self.node(name)

    async def begin(self, name: str, config: Config | None = None) -> Life:
        """Begin a node's next life without waiting for it to be up."""
        seat = self.seats[name]
        if seat.life is not None:
            await seat.life.ended.wait()
        assert self._nursery is not None
        seat.lives += 1
        seat.config = config or seat.config
        life = seat.life = Life(seat, seat.disk.open(), self.network.endpoint(seat.key))
        seat.audit.store, seat.audit.chain_id = life.store, self.chain.chain_id
        seat.audit.account = seat.key.address
        self.trace.note("start", trio.current_time(), name)
        self._nursery.start_soon(self._live, life)
        return life

    async def _live(self, life: Life) -> None:
        seat = life.seat
        hooks = Traced(seat)
        seat.chain = GatedChain(seat.chain_node, life.gate, hooks)
        seat.chain.down = seat.outage
        config = msgspec.structs.replace(seat.config, listen=(seat.name, PORT))
        try:
            with life.scope:
                async with (
                    open_node(
                        seat.name,
                        key=seat.key,
                        chain=seat.chain,
                        config=config,
                        alarm=seat.alarms.append,
                        network=GatedNetwork(life.endpoint, life.gate, hooks),
                        clock=seat.clock,
                        elapsed=trio.current_time,
                        entropy=seeded_entropy(f"{self.seed}/{seat.name}/{seat.lives}"),
                        store=GatedStore(life.store, life.gate, hooks),
                        inline=True,
                    ) as node,
                    trio.open_nursery() as nursery,
                ):
                    life.node, life.nursery = node, nursery
                    life.up.set()
                    await trio.sleep_forever()
        except* TallystickError:
            if not life.gate.dead:
                raise
        finally:
            life.node = None
            life.ended.set()

    async def crash(self, name: str) -> None:
        """End a role's node at once, wherever it is. Nothing happens if it is down."""
        life = self.seats[name].life
        if life is not None:
            self.trace.note("crash", trio.current_time(), name)
            life.die()
            await life.ended.wait()

    async def restart(self, name: str) -> Node:
        """Crash a role's node and start it again."""
        await self.crash(name)
        return await self.start(name)

    def attempt(self, name: str, action: Callable[[Node], Awaitable[object]]) -> AskedOperation:
        """Let a role's running node do something that may fail or be cut short by its crash."""
        life = self.seats[name].life
        attempt = AskedOperation()
        if life is None or life.nursery is None or not self.is_up(name):
            attempt.finish(InvalidInput(f"{name} is down"))
        else:
            life.nursery.start_soon(_try, action, self.node(name), attempt)
        return attempt

    # --- the world's faults --------------------------------------------------------------------------------------

    def chain_outage(self, name: str, down: bool) -> None:
        """Let a role's chain node be silent, or answer again."""
        seat = self.seats[name]
        seat.outage = down
        if seat.chain is not None:
            seat.chain.down = down

    def heal(self) -> None:
        """End every partition, outage, congestion and censorship; nobody is about to crash any more."""
        self.network.heal()
        self.chain.congest(0)
        self.chain.censor(None)
        for name, seat in self.seats.items():
            self.chain_outage(name, False)
            if seat.life is not None:
                seat.life.gate.disarm()

    # --- time ----------------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], seconds: float = 7_200, *, every: float = 0.5) -> bool:
        """Wait, at most so many seconds, until a condition holds; return whether. It is looked at `every` so often.

        A look takes as long as all else that a quiet world does in a second: where nothing hangs on when it has come to
        rest, look less often.
        """
        for _ in range(int(seconds / every)):
            if condition():
                return True
            await trio.sleep(every)
        return condition()

    async def blocks(self, count: int) -> None:
        """Wait until so many more blocks were mined."""
        goal = self.chain.newest.header.number + count
        while self.chain.newest.header.number < goal:
            await self.chain.wait(self.chain.newest.header.hash)

    @asynccontextmanager
    async def brisk(self, interval: float = 2.0) -> AsyncIterator[None]:
        """Mine a block every so many seconds while this lasts: links need no keeping alive while all wait for many."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._mine_forever, interval)
            yield
            nursery.cancel_scope.cancel()

    async def _mine_forever(self, interval: float) -> None:
        while True:
            await trio.sleep(interval)
            self.chain.mine()

    def channels_between(self, one: str, other: str) -> list[ChannelId]:
        """Return the channels with `other` that `one`'s running node knows."""
        peer = self.seats[other].key.public
        return [channel.id for channel in self.node(one).channels if channel.peer == peer]


class AskedOperation:
    """Something that a node was asked to do: what came of it, if anything."""

    def __init__(self) -> None:
        self.result: object = None
        self.error: BaseException | None = None
        self.ended = trio.Event()
        """Set when it has ended by itself, well or not; not when its node crashed before."""

    def finish(self, error: BaseException | None = None) -> None:
        """End, without an error or with one."""
        self.error = error
        self.ended.set()


class _NotedChain(LocalChain):
    """A chain whose every new head goes into the trace."""

    def __init__(
        self, trace: Trace, settings: ChainSettings, funds: Mapping[Address, int], shard: Shard | None
    ) -> None:
        self._trace = trace
        super().__init__(funds=funds, settings=settings, shard=shard)

    def mine(self, count: int = 1) -> Header:
        """Mine, and note the new head."""
        header = super().mine(count)
        self._trace.note("block", header.number, header.hash)
        return header


async def _try(action: Callable[[Node], Awaitable[object]], node: Node, attempt: AskedOperation) -> None:
    try:
        attempt.result = await action(node)
    except TallystickError as error:
        attempt.finish(error)
    else:
        attempt.finish()


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


@checked
@asynccontextmanager
async def open_world(
    seed: int,
    *,
    config: Config | None = None,
    interval: float = 5.0,
    delay: tuple[float, float] = (0.001, 0.02),
    names: Sequence[str] = ROLES,
    gas_limit: int = GAS_LIMIT,
    shard: Shard | None = None,
) -> AsyncIterator[World]:
    """Open a world in which nobody lives yet.

    `interval` is the time between blocks, `gas_limit` what fits into one, `delay` the time of messages. Its chain may
    be a `shard` of a group: another world, beside it, has the next one.
    """
    settings = ChainSettings(dev=True, interval=interval, gas_limit=gas_limit)
    if shard is not None:
        chain_id = shard.group.chain_of(shard.number)
        settings = msgspec.structs.replace(settings, chain_id=chain_id, contract=shard.group.contract)
    async with trio.open_nursery() as nursery:
        world = World(seed, config or Config(challenge_period=600, duties=CLAIM_ALL), settings, delay, names, shard)
        world._nursery = nursery
        nursery.start_soon(world.chain.run)
        yield world
        for name in world.seats:
            await world.crash(name)
        nursery.cancel_scope.cancel()
    for seat in world.seats.values():
        seat.disk.close()
