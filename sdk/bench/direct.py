"""`tally bench direct`: how fast two parties pay each other over one channel, durably, over loopback TCP.

The whole product is in the path: nodes with their stores (`synchronous=FULL`), a simulated chain served over
JSON-RPC, links encrypted with Noise. Payer and payee are processes, pinned to a core each. Each class of payment is
bracketed by the capacity control, and at the end the books of both sides must say that each payment came once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import msgspec
import trio

from tallystick.sdk.bench.control import CONTROL_MIN, CONTROL_SECONDS, Primitives, capacity_control
from tallystick.sdk.bench.kinds import KINDS, OFFERED
from tallystick.sdk.bench.results import ClassResult, DirectResult, FairnessResult, LoadPoint
from tallystick.sdk.bench.stage import WARM_UP, Say, Stage, hub_stage, pair_stage

CLASSES = tuple(KINDS)
"""The classes that can be measured."""

TRIES = 3
"""Tries for a run whose capacity control is good enough, at most."""

TRIES_SECONDS = 9.0
"""What all tries of a class may take together; a second one is made in any case."""

LOADS = (0.02, 0.1, 0.25, 0.5, 0.7, 0.85, 1.0, 1.15)
"""Rates at which payments are offered for the picture, as parts of what the class `submitted` reached."""


class LinkConditions(msgspec.Struct, frozen=True):
    """What is done to the links (see `network_conditions`)."""

    rtt_ms: float = 0.0
    cuts: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.rtt_ms or self.cuts)


FAIR = LinkConditions()


async def run_direct(
    classes: Sequence[str],
    seconds: float,
    *,
    directory: str | None = None,
    conditions: LinkConditions = FAIR,
    loads: Sequence[float] = (),
    tries: int = TRIES,
    say: Say,
) -> DirectResult:
    """Measure these classes for `seconds` each. `say` is told how it goes.

    Under `conditions`, every class is measured without them first. With `loads`, payments are also offered at these
    parts of the rate of `submitted`, which must be among the classes. Raise MeasurementVoid if payments got lost.
    """
    with tempfile.TemporaryDirectory(prefix="tally-bench-", dir=directory) as folder:
        async with pair_stage(folder, say, rough=bool(conditions)) as stage:
            results = await _measure_all(stage, classes, seconds, conditions, tries, say)
            points = await _offer_all(stage, [load * results["submitted"].per_second for load in loads], seconds, say)
            await stage.close_books()
            return _summary(stage, results, seconds, conditions, await stage.memory(), load=points)


async def run_hub(
    channels: int,
    processes: int,
    seconds: float,
    *,
    directory: str | None = None,
    conditions: LinkConditions = FAIR,
    tries: int = TRIES,
    say: Say,
) -> DirectResult:
    """Measure submitted payments from one process over that many channels, whose peers fill the other processes."""
    with tempfile.TemporaryDirectory(prefix="tally-bench-", dir=directory) as folder:
        async with hub_stage(folder, channels, processes, say, rough=bool(conditions)) as stage:
            results = await _measure_all(stage, ["submitted"], seconds, conditions, tries, say)
            await stage.close_books()
            memory = await stage.memory()
            return _summary(stage, results, seconds, conditions, memory, channels=channels, processes=processes)


async def run_fairness(seconds: float, *, directory: str | None = None, say: Say) -> FairnessResult:
    """Flood one channel of a hub, and measure payments in another one, whose peer is in the same process."""
    with tempfile.TemporaryDirectory(prefix="tally-bench-", dir=directory) as folder:
        async with hub_stage(folder, 2, 2, say) as stage:
            before = await trio.to_thread.run_sync(capacity_control, seconds)
            sent = await stage.payer.ask("fairness", seconds=seconds)
            control = min(before, await trio.to_thread.run_sync(capacity_control, seconds))
    return FairnessResult(
        control=control,
        p50_ms=sent["p50_ms"],
        p99_ms=sent["p99_ms"],
        payments=sent["count"],
        flood_per_second=sent["flood_per_second"],
        seconds=seconds,
    )


def _summary(
    stage: Stage,
    results: dict[str, ClassResult],
    seconds: float,
    conditions: LinkConditions,
    memory: dict[str, int],
    **more: Any,
) -> DirectResult:
    return DirectResult(
        control=min(result.control for result in results.values()),
        classes=results,
        primitives_us=stage.primitives,
        seconds=seconds,
        memory_kib=memory,
        rtt_ms=conditions.rtt_ms,
        cuts_percent=conditions.cuts,
        **more,
    )


async def _measure_all(
    stage: Stage, classes: Sequence[str], seconds: float, conditions: LinkConditions, tries: int, say: Say
) -> dict[str, ClassResult]:
    calm = {name: await measure(stage, name, seconds, tries, say) for name in classes}
    if not conditions:
        return calm
    say(f"now with {conditions.rtt_ms:g} ms of round trip and {conditions.cuts:g} % of the links cut every second")
    await stage.conditions(conditions.rtt_ms, conditions.cuts)
    rough = {name: await measure(stage, name, seconds, tries, say) for name in classes}
    await stage.conditions(0, 0)
    return {name: _compared(rough[name], calm[name].per_second) for name in classes}


def _compared(result: ClassResult, calm: float) -> ClassResult:
    return msgspec.structs.replace(result, calm_per_second=calm, kept=result.per_second / calm)


async def measure(stage: Stage, name: str, seconds: float, tries: int, say: Say) -> ClassResult:
    """Measure one class, again if the machine was busy with something else."""
    best: ClassResult | None = None
    began = trio.current_time()
    before = await trio.to_thread.run_sync(capacity_control, seconds)
    for attempt in range(tries):
        start = await stage.counters()
        sent = await stage.pay(name, seconds)
        end = await stage.counters()
        after = await trio.to_thread.run_sync(capacity_control, seconds)
        control, before = min(before, after), after
        other = {key: end[key] - start[key] for key in end}
        result = _result(name, sent, other, control, stage.primitives, await stage.memory())
        if best is None or result.control > best.control:
            best = result
        if control >= CONTROL_MIN:
            break
        say(f"{name}: capacity control {control:.2f} is below {CONTROL_MIN}; try {attempt + 1} of {tries}")
        if attempt and trio.current_time() - began + seconds + CONTROL_SECONDS > TRIES_SECONDS:
            break
    assert best is not None
    say(f"{name}: {best.per_second:,.0f}/s (control {best.control:.2f})")
    return best


async def _offer_all(stage: Stage, rates: Sequence[float], seconds: float, say: Say) -> list[LoadPoint]:
    if rates:
        await stage.pay(
            OFFERED, WARM_UP, rate=rates[0]
        )  # what the classes before left behind is cleared away meanwhile
    return [await _offer(stage, rate, seconds, say) for rate in rates]


async def _offer(stage: Stage, rate: float, seconds: float, say: Say) -> LoadPoint:
    sent = await stage.pay(OFFERED, seconds, rate=rate)
    point = LoadPoint(offered=rate, per_second=sent["per_second"], p50_ms=sent["p50_ms"], p99_ms=sent["p99_ms"])
    say(f"offered {rate:,.0f}/s: {point.per_second:,.0f}/s, p50 {point.p50_ms:.1f} ms, p99 {point.p99_ms:.1f} ms")
    return point


def _result(
    name: str,
    sent: dict[str, Any],
    other: dict[str, Any],
    control: float,
    primitives: Primitives,
    memory: dict[str, int],
) -> ClassResult:
    count, seconds = max(1, sent["count"]), sent["seconds"]
    batch = count / max(1, sent["updates"])
    floor = primitives.floor_per_second(batch)
    if name == "stream":
        floor = primitives.stream_floor_per_second(count, sent["updates"], sent["commits"])
    commits, signatures = sent["commits"] + other["commits"], sent["signatures"] + other["signatures"]
    return ClassResult(
        per_second=sent["per_second"],
        floor_per_second=floor,
        ratio=sent["per_second"] / floor,
        p50_ms=sent["p50_ms"],
        p99_ms=sent["p99_ms"],
        payments=sent["count"],
        batch_mean=batch,
        batch_median=sent["batch_median"],
        commits_per_second=commits / seconds,
        signatures_per_payment=signatures / count,
        signatures_per_second=signatures / seconds,
        commits_per_payment=commits / count,
        bytes_per_payment=sent["bytes"] / count,
        cpu_us_per_payment=1e6 * (sent["cpu"] + other["cpu"]) / count,
        memory_kib=memory,
        control=control,
        cut=sent["cut"],
    )
