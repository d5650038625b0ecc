"""Keeping the simulated ledger on disk: every block in one transaction with the state that it leaves.

Opening reads the state as it stands and the blocks' records; nothing is replayed, so it takes milliseconds for
thousands of blocks. The pool of waiting transactions is not kept, as on other chains: whoever wants one mined sends
it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Rows, at_least, find, table
from tallystick.settlement.contract.state import ChannelStorage
from tallystick.settlement.simulated.ledger import BlockRecord
from tallystick.settlement.simulated.world import Value, World

_RECORDS: Codec[BlockRecord] = Codec(BlockRecord, canonical=False)
_VALUES: Codec[Value] = Codec(int | ChannelStorage)

_STATE = table("ledger_state", "key value")
_BLOCKS = table("ledger_blocks", "number record", history="number")
_FACTS = table("ledger_facts", "name value")


class BranchChanged(Moment, frozen=True):
    """Blocks were dropped from the end, or added, or both: all in one step."""

    dropped_from: int
    """Number of the first block that is no more."""
    added: tuple[BlockRecord, ...]
    changes: Mapping[bytes, Value | None]
    salt: int


class ChainFounded(Moment, frozen=True):
    """Which chain the data is of."""

    identity: bytes


class LedgerRestored(Moment, frozen=True):
    """All that was there is replaced by a ledger after one block, from somebody else."""

    record: BlockRecord
    world: Mapping[bytes, Value]
    history: bytes
    """What stands for the blocks before."""


def _restored(rows: Rows, moment: LedgerRestored) -> None:
    rows.delete(_STATE)
    rows.delete(_BLOCKS)
    rows.add(_BLOCKS, moment.record.header.number, _RECORDS.encode(moment.record))
    for key, value in moment.world.items():
        rows.add(_STATE, key, _VALUES.encode(value))
    rows.put(_FACTS, "history", moment.history)


def _moved(rows: Rows, moment: BranchChanged) -> None:
    rows.delete(_BLOCKS, at_least("number", moment.dropped_from))
    for record in moment.added:
        rows.add(_BLOCKS, record.header.number, _RECORDS.encode(record))
    for key, value in moment.changes.items():
        if value is None:
            rows.delete(_STATE, key=key)
        else:
            rows.put(_STATE, key, _VALUES.encode(value))
    rows.put(_FACTS, "salt", moment.salt)


def _founded(rows: Rows, moment: ChainFounded) -> None:
    rows.add(_FACTS, "identity", moment.identity)


LEDGER = Subject(
    "ledger", (_STATE, _BLOCKS, _FACTS), {BranchChanged: _moved, ChainFounded: _founded, LedgerRestored: _restored}
)


def encode_value(value: Value) -> bytes:
    """Return an entry's value as it is kept."""
    return _VALUES.encode(value)


def decode_value(data: bytes) -> Value:
    """Return what `encode_value` encoded; raise MalformedMessage."""
    return _VALUES.decode(data)


def encode_record(record: BlockRecord) -> bytes:
    """Return a block as it is kept."""
    return _RECORDS.encode(record)


def read_fact(store: Store, name: str) -> Any:
    """Return a fact, None if there is none: `identity` (which chain it is of), `salt` (how often it reorganised).

    `history` is what stands for the blocks before the first, if the ledger came from somebody else.
    """
    row = find(store, _FACTS, name)
    return row[1] if row else None


def read_world(store: Store) -> World:
    """Return the state as the newest block left it."""
    return {key: _VALUES.decode(value) for key, value in store.read(_STATE.rows())}


def read_records(store: Store) -> list[BlockRecord]:
    """Return all blocks in order."""
    return [_RECORDS.decode(record) for _, record in store.read(_BLOCKS.rows())]
