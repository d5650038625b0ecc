"""Where the adjudicator's contract and the court's store what: their layouts, as docs/contracts.md says them.

A mapping's entry is at keccak(slot of the mapping, key), and an array's items follow each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from eth_abi.abi import encode

from simulation.evm_adjudicator import EvmAdjudicator
from tallystick.channels.protocol.apps import AppTerms, instance_id, stake_condition
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Terms
from tallystick.contracts import artifact

WORDS = 7
"""Words that a channel takes."""


@cache
def layout(of: str) -> dict[str, int]:
    """Return the first slot of each of a contract's names: read once, as it is asked for a hundred thousand times."""
    return {name: place["slot"] for name, place in artifact(of).layout["storage_layout"].items()}


def slot_of(name: str, *keys: bytes, of: str = "Adjudicator") -> int:
    """Return the slot of a mapping's entry; addresses as 32 bytes."""
    slot = layout(of)[name]
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


def court_slots(terms: AppTerms) -> Iterator[int]:
    """Return all slots of the court that an instance may take, and that of its app's rules."""
    instance = instance_id(terms)
    yield from (slot_of("kept", stake_condition(instance, player), of="Court") for player in (0, 1))
    yield from (slot_of(name, instance, of="Court") for name in ("numbers", "states"))
    yield slot_of("rules", terms.app, of="Court")
