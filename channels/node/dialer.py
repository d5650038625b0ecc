"""Which nodes to keep a connection to, and where to look for them.

A node is looked for where it was reached last, where its owner says it is, and where it says itself that it is, in
turn, with growing and jittered pauses. An address counts once the node has proved its key there: a slip of the pen
neither ends a connection that works nor replaces the address that does.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from tallystick.channels.errors import InvalidInput, LinkClosed, PeerError
from tallystick.channels.ports import Link, Network, PeerAddress
from tallystick.channels.session.effects import Event, PeerNotice
from tallystick.channels.transport.retries import Pauses

REDIAL = Pauses("dialling a peer", 0.1, 60.0)

STEADY = 30.0
"""Seconds that a connection must last to be called steady, at most: STEADY_PAUSES times the pause before it will do.
So who is cut off now and then comes back at once, and who is turned away again and again comes ever less often."""

STEADY_PAUSES = 2

SEEK_SECONDS = 60.0
"""How long a peer that always dialed us has to come back before it is looked for where it says that it is."""

ANNOUNCED_MAX = 4
"""Addresses that a node announces which are tried."""


@dataclass(kw_only=True, eq=False)
class Dialer:
    """Keeps connections. What is not explained is as in `Peers`."""

    network: Network
    rng: random.Random
    attend: Callable[[Link], Awaitable[float]]
    """Serves one link to its end, and returns for how many seconds it was of use."""
    is_connected: Callable[[bytes], bool]
    wait_gone: Callable[[bytes], Awaitable[None]]
    """Returns while a peer is not connected."""
    is_wanted: Callable[[bytes], bool]
    """Whether to look for a peer unasked."""
    announced: Callable[[bytes], tuple[str, ...]]
    reached: Callable[[PeerAddress], None]
    tell: Callable[[Event], None]
    dials: int = field(default=0, init=False)
    _reached: dict[bytes, PeerAddress] = field(default_factory=dict, init=False)
    """Where each node was reached last; at first, where it is said to be."""
    _given: dict[bytes, PeerAddress] = field(default_factory=dict, init=False)
    """Where its owner says that it is now, until it was reached anywhere."""
    _sought: dict[bytes, None] = field(default_factory=dict, init=False)
    _proved: dict[bytes, PeerAddress] = field(default_factory=dict, init=False)
    """Where each node proved its key last, since we started."""
    _keepers: dict[bytes, trio.CancelScope] = field(default_factory=dict, init=False)
    _nursery: trio.Nursery | None = field(default=None, init=False)

    def start(self, nursery: trio.Nursery) -> None:
        """Dial from now on, in tasks of this nursery."""
        self._nursery = nursery
        for key in dict.fromkeys((*self._reached, *self._sought)):
            self._start(key)

    def keep(self, address: PeerAddress) -> None:
        """Keep a connection to that node from now on, and look for it at this address first until it is reached."""
        key = address.key
        if key not in self._reached:
            self._reached[key] = address
        elif self._reached[key] != address:
            self._given[key] = address
            if key in self._keepers and not self.is_connected(key):
                self._keepers.pop(key).cancel()
        self._start(key)

    def seek(self, key: bytes) -> None:
        """Look for a node where it says that it is, once it has been away for a while. For who has business with us."""
        self._sought[key] = None
        self._start(key)

    def drop(self, key: bytes) -> None:
        """Stop keeping that connection."""
        self._reached.pop(key, None)
        self._given.pop(key, None)
        self._sought.pop(key, None)
        if key in self._keepers:
            self._keepers.pop(key).cancel()

    @property
    def known_addresses(self) -> list[PeerAddress]:
        """Where nodes were reached last, or are said to be."""
        return list(self._reached.values())

    async def prove(self, address: PeerAddress) -> None:
        """Make sure that the node is at this address, and remember it; raise LinkClosed or HandshakeFailed if not."""
        if self._proved.get(address.key) != address:
            link = await self.network.dial(address)
            await link.aclose()
            self._note(address)

    def places(self, key: bytes) -> list[PeerAddress]:
        """Return where to look for a node, in order."""
        own = [self._given.get(key), self._reached.get(key)]
        found = dict.fromkeys(place for place in own if place is not None)
        for text in self.announced(key)[:ANNOUNCED_MAX]:
            with contextlib.suppress(InvalidInput):
                found[PeerAddress.parse(f"{key.hex()}@{text}")] = None
        return list(found)

    def _note(self, address: PeerAddress) -> None:
        self._given.pop(address.key, None)
        self._reached[address.key] = address
        if self._proved.get(address.key) != address:
            self._proved[address.key] = address
            self.reached(address)

    def _start(self, key: bytes) -> None:
        if self._nursery is not None and key not in self._keepers:
            scope = self._keepers[key] = trio.CancelScope()
            self._nursery.start_soon(self._keep, key, scope)

    async def _keep(self, key: bytes, scope: trio.CancelScope) -> None:
        """Dial, serve, and dial again, with growing and jittered pauses while it does not last."""
        attempt, pause = 0, 0.0
        with scope:
            while True:
                await self.wait_gone(key)
                if key not in self._reached:
                    if not self.is_wanted(key):
                        self._sought.pop(key, None)
                        del self._keepers[key]
                        return
                    await trio.sleep(SEEK_SECONDS)
                places = self.places(key)
                if not places or self.is_connected(key):
                    continue
                lasted = 0.0
                self.dials += 1
                try:
                    link = await self.network.dial(places[attempt % len(places)])
                except (LinkClosed, PeerError) as error:
                    if isinstance(error, PeerError):
                        self.tell(PeerNotice(key, b"", error.code, str(error), True))
                else:
                    self._note(places[attempt % len(places)])
                    lasted = await self.attend(link)
                attempt = 0 if lasted > min(STEADY, STEADY_PAUSES * pause) else attempt + 1
                pause = REDIAL.after(attempt, self.rng.random)
                await trio.sleep(pause)
