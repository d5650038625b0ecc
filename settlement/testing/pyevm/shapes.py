"""Blocks, transactions, receipts and logs of py-evm as Ethereum's JSON has them (execution-apis)."""

from __future__ import annotations

from typing import Any

import rlp

from tallystick.channels.protocol.keys import keccak
from tallystick.settlement.ethereum.rpc_shapes import quantity, to_hex
from tallystick.settlement.testing.pyevm.chain import AccountProof, Block, Mined, Transaction, tip_of

BLOOM_BYTES = 256


def write_block(block: Block, mined: tuple[Mined, ...], *, full: bool) -> dict[str, Any]:
    """Write a block: its header's fields, and its transactions by hash, or whole."""
    header = block.header
    return {
        "number": quantity(header.block_number),
        "hash": to_hex(header.hash),
        "parentHash": to_hex(header.parent_hash),
        "sha3Uncles": to_hex(header.uncles_hash),
        "miner": to_hex(header.coinbase),
        "stateRoot": to_hex(header.state_root),
        "transactionsRoot": to_hex(header.transaction_root),
        "receiptsRoot": to_hex(header.receipt_root),
        "logsBloom": to_hex(header.bloom.to_bytes(BLOOM_BYTES, "big")),
        "difficulty": quantity(header.difficulty),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "extraData": to_hex(header.extra_data),
        "mixHash": to_hex(header.mix_hash),
        "nonce": to_hex(header.nonce),
        "baseFeePerGas": quantity(header.base_fee_per_gas),
        "withdrawalsRoot": to_hex(header.withdrawals_root),
        "blobGasUsed": quantity(header.blob_gas_used),
        "excessBlobGas": quantity(header.excess_blob_gas),
        "parentBeaconBlockRoot": to_hex(header.parent_beacon_block_root),
        "requestsHash": to_hex(header.requests_hash),
        "size": quantity(len(rlp.encode(block))),
        "uncles": [],
        "withdrawals": [],
        "transactions": [
            write_transaction(each.transaction, each) if full else to_hex(each.transaction.hash) for each in mined
        ],
    }


def write_transaction(transaction: Transaction, mined: Mined | None) -> dict[str, Any]:
    """Write a transaction, and in which block it is, if it is in one."""
    kind = getattr(transaction, "type_id", 0) or 0
    price = transaction.max_fee_per_gas
    written: dict[str, Any] = {
        "type": quantity(kind),
        "hash": to_hex(transaction.hash),
        "nonce": quantity(transaction.nonce),
        "from": to_hex(transaction.sender),
        "to": to_hex(transaction.to) if transaction.to else None,
        "value": quantity(transaction.value),
        "gas": quantity(transaction.gas),
        "input": to_hex(transaction.data),
        "gasPrice": quantity(price if mined is None else _price(mined)),
        "v": quantity(transaction.y_parity if kind else transaction.v),
        "r": quantity(transaction.r),
        "s": quantity(transaction.s),
        **_place(mined),
    }
    if kind:
        written |= {
            "chainId": quantity(transaction.chain_id),
            "accessList": [
                {"address": to_hex(address), "storageKeys": [to_hex(slot.to_bytes(32, "big")) for slot in slots]}
                for address, slots in transaction.access_list
            ],
            "yParity": quantity(transaction.y_parity),
            "maxFeePerGas": quantity(price),
            "maxPriorityFeePerGas": quantity(transaction.max_priority_fee_per_gas),
        }
    return written


def write_receipt(mined: Mined) -> dict[str, Any]:
    """Write what became of a transaction."""
    transaction = mined.transaction
    created = keccak(rlp.encode([transaction.sender, transaction.nonce]))[12:]
    return {
        "type": quantity(getattr(transaction, "type_id", 0) or 0),
        "transactionHash": to_hex(transaction.hash),
        "from": to_hex(transaction.sender),
        "to": to_hex(transaction.to) if transaction.to else None,
        "contractAddress": None if transaction.to else to_hex(created),
        "status": quantity(mined.succeeded),
        "gasUsed": quantity(mined.gas),
        "cumulativeGasUsed": quantity(mined.cumulative),
        "effectiveGasPrice": quantity(_price(mined)),
        "logsBloom": to_hex(mined.bloom.to_bytes(BLOOM_BYTES, "big")),
        "logs": [write_log(mined, at) for at in range(len(mined.logs))],
        **_place(mined),
    }


def write_log(mined: Mined, at: int) -> dict[str, Any]:
    """Write one log of a transaction."""
    log = mined.logs[at]
    return {
        "address": to_hex(log.address),
        "topics": [to_hex(topic.to_bytes(32, "big")) for topic in log.topics],
        "data": to_hex(log.data),
        "logIndex": quantity(mined.first_log + at),
        "transactionHash": to_hex(mined.transaction.hash),
        "removed": False,
        **_place(mined),
    }


def write_proof(account: bytes, keys: list[str], proof: AccountProof) -> dict[str, Any]:
    """Write an account and slots of its storage, with what proves them (EIP-1186)."""
    return {
        "address": to_hex(account),
        "balance": quantity(proof.fields.balance),
        "nonce": quantity(proof.fields.nonce),
        "codeHash": to_hex(proof.fields.code_hash),
        "storageHash": to_hex(proof.fields.storage_root),
        "accountProof": [to_hex(node) for node in proof.nodes],
        "storageProof": [
            {"key": key, "value": quantity(value), "proof": [to_hex(node) for node in nodes]}
            for key, (value, nodes) in zip(keys, proof.slots, strict=True)
        ],
    }


def _place(mined: Mined | None) -> dict[str, Any]:
    if mined is None:
        return {"blockHash": None, "blockNumber": None, "transactionIndex": None}
    return {
        "blockHash": to_hex(mined.header.hash),
        "blockNumber": quantity(mined.header.block_number),
        "transactionIndex": quantity(mined.place),
    }


def _price(mined: Mined) -> int:
    base: int = mined.header.base_fee_per_gas
    return base + tip_of(mined.transaction, base)
