"""`tally bench compare`: another revision and this build in turn, and what their figures say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from simulation.processes import TALLY, run
from tallystick.channels.errors import InvalidInput
from tallystick.sdk.bench.builds import ran, resolve
from tallystick.sdk.bench.compare import COMPARED, Run, compare_table, comparison, run_compare
from tallystick.sdk.bench.kinds import KINDS
from tallystick.sdk.errors import MeasurementVoid

PRINTED = {
    "direct": {"control": 1.9, "classes": {"alone": {"per_second": 100.0, "p50_ms": 4.0, "cpu_us_per_payment": 50.0}}},
    "network": {"control": 1.8, "per_second": 10.0, "p50_ms": 40.0, "cpu_us_per_hop": 500.0},
}
"""What the other build prints."""

OTHER = f"""#!{sys.executable}
import json, pathlib, sys
with open(pathlib.Path(__file__).with_name("asked"), "a") as asked:
    asked.write(" ".join(sys.argv[1:]) + "\\n")
print(json.dumps({PRINTED!r}[sys.argv[2]]))
"""


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    return subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "the first one")
    return folder


def built(repository: Path, builds: Path) -> Path:
    """Put another build where that of the repository's head is kept; return its `tally`."""
    tally = builds / git(repository, "rev-parse", "HEAD")[:12] / ".venv" / "bin" / "tally"
    tally.parent.mkdir(parents=True)
    tally.write_text(OTHER)
    tally.chmod(0o755)
    return tally


def test_every_class_of_payment_can_be_compared() -> None:
    assert set(COMPARED) == {*KINDS, "channels-1000", "network-2", "network-4"}


def test_ratios_are_of_pairs_and_their_median_counts() -> None:
    before = [Run(100, 4.0, 50, 1.9), Run(200, 2.0, 50, 1.8), Run(100, 4.0, 50, 2.0)]
    now = [Run(150, 2.0, 25, 1.9), Run(200, 2.0, 50, 1.7), Run(300, 1.0, 10, 1.9)]
    found = comparison("alone", "ab" * 20, list(zip(before, now, strict=True)), 2.0)
    assert found.pairs == [(100, 150), (200, 200), (100, 300)]
    assert (found.ratio_median, found.ratio_min, found.ratio_max) == (1.5, 1.0, 3.0)
    assert (found.p50_ratio_median, found.cpu_ratio_median, found.control_min) == (0.5, 0.5, 1.7)
    assert msgspec.json.decode(msgspec.json.encode(found))["class"] == "alone"
    assert compare_table([found]).row_count == 1


async def test_what_names_no_commit_is_refused_with_what_to_do(repository: Path, tmp_path: Path) -> None:
    assert await resolve(repository, "HEAD") == git(repository, "rev-parse", "HEAD").strip()
    for place, revision in ((repository, "nowhere"), (repository, "--help"), (tmp_path, "HEAD")):
        with pytest.raises(InvalidInput, match="--repository"):
            await resolve(place, revision)


async def test_a_command_that_fails_is_told_with_its_last_words() -> None:
    with pytest.raises(MeasurementVoid, match="failed with 3: no such thing"):
        await ran([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"])


async def test_both_builds_are_measured_in_turn(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here this build is one that prints figures as well: what is measured in turn need not be measured at length."""
    theirs = built(repository, tmp_path / "builds")
    ours = tmp_path / "ours" / "tally"
    ours.parent.mkdir()
    turns = tmp_path / "turns"
    for build, name in ((theirs, "theirs"), (ours, "ours")):
        build.write_text(OTHER + f"open({str(turns)!r}, 'a').write({name + chr(10)!r})\n")
        build.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(ours.with_name("python")))
    (found,) = await run_compare(
        "HEAD",
        ["alone"],
        3,
        0.1,
        repository=repository,
        builds=tmp_path / "builds",
        directory=str(tmp_path),
        say=lambda text: None,
    )
    assert found.pairs == [(100, 100)] * 3
    assert turns.read_text().split() == ["theirs", "ours"] * 3
    asked = [build.with_name("asked").read_text().splitlines() for build in (theirs, ours)]
    assert asked == [[f"bench direct --class alone --tries 1 --seconds 0.1 --directory {tmp_path} --json"] * 3] * 2


@pytest.mark.soak
@pytest.mark.processes
async def test_the_command_measures_this_build_for_real(repository: Path, tmp_path: Path) -> None:
    other = built(repository, tmp_path / "builds")
    where = ("--repository", str(repository), "--builds", str(tmp_path / "builds"), "--directory", str(tmp_path))
    options = ("--class", "alone", "--pairs", "1", "--seconds", "0.1", "--json")
    code, output, errors = await run([*TALLY, "bench", "compare", "--against", "HEAD", *where, *options])
    assert code == 0, errors
    (line,) = output.splitlines()
    found = msgspec.json.decode(line)
    assert (found["class"], found["against"]) == ("alone", git(repository, "rev-parse", "HEAD").strip())
    ((before, now),) = found["pairs"]
    assert before == 100 and now > 0 and now != 100
    assert found["ratio_min"] <= found["ratio_median"] <= found["ratio_max"]
    asked = other.with_name("asked").read_text().splitlines()
    assert asked == [f"bench direct --class alone --tries 1 --seconds 0.1 --directory {tmp_path} --json"]


async def test_a_build_that_prints_no_figures_of_a_class_voids_the_comparison(repository: Path, tmp_path: Path) -> None:
    built(repository, tmp_path / "builds")
    with pytest.raises(MeasurementVoid, match="no figures of locked"):
        await run_compare(
            "HEAD",
            ["locked"],
            1,
            0.1,
            repository=repository,
            builds=tmp_path / "builds",
            directory=str(tmp_path),
            say=lambda text: None,
        )
