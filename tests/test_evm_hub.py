"""A hub on a real node closes all its channels in few transactions: a slice of `python -m simulation.evm_hub`."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from simulation.evm_hub import close_all
from simulation.local_evm import on_a_node, open_local_evm

pytestmark = [pytest.mark.processes, on_a_node]


async def test_what_is_closed_at_once_goes_in_few_transactions_and_costs_less(tmp_path: Path) -> None:
    with open_local_evm("--block-time", "1") as evm, trio.fail_after(120):
        found = await close_all(evm, tmp_path, channels=4, peers=2)
    assert found.channels == 4 and found.transactions < 4
    assert found.each < 50_000
