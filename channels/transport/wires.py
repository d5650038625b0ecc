"""What waits to be sent to one connected peer, counted as the memory that it takes, and bounded.

Frames are counted with what Python needs for each of them besides its bytes: an answer of three bytes takes twenty
times as much. What strangers leave unread counts together, too.
"""

from __future__ import annotations

import math

import trio

from tallystick.channels.errors import PeerError
from tallystick.channels.ports import Link, PlacedLink, PromptLink
from tallystick.channels.protocol.messages import Ping, encode
from tallystick.channels.transport.links import READ_SIZE
from tallystick.channels.transport.rates import TokenBucket

PROBE = 3.0
"""Seconds that a connection has to show life when the peer dials us although we think it is connected."""

FRAME_MEMORY = 64
"""Bytes of memory that a queued frame takes besides its own bytes."""

SAY_BYTES_MAX = 1_000_000
"""Bytes of memory queued for a peer beyond which `Peers.say` refuses: what is said there may be lost, and is said again
later."""

QUEUE_BYTES_MAX = 8_000_000
"""Bytes of memory queued for a slow peer before we stop reading what it sends."""

STRANGER_QUEUE_MAX = 250_000
"""The same for a peer without a funded channel, for both."""

STRANGERS_QUEUE_MAX = 8_000_000
"""The same for all peers without a funded channel together."""

STRANGER_READ = 8_192
"""Bytes that one read takes from such a peer: about a millisecond of decrypting, if they are many small frames."""

UNPAID_RATE = 1_000.0
"""Messages that nobody pays for (pings, errors, openings, messages about unknown channels) which are answered per
second to a peer with a funded channel. Beyond, nothing is lost: it is read later."""

UNPAID_BURST = 10_000.0
"""The same, at once."""

STRANGER_UNPAID_RATE = 20.0
"""The same for a peer without a funded channel."""

STRANGER_UNPAID_BURST = 200.0
"""The same, at once."""


class Pool:
    """What is queued for all strangers together."""

    def __init__(self) -> None:
        self.queued = 0

    @property
    def full(self) -> bool:
        """Whether it is more than STRANGERS_QUEUE_MAX."""
        return self.queued > STRANGERS_QUEUE_MAX


class PeerWire:
    """Frames queued for one connected peer (`engine.Wire`)."""

    def __init__(self, link: Link, pool: Pool | None = None) -> None:
        self.link = link
        self._prompt = link if isinstance(link, PromptLink) else None
        self._placed = link if isinstance(link, PlacedLink) else None
        self._worked = 0.0
        self._pool = pool or Pool()
        self._pooled = 0
        self.source = self._placed.source if self._placed is not None else bytes(link.peer).hex()
        """Who counts as one with it when strangers share what there is."""
        self.partner = False
        """Whether the peer has a funded channel with us: it need not share with strangers."""
        self.unpaid = TokenBucket(STRANGER_UNPAID_RATE, STRANGER_UNPAID_BURST, trio.current_time())
        """What it may make us do that nobody pays for."""
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
        self.waiting = 0
        """Bytes of memory that wait for the link."""
        self.sent = self.received = 0
        """Bytes of frames so far."""
        self._wake = trio.Event()
        self._drained = trio.Event()

    # --- who it is -----------------------------------------------------------------------------------------------

    def rank(self, partner: bool) -> None:
        """Say whether the peer has a funded channel with us now."""
        if self._placed is not None:
            self._placed.read_size = READ_SIZE if partner else STRANGER_READ
        if partner is not self.partner:
            self.partner = partner
            rate, burst = (UNPAID_RATE, UNPAID_BURST) if partner else (STRANGER_UNPAID_RATE, STRANGER_UNPAID_BURST)
            self.unpaid = TokenBucket(rate, burst, trio.current_time())
            self._repool()

    def take_work(self) -> float:
        """Return the seconds that decrypting took since the last call."""
        if self._placed is None:
            return 0.0
        before, self._worked = self._worked, self._placed.worked
        return self._worked - before

    def release(self) -> None:
        """Forget what is queued: the link has ended."""
        self._frames.clear()
        self.waiting = 0
        self._repool()

    def _repool(self) -> None:
        share = 0 if self.partner else self.waiting
        self._pool.queued += share - self._pooled
        self._pooled = share

    # --- what is sent --------------------------------------------------------------------------------------------

    def put(self, frame: bytes) -> None:
        """Queue a frame for sending."""
        self._frames.append(frame)
        self.waiting += len(frame) + FRAME_MEMORY
        if not self.partner:
            self._repool()
        self._wake.set()

    def put_all(self, frames: list[bytes]) -> None:
        """Send frames at once if nothing is queued before them and the link can, else queue them."""
        if not self.waiting and self._prompt is not None and self._prompt.send_now(frames):
            self.sent += sum(map(len, frames))
            if self._prompt.behind:
                self.waiting = 1  # what comes next waits behind it
                self._wake.set()
        else:
            for frame in frames:
                self.put(frame)

    def put_unless_busy(self, frame: bytes) -> bool:
        """Queue a frame that may be lost; return whether there was room."""
        most = SAY_BYTES_MAX if self.partner else STRANGER_QUEUE_MAX
        if self.waiting + len(frame) + FRAME_MEMORY > most or (not self.partner and self._pool.full):
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
    def full(self) -> bool:
        """Whether more waits than may."""
        if self.partner:
            return self.waiting > QUEUE_BYTES_MAX
        return self.waiting > STRANGER_QUEUE_MAX or (self.waiting > 0 and self._pool.full)

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
            if frames or self.waiting:
                await self.link.send(frames)
                self.sent += sum(map(len, frames))
            self.waiting = sum(map(len, self._frames)) + FRAME_MEMORY * len(self._frames)
            if self._pooled:
                self._repool()
            self._drained.set()
