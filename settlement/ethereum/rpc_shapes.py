"""Ethereum's JSON encodings: quantities, data, blocks, logs, receipts (execution-apis, "eth" namespace).

What Ethereum does not have, a receipt's reasons of failure, are extra fields that its clients ignore.
"""

from __future__ import annotations

from typing import Any

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.chain import Block, Event, FailedCall, Header, ModuleEvent, TransactionReceipt
from tallystick.settlement.errors import ChainError, read_revert
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.event_logs import Log, decode_event
from tallystick.settlement.modules.table import MODULES_AT

HEX_DIGITS = frozenset("0123456789abcdefABCDEF")

REASON = "tallyReason"
"""Field of a receipt: why the call failed."""

FAILURES = "tallyFailures"
"""Field of a batch's receipt: the number of each call that did nothing, and why."""


def quantity(value: int) -> str:
    """Write a number: hex without leading zeros."""
    return hex(value)


def to_hex(value: bytes) -> str:
    """Write bytes."""
    return f"0x{value.hex()}"


def read_quantity(value: object, name: str = "quantity") -> int:
    """Read a number from 0 to 2**256 - 1; raise InvalidInput."""
    if not isinstance(value, str) or not value.startswith("0x") or not 3 <= len(value) <= 66:
        raise InvalidInput(f"{name} must be a number in hex such as 0x1f")
    if not HEX_DIGITS.issuperset(value[2:]):
        raise InvalidInput(f"{name} must be a number in hex such as 0x1f, not {value!r}")
    return int(value[2:], 16)


def read_bytes(value: object, name: str = "data", size: int | None = None) -> bytes:
    """Read bytes, of `size` if that is given; raise InvalidInput."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise InvalidInput(f"{name} must be hex that begins with 0x")
    try:
        data = bytes.fromhex(value[2:])
    except ValueError as error:
        raise InvalidInput(f"{name} must be pairs of hex digits") from error
    if size is not None and len(data) != size:
        raise InvalidInput(f"{name} must have {size} bytes, not {len(data)}")
    return data


def read_address(value: object, name: str = "address") -> Address:
    """Read an address; raise InvalidInput."""
    return Address(read_bytes(value, name, 20))


def write_header(header: Header) -> dict[str, Any]:
    """Return the fields of a block that are its header."""
    return {
        "number": quantity(header.number),
        "hash": to_hex(header.hash),
        "parentHash": to_hex(header.parent),
        "timestamp": quantity(header.time),
    }


def read_header(value: dict[str, Any]) -> Header:
    """Read a header out of a block; raise InvalidInput."""
    return Header(
        read_quantity(value.get("number"), "number"),
        read_bytes(value.get("hash"), "hash", 32),
        read_bytes(value.get("parentHash"), "parentHash", 32),
        read_quantity(value.get("timestamp"), "timestamp"),
    )


def read_block(value: dict[str, Any], at: Deployment) -> Block:
    """Read a header with the logs of its block; raise InvalidInput or ChainError."""
    logs = value.get("logs")
    if not isinstance(logs, list):
        raise InvalidInput("a block must come with the list of its logs")
    return Block(read_header(value), tuple(_read_event(log, at) for log in logs))


def _read_event(value: dict[str, Any], at: Deployment) -> Event:
    if read_address(value.get("address")) != at.contract:
        raise ChainError("the chain node sent a log of another contract than the one asked for")
    topics = tuple(read_bytes(topic, "topic", 32) for topic in value.get("topics", ()))
    return decode_event(Log(topics, read_bytes(value.get("data"))), at)


def read_module_events(receipt: dict[str, Any]) -> tuple[ModuleEvent, ...]:
    """Read what modules told, in a receipt; raise InvalidInput."""
    events = []
    for log in receipt.get("logs", ()):
        topics = tuple(read_bytes(topic, "topic", 32) for topic in log.get("topics", ()))
        events.append(ModuleEvent(read_address(log.get("address")), topics, read_bytes(log.get("data"))))
    return tuple(event for event in events if event.module in MODULES_AT)


def read_receipt(value: dict[str, Any], header: Header) -> TransactionReceipt:
    """Read a receipt whose block has `header`; raise InvalidInput."""
    fee = read_quantity(value.get("gasUsed"), "gasUsed") * read_quantity(value.get("effectiveGasPrice"), "gas price")
    success = read_quantity(value.get("status"), "status") == 1
    reason = "" if success else str(value.get(REASON) or "unknown: the chain node does not say why")
    revert, sentence = read_revert(reason)
    made = read_bytes(value.get("transactionHash"), "hash", 32)
    failures = tuple(_read_failure(pair) for pair in value.get(FAILURES) or ())
    return TransactionReceipt(made, header, success, fee, sentence, revert, failures)


def write_failure(failure: FailedCall) -> list[Any]:
    """Write which call of a batch did nothing, and why."""
    return [failure.index, f"{failure.revert}: {failure.reason}" if failure.revert else failure.reason]


def _read_failure(value: Any) -> FailedCall:
    if not isinstance(value, list) or len(value) != 2 or type(value[0]) is not int:
        raise InvalidInput("what failed of a batch is told as pairs of a call's number and a reason")
    revert, sentence = read_revert(str(value[1]))
    return FailedCall(value[0], sentence, revert)
