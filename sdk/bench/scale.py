"""`tally bench scale`: how one hub does with more channels, and with more cores.

Submitted payments, flooded into every channel in turn. First by the number of channels: the hub on one core, all of
its peers on another. Then by cores, with one number of channels: everything on one core, then the peers on a core of
their own, then on two, and so on. One hub is one process, so it is what everything waits for in the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

from tallystick.sdk.bench.direct import measure
from tallystick.sdk.bench.results import ScaleResult, ScaleRow
from tallystick.sdk.bench.stage import CORES, Say, hub_stage

CHANNELS = (1, 10, 100, 1_000)
"""Numbers of channels that are measured."""

GROWTH_CHANNELS = 100
"""With how many channels the growth with cores is measured, or with the most that were asked for."""


async def run_scale(
    channels: Sequence[int], cores: int, seconds: float, *, directory: str | None = None, say: Say
) -> ScaleResult:
    """Measure each number of channels on two cores, then one of them on 1 to `cores` cores, for `seconds` each."""
    pair = min(2, CORES)
    rows = [await _row(count, 2, pair, seconds, directory, say) for count in channels]
    shared = min(GROWTH_CHANNELS, max(channels))
    for used in range(1, min(cores, CORES) + 1):
        processes = max(2, min(used, shared + 1))
        if not any((row.channels, row.processes, row.cores) == (shared, processes, used) for row in rows):
            rows.append(await _row(shared, processes, used, seconds, directory, say))
    return ScaleResult(control=min(row.control for row in rows), rows=rows, seconds=seconds)


async def _row(channels: int, processes: int, cores: int, seconds: float, directory: str | None, say: Say) -> ScaleRow:
    with tempfile.TemporaryDirectory(prefix="tally-bench-", dir=directory) as folder:
        async with hub_stage(folder, channels, processes, say, cores=cores) as stage:
            result = await measure(stage, "submitted", seconds, say)
            await stage.close_books()
    return ScaleRow(
        channels=channels,
        processes=processes,
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
