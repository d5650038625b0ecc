"""A lock file that pip would complete with what is newest on the day is refused by `make check`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from simulation.tools import load

ROOT = Path(__file__).resolve().parent.parent


locks = load("locks")


def faults(text: str) -> list[str]:
    return list(locks.faults(text, "dev"))


@pytest.fixture(scope="module")
def lock() -> str:
    return (ROOT / "requirements-dev.lock").read_text()


def test_the_locks_of_this_tree_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert locks.main() == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{len(locks.LOCKS)} lock files, 0 faults"


@pytest.mark.parametrize(("extra", "asker"), [("coverage[toml]", "pytest-cov"), ("hypercorn[trio]", "pyproject.toml")])
def test_a_lock_without_an_extra_is_refused(lock: str, extra: str, asker: str) -> None:
    """pip 23.2.1 does not take `coverage==7.17.3` for `coverage[toml]`: it takes the newest, which no hash covers."""
    stripped = lock.replace(extra, extra.partition("[")[0])
    assert stripped != lock
    assert any(
        fault.startswith(f"{asker} asks for {extra}, and the lock has it without ") for fault in faults(stripped)
    )


def test_a_lock_without_a_package_is_refused(lock: str) -> None:
    lacking = re.sub(r"(?m)^outcome==(.*\\\n)+.*\n", "", lock)
    assert "trio asks for outcome, which is not pinned" in faults(lacking)


def test_only_pinned_packages_with_hashes_and_nothing_else_may_stand_in_a_lock(lock: str) -> None:
    assert faults(lock + "--index-url https://example.org/simple\n")[0].startswith("option in a lock file")
    assert any("not pinned to one version" in fault for fault in faults(lock.replace("trio==", "trio>=", 1)))
    assert faults(re.sub(r"(?m)^(outcome==\S+) \\\n(.*\\\n)*.*$", r"\1", lock)) == ["outcome has no hash"]


def test_a_package_that_is_not_installed_is_not_passed_over(lock: str) -> None:
    unknown = "not-installed-anywhere==1.0 --hash=sha256:" + "0" * 64 + "\n"
    (fault,) = faults(lock + unknown)
    assert fault.startswith("not-installed-anywhere is not installed")


def test_packages_of_other_systems_are_left_out(lock: str) -> None:
    other = "aix" if sys.platform != "aix" else "linux"
    assert faults(lock + f"not-here==1.0 ; sys_platform == '{other}' --hash=sha256:" + "0" * 64 + "\n") == []


def test_a_version_that_nobody_asks_for_is_refused(lock: str) -> None:
    assert "pyproject.toml asks for trio<0.36,>=0.30, and the lock has ==0.36.0" in faults(
        re.sub(r"(?m)^trio==\S+", "trio==0.36.0", lock)
    )


def test_users_get_no_tool_of_the_developers() -> None:
    runtime = {line.partition("=")[0] for line in locks.versions((ROOT / "requirements.lock").read_text())}
    assert not runtime & {"numba", "numpy", "ortools", "pandas", "matplotlib", "pytest", "hypothesis", "mypy", "ruff"}
