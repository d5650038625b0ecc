"""Blocks, transactions, receipts and logs as Ethereum's nodes write them (execution-apis), and how parameters are read.

Every field that libraries insist on is there; roots of tries are left out, as the ledger has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.ethereum.event_logs import write_event
from tallystick.settlement.ethereum.rpc_shapes import (
    FAILURES,
    REASON,
    quantity,
    read_quantity,
    to_hex,
    write_failure,
    write_header,
)
from tallystick.settlement.ethereum.transactions import Transaction, decode_transaction, read_transaction
from tallystick.settlement.simulated.chain import SimulatedChain
from tallystick.settlement.simulated.ledger import MINER, BlockRecord

NEWEST = ("latest", "pending", "safe", "finalized")
"""Words for the newest block, whose state is the one that is known."""

BLOOM_BITS = 2_048


def parameter(params: list[Any], index: int) -> Any:
    """Return the parameter at `index`; raise InvalidInput if it is missing."""
    if index >= len(params):
        raise InvalidInput(f"parameter {index + 1} is missing")
    return params[index]


def check_newest(chain: SimulatedChain, params: list[Any], index: int) -> None:
    """Raise InvalidInput if a parameter names another block than the newest."""
    if len(params) > index and read_number(chain, params[index]) != chain.newest.header.number:
        raise InvalidInput("only the state at `latest` is known")


def read_number(chain: SimulatedChain, value: object) -> int:
    """Return the number of the block that a parameter names."""
    if value == "earliest":
        return 0
    if value in NEWEST:
        return chain.newest.header.number
    return read_quantity(value, "block number")


def write_block(chain: SimulatedChain, record: BlockRecord | None, *, full: bool = False) -> dict[str, Any] | None:
    """Return a block as `eth_getBlockByNumber` gives it, with its transactions if `full`, else with their hashes."""
    if record is None:
        return None
    return {
        **write_header(record.header),
        "transactions": [
            write_mined(chain, record, index) if full else to_hex(entry.hash)
            for index, entry in enumerate(record.entries)
        ],
        "gasUsed": quantity(sum(entry.execution.gas for entry in record.entries)),
        "gasLimit": quantity(chain.settings.gas_limit),
        "baseFeePerGas": "0x0",
        "miner": to_hex(MINER),
        "extraData": "0x",
        "logsBloom": _bloom(write_logs(record, chain.contract)),
        "difficulty": "0x0",
        "nonce": to_hex(bytes(8)),
        "mixHash": to_hex(bytes(32)),
        "size": quantity(sum(len(entry.raw) for entry in record.entries)),
        "uncles": [],
    }


def write_mined(chain: SimulatedChain, record: BlockRecord, index: int) -> dict[str, Any]:
    """Return the transaction at `index` of a block as `eth_getTransactionByHash` gives it."""
    found = {
        **write_transaction(decode_transaction(record.entries[index].raw, chain.chain_id), chain.chain_id),
        "blockNumber": quantity(record.header.number),
        "blockHash": to_hex(record.header.hash),
        "transactionIndex": quantity(index),
    }
    return {**found, "gasPrice": found["maxPriorityFeePerGas"]}


def write_transaction(transaction: Transaction, chain_id: int) -> dict[str, Any]:
    """Return a transaction as it is in the pool, in no block yet."""
    fields = read_transaction(transaction.raw, chain_id)
    r, s = fields.signature[:32], fields.signature[32:]
    return {
        "hash": to_hex(transaction.hash),
        "type": "0x2",
        "from": to_hex(transaction.sender),
        "to": to_hex(fields.to),
        "nonce": quantity(fields.nonce),
        "value": quantity(fields.value),
        "input": to_hex(fields.data),
        "gas": quantity(fields.gas),
        "gasPrice": quantity(fields.fee_max),
        "maxFeePerGas": quantity(fields.fee_max),
        "maxPriorityFeePerGas": quantity(fields.priority),
        "chainId": quantity(fields.chain),
        "accessList": [],
        "v": quantity(fields.parity),
        "yParity": quantity(fields.parity),
        "r": quantity(int.from_bytes(r, "big")),
        "s": quantity(int.from_bytes(s, "big")),
        "blockNumber": None,
        "blockHash": None,
        "transactionIndex": None,
    }


def write_logs(record: BlockRecord, contract: Address) -> list[dict[str, Any]]:
    """Return the logs of a block as `eth_getLogs` gives them."""
    logs = []
    for position, (index, transaction, event) in enumerate(record.logs()):
        teller, log = write_event(event, contract)
        logs.append(
            {
                "address": to_hex(teller),
                "topics": [to_hex(topic) for topic in log.topics],
                "data": to_hex(log.data),
                "blockNumber": quantity(record.header.number),
                "blockHash": to_hex(record.header.hash),
                "transactionHash": to_hex(transaction),
                "transactionIndex": quantity(index),
                "logIndex": quantity(position),
                "removed": False,
            }
        )
    return logs


def write_receipts(chain: SimulatedChain, record: BlockRecord) -> Iterator[dict[str, Any]]:
    """Yield the receipts of a block, in the order of its transactions, as `eth_getTransactionReceipt` gives them."""
    logs: dict[str, list[dict[str, Any]]] = {}
    for log in write_logs(record, chain.contract):
        logs.setdefault(log["transactionHash"], []).append(log)
    gas = 0
    for index, entry in enumerate(record.entries):
        gas += entry.execution.gas
        yield _write_receipt(chain, record, index, gas, logs.get(to_hex(entry.hash), []))


def write_receipt(chain: SimulatedChain, record: BlockRecord, index: int) -> dict[str, Any]:
    """Return the receipt of a block's transaction."""
    hash = to_hex(record.entries[index].hash)
    logs = [log for log in write_logs(record, chain.contract) if log["transactionHash"] == hash]
    gas = sum(each.execution.gas for each in record.entries[: index + 1])
    return _write_receipt(chain, record, index, gas, logs)


def _write_receipt(
    chain: SimulatedChain, record: BlockRecord, index: int, gas: int, logs: list[dict[str, Any]]
) -> dict[str, Any]:
    entry = record.entries[index]
    transaction = decode_transaction(entry.raw, chain.chain_id)
    done = entry.execution
    return {
        "transactionHash": to_hex(entry.hash),
        "transactionIndex": quantity(index),
        "blockNumber": quantity(record.header.number),
        "blockHash": to_hex(record.header.hash),
        "from": to_hex(transaction.sender),
        "to": to_hex(transaction.envelope.to),
        "contractAddress": None,
        "type": "0x2",
        "status": quantity(done.success),
        "gasUsed": quantity(done.gas),
        "cumulativeGasUsed": quantity(gas),
        "effectiveGasPrice": quantity(transaction.price),
        "logs": logs,
        "logsBloom": _bloom(logs),
        REASON: done.reason,
        FAILURES: [write_failure(failure) for failure in done.failures],
    }


def _bloom(logs: Iterable[dict[str, Any]]) -> str:
    """Return the filter of logs (Yellow Paper, 4.3.1): three bits for each address and topic."""
    bits = 0
    for item in {item for log in logs for item in (log["address"], *log["topics"])}:
        digest = keccak(bytes.fromhex(item[2:]))
        for begin in (0, 2, 4):
            bits |= 1 << (int.from_bytes(digest[begin : begin + 2], "big") % BLOOM_BITS)
    return to_hex(bits.to_bytes(BLOOM_BITS // 8, "big"))
