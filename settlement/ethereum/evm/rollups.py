"""What rollups take for a transaction's bytes, which they publish on another chain. Pure.

| kind          | how it is taken                                | who tells the price of a byte                     |
| ------------- | ---------------------------------------------- | ------------------------------------------------- |
| OP Stack      | besides the gas, whatever the transaction says | `GasPriceOracle.getL1FeeUpperBound`, since Fjord  |
| Arbitrum      | as gas, within the limit: estimates contain it | `ArbGasInfo.getPricesInWei`, the second of its six |

Both prices follow the other chain's, block by block: what is taken in the end may be another sum than was told.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

from tallystick.channels.protocol.objects import Address
from tallystick.settlement.ethereum.abi import Signature
from tallystick.settlement.ethereum.evm.endpoint import NodeQuestion
from tallystick.settlement.ethereum.rpc_shapes import read_bytes, to_hex

SIZE = 1_000
"""Bytes of the transaction whose price is asked for."""

MARGIN = (3, 2)
"""On what bytes cost now: it is paid when the transaction is mined."""


class DataFee(enum.Enum):
    """How a chain takes its fee for a transaction's bytes."""

    NONE = enum.auto()
    BESIDE = enum.auto()
    AS_GAS = enum.auto()


class _Oracle(NamedTuple):
    address: Address
    view: Signature
    arguments: tuple[int, ...]


_ORACLES = {
    DataFee.BESIDE: _Oracle(
        Address(bytes.fromhex("420000000000000000000000000000000000000f")),
        Signature("getL1FeeUpperBound", ("uint256",), ("uint256",)),
        (SIZE,),
    ),
    DataFee.AS_GAS: _Oracle(Address(bytes(19) + b"\x6c"), Signature("getPricesInWei", (), ("uint256",) * 6), ()),
}


def price_question(kind: DataFee) -> NodeQuestion:
    """Return what asks a rollup's node for the price of bytes."""
    oracle = _ORACLES[kind]
    call = {"to": to_hex(oracle.address), "data": to_hex(oracle.view.encode_call(*oracle.arguments))}
    return NodeQuestion("eth_call", (call, "latest"))


def read_price(kind: DataFee, answer: Any) -> int:
    """Return the price of a byte by the answer to `price_question`, in the native coin; raise InvalidInput."""
    values: tuple[int, ...] = _ORACLES[kind].view.decode_result(read_bytes(answer))
    return -(-values[0] // SIZE) if kind is DataFee.BESIDE else values[1]


def data_fee(size: int, price: int) -> int:
    """Return what is set aside for a transaction of so many bytes."""
    return size * price * MARGIN[0] // MARGIN[1]
