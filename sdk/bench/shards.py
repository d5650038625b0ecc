"""`tally bench shards`: what two shards on two cores do against one shard on one core, in turn in one run.

Each shard is a process of its own that takes signed transfers at its door, executes them in blocks and commits those to
its disk, all on one core. One shard with its transfers, then two shards with as many each, are measured in turn,
several times; then two shards of whose transfers a part goes to the other one, with all that it takes until the last
receipt is executed there. A capacity control brackets each round: below 1.75 the machine was busy with something else,
and the round does not count. No round is begun that would end after the time limit. What each shard used of its core's
time is told besides: it does not depend on others.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import trio
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tallystick.sdk.bench.control import CONTROL_MIN, capacity_control
from tallystick.sdk.bench.launcher import DriverProcess, open_processes
from tallystick.sdk.bench.shard_worker import ShardWorkerOptions
from tallystick.sdk.errors import MeasurementVoid

Say = Callable[..., None]


class ShardsRound(msgspec.Struct, frozen=True):
    """One round: transfers/s by the clock, and what two do against one by CPU time."""

    control: float
    one: float
    two: float
    mixed: float
    cpu_two: float
    cpu_mixed: float


class ShardsResult(msgspec.Struct, frozen=True):
    """What `tally bench shards` found."""

    control: float
    """The lowest capacity control of the rounds that count, of 2."""
    control_reached: bool
    """Whether any round had a control of 1.75. Else all count, and rates by the clock say nothing of two shards."""
    rounds: int
    """That count."""
    block: int
    transfers: int
    """Of one shard in one run."""
    one_per_second: float
    """Local transfers of one shard alone: the median of the rounds."""
    two_per_second: float
    """Local transfers of two shards together."""
    speedup: float
    """The median of the rounds' ratios."""
    cross_percent: int
    mixed_per_second: float
    """Of two shards together, of which `cross_percent` go to the other one, until the last is executed there."""
    mixed_speedup: float
    """That, against one shard alone."""
    cpu_speedup: float
    """What two do against one by the CPU time of the busier process for each transfer, of all rounds."""
    mixed_cpu_speedup: float
    measured: tuple[ShardsRound, ...]
    """All rounds, those that do not count too."""
    seconds: float
    """Of the whole measurement."""
    durability: str = "full"
    processes: int = 2
    """Shards at most, each one process on one core."""


class _Took(NamedTuple):
    seconds: float
    cpu: float
    """Seconds of CPU time of the busier shard."""


async def run_shards(
    block: int, blocks: int, cross_percent: int, rounds: int, tries: int, limit: float, directory: str, say: Say
) -> ShardsResult:
    """Measure on disk under `directory`, for some `limit` seconds. Raise MeasurementVoid if books do not balance."""
    every, found, longest = list[ShardsRound](), list[ShardsRound](), 0.0
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        async with open_processes() as processes:
            workers = []
            for number in range(2):
                options = ShardWorkerOptions(number=number, cpu=number, directory=folder, block=block, blocks=blocks)
                command = ["-m", "tallystick.sdk.bench.shard_worker", msgspec.json.encode(options).decode()]
                workers.append(await processes.start(f"shard {number}", command))
            say(f"signing {4 * block * blocks:,} transactions")
            for percent in (0, cross_percent):
                await _each(workers, "sign", percent=percent)
            for _ in range(rounds * tries):
                at = time.perf_counter()
                every.append(await _round(workers, block * blocks, blocks, cross_percent, say))
                longest = max(longest, time.perf_counter() - at)
                found = [each for each in every if each.control >= CONTROL_MIN]
                if len(found) == rounds or time.perf_counter() - began + longest > limit:
                    break
    reached = bool(found)
    if not reached:
        say(
            f"no round of {len(every)} had a capacity control of {CONTROL_MIN}: other programs took a core. What the "
            "clock says is void, and only CPU times count"
        )
        found = every
    one = statistics.median(each.one for each in found)
    mixed = statistics.median(each.mixed for each in found)
    return ShardsResult(
        control=min(each.control for each in found),
        control_reached=reached,
        rounds=len(found),
        block=block,
        transfers=block * blocks,
        one_per_second=one,
        two_per_second=statistics.median(each.two for each in found),
        speedup=statistics.median(each.two / each.one for each in found),
        cross_percent=cross_percent,
        mixed_per_second=mixed,
        mixed_speedup=statistics.median(each.mixed / each.one for each in found),
        cpu_speedup=statistics.median(each.cpu_two for each in every),
        mixed_cpu_speedup=statistics.median(each.cpu_mixed for each in every),
        measured=tuple(every),
        seconds=round(time.perf_counter() - began, 1),
    )


async def _round(workers: Sequence[DriverProcess], transfers: int, blocks: int, percent: int, say: Say) -> ShardsRound:
    """Measure one shard, two, and two that send to each other."""
    before = await trio.to_thread.run_sync(capacity_control)
    one = await _local(workers[:1], blocks)
    two = await _local(workers, blocks)
    mixed = await _mixed(workers, transfers, blocks, percent)
    control = min(before, await trio.to_thread.run_sync(capacity_control))
    rates = (transfers / one.seconds, 2 * transfers / two.seconds, 2 * transfers / mixed.seconds)
    by_cpu = (2 * one.cpu / two.cpu, 2 * one.cpu / mixed.cpu)
    told = ", ".join(f"{rate:,.0f}/s" for rate in rates)
    say(
        f"control {control:.2f}: one, two, two with {percent} % across: {told}; by CPU {by_cpu[0]:.2f}, {by_cpu[1]:.2f}"
    )
    return ShardsRound(control, *rates, *by_cpu)


async def _local(workers: Sequence[DriverProcess], blocks: int) -> _Took:
    """Return what it took from the first transfer to the last commit of the slowest shard."""
    await _each(workers, "begin", percent=0)
    began = time.perf_counter()
    answers = await _each(workers, "step", blocks=blocks, parcels=[])
    return _Took(time.perf_counter() - began, max(answer["cpu"] for answer in answers))


async def _mixed(workers: Sequence[DriverProcess], transfers: int, blocks: int, percent: int) -> _Took:
    """Return what it took until the last receipt is executed: parcels are carried after each block."""
    await _each(workers, "begin", percent=percent)
    parcels: list[list[str]] = [[], []]
    executed, crossing, steps = [0, 0], transfers * percent // 100, 0
    cpu = [0.0, 0.0]
    began = time.perf_counter()
    while steps < blocks or min(executed) < crossing:
        answers = await _each(workers, "step", *({"parcels": each} for each in parcels), blocks=1)
        parcels = [answer["parcels"] for answer in reversed(answers)]
        executed = [answer["executed"] for answer in answers]
        cpu = [used + answer["cpu"] for used, answer in zip(cpu, answers, strict=True)]
        steps += 1
    seconds = time.perf_counter() - began
    for answer in await _each(workers, "count"):
        if (answer["done"], answer["sent"], answer["executed"]) != (transfers, crossing, crossing):
            raise MeasurementVoid(f"the books do not balance: {answer} of {transfers} transfers, {crossing} across")
    return _Took(seconds, max(cpu))


async def _each(
    workers: Sequence[DriverProcess], do: str, *given: dict[str, Any], **arguments: Any
) -> list[dict[str, Any]]:
    """Ask all at the same time; `given` is for one each. Return their answers in order."""
    answers: dict[int, dict[str, Any]] = {}

    async def ask(number: int) -> None:
        own = given[number] if given else {}
        answers[number] = await workers[number].ask(do, **arguments, **own)

    async with trio.open_nursery() as nursery:
        for number in range(len(workers)):
            nursery.start_soon(ask, number)
    return [answers[number] for number in range(len(workers))]


def shards_table(result: ShardsResult) -> Table:
    """Return the table of a `tally bench shards`."""
    caption = f"medians of {result.rounds} rounds; lowest capacity control {result.control:.2f} of 2"
    if not result.control_reached:
        caption += f": below {CONTROL_MIN} in all, so transfers/s are void, and only CPU time counts"
    rows = Table(
        title=f"transfers in blocks of {result.block:,}, each shard one process on one core, synchronous=FULL",
        caption=caption,
        box=SIMPLE_HEAD,
    )
    rows.add_column("shards and load")
    rows.add_column("transfers/s", justify="right")
    rows.add_column("against one", justify="right")
    rows.add_column("by CPU time", justify="right")
    rows.add_row("one, local", f"{result.one_per_second:,.0f}", "", "")
    rows.add_row("two, local", f"{result.two_per_second:,.0f}", f"{result.speedup:.2f}", f"{result.cpu_speedup:.2f}")
    mixed = f"two, {result.cross_percent} % to the other"
    rows.add_row(
        mixed, f"{result.mixed_per_second:,.0f}", f"{result.mixed_speedup:.2f}", f"{result.mixed_cpu_speedup:.2f}"
    )
    return rows
