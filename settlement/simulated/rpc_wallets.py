"""What wallets and libraries ask a node besides, so that web3.py, ethers, viem and their like work on this ledger.

| method                                   | what it answers here                                   |
| ---------------------------------------- | ------------------------------------------------------ |
| web3_clientVersion, net_version          | this package and its version; the chain id in decimal  |
| net_listening, eth_syncing, eth_accounts | true; false; none, as the node keeps no keys           |
| eth_getCode                              | `0xfe`, no instruction, where rules stand; else `0x`   |
| eth_estimateGas                          | what is charged, a fixed figure; why a call would fail |
| eth_maxPriorityFeePerGas, eth_feeHistory | prices; the base fee is zero                           |
| eth_getTransactionByHash                 | a transaction in a block or in the pool                |
| eth_getTransactionByBlock…AndIndex       | one in a block                                         |
| eth_getBlockTransactionCountBy…          | how many are in a block                                |
| eth_getBlockReceipts                     | all receipts of a block                                |

Filters (`eth_newFilter`) and subscriptions are not kept: libraries then ask for blocks and logs, as they should anyway.
"""

from __future__ import annotations

import importlib.metadata
from bisect import bisect_left
from itertools import accumulate
from typing import Any

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.contract.state import Parameters
from tallystick.settlement.errors import Revert, Reverted, read_revert
from tallystick.settlement.ethereum.abi import Deployment, Envelope
from tallystick.settlement.ethereum.rpc_shapes import quantity, read_address, read_bytes, read_quantity
from tallystick.settlement.ethereum.transactions import Reading, Transaction, read_envelope
from tallystick.settlement.modules.table import MODULES_AT
from tallystick.settlement.simulated.chain import SimulatedChain
from tallystick.settlement.simulated.ledger import BlockRecord, execute
from tallystick.settlement.simulated.rpc_records import (
    check_newest,
    parameter,
    read_number,
    write_mined,
    write_receipts,
    write_transaction,
)
from tallystick.settlement.simulated.world import Layer

HISTORY_MAX = 128
"""Blocks that `eth_feeHistory` looks at."""

PERCENTILES_MAX = 100

CODE = "0xfe"
"""Says that something stands at an address: EIP-141's invalid instruction, as rules here are no code."""


async def _version(chain: SimulatedChain, params: list[Any]) -> Any:
    return f"Tallystick/{importlib.metadata.version('tallystick')}/python"


async def _network(chain: SimulatedChain, params: list[Any]) -> Any:
    return str(chain.chain_id)


async def _yes(chain: SimulatedChain, params: list[Any]) -> Any:
    return True


async def _no(chain: SimulatedChain, params: list[Any]) -> Any:
    return False


async def _none(chain: SimulatedChain, params: list[Any]) -> Any:
    return []


async def _code(chain: SimulatedChain, params: list[Any]) -> Any:
    address = read_address(parameter(params, 0))
    check_newest(chain, params, 1)
    return CODE if address == chain.contract or address in MODULES_AT else "0x"


async def _estimate(chain: SimulatedChain, params: list[Any]) -> Any:
    call = parameter(params, 0)
    if not isinstance(call, dict):
        raise InvalidInput("eth_estimateGas takes a call object")
    if call.get("to") is None:
        raise InvalidInput("this ledger takes no contracts of users: say whom the transaction is to")
    check_newest(chain, params, 1)
    to = read_address(call["to"], "to")
    data = read_bytes(call.get("data") or call.get("input") or "0x")
    value = read_quantity(call.get("value") or "0x0", "value")
    caller = read_address(call["from"], "from") if call.get("from") is not None else NATIVE
    return quantity(try_out(chain, Envelope(to, value, data), caller).gas)


def try_out(chain: SimulatedChain, envelope: Envelope, caller: Address) -> Reading:
    """Do what a transaction would do now, on a layer that is thrown away, without a fee; raise Reverted if it fails."""
    reading = read_envelope(envelope, Deployment(chain.chain_id, chain.contract))
    transaction = Transaction(b"", b"", caller, 0, 0, reading.gas, envelope)
    rules = Parameters(chain.chain_id, chain.contract, chain.settings.reward_bps)
    execution = execute(Layer(chain.state), rules, transaction, chain.newest.header.time, reading)
    if not execution.success:
        revert, sentence = read_revert(execution.reason)
        raise Reverted(revert or Revert.UNKNOWN_CALL, sentence)
    return reading


async def _tip(chain: SimulatedChain, params: list[Any]) -> Any:
    return quantity(await chain.fee_price())


async def _history(chain: SimulatedChain, params: list[Any]) -> Any:
    count = read_quantity(parameter(params, 0), "count")
    last = min(read_number(chain, parameter(params, 1)), chain.newest.header.number)
    percentiles = params[2] if len(params) > 2 and params[2] is not None else []
    if not isinstance(percentiles, list) or len(percentiles) > PERCENTILES_MAX:
        raise InvalidInput(f"at most {PERCENTILES_MAX} percentiles can be asked for")
    if not all(type(each) in (int, float) and 0 <= each <= 100 for each in percentiles):
        raise InvalidInput("a percentile is a number from 0 to 100")
    if percentiles != sorted(percentiles):
        raise InvalidInput("percentiles must be in order")
    if count < 1:
        raise InvalidInput("at least one block must be asked for")
    first = max(last - min(count, HISTORY_MAX) + 1, 0)
    records = chain.slice(first, last - first + 1)
    used = [sum(entry.execution.gas for entry in record.entries) for record in records]
    answer: dict[str, Any] = {
        "oldestBlock": quantity(first),
        "baseFeePerGas": ["0x0"] * (len(records) + 1),
        "gasUsedRatio": [gas / chain.settings.gas_limit for gas in used],
    }
    if percentiles:
        answer["reward"] = [[quantity(price) for price in _prices(record, percentiles)] for record in records]
    return answer


def _prices(record: BlockRecord, percentiles: list[float]) -> list[int]:
    """Return which price the transactions offered that make up so many percent of the block's gas, cheapest first."""
    offers = sorted((entry.execution.fee // entry.execution.gas, entry.execution.gas) for entry in record.entries)
    if not offers:
        return [0] * len(percentiles)
    sums = list(accumulate(gas for _, gas in offers))
    return [offers[bisect_left(sums, sums[-1] * each, key=lambda gas: gas * 100)][0] for each in percentiles]


async def _transaction(chain: SimulatedChain, params: list[Any]) -> Any:
    hash = read_bytes(parameter(params, 0), "transaction hash", 32)
    receipt = await chain.receipt(hash)
    record = chain.record(receipt.block.number) if receipt else None
    if record is not None:
        return write_mined(chain, record, next(i for i, entry in enumerate(record.entries) if entry.hash == hash))
    waiting = next((each for each in chain.waiting() if each.hash == hash), None)
    return None if waiting is None else write_transaction(waiting, chain.chain_id)


def _block(chain: SimulatedChain, params: list[Any]) -> BlockRecord | None:
    """Return the block that the first parameter names, by its hash or its number."""
    value = parameter(params, 0)
    if isinstance(value, str) and len(value) == 66:
        return chain.find(read_bytes(value, "block hash", 32))
    return chain.record(read_number(chain, value))


async def _transaction_at(chain: SimulatedChain, params: list[Any]) -> Any:
    record, index = _block(chain, params), read_quantity(parameter(params, 1), "index")
    return None if record is None or index >= len(record.entries) else write_mined(chain, record, index)


async def _count(chain: SimulatedChain, params: list[Any]) -> Any:
    record = _block(chain, params)
    return None if record is None else quantity(len(record.entries))


async def _receipts(chain: SimulatedChain, params: list[Any]) -> Any:
    record = _block(chain, params)
    return None if record is None else [*write_receipts(chain, record)]


WALLET_METHODS = {
    "web3_clientVersion": _version,
    "net_version": _network,
    "net_listening": _yes,
    "eth_syncing": _no,
    "eth_accounts": _none,
    "eth_getCode": _code,
    "eth_estimateGas": _estimate,
    "eth_maxPriorityFeePerGas": _tip,
    "eth_feeHistory": _history,
    "eth_getTransactionByHash": _transaction,
    "eth_getTransactionByBlockHashAndIndex": _transaction_at,
    "eth_getTransactionByBlockNumberAndIndex": _transaction_at,
    "eth_getBlockTransactionCountByHash": _count,
    "eth_getBlockTransactionCountByNumber": _count,
    "eth_getBlockReceipts": _receipts,
}
