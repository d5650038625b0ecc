"""Whether the disks of validators hold one state, looked at when nobody runs on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tallystick.channels.storage.sqlite.store import open_store
from tallystick.settlement.simulated.journal import read_records, read_world
from tallystick.settlement.simulated.ledger import BlockRecord
from tallystick.settlement.simulated.roots import state_root
from tallystick.settlement.simulated.sqlite import SCHEMA
from tallystick.settlement.simulated.world import World, apply_changes


def check_roots(homes: Sequence[Path]) -> int:
    """Check that all have one state root at the greatest height that all have reached; return that."""
    found = [read_ledger(home) for home in homes]
    least = min(len(records) for _, records in found)
    roots = set()
    for world, records in found:
        for record in reversed(records[least:]):
            apply_changes(world, dict(record.undo))
        roots.add(state_root(world))
    assert len(roots) == 1, "two validators have different states"
    return least - 1


def read_ledger(home: Path) -> tuple[World, list[BlockRecord]]:
    """Return what is on a validator's disk: its state, and its blocks."""
    store = open_store(home / "ledger", [SCHEMA], owner="simulation")
    try:
        return read_world(store), read_records(store)
    finally:
        store.close()
