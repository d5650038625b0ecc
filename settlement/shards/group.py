"""Which shards there are, and where what is: by the id of an account, of a pair, of a chain. Pure.

A shard is a ledger with an EIP-155 chain id of its own, so that what is signed for one is void on all others. What is
in a channel's terms decides where the channel is: the chain id is among them, and the channel's id commits to them.
An account has its *home* by its address, which is where coins are sent that name no shard; it may hold coins on every
shard, as each of its channels takes its deposits from the account's coins on the channel's own shard.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PublicKey, keccak
from tallystick.channels.protocol.objects import Address, Terms

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARDS_MAX = 64
"""Shards of one group."""

FINAL_BLOCKS = 3
"""Blocks on top of one from which on a shard never replaces it, unless told otherwise."""


class ShardGroup(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """All shards that believe each other, by number; fixed once they have begun."""

    chain_id: int
    """Of shard 0; those of the others follow it."""
    contract: Address
    """Where the adjudicator is, on each of them."""
    keys: tuple[bytes, ...]
    """The public key (33 bytes) under which each shard signs its final blocks, in order of their numbers."""
    final_blocks: int = FINAL_BLOCKS
    """Blocks that follow before a shard signs one: it replaces no block that deep."""

    def __post_init__(self) -> None:
        if not 2 <= len(self.keys) <= SHARDS_MAX or len(set(self.keys)) != len(self.keys):
            raise InvalidInput(f"from 2 to {SHARDS_MAX} shards make a group, each with a key of its own")
        if not 1 <= self.chain_id <= 2**63 - SHARDS_MAX or not 1 <= self.final_blocks <= 1_000:
            raise InvalidInput("a group's chain ids are from 1 to 2**63, and a block is final after 1 to 1,000 others")
        _ = self.public_keys

    @cached_property
    def public_keys(self) -> tuple[PublicKey, ...]:
        """The keys, parsed."""
        return tuple(PublicKey(key) for key in self.keys)

    @cached_property
    def fingerprint(self) -> int:
        """A number (below 2**128) that names the group: equal for none other."""
        numbers = self.chain_id.to_bytes(8, "big") + self.final_blocks.to_bytes(8, "big")
        return int.from_bytes(keccak(b"tallystick shards" + numbers + self.contract + b"".join(self.keys))[:16], "big")

    def __len__(self) -> int:
        return len(self.keys)

    def chain_of(self, shard: int) -> int:
        """Return the chain id of a shard; raise InvalidInput if there is no such shard."""
        if not 0 <= shard < len(self):
            raise InvalidInput(f"there is no shard {shard}: they are numbered from 0 to {len(self) - 1}")
        return self.chain_id + shard

    def shard_of(self, terms: Terms) -> int:
        """Return on which shard a channel of these terms is; raise InvalidInput if on none."""
        shard = terms.chain_id - self.chain_id
        if not 0 <= shard < len(self) or terms.contract != self.contract:
            raise InvalidInput(f"a channel on chain {terms.chain_id} is on none of these shards")
        return shard


def home_of(account: Address, shards: int) -> int:
    """Return the shard on which an account is at home."""
    return _place(account, shards)


def meeting_of(accounts: Sequence[Address], shards: int) -> int:
    """Return the shard on which channels of these two are best opened: both find it alone, and pairs spread evenly."""
    return _place(b"".join(sorted(accounts)), shards)


def _place(id: bytes, shards: int) -> int:
    """Return the first eight bytes of the id's hash, modulo the number of shards."""
    return int.from_bytes(keccak(id)[:8], "big") % shards
