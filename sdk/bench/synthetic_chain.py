"""A chain of many blocks with the logs of many channels, made from a seed: headers that chain, and hash as they should.

It is made once, in memory: 32 bytes for each block, and the logs as an Ethereum node tells them in JSON.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

import msgspec

from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address, ChannelId, Terms
from tallystick.sdk.bench.synthetic_events import ChannelDrawer, DrawnChannel
from tallystick.settlement.chain import CLOSED, ChannelEvent, ContractChannel
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.event_logs import Log
from tallystick.settlement.ethereum.evm.headers import BLOOM_BYTES, bloom_of, encode_item
from tallystick.settlement.ethereum.rpc_shapes import quantity, to_hex
from tallystick.settlement.following.index import EventInBlock, fold

AT = Deployment(7_355, Address(b"\xad" * 20))
"""Of no chain that is known: the client takes Ethereum's profile for it."""

FIRST = 100
"""Block of the contract's deployment."""

GENESIS_TIME = 1_700_000_000
BLOCK_SECONDS = 12

_NO_BLOOM = bytes(BLOOM_BYTES)


class HistoryOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a chain is made of."""

    blocks: int
    """From the contract's deployment to the head."""
    channels: int
    seed: int = 1
    unsettled: int = 64
    """Blocks that the head is above what is final."""

    @property
    def head(self) -> int:
        """The newest block's number."""
        return FIRST + self.blocks - 1

    def drawer(self) -> ChannelDrawer:
        """Return what draws what happens in it."""
        return ChannelDrawer(AT, self.seed, FIRST, self.head, time_of)


class SyntheticChain:
    """The blocks, and what is in them. A block that is asked for has to be there."""

    def __init__(self, options: HistoryOptions, lasting: Sequence[DrawnChannel] = ()) -> None:
        """`lasting`: channels besides those that are drawn."""
        self.head = options.head
        self.finalized = max(0, self.head - options.unsettled)
        drawn = (*lasting, *options.drawer().channels(options.channels))
        self.channels: dict[ChannelId, DrawnChannel] = {each.channel: each for each in drawn}
        by_block: dict[int, list[Log]] = {}
        for each in drawn:
            for number, log in each.logs():
                by_block.setdefault(number, []).append(log)
        self.holding: list[int] = sorted(by_block)
        """Numbers of the blocks with logs."""
        self._blooms = {number: _bloom(logs) for number, logs in by_block.items()}
        self._hashes = bytearray()
        for number in range(self.head + 1):
            self._hashes += keccak(self._encoded(number))
        self._logs = {number: self._told(number, logs) for number, logs in by_block.items()}
        self.logs_count = sum(map(len, self._logs.values()))

    def hash(self, number: int) -> bytes:
        """Return a block's hash; zeros for what is before the first."""
        return bytes(self._hashes[32 * number : 32 * number + 32]) if number >= 0 else bytes(32)

    def block(self, number: int) -> bytes:
        """Return a block's header, in JSON."""
        told = {
            **_CONSTANT,
            "hash": to_hex(self.hash(number)),
            "parentHash": to_hex(self.hash(number - 1)),
            "logsBloom": to_hex(self._blooms.get(number, _NO_BLOOM)),
            "number": quantity(number),
            "timestamp": quantity(time_of(number)),
            "size": "0x400",
            "transactions": (),
            "uncles": (),
        }
        return msgspec.json.encode(told)

    def logs(self, first: int, last: int) -> Iterator[tuple[Log, bytes]]:
        """Return the logs of these blocks, with what is told of each, in JSON."""
        for number in self.holding[bisect_left(self.holding, first) : bisect_right(self.holding, last)]:
            yield from self._logs[number]

    def view(self, channel: ChannelId) -> ContractChannel | None:
        """Return what the contract holds of a channel at the head."""
        drawn = self.channels.get(channel)
        happenings = () if drawn is None else drawn.happenings
        events = ((number, what) for number, what in happenings if isinstance(what, ChannelEvent))
        return fold((EventInBlock(number, time_of(number), event) for number, event in events), self.head)

    def _encoded(self, number: int) -> bytes:
        """Return what a block's hash is of."""
        first = encode_item(self.hash(number - 1)) + _ROOTS + encode_item(self._blooms.get(number, _NO_BLOOM))
        numbers = b"\x80" + _whole(number) + _LIMIT + b"\x80" + _whole(time_of(number))
        fields = first + numbers + _REST
        return b"\xf9" + len(fields).to_bytes(2, "big") + fields

    def deposits(self, terms: Terms) -> tuple[int, int]:
        """Return what both sides have paid into a channel."""
        view = self.view(channel_id(terms))
        return (0, 0) if view is None else view.deposits

    def contested(self) -> list[DrawnChannel]:
        """Return the channels whose challenge window runs at the head."""
        views = ((each, self.view(each.channel)) for each in self.channels.values())
        closed = ((each, view.deadline or 0) for each, view in views if view is not None and view.status == CLOSED)
        return [each for each, deadline in closed if deadline >= time_of(self.head)]

    def _told(self, number: int, logs: Sequence[Log]) -> list[tuple[Log, bytes]]:
        where = {
            "address": to_hex(AT.contract),
            "blockNumber": quantity(number),
            "blockHash": to_hex(self.hash(number)),
        }
        found = []
        for index, log in enumerate(logs):
            what = {"topics": list(map(to_hex, log.topics)), "data": to_hex(log.data), "logIndex": quantity(index)}
            found.append((log, msgspec.json.encode({**where, **what, "removed": False})))
        return found


def time_of(number: int) -> int:
    """Return a block's time."""
    return GENESIS_TIME + BLOCK_SECONDS * number


def _bloom(logs: Sequence[Log]) -> bytes:
    return bloom_of(AT.contract, *(topic for log in logs for topic in log.topics))


def _whole(number: int) -> bytes:
    return encode_item(number.to_bytes((number.bit_length() + 7) // 8, "big"))


_HASH = keccak(b"of nothing that anybody looks at")
_LIMIT = _whole(60_000_000)
_ROOTS = b"".join(map(encode_item, (_HASH, bytes(20), _HASH, _HASH, _HASH)))
_REST = b"".join(map(encode_item, (b"", _HASH, bytes(8), b"\x07", _HASH, b"", b"", _HASH, _HASH)))
_CONSTANT = {
    **dict.fromkeys(("sha3Uncles", "stateRoot", "transactionsRoot", "receiptsRoot", "mixHash"), to_hex(_HASH)),
    **dict.fromkeys(("withdrawalsRoot", "parentBeaconBlockRoot", "requestsHash"), to_hex(_HASH)),
    **dict.fromkeys(("difficulty", "gasUsed", "blobGasUsed", "excessBlobGas"), "0x0"),
    "miner": to_hex(bytes(20)),
    "extraData": "0x",
    "nonce": to_hex(bytes(8)),
    "gasLimit": quantity(60_000_000),
    "baseFeePerGas": "0x7",
}
"""Fields that are the same in all blocks, as they are told; `_ROOTS`, `_LIMIT` and `_REST` is what is hashed."""
