"""What became of a transaction, as Ethereum's receipts tell it, and why it failed, which they do not. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.settlement.chain import (
    Challenged,
    Closed,
    CooperativelyClosed,
    FailedCall,
    Header,
    LinkRegistered,
    Redeemed,
    SecretRegistered,
    Settled,
    TransactionReceipt,
    Withdrawn,
)
from tallystick.settlement.errors import Revert, Reverted, RpcError
from tallystick.settlement.ethereum.abi import Deployment, Envelope, read_batch
from tallystick.settlement.ethereum.abi_values import decode_values
from tallystick.settlement.ethereum.event_logs import topic_of
from tallystick.settlement.ethereum.evm.abi import CALL_FAILED
from tallystick.settlement.ethereum.evm.reverts import read_reason, revert_data
from tallystick.settlement.ethereum.rpc_shapes import read_address, read_bytes, read_quantity

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
    failures: tuple[FailedCall, ...] = ()
    """Of a batch: its calls that did nothing."""
    effects: int = 0
    """Logs by which the contract says that something was done."""


class SentCall(msgspec.Struct, frozen=True):
    """What a transaction did, as a node tells it: enough to make its call again as a question."""

    fields: tuple[tuple[str, str], ...]
    gas: int

    @property
    def envelope(self) -> Envelope:
        """What it carried; raise InvalidInput if that is not told."""
        told = dict(self.fields)
        return Envelope(read_address(told.get("to"), "to"), 0, read_bytes(told.get("data", "0x"), "input"))

    def replay(self) -> dict[str, str]:
        """Return the parameter of `eth_call`."""
        return dict(self.fields)


def read_receipt(value: dict[str, Any], at: Deployment) -> EvmReceipt:
    """Read a receipt, with what the contract said in it; raise InvalidInput."""
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
        *_read_logs(value.get("logs"), at),
    )


def _read_logs(logs: Any, at: Deployment) -> tuple[tuple[FailedCall, ...], int]:
    """Return which calls of a batch did nothing, and how many logs tell of something that was done."""
    if not isinstance(logs, list):
        raise InvalidInput("a receipt comes with the list of its logs")
    failures: list[FailedCall] = []
    effects = 0
    for log in logs:
        if not isinstance(log, dict):
            raise InvalidInput("a log is an object")
        if read_address(log.get("address")) != at.contract:
            continue
        topics = [read_bytes(topic, "topic", 32) for topic in log.get("topics", ())]
        effects += topics[:1] != [] and topics[0] in _EFFECTS
        if topics[:1] == [CALL_FAILED] and len(topics) == 2:
            (answer,) = decode_values(("bytes",), read_bytes(log.get("data")))
            revert, reason = read_reason(answer)
            failures.append(FailedCall(int.from_bytes(topics[1], "big"), reason, revert))
    return tuple(failures), effects


_EFFECTS = frozenset(
    topic_of(kind)
    for kind in (
        CooperativelyClosed,
        Closed,
        Challenged,
        Settled,
        Redeemed,
        Withdrawn,
        SecretRegistered,
        LinkRegistered,
    )
)
"""Each call that travels in a batch tells of itself by one of these."""


def is_whole(receipt: EvmReceipt, sent: SentCall, at: Deployment) -> bool:
    """Whether a successful receipt tells of each call of a batch that it was done, or that it failed."""
    try:
        calls = read_batch(sent.envelope, at)
    except (InvalidInput, Reverted):
        calls = None
    return calls is None or receipt.effects + len(receipt.failures) >= len(calls)


def read_sent(value: dict[str, Any]) -> SentCall:
    """Read a transaction as `eth_getTransactionByHash` tells it; raise InvalidInput."""
    gas = read_quantity(value.get("gas"), "gas")
    names = {"from": "from", "to": "to", "gas": "gas", "value": "value", "input": "data"}
    return SentCall(tuple((ours, value[theirs]) for theirs, ours in names.items() if value.get(theirs)), gas)


def succeeded(receipt: EvmReceipt, header: Header) -> TransactionReceipt:
    """Return the receipt of a call that was done."""
    return TransactionReceipt(receipt.transaction, header, True, receipt.fee, failures=receipt.failures)


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
