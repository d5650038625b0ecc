"""What is handed to service managers: the units and the container file fit the commands that there are."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tallystick.sdk.cli.app import DEFERRED, Deferred, app

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "tools" / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
CONTAINER = DEPLOY / "Containerfile"
TALLY = "/opt/tallystick/bin/tally"
Settings = dict[str, list[str]]


def read_unit(path: Path) -> Settings:
    """Return what a unit says, whatever its section: each name with its values in order."""
    found: Settings = defaultdict(list)
    for line in path.read_text("utf-8").splitlines():
        if line and not line.startswith(("#", "[")):
            name, _, value = line.partition("=")
            found[name].append(value)
    return found


def take(words: list[str]) -> tuple[str, dict[str, object]]:
    """Let the command line of `tally` read these words; return which command that is, and what it was given."""
    place = list[str]()
    command: Any = get_command(app)
    while hasattr(command, "list_commands"):
        place.append(words.pop(0))
        command = command.get_command(None, place[-1])
        assert command is not None, f"tally has no {' '.join(place)}"
        if isinstance(command, Deferred):
            command = get_command(importlib.import_module(DEFERRED[place[-1]][0]).app)
    read = command.make_context(" ".join(place), words)
    return " ".join(place), read.params


def start_of(unit: Settings) -> list[str]:
    """Return the words that a unit starts, as systemd makes them with the environment that it gives."""
    (line,) = unit["ExecStart"]
    (state,) = unit["StateDirectory"]
    for name, value in (("${CREDENTIALS_DIRECTORY}", "/run/credentials/x"), ("${LOGS_DIRECTORY}", f"/var/log/{state}")):
        line = line.replace(name, value)
    line = line.replace(" $TALLY_OPTIONS", "")
    assert "$" not in line
    return shlex.split(line)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_command_that_there_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = read_unit(path)
    for variable in unit["Environment"]:
        monkeypatch.setenv(*variable.split("=", 1))
    program, *words = start_of(unit)
    assert program == TALLY
    place, given = take(words)
    assert place == f"{path.stem.removeprefix('tally-')} run"
    (state,) = unit["StateDirectory"]
    assert str(given["data"]) == f"/var/lib/{state}", "by its variable, which commands of the operator read, too"
    assert str(given["password_file"]) == "/run/credentials/x/password"
    assert [line.split(":")[0] for line in unit["LoadCredential"]] == ["password"]


def test_both_units_are_there_and_a_word_that_is_none_is_refused() -> None:
    assert [path.stem for path in UNITS] == ["tally-node", "tally-tower"]
    with pytest.raises(Exception, match="no-such-option"):
        take(["tower", "run", "--no-such-option"])
    with pytest.raises(AssertionError, match="tally has no"):
        take(["watchtower"])


def test_the_towers_ports_are_those_of_the_page_and_its_metrics_stay_on_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TALLY_TOWER", "/var/lib/tally-tower")
    _, given = take(start_of(read_unit(DEPLOY / "tally-tower.service"))[1:])
    assert str(given["listen"]).rpartition(":")[2] == "9911" and given["metrics"] == "127.0.0.1:9912"
    assert "127.0.0.1:9912" in (ROOT / "docs" / "operations.md").read_text("utf-8")


def test_a_unit_that_is_reloaded_has_a_log_that_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGHUP ends a process that does not heed it."""
    monkeypatch.setenv("TALLY_TOWER", "/var/lib/tally-tower")
    for path in UNITS:
        unit = read_unit(path)
        if unit["ExecReload"]:
            assert unit["ExecReload"] == ["kill -HUP $MAINPID"]
            assert str(take(start_of(unit)[1:])[1]["log"]).startswith(f"/var/log/{unit['LogsDirectory'][0]}/")
        else:
            assert not unit["LogsDirectory"]


HARDENED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "CapabilityBoundingSet": "",
    "MemoryDenyWriteExecute": "yes",
    "UMask": "0077",
    "Restart": "always",
    "Type": "notify",
}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_hardened_and_comes_back(path: Path) -> None:
    unit = read_unit(path)
    assert {name: unit[name] for name in HARDENED} == {name: [value] for name, value in HARDENED.items()}
    assert (
        unit["User"] != ["root"] and unit["StartLimitIntervalSec"] == ["0"] and unit["TimeoutStartSec"] == ["infinity"]
    )
    assert "AF_UNIX" in unit["RestrictAddressFamilies"][0], "for the lock of one process per key, and to notify"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_finds_no_fault_with_a_unit(path: Path, tmp_path: Path) -> None:
    here = tmp_path / path.name
    here.write_text(path.read_text("utf-8").replace(TALLY, "/bin/true"), "utf-8")  # it must be there
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(here)], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")
    here.write_text(here.read_text("utf-8").replace("WatchdogSec=60", "WatchdogSeconds=60"), "utf-8")
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(here)], capture_output=True, text=True, check=False
    )
    assert "WatchdogSeconds" in found.stderr, "it does look"


def container_lines() -> list[tuple[str, str]]:
    """Return (instruction, the rest) of each line of the container file."""
    lines = CONTAINER.read_text("utf-8").splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line and not line.startswith("#")]


def test_the_container_file_copies_what_there_is_and_runs_tally() -> None:
    lines = container_lines()
    known = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "ENV", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in lines} <= known
    for name, rest in lines:
        sources = rest.split()[:-1] if name == "COPY" and not rest.startswith("--from") else []
        assert all((ROOT / source).exists() for source in sources), rest
    commands = " ".join(rest for name, rest in lines if name == "RUN")
    for lock in re.findall(r"requirements[\w-]*\.lock", commands):
        assert (ROOT / lock).exists()
    assert "--require-hashes" in commands and "useradd" in commands
    assert ("ENTRYPOINT", f'["{TALLY}"]') in lines
    last = [rest for name, rest in lines if name == "USER"][-1]
    assert last == "tally", "not as root"


def test_the_container_has_a_python_that_is_supported_and_variables_that_commands_read() -> None:
    lines = container_lines()
    bounds = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    low, high = (int(minor) for minor in re.findall(r"3\.(\d+)", bounds))
    for name, rest in lines:
        if name == "FROM":
            version = re.search(r"python:3\.(\d+)", rest)
            assert version is not None and low <= int(version[1]) < high
    (variables,) = (rest for name, rest in lines if name == "ENV")
    given = {word.split("=")[0] for word in variables.split()}
    assert {"TALLY_DATA", "TALLY_TOWER"} <= given
    (ports,) = (rest for name, rest in lines if name == "EXPOSE")
    assert {"7735", "9911", "9912"} == set(ports.split())


def test_the_commands_that_the_container_file_shows_are_commands() -> None:
    shown = re.findall(r"tallystick (tower run [^\n]+?) --password-file", CONTAINER.read_text("utf-8"))
    assert len(shown) == 1
    place, given = take([*shlex.split(shown[0]), "--data", "/data"])
    assert place == "tower run" and given["metrics"] == "0.0.0.0:9912"
