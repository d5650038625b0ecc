"""Real processes for tests and demonstrations: started, waited for by what they print, and never left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tallystick.sdk.errors import ConfigurationError

TALLY = (sys.executable, "-Im", "tallystick.sdk.cli")
"""The `tally` command of this Python. Tests have it forked (`simulation.forked_starts`)."""

INSTALLED = (str(Path(sys.executable).with_name("tally")),)
"""The same by the script that was installed, which is never forked: at least one start of each kind is by it."""

LINE_MAX = 1 << 20
"""Bytes of one line of output."""


class Running:
    """A process that was started, and what it prints."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._pending = b""

    async def line(self) -> str:
        """Return the next line of its standard output; raise ConfigurationError if it has ended instead."""
        output = self.process.stdout
        while b"\n" not in self._pending:
            part = await output.receive_some(65_536) if output is not None else b""
            if not part or len(self._pending) > LINE_MAX:
                raise ConfigurationError(f"{self.process.args!r} ended before it printed what was waited for")
            self._pending += part
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    async def line_with(self, text: str) -> str:
        """Return the next line that contains `text`."""
        while text not in (line := await self.line()):
            pass
        return line

    async def json(self) -> Any:
        """Return the next line, which is JSON."""
        return json.loads(await self.line())

    async def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        await self.process.wait()

    async def terminate(self) -> int:
        """End it with SIGTERM and return its exit code."""
        self.process.terminate()
        return await self.process.wait()


@asynccontextmanager
async def started(command: Sequence[str], environment: Mapping[str, str] | None = None) -> AsyncIterator[Running]:
    """Start a process; it is killed at the end of the block if it is still there."""
    process = await trio.lowlevel.open_process(
        list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env={**os.environ, **(environment or {})}
    )
    try:
        yield Running(process)
    finally:
        with trio.CancelScope(shield=True):
            if process.poll() is None:
                process.kill()
            await process.wait()
            if process.stdout is not None:
                await process.stdout.aclose()


async def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run a process to its end; return its exit code, output and error output."""
    done = await trio.run_process(
        list(command),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()
