"""What became of a transaction, as Ethereum's receipts tell it, and why it failed, which they do not. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from tallystick.settlement.chain import Header, TransactionReceipt
from tallystick.settlement.errors import Revert, RpcError
from tallystick.settlement.ethereum.evm.reverts import read_reason, revert_data
from tallystick.settlement.ethereum.rpc_shapes import read_bytes, read_quantity

_UNKNOWN = "unknown: made again as a question at its block, the call does not fail"


class EvmReceipt(msgspec.Struct, frozen=True):
    """A receipt as a node tells it."""

    transaction: bytes
    block: bytes
    """Hash of its block."""
    number: int
    success: bool
    gas_used: int
    fee: int
    """With what a rollup takes for its data."""


class SentCall(msgspec.Struct, frozen=True):
    """What a transaction did, as a node tells it: enough to make its call again as a question."""

    fields: tuple[tuple[str, str], ...]
    gas: int

    def replay(self) -> dict[str, str]:
        """Return the parameter of `eth_call`."""
        return dict(self.fields)


def read_receipt(value: dict[str, Any]) -> EvmReceipt:
    """Read a receipt; raise InvalidInput."""
    used, price = read_quantity(value.get("gasUsed"), "gasUsed"), value.get("effectiveGasPrice")
    fee = used * (0 if price is None else read_quantity(price, "effectiveGasPrice"))
    if value.get("l1Fee") is not None:  # rollups of the OP Stack
        fee += read_quantity(value["l1Fee"], "l1Fee")
    return EvmReceipt(
        read_bytes(value.get("transactionHash"), "transactionHash", 32),
        read_bytes(value.get("blockHash"), "blockHash", 32),
        read_quantity(value.get("blockNumber"), "blockNumber"),
        read_quantity(value.get("status"), "status") == 1,
        used,
        fee,
    )


def read_sent(value: dict[str, Any]) -> SentCall:
    """Read a transaction as `eth_getTransactionByHash` tells it; raise InvalidInput."""
    gas = read_quantity(value.get("gas"), "gas")
    names = {"from": "from", "to": "to", "gas": "gas", "value": "value", "input": "data"}
    return SentCall(tuple((ours, value[theirs]) for theirs, ours in names.items() if value.get(theirs)), gas)


def succeeded(receipt: EvmReceipt, header: Header) -> TransactionReceipt:
    """Return the receipt of a call that was done."""
    return TransactionReceipt(receipt.transaction, header, True, receipt.fee)


def failed(receipt: EvmReceipt, header: Header, sent: SentCall | None, said: Any) -> TransactionReceipt:
    """Return the receipt of one that was not: `said` is what a node answers to the same call at that block."""
    if sent is not None and receipt.gas_used >= sent.gas:
        revert: Revert | None = Revert.OUT_OF_GAS
        reason = f"the call used up all the {sent.gas} units of gas that it was given"
    elif isinstance(said, RpcError):
        revert, reason = read_reason(revert_data(said.data))
        if revert is None and revert_data(said.data) is None:
            reason = f"unknown: the chain node says {said.said!r}"
    else:
        revert, reason = None, _UNKNOWN
    return TransactionReceipt(receipt.transaction, header, False, receipt.fee, reason, revert)
