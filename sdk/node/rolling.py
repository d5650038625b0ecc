"""A stream without end: it goes on from one stream to the next by itself. Made by `ChannelHandle.rolling_stream`.

    lock 4  ████████████████▒▒▒▒        ▒: the next one is opened while units are left, so that nobody waits for it
    lock 5                  ░░████████████████▒▒▒▒
    lock 6                                    ░░█████

At most two locks are pending, so at most twice `unit` × `length` is set aside. What is paid is in the streams' own rows
and totals (`ChannelHandle.streamed`), and nowhere else: a crash cannot make the two disagree.
"""

from __future__ import annotations

import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.hashchain import StreamTerms
from tallystick.channels.protocol.objects import ChannelId, Units
from tallystick.channels.values.arguments import checked
from tallystick.sdk.node.streams import NodeContext, OutgoingStream, begin_stream

MARGINS = 4
"""A stream lasts at least so many times `Policy.stream_margin`; the next one is opened at half of that."""


class RollingStream:
    """Many streams on the same terms, one after the other."""

    def __init__(self, context: NodeContext, channel: ChannelId, unit: int, length: int, lifetime: int) -> None:
        StreamTerms(bytes(32), unit, length)  # refuses what can be no stream
        self._margin = context.engine.policy.stream_margin
        if lifetime < MARGINS * self._margin:
            raise InvalidInput(f"the streams must last at least {MARGINS * self._margin} s each, not {lifetime}")
        self.unit = unit
        self.length = length
        """Units of each stream: the most that can be paid at once."""
        self._lifetime = lifetime
        self._context = context
        self._channel = channel
        self._turn = trio.Lock()
        pending = [OutgoingStream(context, channel, stream) for stream in context.engine.views.streams(channel)[0]]
        self._streams = [stream for stream in pending if (stream.unit, stream.length) == (unit, length)]
        self._leaving: list[OutgoingStream] = []

    def __repr__(self) -> str:
        return f"<RollingStream of {self.unit} × {self.length}, {self.left} units left in {self._streams}>"

    @property
    def left(self) -> int:
        """How many units can be paid before another stream is needed."""
        return sum(stream.left for stream in self._streams)

    @checked
    async def pay(self, units: Units = 1) -> None:
        """Pay units, and return once the payee holds them durably.

        Raise InvalidInput, InsufficientFunds or ChannelNotReady, and nothing was done; or ChannelNotReady if a stream
        ends before the payee acknowledges what was submitted.
        """
        if not 1 <= units <= self.length:
            raise InvalidInput(f"from 1 to {self.length} units can be paid at once, not {units}")
        async with self._turn:
            submitted = await self._submit(units)
        for stream, depth in submitted:
            await stream.wait(depth)

    async def close(self) -> None:
        """Pay out what was submitted, take back the rest; return once both have signed it."""
        async with self._turn:
            for stream in self._streams:
                stream.finish()
            self._retire()
            await self._wait_left()

    async def _submit(self, units: int) -> list[tuple[OutgoingStream, int]]:
        while True:
            await self._provide(units)
            parts = self._split(units)
            for stream, part in parts:
                await stream.room(part)
            if parts == self._split(units):  # else time ran out for one of them meanwhile
                return [(stream, stream.submit(part)) for stream, part in parts]

    def _split(self, units: int) -> list[tuple[OutgoingStream, int]]:
        """Return how many units each stream takes, the oldest first."""
        parts = []
        for stream in self._streams:
            part = min(units, stream.left)
            if part:
                parts.append((stream, part))
                units -= part
        return [] if units else parts

    async def _provide(self, units: int) -> None:
        """Make sure that so many units are left, and open the next stream in advance if that makes nobody wait."""
        self._retire()
        while self.left < units:
            await self._wait_left()
            await self._open()
        view = self._context.engine.view(self._channel)
        affordable = view.payable and view.spendable >= self.unit * self.length
        if len(self._streams) == 1 and self._nears_its_end(self._streams[0]) and affordable and not self._leaving:
            await self._open()

    def _nears_its_end(self, stream: OutgoingStream) -> bool:
        late = self._context.engine.chain.now > stream.expiry - MARGINS * self._margin // 2
        return late or stream.left <= self.length // 4

    async def _open(self) -> None:
        expiry = self._context.engine.chain.sure + self._lifetime
        self._streams.append(await begin_stream(self._context, self._channel, self.unit, self.length, expiry))

    def _retire(self) -> None:
        """Pay out the streams that are used up, or whose time is."""
        for stream in [stream for stream in self._streams if not stream.left]:
            stream.finish()
            self._streams.remove(stream)
            self._leaving.append(stream)
        self._leaving = [stream for stream in self._leaving if not stream.ended]

    async def _wait_left(self) -> None:
        for stream in self._leaving:
            await stream.wait_ended()
        self._retire()
