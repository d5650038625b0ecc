"""What the node of a shard answers besides: `tally_*` methods about the others of its group.

| method         | parameters          | result                                                                   |
| -------------- | ------------------- | ------------------------------------------------------------------------ |
| tally_shard    |                     | its number, how many there are, and how things stand with each other one |
| tally_parcels  | shard, first number | what carries final receipts for that shard, in order, from that number on |
| tally_offer    | parcel              | the number from which on more receipts of its source are wanted          |
| tally_sent     | transaction's hash  | to which shard it sent coins, and its receipt's number; null if it did not |
| tally_received | shard, number       | what became of that shard's receipt: `pending`, `paid` or `refunded`     |
"""

from __future__ import annotations

from typing import Any

from tallystick.channels.errors import InvalidInput
from tallystick.settlement.ethereum.rpc_shapes import quantity, read_bytes, read_quantity, to_hex
from tallystick.settlement.shards.receipts import PARCEL_MAX
from tallystick.settlement.simulated.chain import SimulatedChain


async def _shard(chain: SimulatedChain, params: list[Any]) -> Any:
    return {
        "number": quantity(chain.shard.number),
        "count": quantity(len(chain.shard.group)),
        "others": [{name: quantity(value) for name, value in other._asdict().items()} for other in chain.others()],
    }


async def _parcels(chain: SimulatedChain, params: list[Any]) -> Any:
    destination, first = _numbers(params)
    return [to_hex(parcel) for parcel in chain.parcels(destination, first)]


async def _offer(chain: SimulatedChain, params: list[Any]) -> Any:
    raw = params[0] if params else None
    if isinstance(raw, str) and len(raw) > 2 * PARCEL_MAX + 2:
        raise InvalidInput(f"a parcel has at most {PARCEL_MAX} bytes")
    return quantity(chain.offer(read_bytes(raw, "parcel")))


async def _received(chain: SimulatedChain, params: list[Any]) -> Any:
    source, number = _numbers(params)
    other = next((other for other in chain.others() if other.number == source), None)
    if other is None:
        raise InvalidInput(f"there is no other shard {source}")
    if number >= other.executed:
        return "pending"
    return "refunded" if chain.is_refunded(source, number) else "paid"


async def _sent(chain: SimulatedChain, params: list[Any]) -> Any:
    transaction = read_bytes(params[0] if params else None, "transaction hash", 32)
    receipt = await chain.receipt(transaction)
    record = chain.record(receipt.block.number) if receipt else None
    found = chain.shard.number_of(record, transaction) if record else None
    return None if found is None else [quantity(number) for number in found]


SHARD_METHODS = {
    "tally_shard": _shard,
    "tally_parcels": _parcels,
    "tally_offer": _offer,
    "tally_received": _received,
    "tally_sent": _sent,
}


def _numbers(params: list[Any]) -> tuple[int, int]:
    if len(params) != 2:
        raise InvalidInput("a shard and a receipt's number are needed")
    return read_quantity(params[0], "shard"), read_quantity(params[1], "number")
