"""An in-memory network for virtual time: many nodes in one process, with seeded delay, breaks and partitions.

Links carry whole messages, in order per direction. What breaks, breaks as TCP does: a message that was accepted for
sending may never arrive, what arrives is an unbroken beginning of what was sent, and one side may learn of the end
later than the other; what it sends meanwhile is lost without an error.

There are no background tasks: each message carries the time at which it is due, and the receiver sleeps until then.
All choices are drawn from one seed, in the order of the calls; run it under `scheduling.simulate` to replay a run.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable

import trio

from tallystick.channels.errors import HandshakeFailed, InvalidInput, LinkClosed, PeerError
from tallystick.channels.limits import MESSAGE_MAX
from tallystick.channels.ports import Link, PeerAddress
from tallystick.channels.protocol.keys import PrivateKey, PublicKey
from tallystick.channels.testing.pipes import JITTER, Delivery, Pipe

DIAL_SECONDS = 10.0
"""How long a dial into a silent partition waits before it gives up."""

Handler = Callable[[Link], Awaitable[None]]


class MemoryLink:
    """One end of an in-memory connection (`ports.Link`)."""

    def __init__(self, endpoint: MemoryEndpoint, outgoing: Pipe, incoming: Pipe, *, dialed: bool) -> None:
        self.ends = (endpoint.key, outgoing.receiver)
        """The keys of this side and of the other."""
        self._endpoint = endpoint
        self._outgoing = outgoing
        self._incoming = incoming
        self._dialed = dialed
        self._open = True
        self._sending = trio.Lock()
        self.bytes_sent = 0
        """Bytes of messages handed to the network."""
        self.bytes_received = 0
        """Bytes of messages taken from the network."""
        endpoint.links[self] = None

    def __repr__(self) -> str:
        return f"MemoryLink({self.number}, to {self.peer!r}{'' if self._open else ', closed'})"

    @property
    def number(self) -> int:
        """The link's number on its network, the same on both sides."""
        return self._outgoing.number

    @property
    def peer(self) -> PublicKey:
        """The key that the peer proved to hold."""
        return self._outgoing.receiver

    @property
    def is_dialed(self) -> bool:
        """Whether this side opened the connection."""
        return self._dialed

    async def send(self, messages: list[bytes]) -> None:
        """Send messages in order, waiting while `buffer` or more are on their way. Raise LinkClosed if it ended."""
        if any(len(message) > MESSAGE_MAX for message in messages):
            raise InvalidInput(f"a message has at most {MESSAGE_MAX} bytes")
        async with self._sending:
            self._check()
            await self._wait_for_room()
            self._outgoing.put(messages)
            self.bytes_sent += sum(map(len, messages))

    async def receive(self) -> list[bytes]:
        """Wait for and return the messages that have arrived, at least one. Raise LinkClosed at the end."""
        await trio.lowlevel.checkpoint()
        pipe = self._incoming
        while True:
            if not self._open:
                raise LinkClosed("the connection is closed; what matters is repeated after the next one")
            if messages := pipe.take():
                self.bytes_received += sum(map(len, messages))
                pipe.network.record(pipe, messages)
                return messages
            if not pipe.queue and pipe.known_end() <= trio.current_time():
                self.close()
                raise LinkClosed("the peer closed the connection")
            with trio.move_on_at(pipe.next_event()):
                await pipe.changed.wait()

    async def aclose(self) -> None:
        """End the link at once. It never raises, not even when cancelled, and may be called twice."""
        self.close()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def close(self) -> None:
        """End the link without a checkpoint: what was sent before still arrives."""
        if self._open:
            self._open = False
            del self._endpoint.links[self]
            self._outgoing.finish()
            self._incoming.abandon()

    def sever(self) -> None:
        """Cut the wire in both directions; each side learns of it in its own time."""
        self._outgoing.sever()
        self._incoming.sever()

    def resume(self) -> None:
        """Let both directions flow again after a silent partition."""
        self._outgoing.resume()
        self._incoming.resume()

    async def _wait_for_room(self) -> None:
        """Wait until fewer than `buffer` messages are on their way. Cancelled, it ends the link, as TCP's does."""
        pipe = self._outgoing
        try:
            while pipe.is_full():
                with trio.move_on_at(self._incoming.known_end()):
                    await pipe.changed.wait()
                self._check()
        except trio.Cancelled:
            self.close()
            raise

    def _check(self) -> None:
        """Raise LinkClosed once this side has closed, or has learnt that the other has."""
        if not self._open or self._incoming.known_end() <= trio.current_time():
            raise LinkClosed("the connection is closed; what matters is repeated after the next one")


class MemoryEndpoint:
    """One node's place on a `MemoryNetwork` (`ports.Network`). A restarted node gets a new one for the same key."""

    def __init__(self, network: MemoryNetwork, key: PublicKey) -> None:
        self._network = network
        self.key = key
        self.dead = False
        self.links: dict[MemoryLink, None] = {}

    async def dial(self, address: PeerAddress) -> Link:
        """Connect: raise LinkClosed if nobody answers there, HandshakeFailed if it is another node."""
        expected = PublicKey(address.key)
        network = self._network
        await trio.sleep(network.draw_delay())
        server = network.find(address)
        if server is not None and network.is_silent(self.key, server.endpoint.key):
            await trio.sleep(DIAL_SECONDS)
            raise LinkClosed(f"{address} did not answer within {DIAL_SECONDS:g} seconds")
        if self.dead or server is None or network.is_parted(self.key, server.endpoint.key):
            raise LinkClosed(f"cannot connect to {address}: nobody answers")
        if server.endpoint.key != expected:
            raise HandshakeFailed(f"the node at {address.host}:{address.port} does not hold the expected key")
        return network.connect(self, server)

    async def serve(
        self,
        host: str,
        port: int,
        handler: Handler,
        *,
        started: Callable[[PeerAddress], None],
    ) -> None:
        """Answer at (host, port) until cancelled; port 0 takes a free one. Links close when their handler returns.

        LinkClosed and PeerError out of a handler end that link alone; any other error ends `serve`. Raise
        InvalidInput if somebody listens there already.
        """
        port = self._network.free_port(host, port)
        async with trio.open_nursery() as nursery:
            server = _Server(self, handler, nursery)
            self._network.register(host, port, server)
            try:
                started(PeerAddress(bytes(self.key), host, port))
                await trio.sleep_forever()
            finally:
                self._network.unregister(server)


class _Server:
    """A registered listener."""

    def __init__(self, endpoint: MemoryEndpoint, handler: Handler, nursery: trio.Nursery) -> None:
        self.endpoint = endpoint
        self._handler = handler
        self._nursery = nursery

    def accept(self, link: MemoryLink) -> None:
        """Run the handler on an inbound link, in a task of its own."""
        self._nursery.start_soon(self._run, link)

    async def _run(self, link: MemoryLink) -> None:
        try:
            await self._handler(link)
        except* (LinkClosed, PeerError):
            pass
        finally:
            link.close()


class MemoryNetwork:
    """All the nodes, links and faults of one simulation."""

    def __init__(
        self,
        seed: int,
        *,
        delay: tuple[float, float] = (0.001, 0.02),
        buffer: int = 256,
        trace: Callable[[Delivery], None] | None = None,
    ) -> None:
        """Take the seed, the least and the greatest delay in seconds, how many messages may be on their way per
        direction before senders wait, and a hook that sees every delivery.
        """
        self._rng = random.Random(seed)
        self._delay = delay
        self.buffer = buffer
        self._trace = trace
        self._servers: dict[tuple[str, int], _Server] = {}
        self._endpoints: list[MemoryEndpoint] = []
        self.distances: dict[frozenset[PublicKey], float] = {}
        """Seconds that messages between two nodes take beyond the drawn delay, where it is more than none."""
        self._parted: dict[frozenset[PublicKey | None], bool] = {}  # the pair, and whether silently
        self._numbers = itertools.count()
        self._ports = itertools.count(10_001)

    def endpoint(self, key: PrivateKey) -> MemoryEndpoint:
        """Return a new place on this network for the node with that key."""
        endpoint = MemoryEndpoint(self, key.public)
        self._endpoints.append(endpoint)
        return endpoint

    # Faults -----------------------------------------------------------------------------------------------------

    def cut(self, a: PublicKey, b: PublicKey | None = None) -> int:
        """Break the links between two nodes (without `b`: all of a's), losing what is on its way; return how many."""
        links = [link for link in self._open_links() if a in link.ends and (b is None or b in link.ends)]
        for link in links:
            link.sever()
        return len(links)

    def cut_randomly(self, probability: float) -> int:
        """Break each link of the network with this probability; return how many."""
        links = [link for link in self._open_links() if self._rng.random() < probability]
        for link in links:
            link.sever()
        return len(links)

    def partition(self, a: PublicKey, b: PublicKey | None = None, *, silent: bool = False) -> None:
        """Let nothing pass between two nodes (without `b`: between `a` and anybody) until `heal`.

        Their links break; or, if `silent`, stay half-open: nothing arrives and nobody is told, until `heal` lets
        what was sent flow again, as TCP's retransmission does.
        """
        self._parted[frozenset((a, b))] = silent
        if not silent:
            self.cut(a, b)

    def heal(self, a: PublicKey | None = None, b: PublicKey | None = None) -> None:
        """End the partition between these two, or that of `a` from anybody; without arguments, every partition."""
        before = [link for link in self._open_links() if self.is_silent(*link.ends)]
        if a is None:
            self._parted.clear()
        else:
            self._parted.pop(frozenset((a, b)), None)
        for link in before:
            if not self.is_silent(*link.ends):
                link.resume()

    def kill(self, endpoint: MemoryEndpoint) -> None:
        """Take a node off the network at once, as a crash does; only then cancel its tasks.

        Its sends and receives raise LinkClosed from now on, and it sends nothing more. What it had sent before still
        arrives. Its address is free for the endpoint of the restarted node.
        """
        if endpoint.dead:
            return
        endpoint.dead = True
        for address in [address for address, server in self._servers.items() if server.endpoint is endpoint]:
            del self._servers[address]
        for link in list(endpoint.links):
            link.close()
        self._endpoints.remove(endpoint)

    # For endpoints and links ------------------------------------------------------------------------------------

    def draw_delay(self) -> float:
        """Draw how long one thing takes to cross the network."""
        return self._rng.uniform(*self._delay) + self._rng.uniform(*JITTER)

    def distance(self, a: PublicKey, b: PublicKey) -> float:
        """Return how far apart two nodes are, in seconds."""
        return self.distances.get(frozenset((a, b)), 0.0) if self.distances else 0.0

    def draw_split(self, size: int) -> int:
        """Draw how many of `size` messages arrive first, before the rest: mostly all."""
        return self._rng.randrange(size) if self._rng.random() < 0.125 else size

    def is_parted(self, a: PublicKey, b: PublicKey) -> bool:
        """Whether a partition of either kind lies between two nodes."""
        return any(frozenset(pair) in self._parted for pair in ((a, b), (a, None), (None, b)))

    def is_silent(self, a: PublicKey, b: PublicKey) -> bool:
        """Whether a silent partition lies between two nodes."""
        if not self._parted:
            return False
        return any(self._parted.get(frozenset(pair), False) for pair in ((a, b), (a, None), (None, b)))

    def record(self, pipe: Pipe, messages: list[bytes]) -> None:
        """Show deliveries to the trace hook."""
        if self._trace is not None:
            now = trio.current_time()
            for message in messages:
                self._trace(Delivery(now, pipe.number, pipe.sender, pipe.receiver, message))

    def free_port(self, host: str, port: int) -> int:
        """Return `port`, or a free one for 0; raise InvalidInput if it is in use."""
        port = port or next(self._ports)
        if (host, port) in self._servers:
            raise InvalidInput(f"cannot listen on {host}:{port}, choose another address: it is in use")
        return port

    def register(self, host: str, port: int, server: _Server) -> None:
        """Give an address to a listener, unless its node is dead."""
        if not server.endpoint.dead:
            self._servers[host, port] = server

    def unregister(self, server: _Server) -> None:
        """Take a listener's address back, unless another has it by now."""
        for address in [address for address, known in self._servers.items() if known is server]:
            del self._servers[address]

    def find(self, address: PeerAddress) -> _Server | None:
        """Return who listens at an address."""
        return self._servers.get((address.host, address.port))

    def connect(self, dialer: MemoryEndpoint, server: _Server) -> MemoryLink:
        """Make a link and start the listener's handler on its other end."""
        number = next(self._numbers)
        there = Pipe(self, number, dialer.key, server.endpoint.key)
        back = Pipe(self, number, server.endpoint.key, dialer.key)
        link = MemoryLink(dialer, there, back, dialed=True)
        server.accept(MemoryLink(server.endpoint, back, there, dialed=False))
        return link

    def _open_links(self) -> list[MemoryLink]:
        """Every link that a side has open, once, seen from a side that has."""
        seen: dict[int, MemoryLink] = {}
        for endpoint in self._endpoints:
            for link in endpoint.links:
                seen.setdefault(link.number, link)
        return list(seen.values())
