"""The tower as a process: it starts, tells where it is, shows its status, and stops on SIGTERM."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from typer.testing import CliRunner

from simulation.processes import INSTALLED, TALLY
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.sdk.cli.app import app
from tallystick.watchtower.claims import ClaimPolicy
from tallystick.watchtower.tower import TowerPolicy

KEY = "07" * 32


def tally(*arguments: str) -> list[str]:
    return [*TALLY, *arguments]


def start(*arguments: str, program: tuple[str, ...] = TALLY) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    process = subprocess.Popen([*program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
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
    process, first = start(*arguments, "--listen", "127.0.0.1:0", "--json", program=INSTALLED)
    assert first["event"] == "listening"
    assert first["status"]["peer_address"].split("@")[1].startswith("127.0.0.1:")
    second = subprocess.run(tally(*arguments), capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert "tally tower run" in second.stderr
    shown = subprocess.run(
        [*INSTALLED, "tower", "status", "--data", data, "--json"], capture_output=True, timeout=30, check=True
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


def ask(url: str) -> tuple[int, str]:
    answer = httpx.get(url, trust_env=False)
    return answer.status_code, answer.text


def ask_until(url: str, wanted: tuple[int, str]) -> None:
    """Ask until that is answered. Each answer waits for its turn, some 50 ms."""
    for _ in range(600):
        if (said := ask(url)) == wanted:
            return
    pytest.fail(f"{url} says {said}")


@pytest.mark.processes
def test_a_tower_serves_its_metrics_and_says_in_words_why_it_is_not_ready(tmp_path: Path, chain_url: str) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    address = "0x" + PrivateKey(bytes.fromhex(KEY)).address.hex()
    subprocess.run(tally("chain", "mint", "--chain", chain_url, address, str(10**18)), check=True, capture_output=True)
    words = ("--data", str(tmp_path / "tower"), "--key-file", str(key), "--chain", chain_url, "--json")
    places = ("--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
    process, first = start("tower", "run", *words, *places, "--fee-reserve", str(10**20))
    try:
        url = first["status"]["metrics_url"]
        base = url.removesuffix("/metrics")
        assert ask(f"{base}/healthz") == (200, "it runs\n")
        ask_until(f"{base}/readyz", (503, "its fee account holds too little\n"))
        names = {family.name for family in text_string_to_metric_families(ask(url)[1])}
        assert {"tally_tower_ready", "tally_tower_commit_seconds", "tally_tower_fees_spent"} <= names
        other = ("--data", str(tmp_path / "other"), "--metrics", base.removeprefix("http://"))
        taken = subprocess.run(
            tally("tower", "run", "--key-file", str(key), *other), capture_output=True, text=True, check=False
        )
        assert taken.returncode == 1 and "metrics cannot be served at 127.0.0.1" in taken.stderr
    finally:
        stop(process)
    process, first = start("tower", "run", *words, *places)
    try:
        url = first["status"]["metrics_url"]
        ask_until(url.removesuffix("/metrics") + "/readyz", (200, "it is ready\n"))
        assert "tally_tower_ready 1" in ask(url)[1]
    finally:
        stop(process)


def test_options_of_the_command_are_the_policy_of_the_tower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    async def run_tower(*places: Any, **options: Any) -> None:
        given.append(options)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("tallystick.watchtower.daemon.run_tower", run_tower)
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    words = ["tower", "run", "--data", str(tmp_path / "tower"), "--key-file", str(key)]
    changed = ["--claim-margin", "300", "--claim-budget", "7", "--claims-daily", "0", "--metrics", "[::1]:9912"]
    for more in ([], changed):
        assert CliRunner().invoke(app, [*words, *more]).exit_code == 0
    assert given[0]["policy"] == TowerPolicy() and given[0]["metrics"] is None
    assert given[1]["policy"] == TowerPolicy(claims=ClaimPolicy(margin=300, budget=7, daily=0))
    assert given[1]["metrics"] == ("::1", 9912)
    for wrong in (["--claim-margin", "0"], ["--claim-budget", "-1"], ["--claims-daily", "1.5"], ["--metrics", "9912"]):
        assert CliRunner().invoke(app, [*words, *wrong]).exit_code == 2, wrong


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
