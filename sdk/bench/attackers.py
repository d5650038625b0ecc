"""Strangers at a door, as a process, for `tally bench hostile`.

It floods one address of this machine in one way, at a bounded rate, over a bounded number of connections from a few
addresses of loopback, and ends by itself after `seconds`, or when it is told to stop. Its keys are made up on the spot.
It runs at the lowest priority, so that what is measured beside it is how the attacked process shares out its own time,
and not who gets the processor.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import msgspec
import trio

from tallystick.channels.errors import PeerError
from tallystick.channels.ports import PeerAddress, system_clock, system_entropy
from tallystick.channels.protocol.eip712 import domain_separator
from tallystick.channels.protocol.keys import PrivateKey, PublicKey
from tallystick.channels.protocol.messages import PROTOCOL_VERSION, Hello, OpenProposal, Ping, Reestablish, encode
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Terms
from tallystick.channels.transport.noise import ACT_TWO_SIZE, Initiator, NoiseSession
from tallystick.router.gossip import wire as gossip_wire
from tallystick.router.gossip.announcements import Announcement, sign_update
from tallystick.router.objects import ForwardingPolicy
from tallystick.sdk.errors import MeasurementVoid
from tallystick.watchtower.messages import VERSION, Upload
from tallystick.watchtower.messages import encode as encode_for_tower
from tallystick.watchtower.sealing import BLOB_SIZE

NICE = 19
"""Priority of attackers: the lowest."""

SOURCES = tuple(f"127.0.7.{number}" for number in range(1, 9))
"""Addresses that attackers come from."""

POOL = 2_000
"""Announcements that are made up beforehand."""

PAUSE = 0.1
"""Seconds before an ended connection is made again."""


class AttackOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What an attacker is told on its command line."""

    kind: str
    seconds: float
    connections: int
    rate: float
    """Messages (of `handshakes`, `junk` and `control`: connections) per second, of all connections together."""
    target: str
    """Where: an address of a peer, or a URL."""
    chain_id: int
    contract: str

    @property
    def hello(self) -> bytes:
        """The greeting of who works on that chain."""
        return encode(Hello(PROTOCOL_VERSION, self.chain_id, Address(bytes.fromhex(self.contract))))


class StrangerLink:
    """One encrypted connection of a stranger."""

    def __init__(self, stream: trio.SocketStream, session: NoiseSession, key: PrivateKey) -> None:
        self.stream = stream
        self.key = key
        self._session = session

    async def send(self, frames: list[bytes]) -> None:
        """Send frames."""
        await self.stream.send_all(self._session.encrypt_all(frames))

    async def drain(self) -> None:
        """Read and forget what comes, until it ends."""
        while await self.stream.receive_some(65_536):
            pass


Batch = Callable[[StrangerLink], list[bytes]]
"""Returns what to send next on a line."""


class Attacker:
    """See the module's docstring."""

    def __init__(self, attack: AttackOptions) -> None:
        self.attack = attack
        self.connections = 0
        """Connections that were made."""
        self.messages = 0
        """Messages that were sent."""
        self._number = 0

    async def run(self) -> None:
        """Attack until cancelled."""
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "idle": self._idle,
            "handshakes": self._handshakes,
            "pings": lambda: self._flood(lambda line: [encode(Ping(1))] * 50, 50, reads=False),
            "junk": self._junk,
            "unknown": lambda: self._flood(lambda line: [self._unknown() for _ in range(10)], 10),
            "gossip": self._gossip,
            "openings": lambda: self._flood(lambda line: [self._proposal(line)], 1),
            "tower": lambda: self._flood(lambda line: [_upload()], 1, hello=False),
            "control": self._control,
        }
        async with trio.open_nursery() as nursery:
            for _ in range(self.attack.connections):
                nursery.start_soon(self._again, ways[self.attack.kind])

    async def _again(self, way: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await way()
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError, PeerError):
                pass
            await trio.sleep(PAUSE)

    async def _stream(self, host: str, port: int) -> trio.SocketStream:
        self._number += 1
        stream = await trio.open_tcp_stream(host, port, local_address=SOURCES[self._number % len(SOURCES)])
        self.connections += 1
        return stream

    @asynccontextmanager
    async def _meet(self, *, hello: bool = True) -> AsyncIterator[StrangerLink]:
        """Give a line whose key is proved."""
        place, key = PeerAddress.parse(self.attack.target), PrivateKey(system_entropy(32))
        async with await self._stream(place.host, place.port) as stream:
            handshake = Initiator(key, PublicKey(place.key), PrivateKey(system_entropy(32)))
            await stream.send_all(handshake.act_one)
            act = b""
            while len(act) < ACT_TWO_SIZE:
                data = await stream.receive_some(ACT_TWO_SIZE - len(act))
                if not data:
                    raise trio.BrokenResourceError("turned away")
                act += data
            act_three, session = handshake.read_act_two(act)
            await stream.send_all(act_three)
            line = StrangerLink(stream, session, key)
            if hello:
                await line.send([self.attack.hello])
            yield line

    async def _flood(self, batch: Batch, size: int, *, reads: bool = True, hello: bool = True) -> None:
        """Send batches of about `size` messages at the rate, reading what is answered or not."""
        every = size * self.attack.connections / self.attack.rate
        async with self._meet(hello=hello) as line, trio.open_nursery() as nursery:
            if reads:
                nursery.start_soon(line.drain)
            while True:
                await line.send(batch(line))
                self.messages += size
                await trio.sleep(every)

    async def _idle(self) -> None:
        async with self._meet() as line:
            await line.drain()

    async def _handshakes(self) -> None:
        """Begin handshakes and leave them at that."""
        place = PeerAddress.parse(self.attack.target)
        every = self.attack.connections / self.attack.rate
        while True:
            async with await self._stream(place.host, place.port) as stream:
                begun = Initiator(PrivateKey(system_entropy(32)), PublicKey(place.key), PrivateKey(system_entropy(32)))
                await stream.send_all(begun.act_one)
                self.messages += 1
                await trio.sleep(every)

    async def _junk(self) -> None:
        every = self.attack.connections / self.attack.rate
        while True:
            async with self._meet() as line:
                await line.send([system_entropy(1_000)])
                self.messages += 1
                await trio.sleep(every)

    async def _gossip(self) -> None:
        domain = domain_separator(self.attack.chain_id, Address(bytes.fromhex(self.attack.contract)))
        key, now = PrivateKey(system_entropy(32)), int(system_clock())
        count = max(100, POOL // self.attack.connections)
        said: list[Announcement] = [
            sign_update(key, domain, ChannelId(system_entropy(32)), number % 2, now, ForwardingPolicy())
            for number in range(count)
        ]
        frames = [frame for at in range(0, count, 50) for frame in gossip_wire.frames(said[at : at + 50])]

        def batch(line: StrangerLink) -> list[bytes]:
            frames.append(frames.pop(0))
            return [frames[-1]]

        await self._flood(batch, 50)

    def _unknown(self) -> bytes:
        return encode(Reestablish(ChannelId(system_entropy(32)), 0, None, None, 0))

    def _proposal(self, line: StrangerLink) -> bytes:
        ours, theirs = line.key.address, PublicKey(PeerAddress.parse(self.attack.target).key).address
        first, second = sorted((ours, theirs))
        contract = Address(bytes.fromhex(self.attack.contract))
        terms = Terms(
            self.attack.chain_id, contract, (first, second), NATIVE, self.messages, 86_400, system_entropy(32)
        )
        return encode(OpenProposal(terms, 10_000))

    async def _control(self) -> None:
        """Ask the control API without a token, on connections of which half then stay open."""
        place = urlsplit(self.attack.target)
        every = self.attack.connections / self.attack.rate
        request = f"GET /info HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode()
        async with await self._stream(place.hostname or "", place.port or 80) as stream:
            while True:
                await stream.send_all(request)
                self.messages += 1
                if not await stream.receive_some(65_536):
                    return
                await trio.sleep(every)


def _upload() -> bytes:
    return encode_for_tower(Upload(VERSION, system_entropy(32), 1, system_entropy(BLOB_SIZE)))


async def serve(attack: AttackOptions) -> None:
    """Attack until a line comes on standard input, it ends, or time is up; answer the line with what was done."""
    attacker = Attacker(attack)
    source = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
    with trio.move_on_after(attack.seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attacker.run)
            print(msgspec.json.encode({"attack": attack.kind}).decode(), flush=True)
            if asked := await source.receive_some(65_536):
                done = {"ok": True, "connections": attacker.connections, "messages": attacker.messages}
                print(msgspec.json.encode({"id": msgspec.json.decode(asked)["id"]} | done).decode(), flush=True)
            nursery.cancel_scope.cancel()


def main() -> None:
    """Run one attacker. It does not attack other machines."""
    attack = msgspec.json.decode(sys.argv[1], type=AttackOptions)
    place = urlsplit(attack.target) if "://" in attack.target else urlsplit("//" + attack.target.partition("@")[2])
    if place.hostname != "127.0.0.1":
        raise MeasurementVoid(f"attackers of a measurement attack this machine only, not {place.hostname}")
    os.nice(NICE)
    trio.run(serve, attack)


if __name__ == "__main__":
    main()
