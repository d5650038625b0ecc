"""`tally bench hostile`: it floods a door for real, measures beside it, and attacks this machine only."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from simulation.processes import TALLY, run
from tallystick.sdk.bench import attackers
from tallystick.sdk.bench.attackers import AttackOptions
from tallystick.sdk.bench.hostile import ATTACKS, HostileResult, HostileRow
from tallystick.sdk.bench.report import hostile_table
from tallystick.sdk.errors import MeasurementVoid


@pytest.mark.soak
@pytest.mark.processes
async def test_a_flood_is_made_and_its_figures_are_told(tmp_path: Path) -> None:
    options = ("--seconds", "0.5", "--attack", "pings", "--directory", str(tmp_path), "--json")
    code, output, errors = await run([*TALLY, "bench", "hostile", *options])
    assert code == 0, errors
    result = msgspec.json.decode(output, type=HostileResult)
    assert result.quiet_p50_ms > 0 and result.quiet_rss_mb > 20
    (row,) = result.rows
    assert row.attack == "pings" and row.p50_ms > 0 and row.messages > 100
    assert row.rss_mb < 64 and row.new_peer_connects_s < 30


@pytest.mark.parametrize("target", ["192.0.2.1:7735", "http://192.0.2.1:80/", "example.com:7735"])
def test_other_machines_are_not_attacked(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = AttackOptions(
        kind="pings",
        seconds=1,
        connections=1,
        rate=1,
        target=target if "//" in target else "02" * 33 + "@" + target,
        chain_id=1,
        contract="",
    )
    monkeypatch.setattr("sys.argv", ["attackers", msgspec.json.encode(attack).decode()])
    with pytest.raises(MeasurementVoid, match="this machine only"):
        attackers.main()


def test_every_attack_is_in_the_table() -> None:
    rows = [
        HostileRow(attack=kind, p50_ms=1, p99_ms=2, rss_mb=3, new_peer_connects_s=4, connections=5, messages=6)
        for kind in ATTACKS
    ]
    result = HostileResult(control=2, quiet_p50_ms=1, quiet_rss_mb=90, quiet_connects_s=0.1, seconds=4, rows=rows)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(hostile_table(result))
    text = console.export_text()
    assert all(kind in text for kind in (*ATTACKS, "(quiet)", "+3"))
