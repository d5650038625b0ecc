"""Where programs in Go are looked for: a name that is given, the cache, the PATH, and on that one version alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.settlement.go_programs import GO_PROGRAMS, GoProgram

PROGRAM = GoProgram("tally-example", "1.17.1", "example.org/example", "TALLY_EXAMPLE")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH; the cache is empty."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(PROGRAM.variable, raising=False)
    return folder


def put(folder: Path, says: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / PROGRAM.name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("says", "fits"),
    [("v1.17.1", True), ("Version: 1.17.1-stable", True), ("1.17.10", False), ("11.17.1", False), ("1.17.1.2", False)],
)
def test_of_the_path_one_version_counts(path: Path, says: str, fits: bool) -> None:
    program = put(path, says)
    assert PROGRAM.find() == (str(program) if fits else None)


def test_the_cache_goes_before_the_path_and_what_is_named_before_both(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PROGRAM.find() is None
    put(path, "1.17.1")
    cached = put(PROGRAM.folder)
    assert PROGRAM.find() == str(cached) and PROGRAM.folder.is_relative_to(tmp_path)
    named = put(tmp_path / "named", "another version")
    monkeypatch.setenv(PROGRAM.variable, str(named))
    assert PROGRAM.find() == str(named)
    monkeypatch.setenv(PROGRAM.variable, str(tmp_path / "nowhere"))
    assert PROGRAM.find() is None


def test_each_tells_how_it_is_built() -> None:
    for name, program in GO_PROGRAMS.items():
        assert f"tools/go_programs.py {name} builds it" in program.missing and program.version in program.missing
