"""Headers that chain, and what they prove of the logs of their blocks. Pure.

A header's hash is that of its fields, and it names its parent by hash: so one hash that is known vouches for all
before it, and for each block's bloom filter. That holds three hashed positions for every address that emitted a log:
a block whose filter lacks an address has no log of it, and one whose filter has it may have some.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import rlp

from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.chain import Header
from tallystick.settlement.errors import ChainError
from tallystick.settlement.ethereum.rpc_shapes import read_bytes, read_header

BLOOM_BYTES = 256

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

    def may_hold(self, address: Address) -> bool:
        """Whether the block may hold logs of this address, by its filter."""
        return not self.bloom or in_bloom(self.bloom, address)


def read_seen(value: dict[str, Any]) -> SeenHeader:
    """Read a block as `eth_getBlockByNumber` tells it; raise InvalidInput."""
    header = read_header(value)
    bloom = value.get("logsBloom")
    filter = read_bytes(bloom, "logsBloom", BLOOM_BYTES) if bloom is not None else b""
    return SeenHeader(header, filter, hash_of(value) == header.hash)


def hash_of(value: dict[str, Any]) -> bytes | None:
    """Return the hash of a block's header by its fields, None if one that every header has is missing or malformed."""
    later = [name for name in _LATER if value.get(name) is not None]
    try:
        fields = [_field(name, value[name]) for name in (*_FIELDS, *later)]
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError):
        return None
    return keccak(rlp.encode(fields))


def _field(name: str, value: str) -> bytes:
    digits = value.removeprefix("0x")
    if name not in _NUMBERS:
        return bytes.fromhex(digits)
    number = int(digits, 16)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def check_chain(headers: Sequence[SeenHeader], first: int, proven: bool) -> None:
    """Raise ChainError unless these are consecutive headers from number `first` on, each the child of the one before.

    `proven`: this chain's headers are known to be hashed as Ethereum's, so that one that is not is a lie.
    """
    for at, seen in enumerate(headers, first):
        if seen.header.number != at:
            raise ChainError(f"the chain node was asked for block {at} and sent {seen.header.number}")
        if proven and not seen.proven:
            raise ChainError(f"the chain node's block {at} is not what its hash says; use another node")
    for before, after in pairwise(headers):
        if after.header.parent != before.header.hash:
            raise ChainError(f"the chain node's block {after.header.number} does not follow the one before it")


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
