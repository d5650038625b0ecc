"""Logs as nodes tell them: which block each is of, in which order, and what they say. Pure.

A log counts only if its block's hash is among headers that chain. A node that is asked for the logs of a hash answers
for blocks that left the chain, too, and one that is asked for a range may answer of a branch that it has just left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.chain import Block, Event
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.event_logs import Log, find_event
from tallystick.settlement.ethereum.evm.headers import SeenHeader
from tallystick.settlement.ethereum.rpc_shapes import read_address, read_bytes, read_quantity

TOPICS_MAX = 4


class PlacedLog(msgspec.Struct, frozen=True):
    """A log and where it stands."""

    number: int
    hash: bytes
    """Of its block."""
    index: int
    """Among the logs of its block."""
    log: Log
    by: Address
    """Whose it is."""


def read_logs(value: Any, tellers: Sequence[Address]) -> tuple[PlacedLog, ...]:
    """Return the logs in an answer to `eth_getLogs`, in order.

    What a node says twice is there once; what it says was removed is not there. Raise InvalidInput, or ChainError if
    a log is of another contract than those (`tellers`).
    """
    if not isinstance(value, list):
        raise InvalidInput("logs come as a list")
    found: dict[tuple[int, bytes, int], PlacedLog] = {}
    for each in value:
        if not isinstance(each, dict):
            raise InvalidInput("a log is an object")
        if each.get("removed") is True:
            continue
        log = read_log(each)
        if log.by not in tellers:
            raise ChainError("the chain node sent a log of another contract than the one asked for")
        found[log.number, log.hash, log.index] = log
    return tuple(found[key] for key in sorted(found))


def read_log(value: dict[str, Any]) -> PlacedLog:
    """Read one log, of whomever; raise InvalidInput."""
    topics = value.get("topics")
    if not isinstance(topics, list) or len(topics) > TOPICS_MAX:
        raise InvalidInput(f"a log has a list of at most {TOPICS_MAX} topics")
    return PlacedLog(
        read_quantity(value.get("blockNumber"), "blockNumber"),
        read_bytes(value.get("blockHash"), "blockHash", 32),
        read_quantity(value.get("logIndex"), "logIndex"),
        Log(tuple(read_bytes(topic, "topic", 32) for topic in topics), read_bytes(value.get("data"))),
        read_address(value.get("address")),
    )


def events_of(logs: Sequence[PlacedLog], at: Deployment) -> tuple[Event, ...]:
    """Return the events that logs of the contract tell; a log of a kind that is not known here tells none."""
    return tuple(event for event in (find_event(placed.log, at) for placed in logs) if event is not None)


def blocks_of(headers: Sequence[SeenHeader], logs: Sequence[PlacedLog], at: Deployment) -> tuple[Block, ...]:
    """Return consecutive blocks with their events; raise ChainUnavailable if a log is of another branch than they."""
    by_block: dict[bytes, list[PlacedLog]] = {seen.header.hash: [] for seen in headers}
    numbers = {seen.header.hash: seen.header.number for seen in headers}
    for placed in logs:
        if numbers.get(placed.hash) != placed.number:
            raise ChainUnavailable("the chain moved on while the chain node was asked for its logs")
        by_block[placed.hash].append(placed)
    return tuple(Block(seen.header, events_of(by_block[seen.header.hash], at)) for seen in headers)


def silent_blocks(
    headers: Sequence[SeenHeader], logs: Sequence[PlacedLog], tellers: Sequence[Address]
) -> tuple[SeenHeader, ...]:
    """Return the blocks that may hold logs of one of the contracts, by their filters, and of which none of it came."""
    told = {(placed.hash, placed.by) for placed in logs}

    def is_silent(seen: SeenHeader, teller: Address) -> bool:
        return (seen.header.hash, teller) not in told and seen.may_hold(teller)

    return tuple(seen for seen in headers if seen.bloom and any(is_silent(seen, teller) for teller in tellers))


def is_forged(headers: Sequence[SeenHeader], logs: Sequence[PlacedLog]) -> bool:
    """Whether a log came of a block whose proven filter says that it has none of that contract."""
    proven = {seen.header.hash: seen for seen in headers if seen.proven}
    return any(placed.hash in proven and not proven[placed.hash].may_hold(placed.by) for placed in logs)
