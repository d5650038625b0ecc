"""Is the contract on this chain, and followed from a block that is early enough? What was before is never seen."""

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
from tallystick.settlement.ethereum.rpc_shapes import quantity, read_bytes, read_quantity, to_hex

Ask: TypeAlias = Callable[[Sequence[NodeQuestion]], Awaitable[Sequence[Any]]]
"""Asks questions of a node (`Endpoint.ask`)."""

AGAIN = Pauses("asking whether the first block is early enough", 5.0, 300.0)

ASKED = 10.0
"""Seconds that who makes settings waits for an answer."""


async def ask_if_late(ask: Ask, contract: Address, start: int) -> bool | None:
    """Return whether the contract was there before block `start`; None if the node keeps no state so old.

    Of a start that is still to come, the newest block tells. Raise ChainUnavailable or ChainError.
    """
    if start == 0:
        return False
    (newest,) = await ask((NodeQuestion("eth_blockNumber"),))
    return await _is_there(ask, contract, min(start - 1, read_answer(read_quantity, newest)))


async def _is_there(ask: Ask, contract: Address, block: int) -> bool | None:
    """Return whether there is code at the address after a block; None if the node keeps no such state."""
    (answer,) = await ask((NodeQuestion("eth_getCode", (to_hex(contract), quantity(block))),))
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


async def what_is_wrong(urls: Sequence[str], chain_id: int, contract: Address, start: int) -> str | None:
    """Return what a node at one of these URLs says in time against these settings, as a sentence; raise nothing."""
    for url in urls:
        with trio.move_on_after(ASKED), suppress(ChainUnavailable, ChainError):
            async with make_client(url, ASKED) as client:
                if wrong := await _wrong(Endpoint(client), chain_id, contract, start):
                    return wrong
    return None


async def _wrong(endpoint: Endpoint, chain_id: int, contract: Address, start: int) -> str | None:
    served, newest = await endpoint.ask((NodeQuestion("eth_chainId"), NodeQuestion("eth_blockNumber")))
    if (found := read_answer(read_quantity, served)) != chain_id:
        return f"the chain node at {endpoint.url} serves chain {found}, not {chain_id}: see to --chain-id"
    head = read_answer(read_quantity, newest)
    if head >= start and await _is_there(endpoint.ask, contract, head) is False:
        return f"the chain node at {endpoint.url} knows no contract at 0x{contract.hex()}: see to --contract"
    if await ask_if_late(endpoint.ask, contract, start):
        return f"{late_text(contract, start)}: name the block of its deployment with --start"
    return None
