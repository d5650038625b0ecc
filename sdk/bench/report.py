"""Tables of benchmark results, for people."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table

from tallystick.sdk.bench.endurance import EnduranceResult
from tallystick.sdk.bench.hostile import HostileResult
from tallystick.sdk.bench.payments import PaymentsResult, PaymentsRow
from tallystick.sdk.bench.results import ClassResult, DirectResult, ScaleResult, ScaleRow
from tallystick.sdk.bench.route import FormTimes, RouteResult


def table(result: DirectResult) -> Table:
    """Return the table of a `tally bench direct`."""
    primitives = result.primitives_us
    ends = f"{result.processes} processes, {result.channels} channel{'s' * (result.channels > 1)}"
    title = f"{ends}, synchronous=FULL, {result.seconds:g} s per class"
    rough = bool(result.rtt_ms or result.cuts_percent)
    if rough:
        title += f", {result.rtt_ms:g} ms of round trip, {result.cuts_percent:g} % of the links cut every second"
    caption = (
        f"floor: sign {primitives.sign:.0f} µs, verify {primitives.verify:.0f} µs, commit {primitives.commit:.0f} µs, "
        f"codec {primitives.codec_per_payment * 1000:.0f} ns per payment, sha256 {primitives.sha256 * 1000:.0f} ns; "
        f"capacity control {result.control:.2f} of 2; every payment came once, by the books of both sides"
    )
    rows = Table(title=title, caption=caption)
    rows.add_column("figure")
    for name in result.classes:
        rows.add_column(name, justify="right")
    for figure, show in _FIGURES + _ROUGH * rough:
        rows.add_row(figure, *(show(figures) for figures in result.classes.values()))
    return rows


def scale_table(result: ScaleResult) -> Table:
    """Return the table of a `tally bench scale`."""
    title = f"submitted payments, synchronous=FULL, {result.seconds:g} s each"
    rows = Table(title=title, caption=f"capacity control {result.control:.2f} of 2 or better")
    for heading, _ in _SCALE:
        rows.add_column(heading, justify="right")
    for row in result.rows:
        rows.add_row(*(show(row) for _, show in _SCALE))
    return rows


def hostile_table(result: HostileResult) -> Table:
    """Return the table of a `tally bench hostile`: a row for quiet and one for each attack."""
    caption = f"one payment at a time, {result.seconds:g} s each; capacity control {result.control:.2f} of 2"
    rows = Table(title="a lone payment while strangers flood a door, synchronous=FULL", caption=caption)
    for heading in ("attack", "p50, ms", "p99, ms", "memory, MB", "new peer, s", "connections", "messages"):
        rows.add_column(heading, justify="left" if heading == "attack" else "right")
    quiet = result.quiet_rss_mb
    rows.add_row("(quiet)", f"{result.quiet_p50_ms:.1f}", "", f"{quiet:.0f}", f"{result.quiet_connects_s:.2f}", "", "")
    for row in result.rows:
        figures = (f"{row.p50_ms:.1f}", f"{row.p99_ms:.1f}", f"+{row.rss_mb:.0f}", f"{row.new_peer_connects_s:.2f}")
        rows.add_row(row.attack, *figures, f"{row.connections:,}", f"{row.messages:,}")
    return rows


def _memory(memory: dict[str, int]) -> str:
    return " / ".join(f"{kib / 1024:,.0f}" for kib in memory.values())


def endurance_table(result: EnduranceResult) -> Table:
    """Return the table of a `tally bench endurance`: a row for each tenth, sizes in MB."""
    title = f"{result.payments:,} payments, {result.channels:,} channel{'s' * (result.channels > 1)}, synchronous=FULL"
    caption = (
        f"last tenth against first {result.last_to_first:.2f}; restart {result.restart_seconds:.2f} s, all channels "
        f"resumed after {result.resumed_seconds:.2f} s more; capacity control {result.control:.2f} of 2"
    )
    rows = Table("tenth", "payments/s", title=title, caption=caption)
    for who in ("payer", "payees"):
        for what in ("memory", "database", "log", "channels, kB"):
            rows.add_column(f"{who}: {what}", justify="right")
    for number, tenth in enumerate(result.tenths, 1):
        cells = [
            cell
            for usage in (tenth.payer, tenth.payees)
            for cell in (
                *(f"{size / 1e6:.1f}" for size in (usage.memory, usage.database, usage.log)),
                f"{usage.channel_bytes / 1e3:.1f}",
            )
        ]
        rows.add_row(str(number), f"{tenth.per_second:,.0f}", *cells)
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
    ("memory so far, MiB (payer / payees)", lambda r: _memory(r.memory_kib)),
    ("capacity control, of 2", lambda r: f"{r.control:.2f}"),
)

_ROUGH: tuple[tuple[str, Callable[[ClassResult], str]], ...] = (
    ("links cut meanwhile", lambda r: f"{r.cut}"),
    ("payments/s in fair weather", lambda r: f"{r.calm_per_second or 0:,.0f}"),
    ("kept of it", lambda r: f"{r.kept or 0:.0%}"),
)

_SCALE: tuple[tuple[str, Callable[[ScaleRow], str]], ...] = (
    ("hubs", lambda r: f"{r.hubs}"),
    ("channels", lambda r: f"{r.channels:,}"),
    ("processes", lambda r: f"{r.processes}"),
    ("cores", lambda r: f"{r.cores}"),
    ("payments/s", lambda r: f"{r.per_second:,.0f}"),
    ("p50, ms", lambda r: f"{r.p50_ms:,.0f}"),
    ("p99, ms", lambda r: f"{r.p99_ms:,.0f}"),
    ("median batch", lambda r: f"{r.batch_median:,.0f}"),
    ("signatures/s", lambda r: f"{r.signatures_per_second:,.0f}"),
    ("commits/s", lambda r: f"{r.commits_per_second:,.0f}"),
    ("CPU µs", lambda r: f"{r.cpu_us_per_payment:.1f}"),
    ("memory, MiB", lambda r: _memory(r.memory_kib)),
    ("control", lambda r: f"{r.control:.2f}"),
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


def _route_rows(rows: Table, name: str, kind: FormTimes) -> None:
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
