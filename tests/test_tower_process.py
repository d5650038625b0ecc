"""The tower as a process: it starts, tells where it is, shows its status, and stops on SIGTERM."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

KEY = "07" * 32


def tally(*arguments: str) -> list[str]:
    return [sys.executable, "-Im", "tallystick.sdk.cli", *arguments]


def start(*arguments: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    process = subprocess.Popen(tally(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    return process, json.loads(line)


def stop(process: subprocess.Popen[str]) -> tuple[str, str]:
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=20)
    assert process.returncode == 0, output
    return output


@pytest.fixture
def chain_url(tmp_path: Path) -> Iterator[str]:
    process, first = start("chain", "run", "--data", str(tmp_path / "chain"), "--port", "0", "--dev", "--json")
    yield first["url"]
    stop(process)


@pytest.mark.processes
def test_a_tower_runs_shows_its_status_and_stops(tmp_path: Path, chain_url: str) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    data = str(tmp_path / "tower")
    arguments = ("tower", "run", "--data", data, "--key-file", str(key), "--chain", chain_url)
    process, first = start(*arguments, "--listen", "127.0.0.1:0", "--json")
    assert first["event"] == "listening"
    assert first["status"]["peer_address"].split("@")[1].startswith("127.0.0.1:")
    second = subprocess.run(tally(*arguments), capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert "tally tower run" in second.stderr
    shown = subprocess.run(
        tally("tower", "status", "--data", data, "--json"), capture_output=True, timeout=30, check=True
    )
    assert json.loads(shown.stdout)["address"] == first["status"]["address"]
    check_that_it_cannot_write(tmp_path / "tower", process.pid)
    check_that_no_copy_runs_beside_it(tmp_path, arguments)
    stop(process)
    key.write_text("08" * 32)
    other = subprocess.run(tally(*arguments), capture_output=True, text=True, timeout=30, check=False)
    assert other.returncode == 1 and f"belongs to the key {first['status']['address']}" in other.stderr


def check_that_no_copy_runs_beside_it(directory: Path, arguments: tuple[str, ...]) -> None:
    """Of two towers of one key, with data that are copies, the second does not start."""
    shutil.copytree(directory / "tower", directory / "copy")
    words = [str(directory / "copy") if word == str(directory / "tower") else word for word in arguments]
    copy = subprocess.run(tally(*words), capture_output=True, text=True, timeout=30, check=False)
    assert copy.returncode == 1 and "of this machine is the tower of the key" in copy.stderr


def check_that_it_cannot_write(directory: Path, pid: int) -> None:
    """Its status can be written no more, as on a full disk, and is old: it runs all the same, and that is said."""
    while True:
        try:
            (directory / ".status.json").mkdir()
            break
        except FileExistsError:  # just being written
            continue
    status = json.loads((directory / "status.json").read_text())
    (directory / "status.json").write_text(json.dumps({**status, "time": 0.0}))
    told = subprocess.run(
        tally("tower", "status", "--data", str(directory)), capture_output=True, text=True, timeout=30, check=False
    )
    assert told.returncode == 1 and status["peer_address"] in told.stdout
    assert f"tally tower run (process {pid}) runs in {directory}, but cannot write its status" in told.stderr


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o644)
    arguments = ("tower", "run", "--data", str(tmp_path / "tower"), "--key-file", str(key))
    found = subprocess.run(tally(*arguments), capture_output=True, text=True, timeout=30, check=False)
    assert found.returncode == 1
    assert "chmod 600" in found.stderr


def test_asking_where_no_tower_runs_says_so(tmp_path: Path) -> None:
    found = subprocess.run(
        tally("tower", "status", "--data", str(tmp_path)), capture_output=True, text=True, timeout=30, check=False
    )
    assert found.returncode == 3
    assert "no tower is running" in found.stderr
