"""`tally chain` as real processes: it serves, keeps its data, stops when told to, and says what is wrong."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.sdk.cli import chain as command

ALICE = "0x" + PrivateKey(keccak(b"alice")).address.hex()
TOKEN = "0x" + "70" * 20

pytestmark = pytest.mark.processes


@contextmanager
def running(data: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    program = "from tallystick.sdk.cli.chain import app; app()"
    arguments = ["run", "--data", str(data), "--port", "0", "--json", *more]
    started = subprocess.Popen([sys.executable, "-Ic", program, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert started.stdout is not None
        yield started, json.loads(started.stdout.readline())
    finally:
        started.kill()
        started.wait()
        assert started.stdout is not None
        started.stdout.close()


def ask(url: str, *arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(command.app, [*arguments, "--chain", url, "--json"])
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = msgspec.json.decode(result.stdout)
    return answer


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_chain_node_serves_stops_cleanly_and_goes_on_where_it_ended(
    tmp_path: Path, signal_number: signal.Signals
) -> None:
    slow = ("--interval", "3600", "--dev")
    with running(tmp_path, *slow, "--mint", f"{ALICE}=77", "--mint", f"{ALICE}=5@{TOKEN}") as (process, hello):
        assert hello["event"] == "listening" and hello["chain_id"] == 1337 and hello["number"] == 0
        url = hello["url"]
        assert ask(url, "status")["number"] == 0
        assert ask(url, "mint", ALICE, "3", "--no-wait")["amount"] == 3
        mined = ask(url, "mine", "2")
        assert mined["number"] == 2
        refused = CliRunner().invoke(command.app, ["run", "--data", str(tmp_path)])
        assert refused.exit_code == 1 and "is in use by tally chain run" in refused.output
        taken = ["run", "--data", str(tmp_path / "other"), "--port", url.rpartition(":")[2]]
        assert CliRunner().invoke(command.app, taken).exit_code == 1
        process.send_signal(signal_number)
        assert process.wait(10) == 0
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"event": "stopped", "number": 2}
    with running(tmp_path, *slow) as (_, again):
        assert again["number"] == 2
        assert ask(again["url"], "status")["hash"] == mined["hash"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--data", "unused", "--mint", "nobody"],
        ["run", "--data", "unused", "--mint", "0x12=5"],
        ["run", "--data", "unused", "--mint", f"{ALICE}=5@0x12"],
        ["run", "--data", "unused", "--interval", "0"],
        ["mint", "0x12", "5"],
        ["status", "--chain", "nowhere"],
        ["unknown"],
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments: list[str], tmp_path: Path) -> None:
    arguments = [str(tmp_path / text) if text == "unused" else text for text in arguments]
    assert CliRunner().invoke(command.app, arguments).exit_code == 2


def test_a_busy_port_and_a_directory_that_cannot_be_made_are_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        busy = CliRunner().invoke(command.app, ["run", "--data", str(tmp_path / "chain"), "--port", port])
    assert busy.exit_code == 1 and busy.stderr.startswith("tally: cannot listen there, choose another --port")
    nowhere = CliRunner().invoke(command.app, ["run", "--data", str(tmp_path / "file" / "chain")])
    assert nowhere.exit_code == 1 and "choose another one" in nowhere.stderr


def test_a_chain_that_does_not_answer_exits_with_3_and_a_sentence() -> None:
    result = CliRunner().invoke(command.app, ["status", "--chain", "http://127.0.0.1:1", "--json"])
    assert result.exit_code == 3
    assert "does not answer" in json.loads(result.stderr)["error"]


def test_every_command_has_help() -> None:
    for name in ("run", "mine", "mint", "status"):
        result = CliRunner().invoke(command.app, [name, "--help"])
        assert result.exit_code == 0 and "--json" in result.output and "Example: tally chain" in result.output
