"""`tally bench ledger`: how many signed transactions the simulated ledger executes per second, and what helpers add.

After the protocol of the Block-STM paper: blocks of a thousand and ten thousand transactions of two to ten thousand
accounts (the fewer, the more they conflict), warm-ups, workers pinned to a core each. From raw bytes to a built block,
in turn: by one worker alone, by all, and (transfers) by another revision of this ledger (`--against`), whose sources
are taken from git and run by the same interpreter with the same libraries. Every block that helpers have built is
compared with the one that nobody has prepared: the whole record, and the state.
"""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tallystick.sdk.bench.control import CONTROL_MIN, capacity_control
from tallystick.sdk.bench.ledger_workloads import BLOCK_TIME, RULES, Workload, make_workload
from tallystick.sdk.errors import MeasurementVoid
from tallystick.settlement.ethereum.transactions import decode_transaction
from tallystick.settlement.execution.crew import open_crew
from tallystick.settlement.execution.prepared import ALONE, Crew
from tallystick.settlement.execution.processes import ProcessCrew
from tallystick.settlement.simulated.ledger import BlockRecord, Plan, build_block
from tallystick.settlement.simulated.raw_blocks import build_raw_block
from tallystick.settlement.simulated.world import Layer

BEFORE = "daa42bc"
"""The last revision that executed one by one."""

GAS_LIMIT = 10**12
"""All transactions fit into one block."""

ROUNDS = {1_000: 7, 10_000: 3}
"""By transactions of a block. One more, before, is not counted."""


HELPERS_SECONDS = 30.0
"""For which it is waited for helpers to be there."""


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One workload, of so many accounts, in blocks of one size. Rates are medians, the speed-up that of the ratios."""

    accounts: int
    block: int
    per_second: float
    sequential_per_second: float
    before_per_second: float | None
    speedup: float
    equal: bool
    """Whether the block and the state are those that the plain executor makes, to the last bit."""
    executions_per_transaction: float
    prepared_per_transaction: float
    """Above 1: prepared twice, as a helper was not ready."""
    control: float


class LedgerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One workload: medians over its rows."""

    per_second: float
    sequential_per_second: float
    speedup: float
    speedup_min: float
    equal: bool
    executions_per_transaction: float
    aborts_per_transaction: float
    rows: list[LedgerRow]


class BeforeFigures(msgspec.Struct, frozen=True):
    """What the other revision does, alone and one by one."""

    revision: str
    transfer_per_second: float | None


class LedgerResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints."""

    control: float
    """The lowest capacity control of all rows, of 2."""
    workers: int
    helpers: str
    """What works beside the owner of a block: processes, threads, or none."""
    before: BeforeFigures
    workloads: dict[str, LedgerFigures]

    @property
    def broken(self) -> list[str]:
        """Which results were not equal."""
        return [name for name, figures in self.workloads.items() if not figures.equal]


class Rival:
    """Another revision, in a process of its own, that decodes and executes transfers one by one when it is told to."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def load(self, workload: Workload) -> None:
        """Give it the transactions of the next measurements."""
        self._say(msgspec.json.encode([[raw.hex() for raw in workload.raws], [a.hex() for a in workload.accounts]]))

    def run(self) -> float:
        """Return in how many seconds it made a block of them."""
        return float(self._say(b""))

    def _say(self, line: bytes) -> bytes:
        if self._process.stdin is None or self._process.stdout is None:
            raise MeasurementVoid("the other revision's process has no pipes")
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise MeasurementVoid("the other revision's process has ended: see what it printed above")
        return answer


_RIVAL = """
import json, os, sys, time
try: os.sched_setaffinity(0, {0})
except OSError: pass
from tallystick.channels.protocol.objects import NATIVE
from tallystick.settlement.contract.state import Parameters
from tallystick.settlement.ethereum.transactions import decode_transaction
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.ledger import Mint, Plan, build_block, mint
from tallystick.settlement.simulated.world import Layer, apply_changes
rules = Parameters(1337, ADJUDICATOR)
for line in sys.stdin:
    if line.strip():
        raws, accounts = ([bytes.fromhex(each) for each in part] for part in json.loads(line))
        world, genesis = {}, Layer({})
        for account in accounts: mint(genesis, rules, Mint(account, NATIVE, 10**15))
        apply_changes(world, genesis.changes)
        print("loaded", flush=True)
        continue
    began = time.perf_counter()
    transactions = [decode_transaction(raw, 1337) for raw in raws]
    block = build_block(Layer(world), Plan(rules, None, 1000, 10**12), (), transactions)
    took = time.perf_counter() - began
    assert len(block.entries) == len(raws) and all(entry.execution.success for entry in block.entries)
    print(took, flush=True)
"""


@contextmanager
def open_rival(repository: Path, revision: str) -> Iterator[Rival | None]:
    """Give that revision of a git repository; None if it is not there."""
    with tempfile.TemporaryDirectory(prefix="tally-ledger-") as folder:
        archive = subprocess.run(["git", "-C", str(repository), "archive", revision], capture_output=True, check=False)
        if archive.returncode:
            yield None
            return
        subprocess.run(["tar", "--extract", "--directory", folder], input=archive.stdout, check=True)
        environment = {**os.environ, "PYTHONPATH": str(Path(folder) / "src")}
        command = [sys.executable, "-c", _RIVAL]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=folder
        ) as process:
            try:
                yield Rival(process)
            finally:
                process.kill()


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this thread on one core, where the system has such a thing."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    pin(core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pin(core: int, process: int = 0) -> None:
    """Keep a process (0: the calling thread) on a core, if there is such a one."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(process, {core if core < (os.cpu_count() or 1) else cores[0]})


def warm_up(crew: Crew) -> None:
    """Pin the helpers to the second core, and let them be there."""
    if isinstance(crew, ProcessCrew):
        crew.wait_ready(HELPERS_SECONDS)
        for helper in crew.helpers:
            pin(1, helper.process.pid)


def run_ledger(
    names: Sequence[str],
    accounts: Sequence[int],
    blocks: Sequence[int],
    *,
    against: str,
    repository: Path,
    tries: int,
    say: Callable[[str], None],
) -> LedgerResult:
    """Measure these workloads, each with so many accounts, in blocks of so many transactions, on two cores."""
    rows: dict[str, list[LedgerRow]] = {name: [] for name in names}
    with open_rival(repository, against) as rival, open_crew(1) as crew, pinned(0):
        warm_up(crew)
        if rival is None:
            say(f"{repository} is no git repository that has {against}: nothing is said of how it was before")
        for name in names:
            for count in accounts:
                for block in blocks:
                    workload = make_workload(name, count, block)
                    row = _measure(workload, crew, rival if name == "transfer" else None, tries)
                    rows[name].append(row)
                    say(
                        f"{name}, {count:,} accounts, blocks of {block:,}: {row.per_second:,.0f}/s, "
                        f"{row.speedup:.2f} x sequential, control {row.control:.2f}"
                    )
    before = [row.before_per_second for row in rows.get("transfer", ()) if row.before_per_second is not None]
    return LedgerResult(
        control=min(row.control for each in rows.values() for row in each),
        workers=2,
        helpers="processes" if isinstance(crew, ProcessCrew) else "none" if crew is ALONE else "threads",
        before=BeforeFigures(against, statistics.median(before) if before else None),
        workloads={name: _figures(each) for name, each in rows.items()},
    )


def _figures(rows: list[LedgerRow]) -> LedgerFigures:
    return LedgerFigures(
        per_second=statistics.median(row.per_second for row in rows),
        sequential_per_second=statistics.median(row.sequential_per_second for row in rows),
        speedup=statistics.median(row.speedup for row in rows),
        speedup_min=min(row.speedup for row in rows),
        equal=all(row.equal for row in rows),
        executions_per_transaction=statistics.mean(row.executions_per_transaction for row in rows),
        aborts_per_transaction=statistics.mean(row.executions_per_transaction for row in rows) - 1,
        rows=rows,
    )


def _measure(workload: Workload, crew: Crew, rival: Rival | None, tries: int) -> LedgerRow:
    """Measure until the machine had two free cores, or the tries are used up; return the best by its control."""
    if rival is not None:
        rival.load(workload)
    found: LedgerRow | None = None
    for _ in range(tries):
        row = _measure_once(workload, crew, rival)
        if found is None or row.control > found.control:
            found = row
        if found.control >= CONTROL_MIN:
            break
    if found is None:
        raise MeasurementVoid("nothing was measured")
    return found


def _measure_once(workload: Workload, crew: Crew, rival: Rival | None) -> LedgerRow:
    count = len(workload.raws)
    expected, state = _plainly(workload)
    control = capacity_control()
    sequential, parallel, before = [], [], []
    equal, again = True, 0
    rounds = next((ROUNDS[size] for size in sorted(ROUNDS) if count <= size), 3)
    for number in range(rounds + 1):
        order = ((False, ALONE), (True, crew)) if number % 2 else ((True, crew), (False, ALONE))
        took = {}
        for helped, each in order:
            gc.collect()
            layer = Layer(workload.world)
            began = time.perf_counter()
            block = build_raw_block(layer, _plan(), (), workload.raws, each)
            took[helped] = time.perf_counter() - began
            equal = equal and block.record == expected and list(layer.changes.items()) == state
            again += block.again
        taken = rival.run() if rival is not None else None
        if number:
            sequential.append(took[False])
            parallel.append(took[True])
            before += [taken] if taken is not None else []
    return LedgerRow(
        accounts=len(workload.accounts),
        block=count,
        per_second=count / statistics.median(parallel),
        sequential_per_second=count / statistics.median(sequential),
        before_per_second=count / statistics.median(before) if before else None,
        speedup=statistics.median(one / both for one, both in zip(sequential, parallel, strict=True)),
        equal=equal,
        executions_per_transaction=len(expected.entries) / count,
        prepared_per_transaction=1 + again / (count * (rounds + 1)),
        control=min(control, capacity_control()),
    )


def _plan() -> Plan:
    return Plan(RULES, None, BLOCK_TIME, GAS_LIMIT)


def _plainly(workload: Workload) -> tuple[BlockRecord, list[tuple[bytes, object]]]:
    """Return what the plain executor makes of it: each decoded, read and run before the next."""
    state = Layer(workload.world)
    decoded = (decode_transaction(raw, RULES.chain_id) for raw in workload.raws)
    record = build_block(state, _plan(), (), decoded)
    return record, list(state.changes.items())


def ledger_table(result: LedgerResult) -> Table:
    """Return the table of a `tally bench ledger`."""
    before = result.before.transfer_per_second
    caption = (
        f"signed transactions per second, from raw bytes to a built block; one worker, {result.workers} workers; "
        f"{f'{result.before.revision}: {before:,.0f} transfers/s; ' if before else ''}"
        f"capacity control {result.control:.2f} of 2"
    )
    table = Table(title="the simulated ledger", caption=caption, box=SIMPLE_HEAD, padding=0)
    table.add_column("workload")
    for heading in ("accounts", "block", "one/s", "all/s", "speed-up", "executions", "prepared", "equal", "control"):
        table.add_column(heading, justify="right")
    for name, figures in result.workloads.items():
        for row in figures.rows:
            table.add_row(
                name,
                f"{row.accounts:,}",
                f"{row.block:,}",
                f"{row.sequential_per_second:,.0f}",
                f"{row.per_second:,.0f}",
                f"{row.speedup:.2f}",
                f"{row.executions_per_transaction:.2f}",
                f"{row.prepared_per_transaction:.3f}",
                "yes" if row.equal else "NO",
                f"{row.control:.2f}",
            )
    return table
