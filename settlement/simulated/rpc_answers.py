"""Blocks of the simulated chain as JSON-RPC answers. The shapes of the answers are in `ethereum.rpc_shapes`."""

from __future__ import annotations

from typing import Any

from tallystick.channels.protocol.objects import Address
from tallystick.settlement.chain import Event, Header
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.event_logs import encode_event
from tallystick.settlement.ethereum.rpc_shapes import REASON, quantity, to_hex, write_header
from tallystick.settlement.ethereum.transactions import decode_transaction
from tallystick.settlement.simulated.blocks import MINER, BlockRecord, Entry


def write_block(record: BlockRecord, gas_limit: int) -> dict[str, Any]:
    """Return a block as `eth_getBlockByNumber` gives it, with the hashes of its transactions."""
    return {
        **write_header(record.header),
        "transactions": [to_hex(entry.hash) for entry in record.entries],
        "gasUsed": quantity(sum(entry.execution.gas for entry in record.entries)),
        "gasLimit": quantity(gas_limit),
        "baseFeePerGas": "0x0",
        "miner": to_hex(MINER),
        "extraData": "0x",
    }


def write_logs(record: BlockRecord, contract: Address) -> list[dict[str, Any]]:
    """Return the logs of a block as `eth_getLogs` gives them."""
    return [
        _write_log(event, record.header, contract, index, transaction, position)
        for position, (index, transaction, event) in enumerate(record.logs())
    ]


def _write_log(
    event: Event, header: Header, contract: Address, index: int, transaction: bytes, position: int
) -> dict[str, Any]:
    log = encode_event(event)
    return {
        "address": to_hex(contract),
        "topics": [to_hex(topic) for topic in log.topics],
        "data": to_hex(log.data),
        "blockNumber": quantity(header.number),
        "blockHash": to_hex(header.hash),
        "transactionHash": to_hex(transaction),
        "transactionIndex": quantity(index),
        "logIndex": quantity(position),
        "removed": False,
    }


def write_receipt(entry: Entry, record: BlockRecord, at: Deployment) -> dict[str, Any]:
    """Return a receipt as `eth_getTransactionReceipt` gives it."""
    transaction = decode_transaction(entry.raw, at.chain_id)
    done = entry.execution
    return {
        "transactionHash": to_hex(entry.hash),
        "transactionIndex": quantity(record.entries.index(entry)),
        "blockNumber": quantity(record.header.number),
        "blockHash": to_hex(record.header.hash),
        "from": to_hex(transaction.sender),
        "to": to_hex(transaction.envelope.to),
        "contractAddress": None,
        "type": "0x2",
        "status": quantity(done.success),
        "gasUsed": quantity(done.gas),
        "effectiveGasPrice": quantity(transaction.price),
        "logs": [log for log in write_logs(record, at.contract) if log["transactionHash"] == to_hex(entry.hash)],
        REASON: done.reason,
    }
