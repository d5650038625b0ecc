"""Fans events out to whoever listens: bounded per listener, and never silently lossy."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import trio

from tallystick.channels.errors import TallystickError

BUFFER = 10_000
"""Events that one listener may be behind."""


class TooSlow(TallystickError):
    """This listener fell behind by more events than are kept for it. Nothing else is lost; subscribe again."""


class Subscription:
    """An async iterator over events; close it, or use it as a context manager, when done."""

    def __init__(self, watchers: Watchers) -> None:
        self._watchers = watchers
        self._send, self._receive = trio.open_memory_channel[Any](BUFFER)
        self._overrun = False

    def offer(self, event: Any) -> None:
        """Queue an event for this listener; end it if it is too far behind."""
        try:
            self._send.send_nowait(event)
        except trio.WouldBlock:
            self._overrun = True
            self.close()

    def close(self) -> None:
        """Stop listening."""
        self._watchers.forget(self)
        self._send.close()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Any:
        """Return the next event; raise TooSlow if some had to be dropped."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            if self._overrun:
                raise TooSlow(f"more than {BUFFER} events were waiting for this listener: subscribe again") from None
            raise StopAsyncIteration from None

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Watchers:
    """The listeners of one node."""

    def __init__(self) -> None:
        self._all: list[Subscription] = []

    def subscribe(self) -> Subscription:
        """Return a new listener."""
        subscription = Subscription(self)
        self._all.append(subscription)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """Drop a listener."""
        if subscription in self._all:
            self._all.remove(subscription)

    def publish(self, event: Any) -> None:
        """Give an event to every listener."""
        for subscription in tuple(self._all):
            subscription.offer(event)

    def close(self) -> None:
        """End all listeners."""
        for subscription in tuple(self._all):
            subscription.close()
