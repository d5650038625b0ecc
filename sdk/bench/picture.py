"""The picture of a `tally bench direct --picture`: throughput and latency against load, and each class with its floor.

Drawn by matplotlib, which is asked for only here: install the extra `bench` for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tallystick.sdk.bench.results import DirectResult
from tallystick.sdk.errors import MeasurementVoid

FORMATS = (".svg", ".png", ".pdf")
"""What a picture's name may end with."""

_FLOOR, _FIGURE, _TAIL = "#c9cdd2", "#2a6f97", "#d1495b"


def require_matplotlib() -> None:
    """Raise MeasurementVoid, saying how to install it, if matplotlib is not there: before anything is measured."""
    try:
        import matplotlib as mpl  # noqa: F401 (whether it is there is the question)
    except ImportError:
        raise MeasurementVoid(
            "a picture needs matplotlib: `pip install 'tallystick[bench]'`, or in a checkout "
            "`.venv/bin/pip install --require-hashes --requirement requirements-bench.lock`"
        ) from None


def draw(result: DirectResult, path: Path) -> None:
    """Draw a result that has classes and loads into a file of one of FORMATS."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "tallystick"
    mpl.rcParams["svg.fonttype"] = "none"
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    by_load, by_rate, classes = figure.subplot_mosaic("AB;CC").values()
    _throughput(by_load, result)
    _latency(by_rate, result)
    _classes(classes, result)
    figure.suptitle(
        f"tally bench direct: payer and payee a process each, durable on both sides; capacity control "
        f"{result.control:.2f} of 2",
        fontsize=11,
    )
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _throughput(axes: Any, result: DirectResult) -> None:
    offered = [point.offered for point in result.load]
    axes.plot(offered, offered, linestyle=":", color=_FLOOR, label="all that is offered")
    axes.plot(offered, [point.per_second for point in result.load], marker="o", color=_FIGURE, label="secured")
    axes.set(xlabel="submitted payments offered, per second", ylabel="secured per second", title="Throughput")
    axes.tick_params(axis="x", labelrotation=20)
    _thousands(axes.xaxis)
    _thousands(axes.yaxis)
    _plain(axes)


def _latency(axes: Any, result: DirectResult) -> None:
    rates = [point.per_second for point in result.load]
    axes.plot(rates, [point.p50_ms for point in result.load], marker="o", color=_FIGURE, label="p50")
    axes.plot(rates, [point.p99_ms for point in result.load], marker="s", color=_TAIL, label="p99")
    axes.set(xlabel="secured per second", ylabel="ms from due to secured", yscale="log", title="Latency")
    axes.tick_params(axis="x", labelrotation=20)
    _thousands(axes.xaxis)
    _thousands(axes.yaxis)
    _plain(axes)


def _classes(axes: Any, result: DirectResult) -> None:
    names = list(result.classes)
    places = range(len(names))
    floors = [each.floor_per_second for each in result.classes.values()]
    figures = [each.per_second for each in result.classes.values()]
    axes.bar([place - 0.2 for place in places], floors, 0.4, color=_FLOOR, label="floor of the primitives")
    bars = axes.bar([place + 0.2 for place in places], figures, 0.4, color=_FIGURE, label="measured")
    axes.bar_label(bars, labels=[f"{figure:,.0f}" for figure in figures], fontsize=9)
    axes.set(yscale="log", ylabel="payments per second", title="Classes of payment, each with its floor in this run")
    axes.set_xticks(list(places), names)
    _plain(axes)


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    axes.grid(axis="y", alpha=0.3)


def _thousands(axis: Any) -> None:
    axis.set_major_formatter("{x:,.0f}")
