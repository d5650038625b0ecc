"""Tables of benchmark results, for people."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table

from tallystick.sdk.bench.direct import ClassResult, DirectResult
from tallystick.sdk.bench.payments import PaymentsResult, PaymentsRow
from tallystick.sdk.bench.route import Kind, RouteResult


def table(result: DirectResult) -> Table:
    """Return the table of a `tally bench direct`."""
    primitives = result.primitives_us
    ends = f"{result.processes} processes, {result.channels} channel{'s' * (result.channels > 1)}"
    title = f"{ends}, synchronous=FULL, {result.seconds:g} s per class"
    caption = (
        f"floor: sign {primitives.sign:.0f} µs, verify {primitives.verify:.0f} µs, commit {primitives.commit:.0f} µs, "
        f"codec {primitives.codec_per_payment * 1000:.0f} ns per payment; capacity control {result.control:.2f} of 2"
    )
    rows = Table(title=title, caption=caption)
    rows.add_column("figure")
    for name in result.classes:
        rows.add_column(name, justify="right")
    for figure, show in _FIGURES:
        rows.add_row(figure, *(show(figures) for figures in result.classes.values()))
    return rows


_FIGURES: tuple[tuple[str, Callable[[ClassResult], str]], ...] = (
    ("payments/s", lambda r: f"{r.per_second:,.0f}"),
    ("floor of the primitives, payments/s", lambda r: f"{r.floor_per_second:,.0f}"),
    ("ratio to the floor", lambda r: f"{r.ratio:.3f}"),
    ("latency p50, ms", lambda r: f"{r.p50_ms:.2f}"),
    ("latency p99, ms", lambda r: f"{r.p99_ms:.2f}"),
    ("payments per update (median)", lambda r: f"{r.batch_median:,.0f}"),
    ("payments per update (mean)", lambda r: f"{r.batch_mean:,.1f}"),
    ("signatures/s (both sides)", lambda r: f"{r.signatures_per_second:,.0f}"),
    ("commits/s (both sides)", lambda r: f"{r.commits_per_second:,.0f}"),
    ("signatures per payment (both sides)", lambda r: f"{r.signatures_per_payment:.4f}"),
    ("commits per payment (both sides)", lambda r: f"{r.commits_per_payment:.4f}"),
    ("bytes per payment (both ways)", lambda r: f"{r.bytes_per_payment:.1f}"),
    ("CPU µs per payment (both sides)", lambda r: f"{r.cpu_us_per_payment:.1f}"),
    ("capacity control, of 2", lambda r: f"{r.control:.2f}"),
)


def route_table(result: RouteResult) -> Table:
    """Return the table of a `tally bench route`."""
    title = f"{result.nodes:,} nodes, {result.channels:,} channels; one core"
    note = result.single.note and f"; {result.single.note}"
    rows = Table(title=title, caption=f"capacity control {result.control:.2f} of 2{note}")
    for name in ("call", "satoshi", "form", "median, ms", "p99, ms", "calls", "found, %"):
        rows.add_column(name, justify="right")
    for name, kind in (("one path", result.single), ("many parts", result.multi)):
        _route_rows(rows, name, kind)
    return rows


def _route_rows(rows: Table, name: str, kind: Kind) -> None:
    for form, times in (("plain", kind.python), ("compiled", kind.numba)):
        if times is not None:
            figures = f"{times.median_ms:.2f}", f"{times.p99_ms:.2f}", f"{times.calls}", f"{times.found_pct:.1f}"
            rows.add_row(name, f"{kind.amount:,}", form, *figures)


def payments_table(result: PaymentsResult) -> Table:
    """Return the table of a `tally bench payments`."""
    title = (
        f"{result.nodes:,} nodes, {result.channels:,} channels; {result.pairs} pairs, {result.seeds} draws of balances"
    )
    rows = Table(title=title)
    rows.add_column("figure")
    for row in result.rows:
        rows.add_column(f"{row.amount:,} sat, {row.liquidity}", justify="right")
    for figure, show in _PAYMENTS:
        rows.add_row(figure, *map(show, result.rows))
    return rows


_PAYMENTS: tuple[tuple[str, Callable[[PaymentsRow], str]], ...] = (
    ("possible at all, %", lambda r: f"{r.feasible_pct:.1f}"),
    ("paid, %", lambda r: f"{r.success_pct:.1f}"),
    ("paid of the possible, %", lambda r: f"{r.of_feasible_pct:.1f}"),
    ("parts sent per success", lambda r: f"{r.attempts:.2f}"),
    ("parts paid per success", lambda r: f"{r.parts:.2f}"),
    ("fee, ppm, median", lambda r: f"{r.fee_ppm_median:.0f}"),
    ("fee, ppm, mean", lambda r: f"{r.fee_ppm_mean:.0f}"),
    ("planning, ms, median", lambda r: f"{r.plan_ms_median:.1f}"),
    ("planning, ms, p99", lambda r: f"{r.plan_ms_p99:.1f}"),
)
