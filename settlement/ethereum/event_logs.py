"""Events as Ethereum logs: topics and ABI-encoded data, both ways.

The first topic is the hash of the event's signature; the second the channel's id, the secret's digest, the stream's
condition or the app's instance: the one indexed argument. Names and types are the contract's Solidity interface. A
channel's terms travel without chain id and contract, which whoever reads the log knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.app_court import AppStands
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.settlement.chain import (
    Challenged,
    ChannelOpened,
    Claimed,
    Closed,
    CooperativelyClosed,
    Deposited,
    Event,
    LedgerEvent,
    LinkRegistered,
    ModuleEvent,
    Owed,
    ProofRegistered,
    Redeemed,
    SecretRegistered,
    Settled,
    Withdrawn,
)
from tallystick.settlement.errors import ChainError
from tallystick.settlement.ethereum.abi import TERMS, Deployment, Signature, read_terms, terms_values
from tallystick.settlement.ethereum.abi_values import decode_values, encode_values


class Log(NamedTuple):
    """What a log says, whoever emitted it."""

    topics: tuple[bytes, ...]
    data: bytes


_FORMS: dict[type[Any], Signature] = {
    ChannelOpened: Signature("ChannelOpened", ("bytes32", *TERMS)),
    Deposited: Signature("Deposited", ("bytes32", "uint8", "uint128")),
    Withdrawn: Signature("Withdrawn", ("bytes32", "uint8", "uint128")),
    CooperativelyClosed: Signature("CooperativelyClosed", ("bytes32", "uint128", "uint128")),
    Closed: Signature("Closed", ("bytes32", "uint8", "uint64", "uint64", "bytes32", "uint64")),
    Challenged: Signature("Challenged", ("bytes32", "uint8", "uint64", "address", "bool")),
    Settled: Signature("Settled", ("bytes32", "uint128", "uint128", "uint128", "uint128", "uint128", "bool")),
    Redeemed: Signature("Redeemed", ("bytes32", "uint8", "uint128", "uint128", "bytes32")),
    SecretRegistered: Signature("SecretRegistered", ("bytes32", "bytes32", "uint64")),
    LinkRegistered: Signature(
        "LinkRegistered", ("bytes32", "bytes32", "uint64", "bytes32", "uint128", "uint64", "uint64")
    ),
    ProofRegistered: Signature("ProofRegistered", ("bytes32", "uint8", "bytes", "uint64")),
    AppStands: Signature(
        "AppStands",
        ("bytes32", "uint64", *["bytes"] * 4, "uint64", "uint64", "uint128", "uint128", "uint64"),
    ),
    Owed: Signature("Owed", ("address", "address", "uint256")),
    Claimed: Signature("Claimed", ("address", "address", "address", "uint256")),
}
"""What each event tells, in order of the fields; the first is the indexed one."""
_BY_TOPIC: dict[bytes, tuple[Callable[..., Event], Signature]] = {
    form.hash: (kind, form) for kind, form in _FORMS.items()
}


def encode_event(event: Event) -> Log:
    """Return the event as the log that the contract emits."""
    form = _FORMS[type(event)]
    if isinstance(event, ChannelOpened):
        values: tuple[Any, ...] = (event.channel, *terms_values(event.terms))
    else:
        values = msgspec.structs.astuple(event)
    return Log((form.hash, values[0].rjust(32, b"\0")), encode_values(form.arguments[1:], values[1:]))


def write_event(event: LedgerEvent, contract: Address) -> tuple[Address, Log]:
    """Return who tells of an event, the adjudicator at `contract` or a module, and the log."""
    if isinstance(event, ModuleEvent):
        return event.module, Log(event.topics, event.data)
    return contract, encode_event(event)


def decode_event(log: Log, at: Deployment) -> Event:
    """Return the event of a log of the contract; raise ChainError if it is none that this program knows."""
    if len(log.topics) != 2 or log.topics[0] not in _BY_TOPIC or len(log.topics[1]) != 32:
        raise ChainError("the contract emitted a log that this program does not know; update Tallystick")
    make, form = _BY_TOPIC[log.topics[0]]
    try:
        values = decode_values(form.arguments[1:], log.data)
        if form.name == "ChannelOpened":
            return ChannelOpened(ChannelId(log.topics[1]), read_terms(at, *values))
    except InvalidInput as error:
        raise ChainError(f"the chain node sent a log that cannot be read: {error}") from error
    indexed = log.topics[1]
    return make(Address(indexed[12:]) if form.arguments[0] == "address" else indexed, *values)


def find_event(log: Log, at: Deployment) -> Event | None:
    """Return the event of a log of the contract, None if it is of a kind that this program does not know."""
    return decode_event(log, at) if log.topics and log.topics[0] in _BY_TOPIC else None


def topic_of(kind: type[Event]) -> bytes:
    """Return the first topic of the logs of one kind of event."""
    return _FORMS[kind].hash
