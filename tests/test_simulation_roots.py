"""The check of campaigns that validators' disks hold one state: it sees a difference, at any height."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation.replicas import application, transfer
from simulation.roots import check_roots
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.settlement.replicated.decision import ProposedBlock
from tallystick.settlement.simulated.sqlite import SCHEMA


def write_ledger(home: Path, blocks: list[tuple[bytes, ...]]) -> Path:
    store = open_store(home / "ledger", [SCHEMA], owner="test")
    app = application(store)
    for transactions in blocks:
        app.finalize(ProposedBlock(app.height + 1, 1_000, transactions))
        app.commit()
    store.close()
    return home


def test_equal_states_are_found_equal_at_the_least_height_and_others_are_not(tmp_path: Path) -> None:
    first, second, other = (transfer(0, 0),), (transfer(0, 1),), (transfer(0, 1, 6),)
    long = write_ledger(tmp_path / "long", [first, second, ()])
    short = write_ledger(tmp_path / "short", [first])
    strange = write_ledger(tmp_path / "strange", [first, other])
    assert check_roots([long, short]) == 1 == check_roots([long, short, strange])
    with pytest.raises(AssertionError, match="different states"):
        check_roots([long, strange])
