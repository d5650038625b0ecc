"""Network conditions for links: a round trip that takes its time, and connections that are cut. Wraps any
`ports.Network`.

    delay   what is sent waits rtt/2 and then goes on, in order, with all else that is due: only the time of arrival
            changes, not how much passes. Both ends delay what they send, so a round trip takes rtt longer; a dial takes
            two round trips more (TCP's, and the first of Noise's). At most BUFFER_BYTES are on their way, then senders
            wait. The link has no other limit: it is long, not narrow.
    cuts    every CUT_SECONDS, this percentage of the links that are open, rounded up, is cut by seed: what is on its
            way is lost, and both ends learn of the end at once. So a single link is cut once a second, and of 1,000
            links, ten a second with `cuts = 1`.

One `NetworkConditions` belongs to one process, is shared by all of its networks, and may change while links are open:
`change` cuts them all first, so that nothing that an end has learned of the old ones is left.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from tallystick.channels.errors import LinkClosed
from tallystick.channels.ports import Link, Network, PeerAddress
from tallystick.channels.protocol.keys import PublicKey

BUFFER_BYTES = 64_000_000
"""Bytes that may be on their way over one link in one direction; then its sender waits, as for a full socket."""

CONDITIONS_SEED = 1
"""Of what is cut in a measurement."""

CUT_SECONDS = 1.0
"""Seconds between cuts."""

DIAL_TRIPS = 2
"""Round trips until a dialed link carries messages."""


class NetworkConditions:
    """The state of all links of one process. `run` moves what is delayed; the links of `network` live no longer."""

    def __init__(self, rng: random.Random, *, buffer: int = BUFFER_BYTES) -> None:
        self.rtt = 0.0
        """Seconds."""
        self.cuts = 0.0
        """Percent of the open links that are cut every CUT_SECONDS."""
        self.cut = 0
        """Links that were cut so far."""
        self.buffer = buffer
        self.links: dict[ImpairedLink, None] = {}
        self._rng = rng
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Move what is delayed and cut what is to be cut, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                await trio.sleep(CUT_SECONDS)
                count = math.ceil(len(self.links) * self.cuts / 100)
                for link in self._rng.sample(list(self.links), count):
                    await self._end(link)

    async def change(self, rtt: float, cuts: float) -> None:
        """From now on it is like this; `rtt` in seconds, `cuts` in percent. All open links are cut, uncounted."""
        self.rtt, self.cuts = rtt, cuts
        for link in list(self.links):
            await link.aclose()

    async def _end(self, link: ImpairedLink) -> None:
        self.cut += 1
        await link.aclose()

    def network(self, inner: Network) -> Network:
        """Return `inner` under these conditions."""
        return ImpairedNetwork(inner, self)

    def link(self, inner: Link) -> ImpairedLink:
        """Return `inner` under these conditions; `run` must be running."""
        link = ImpairedLink(inner, self)
        self.links[link] = None
        if self._nursery is not None:
            self._nursery.start_soon(link.move)
        return link


class ImpairedNetwork:
    """A network under conditions (`ports.Network`)."""

    def __init__(self, inner: Network, conditions: NetworkConditions) -> None:
        self._inner = inner
        self._conditions = conditions

    async def dial(self, address: PeerAddress) -> Link:
        """As the inner network's, some round trips later."""
        await trio.sleep(DIAL_TRIPS * self._conditions.rtt)
        return self._conditions.link(await self._inner.dial(address))

    async def serve(
        self,
        host: str,
        port: int,
        handler: Callable[[Link], Awaitable[None]],
        *,
        started: Callable[[PeerAddress], None],
    ) -> None:
        """As the inner network's."""

        async def handle(link: Link) -> None:
            await handler(self._conditions.link(link))

        await self._inner.serve(host, port, handle, started=started)


class ImpairedLink:
    """A link under conditions (`ports.Link`). What it delays is lost when it ends."""

    def __init__(self, inner: Link, conditions: NetworkConditions) -> None:
        self._inner = inner
        self._conditions = conditions
        self._waiting: deque[tuple[float, list[bytes], int]] = deque()
        self._bytes = 0
        self._news = trio.Event()
        self._moved = trio.Event()
        self._scope = trio.CancelScope()
        self._open = True

    @property
    def peer(self) -> PublicKey:
        """The key that the peer proved to hold."""
        return self._inner.peer

    @property
    def is_dialed(self) -> bool:
        """Whether this side opened the connection."""
        return self._inner.is_dialed

    async def send(self, messages: list[bytes]) -> None:
        """Put messages on their way, waiting while BUFFER_BYTES are. Raise LinkClosed if the link has ended."""
        while self._open and self._bytes >= self._conditions.buffer:
            await self._moved.wait()
        if not self._open:
            raise LinkClosed("the connection is closed; what matters is repeated after the next one")
        if not self._conditions.rtt and not self._waiting:
            await self._inner.send(messages)
            return
        size = sum(map(len, messages))
        self._waiting.append((trio.current_time() + self._conditions.rtt / 2, messages, size))
        self._bytes += size
        self._news.set()
        await trio.lowlevel.checkpoint()

    async def receive(self) -> list[bytes]:
        """As the inner link's: the sender's end delays."""
        return await self._inner.receive()

    async def aclose(self) -> None:
        """End the link at once, with what is on its way."""
        self._finish()
        await self._inner.aclose()

    async def move(self) -> None:
        """Hand on what is due, all at once, until the link ends."""
        with self._scope:
            try:
                while True:
                    await self._news.wait()
                    self._news = trio.Event()
                    while self._waiting:
                        await trio.sleep_until(self._waiting[0][0])
                        await self._inner.send(self._due())
                        self._wake_senders()
            except LinkClosed:
                self._finish()

    def _due(self) -> list[bytes]:
        now = trio.current_time()
        messages: list[bytes] = []
        while self._waiting and self._waiting[0][0] <= now:
            _, group, size = self._waiting.popleft()
            messages += group
            self._bytes -= size
        return messages

    def _finish(self) -> None:
        self._open = False
        self._conditions.links.pop(self, None)
        self._waiting.clear()
        self._bytes = 0
        self._scope.cancel()
        self._wake_senders()

    def _wake_senders(self) -> None:
        self._moved.set()
        self._moved = trio.Event()
