"""A daemon's log in a file: one line of JSON each, appended; opened anew when a tool that turns logs over asks for it.

A disk that refuses a line loses that line, and nothing else: no daemon stops for its log.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio

from tallystick.channels.ports import Clock, system_clock
from tallystick.sdk.errors import ConfigurationError


class LogFile:
    """Lines of JSON in one file, which only its owner reads."""

    def __init__(self, path: Path, clock: Clock = system_clock) -> None:
        """Open it; raise ConfigurationError if that cannot be."""
        self._path = path
        self._clock = clock
        self.lost = 0
        """Lines that could not be written."""
        try:
            self._file = self._open()
        except OSError as error:
            raise ConfigurationError(f"the log {path} cannot be written: {error.strerror or error}") from error

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, fields: Mapping[str, Any]) -> None:
        """Append one line, with its time first."""
        time = datetime.fromtimestamp(self._clock(), tz=UTC).isoformat(timespec="milliseconds")
        data = json.dumps({"time": time.replace("+00:00", "Z"), **fields}).encode() + b"\n"
        try:
            if os.write(self._file, data) != len(data):
                self.lost += 1
        except OSError:
            self.lost += 1

    def reopen(self) -> None:
        """Go on in the file of that name, which may be a new one; keep the old one if that cannot be."""
        with contextlib.suppress(OSError):
            file = self._open()
            os.close(self._file)
            self._file = file

    def close(self) -> None:
        """Close it."""
        os.close(self._file)

    async def heed_hangups(self) -> None:
        """Reopen it whenever the process gets SIGHUP, until cancelled."""
        with trio.open_signal_receiver(signal.SIGHUP) as hangups:
            async for _ in hangups:
                self.reopen()
