"""A part of the event loop's time, which strangers take in turns: fair by the addresses that they come from.

Whatever strangers make us do (handshakes, messages that nobody pays for) is done within a turn. A turn is short, only
one runs at a time, and after it as much time passes before the next one as keeps all of them together within their
part. So what they ask for waits, and those with whom we have channels do not. Addresses take turns: whoever floods from
one of them waits behind itself.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

TURN_SECONDS = 0.001
"""How long one turn should last at most."""

TURN_COST_MIN = 2e-5
"""Seconds for which a turn counts at least: what the loop spends around it."""

CREDIT = 0.02
"""Seconds of turns that may be had at once after a time without any."""


class Turns:
    """One part of the loop's time. `async with turns.turn(source)`: what is done inside counts."""

    def __init__(self, part: float) -> None:
        """Give `part` (from 0 to 1) of the time."""
        self._part = part
        self._free_at = -math.inf
        self._held = False
        self._waiting: OrderedDict[str, deque[trio.Event]] = OrderedDict()
        self.spent = 0.0
        """Seconds in turns so far."""

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def turn(self, source: str) -> AsyncIterator[None]:
        """Wait for the turn of this address; it ends with the block, which had better not wait for long."""
        await self._begin(source)
        began = trio.current_time()
        try:
            yield
        finally:
            self.charge(trio.current_time() - began)
            self._pass_on()

    def charge(self, seconds: float) -> None:
        """Count time that was spent for strangers."""
        seconds = max(seconds, TURN_COST_MIN)
        self.spent += seconds
        self._free_at = max(self._free_at, trio.current_time() - CREDIT / self._part) + seconds / self._part

    async def _begin(self, source: str) -> None:
        if self._held:
            await self._queue(source)
        self._held = True
        try:
            if (pause := self._free_at - trio.current_time()) > 0:
                await trio.sleep(pause)
        except BaseException:
            self._pass_on()
            raise

    async def _queue(self, source: str) -> None:
        mine = trio.Event()
        self._waiting.setdefault(source, deque()).append(mine)
        try:
            await mine.wait()
        except BaseException:
            if mine.is_set():
                self._pass_on()
            else:
                self._waiting[source].remove(mine)
                if not self._waiting[source]:
                    del self._waiting[source]
            raise

    def _pass_on(self) -> None:
        """Let the next address have its turn."""
        if not self._waiting:
            self._held = False
            return
        source, queue = next(iter(self._waiting.items()))
        queue.popleft().set()
        if queue:
            self._waiting.move_to_end(source)
        else:
            del self._waiting[source]


def source_of(host: str) -> str:
    """Return who counts as one: an IPv4 address, an IPv6 /64 (which is what one household gets), or a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
