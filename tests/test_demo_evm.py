"""`make demo-evm`: what it says without a node, how it counts, and (in `make soak`) that its story ends well."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from rich.console import Console

from simulation.local_evm import on_a_node, open_local_evm
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.settlement.go_programs import GETH
from tallystick.settlement.testing import anvil

DEMO = Path(__file__).resolve().parents[1] / "examples" / "demo"


def demo(name: str) -> ModuleType:
    """Return a module of the demo, which is no package."""
    spec = importlib.util.spec_from_file_location(f"demo_{name}", DEMO / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def play(*options: str, on: str = "--evm", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DEMO), *filter(None, [on]), *options]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=700, check=False
    )


@pytest.mark.processes
def test_without_a_node_it_says_how_to_get_one(tmp_path: Path) -> None:
    done = play("--node", "anvil", PATH=str(tmp_path), TALLY_ANVIL=str(tmp_path / "anvil"))
    assert done.returncode == 1
    assert "there is no Ethereum node here" in done.stdout and anvil.VERSION in done.stdout
    assert "--rpc URL" in done.stdout


def test_the_first_node_that_is_here_or_can_be_fetched_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(DEMO)
    real_node = demo("real_node")
    console, said = Console(file=io.StringIO(), soft_wrap=True), list[tuple[str, ...]]()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(anvil.VARIABLE, str(tmp_path / "anvil"))
    monkeypatch.setenv(GETH.variable, str(tmp_path / "geth"))

    def run(command: tuple[str, ...], **how: object) -> None:
        said.append(command)
        if command[0] == npm:
            (tmp_path / "anvil").touch(0o700)

    monkeypatch.setattr(real_node.subprocess, "run", run)
    npm = str(tmp_path / "npm")
    assert real_node.first_node(console, None) == "pyevm" and not said, "npm and geth are not there, and py-evm is"
    absent = real_node.KINDS["pyevm"]._replace(is_here=lambda: False)
    monkeypatch.setitem(real_node.KINDS, "pyevm", absent)
    with pytest.raises(Exception, match="none could be fetched"):
        real_node.first_node(console, None)
    assert said.pop()[1:4] == ("-m", "pip", "install") and not said
    (tmp_path / "geth").touch(0o700)
    assert real_node.first_node(console, None) == "geth" and not said
    (tmp_path / "npm").touch(0o700)
    assert real_node.first_node(console, None) == "anvil" and [command[0] for command in said] == [npm]
    assert real_node.first_node(console, None) == "anvil" and len(said) == 1, "it is here already"
    assert "npm fetches it" in console.file.getvalue()


@pytest.mark.processes
def test_a_node_that_is_not_there_is_named() -> None:
    done = play("--rpc", "http://127.0.0.1:9")
    assert done.returncode == 1 and "http://127.0.0.1:9" in done.stdout


@pytest.mark.processes
def test_a_node_is_not_named_for_a_demo_on_the_simulated_chain() -> None:
    done = play("--node", "pyevm", on="")
    assert done.returncode == 2 and "go with --evm" in done.stderr


@on_a_node
@pytest.mark.processes
async def test_the_reader_counts_coins_tokens_and_fees_as_the_node_does() -> None:
    reader = demo("reader").Reader
    payer, payee = (PrivateKey(keccak(name)).address for name in (b"payer", b"payee"))
    with open_local_evm() as evm:
        evm.fund(payer, coins=10**20, tokens=7)
        async with reader.opened(evm.anvil.url) as reading:
            receipt = evm.anvil.send(payer, payee, b"")
            fee = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
            assert fee > 0
            for _ in range(2):  # no fee is counted twice
                held = await reading.balances({"payer": payer, "payee": payee})
                assert held == {"payer": 10**20 - fee, "payee": 0, "fees": fee}
            assert await reading.balances({"payee": payee}) == {"payee": 0, "fees": 0}
            assert await reading.tokens(evm.token, payer) == 7
    with pytest.raises(httpx.HTTPError):
        async with reader.opened(evm.anvil.url):
            pass


@on_a_node
@pytest.mark.soak
@pytest.mark.parametrize("node", ("anvil", "geth", "pyevm"))
def test_the_story_ends_well(node: str) -> None:
    done = play("--node", node)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout and done.stdout.count("✓") >= 15
    assert "left out here" in done.stdout and "Everything is as it should be." in done.stdout
