"""What `tally bench` reports: the layout of its JSON. Names are for others to rely on; new ones may join."""

from __future__ import annotations

import msgspec

from tallystick.sdk.bench.control import Primitives


class ClassResult(msgspec.Struct, frozen=True, kw_only=True):
    """One class of payment. Times in ms, rates per second; latencies are the payer's, from `pay` to receipt."""

    per_second: float
    floor_per_second: float
    """By the primitives' costs in this run, at this run's mean batch."""
    ratio: float
    """per_second / floor_per_second."""
    p50_ms: float
    p99_ms: float
    payments: int
    batch_mean: float
    batch_median: float
    """Payments of one update; lock operations, two per payment, in the class `locked`."""
    commits_per_second: float
    """Of both sides."""
    signatures_per_payment: float
    signatures_per_second: float
    commits_per_payment: float
    bytes_per_payment: float
    """On the payer's link, both ways, before encryption."""
    cpu_us_per_payment: float
    """Of both sides."""
    memory_kib: dict[str, int]
    """The most that each process has used so far."""
    control: float
    """The lower of the capacity controls before and after."""
    cut: int = 0
    """How often a link was cut meanwhile."""
    calm_per_second: float | None = None
    """Under conditions: what the same class did before, on the same links without them."""
    kept: float | None = None
    """per_second / calm_per_second."""


class LoadPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Submitted payments that were offered at a rate. Latency counts from when each was due, in ms."""

    offered: float
    per_second: float
    p50_ms: float
    p99_ms: float


class DirectResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `tally bench direct --json` prints."""

    control: float
    """The lowest of all classes."""
    classes: dict[str, ClassResult]
    primitives_us: Primitives
    channels: int = 1
    processes: int = 2
    durability: str = "full"
    seconds: float
    """For which each class was measured."""
    memory_kib: dict[str, int]
    """The most that each process has used."""
    rtt_ms: float = 0.0
    """Round trip that was added."""
    cuts_percent: float = 0.0
    """Of the links, cut every second."""
    load: list[LoadPoint] = []
    """With --picture: throughput and latency against load."""


class FairnessResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a quiet channel of a hub sees while another channel is flooded."""

    control: float
    p50_ms: float
    p99_ms: float
    """Of the quiet channel's payments."""
    payments: int
    flood_per_second: float
    seconds: float


class ScaleRow(msgspec.Struct, frozen=True, kw_only=True):
    """Submitted payments of one or more hubs at once, over all of their channels. Latencies are the worst hub's."""

    hubs: int
    channels: int
    processes: int
    cores: int
    per_second: float
    p50_ms: float
    p99_ms: float
    batch_median: float
    signatures_per_second: float
    commits_per_second: float
    cpu_us_per_payment: float
    memory_kib: dict[str, int]
    control: float


class ScaleResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `tally bench scale --json` prints."""

    control: float
    """The lowest of all rows."""
    rows: list[ScaleRow]
    """First by channels, one hub on two cores; then by hubs, each with its peers on a core of its own."""
    durability: str = "full"
    seconds: float
