"""What `tally bench` reports: its layout, its floors, its books, how often it tries, and what it refuses to begin."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio.testing
from rich.console import Console
from typer.testing import CliRunner, Result

from tallystick.sdk.bench import direct, scale
from tallystick.sdk.bench.control import CONTROL_MIN, Primitives
from tallystick.sdk.bench.direct import LinkConditions
from tallystick.sdk.bench.latencies import Latencies, timing
from tallystick.sdk.bench.picture import FORMATS, draw, require_matplotlib
from tallystick.sdk.bench.report import scale_table, table
from tallystick.sdk.bench.results import ClassResult, DirectResult, LoadPoint, ScaleRow
from tallystick.sdk.bench.stage import Stage, check_books
from tallystick.sdk.cli.bench import app
from tallystick.sdk.errors import MeasurementVoid

PRIMITIVES = Primitives(sign=26.0, verify=35.0, commit=170.0, codec_per_payment=0.3, sha256=0.3)
TOP = {"control", "classes", "channels", "processes", "durability", "seconds"}
OF_A_CLASS = {
    "per_second",
    "floor_per_second",
    "p50_ms",
    "p99_ms",
    "batch_median",
    "commits_per_second",
    "signatures_per_second",
    "bytes_per_payment",
    "cpu_us_per_payment",
}
SENT = {
    "count": 1_000,
    "seconds": 0.5,
    "per_second": 2_000.0,
    "p50_ms": 1.0,
    "p99_ms": 9.0,
    "commits": 20,
    "signatures": 10,
    "bytes": 3_000,
    "cpu": 0.1,
    "updates": 10,
    "batch_median": 100,
    "cut": 2,
}


def class_result(**more: Any) -> ClassResult:
    figures = dict.fromkeys(set(ClassResult.__struct_fields__) - {"memory_kib", "calm_per_second", "kept"}, 1.0)
    return ClassResult(memory_kib={"payer": 70_000, "payee": 60_000}, **(figures | more))


def direct_result(**more: Any) -> DirectResult:
    return DirectResult(
        control=1.9,
        classes={"submitted": class_result(), "bulk": class_result()},
        primitives_us=PRIMITIVES,
        seconds=3.0,
        memory_kib={"payer": 70_000, "payee": 60_000},
        **more,
    )


def test_the_json_of_a_run_has_the_names_that_others_rely_on() -> None:
    result = msgspec.json.decode(msgspec.json.encode(direct_result()))
    assert set(result) >= TOP
    assert all(set(figures) >= OF_A_CLASS for figures in result["classes"].values())
    assert (result["channels"], result["processes"], result["durability"]) == (1, 2, "full")


def test_the_floor_of_payments_is_what_signatures_commits_and_the_codec_cost() -> None:
    assert PRIMITIVES.floor_per_second(1) == pytest.approx(1e6 / (26 + 35 + 2 * 170 + 0.3))
    assert PRIMITIVES.floor_per_second(1_000) == pytest.approx(1e9 / (26 + 35 + 2 * 170 + 300))


def test_the_floor_of_streams_is_a_hash_for_each_link_and_what_was_signed_and_committed() -> None:
    assert PRIMITIVES.stream_floor_per_second(10_000, 2, 10) == pytest.approx(1e10 / (3_000 + 2 * 61 + 1_700))
    assert PRIMITIVES.stream_floor_per_second(10**9, 0, 0) == pytest.approx(1e6 / 0.3)


def books(sent: int = 0, received: int = 0, own: int = 0) -> dict[str, int]:
    return {"sent": sent, "received": received, "own": own}


@pytest.mark.parametrize(
    ("made", "payer", "payees", "good"),
    [
        (5, books(sent=5, own=-5), books(received=5, own=5), True),
        (5, books(sent=3, own=-5), books(received=3, own=5), True),  # two of them were locks
        (5, books(sent=5, own=-5), books(received=4, own=5), False),
        (5, books(sent=5, own=-5), books(received=5, own=6), False),
        (5, books(sent=5, own=-6), books(received=5, own=5), False),
        (4, books(sent=5, own=-5), books(received=5, own=5), False),
        (6, books(sent=5, own=-5), books(received=5, own=5), False),
    ],
)
def test_books_balance_only_if_every_payment_came_once(
    made: int, payer: dict[str, int], payees: dict[str, int], good: bool
) -> None:
    opening = (books(sent=7, own=1_000), books(received=9, own=50))
    changed = [
        {key: was[key] + change[key] for key in was} for was, change in zip(opening, (payer, payees), strict=True)
    ]
    closing = (changed[0], changed[1])
    if good:
        check_books(made, opening, closing)
    else:
        with pytest.raises(MeasurementVoid, match="do not balance"):
            check_books(made, opening, closing)


class FakeStage:
    """A stage whose payments take as long as they are told, by the virtual clock."""

    primitives = PRIMITIVES

    def __init__(self) -> None:
        self.tries = 0

    async def pay(self, kind: str, seconds: float) -> dict[str, Any]:
        self.tries += 1
        await trio.sleep(seconds)
        return SENT

    async def counters(self) -> dict[str, float]:
        return {"commits": self.tries * 5, "signatures": self.tries * 10, "cpu": self.tries * 0.2}

    async def memory(self) -> dict[str, int]:
        return {"payer": 1, "payee": 2}

    async def close_books(self) -> None:
        self.closed = True


async def tried(
    monkeypatch: pytest.MonkeyPatch, controls: list[float], seconds: float
) -> tuple[FakeStage, Any, list[str]]:
    left = iter(controls)
    monkeypatch.setattr(direct, "capacity_control", lambda beside: next(left))
    stage, said = FakeStage(), list[str]()
    fake: Any = stage
    return stage, await direct.measure(fake, "bulk", seconds, direct.TRIES, said.append), said


async def test_a_run_with_a_good_control_is_made_once(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    stage, result, said = await tried(monkeypatch, [1.9, CONTROL_MIN], 3.0)
    assert (stage.tries, result.control, len(said)) == (1, CONTROL_MIN, 1)
    assert (result.commits_per_second, result.signatures_per_payment) == (50, 0.02)
    assert (result.bytes_per_payment, result.batch_mean, result.cut) == (3, 100, 2)
    assert result.cpu_us_per_payment == pytest.approx(300)


async def test_a_run_with_a_bad_control_says_so_and_is_repeated_and_the_best_counts(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    stage, result, said = await tried(monkeypatch, [1.2, 1.6, 1.7, 1.4], 0.5)
    assert (stage.tries, result.control) == (3, 1.6)
    assert sum("below 1.75" in line for line in said) == 3


async def test_a_long_run_is_repeated_only_once_so_that_a_class_stays_within_15_seconds(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    stage, _, _ = await tried(monkeypatch, [1.0] * 4, 3.0)
    assert stage.tries == 2


async def test_conditions_are_compared_with_none_on_the_same_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    story: list[object] = []

    class Rough(FakeStage):
        async def conditions(self, rtt_ms: float, cuts: float) -> None:
            story.append((rtt_ms, cuts))

    async def measure(stage: Stage, name: str, seconds: float, tries: int, say: object) -> ClassResult:
        story.append(name)
        return class_result(per_second=80.0 if (20.0, 1.0) in story else 100.0)

    monkeypatch.setattr(direct, "measure", measure)
    stage: Any = Rough()
    results = await direct._measure_all(stage, ["bulk", "alone"], 1.0, LinkConditions(20.0, 1.0), 1, lambda line: None)
    assert story == ["bulk", "alone", (20.0, 1.0), "bulk", "alone", (0, 0)]
    assert (results["alone"].calm_per_second, results["alone"].kept) == (100.0, 0.8)


async def test_scale_measures_channels_first_and_then_hubs_on_a_core_each(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    homes: list[tuple[int, int | None]] = []

    @asynccontextmanager
    async def hub_stage(
        folder: str, channels: int, processes: int, say: object, *, home: int | None = None
    ) -> AsyncIterator[FakeStage]:
        homes.append((channels, home))
        yield FakeStage()

    monkeypatch.setattr(scale, "hub_stage", hub_stage)
    monkeypatch.setattr(scale, "CORES", 3)
    monkeypatch.setattr(direct, "capacity_control", lambda beside: 1.9)
    result = await scale.run_scale([1, 10], 99, 1.0, say=lambda line: None)
    assert homes == [(1, None), (10, None), (10, 0), (10, 0), (10, 1), (10, 0), (10, 1), (10, 2)]
    rows = [(row.hubs, row.channels, row.processes, row.cores) for row in result.rows]
    assert rows == [(1, 1, 2, 2), (1, 10, 2, 2), (1, 10, 2, 1), (2, 20, 4, 2), (3, 30, 6, 3)]
    assert [row.per_second for row in result.rows] == [2_000, 2_000, 2_000, 4_000, 6_000]
    assert result.control == 1.9


def scale_row(channels: int) -> ScaleRow:
    figures = dict.fromkeys(set(ScaleRow.__struct_fields__) - {"channels", "memory_kib"}, 1)
    return ScaleRow(channels=channels, memory_kib={"hub": 9_000, "peers 0": 9_000}, **figures)


def shown(what: Any) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def test_tables_show_every_class_and_what_conditions_left() -> None:
    assert "kept of it" not in shown(table(direct_result()))
    classes = {"bulk": class_result(kept=0.83, calm_per_second=1_234_567.0)}
    rough = shown(table(msgspec.structs.replace(direct_result(rtt_ms=20.0), classes=classes)))
    assert "20 ms of round trip" in rough and "83%" in rough and "1,234,567" in rough
    rows = [scale_row(1_000), scale_row(10)]
    assert "1,000" in shown(scale_table(scale.ScaleResult(control=1.9, rows=rows, seconds=1.0)))


def test_a_picture_without_matplotlib_is_refused_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MeasurementVoid, match=r"requirements-bench\.lock"):
        require_matplotlib()


@pytest.mark.parametrize("ending", FORMATS)
def test_a_picture_is_drawn_into_a_file(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")
    load = [LoadPoint(offered=rate, per_second=rate, p50_ms=2.0, p99_ms=9.0) for rate in (1_000.0, 50_000.0)]
    path = tmp_path / f"picture{ending}"
    draw(direct_result(load=load), path)
    assert 5_000 < path.stat().st_size < 200_000


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "300", "TERM": "dumb"})


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("direct --class fly", "unknown class fly"),
        ("direct --class bulk --channels 2", "only the class submitted"),
        ("direct --processes 3", "needs a channel at least"),
        ("direct --rtt -1", "--rtt"),
        ("direct --cuts 101", "--cuts"),
        ("direct --picture bench.gif", ".svg, .png, .pdf"),
        ("direct --picture bench.svg --class bulk", "needs the class submitted"),
        ("direct --picture bench.svg --channels 5", "one channel"),
        ("scale --channels 1,many", "with commas between"),
        ("scale --channels 0", "from 1 to"),
        ("scale --channels 10001", "from 1 to"),
        ("scale --cores 0", "--cores"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_it_begins(line: str, complaint: str) -> None:
    result = bench(*line.split())
    assert result.exit_code == 2
    assert complaint in result.output


def test_a_picture_that_cannot_be_drawn_is_refused_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = bench("direct", "--picture", "bench.svg")
    assert result.exit_code == 1
    assert "needs matplotlib" in result.output


def test_latencies_of_runs_and_of_single_payments_count_alike() -> None:
    latencies = Latencies()
    assert timing(latencies, 0.0) == {"count": 0, "seconds": 0.0, "per_second": 0.0, "p50_ms": 0.0, "p99_ms": 0.0}
    for milliseconds in range(100):
        latencies.one(milliseconds / 1e3)
    assert (latencies.percentile(50), latencies.percentile(99)) == (0.05, 0.099)
    latencies.run(0.002, 900)
    figures = timing(latencies, 2.0)
    assert (figures["count"], figures["per_second"], figures["p50_ms"]) == (1_000, 500, 2)
    assert figures["p99_ms"] == pytest.approx(90)
