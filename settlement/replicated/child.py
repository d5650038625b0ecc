"""A child process that does not outlive this one, however this one ends: killed, too, and while the child is stopped.

The kernel sends it SIGKILL when the thread that started it ends, which is why that is the thread of the event loop, and
none of trio's, which come and go. So it is on Linux; elsewhere the child must see by itself that it is alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import IO

import trio

STOP_SECONDS = 5.0
"""How long a child may take to end by itself."""

_LOOK_SECONDS = 0.1
"""Between two looks at a child, where the kernel does not tell when it ends."""

_LAUNCH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Asks for the signal (PR_SET_PDEATHSIG), sees whether it came too late to ask, and becomes the program."""


class ChildProcess:
    """A running child. Make it with `open_child`."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen

    def __repr__(self) -> str:
        return f"<ChildProcess {self.pid}>"

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """With what it ended; None: it runs."""
        return self._popen.poll()

    async def wait(self) -> int:
        """Return with what it ended, once it has."""
        if hasattr(os, "pidfd_open"):
            await self._told()
        while (code := self._popen.poll()) is None:  # noqa: ASYNC110 - where nobody tells
            await trio.sleep(_LOOK_SECONDS)
        return code

    async def _told(self) -> None:
        if self._popen.poll() is None:
            ended = os.pidfd_open(self.pid)
            try:
                await trio.lowlevel.wait_readable(ended)
            finally:
                os.close(ended)

    async def stop(self) -> None:
        """End it, by force if it does not end by itself in STOP_SECONDS; return once it has, cancelled or not."""
        with trio.CancelScope(shield=True):
            self._popen.terminate()
            with trio.move_on_after(STOP_SECONDS):
                await self.wait()
            self._popen.kill()
            await self.wait()


@asynccontextmanager
async def open_child(command: Sequence[str], output: IO[bytes]) -> AsyncIterator[ChildProcess]:
    """Give a running program (a path, and its arguments) that reads nothing and writes to `output`; stop it at the end.

    Call it in the thread that lives as long as the process.
    """
    child = _start(command, output)
    try:
        yield child
    finally:
        await child.stop()


def _start(command: Sequence[str], output: IO[bytes]) -> ChildProcess:
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid())]
    return ChildProcess(subprocess.Popen([*launch, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output))
