"""What a tower's log says: its alarms, and what has changed between two of its statuses. Pure.

A line has a time, a level and an event, and figures: no keys, no secrets, nothing that was uploaded.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.watchtower.figures import TowerStatistics, TowerStatus


class LogLevel(enum.StrEnum):
    """How much a line matters: those below the one that was chosen are not written."""

    INFO = "info"
    """The course of things."""
    WARNING = "warning"
    """A person should look at it some day."""
    ERROR = "error"
    """A person should see to it now: clients may lose money."""


RANKS = {level: rank for rank, level in enumerate(LogLevel)}

_NOTICES = frozenset((AlarmKind.CHAIN_BACK, AlarmKind.FEE_ACCOUNT_FUNDED, AlarmKind.APPOINTMENT_UNREWARDED))
_URGENT = frozenset(
    (
        AlarmKind.CHAIN_UNREACHABLE,
        AlarmKind.CHAIN_NONSENSE,
        AlarmKind.CHAIN_STANDS_STILL,
        AlarmKind.CHAIN_RESET,
        AlarmKind.CHAIN_CONTRADICTED,
        AlarmKind.TRANSACTION_GIVEN_UP,
        AlarmKind.FEE_ACCOUNT,
        AlarmKind.START_LATE,
        AlarmKind.NONCE_TAKEN,
        AlarmKind.DISK,
    )
)


class LogLine:
    """One line, before it gets its time."""

    __slots__ = ("event", "figures", "level")

    def __init__(self, level: LogLevel, event: str, **figures: Any) -> None:
        self.level = level
        self.event = event
        self.figures = figures

    def fields(self) -> dict[str, Any]:
        """Return what is written behind the time."""
        return {"level": str(self.level), "event": self.event, **self.figures}


def of_alarm(alarm: Alarm) -> LogLine:
    """Return the line of an alarm."""
    level = LogLevel.INFO if alarm.kind in _NOTICES else LogLevel.WARNING
    level = LogLevel.ERROR if alarm.kind in _URGENT else level
    return LogLine(level, "alarm", kind=str(alarm.kind), text=alarm.text)


def of_changes(before: TowerStatus | None, after: TowerStatus) -> Iterator[LogLine]:
    """Yield what happened between two statuses of one tower, one after the other; None before the first."""
    was, now = None if before is None else before.statistics, after.statistics
    if now is None:
        return
    if was is None:
        yield LogLine(LogLevel.INFO, "watching", position=now.follower.position, appointments=now.appointments)
    if was is not None and set(was.trouble_kinds) != set(now.trouble_kinds):
        level = LogLevel.WARNING if now.trouble_kinds else LogLevel.INFO
        yield LogLine(level, "readiness", troubles=[str(kind) for kind in now.trouble_kinds])
    yield from _of_counts(was, now)


_COUNTED = {
    "challenges": LogLevel.WARNING,
    "registrations": LogLevel.INFO,
    "claims-given-up": LogLevel.WARNING,
    "transactions-done": LogLevel.INFO,
    "transactions-quarantined": LogLevel.ERROR,
    "blocks-removed": LogLevel.INFO,
}
"""Events that are told by how often they were since the start."""


def _counts(figures: TowerStatistics | None) -> dict[str, int]:
    if figures is None:
        return dict.fromkeys(_COUNTED, 0)
    return {
        "challenges": figures.challenges,
        "registrations": figures.registrations,
        "claims-given-up": sum(figures.given_up.values()),
        "transactions-done": figures.sender.done,
        "transactions-quarantined": figures.sender.quarantined,
        "blocks-removed": figures.follower.removed,
    }


def _of_counts(was: TowerStatistics | None, now: TowerStatistics) -> Iterator[LogLine]:
    if (0 if was is None else was.cases) != now.cases:
        yield LogLine(LogLevel.INFO, "disputes", open=now.cases, at_work=now.at_work, margin=now.margin)
    before, after = _counts(was), _counts(now)
    for event, level in _COUNTED.items():
        if after[event] > before[event]:
            yield LogLine(level, event, more=after[event] - before[event], since_start=after[event])
