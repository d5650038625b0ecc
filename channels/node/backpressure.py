"""How whoever pays is made to wait: for a place in a full channel, and for others to have their turn."""

from __future__ import annotations

import trio

from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session.session import Session

TURN = 100
"""Payments after which whoever pays without ever waiting lets other tasks have their turn."""


class Backpressure:
    """Those who wait to pay, by channel."""

    def __init__(self) -> None:
        self._space: dict[ChannelId, trio.Event] = {}
        self._admitted = 0
        self._ended = False

    async def room(self, session: Session) -> None:
        """Wait while the channel is full; raise ChannelNotReady if it closes."""
        while session.full and not self._ended:
            session.require_payable()
            await self._space.setdefault(session.channel.id, trio.Event()).wait()

    async def turn(self) -> None:
        """Let others work after every TURN payments."""
        self._admitted += 1
        if self._admitted % TURN == 0:
            await trio.lowlevel.checkpoint()

    def look(self, session: Session) -> None:
        """Let those in who wait for a place, or let them see that there will be none."""
        if not session.full or not session.payable:
            space = self._space.pop(session.channel.id, None)
            if space is not None:
                space.set()

    def end(self) -> None:
        """Let nobody wait any more: the node goes down."""
        self._ended = True
        for space in self._space.values():
            space.set()
