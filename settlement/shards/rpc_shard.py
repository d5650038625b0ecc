"""A shard over JSON-RPC: what `RpcShard` asks besides what a node asks any chain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from tallystick.channels.errors import InvalidInput
from tallystick.channels.transport.retries import Jitter
from tallystick.settlement.errors import ChainError
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.rpc_client import RpcChain, open_rpc_chain
from tallystick.settlement.ethereum.rpc_shapes import quantity, read_bytes, read_quantity, to_hex


class Standing(NamedTuple):
    """How things stand between a shard and another one, by the first one's word."""

    number: int
    """Of the other shard."""
    sent: int
    """Receipts that ever left for it."""
    executed: int
    """Receipts of it that were executed."""
    expected: int
    """The number from which on more of them are wanted."""


class ShardStatus(NamedTuple):
    """What a shard says of itself."""

    number: int
    shards: int
    others: tuple[Standing, ...]

    def standing(self, other: int) -> Standing:
        """Return how things stand with another shard; raise InvalidInput if there is none of that number."""
        for standing in self.others:
            if standing.number == other:
                return standing
        raise InvalidInput(f"shard {self.number} of {self.shards} knows no other shard {other}")


def check_none_is_old(statuses: Sequence[ShardStatus]) -> None:
    """Raise InvalidInput if a shard has sent less than another one has executed of it: its data are an old copy.

    It would send under numbers that were executed, and what it sends would never arrive.
    """
    by_number = {status.number: status for status in statuses}
    for status in statuses:
        for other in status.others:
            source = by_number.get(other.number)
            sent = source.standing(status.number).sent if source else other.executed
            if sent < other.executed:
                raise InvalidInput(
                    f"the data of shard {other.number} are an old copy: it has sent {sent} receipts to shard "
                    f"{status.number}, which has executed {other.executed} of it. What it did since is not in them, "
                    "and what it sent now would go under numbers that were used, and never arrive. Put its newest "
                    "data back; if they are lost, copies of all shards that were made at one time, while none ran"
                )


class RpcShard:
    """The shard that a node serves. Raises as a `Chain` does. Make it with `open_rpc_shard`."""

    def __init__(self, chain: RpcChain) -> None:
        self.chain = chain
        """The same as any chain."""

    def __repr__(self) -> str:
        return f"<RpcShard, {self.chain!r}>"

    async def status(self) -> ShardStatus:
        """Return which shard it is, and how things stand with the others; raise ChainError if it is none."""
        answer = await self.chain.ask("tally_shard")
        try:
            others = tuple(
                Standing(*(read_quantity(other[name], name) for name in Standing._fields)) for other in answer["others"]
            )
            return ShardStatus(read_quantity(answer["number"]), read_quantity(answer["count"]), others)
        except (InvalidInput, KeyError, TypeError) as error:
            raise _nonsense(error) from error

    async def expected(self, source: int) -> int:
        """Return the number from which on receipts of a source are wanted."""
        return (await self.status()).standing(source).expected

    async def parcels(self, destination: int, first: int) -> list[bytes]:
        """Return what carries final receipts from number `first` on to a shard, in order: as much as fits."""
        answer = await self.chain.ask("tally_parcels", quantity(destination), quantity(first))
        try:
            return [read_bytes(raw, "parcel") for raw in answer]
        except (InvalidInput, TypeError) as error:
            raise _nonsense(error) from error

    async def offer(self, parcel: bytes) -> int:
        """Bring a parcel; return the number from which on more are wanted. Raise TransactionRefused."""
        return _number(await self.chain.ask("tally_offer", to_hex(parcel)))

    async def sent(self, transaction: bytes) -> tuple[int, int] | None:
        """Return to which shard a mined transaction sent coins, and its receipt's number; None if to none."""
        answer = await self.chain.ask("tally_sent", to_hex(transaction))
        if answer is None:
            return None
        if not isinstance(answer, list) or len(answer) != 2:
            raise ChainError("the shard's answer cannot be right: a shard and a number are missing")
        return _number(answer[0]), _number(answer[1])

    async def received(self, source: int, number: int) -> str:
        """Return what became here of a source's receipt: `pending`, `paid` or `refunded`."""
        return str(await self.chain.ask("tally_received", quantity(source), quantity(number)))

    async def head(self) -> bytes:
        """Return the hash of the newest block."""
        return (await self.chain.head()).hash

    async def wait(self, known: bytes) -> None:
        """Return once the newest block is another, or after some seconds."""
        await self.chain.wait(known)


@asynccontextmanager
async def open_rpc_shard(url: str, *, jitter: Jitter, expected: Deployment | None = None) -> AsyncIterator[RpcShard]:
    """Give the shard that the node at `url` serves, as `open_rpc_chain` gives a chain."""
    async with open_rpc_chain(url, jitter=jitter, expected=expected) as chain:
        yield RpcShard(chain)


def _number(answer: Any) -> int:
    try:
        return read_quantity(answer)
    except InvalidInput as error:
        raise _nonsense(error) from error


def _nonsense(error: Exception) -> ChainError:
    return ChainError(f"the shard's answer cannot be right: {error}")
