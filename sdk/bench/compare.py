"""`tally bench compare`: this build against another revision, class by class, in turn on this machine.

Figures of two days, or of two machines, say little of two builds. Here both run in turn (the other one, this one, the
other one, …), each by its own `tally bench` with the same options and no second tries. Each pair gives a ratio, and the
median of the ratios counts. Of the capacity controls of all runs the lowest is told: below 1.75 something else was busy
on the machine, and the ratio is worth as much less.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.table import Table

from tallystick.channels.errors import InvalidInput
from tallystick.sdk.bench.builds import build, ran, resolve
from tallystick.sdk.errors import MeasurementVoid


class ClassCommand(NamedTuple):
    """How a class is measured by `tally bench`, and where its figures stand in what that prints."""

    arguments: tuple[str, ...]
    name: str | None = None
    """Of the class in `direct`; None: what is printed is of one class only."""
    cpu: str = "cpu_us_per_payment"


COMPARED = {
    **{
        name: ClassCommand(("direct", "--class", name, "--tries", "1"), name)
        for name in ("alone", "awaited", "submitted", "bulk", "locked", "stream")
    },
    "channels-1000": ClassCommand(("direct", "--channels", "1000", "--processes", "2", "--tries", "1"), "submitted"),
    "network-2": ClassCommand(("network", "--hops", "2", "--tries", "1"), cpu="cpu_us_per_hop"),
    "network-4": ClassCommand(("network", "--hops", "4", "--tries", "1"), cpu="cpu_us_per_hop"),
}
"""The classes that can be compared. Revisions as old as e07c94b know these commands and print these figures."""


class Run(msgspec.Struct, frozen=True):
    """One run of one build."""

    per_second: float
    p50_ms: float
    cpu_us: float
    """Of all processes: of a payment, in the network classes of a payment's hop."""
    control: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints, one object and line for each class. In all pairs the other revision stands first."""

    kind: str = msgspec.field(name="class")
    against: str
    """The other revision's commit."""
    pairs: list[tuple[float, float]]
    """Payments per second."""
    ratio_median: float
    """Of this build's payments per second to the other's: above 1, this build is faster."""
    ratio_min: float
    ratio_max: float
    p50_ms: list[tuple[float, float]]
    p50_ratio_median: float
    """Below 1, this build is faster."""
    cpu_us: list[tuple[float, float]]
    cpu_ratio_median: float
    control_min: float
    """The lowest capacity control of all runs, of 2."""
    seconds: float
    durability: str = "full"


async def run_compare(
    against: str,
    classes: Sequence[str],
    pairs: int,
    seconds: float,
    *,
    repository: Path,
    builds: Path | None,
    directory: str,
    say: Callable[[str], None],
) -> list[Comparison]:
    """Build that revision of `repository`, and measure it and this build in turn, `pairs` times each class.

    It is built under `builds` and kept there; None: in a temporary folder. Raise InvalidInput if there is no such
    revision, MeasurementVoid if it cannot be built or measured.
    """
    ours = Path(sys.executable).with_name("tally")
    if not ours.exists():
        raise InvalidInput(f"there is no {ours}: install this build with its command, as `make setup` does")
    commit = await resolve(repository, against)
    with _folder(builds, commit) as folder:
        theirs = await build(repository, commit, folder, say)
        builds_of = {"before": theirs, "now": ours}
        return [await _compare(name, commit, builds_of, pairs, seconds, directory, say) for name in classes]


@contextmanager
def _folder(builds: Path | None, commit: str) -> Iterator[Path]:
    """Give where a commit is built: under `builds`, which stays, or in a folder that goes."""
    if builds is not None:
        yield builds.absolute() / commit[:12]
        return
    with tempfile.TemporaryDirectory(prefix="tally-compare-") as folder:
        yield Path(folder) / commit[:12]


async def _compare(
    name: str,
    commit: str,
    tallies: Mapping[str, Path],
    pairs: int,
    seconds: float,
    directory: str,
    say: Callable[[str], None],
) -> Comparison:
    runs: list[tuple[Run, Run]] = []
    for number in range(1, pairs + 1):
        before, now = [await _run(name, tally, seconds, directory) for tally in tallies.values()]
        runs.append((before, now))
        say(
            f"{name}, pair {number} of {pairs}: {before.per_second:,.0f}/s before, {now.per_second:,.0f}/s now, "
            f"{now.per_second / before.per_second:.3f} times as fast; "
            f"capacity controls {before.control:.2f} and {now.control:.2f} of 2"
        )
    return comparison(name, commit, runs, seconds)


async def _run(name: str, tally: Path, seconds: float, directory: str) -> Run:
    """Measure a class by a build's own command; raise MeasurementVoid if it fails, or says what cannot be read."""
    how = COMPARED[name]
    printed = await ran(
        [str(tally), "bench", *how.arguments, "--seconds", f"{seconds:g}", "--directory", directory, "--json"]
    )
    try:
        result = msgspec.json.decode(printed, type=dict[str, object])
        figures = (
            result if how.name is None else msgspec.convert(result["classes"], dict[str, dict[str, object]])[how.name]
        )
        return msgspec.convert({**figures, "cpu_us": figures[how.cpu], "control": result["control"]}, Run)
    except (KeyError, msgspec.ValidationError, msgspec.DecodeError) as error:
        raise MeasurementVoid(f"{tally} printed no figures of {name} ({error!r})") from error


def comparison(name: str, commit: str, runs: Sequence[tuple[Run, Run]], seconds: float) -> Comparison:
    """Return what these pairs of runs say of a class."""

    def ratios(figure: Callable[[Run], float]) -> list[float]:
        return [figure(now) / figure(before) for before, now in runs]

    def both(figure: Callable[[Run], float]) -> list[tuple[float, float]]:
        return [(figure(before), figure(now)) for before, now in runs]

    rates = ratios(lambda run: run.per_second)
    return Comparison(
        kind=name,
        against=commit,
        pairs=both(lambda run: run.per_second),
        ratio_median=statistics.median(rates),
        ratio_min=min(rates),
        ratio_max=max(rates),
        p50_ms=both(lambda run: run.p50_ms),
        p50_ratio_median=statistics.median(ratios(lambda run: run.p50_ms)),
        cpu_us=both(lambda run: run.cpu_us),
        cpu_ratio_median=statistics.median(ratios(lambda run: run.cpu_us)),
        control_min=min(run.control for pair in runs for run in pair),
        seconds=seconds,
    )


def compare_table(results: Sequence[Comparison]) -> Table:
    """Return the table of a `tally bench compare`: a row for each class, medians of the pairs."""
    first = results[0]
    title = (
        f"this build against {first.against[:12]}, synchronous=FULL, {first.seconds:g} s each, {len(first.pairs)} pairs"
    )
    rows = Table(title=title, caption="medians; × is this build's figure by the other's; rates: more is better")
    for heading in ("class", "before/s", "now/s", "×", "from … to", "p50, ms", "×", "CPU, µs", "×", "control, of 2"):
        rows.add_column(heading, justify="left" if heading == "class" else "right")
    for each in results:
        before, now = (statistics.median(pair[side] for pair in each.pairs) for side in (0, 1))
        p50, cpu = (statistics.median(pair[1] for pair in figures) for figures in (each.p50_ms, each.cpu_us))
        rows.add_row(
            each.kind,
            f"{before:,.0f}",
            f"{now:,.0f}",
            f"{each.ratio_median:.3f}",
            f"{each.ratio_min:.2f} … {each.ratio_max:.2f}",
            f"{p50:,.2f}",
            f"{each.p50_ratio_median:.3f}",
            f"{cpu:,.1f}",
            f"{each.cpu_ratio_median:.3f}",
            f"{each.control_min:.2f}",
        )
    return rows
