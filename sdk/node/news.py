"""What a node tells: its alarms, what happens in it, and, to whoever waits for anything, that something has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from tallystick.channels.node.alarms import Alarm, OnAlarm
from tallystick.sdk.node.watchers import Watchers

ALARMS_KEPT = 100


class News:
    """Part of a `Node`."""

    def __init__(self, on_alarm: OnAlarm) -> None:
        """`on_alarm` is told of every alarm at once."""
        self.watchers = Watchers()
        self.alarms: list[Alarm] = []
        """The newest ALARMS_KEPT."""
        self.on_alarm = on_alarm
        self._changed = trio.Event()

    def alarm(self, alarm: Alarm) -> None:
        """Tell what a person should know."""
        self.alarms.append(alarm)
        del self.alarms[:-ALARMS_KEPT]
        self.on_alarm(alarm)
        self.watchers.publish(alarm)

    def publish(self, event: Any) -> None:
        """Tell what has happened, after the commit that it stands in."""
        self.watchers.publish(event)
        self.changed()

    def changed(self) -> None:
        """Let everybody look again who waits in `until`."""
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition` holds; it is looked at after each event and each block."""
        while not condition():
            await self._changed.wait()
