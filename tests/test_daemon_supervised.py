"""Daemons tell their service manager when they are ready and that they live, and write logs that can be turned over."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from simulation.tower_world import TOWER, TowerWorld
from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.sdk.daemon.log_files import LogFile
from tallystick.sdk.daemon.supervisor import BEATS, Supervisor
from tallystick.sdk.errors import ConfigurationError
from tallystick.watchtower.figures import TowerStatus
from tallystick.watchtower.log_lines import LogLevel, of_alarm, of_changes


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(tmp_path / "notify"))
        found.settimeout(60)
        yield found


def heard(manager: socket.socket) -> str:
    return manager.recv(4_096).decode()


async def test_a_supervisor_hears_signs_of_life_in_time(
    tmp_path: Path, manager: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}
    told = Supervisor(environment, 7)
    assert told.every == 60 / BEATS
    with trio.move_on_after(50):
        await told.keep_alive()
    manager.setblocking(False)
    assert [heard(manager) for _ in range(3)] == ["WATCHDOG=1"] * 3
    with pytest.raises(BlockingIOError):
        heard(manager)
    assert Supervisor(environment, 8).every is None, "another process is watched"
    assert Supervisor({"WATCHDOG_USEC": "soon"}, 8).every is None
    await Supervisor({}, 8).keep_alive()


def test_a_supervisor_that_went_away_stops_nothing(tmp_path: Path) -> None:
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, 1).tell("READY=1")
    Supervisor({}, 1).tell("READY=1")


def test_an_abstract_socket_is_one() -> None:
    name = f"tallystick-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(f"\0{name}")
        Supervisor({"NOTIFY_SOCKET": f"@{name}"}, 1).tell("READY=1")
        assert heard(found) == "READY=1"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def test_a_log_goes_on_in_a_new_file_once_it_was_turned_over(tmp_path: Path) -> None:
    path = tmp_path / "tower.log"
    log = LogFile(path, clock=lambda: 1.5)
    log.write({"level": "info", "event": "first", "text": "a\nb\u2028c"})
    path.rename(tmp_path / "tower.log.1")
    log.write({"level": "info", "event": "second"})
    log.reopen()
    log.write({"level": "info", "event": "third"})
    assert [line["event"] for line in lines(tmp_path / "tower.log.1")] == ["first", "second"]
    (line,) = lines(path)
    assert line == {"time": "1970-01-01T00:00:01.500Z", "level": "info", "event": "third"}
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    path.mkdir()
    log.reopen()  # it cannot be opened: it goes on in the old one
    log.write({"event": "fourth"})
    assert log.lost == 0
    log.close()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        LogFile(path)


def test_a_disk_that_refuses_loses_a_line_and_nothing_else(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log")
    log.close()
    log.write({"event": "lost"})
    assert log.lost == 1


def test_alarms_have_levels_by_what_is_at_stake() -> None:
    assert of_alarm(Alarm(AlarmKind.DISK, "x")).level is LogLevel.ERROR
    assert of_alarm(Alarm(AlarmKind.TOWER_REFUSES, "x")).level is LogLevel.WARNING
    assert of_alarm(Alarm(AlarmKind.CHAIN_BACK, "x")).level is LogLevel.INFO


async def test_what_a_tower_does_is_in_its_log_and_no_secret(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    world = TowerWorld(tmp_path)
    await world.appointed()
    said: list[dict[str, Any]] = []
    last: TowerStatus | None = None
    async with world.house.open() as (tower, _):

        def look() -> None:
            nonlocal last
            now = TowerStatus(0.0, "0x" + TOWER.address.hex(), "", 1, "", tower.statistics())
            said.extend(line.fields() for line in of_changes(last, now))
            last = now

        for _ in range(4):
            look()
            await trio.sleep(2)
        await world.cheat()
        for _ in range(12):
            await trio.sleep(2)
            world.chain.mine()
            look()
        look()
    events = [line["event"] for line in said]
    assert events[0] == "watching" and {"disputes", "challenges", "transactions-done"} <= set(events)
    assert sum(line["more"] for line in said if line["event"] == "challenges") == 2
    assert all(line["level"] == "warning" for line in said if line["event"] == "challenges")
    text = json.dumps(said)
    for secret in (world.pair.close_key, TOWER.reveal(), *(key.reveal() for key in world.pair.keys)):
        assert secret.hex() not in text
    assert last is not None and list(of_changes(last, msgspec.structs.replace(last))) == [], "nothing has changed"
    world.store.close()


def start(*words: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-Im", "tallystick.sdk.cli", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=20)
    assert process.returncode == 0, output


@pytest.mark.processes
def test_a_node_tells_systemd_that_it_is_ready(tmp_path: Path, manager: socket.socket) -> None:
    plain = {**os.environ, "TALLY_PASSWORD": "a password"}
    chain = start("chain", "run", "--data", str(tmp_path / "chain"), "--port", "0", "--json", environment=plain)
    assert chain.stdout is not None
    url, data = json.loads(chain.stdout.readline())["url"], str(tmp_path / "node")
    made = start("init", "--data", data, "--chain", url, "--listen", "127.0.0.1:0", environment=plain)
    assert made.communicate(timeout=60) and made.returncode == 0
    environment = {**plain, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"}
    node = start("node", "run", "--data", data, environment=environment)
    try:
        while (said := heard(manager)) != "READY=1":
            assert said == "WATCHDOG=1"
        assert heard(manager) == "WATCHDOG=1"
    finally:
        stop(node)
        stop(chain)


@pytest.mark.processes
def test_a_tower_tells_systemd_that_it_is_ready_and_turns_its_log_over(tmp_path: Path, manager: socket.socket) -> None:
    chain = start(
        "chain", "run", "--data", str(tmp_path / "chain"), "--port", "0", "--json", environment=dict(os.environ)
    )
    assert chain.stdout is not None
    url = json.loads(chain.stdout.readline())["url"]
    key, log = tmp_path / "key", tmp_path / "tower.log"
    key.write_text("07" * 32)
    key.chmod(0o600)
    words = ("tower", "run", "--data", str(tmp_path / "tower"), "--key-file", str(key), "--chain", url)
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"}
    tower = start(*words, "--listen", "127.0.0.1:0", "--log", str(log), "--log-level", "info", environment=environment)
    try:
        while (said := heard(manager)) != "READY=1":
            assert said == "WATCHDOG=1"
        assert heard(manager) == heard(manager) == "WATCHDOG=1"
        assert lines(log)[0]["event"] == "watching"
        log.rename(tmp_path / "old.log")
        tower.send_signal(signal.SIGHUP)
        while not log.exists():
            assert heard(manager) == "WATCHDOG=1"
    finally:
        stop(tower)
        stop(chain)
    assert lines(log)[-1]["event"] == "stopping"
    manager.setblocking(False)
    left = []
    with pytest.raises(BlockingIOError):
        while True:
            left.append(heard(manager))
    assert left[-1] == "STOPPING=1"
