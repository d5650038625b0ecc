"""`tally bench scale`: how submitted payments grow with channels, and with cores.

First by the number of channels: one hub floods all of its channels in turn, its peers share another process on another
core. Then by cores: one such pair of processes on one core, two pairs on two, and so on, all at the same time. Channels
share nothing but their node, so whoever needs more than a core does it that way: with more nodes.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import trio

from tallystick.sdk.bench.direct import TRIES, measure
from tallystick.sdk.bench.results import ScaleResult, ScaleRow
from tallystick.sdk.bench.stage import CORES, Say, Stage, hub_stage

GROWTH_CHANNELS = 100
"""Channels of each hub where the growth with cores is measured, or the most that were asked for."""

PAIR = 2
"""Processes: a hub, and its peers."""


class Together(Stage):
    """Several stages that are measured as one, at the same time."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages
        self.primitives = stages[0].primitives

    async def pay(self, kind: str, seconds: float, **more: Any) -> dict[str, Any]:
        """As one stage does: sums of counts, the longest time, the worst latency, the median batch."""
        sent: list[dict[str, Any]] = []

        async def one(stage: Stage) -> None:
            sent.append(await stage.pay(kind, seconds, **more))

        async with trio.open_nursery() as nursery:
            for stage in self._stages:
                nursery.start_soon(one, stage)
        total: dict[str, Any] = {
            key: sum(each[key] for each in sent)
            for key in ("count", "commits", "signatures", "bytes", "cpu", "updates", "cut")
        }
        total |= {key: max(each[key] for each in sent) for key in ("seconds", "p50_ms", "p99_ms")}
        total["per_second"] = total["count"] / total["seconds"]
        total["batch_median"] = statistics.median(each["batch_median"] for each in sent)
        return total

    async def counters(self) -> dict[str, float]:
        """The sums over all stages."""
        counters = [await stage.counters() for stage in self._stages]
        return {key: sum(each[key] for each in counters) for key in counters[0]}

    async def memory(self) -> dict[str, int]:
        """Of every process; names get the number of their stage, if there are several."""
        found = [await stage.memory() for stage in self._stages]
        if len(found) == 1:
            return found[0]
        return {f"{name} {number}": kib for number, each in enumerate(found) for name, kib in each.items()}

    async def close_books(self) -> None:
        """Of all stages."""
        for stage in self._stages:
            await stage.close_books()


async def run_scale(
    channels: Sequence[int], cores: int, seconds: float, *, directory: str | None = None, say: Say
) -> ScaleResult:
    """Measure each number of channels, then growth over 1 to `cores` cores (at most this machine's)."""
    rows = [await _row(count, [None], min(PAIR, CORES), seconds, directory, say) for count in channels]
    each = min(GROWTH_CHANNELS, max(channels))
    for used in range(1, min(cores, CORES) + 1):
        rows.append(await _row(each, list(range(used)), used, seconds, directory, say))
    return ScaleResult(control=min(row.control for row in rows), rows=rows, seconds=seconds)


async def _row(
    channels: int, homes: Sequence[int | None], cores: int, seconds: float, directory: str | None, say: Say
) -> ScaleRow:
    """Measure as many hubs as there are `homes`, each with that many channels."""
    async with AsyncExitStack() as stack:
        stages: list[Stage] = []
        for home in homes:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tally-bench-", dir=directory))
            stages.append(await stack.enter_async_context(hub_stage(folder, channels, PAIR, say, home=home)))
        together = Together(stages)
        result = await measure(together, "submitted", seconds, TRIES, say)
        await together.close_books()
    return ScaleRow(
        hubs=len(stages),
        channels=channels * len(stages),
        processes=PAIR * len(stages),
        cores=cores,
        per_second=result.per_second,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        batch_median=result.batch_median,
        signatures_per_second=result.signatures_per_second,
        commits_per_second=result.commits_per_second,
        cpu_us_per_payment=result.cpu_us_per_payment,
        memory_kib=result.memory_kib,
        control=result.control,
    )
