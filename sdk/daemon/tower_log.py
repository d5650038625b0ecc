"""A tower's log file: which lines of `watchtower.log_lines` go into it."""

from __future__ import annotations

from tallystick.channels.node.alarms import Alarm
from tallystick.sdk.daemon.log_files import LogFile
from tallystick.watchtower.figures import TowerStatus
from tallystick.watchtower.log_lines import RANKS, LogLevel, LogLine, of_alarm, of_changes


class TowerLog:
    """Writes what a tower tells into a file, from a level on."""

    def __init__(self, file: LogFile, level: LogLevel = LogLevel.INFO) -> None:
        self.file = file
        self._level = level
        self._last: TowerStatus | None = None

    def on_alarm(self, alarm: Alarm) -> None:
        """An alarm was raised."""
        self._write(of_alarm(alarm))

    def on_status(self, status: TowerStatus) -> None:
        """The tower said how it does."""
        for line in of_changes(self._last, status):
            self._write(line)
        self._last = status

    def close(self) -> None:
        """The tower stops: say so, and close the file."""
        self._write(LogLine(LogLevel.INFO, "stopping"))
        self.file.close()

    def _write(self, line: LogLine) -> None:
        if RANKS[line.level] >= RANKS[self._level]:
            self.file.write(line.fields())
