"""What a node tells: its alarms, what happens in it, and, to whoever waits for anything, that something has changed.

Events are fanned out to whoever listens: bounded per listener, and never silently lossy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from tallystick.channels.errors import TallystickError
from tallystick.channels.node.alarms import Alarm, OnAlarm

ALARMS_KEPT = 100

BUFFER = 10_000
"""Events that one listener may be behind."""

STRETCH = 64
"""Events that wait are given so many in a row, before others have their turn: a turn costs more than most events do."""


class TooSlow(TallystickError):
    """This listener fell behind by more events than are kept for it. Nothing else is lost; subscribe again."""


class Subscription:
    """An async iterator over events; close it, or use it as a context manager, when done."""

    def __init__(self, news: News) -> None:
        self._news = news
        self._send, self._receive = trio.open_memory_channel[Any](BUFFER)
        self._overrun = False
        self._given = 0

    def offer(self, event: Any) -> None:
        """Queue an event for this listener; end it if it is too far behind."""
        try:
            self._send.send_nowait(event)
        except trio.WouldBlock:
            self._overrun = True
            self.close()

    def close(self) -> None:
        """Stop listening."""
        self._news.forget(self)
        self._send.close()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Any:
        """Return the next event; raise TooSlow if some had to be dropped. Others have their turn at every STRETCH-th
        event, and whenever none is there."""
        self._given += 1
        try:
            if not self._given % STRETCH:
                return await self._receive.receive()
            try:
                return self._receive.receive_nowait()
            except trio.WouldBlock:
                return await self._receive.receive()
        except trio.EndOfChannel:
            if self._overrun:
                raise TooSlow(f"more than {BUFFER} events were waiting for this listener: subscribe again") from None
            raise StopAsyncIteration from None

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class News:
    """Part of a `Node`."""

    def __init__(self, on_alarm: OnAlarm) -> None:
        """`on_alarm` is told of every alarm at once."""
        self.on_alarm = on_alarm
        self.alarms: list[Alarm] = []
        """The newest ALARMS_KEPT."""
        self._listeners: list[Subscription] = []
        self._changed: trio.Event | None = None
        """What those wait for who wait in `until`, if anybody does."""
        self._changed_of: dict[bytes, trio.Event] = {}
        """The same, of those who wait in `until_of`, by what they wait for."""

    def alarm(self, alarm: Alarm) -> None:
        """Tell what a person should know."""
        self.alarms.append(alarm)
        del self.alarms[:-ALARMS_KEPT]
        self.on_alarm(alarm)
        self._publish(alarm)

    def publish(self, event: Any) -> None:
        """Tell what has happened, after the commit that it stands in."""
        self._publish(event)
        self.tell_changed()

    def _publish(self, event: Any) -> None:
        for listener in tuple(self._listeners):
            listener.offer(event)

    def tell_changed(self) -> None:
        """Let everybody look again who waits in `until`."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition` holds; it is looked at after each event and each block."""
        while not condition():
            if self._changed is None:
                self._changed = trio.Event()
            await self._changed.wait()

    def tell_changed_of(self, what: bytes) -> None:
        """Let those look again who wait in `until_of` for this very thing: among thousands, nobody else is woken."""
        changed = self._changed_of.pop(what, None)
        if changed is not None:
            changed.set()

    async def until_of(self, what: bytes, condition: Callable[[], bool]) -> None:
        """Return once `condition` holds; it is looked at after each event about `what`, and after no other one."""
        while not condition():
            await self._changed_of.setdefault(what, trio.Event()).wait()

    def subscribe(self) -> Subscription:
        """Return a new listener."""
        listener = Subscription(self)
        self._listeners.append(listener)
        return listener

    def forget(self, listener: Subscription) -> None:
        """Drop a listener."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def close(self) -> None:
        """End all listeners."""
        for listener in tuple(self._listeners):
            listener.close()
