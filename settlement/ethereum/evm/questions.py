"""Questions that are asked in more than one place, and the door by which answers come in. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.errors import ChainError, RpcError
from tallystick.settlement.ethereum.abi import Envelope
from tallystick.settlement.ethereum.evm.endpoint import NodeQuestion
from tallystick.settlement.ethereum.rpc_shapes import quantity, to_hex

T = TypeVar("T")

LATEST = NodeQuestion("eth_getBlockByNumber", ("latest", False))


def block_question(number: int) -> NodeQuestion:
    """Return what asks for the header of that number."""
    return NodeQuestion("eth_getBlockByNumber", (quantity(number), False))


def call_of(envelope: Envelope, sender: Address) -> dict[str, str]:
    """Return a transaction as `eth_call` and `eth_estimateGas` take it."""
    return {
        "from": to_hex(sender),
        "to": to_hex(envelope.to),
        "value": quantity(envelope.value),
        "data": to_hex(envelope.data),
    }


def result(answer: Any) -> Any:
    """Return an answer that is no error; raise the error otherwise."""
    if isinstance(answer, RpcError):
        raise answer
    return answer


def read_answer(read: Callable[[Any], T], answer: Any) -> T:
    """Return what `read` makes of an answer; raise RpcError if it is an error, ChainError if it is malformed."""
    value = result(answer)
    try:
        return read(value)
    except (InvalidInput, AttributeError, TypeError, ValueError, LookupError, OverflowError) as error:
        raise ChainError(f"the chain node's answer cannot be right: {error}") from error
