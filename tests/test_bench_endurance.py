"""`tally bench endurance`: a run reports all ten tenths and a restart, and every bound that breaks is told."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from simulation.processes import TALLY, run
from tallystick.sdk.bench.endurance import EnduranceResult, Tenth, Usage, broken_bounds

CALM = Usage(memory=60_000_000, database=10_000_000, log=4_000_000, channel_rows=1, channel_bytes=600)


def result_of(last: Tenth, *, restart: float = 0.1) -> EnduranceResult:
    tenths = [Tenth(1_000, 1.0, CALM, CALM)] * 9 + [last]
    return EnduranceResult(
        control=2.0,
        payments=10_000,
        channels=1,
        tenths=tenths,
        per_second=[tenth.per_second for tenth in tenths],
        last_to_first=last.per_second / tenths[0].per_second,
        restart_seconds=restart,
        resumed_seconds=0.1,
        broken=[],
    )


def test_a_calm_run_breaks_nothing() -> None:
    assert list(broken_bounds(result_of(Tenth(1_000, 1.05, CALM, CALM)))) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"memory": 67_000_000}, "memory"),
        ({"log": 100_000_000}, "write-ahead log"),
        ({"channel_rows": 2}, "channels"),
        ({"channel_bytes": 5_000}, "channels"),
    ],
)
def test_what_grows_is_told(change: dict[str, int], word: str) -> None:
    grown = msgspec.structs.replace(CALM, **change)
    (told,) = broken_bounds(result_of(Tenth(1_000, 1.0, CALM, grown)))
    assert word in told
    assert "payees" in told


def test_slowing_down_and_a_slow_restart_are_told() -> None:
    slow, restart = broken_bounds(result_of(Tenth(1_000, 1.2, CALM, CALM), restart=2.5))
    assert "0.83 times" in slow
    assert "2.50 s" in restart


@pytest.mark.processes
async def test_a_small_run_pays_everything_restarts_and_exits_by_its_bounds(tmp_path: Path) -> None:
    options = ("--payments", "2000", "--channels", "3", "--directory", str(tmp_path), "--json")
    code, output, _ = await run([*TALLY, "bench", "endurance", *options])
    result = msgspec.json.decode(output, type=EnduranceResult)
    assert code == (1 if result.broken else 0)
    assert [tenth.payments for tenth in result.tenths] == [200] * 10
    assert {usage.channel_rows for tenth in result.tenths for usage in (tenth.payer, tenth.payees)} == {3}
    assert result.restart_seconds > 0
    assert result.durability == "full"
