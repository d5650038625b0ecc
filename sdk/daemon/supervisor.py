"""Telling a service manager how a daemon does, as systemd wants it (`Type=notify`, `WatchdogSec`): one datagram each.

Where nobody asked for it (`NOTIFY_SOCKET` is not set), nothing is told. Nothing here can stop or hold up a daemon.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

import trio

BEATS = 3
"""Signs of life in the time after which the manager takes a daemon for dead."""


class Supervisor:
    """Who started this process, if it wants to be told."""

    def __init__(self, environment: Mapping[str, str], process: int) -> None:
        """`environment` is the process's, `process` its number."""
        place = environment.get("NOTIFY_SOCKET", "")
        self._place = f"\0{place[1:]}" if place.startswith("@") else place
        asked = environment.get("WATCHDOG_PID", str(process)) == str(process)
        limit = environment.get("WATCHDOG_USEC", "")
        self.every = int(limit) / 1e6 / BEATS if asked and limit.isascii() and limit.isdigit() and int(limit) else None
        """Seconds between two signs of life; None: none are asked for."""

    def tell(self, word: str) -> None:
        """Send a word, as `READY=1`."""
        if self._place:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(word.encode(), self._place)

    async def keep_alive(self) -> None:
        """Send signs of life until cancelled, or return at once if none are asked for."""
        while self.every is not None:
            self.tell("WATCHDOG=1")
            await trio.sleep(self.every)


def supervisor() -> Supervisor:
    """Return this process's."""
    return Supervisor(os.environ, os.getpid())
