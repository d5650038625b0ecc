"""`tally bench ledger` measures what it says: small blocks, all workloads, and blocks that differ are told."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from tallystick.sdk.bench import ledger
from tallystick.sdk.bench.ledger import LedgerResult, Pace, ledger_table, run_ledger
from tallystick.sdk.bench.ledger_rival import open_rival
from tallystick.sdk.bench.ledger_workloads import RULES, WORKLOADS, make_workload
from tallystick.sdk.cli.bench import app
from tallystick.settlement.ethereum.transactions import decode_transaction
from tallystick.settlement.execution.crew import has_lock, open_crew
from tallystick.settlement.execution.prepared import ALONE
from tallystick.settlement.execution.processes import open_processes
from tallystick.settlement.execution.threads import open_threads
from tallystick.settlement.simulated.world import check_conservation

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No control of 0.8 s in each row, and no processes."""
    monkeypatch.setattr(ledger, "capacity_control", lambda seconds: 2.0)
    monkeypatch.setattr(ledger, "ROUNDS", {10**9: 1})
    monkeypatch.setattr(ledger, "open_crew", lambda helpers: nullcontext(ALONE))


def measure(names: list[str], repository: Path) -> LedgerResult:
    return run_ledger(names, [2, 10], [20], against="HEAD", repository=repository, tries=1, say=lambda text: None)


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("accounts", [2, 10])
def test_a_workload_is_valid_and_its_state_conserves_coins(name: str, accounts: int) -> None:
    workload = make_workload(name, accounts, 31)
    assert len(workload.raws) == 31 and len(set(workload.raws)) == 31
    assert {decode_transaction(raw, RULES.chain_id).sender for raw in workload.raws} <= set(workload.accounts)
    check_conservation({}, workload.world, RULES.contract)
    record = ledger._plainly(workload).record
    assert [entry.execution.success for entry in record.entries] == [True] * 31
    assert make_workload(name, accounts, 31) == workload


def test_all_workloads_are_measured_and_equal(tmp_path: Path) -> None:
    result = measure(list(WORKLOADS), tmp_path)
    assert set(result.workloads) == set(WORKLOADS) and not result.broken
    for figures in result.workloads.values():
        assert figures.equal and figures.executions_per_transaction == 1 and figures.aborts_per_transaction == 0
        assert [row.accounts for row in figures.rows] == [2, 10]
        assert min(figures.per_second, figures.sequential_per_second, figures.speedup) > 0
    assert result.before.transfer_per_second is None, "there is no repository"
    assert ledger_table(result).row_count == 2 * len(WORKLOADS)


def test_large_blocks_are_measured_with_the_most_accounts_unless_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ledger, "LARGE", 30)
    made = ledger.make_workload
    monkeypatch.setattr(ledger, "make_workload", lambda name, accounts, count: made(name, accounts, min(count, 40)))
    done = run_ledger(["transfer"], [2, 10], against="HEAD", repository=tmp_path, tries=1, say=lambda text: None)
    assert [(row.accounts, row.block) for row in done.workloads["transfer"].rows] == [(2, 40), (10, 40), (10, 30)]


def test_what_depends_on_what_is_told() -> None:
    one, many = (ledger._plainly(make_workload(name, 200, 64)).contention for name in ("swap", "swaps"))
    assert one.longest == 64 and one.dependent == 63 / 64, "in one pool each waits for the one before"
    assert many.longest < 12 and 0.2 < many.dependent < 0.8


def test_a_busy_machine_gets_fewer_rounds_and_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "ROUNDS", {1_000: 5, 10_000: 3})
    clock = [0.0]
    monkeypatch.setattr(ledger.time, "monotonic", lambda: clock[0])
    pace = Pace(10, 100.0, 3)
    assert (pace.rounds(1_000), pace.rounds(10_000), pace.rounds(20_000), pace.tries()) == (5, 3, 3, 3)
    clock[0] = ledger.LATE_SECONDS + 1
    assert (pace.rounds(1_000), pace.tries()) == (ledger.ROUNDS_MIN, 1)
    assert pace.is_late
    pace.on_row()
    assert (pace.rounds(1_000), pace.tries()) == (5, 3) and not pace.is_late, "ten seconds were its share"


def test_helpers_are_waited_for_and_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ledger, "open_crew", open_crew)
    result = run_ledger(["transfer"], [2], [40], against="HEAD", repository=tmp_path, tries=1, say=lambda text: None)
    assert result.helpers == ("processes" if has_lock() else "threads") and not result.broken
    with open_processes(1) as crew:
        crew.wait_ready(60)
        before = ledger.cpu_time(ALONE)
        assert ledger.cpu_time(crew) > before + 0.05, "its helpers' start is in it"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2, reason="there is one core")
def test_helpers_that_are_threads_get_a_core_of_their_own() -> None:
    with open_threads(2) as crew, ledger.pinned(0):
        ledger.warm_up(crew)
        cores: list[tuple[int, set[int]]] = []
        crew.each(lambda: cores.append((threading.get_ident(), os.sched_getaffinity(0))))
        own = os.sched_getaffinity(0)
    assert own == {0} and [each for _, each in cores] == [{1}, {1}]
    assert len({thread for thread, _ in cores}) == 2, "each of them once"


def test_a_block_that_is_not_equal_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    workload = make_workload("transfer", 2, 3)
    other = ledger._plainly(make_workload("transfer", 2, 3, seed=2))
    monkeypatch.setattr(ledger, "_plainly", lambda workload: other)
    monkeypatch.setattr(ledger, "make_workload", lambda name, accounts, count: workload)
    assert measure(["transfer"], tmp_path).broken == ["transfer"]


@pytest.mark.soak
def test_another_revision_runs_beside(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a"]
    subprocess.run([*git, "init", "-q"], check=True)
    for name in ("src", "channels", "settlement", "router", "watchtower", "paid", "sdk", "contracts"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(tmp_path)], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "all"], check=True)
    assert (measure(["transfer"], tmp_path).before.transfer_per_second or 0) > 0
    with open_rival(tmp_path, "no-such-revision") as rival:
        assert rival is None


def test_the_command_prints_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["ledger", "--workload", "transfer", "--accounts", "2", "--block", "10", "--json"]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    printed = msgspec.json.decode(done.stdout.splitlines()[-1])
    assert printed["control"] == 2.0 and printed["before"] == {"revision": "daa42bc", "transfer_per_second": None}
    assert printed["workloads"]["transfer"]["equal"] is True
    for wrong in (["--workload", "none"], ["--accounts", "1"], ["--block", "x"]):
        assert CliRunner().invoke(app, ["ledger", *wrong]).exit_code == 2
