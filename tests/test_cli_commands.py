"""Every subcommand of `tally`: its help, its usage errors, its exit code when no node runs."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.storage.directory import lock_directory
from tallystick.sdk.cli.app import DEFERRED, Deferred, app
from tallystick.sdk.cli.shell import flowing

runner = CliRunner()
KEY = bytes(PrivateKey(bytes([1]) * 32).public).hex()
PEER = f"{KEY}@127.0.0.1:7735"


def tally(*arguments: str, **variables: str) -> Result:
    return runner.invoke(app, list(arguments), env={"COLUMNS": "300", "TERM": "dumb", **variables})


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Walk through all commands that are not mounted from elsewhere."""
    for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
        inner = command.get_command(None, name)
        if not isinstance(inner, Deferred):
            yield (*path, name), inner
            yield from commands(inner, (*path, name))


ALL = list(commands(get_command(app)))
LEAVES = [path for path, command in ALL if not hasattr(command, "list_commands")]

NEED_A_NODE = [
    ("node", "info"),
    ("node", "stop"),
    ("channel", "open", PEER, "--deposit", "5"),
    (
        "channel",
        "open",
        PEER,
        "--deposit",
        "5",
        "--virtual",
        "--over",
        "3f9a",
        "--peer-deposit",
        "7",
        "--seconds",
        "9000",
    ),
    ("channel", "list"),
    ("channel", "wait"),
    ("channel", "show", "abcd"),
    ("channel", "deposit", "abcd", "5"),
    ("channel", "withdraw", "abcd", "5"),
    ("channel", "close", "abcd"),
    ("channel", "force-close", "abcd"),
    ("channel", "record", "abcd"),
    ("channel", "record", "abcd", "--stop"),
    ("channel", "export", "abcd", "nowhere.recording"),
    ("peers",),
    ("peers", "list"),
    ("peers", "connect", PEER),
    ("pay", "abcd", "5"),
    ("pay", KEY, "5"),
    ("incoming",),
    ("incoming", "--follow"),
    ("stream", "open", "abcd", "--unit", "5", "--length", "9"),
    ("stream", "pay", "abcd", "0", "5"),
    ("stream", "close", "abcd", "0"),
    ("stream", "list"),
    ("app", "rules"),
    ("app", "list"),
    ("app", "proposals"),
    ("app", "show", "abcd"),
    ("app", "open", "abcd", "tictactoe", "--stake", "5"),
    ("app", "accept", "abcd" * 4),
    ("app", "refuse", "abcd"),
    ("app", "move", "abcd", "cell=4"),
    ("app", "wait", "abcd"),
    ("app", "offer", "abcd"),
    ("app", "take", "abcd"),
    ("app", "resign", "abcd"),
    ("app", "dispute", "abcd"),
    ("pay", "tally1337xyz"),
    ("keysend", KEY, "5"),
    ("payments",),
    ("payments", "abcd"),
    ("forwards",),
    ("probe", KEY, "5"),
    ("rebalance", "abcd", "bcde", "5"),
    ("invoice", "create", "5"),
    ("invoice", "list"),
    ("invoice", "list", "--follow"),
    ("invoice", "show", "abcd"),
    ("invoice", "settle", "abcd"),
    ("invoice", "cancel", "abcd"),
    ("channel", "policy", "abcd", "--ppm", "5"),
    ("swap", "100", "coin@1337", "for", "coin@1338", "--min", "90", "--maker", f"{KEY}@127.0.0.1:9735"),
    ("rate", "set", "coin@1337", "coin@1338", "3:2"),
    ("rate", "list"),
    ("rate", "remove", "coin@1337", "coin@1338"),
    ("maker",),
    ("graph", "show"),
    ("balance",),
    ("statistics",),
    ("towers",),
    ("towers", "--json"),
]


def test_the_walk_finds_the_commands_that_the_documents_promise() -> None:
    assert {" ".join(path) for path in LEAVES} == {
        *(
            "init",
            "node run",
            "node wait",
            "node info",
            "node stop",
            "pay",
            "incoming",
            "balance",
            "statistics",
            "towers recover",
        ),
        *(
            f"channel {name}"
            for name in ("open", "list", "show", "wait", "deposit", "withdraw", "close", "force-close", "policy")
        ),
        *(f"channel {name}" for name in ("record", "export", "replay")),
        *("keysend", "payments", "forwards", "probe", "rebalance"),
        *("swap", "markets", "maker", "rate set", "rate list", "rate remove"),
        *(f"invoice {name}" for name in ("create", "list", "decode", "show", "settle", "cancel")),
        *("peers list", "peers connect"),
        *(f"stream {name}" for name in ("open", "pay", "close", "list")),
    }
    assert set(DEFERRED) == {"app", "chain", "ledger", "rollup", "tower", "graph", "bench", "api", "fetch"}


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_explains_itself_and_its_options_and_gives_an_example(path: tuple[str, ...]) -> None:
    shown = tally(*path, "--help")
    assert shown.exit_code == 0
    assert f"Example: tally {' '.join(path)}" in shown.output
    command = dict(ALL)[path]
    assert len(command.help) > 20
    for parameter in command.params:
        assert getattr(parameter, "help", ""), f"{parameter.name} of {path} has no help"
        assert parameter.name == "help" or any(name in shown.output for name in parameter.opts) or parameter.metavar


@pytest.mark.parametrize("module", ["app", *(module.rpartition(".")[2] for module, _ in DEFERRED.values())])
def test_no_help_breaks_its_lines_where_the_source_does(module: str) -> None:
    """On a terminal of another width that would make every second line a stump."""
    found = get_command(importlib.import_module(f"tallystick.sdk.cli.{module}").app)
    for path, command in [((), found), *commands(found)]:
        for paragraph in (command.help or "").split("\n\n"):
            _, *more = paragraph.splitlines() or [""]
            assert all(line.startswith("Example:") for line in more), f"{module} {path}: {more}"


def test_paragraphs_stay_and_so_do_examples_below_each_other() -> None:
    text = "One\n    goes on.\n\n    Two\n    too.\n\n    Example: tally a\n    Example: tally b\n    "
    assert flowing(text) == "One goes on.\n\nTwo too.\n\nExample: tally a\nExample: tally b"


def test_the_help_names_all_commands_and_the_exit_codes() -> None:
    shown = tally("--help").output
    for name in ("init", "node", "channel", "pay", "incoming", "balance", "peers", "statistics", *DEFERRED):
        assert name in shown
    assert "Exit codes: 0 done; 1 the operation failed; 2 wrong usage; 3 no node is running" in shown


@pytest.mark.parametrize("arguments", NEED_A_NODE, ids=lambda arguments: " ".join(arguments[:2]))
def test_without_a_running_node_the_exit_code_is_3_and_one_sentence_says_so(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = tally(*arguments, "--data", str(tmp_path))
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == f"tally: no node runs in {tmp_path}: start it with `tally node run`\n"


def test_who_brings_back_channels_is_told_what_is_missing(tmp_path: Path) -> None:
    assert "run `tally init`" in tally("towers", "recover", "--data", str(tmp_path / "new")).stderr
    arguments = ("--data", str(tmp_path))
    assert tally("init", *arguments, "--light", TALLY_PASSWORD="p").exit_code == 0
    unnamed = tally("towers", "recover", *arguments, TALLY_PASSWORD="p")
    assert unnamed.exit_code == 1 and "no tower is named" in unnamed.stderr
    away = ("--tower", f"{KEY}@127.0.0.1:1")
    nowhere = tally("towers", "recover", *arguments, *away, "--json", TALLY_PASSWORD="p")
    assert nowhere.exit_code == 1 and "no tower answered" in nowhere.stderr
    said = json.loads(nowhere.stdout)
    assert (said["asked"], said["answered"], said["channels"]) == (1, 0, []) and len(said["faults"]) == 1
    with lock_directory(tmp_path, "a node that runs"):
        runs = tally("towers", "recover", *arguments, *away, TALLY_PASSWORD="p")
    assert runs.exit_code == 1 and "in use by a node that runs" in runs.stderr


def test_the_data_directory_comes_from_the_environment_too(tmp_path: Path) -> None:
    assert str(tmp_path) in tally("balance", TALLY_DATA=str(tmp_path)).stderr


def test_a_node_that_died_is_not_mistaken_for_one_that_runs(tmp_path: Path) -> None:
    (tmp_path / "control.url").write_text("http://127.0.0.1:1\n")
    (tmp_path / "control.token").write_text("t\n")
    done = tally("balance", "--data", str(tmp_path))
    assert done.exit_code == 3 and "no node answers" in done.stderr


@pytest.mark.parametrize("amount", ["1.5", "0", "-5", "ten", "1e3", "0x10", "", "١", str(2**128)])
def test_an_amount_that_is_none_is_wrong_usage_for_every_command_that_takes_one(amount: str) -> None:
    for arguments in (
        ("pay", "abcd", "--", amount),
        ("channel", "deposit", "abcd", "--", amount),
        ("channel", "withdraw", "abcd", "--", amount),
        ("channel", "open", PEER, f"--deposit={amount}"),
    ):
        done = tally(*arguments)
        assert done.exit_code == 2, arguments
        assert "whole number from 1 to 2**128 - 1" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("channel", "nonsense"),
        ("channel", "show"),
        ("channel", "show", "abc"),
        ("channel", "show", "wxyz"),
        ("channel", "show", "../info"),
        ("channel", "open", "bob", "--deposit", "5"),
        ("channel", "open", PEER),
        ("channel", "open", PEER, "--deposit", "5", "--asset", "gold"),
        ("channel", "open", PEER, "--deposit", "5", "--challenge-period", "0"),
        ("channel", "open", PEER, "--deposit", "5", "--over", "3f9a"),
        ("channel", "open", PEER, "--deposit", "5", "--virtual", "--over", "3f9a", "--no-wait"),
        ("channel", "open", PEER, "--deposit", "5", "--virtual", "--over", "hub"),
        ("peers", "connect", "127.0.0.1:7735"),
        ("pay", "abcd"),
        ("pay", "abcd", "5", "--tip", "1"),
        ("incoming", "--limit", "0"),
        ("init", "--chain-id", "none"),
        ("node", "run", "--nonsense"),
    ],
    ids=" ".join,
)
def test_wrong_usage_has_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = tally(*arguments)
    assert done.exit_code == 2
    assert done.stderr


def test_the_commands_of_other_parts_are_mounted() -> None:
    shown = tally("chain", "--help")
    assert shown.exit_code == 0 and "run" in shown.output and "mint" in shown.output
    assert "--interval" in tally("chain", "run", "--help").output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tallystick.sdk.cli.app import app; from typer.testing import CliRunner;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        "print(*(n for n in ('trio', 'httpx', 'starlette', 'hypercorn', 'eth_account', 'sqlite3') if n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-Ic", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


def test_init_makes_a_directory_once_and_never_overwrites_it(tmp_path: Path) -> None:
    directory = tmp_path / "alice"
    arguments = ("init", "--data", str(directory), "--light", "--json")
    made = tally(*arguments, TALLY_PASSWORD="p")
    assert made.exit_code == 0
    printed = json.loads(made.stdout)
    assert set(printed) == {"data", "address", "public_key"}
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert set(before) == {"keystore.json", "config.toml"}
    again = tally(*arguments, TALLY_PASSWORD="p")
    assert again.exit_code == 1 and "holds a key already" in again.stderr
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_init_asks_twice_at_a_terminal_and_says_what_to_do_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TALLY_PASSWORD", raising=False)
    arguments = ["init", "--data", str(tmp_path / "a"), "--light"]
    refused = runner.invoke(app, arguments)
    assert refused.exit_code == 1 and "--password-file" in refused.stderr
    monkeypatch.setattr("tallystick.sdk.cli.init.at_terminal", lambda: True)
    made = runner.invoke(app, arguments, input="one\ntwo\nsecret\nsecret\n")
    assert made.exit_code == 0
    assert "do not match" in made.output and "secret" not in made.output and "public key" in made.output


@pytest.mark.parametrize(
    "option", [("--listen", "nowhere"), ("--contract", "0x12"), ("--tower", "bob@example.org:1"), ("--tower", "bob")]
)
def test_init_refuses_settings_that_a_node_would_refuse(tmp_path: Path, option: tuple[str, str]) -> None:
    done = tally("init", "--data", str(tmp_path / "a"), "--light", *option, TALLY_PASSWORD="p")
    assert done.exit_code == 1 and done.stderr.startswith("tally: ")
    assert not (tmp_path / "a").exists()


def test_running_a_node_without_init_or_with_the_wrong_password_is_one_sentence(tmp_path: Path) -> None:
    done = tally("node", "run", "--data", str(tmp_path / "a"))
    assert done.exit_code == 1 and "run `tally init` first" in done.stderr
    assert tally("init", "--data", str(tmp_path / "a"), "--light", TALLY_PASSWORD="p").exit_code == 0
    done = tally("node", "run", "--data", str(tmp_path / "a"), TALLY_PASSWORD="q")
    assert done.exit_code == 1 and "does not open" in done.stderr
    assert not (tmp_path / "a" / "control.token").exists()
