"""What the chain registered for locks is found alike, whether it registered few secrets or many, in all engines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import pytest

from simulation.engines import memory_disk
from tallystick.channels.protocol.conditions import HASH
from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.store import Store
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.settlement.chain import Block, Header, SecretRegistered
from tallystick.settlement.following.index import ChainIndex
from tallystick.settlement.following.sqlite import INDEX_SCHEMA

STORES: Sequence[Callable[[], Store]] = (
    lambda: SimulatedDisk([INDEX_SCHEMA]).open(),
    lambda: memory_disk([INDEX_SCHEMA]).open(),
)


def secret(number: int) -> bytes:
    return number.to_bytes(32, "big")


def digest(number: int) -> bytes:
    return hashlib.sha256(secret(number)).digest()


@pytest.mark.parametrize("made", STORES, ids=["sqlite", "memory"])
@pytest.mark.parametrize("locks", [1, 4, 5, 6, 50])
def test_secrets_are_found_in_the_order_in_which_they_came(made: Callable[[], Store], locks: int) -> None:
    """Five are registered, one a block; locks are on every other number."""
    store = made()
    index = ChainIndex(Address(bytes(20)), store)
    for number in range(1, 6):
        event = SecretRegistered(digest(10 - number), secret(10 - number), 100 + number)
        store.commit(index.add(Block(Header(number, bytes(32), bytes(32), 100 + number), (event,))))
    pending = [(HASH, digest(5 + 2 * number)) for number in range(locks)]
    for up_to in range(7):
        come = [(number, 10 - number) for number in range(1, 1 + min(5, up_to))]
        expected = {(HASH, digest(key)): (100 + number, secret(key)) for number, key in come}
        found = index.proofs(pending, up_to)
        assert list(found.items()) == [(puzzle, known) for puzzle, known in expected.items() if puzzle in pending]
    assert index.proofs([], 9) == {}
