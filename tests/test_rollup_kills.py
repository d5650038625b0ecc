"""A slice of `simulation.rollup_kills`: a rollup's processes are killed at random moments, requests are done once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simulation.local_evm import on_a_node
from simulation.rollup_kills import play

SEED = int(os.environ.get("TALLY_SOAK_SEED", "1"))


@pytest.mark.processes
async def test_what_users_ask_for_is_done_once_though_processes_are_killed(tmp_path: Path) -> None:
    assert sum((await play(tmp_path, 5, 1, watched=False)).values()) == 1


@pytest.mark.soak
async def test_in_many_rounds_what_users_ask_for_is_done_once(tmp_path: Path) -> None:
    kills = await play(tmp_path, SEED, 30)
    assert all(kills.values())


@pytest.mark.soak
@on_a_node
async def test_on_an_evm_what_users_ask_for_is_done_once(tmp_path: Path) -> None:
    kills = await play(tmp_path, SEED, 20, anvil=True)
    assert kills["user"] and kills["operator"]
