"""`tally bench apps`: whole games are played, counted and seen gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from simulation.processes import TALLY, run
from tallystick.channels.apps.connectfour import ConnectFour
from tallystick.sdk.bench.apps import AppsResult, apps_table
from tallystick.sdk.bench.driver_apps import COLUMNS


@pytest.mark.processes
async def test_the_json_has_moves_awaited_and_pipelined_and_a_lone_move_beside_a_payment(tmp_path: Path) -> None:
    options = ("--games", "3", "--seconds", "0.1", "--tries", "1", "--directory", str(tmp_path), "--json")
    code, output, errors = await run([*TALLY, "bench", "apps", *options])
    assert code == 0, errors
    plain: dict[str, Any] = msgspec.json.decode(output)
    assert set(plain) >= {"control", "awaited", "pipelined", "lone", "processes", "durability", "seconds"}
    assert set(plain["lone"]) >= {"move_p50_ms", "payment_p50_ms", "ratio"}
    result = msgspec.json.decode(output, type=AppsResult)
    assert (result.processes, result.durability) == (2, "full")
    for moves in (result.awaited, result.pipelined):
        assert moves.games == 3 and moves.moves >= 3 * len(COLUMNS) and moves.moves % len(COLUMNS) == 0
        assert moves.moves_per_second > 0 and moves.commits_per_move > 0
    assert result.awaited.p50_ms and result.pipelined.p50_ms is None
    assert result.lone.ratio == result.lone.move_p50_ms / result.lone.payment_p50_ms
    assert apps_table(result).row_count == 7


def test_the_measured_game_fills_the_board_and_nobody_wins() -> None:
    rules, state = ConnectFour(), bytes(42)
    for count, column in enumerate(COLUMNS):
        state = rules.valid(state, bytes([int(column)]), count % 2, bytes(32))
    assert rules.turn(state) is None and rules.outcome(state, (1, 1)) == (0, 0)
