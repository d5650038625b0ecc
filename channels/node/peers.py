"""Connections to other nodes: one per peer, dialed again after each loss, kept alive, bounded both ways.

The shell between `ports.Network` and `engine`: it moves frames and answers faults, and knows nothing of channels. A
peer that breaks the protocol is told why and disconnected. Peers without a funded channel are strangers: they share
places, memory and a part of the loop's time, and partners go before them. Of two connections to one peer, one survives
on both sides: a newer one replaces an older one of the same direction; of opposite directions, the one dialed by the
smaller key wins.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import msgspec
import trio

from tallystick.channels.errors import Fault, InvalidUpdate, LinkClosed, MalformedMessage, PeerError, TallystickError
from tallystick.channels.limits import ERROR_TEXT_MAX, MESSAGE_MAX
from tallystick.channels.node.dialer import Dialer
from tallystick.channels.node.engine import Engine
from tallystick.channels.ports import FavouringNetwork, Link, Network, PeerAddress
from tallystick.channels.protocol.messages import PROTOCOL_VERSION, Error, Hello, Ping, Pong, decode, encode
from tallystick.channels.session.effects import Event, PeerNotice
from tallystick.channels.transport.descriptors import allowance, descriptor_limit
from tallystick.channels.transport.guests import Guest, Guests, Rank
from tallystick.channels.transport.turns import TURN_SECONDS, Turns
from tallystick.channels.transport.wires import PeerWire, Pool

KEEPALIVE = 15.0
"""Seconds of silence after which a Ping is sent; after twice as many more, the connection is given up."""

HELLO_SECONDS = 10.0
"""How long a connection may take to say Hello."""

EXTENSION_TAGS = range(32, 48)
"""Numbers of messages that are not the channel layer's: they go to whoever extends it (`Peers.extend`)."""

LOOK = 5.0
"""Seconds between two looks at what a peer has yet to acknowledge; KEEPALIVE at most before the first one."""

SLOW_SECONDS = 60.0
"""How long a peer may leave a full queue unread before its connection is given up."""

STRANGERS_PART = 0.1
"""Of the loop's time, what messages of peers without a funded channel take at most, all together."""

PARTNER_SECONDS = 0.005
"""How long a partner's messages may be worked at before others have their turn."""


Extension: TypeAlias = Callable[[bytes, bytes], Iterator[None] | None]
"""Takes (peer's public key, frame). What takes long is returned as steps, to be made one after the other, soon."""


class PeerStatistics(msgspec.Struct, frozen=True):
    """Counters since the start."""

    connected: int
    dials: int
    faults: int
    bytes_sent: int
    """Of frames, before encryption."""
    bytes_received: int
    queued: int
    """Bytes of memory that wait to be sent."""
    strangers: int
    """Inbound connections of peers that had no funded channel when they were counted last."""
    evicted: int
    """Such connections that had to make room for newer ones."""


class Peers:
    """Keeps links to peers and feeds the engine. `run` owns all tasks."""

    def __init__(
        self,
        engine: Engine,
        network: Network,
        rng: random.Random,
        tell: Callable[[Event], None],
        *,
        strangers: int | None = None,
        announced: Callable[[bytes], tuple[str, ...]] = lambda key: (),
        reached: Callable[[PeerAddress], None] = lambda address: None,
    ) -> None:
        """`strangers`: inbound connections of peers without a funded channel, at most (`descriptors.allowance`).

        `announced` returns the addresses, <host>:<port>, that a node tells the network. `reached` gets the address at
        which a node was reached, the first time and when it is another one.
        """
        self._engine = engine
        self._network = network
        self._tell = tell
        self._guests = Guests(allowance(descriptor_limit()).strangers if strangers is None else strangers)
        self._turns = Turns(STRANGERS_PART)
        self._pool = Pool()
        self._hello = encode(Hello(PROTOCOL_VERSION, engine.chain_id, engine.contract))
        self._own_key = bytes(engine.key.public)
        self._wires: dict[bytes, PeerWire] = {}
        self._extension: Extension | None = None
        self._changed = trio.Event()
        self._faults = 0
        self._sent = self._received = 0  # on links that have ended
        self.dialer = Dialer(
            network=network,
            rng=rng,
            attend=self._attend,
            is_connected=lambda key: key in self._wires,
            wait_gone=self._wait_gone,
            is_wanted=engine.has_business_with,
            announced=announced,
            reached=reached,
            tell=tell,
        )

    def statistics(self) -> PeerStatistics:
        """Connections, dials and faults."""
        wires = self._wires.values()
        sent = self._sent + sum(wire.sent for wire in wires)
        received = self._received + sum(wire.received for wire in wires)
        return PeerStatistics(
            len(wires),
            self.dialer.dials,
            self._faults,
            sent,
            received,
            sum(wire.waiting for wire in wires),
            len(self._guests),
            self._guests.ended,
        )

    def connected_peers(self) -> list[bytes]:
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
            self.dialer.start(nursery)
            if listen is None:
                started(None)
                await trio.sleep_forever()
            else:
                await self._network.serve(*listen, self._handle, started=started)

    # --- dialing -------------------------------------------------------------------------------------------------

    def keep(self, address: PeerAddress) -> None:
        """Keep a connection to that node from now on, dialing it again after each loss (`dialer`)."""
        self.dialer.keep(address)

    def drop(self, key: bytes) -> None:
        """Stop keeping that connection, and end it."""
        self.dialer.drop(key)
        if key in self._wires:
            self._wires[key].scope.cancel()

    async def wait_connected(self, key: bytes) -> None:
        """Return once that peer is connected."""
        while key not in self._wires:
            await self._changed.wait()

    async def _wait_gone(self, key: bytes) -> None:
        while key in self._wires:
            await self._changed.wait()

    # --- one connection ------------------------------------------------------------------------------------------

    async def _handle(self, link: Link) -> None:
        """Serve a link that a peer dialed. It takes a stranger's place until it turns out to be a partner's."""
        key, wire = bytes(link.peer), PeerWire(link, self._pool)
        guest = Guest(wire.source, partial(self._engine.rank, key), wire.scope.cancel)
        if isinstance(self._network, FavouringNetwork) and guest.rank() is Rank.PARTNER:
            self._network.favour(wire.source)
        self._guests.admit(guest)
        try:
            await self._attend(link, wire)
        finally:
            self._guests.leave(guest)

    async def _attend(self, link: Link, given: PeerWire | None = None) -> float:
        """Serve one link to its end, and return for how many seconds both sides had use of it.

        Whatever happens on it ends here; no channel is harmed.
        """
        key, wire, began = bytes(link.peer), given or PeerWire(link, self._pool), math.inf
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
            wire.release()
            self._sent += wire.sent
            self._received += wire.received
            if self._wires.get(key) is wire:
                del self._wires[key]
                self._engine.on_disconnected(key, wire)
                self._note_change()
                if self._engine.has_business_with(key):
                    self.dialer.seek(key)
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
            if old.link.is_dialed != wire.link.is_dialed:
                smaller_is_ours = self._own_key < key
                if wire.link.is_dialed is not smaller_is_ours:
                    old.probe()
                    return False
            old.reason = InvalidUpdate("replaced by a newer connection", Fault.REPLACED)
            old.scope.cancel()
        self._wires[key] = wire
        self._engine.on_connected(key, wire)
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
            await self._work(key, wire, frames)
            self._look(key, wire, queued)
            await self._engine.writer.room()
            if wire.full:
                await self._wait_for_room(wire)
            frames = []
            with trio.CancelScope(deadline=min(due, wire.look_again, wire.probe_ends)) as wire.listening:
                frames = await wire.link.receive()
            queued, now = wire.waiting > 0, trio.current_time()  # before we say anything ourselves
            if frames:
                silent, due = 0, now + KEEPALIVE
                wire.probed, wire.probe_ends = False, math.inf
            elif now >= min(due, wire.probe_ends):
                silent += 1
                if silent > 2 or now >= wire.probe_ends:
                    raise LinkClosed("the peer has gone silent")
                due = now + KEEPALIVE
                wire.put(encode(Ping(silent)))

    async def _work(self, key: bytes, wire: PeerWire, frames: list[bytes]) -> None:
        """Take frames in: a partner's at once, a stranger's in turns with all others. Wait for who asks too much."""
        wire.rank(self._engine.rank(key) is Rank.PARTNER)
        steps = self._steps(key, wire, frames)
        worked, more = wire.take_work(), bool(frames)
        if worked and not wire.partner:
            self._turns.charge(worked)
        while more:
            if wire.partner:
                more = _advance(steps, wire, PARTNER_SECONDS)
                if more:
                    await trio.lowlevel.checkpoint()
            else:
                async with self._turns.turn(wire.source):
                    more = _advance(steps, wire, TURN_SECONDS)
            if wire.unpaid.level < 0:
                await trio.sleep(-wire.unpaid.level / wire.unpaid.rate)
                wire.unpaid.settle(trio.current_time())

    def _steps(self, key: bytes, wire: PeerWire, frames: list[bytes]) -> Iterator[None]:
        """Take frames in, one after the other, and pause after each and within what takes long."""
        for frame in frames:
            wire.received += len(frame)
            more = self._take(key, wire, frame)
            if more is not None:
                yield from more
            yield

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

    def _take(self, key: bytes, wire: PeerWire, frame: bytes) -> Iterator[None] | None:
        if self._extension is not None and number_of(frame) in EXTENSION_TAGS:
            return self._extension(key, frame)
        message = decode(frame)
        if isinstance(message, Ping):
            wire.put(encode(Pong(message.number)))
        elif isinstance(message, Pong) or self._engine.receive(key, message, frame):
            return None
        wire.unpaid.charge(1, trio.current_time())
        return None

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


def _advance(steps: Iterator[None], wire: PeerWire, seconds: float) -> bool:
    """Make steps for about so many seconds, or until the peer has used up its budget; return whether there are more."""
    until = trio.current_time() + seconds
    return any(wire.unpaid.level < 0 or trio.current_time() > until for _ in steps)


def error_frame(code: int, text: str, channel: bytes = b"") -> bytes:
    """Return the frame that tells a peer why its connection is about to close."""
    return encode(Error(channel, code, text[:ERROR_TEXT_MAX]))


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
