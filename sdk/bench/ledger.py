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
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tallystick.sdk.bench.control import CONTROL_MIN, capacity_control
from tallystick.sdk.bench.ledger_rival import Rival, open_rival
from tallystick.sdk.bench.ledger_workloads import BLOCK_TIME, RULES, Workload, make_workload
from tallystick.settlement.ethereum.transactions import decode_transaction
from tallystick.settlement.execution.crew import open_crew
from tallystick.settlement.execution.prepared import ALONE, Crew
from tallystick.settlement.execution.processes import ProcessCrew
from tallystick.settlement.execution.threads import ThreadCrew
from tallystick.settlement.simulated.access import Contention, RecordingLayer, contention
from tallystick.settlement.simulated.ledger import BlockRecord, Plan, build_block
from tallystick.settlement.simulated.raw_blocks import build_raw_block
from tallystick.settlement.simulated.world import Layer

BEFORE = "daa42bc"
"""The last revision that executed one by one."""

GAS_LIMIT = 10**12
"""All transactions fit into one block."""

ROUNDS = {1_000: 5, 10_000: 3}
"""By transactions of a block. One more, before, is not counted."""

ROUNDS_MIN = 2
"""On a machine that is late."""

LARGE = 10_000
"""Blocks of so many transactions are measured with the most accounts alone, unless a size is asked for."""

SECONDS = 190.0
"""For which all rows last, about."""

LATE_SECONDS = 10.0
"""Behind its time, that is nothing yet."""

CONTROL_SECONDS = 0.25
"""For which each half of a control lasts, before and after a row."""

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
    of_control: float
    """The speed-up, as a part of what the machine had to give."""
    cpu_speedup: float
    """What two free cores would make of it, by the CPU time of all workers: whatever else the machine does."""
    sequential_us: float
    """CPU time of a transaction, one worker, in microseconds."""
    workers_us: float
    """The same of all workers together."""
    equal: bool
    """Whether the block and the state are those that the plain executor makes, to the last bit."""
    executions_per_transaction: float
    prepared_per_transaction: float
    """Above 1: prepared twice, as a helper was not ready."""
    dependent: float
    """The part of the transactions that read what an earlier one of the block wrote, fees aside."""
    longest: int
    """The longest row of transactions of which each depends on the one before."""
    control: float
    """How much two processes did against one, before and after."""


class LedgerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One workload: medians over its rows."""

    per_second: float
    sequential_per_second: float
    speedup: float
    speedup_min: float
    of_control: float
    cpu_speedup: float
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
    elif isinstance(crew, ThreadCrew):
        crew.each(lambda: pin(1))  # a thread begins on its maker's core


def run_ledger(
    names: Sequence[str],
    accounts: Sequence[int],
    blocks: Sequence[int] = (),
    *,
    against: str,
    repository: Path,
    tries: int,
    seconds: float = SECONDS,
    say: Callable[[str], None],
) -> LedgerResult:
    """Measure these workloads, each with so many accounts, in blocks of so many transactions, on two cores.

    Without `blocks`: of a thousand, and with the most accounts also of ten thousand. `seconds` are for all rows.
    """
    sizes = [(count, block) for count in accounts for block in blocks or (1_000, LARGE)]
    if not blocks:
        sizes = [(count, block) for count, block in sizes if block != LARGE or count == max(accounts)]
    pace = Pace(len(names) * len(sizes), seconds, tries)
    rows: dict[str, list[LedgerRow]] = {name: [] for name in names}
    with open_rival(repository, against) as rival, open_crew(1) as crew, pinned(0):
        warm_up(crew)
        if rival is None:
            say(f"{repository} is no git repository that has {against}: nothing is said of how it was before")
        for name in names:
            for count, block in sizes:
                if pace.is_late and not blocks and block == LARGE:
                    say(f"{name}, {count:,} accounts, blocks of {block:,}: left out, as the machine is slow")
                    pace.on_row()
                    continue
                workload = make_workload(name, count, block)
                row = _measure(workload, crew, rival if name == "transfer" else None, pace)
                rows[name].append(row)
                say(
                    f"{name}, {count:,} accounts, blocks of {block:,}: {row.per_second:,.0f}/s, "
                    f"{row.speedup:.2f} x sequential ({row.cpu_speedup:.2f} by CPU time), control {row.control:.2f}"
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
        of_control=statistics.median(row.of_control for row in rows),
        cpu_speedup=statistics.median(row.cpu_speedup for row in rows),
        equal=all(row.equal for row in rows),
        executions_per_transaction=statistics.mean(row.executions_per_transaction for row in rows),
        aborts_per_transaction=statistics.mean(row.executions_per_transaction for row in rows) - 1,
        rows=rows,
    )


def cpu_time(crew: Crew) -> float:
    """Return how many seconds of CPU time this process and its helpers have had."""
    helpers = crew.helpers if isinstance(crew, ProcessCrew) and sys.platform == "linux" else ()
    clocks = [(~helper.process.pid << 3) | _PROCESS_CLOCK for helper in helpers if not helper.ended]
    return time.process_time() + sum(map(time.clock_gettime, clocks))


_PROCESS_CLOCK = 2
"""Marks the clock of a process in Linux's ids of clocks."""


class Pace:
    """How much time there is: a machine that is busy gets fewer rounds and tries, and the whole ends in time."""

    def __init__(self, rows: int, seconds: float, tries: int) -> None:
        self._began = time.monotonic()
        self._rows = rows
        self._seconds = seconds
        self._tries = tries
        self._done = 0

    def rounds(self, block: int) -> int:
        """Return how often the next row is measured."""
        return ROUNDS_MIN if self.is_late else next((ROUNDS[size] for size in sorted(ROUNDS) if block <= size), 3)

    def tries(self) -> int:
        """Return how often it may be repeated for a better control."""
        return 1 if self.is_late else self._tries

    def on_row(self) -> None:
        """Count one."""
        self._done += 1

    @property
    def is_late(self) -> bool:
        """Whether more time went by than is due."""
        return time.monotonic() - self._began > self._seconds * self._done / self._rows + LATE_SECONDS


def _measure(workload: Workload, crew: Crew, rival: Rival | None, pace: Pace) -> LedgerRow:
    """Measure until the machine had two free cores, or the tries are used up; return the best by its control."""
    if rival is not None:
        rival.load(workload)
    plain = _plainly(workload)
    found = _measure_once(workload, plain, crew, rival, pace.rounds(len(workload.raws)))
    tried = 1
    while found.control < CONTROL_MIN and tried < pace.tries():
        row = _measure_once(workload, plain, crew, rival, pace.rounds(len(workload.raws)))
        found = max(found, row, key=lambda row: row.control)
        tried += 1
    pace.on_row()
    return found


def _measure_once(workload: Workload, plain: PlainBlock, crew: Crew, rival: Rival | None, rounds: int) -> LedgerRow:
    count = len(workload.raws)
    control = capacity_control(CONTROL_SECONDS)
    sequential, parallel, before = [], [], []
    spent = {False: 0.0, True: 0.0}
    equal, again = True, 0
    for number in range(rounds + 1):
        order = ((False, ALONE), (True, crew)) if number % 2 else ((True, crew), (False, ALONE))
        took = {}
        for helped, each in order:
            gc.collect()
            layer = Layer(workload.world)
            busy = cpu_time(crew)
            began = time.perf_counter()
            block = build_raw_block(layer, _plan(), (), workload.raws, each)
            took[helped] = time.perf_counter() - began
            spent[helped] += cpu_time(crew) - busy if number else 0
            equal = equal and block.record == plain.record and list(layer.changes.items()) == plain.state
            again += block.again
        taken = rival.run() if rival is not None else None
        if number:
            sequential.append(took[False])
            parallel.append(took[True])
            before += [taken] if taken is not None else []
    control = (control + capacity_control(CONTROL_SECONDS)) / 2
    speedup = statistics.median(one / both for one, both in zip(sequential, parallel, strict=True))
    return LedgerRow(
        accounts=len(workload.accounts),
        block=count,
        per_second=count / statistics.median(parallel),
        sequential_per_second=count / statistics.median(sequential),
        before_per_second=count / statistics.median(before) if before else None,
        speedup=speedup,
        of_control=speedup / control,
        cpu_speedup=2 * spent[False] / spent[True],
        sequential_us=spent[False] * 1e6 / (count * rounds),
        workers_us=spent[True] * 1e6 / (count * rounds),
        equal=equal,
        executions_per_transaction=len(plain.record.entries) / count,
        prepared_per_transaction=1 + again / (count * (rounds + 1)),
        dependent=plain.contention.dependent,
        longest=plain.contention.longest,
        control=control,
    )


class PlainBlock(NamedTuple):
    """What the plain executor makes: each decoded, read and run before the next."""

    record: BlockRecord
    state: list[tuple[bytes, object]]
    contention: Contention


def _plan() -> Plan:
    return Plan(RULES, None, BLOCK_TIME, GAS_LIMIT)


def _plainly(workload: Workload) -> PlainBlock:
    state = RecordingLayer(workload.world)
    decoded = (decode_transaction(raw, RULES.chain_id) for raw in workload.raws)
    record = build_block(state, _plan(), (), state.each(decoded))
    return PlainBlock(record, list(state.changes.items()), contention(state.accesses))


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
    for heading in ("accounts", "block", "one/s", "all/s", "×", "× of CPU", "dependent", "longest", "equal", "control"):
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
                f"{row.cpu_speedup:.2f}",
                f"{row.dependent:.0%}",
                f"{row.longest:,}",
                "yes" if row.equal else "NO",
                f"{row.control:.2f}",
            )
    return table
