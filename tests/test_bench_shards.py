"""`tally bench shards`: two shards are measured against one, and their books must balance."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.sdk.bench import shards


@pytest.mark.processes
async def test_two_shards_are_measured_against_one_and_a_busy_machine_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "capacity_control", lambda: 1.0)
    said: list[str] = []
    result = await shards.run_shards(100, 2, 30, rounds=1, tries=3, limit=0, directory=str(tmp_path), say=said.append)
    assert (result.control, result.rounds, result.transfers, result.cross_percent) == (1.0, 1, 200, 30)
    assert (result.speedup, result.mixed_speedup) == pytest.approx(
        (result.two_per_second / result.one_per_second, result.mixed_per_second / result.one_per_second)
    )
    assert min(result.one_per_second, result.cpu_speedup, result.mixed_cpu_speedup) > 0
    assert len(result.measured) == 1, "the time was over, and another round was begun"
    assert not result.control_reached and result.seconds > 0
    assert any("only CPU times count" in line for line in said)
    table = shards.shards_table(result)
    assert table.row_count == 3 and "void" in str(table.caption)
