"""Connections to other nodes: one per peer, dialed again after each loss, kept alive, bounded both ways.

The shell between `ports.Network` and `engine`: it moves frames and answers faults, and knows nothing of channels. A
peer that breaks the protocol is told why and disconnected. Of two connections to one peer, one survives on both sides:
a newer one replaces an older one of the same direction; of opposite directions, the one dialed by the smaller key wins.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import TypeAlias

import msgspec
import trio

from tallystick.channels.effects import Event, PeerNotice
from tallystick.channels.engine import Engine, error_frame
from tallystick.channels.errors import Fault, InvalidUpdate, LinkClosed, MalformedMessage, PeerError, TallystickError
from tallystick.channels.limits import MESSAGE_MAX
from tallystick.channels.messages import PROTOCOL_VERSION, Hello, Ping, Pong, decode, encode
from tallystick.channels.ports import Link, Network, PeerAddress, PromptLink
from tallystick.channels.transport import backoff

KEEPALIVE = 15.0
"""Seconds of silence after which a Ping is sent; after twice as many more, the connection is given up."""

PROBE = 3.0
"""Seconds that a connection has to show life when the peer dials us although we think it is connected."""

HELLO_SECONDS = 10.0
"""How long a connection may take to say Hello."""

EXTENSION_TAGS = range(32, 48)
"""Numbers of messages that are not the channel layer's: they go to whoever extends it (`Peers.extend`)."""

SAY_BYTES_MAX = 1_000_000
"""Bytes queued for a peer beyond which `Peers.say` refuses: what is said there may be lost, and is said again later."""

LOOK = 5.0
"""Seconds between two looks at what a peer has yet to acknowledge; KEEPALIVE at most before the first one."""

QUEUE_BYTES_MAX = 8_000_000
"""Bytes queued for a slow peer before we stop reading what it sends."""

SLOW_SECONDS = 60.0
"""How long a peer may leave a full queue unread before its connection is given up."""

REDIAL = 0.1
"""Seconds before the first redial of a steady connection that was lost, at most; they double with each one in vain."""

STEADY = 30.0
"""Seconds that a connection must last to be called steady, at most: STEADY_PAUSES times the pause before it will do.
So who is cut off now and then comes back at once, and who is turned away again and again comes ever less often."""

STEADY_PAUSES = 2


Extension: TypeAlias = Callable[[bytes, bytes], None]
"""Takes (peer's public key, frame)."""


class PeerWire:
    """Frames queued for one connected peer (`engine.Wire`)."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._prompt = link if isinstance(link, PromptLink) else None
        self.scope = trio.CancelScope()
        """Ends the connection when cancelled."""
        self.reason: PeerError | None = None
        self.listening = trio.CancelScope()
        """The present wait for frames; its deadline is the end of our patience."""
        self.probed = False
        self.probe_ends = math.inf
        self.looked = -math.inf
        self.look_again = math.inf
        """When to look again, even if nothing comes, at what the peer has yet to acknowledge."""
        self._frames: list[bytes] = []
        self._queued = 0
        self.sent = self.received = 0
        """Bytes of frames so far."""
        self._wake = trio.Event()
        self._drained = trio.Event()

    def put(self, frame: bytes) -> None:
        """Queue a frame for sending."""
        self._frames.append(frame)
        self._queued += len(frame)
        self._wake.set()

    def put_all(self, frames: list[bytes]) -> None:
        """Send frames at once if nothing is queued before them and the link can, else queue them."""
        if not self._queued and self._prompt is not None and self._prompt.send_now(frames):
            self.sent += sum(map(len, frames))
            if self._prompt.behind:
                self._queued = 1  # what comes next waits behind it
                self._wake.set()
        else:
            for frame in frames:
                self.put(frame)

    def put_unless_busy(self, frame: bytes) -> bool:
        """Queue a frame that may be lost; return whether there was room."""
        if self._queued + len(frame) > SAY_BYTES_MAX:
            return False
        self.put(frame)
        return True

    def probe(self) -> None:
        """Ask for a sign of life within PROBE seconds: the peer dialed afresh, so this link may be dead."""
        if not self.probed:
            self.probed = True
            self.put(encode(Ping(0)))
            self.probe_ends = trio.current_time() + PROBE
            self.listening.deadline = min(self.listening.deadline, self.probe_ends)

    @property
    def queued(self) -> bool:
        """Whether anything waits for the link."""
        return self._queued > 0

    @property
    def full(self) -> bool:
        """Whether more than QUEUE_BYTES_MAX are queued."""
        return self._queued > QUEUE_BYTES_MAX

    async def room(self) -> None:
        """Wait while the queue is full."""
        while self.full:
            self._drained = trio.Event()
            await self._drained.wait()

    async def send_forever(self) -> None:
        """Send what is queued, all at once, until the link ends (LinkClosed)."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            frames, self._frames = self._frames, []
            if frames or self._queued:
                await self.link.send(frames)
                self.sent += sum(map(len, frames))
            self._queued = sum(map(len, self._frames))
            self._drained.set()


class PeerStatistics(msgspec.Struct, frozen=True):
    """Counters since the start."""

    connected: int
    dials: int
    faults: int
    bytes_sent: int
    """Of frames, before encryption."""
    bytes_received: int


class Peers:
    """Keeps links to peers and feeds the engine. `run` owns all tasks."""

    def __init__(self, engine: Engine, network: Network, rng: random.Random, tell: Callable[[Event], None]) -> None:
        self._engine = engine
        self._network = network
        self._rng = rng
        self._tell = tell
        self._hello = encode(Hello(PROTOCOL_VERSION, engine.chain_id, engine.contract))
        self._own_key = bytes(engine.key.public)
        self._wires: dict[bytes, PeerWire] = {}
        self._addresses: dict[bytes, PeerAddress] = {}
        self._keepers: dict[bytes, trio.CancelScope] = {}
        self._extension: Extension | None = None
        self._nursery: trio.Nursery | None = None
        self._changed = trio.Event()
        self._dials = 0
        self._faults = 0
        self._sent = self._received = 0  # on links that have ended

    def statistics(self) -> PeerStatistics:
        """Connections, dials and faults."""
        wires = self._wires.values()
        sent = self._sent + sum(wire.sent for wire in wires)
        received = self._received + sum(wire.received for wire in wires)
        return PeerStatistics(len(wires), self._dials, self._faults, sent, received)

    def connected(self) -> list[bytes]:
        """Return the public keys of connected peers."""
        return list(self._wires)

    def extend(self, extension: Extension) -> None:
        """Give frames with EXTENSION_TAGS to `extension(peer, frame)`. It may raise PeerError: the peer is told, and
        disconnected."""
        self._extension = extension

    def say(self, key: bytes, frame: bytes) -> bool:
        """Queue a frame for a connected peer; return False if it is not connected or far behind.

        Nothing says whether it arrives, and nothing that it says may depend on what is not durable yet.
        """
        wire = self._wires.get(key)
        return wire is not None and wire.put_unless_busy(frame)

    def end(self, key: bytes, fault: PeerError) -> None:
        """End the connection to a peer that turned out to have broken a rule. A kept address is dialed again, later."""
        wire = self._wires.get(key)
        if wire is not None:
            wire.reason = fault
            wire.scope.cancel()

    async def run(self, listen: tuple[str, int] | None, *, started: Callable[[PeerAddress | None], None]) -> None:
        """Listen (if asked to) and keep connections until cancelled. `started` gets the bound address."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for key in self._addresses:
                self._start_keeper(key)
            if listen is None:
                started(None)
                await trio.sleep_forever()
            else:
                await self._network.serve(*listen, self._handle, started=started)

    # --- dialing -------------------------------------------------------------------------------------------------

    def keep(self, address: PeerAddress) -> None:
        """Keep a connection to that node from now on, dialing it again after each loss."""
        known = self._addresses.get(address.key)
        self._addresses[address.key] = address
        if known != address and address.key in self._keepers:
            self._keepers.pop(address.key).cancel()
        if self._nursery is not None and address.key not in self._keepers:
            self._start_keeper(address.key)

    def drop(self, key: bytes) -> None:
        """Stop keeping that connection, and end it."""
        self._addresses.pop(key, None)
        if key in self._keepers:
            self._keepers.pop(key).cancel()
        if key in self._wires:
            self._wires[key].scope.cancel()

    async def wait_connected(self, key: bytes) -> None:
        """Return once that peer is connected."""
        while key not in self._wires:
            await self._changed.wait()

    def _start_keeper(self, key: bytes) -> None:
        if self._nursery is not None:
            scope = self._keepers[key] = trio.CancelScope()
            self._nursery.start_soon(self._keep, key, scope)

    async def _keep(self, key: bytes, scope: trio.CancelScope) -> None:
        """Dial, serve, and dial again, with growing and jittered pauses while it does not last."""
        attempt, pause = 0, 0.0
        with scope:
            while True:
                if key in self._wires:
                    await self._changed.wait()
                    continue
                lasted = 0.0
                self._dials += 1
                try:
                    link = await self._network.dial(self._addresses[key])
                except (LinkClosed, PeerError) as error:
                    if isinstance(error, PeerError):
                        self._tell(PeerNotice(key, b"", error.code, str(error), True))
                else:
                    lasted = await self._attend(link)
                attempt = 0 if lasted > min(STEADY, STEADY_PAUSES * pause) else attempt + 1
                pause = backoff(attempt, self._rng, first=REDIAL)
                await trio.sleep(pause)

    # --- one connection ------------------------------------------------------------------------------------------

    async def _handle(self, link: Link) -> None:
        await self._attend(link)

    async def _attend(self, link: Link) -> float:
        """Serve one link to its end, and return for how many seconds both sides had use of it.

        Whatever happens on it ends here; no channel is harmed.
        """
        key, wire, began = bytes(link.peer), PeerWire(link), math.inf
        try:
            with wire.scope:
                first = await self._greet(link)
                if self._admit(key, wire):
                    began = trio.current_time()
                    await self._serve(key, wire, first)
            fault = wire.reason
        except LinkClosed:
            fault = None
        except PeerError as error:
            fault = error
        finally:
            self._sent += wire.sent
            self._received += wire.received
            if self._wires.get(key) is wire:
                del self._wires[key]
                self._engine.disconnected(key, wire)
                self._note_change()
            with trio.CancelScope(shield=True):
                await link.aclose()
        if fault is not None and fault.code is not Fault.REPLACED:
            self._faults += 1
            self._tell(PeerNotice(key, b"", fault.code, str(fault), True))
        return max(0.0, trio.current_time() - began)

    async def _greet(self, link: Link) -> list[bytes]:
        """Exchange Hellos; return frames that came right behind the peer's. Raise PeerError or LinkClosed."""
        await link.send([self._hello])
        with trio.move_on_after(HELLO_SECONDS):
            frames = await link.receive()
            try:
                self._check_hello(frames[0])
            except PeerError as error:
                await self._say_goodbye(link, error)
                raise
            return frames[1:]
        raise LinkClosed("the peer did not say Hello in time")

    def _check_hello(self, frame: bytes) -> None:
        hello = decode(frame)
        if not isinstance(hello, Hello):
            raise MalformedMessage("the first message must be Hello", Fault.UNKNOWN_MESSAGE)
        if hello.version != PROTOCOL_VERSION:
            raise InvalidUpdate(
                f"the peer speaks version {hello.version} of the protocol, this node version {PROTOCOL_VERSION}",
                Fault.WRONG_VERSION,
            )
        if (hello.chain_id, hello.contract) != (self._engine.chain_id, self._engine.contract):
            raise InvalidUpdate(
                f"the peer works on chain {hello.chain_id}, contract 0x{hello.contract.hex()}; this node on chain "
                f"{self._engine.chain_id}, contract 0x{self._engine.contract.hex()}",
                Fault.WRONG_CHAIN,
            )

    def _admit(self, key: bytes, wire: PeerWire) -> bool:
        """Decide which of two connections to one peer survives; return whether it is the new one."""
        old = self._wires.get(key)
        if key == self._own_key:
            return False
        if old is not None:
            if old.link.dialed != wire.link.dialed:
                smaller_is_ours = self._own_key < key
                if wire.link.dialed is not smaller_is_ours:
                    old.probe()
                    return False
            old.reason = InvalidUpdate("replaced by a newer connection", Fault.REPLACED)
            old.scope.cancel()
        self._wires[key] = wire
        self._engine.connected(key, wire)
        self._note_change()
        return True

    async def _serve(self, key: bytes, wire: PeerWire, frames: list[bytes]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wire.send_forever)
                await self._read(key, wire, frames)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            expected, others = group.split((PeerError, LinkClosed))
            if expected is None or others is not None:
                raise others or group from None  # whoever ends us while the link ends is told nothing of the link
            error = _first(expected)
            if isinstance(error, PeerError):
                await self._say_goodbye(wire.link, error)
            raise error from None

    async def _read(self, key: bytes, wire: PeerWire, frames: list[bytes]) -> None:
        """Feed the engine until the link ends or goes silent (LinkClosed) or the peer breaks a rule (PeerError)."""
        silent, due, queued = 0, trio.current_time() + KEEPALIVE, False
        while True:
            for frame in frames:
                wire.received += len(frame)
                self._take(key, wire, frame)
            self._look(key, wire, queued)
            await self._engine.writer.room()
            if wire.full:
                await self._wait_for_room(wire)
            frames = []
            with trio.CancelScope(deadline=min(due, wire.look_again, wire.probe_ends)) as wire.listening:
                frames = await wire.link.receive()
            queued, now = wire.queued, trio.current_time()  # before we say anything ourselves
            if frames:
                silent, due = 0, now + KEEPALIVE
                wire.probed, wire.probe_ends = False, math.inf
            elif now >= min(due, wire.probe_ends):
                silent += 1
                if silent > 2 or now >= wire.probe_ends:
                    raise LinkClosed("the peer has gone silent")
                due = now + KEEPALIVE
                wire.put(encode(Ping(silent)))

    def _look(self, key: bytes, wire: PeerWire, queued: bool) -> None:
        """Raise PeerError if the peer has held back an acknowledgement for too long."""
        now = trio.current_time()
        if now >= wire.looked + LOOK:
            wire.looked = now
            waits = self._engine.require_acks(key, now, queued=queued)
            wire.look_again = now + LOOK if waits else math.inf

    async def _wait_for_room(self, wire: PeerWire) -> None:
        with trio.move_on_after(SLOW_SECONDS) as slow:
            await wire.room()
        if slow.cancelled_caught:
            raise LinkClosed("the peer does not read what is sent to it")

    def _take(self, key: bytes, wire: PeerWire, frame: bytes) -> None:
        if self._extension is not None and number_of(frame) in EXTENSION_TAGS:
            self._extension(key, frame)
            return
        message = decode(frame)
        if isinstance(message, Ping):
            wire.put(encode(Pong(message.number)))
        elif not isinstance(message, Pong):
            self._engine.receive(key, message, frame)

    async def _say_goodbye(self, link: Link, error: PeerError) -> None:
        with trio.move_on_after(1) as scope:
            scope.shield = True
            try:
                await link.send([error_frame(error.code, str(error))])
            except LinkClosed:
                return

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def number_of(frame: bytes) -> int:
    """Return the number of a message (the first item of its array) if it is one from 0 to 127, else -1."""
    if len(frame) > MESSAGE_MAX:
        return -1
    at = 1 if frame[:1] >= b"\x90" and frame[:1] <= b"\x9f" else 3 if frame[:1] == b"\xdc" else len(frame)
    return frame[at] if at < len(frame) and frame[at] < 128 else -1


def _first(group: BaseExceptionGroup[TallystickError]) -> TallystickError:
    """Return what ended a connection: the peer's fault, if there was one, rather than the loss that followed."""
    leaves: list[TallystickError] = []
    for error in group.exceptions:
        leaves.append(_first(error) if isinstance(error, BaseExceptionGroup) else error)
    return next((error for error in leaves if isinstance(error, PeerError)), leaves[0])
