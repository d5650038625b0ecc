"""Is the block from which on a contract is followed early enough? What was before it would never be seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import trio

from tallystick.channels.node.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.protocol.objects import Address
from tallystick.channels.transport.retries import Jitter, Pauses, Retry
from tallystick.settlement.errors import ChainError, ChainUnavailable, RpcError
from tallystick.settlement.ethereum.evm.endpoint import Endpoint, NodeQuestion
from tallystick.settlement.ethereum.evm.questions import read_answer
from tallystick.settlement.ethereum.http import make_client
from tallystick.settlement.ethereum.rpc_shapes import quantity, read_bytes, to_hex

Ask: TypeAlias = Callable[[Sequence[NodeQuestion]], Awaitable[Sequence[Any]]]
"""Asks questions of a node (`Endpoint.ask`)."""

AGAIN = Pauses("asking whether the first block is early enough", 5.0, 300.0)

ASKED = 10.0
"""Seconds that who makes settings waits for an answer."""


async def ask_if_late(ask: Ask, contract: Address, start: int) -> bool | None:
    """Return whether the contract was there before block `start`; None if the node keeps no state so old.

    Raise ChainUnavailable or ChainError.
    """
    if start == 0:
        return False
    (answer,) = await ask((NodeQuestion("eth_getCode", (to_hex(contract), quantity(start - 1))),))
    return None if isinstance(answer, RpcError) else bool(read_answer(read_bytes, answer))


def late_text(contract: Address, start: int) -> str:
    """Return what to say of a start that is too late."""
    return (
        f"the contract 0x{contract.hex()} was on the chain before block {start}, from which on it is followed: "
        "what was opened or closed there before is not seen"
    )


async def tell_if_late(ask: Ask, contract: Address, start: int, alarm: OnAlarm, jitter: Jitter) -> None:
    """Raise an alarm if the start is too late, once a node says so. Where none keeps so old a state, say nothing."""
    retry = Retry(AGAIN, jitter)
    late = await retry.until_done(lambda: ask_if_late(ask, contract, start), ChainUnavailable, ChainError)
    if late:
        remedy = "begin anew, in a new data directory, with the block of its deployment as the start"
        alarm(Alarm(AlarmKind.START_LATE, f"{late_text(contract, start)}; {remedy}"))


async def is_called_late(urls: Sequence[str], contract: Address, start: int) -> bool:
    """Return whether a node at one of these URLs says in time that the start is too late; raise nothing."""
    for url in urls:
        with trio.move_on_after(ASKED), suppress(ChainUnavailable, ChainError):
            async with make_client(url, ASKED) as client:
                if await ask_if_late(Endpoint(client).ask, contract, start):
                    return True
    return False
