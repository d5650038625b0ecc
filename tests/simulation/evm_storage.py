"""Where the adjudicator's contract stores what: its layout, as docs/contracts.md says it.

A mapping's entry is at keccak(slot of the mapping, key), and an array's items follow each other.
"""

from __future__ import annotations

from collections.abc import Iterator

from eth_abi.abi import encode

from simulation.evm_adjudicator import EvmAdjudicator
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Terms
from tallystick.contracts import artifact

WORDS = 7
"""Words that a channel takes."""

_LAYOUT = artifact().layout["storage_layout"]


def slot_of(name: str, *keys: bytes) -> int:
    """Return the slot of a mapping's entry; addresses as 32 bytes."""
    slot: int = _LAYOUT[name]["slot"]
    for key in keys:
        slot = int.from_bytes(keccak(slot.to_bytes(32, "big") + key), "big")
    return slot


def channel_key(terms: Terms) -> bytes:
    """Return by what a channel's words are found."""
    return keccak(channel_id(terms) + terms.challenge_period.to_bytes(32, "big") + terms.close_hash)


def slots_in_use(contract: EvmAdjudicator) -> Iterator[int]:
    """Return all slots that channels and puzzles which are known to it may take, but for shares."""
    for terms in contract.terms.values():
        key = channel_key(terms)
        first = slot_of("words", key)
        yield from range(first, first + WORDS)
        pair = keccak(encode(("address", "address", "address"), (*terms.participants, terms.asset)))
        yield slot_of("counts", pair)
    for condition in contract.puzzles:
        yield from (slot_of(name, condition) for name in ("secrets", "streams", "checkpoints"))
