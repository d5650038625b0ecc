"""What a node takes from outside: clock, randomness, network. Everything here is a parameter, never a global.

In-memory versions, driven by virtual time under a seed, are in `tallystick.channels.testing`. The chain's port is
`tallystick.settlement.chain.Chain`; the disk's is `tallystick.channels.storage.store.Store`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PublicKey

Clock = Callable[[], float]
"""Returns the time in Unix seconds. Protocol deadlines never use it: they count in chain time. It may be put forward
and back at any moment: nothing within one run is counted by it (`steady_clock`), and what is on disk may be of the
future."""

Elapsed = Callable[[], float]
"""Returns the seconds since some moment, by a clock that nobody can set and that goes on while the machine sleeps."""

Entropy = Callable[[int], bytes]
"""Returns that many unpredictable bytes."""


system_clock: Clock = time.time  # noqa: TID251 (this module provides the clock)
"""The machine's clock."""


def system_elapsed() -> float:
    """The machine's clock since it was started: neither set nor stopped by sleep (Linux: CLOCK_BOOTTIME)."""
    # Elsewhere CLOCK_MONOTONIC counts sleep (macOS), unlike Python's own time.monotonic there.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def steady_clock(clock: Clock, elapsed: Callable[[], float]) -> Clock:
    """Return a clock that shows what `clock` shows now, and goes on at one pace, whatever becomes of that one.

    For whatever is counted within one run: time-outs, rounds, rates, what fades. `elapsed` returns seconds that nobody
    can set, as `trio.current_time` does.
    """
    start = clock() - elapsed()
    return lambda: start + elapsed()


def system_entropy(size: int) -> bytes:
    """The operating system's randomness."""
    return os.urandom(size)  # noqa: TID251 (this module provides the randomness)


HOST_MAX = 255
"""Characters of a host's name (RFC 1035), or of an address in brackets."""


def is_port(text: str) -> bool:
    """Whether a text is a port: digits of ASCII, at most 65535."""
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65_535


def is_host(text: str) -> bool:
    """Whether a text can be a host: printable ASCII without spaces, of bounded length."""
    return 0 < len(text) <= HOST_MAX and text.isascii() and text.isprintable() and not set(text) & set(" @/")


def shorten(text: str) -> str:
    """Return a text for an error message: of what is too long, the beginning."""
    return text if len(text) <= 200 else text[:200] + "…"


class PeerAddress(msgspec.Struct, frozen=True):
    """Where a node is and who it must be: written `<public key, 66 hex digits>@<host>:<port>`."""

    key: bytes
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> PeerAddress:
        """Read the written form; raise InvalidInput, saying what is wrong with it."""
        key, at, place = text.strip().partition("@")
        host, colon, port = place.rpartition(":")
        if not at or not colon or not is_host(host) or not is_port(port):
            raise InvalidInput(f"a peer is written <public key in hex>@<host>:<port>, not {shorten(text)!r}")
        try:
            raw = bytes.fromhex(key)
        except ValueError as error:
            raise InvalidInput(f"the part before the @ must be a public key in hex, not {shorten(key)!r}") from error
        return cls(bytes(PublicKey(raw)), host.removeprefix("[").removesuffix("]"), int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.key.hex()}@{host}:{self.port}"


class Link(Protocol):
    """One authenticated, ordered connection to a peer that carries whole messages (bytes, at most MESSAGE_MAX)."""

    @property
    def peer(self) -> PublicKey:
        """The key that the peer proved to hold."""

    @property
    def is_dialed(self) -> bool:
        """Whether this side opened the connection."""

    async def send(self, messages: list[bytes]) -> None:
        """Send messages in order, waiting while the network is slow. Raise LinkClosed if the link has ended."""

    async def receive(self) -> list[bytes]:
        """Wait for and return the next messages (at least one). Raise LinkClosed or PeerError at the end."""

    async def aclose(self) -> None:
        """End the link at once; never raises, and may be called twice."""


@runtime_checkable
class PromptLink(Link, Protocol):
    """A link that can also send without a turn of the event loop, while nothing is in its way."""

    def send_now(self, messages: list[bytes]) -> bool:
        """Send messages in order at once, unless others are still on their way: return False, and nothing was done.

        On True they are sent, or `behind`. It neither waits nor raises; what ends the link is met by `send`.
        """

    @property
    def behind(self) -> bool:
        """Whether the network did not take all of it yet: the next `send`, even of nothing, goes on with it."""


@runtime_checkable
class PlacedLink(Link, Protocol):
    """A link that says where it comes from and what it costs, and lets the size of its reads be chosen."""

    source: str
    """Who counts as one with it when strangers share what there is (`turns.source_of`)."""
    read_size: int
    """Bytes that one read takes from the network at most."""
    worked: float
    """Seconds that decrypting took so far."""


class Network(Protocol):
    """Makes links. The real one is TCP with Noise_XK (`transport`)."""

    async def dial(self, address: PeerAddress) -> Link:
        """Connect and authenticate; raise LinkClosed if nobody answers, HandshakeFailed if it is another node."""

    async def serve(
        self,
        host: str,
        port: int,
        handler: Callable[[Link], Awaitable[None]],
        *,
        started: Callable[[PeerAddress], None],
    ) -> None:
        """Listen until cancelled; call `started` with the bound address, and `handler` in a task per inbound link."""


@runtime_checkable
class FavouringNetwork(Network, Protocol):
    """A network in which strangers may have to wait, and some addresses need not."""

    def favour(self, source: str) -> None:
        """Let connections from this address (`PlacedLink.source`) go before strangers' from now on."""
