"""Strangers: they have no channel with anybody, and knock at every door of a world, from a seed.

Each has a key of its own, dials one node after another, and does there what its `Manner` says, for as long as it is
let. They stand on the network in memory, behind the transport's handshake: what comes before it is for tests on real
sockets.
"""

from __future__ import annotations

import enum
import random
from collections import Counter
from collections.abc import Sequence

import trio

from tallystick.channels.errors import LinkClosed, PeerError
from tallystick.channels.limits import MESSAGE_MAX
from tallystick.channels.node.peers import EXTENSION_TAGS
from tallystick.channels.ports import Link
from tallystick.channels.protocol.eip712 import domain_separator
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.messages import (
    PROTOCOL_VERSION,
    Hello,
    Message,
    OpenRequest,
    Ping,
    Reestablish,
    Reveal,
    encode,
)
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Terms
from tallystick.channels.testing.network import MemoryEndpoint
from tallystick.router.gossip.announcements import Announcement, sign_update
from tallystick.router.gossip.wire import frames as gossip_frames
from tallystick.router.objects import ForwardingPolicy
from tallystick.sdk.testing.world import World

PAUSE = (2.0, 90.0)
"""Seconds between two things that a stranger does, at least and at most."""

STAY = 300.0
"""Seconds that it stays with one node at most."""

BURST = 8
"""What it says at once, in frames."""


class Manner(enum.StrEnum):
    """What a stranger does."""

    MUTE = "mute"
    """It connects and says nothing, not even Hello."""
    IDLE = "idle"
    """It says Hello and answers no Ping."""
    JUNK = "junk"
    """It sends bytes that are no messages, before Hello or after."""
    OPENINGS = "openings"
    """It asks for channels that it never opens, each time for another one."""
    GOSSIP = "gossip"
    """It tells of channels that do not exist, properly signed, and asks for everything."""
    DEAF = "deaf"
    """It sends Pings and reads no answer."""
    MEDDLER = "meddler"
    """It speaks of the channels of others, and of none."""
    SWARM = "swarm"
    """It comes with a fresh key each time, says Hello and leaves."""


class Stranger:
    """One of them. Run `run` in a nursery."""

    def __init__(self, world: World, number: int, manner: Manner) -> None:
        self._world = world
        self._rng = random.Random(f"{world.seed}/stranger {number}")
        self.manner = manner
        self._lives = 0
        self._number = number
        self.done: Counter[str] = Counter()
        """How often it connected, and how often it was turned away."""
        self._be_new()

    def __repr__(self) -> str:
        return f"<Stranger {self._number}, {self.manner}: {dict(self.done)}>"

    def _be_new(self) -> None:
        self._lives += 1
        self._key = PrivateKey(keccak(f"stranger {self._number}.{self._lives}".encode()))
        self._endpoint: MemoryEndpoint = self._world.network.endpoint(self._key)

    async def run(self) -> None:
        """Go from door to door until cancelled."""
        names = sorted(self._world.seats)
        while True:
            await trio.sleep(self._rng.uniform(*PAUSE))
            if self.manner is Manner.SWARM:
                self._world.network.kill(self._endpoint)
                self._be_new()
            try:
                link = await self._endpoint.dial(self._world.address(self._rng.choice(names)))
            except (LinkClosed, PeerError):
                self.done["refused"] += 1
                continue
            self.done["met"] += 1
            try:
                with trio.move_on_after(STAY):
                    await self._visit(link)
            except* (LinkClosed, PeerError):
                self.done["ended"] += 1
            finally:
                await link.aclose()

    async def _visit(self, link: Link) -> None:
        if self.manner is Manner.MUTE:
            await trio.sleep_forever()
        if self.manner is Manner.JUNK and self._rng.random() < 0.3:
            await link.send(self._junk())
        await link.send([self._hello()])
        if self.manner is Manner.SWARM:
            await link.receive()
            return
        async with trio.open_nursery() as nursery:
            if self.manner not in (Manner.IDLE, Manner.DEAF):
                nursery.start_soon(_read, link)
            while self.manner is not Manner.IDLE:
                await link.send(self._saying(link.peer.address))
                await trio.sleep(self._rng.uniform(*PAUSE))
            await trio.sleep_forever()

    def _hello(self) -> bytes:
        return encode(Hello(PROTOCOL_VERSION, self._world.chain.chain_id, self._world.chain.contract))

    def _saying(self, other: Address) -> list[bytes]:
        match self.manner:
            case Manner.OPENINGS:
                return [encode(self._opening(other)) for _ in range(self._rng.choice((1, 3, BURST)))]
            case Manner.GOSSIP:
                return self._gossip()
            case Manner.DEAF:
                return [encode(Ping(number)) for number in range(BURST)]
            case Manner.MEDDLER:
                return [encode(self._meddling()) for _ in range(self._rng.choice((1, BURST)))]
            case _:
                return self._junk()

    def _junk(self) -> list[bytes]:
        tag = self._rng.choice((*EXTENSION_TAGS, *range(24)))
        noise = self._rng.randbytes(self._rng.choice((0, 1, 40, 3_000)))
        return [self._rng.choice((noise, bytes([0x93, tag]) + noise, bytes(MESSAGE_MAX), b"\x91" * 3_000))]

    def _opening(self, other: Address) -> OpenRequest:
        chain = self._world.chain
        first, second = sorted((self._key.address, other))
        number = self._rng.choice((0, 0, 1, 2**40))
        period = self._rng.choice((600, self._world.config.challenge_period, 366 * 86_400))
        terms = Terms(chain.chain_id, chain.contract, (first, second), NATIVE, number, period, self._rng.randbytes(32))
        return OpenRequest(terms, self._rng.choice((0, 10_000)), self._rng.choice((1, 1_000_000, 2**63)))

    def _gossip(self) -> list[bytes]:
        chain = self._world.chain
        domain, now = domain_separator(chain.chain_id, chain.contract), chain.newest.header.time
        lies: list[Announcement] = [
            sign_update(
                self._key,
                domain,
                ChannelId(self._rng.randbytes(32)),
                self._rng.randrange(2),
                now + self._rng.choice((-90, 0, 500, 10**6)),
                ForwardingPolicy(),
            )
            for _ in range(self._rng.choice((1, BURST)))
        ]
        return gossip_frames(lies)

    def _meddling(self) -> Message:
        known = sorted({channel for seat in self._world.seats.values() for channel in seat.audit.sides})
        channel = self._rng.choice([*known, ChannelId(self._rng.randbytes(32))])
        if self._rng.random() < 0.5:
            return Reveal(channel, self._rng.randrange(4), self._rng.randbytes(32))
        return Reestablish(channel, self._rng.randrange(2**40), None, None, self._rng.randrange(2**62))


async def _read(link: Link) -> None:
    while True:
        await link.receive()


def draw_strangers(world: World, rng: random.Random, count: int) -> Sequence[Stranger]:
    """Return so many strangers, each with a manner of its own drawn from `rng`."""
    return [Stranger(world, number, rng.choice(list(Manner))) for number in range(count)]
