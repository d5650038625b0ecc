"""Who carries receipts between shards. It holds no keys and remembers nothing: anybody may do it, and several at once.

For each ordered pair of shards there is one loop: ask the destination which receipt of the source is next, ask the
source for what is final from there on, bring it, wait for the source's next block. What is lost on the way (a
destination that crashed or reorganised forgets what waited) is asked for again by that alone. A shard that is down
stops the loops of its own pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from tallystick.channels.transport.retries import Jitter, Pauses, Retry
from tallystick.settlement.errors import ChainError, ChainUnavailable, Refusal, TransactionRefused

CARRY_AGAIN = Pauses("carrying receipts between two shards", 0.2, 5.0)

TURN = (Refusal.ALREADY_KNOWN, Refusal.NONCE_TOO_HIGH, Refusal.MEMPOOL_FULL)
"""What a shard says of a parcel that is right, and not the next one, or comes too soon: another carrier was here."""


class ShardPort(Protocol):
    """A shard, to who carries: see `RpcShard`."""

    async def expected(self, source: int) -> int:
        """The number from which on receipts of a source are wanted."""

    async def parcels(self, destination: int, first: int) -> list[bytes]:
        """What carries final receipts from that number on to a shard."""

    async def offer(self, parcel: bytes) -> int:
        """Bring a parcel; raise TransactionRefused."""

    async def head(self) -> bytes:
        """The hash of the newest block."""

    async def wait(self, known: bytes) -> None:
        """Return once the newest block is another, or earlier."""


OnFault = Callable[[int, int, Exception], None]
"""Told of what went wrong between a source and a destination."""


async def carry(shards: Sequence[ShardPort], source: int, destination: int) -> int:
    """Bring to one shard all that is final for it on another; return how many parcels it took.

    Raise ChainUnavailable, or ChainError, also if what the source gave out is no right parcel.
    """
    brought = 0
    wanted = await shards[destination].expected(source)
    while True:
        parcels = await shards[source].parcels(destination, wanted)
        for parcel in parcels:
            try:
                wanted = await shards[destination].offer(parcel)
            except TransactionRefused as error:
                if error.code in TURN:
                    return brought
                raise ChainError(f"shard {destination} refuses what shard {source} sends: {error}") from error
            brought += 1
        if not parcels:
            return brought


async def relay(shards: Sequence[ShardPort], *, jitter: Jitter, on_fault: OnFault) -> None:
    """Carry between all pairs until cancelled."""
    async with trio.open_nursery() as nursery:
        for source in range(len(shards)):
            for destination in range(len(shards)):
                if source != destination:
                    nursery.start_soon(_relay_pair, shards, source, destination, Retry(CARRY_AGAIN, jitter), on_fault)


async def _relay_pair(
    shards: Sequence[ShardPort], source: int, destination: int, retry: Retry, on_fault: OnFault
) -> None:
    while True:
        try:
            known = await shards[source].head()
            await carry(shards, source, destination)
            retry.on_success()
            await shards[source].wait(known)
        except (ChainUnavailable, ChainError) as error:
            on_fault(source, destination, error)
            await retry.pause()
