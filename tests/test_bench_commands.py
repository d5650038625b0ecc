"""`tally bench`: what it prints is what it measured, and a node under load makes its updates larger instead of more."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from simulation.processes import TALLY, run
from tallystick.channels.storage.sqlite.channels import SCHEMA
from tallystick.channels.storage.writer import IDLE, Round, Writer
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.sdk.bench.network import check_line
from tallystick.sdk.bench.virtual import check_virtual
from tallystick.sdk.errors import MeasurementVoid

FIGURES = {
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
"""What every class of payment reports."""


async def bench(*arguments: str) -> dict[str, object]:
    code, output, errors = await run([*TALLY, "bench", *arguments, "--json"])
    assert code == 0, errors
    result: dict[str, object] = msgspec.json.decode(output)
    return result


@pytest.mark.processes
async def test_the_json_of_a_class_has_all_figures_and_says_how_durable_it_was(tmp_path: Path) -> None:
    conditions = ("--rtt", "2", "--cuts", "1", "--tries", "1")
    result = await bench("direct", "--class", "locked", "--seconds", "0.1", "--directory", str(tmp_path), *conditions)
    assert (result["rtt_ms"], result["cuts_percent"]) == (2, 1)
    assert set(result) >= {"control", "channels", "processes", "durability", "seconds"}
    assert (result["channels"], result["processes"], result["durability"]) == (1, 2, "full")
    assert isinstance(result["classes"], dict)
    locked = result["classes"]["locked"]
    assert set(locked) >= FIGURES
    assert all(locked[figure] > 0 for figure in FIGURES)
    assert locked["kept"] == locked["per_second"] / locked["calm_per_second"]
    assert set(locked["memory_kib"]) == {"payer", "payee"}


@pytest.mark.processes
async def test_a_hub_pays_through_every_channel_into_several_processes(tmp_path: Path) -> None:
    options = ("--channels", "7", "--processes", "3", "--seconds", "0.1", "--rtt", "2", "--tries", "1")
    result = await bench("direct", *options, "--directory", str(tmp_path))
    assert (result["channels"], result["processes"]) == (7, 3)
    assert isinstance(result["classes"], dict)
    assert result["classes"]["submitted"]["payments"] >= 7
    assert isinstance(result["memory_kib"], dict)
    assert set(result["memory_kib"]) == {"hub", "peers 0", "peers 1"}


async def rounds_and_turns(seconds_of_a_turn: float, rest: float) -> int:
    """Return how many turns another task gets between two rounds, of which the first asks for a rest."""
    clock = trio.testing.MockClock()
    writer = Writer(SimulatedDisk([SCHEMA]).open(), inline=True)
    turns, counted = 0, [0, 0]

    async def scene() -> None:
        nonlocal turns
        rounds = 0

        def prepare() -> Round:
            nonlocal rounds
            counted[min(rounds, 1)] = turns
            rounds += 1
            writer.wake()
            return Round(rest=rest)

        writer.before_commit(prepare)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            writer.wake()
            while rounds < 2:
                turns += 1
                clock.jump(seconds_of_a_turn)
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    await trio.to_thread.run_sync(lambda: trio.run(scene, clock=clock))
    return counted[1] - counted[0]


async def test_after_a_costly_round_others_work_for_as_long_as_was_asked() -> None:
    assert 45 <= await rounds_and_turns(0.001, 0.05) <= 55


async def test_nobody_waits_for_a_rest_when_there_is_nothing_to_do() -> None:
    assert await rounds_and_turns(IDLE / 10, 1_000.0) <= 8


@pytest.mark.processes
async def test_fairness_tells_what_a_quiet_channel_sees_of_a_flood(tmp_path: Path) -> None:
    result = await bench("fairness", "--seconds", "0.1", "--directory", str(tmp_path))
    assert isinstance(result["payments"], int) and result["payments"] > 0
    assert isinstance(result["flood_per_second"], float) and result["flood_per_second"] > 0
    assert set(result) == {"control", "p50_ms", "p99_ms", "payments", "flood_per_second", "seconds"}


@pytest.mark.processes
async def test_payments_over_several_hops_are_measured_alone_and_together(tmp_path: Path) -> None:
    options = ("--hops", "2", "--seconds", "0.1", "--in-flight", "20", "--tries", "1", "--directory", str(tmp_path))
    result = await bench("network", *options)
    figures = ("control", "per_second", "floor_per_second", "p50_ms", "p99_ms", "cpu_us_per_hop")
    assert all(isinstance(result[name], float) and result[name] > 0 for name in figures)
    assert (result["hops"], result["in_flight"], result["durability"]) == (2, 20, "full")


@pytest.mark.parametrize("change", [[-1_010, 5, 5, 1_001], [-1_010, 11, -1, 1_000], [-1_000, 0, 0, 1_000]])
def test_a_measurement_whose_books_do_not_balance_is_void(change: list[int]) -> None:
    check_line([-1_010, 5, 5, 1_000], 1_000, 10)
    with pytest.raises(MeasurementVoid):
        check_line(change, 1_000, 10)


@pytest.mark.processes
@pytest.mark.parametrize("hubs", [1, 2])
async def test_virtual_channels_are_measured_beside_a_channel_with_deposits(tmp_path: Path, hubs: int) -> None:
    options = ("--rounds", "1", "--seconds", "0.2", "--openings", "2", "--tries", "1", "--class", "awaited")
    result = await bench("virtual", *options, "--hubs", str(hubs), "--directory", str(tmp_path))
    figures = ("control", "virtual_per_second", "direct_per_second", "ratio", "open_p50_ms", "close_p50_ms")
    assert all(isinstance(result[name], float) and result[name] > 0 for name in figures)
    assert isinstance(result["payments"], int) and result["payments"] > 0
    assert (result["hubs"], result["hub_signatures"], result["openings"], result["transactions"]) == (hubs, 0, 2, 0)
    assert (result["kind"], result["rounds"], result["durability"]) == ("awaited", 1, "full")


@pytest.mark.parametrize("change", [[-1_000, 0, 1_001], [-1_001, 0, 1_000], [-1_001, 1, 1_000], [-1_000, 1, -1, 1_000]])
def test_the_books_of_a_virtual_channel_say_what_went_wrong(change: list[int]) -> None:
    check_virtual([-1_000, 0, 1_000], 1_000)
    check_virtual([-1_000, 0, 0, 1_000], 1_000)
    with pytest.raises(MeasurementVoid, match="the books do not balance"):
        check_virtual(change, 1_000)
