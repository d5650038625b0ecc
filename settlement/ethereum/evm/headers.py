"""Headers that chain, and what they prove of the logs of their blocks. Pure.

A header's hash is that of its fields, and it names its parent by hash: so one hash that is known vouches for all
before it, and for each block's bloom filter. That holds three hashed positions for every address that emitted a log:
a block whose filter lacks an address has no log of it, and one whose filter has it may have some.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.chain import Header
from tallystick.settlement.errors import ChainError
from tallystick.settlement.ethereum.rpc_shapes import read_bytes, read_header

BLOOM_BYTES = 256

HEADERS_KEPT = 2_048
"""The newest headers that are remembered."""

_DATA = ("parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom")
_FIELDS = (
    *_DATA,
    *("difficulty", "number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce"),
)
_LATER = (
    *("baseFeePerGas", "withdrawalsRoot", "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot", "requestsHash"),
    "blockAccessListHash",
)
"""Fields that forks have added, in order (EIPs 1559, 4895, 4844, 4788, 7685, 7928)."""

_BESIDES = (
    *("hash", "size", "totalDifficulty", "transactions", "uncles", "withdrawals", "requests", "blockAccessList"),
    *("author", "sealFields", "step", "signature", "l1BlockNumber", "sendCount", "sendRoot"),
)
"""What nodes tell of a block besides its header's fields."""

_KNOWN = frozenset({*_FIELDS, *_LATER, *_BESIDES})

_NUMBERS = frozenset(
    {
        *("difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas", "blobGasUsed", "excessBlobGas"),
    }
)


class SeenHeader(msgspec.Struct, frozen=True):
    """A header as a node told it."""

    header: Header
    bloom: bytes
    """The filter of its logs; empty if the node told none."""
    proven: bool
    """Whether its fields make its hash, as Ethereum's do."""
    strange: bool = False
    """Whether it has a field that is not known here, as after a fork: then it may be right, and not proven."""

    def may_hold(self, address: Address) -> bool:
        """Whether the block may hold logs of this address, by its filter."""
        return not self.bloom or in_bloom(self.bloom, address)


def read_seen(value: dict[str, Any]) -> SeenHeader:
    """Read a block as `eth_getBlockByNumber` tells it; raise InvalidInput."""
    header = read_header(value)
    bloom = value.get("logsBloom")
    filter = read_bytes(bloom, "logsBloom", BLOOM_BYTES) if bloom is not None else b""
    proven = hash_of(value) == header.hash
    return SeenHeader(header, filter, proven, strange=not proven and not _KNOWN.issuperset(value))


def hash_of(value: dict[str, Any]) -> bytes | None:
    """Return the hash of a block's header by its fields, None if one that every header has is missing or malformed."""
    later = [name for name in _LATER if value.get(name) is not None]
    try:
        fields = [_field(name, value[name]) for name in (*_FIELDS, *later)]
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError):
        return None
    return keccak(encode_list(fields))


def _field(name: str, value: str) -> bytes:
    digits = value.removeprefix("0x")
    if name not in _NUMBERS:
        return bytes.fromhex(digits)
    number = int(digits, 16)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def encode_list(items: Iterable[bytes]) -> bytes:
    """Return a list of byte strings in RLP (yellow paper, appendix B), as `rlp` does, in a twentieth of its time."""
    content = b"".join(map(encode_item, items))
    return _length(0xC0, len(content)) + content


def encode_item(data: bytes) -> bytes:
    """Return a byte string in RLP."""
    return data if len(data) == 1 and data[0] < 0x80 else _length(0x80, len(data)) + data


def _length(offset: int, size: int) -> bytes:
    if size < 56:
        return bytes((offset + size,))
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((offset + 55 + len(digits),)) + digits


def check_chain(headers: Sequence[SeenHeader], first: int, proven: bool) -> None:
    """Raise ChainError unless these are consecutive headers from number `first` on, each the child of the one before.

    `proven`: this chain's headers are known to be hashed as Ethereum's, so that one that is not is a lie.
    """
    for at, seen in enumerate(headers, first):
        if seen.header.number != at:
            raise ChainError(f"the chain node was asked for block {at} and sent {seen.header.number}")
        if proven and not seen.proven and not seen.strange:
            raise ChainError(f"the chain node's block {at} is not what its hash says; use another node")
    for before, after in pairwise(headers):
        if after.header.parent != before.header.hash:
            raise ChainError(f"the chain node's block {after.header.number} does not follow the one before it")


class RecentHeaders:
    """The newest headers that were told, each the child of the one before: those need not be told again.

    A header names its parent by hash, so one that follows the newest known vouches for all that are known.
    """

    def __init__(self, kept: int = HEADERS_KEPT) -> None:
        self._kept = kept
        self._headers: list[SeenHeader] = []

    def first_to_ask(self, first: int, last: int) -> int:
        """Return from which number on headers up to `last` have to be asked for, to know all from `first` on."""
        if not self._headers or not self._headers[0].header.number <= first <= self._headers[-1].header.number:
            return first
        return min(self._headers[-1].header.number + 1, last)

    def joined(self, first: int, told: Sequence[SeenHeader]) -> list[SeenHeader] | None:
        """Return all headers from `first` on, the last of which were told now; None if these are of another branch."""
        if not told:
            return None
        start = told[0].header.number
        known = [seen for seen in self._headers if first <= seen.header.number < start]
        if len(known) != start - first or (known and known[-1].header.hash != told[0].header.parent):
            return None
        return [*known, *told]

    def keep(self, headers: Sequence[SeenHeader]) -> None:
        """Remember headers that chain."""
        if headers:
            before = self.joined(self._headers[0].header.number, headers) if self._headers else None
            self._headers = (before or list(headers))[-self._kept :]


def in_bloom(bloom: bytes, value: bytes) -> bool:
    """Whether a filter of 2,048 bits holds a value, or others that set its three bits (yellow paper, 4.3.1)."""
    digest = keccak(value)
    for start in (0, 2, 4):
        bit = int.from_bytes(digest[start : start + 2], "big") & 2047
        if not bloom[BLOOM_BYTES - 1 - bit // 8] >> (bit % 8) & 1:
            return False
    return True


def bloom_of(*values: bytes) -> bytes:
    """Return the filter that holds these values: an address and the topics of each log."""
    filter = 0
    for value in values:
        digest = keccak(value)
        for start in (0, 2, 4):
            filter |= 1 << (int.from_bytes(digest[start : start + 2], "big") & 2047)
    return filter.to_bytes(BLOOM_BYTES, "big")
