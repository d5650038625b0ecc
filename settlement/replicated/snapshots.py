"""Snapshots: the ledger after one block, in chunks, for who joins late and does not execute all blocks again. Pure.

The app hash stands for the state and for all blocks so far. So a snapshot holds all entries of the state, the hash of
the blocks before its own, and its own block: whoever has these computes the app hash of that block, and of each one
after it. The same block makes the same chunks at every validator. Whoever restores one trusts none of it: a chunk must
have the digest that was offered, and the whole the app hash that a light client of the consensus has verified.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.codec import Codec
from tallystick.settlement.errors import LedgerBroken
from tallystick.settlement.replicated.decision import app_hash, history_after, without_words
from tallystick.settlement.simulated.journal import decode_value, encode_value
from tallystick.settlement.simulated.ledger import BlockRecord
from tallystick.settlement.simulated.roots import state_root
from tallystick.settlement.simulated.world import World

FORMAT = 1

CHUNK_BYTES = 1_048_576
"""Bytes of entries in a chunk, about."""

CHUNK_MAX = 2 * CHUNK_BYTES
"""Of a chunk of entries as it travels, at most: an entry's key and value are longer than what stands around them."""

CHUNKS_MAX = 4_096
"""Of one snapshot: it is held in memory until it is whole."""

_DIGEST = 32


class SnapshotHead(msgspec.Struct, frozen=True, array_like=True):
    """The first chunk: where the snapshot stands in the chain."""

    history: bytes
    """The hash of all blocks before this one."""
    record: BlockRecord
    """The block after which the state is this; without the sentences of refusals, which no hash is over."""


class FrozenLedger(msgspec.Struct, frozen=True):
    """A ledger after one block, which goes on meanwhile."""

    head: SnapshotHead
    world: World


class LedgerSnapshot(msgspec.Struct, frozen=True):
    """What is known of a snapshot besides its chunks."""

    height: int
    digests: tuple[bytes, ...]
    """Of its chunks, in order."""

    @property
    def metadata(self) -> bytes:
        """As it travels."""
        return b"".join(self.digests)

    @property
    def hash(self) -> bytes:
        """What two that are equal share."""
        return hashlib.sha256(self.height.to_bytes(8, "big") + self.metadata).digest()


class SnapshotShelf(Protocol):
    """Where the snapshots of a validator are."""

    def snapshots(self) -> Sequence[LedgerSnapshot]:
        """Return what there is, the oldest first."""

    def load(self, height: int, index: int) -> bytes:
        """Return a chunk, nothing if there is none."""


class _NoSnapshots:
    def snapshots(self) -> Sequence[LedgerSnapshot]:
        return ()

    def load(self, height: int, index: int) -> bytes:
        return b""


EMPTY_SHELF: SnapshotShelf = _NoSnapshots()

_HEADS: Codec[SnapshotHead] = Codec(SnapshotHead, canonical=False)
_ENTRIES: Codec[tuple[tuple[bytes, bytes], ...]] = Codec(tuple[tuple[bytes, bytes], ...])


def freeze(history: bytes, record: BlockRecord, world: World) -> FrozenLedger:
    """Return the ledger after a block as it is now; `history` is that before the block."""
    return FrozenLedger(SnapshotHead(history, without_words(record)), dict(world))


def chunks_of(frozen: FrozenLedger) -> Iterator[bytes]:
    """Yield the chunks of a ledger: its head, and then its entries in order of their keys."""
    yield _HEADS.encode(frozen.head)
    entries: list[tuple[bytes, bytes]] = []
    taken = 0
    for key in sorted(frozen.world):
        value = encode_value(frozen.world[key])
        entries.append((key, value))
        taken += len(key) + len(value)
        if taken >= CHUNK_BYTES:
            yield _ENTRIES.encode(tuple(entries))
            entries, taken = [], 0
    if entries:
        yield _ENTRIES.encode(tuple(entries))


def digest_of(chunk: bytes) -> bytes:
    """Return by what a chunk is known."""
    return hashlib.sha256(chunk).digest()


def read_snapshot(height: int, form: int, chunks: int, hash: bytes, metadata: bytes) -> LedgerSnapshot:
    """Return what somebody offers; raise InvalidInput if it is no snapshot of this form."""
    if form != FORMAT or not 1 <= chunks <= CHUNKS_MAX or len(metadata) != chunks * _DIGEST or height < 1:
        raise InvalidInput("this is no snapshot that can be read here")
    digests = tuple(metadata[at : at + _DIGEST] for at in range(0, len(metadata), _DIGEST))
    snapshot = LedgerSnapshot(height, digests)
    if snapshot.hash != hash:
        raise InvalidInput("a snapshot's hash is not over its digests")
    return snapshot


class Restoration:
    """A snapshot on its way in. Nothing of it counts before it is whole, and is what was asked for."""

    def __init__(self, snapshot: LedgerSnapshot, app_hash: bytes) -> None:
        """`app_hash` is that after the snapshot's block, from a source that is trusted."""
        self.snapshot = snapshot
        self._app_hash = app_hash
        self._chunks: dict[int, bytes] = {}

    def add(self, index: int, chunk: bytes) -> bool:
        """Take a chunk; return whether it is the one that was offered. Raise InvalidInput if no ledger has such."""
        if not 0 <= index < len(self.snapshot.digests) or digest_of(chunk) != self.snapshot.digests[index]:
            return False
        if index and len(chunk) > CHUNK_MAX:
            raise InvalidInput(f"a chunk of a snapshot has {len(chunk)} bytes: no ledger is cut like that")
        self._chunks[index] = chunk
        return True

    @property
    def is_whole(self) -> bool:
        """Whether all chunks are here."""
        return len(self._chunks) == len(self.snapshot.digests)

    def finish(self) -> FrozenLedger:
        """Return the ledger; raise InvalidInput if what was offered is not what the consensus agreed on."""
        try:
            head = _HEADS.decode(self._chunks[0])
            world = self._entries()
            after = history_after(head.history, head.record)
            whole = head.record.header.number == self.snapshot.height and without_words(head.record) == head.record
            right = app_hash(state_root(world), after) == self._app_hash
        except (MalformedMessage, LedgerBroken, ValueError, OverflowError) as error:
            raise InvalidInput(f"what was offered as a snapshot is none: {error}") from error
        if not whole or not right:
            raise InvalidInput("the snapshot's ledger has another app hash than the consensus")
        return FrozenLedger(head, world)

    def _entries(self) -> World:
        world: World = {}
        last = b""
        for index in range(1, len(self.snapshot.digests)):
            for key, encoded in _ENTRIES.decode(self._chunks[index]):
                value = decode_value(encoded)
                if key <= last or value == 0 or (isinstance(value, int) and not 0 < value <= AMOUNT_MAX):
                    raise InvalidInput("a snapshot's entries are not in order, or hold what no ledger does")
                world[key] = value
                last = key
        return world
