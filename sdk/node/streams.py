"""Streams of tiny payments as a program sees them: pay by the unit, or receive by the unit. Made by `ChannelHandle`.

    stream = await channel.open_stream(unit=1, length=10_000, expiry=...)     # one lock: the whole amount is set aside
    await stream.pay()                                                        # a link: durable at both ends
    await stream.close()                                                      # the proof: paid, the rest is back

A payment costs a hash, not a signature. What the payee holds it can claim on chain by itself until the stream expires.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

from tallystick.channels.errors import ChannelNotReady
from tallystick.channels.node.apps import Apps
from tallystick.channels.node.engine import Engine
from tallystick.channels.protocol.hashchain import HashChain, stream_seed
from tallystick.channels.protocol.objects import ChannelId, Depth, Units
from tallystick.channels.session.inputs import BeginStream, FinishStream
from tallystick.channels.session.streamed import IncomingStreamState, OutgoingStreamState
from tallystick.channels.values.arguments import checked
from tallystick.settlement.enforcement.onchain import OnChain

Kind = TypeVar("Kind", bound=OutgoingStreamState | IncomingStreamState)


@dataclass(frozen=True)
class NodeContext:
    """Parts of a node: what a channel and its streams work with."""

    engine: Engine
    onchain: OnChain
    apps: Apps
    until: Callable[[Callable[[], bool]], Awaitable[None]]
    """Returns once a condition holds; it is looked at after each event and each block."""
    until_of: Callable[[bytes, Callable[[], bool]], Awaitable[None]]
    """The same, of a condition on one app: it is looked at after each event about that."""


class _Stream(Generic[Kind]):
    """What a stream is, whoever pays it."""

    def __init__(self, context: NodeContext, stream: Kind) -> None:
        self._context = context
        self._stream = stream

    @property
    def lock(self) -> int:
        """The id of its lock: its name within its payer's direction of the channel."""
        return self._stream.lock

    @property
    def unit(self) -> int:
        """What one unit is worth."""
        return self._stream.terms.unit

    @property
    def length(self) -> int:
        """How many units it has in all."""
        return self._stream.terms.length

    @property
    def expiry(self) -> int:
        """Until what chain time its links count."""
        return self._stream.expiry

    @property
    def ended(self) -> bool:
        """Whether its lock is gone: what it paid is in the channel's balances."""
        return self._stream.paid is not None


class OutgoingStream(_Stream[OutgoingStreamState]):
    """A stream that this node pays."""

    def __init__(self, context: NodeContext, channel: ChannelId, stream: OutgoingStreamState) -> None:
        super().__init__(context, stream)
        self._channel = channel
        self._give = context.engine.giver(channel, stream)

    def __repr__(self) -> str:
        return f"<OutgoingStream {self.lock} {self.secured} of {self.length} units{' ended' if self.ended else ''}>"

    @property
    def left(self) -> int:
        """How many units can still be submitted."""
        return 0 if self._stream.closing else self.length - self._stream.wanted

    @property
    def submitted(self) -> int:
        """How many units were asked for so far, released or not; after a restart, those that had been released."""
        return self._stream.wanted

    @property
    def secured(self) -> int:
        """How many units the payee has acknowledged: durable at both ends."""
        return self._stream.acked

    @checked
    def submit(self, units: Units = 1) -> int:
        """Pay units without waiting; return the depth to `wait` for.

        At most `Policy.stream_unsecured` units may wait for the payee: `room` waits until there is some. Raise
        InsufficientFunds if the stream has not so many left, ChannelNotReady or InvalidInput, and nothing was done.
        """
        return self._give(units)

    @checked
    async def room(self, units: Units = 1) -> None:
        """Wait until that many more units may be submitted."""
        await self._stream.wait(self._stream.wanted + units - self._context.engine.policy.stream_unsecured)

    @checked
    async def wait(self, depth: Depth) -> None:
        """Return once the payee holds all units up to `depth` durably; raise ChannelNotReady if it never will."""
        await self._stream.wait(depth)
        if self._stream.acked < depth:
            raise ChannelNotReady(
                f"the stream ended after {self._stream.acked} units, before the payee acknowledged unit {depth}"
            )

    @checked
    async def pay(self, units: Units = 1) -> int:
        """Pay units and return the depth once the payee holds them durably. Raises as `submit` and `wait` do."""
        await self.room(units)
        depth = self.submit(units)
        await self.wait(depth)
        return depth

    def finish(self) -> None:
        """Take no more units, and pay out what was submitted; `wait_ended` waits for it."""
        asked = FinishStream(self._stream.lock, self._stream.condition)
        self._context.engine.apply(self._channel, asked)

    async def wait_ended(self) -> int:
        """Return the amount that was paid, once both have signed it."""
        await self._stream.wait_ended()
        return self._stream.paid or 0

    async def close(self) -> int:
        """Pay out what was submitted, take back the rest; return the amount paid once both have signed it."""
        self.finish()
        return await self.wait_ended()


class IncomingStream(_Stream[IncomingStreamState]):
    """A stream that the peer pays."""

    def __repr__(self) -> str:
        return f"<IncomingStream {self.lock} {self.received} of {self.length} units{' ended' if self.ended else ''}>"

    @property
    def received(self) -> int:
        """How many units have come, durably."""
        return self._stream.secured

    async def income(self) -> AsyncIterator[int]:
        """Iterate over how many units are new, beginning with those that are there; ends with the stream.

        What comes while nobody asks is added up, so no reader is too slow.
        """
        seen = 0

        def news() -> bool:
            return self.ended or self.received > seen

        while True:
            await self._context.until(news)
            if self.received == seen:
                return
            units, seen = self.received - seen, self.received
            yield units


async def begin_stream(context: NodeContext, channel: ChannelId, unit: int, length: int, expiry: int) -> OutgoingStream:
    """Begin a stream; what is submitted waits until its lock is agreed. Raise as `ChannelHandle.open_stream` does."""
    number = context.engine.view(channel).next_lock
    chain = _chain(context, channel, number, length)
    for _ in chain.build():
        await trio.lowlevel.checkpoint()
    if context.engine.view(channel).next_lock != number:  # somebody else took the number while this was hashed
        number = context.engine.view(channel).next_lock
        chain = _chain(context, channel, number, length)
        for _ in chain.build():
            pass
    stream = context.engine.apply(channel, BeginStream(chain, unit, expiry))
    return OutgoingStream(context, channel, stream)


def _chain(context: NodeContext, channel: ChannelId, lock: int, length: int) -> HashChain:
    """Return the chain of our stream on that lock, not built yet."""
    return HashChain(stream_seed(context.engine.key, channel, lock), length)


async def open_stream(context: NodeContext, channel: ChannelId, unit: int, length: int, expiry: int) -> OutgoingStream:
    """Open a stream; return it once its lock is agreed. Raise as `ChannelHandle.open_stream` does."""
    stream = await begin_stream(context, channel, unit, length, expiry)
    await context.until(
        lambda: stream.ended or context.engine.view(channel).channel.ours.simplex.lock(stream.lock) is not None
    )
    if stream.ended:
        raise ChannelNotReady("the peer did not take this stream: the events say why")
    return stream
