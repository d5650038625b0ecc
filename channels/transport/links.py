"""Links over TCP, encrypted with Noise_XK: the real `ports.Network`.

Rules: nothing that a peer does ends more than its own connection; every wait on a stranger has an end (a deadline, or
eviction by a newer stranger); memory per connection is bounded (one unfinished frame, one read). Connections that have
not proved a key yet share a bounded number of places and a part of the loop's time, fairly by address. A link whose
send was cut short by cancellation is closed, since the peer would read a torn frame. What is sent at once, without
waiting, goes on where the socket stopped taking it: bytes leave in the order in which they were encrypted. The handler
of an inbound link owns it: when it returns, the link is closed.
Source: BOLT 8 for the bytes; trio.serve_listeners for the accept loop.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
import trio

from tallystick.channels.errors import HandshakeFailed, InvalidInput, LinkClosed, PeerError
from tallystick.channels.ports import Entropy, Link, PeerAddress
from tallystick.channels.protocol.keys import PrivateKey, PublicKey
from tallystick.channels.transport.descriptors import allowance, descriptor_limit
from tallystick.channels.transport.guests import Guest, Guests, Rank
from tallystick.channels.transport.noise import (
    ACT_ONE_SIZE,
    ACT_THREE_SIZE,
    ACT_TWO_SIZE,
    Initiator,
    NoiseSession,
    Responder,
)
from tallystick.channels.transport.rates import TokenBucket
from tallystick.channels.transport.turns import Turns, source_of

READ_SIZE = 131_072
"""Bytes that one read takes from a socket at most."""

PROMPT_MAX = 16_384
"""Bytes that are sent at once instead of in a task of their own: small frames, for which the hand-over is the price."""

HANDSHAKE_SECONDS = 10.0
"""How long a connection may take to prove its key; for a dial, finding and reaching the host included."""

HANDSHAKE_PART = 0.1
"""Of the loop's time, what inbound handshakes take at most, all together."""

FAVOURED_HANDSHAKES = 8
"""Handshakes that an address from which a partner came lately keeps when others must make room."""

FAVOURED_MAX = 4_096
"""Such addresses that are remembered, the newest."""

ACCEPTS_RATE = 500.0
"""Connections that are taken from the system per second, in the long run; more wait in its queue."""

ACCEPTS_BURST = 100.0
"""The same, at once."""

BACKLOG = 256
"""Connections that wait in the system's queue; further ones are tried again by their side's system."""


class TransportStatistics(msgspec.Struct, frozen=True):
    """What a `TcpNetwork`'s inbound side is doing, and what it has turned away since it was made."""

    handshakes: int
    """Inbound handshakes in progress."""

    links: int
    """Inbound links that are open."""

    failed: int
    """Inbound connections that ended before they had proved a key, the evicted ones included."""

    refused: int
    """Inbound connections that proved a key but came when as many were open as may be (`descriptors`)."""


class TcpLink:
    """One authenticated TCP connection (`ports.Link`). One task receives; any number may send."""

    def __init__(self, stream: trio.SocketStream, session: NoiseSession, *, dialed: bool, source: str = "") -> None:
        self.source = source
        """Who counts as one with it when strangers share what there is (`turns.source_of`)."""
        self.read_size = READ_SIZE
        """Bytes that one read takes from the socket at most."""
        self.worked = 0.0
        """Seconds that decrypting took so far."""
        self._stream = stream
        self._session = session
        self.peer = session.peer
        """The key that the peer proved to hold."""
        self.is_dialed = dialed
        """Whether this side opened the connection."""
        self._sending = trio.Lock()
        self._unsent = b""
        self._open = True
        self.bytes_sent = 0
        """Bytes of frames handed to the network."""
        self.bytes_received = 0
        """Bytes of frames taken from the network."""

    def __repr__(self) -> str:
        return f"TcpLink({'to' if self.is_dialed else 'from'} {self.peer!r}{'' if self._open else ', closed'})"

    async def send(self, messages: list[bytes]) -> None:
        """Send messages in order with one write, waiting while the peer is slow. Raise LinkClosed if it has ended.

        Raise InvalidInput, with nothing sent, if one is longer than MESSAGE_MAX. Cancelled while the bytes are on
        their way, it ends the link.
        """
        async with self._sending:
            if not self._open:
                raise LinkClosed("the connection is closed; what matters is repeated after the next one")
            data = self._unsent + self._session.encrypt_all(messages)
            self._unsent = b""
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._close()
                raise LinkClosed("the connection broke while sending") from error
            except BaseException:
                self._close()
                raise
            self.bytes_sent += len(data)

    def send_now(self, messages: list[bytes]) -> bool:
        """Send messages at once, as far as the socket takes them; the rest is `behind`.

        Return False, with nothing done, if they must wait their turn in `send`: the link has ended, other bytes are
        on their way, or these are more than PROMPT_MAX.
        """
        if not self._open or self._unsent or self._sending.locked() or sum(map(len, messages)) > PROMPT_MAX:
            return False
        data = self._session.encrypt_all(messages)
        try:
            taken = os.write(self._stream.socket.fileno(), data)  # trio's sockets do not block
        except OSError:  # full, or broken: `send` waits, or meets the same error and tells
            taken = 0
        self.bytes_sent += taken
        self._unsent = data[taken:]
        return True

    @property
    def behind(self) -> bool:
        """Whether bytes of `send_now` wait for a `send`."""
        return bool(self._unsent)

    async def receive(self) -> list[bytes]:
        """Wait for and return all messages that have arrived whole, at least one.

        Raise LinkClosed when the connection has ended, MalformedMessage when its bytes are forged.
        """
        data = b""
        while True:
            try:
                # The first round reads nothing: it raises the fault that followed the last good message.
                began = trio.current_time()
                messages = self._session.feed(data)
                self.worked += trio.current_time() - began
                if messages:
                    return messages
                data = await self._stream.receive_some(self.read_size)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._close()
                raise LinkClosed("the connection broke") from error
            except PeerError:
                self._close()
                raise
            if not data:
                self._close()
                raise LinkClosed("the peer closed the connection")
            self.bytes_received += len(data)

    async def aclose(self) -> None:
        """End the link at once. It never raises, not even when cancelled, and may be called twice."""
        self._close()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _close(self) -> None:
        """Close the socket. A task that waits in it wakes up with LinkClosed."""
        self._open = False
        self._stream.socket.close()


class TcpNetwork:
    """Makes links over TCP for one node key (`ports.Network`)."""

    def __init__(
        self,
        key: PrivateKey,
        entropy: Entropy,
        *,
        handshake_seconds: float = HANDSHAKE_SECONDS,
        handshakes_max: int | None = None,
        links_max: int | None = None,
    ) -> None:
        """Take the node's key, the source of ephemeral keys, and limits on what strangers may use up.

        Where no limit is given, this process's descriptors are divided (`descriptors.allowance`).
        """
        allowed = allowance(descriptor_limit())
        self._key = key
        self._entropy = entropy
        self._seconds = handshake_seconds
        most = allowed.handshakes if handshakes_max is None else handshakes_max
        self._links_max = allowed.links if links_max is None else links_max
        self._handshakes = Guests(most, self._spared)
        self._favoured: OrderedDict[str, None] = OrderedDict()
        self._turns = Turns(HANDSHAKE_PART)
        self._links = 0
        self._failed = 0
        self._refused = 0

    def statistics(self) -> TransportStatistics:
        """Return what the inbound side is doing now."""
        return TransportStatistics(len(self._handshakes), self._links, self._failed, self._refused)

    def favour(self, source: str) -> None:
        """Remember an address from which a partner came: its handshakes go before strangers'."""
        self._favoured[source] = None
        self._favoured.move_to_end(source)
        while len(self._favoured) > FAVOURED_MAX:
            self._favoured.popitem(last=False)

    def _spared(self, source: str) -> int:
        return FAVOURED_HANDSHAKES if source in self._favoured else 0

    async def dial(self, address: PeerAddress) -> Link:
        """Connect and authenticate within `handshake_seconds`.

        Raise LinkClosed if nobody answers, HandshakeFailed if whoever answers is not the node with that key.
        """
        expected = PublicKey(address.key)
        try:
            with trio.fail_after(self._seconds):
                stream = await _connect(address)
                try:
                    session = await self._initiate(stream, expected)
                except BaseException:
                    stream.socket.close()
                    raise
        except trio.TooSlowError as error:
            raise LinkClosed(f"{address} did not answer within {self._seconds:g} seconds") from error
        return TcpLink(stream, session, dialed=True)

    async def serve(
        self,
        host: str,
        port: int,
        handler: Callable[[Link], Awaitable[None]],
        *,
        started: Callable[[PeerAddress], None],
    ) -> None:
        """Listen on `host` (empty for every interface) until cancelled; port 0 takes a free one.

        `started` gets the bound address; `handler` runs in a task per inbound link, which is closed when it returns.
        LinkClosed and PeerError out of a handler end that link alone; any other error ends `serve`. Raise
        InvalidInput if the address cannot be bound.
        """
        try:
            listeners = await trio.open_tcp_listeners(port, host=host or None, backlog=BACKLOG)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"cannot listen on {host}:{port}, choose another address: {error}") from error
        if port == 0:
            # Each of a host's addresses was given a port of its own, and only one can be told to others.
            for extra in listeners[1:]:
                extra.socket.close()
            del listeners[1:]
        bound = listeners[0].socket.getsockname()
        started(PeerAddress(bytes(self._key.public), bound[0], bound[1]))
        pace = TokenBucket(ACCEPTS_RATE, ACCEPTS_BURST, trio.current_time())
        await trio.serve_listeners(
            partial(self._inbound, handler), [_PacedListener(listener, pace) for listener in listeners]
        )

    async def _inbound(self, handler: Callable[[Link], Awaitable[None]], stream: trio.SocketStream) -> None:
        """Authenticate one inbound connection and hand it over."""
        try:
            source = _source(stream)
            session = await self._admit(stream, source)
            if session is None:
                return
            if self._links >= self._links_max:
                self._refused += 1
                return
            self._links += 1
            try:
                await handler(TcpLink(stream, session, dialed=False, source=source))
            except* (LinkClosed, PeerError):
                pass
            finally:
                self._links -= 1
        finally:
            stream.socket.close()

    async def _admit(self, stream: trio.SocketStream, source: str) -> NoiseSession | None:
        """Return the session of an inbound connection; None if it failed, took too long or was evicted."""
        scope = trio.move_on_after(self._seconds)
        guest = Guest(source, lambda: Rank.STRANGER, scope.cancel)
        self._handshakes.admit(guest)
        session = None
        try:
            with scope:
                session = await self._respond(stream, source)
        except (PeerError, trio.BrokenResourceError):
            pass
        finally:
            self._handshakes.leave(guest)
            if session is None:
                self._failed += 1
        return session

    async def _initiate(self, stream: trio.SocketStream, expected: PublicKey) -> NoiseSession:
        """Run the handshake as the side that dialed."""
        try:
            handshake = Initiator(self._key, expected, PrivateKey(self._entropy(32)))
            await stream.send_all(handshake.act_one)
            act_three, session = handshake.read_act_two(await _read_act(stream, ACT_TWO_SIZE))
            await stream.send_all(act_three)
        except trio.BrokenResourceError as error:
            raise HandshakeFailed("the other side broke the connection off: it is not the node wanted") from error
        return session

    async def _respond(self, stream: trio.SocketStream, source: str) -> NoiseSession:
        """Run the handshake as the side that listens. No key is drawn before the peer has said something."""
        act_one = await _read_act(stream, ACT_ONE_SIZE)
        async with self._turns.turn(source):
            handshake = Responder(self._key, PrivateKey(self._entropy(32)))
            act_two = handshake.read_act_one(act_one)
        await stream.send_all(act_two)
        act_three = await _read_act(stream, ACT_THREE_SIZE)
        async with self._turns.turn(source):
            return handshake.read_act_three(act_three)


class _PacedListener(trio.abc.Listener[trio.SocketStream]):
    """A listener that takes no more connections per second than its pace."""

    def __init__(self, inner: trio.SocketListener, pace: TokenBucket) -> None:
        self._inner = inner
        self._pace = pace

    async def accept(self) -> trio.SocketStream:
        """Take the next connection, in time."""
        stream = await self._inner.accept()
        self._pace.charge(1, trio.current_time())
        if self._pace.level < 0:
            try:
                await trio.sleep(-self._pace.level / self._pace.rate)
            except BaseException:
                stream.socket.close()
                raise
        return stream

    async def aclose(self) -> None:
        """Listen no more."""
        await self._inner.aclose()


def _source(stream: trio.SocketStream) -> str:
    """Return where a connection comes from; empty if it has ended already."""
    try:
        return source_of(stream.socket.getpeername()[0])
    except OSError:
        return ""


async def _connect(address: PeerAddress) -> trio.SocketStream:
    """Open a TCP connection; raise LinkClosed if there is no such host or nobody listens."""
    try:
        return await trio.open_tcp_stream(address.host, address.port)
    except (OSError, ValueError) as error:  # ValueError: a host name that cannot be encoded
        raise LinkClosed(f"cannot connect to {address}: {error}") from error


async def _read_act(stream: trio.SocketStream, size: int) -> bytes:
    """Read exactly `size` bytes and not one more: what follows an act belongs to the session."""
    act = b""
    while len(act) < size:
        data = await stream.receive_some(size - len(act))
        if not data:
            raise HandshakeFailed("the other side closed the connection: it is not the node wanted, or it is full")
        act += data
    return act
