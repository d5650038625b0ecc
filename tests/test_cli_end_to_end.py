"""A chain and two nodes as real processes on loopback, used through the `tally` command alone."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from typer.testing import CliRunner

from simulation.processes import INSTALLED, TALLY, Running, run, started
from tallystick.sdk.cli.app import app

PASSWORD = {"TALLY_PASSWORD": "a password"}
PATIENCE = 240  # for machines that have much else to do
COINS = 10**18


class Someone:
    """A data directory and its address."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        made = CliRunner().invoke(app, ["init", "--light", "--json", "--data", str(directory)], env=PASSWORD)
        assert made.exit_code == 0, made.stderr
        self.address: str = json.loads(made.stdout)["address"]

    async def do(self, *arguments: str, fails: int = 0) -> Any:
        """Run a subcommand with --json and return what it prints; with `fails`, its error text.

        It runs in this process, in a thread of its own: starting Python for each would take most of the test's time.
        """
        command = [*arguments, "--json", "--data", str(self.directory)]
        done = await trio.to_thread.run_sync(lambda: CliRunner().invoke(app, command, env=PASSWORD))
        assert done.exit_code == fails, done.output
        return done.stderr if fails else json.loads(done.stdout)

    def run_node(self, chain: str, tally: tuple[str, ...] = TALLY) -> tuple[str, ...]:
        """Return the command that runs the node."""
        place = ("--data", str(self.directory), "--chain", chain, "--listen", "127.0.0.1:0")
        return (*tally, "node", "run", "--json", *place)

    def node(self, chain: str, tally: tuple[str, ...] = TALLY) -> AbstractAsyncContextManager[Running]:
        return started(self.run_node(chain, tally), PASSWORD)


@asynccontextmanager
async def a_chain(directory: Path, *people: Someone, tally: tuple[str, ...] = TALLY) -> AsyncIterator[str]:
    """Run a development chain with 20 blocks per second, where these people have coins; give its URL."""
    coins = [f"--mint={someone.address}={COINS}" for someone in people]
    options = ("--data", str(directory / "chain"), "--port", "0", "--dev", "--interval", "0.05", "--json")
    with trio.fail_after(PATIENCE):
        async with started((*tally, "chain", "run", *options, *coins)) as chain:
            yield (await chain.json())["url"]


@pytest.mark.processes
async def test_two_nodes_open_pay_fund_and_close_through_the_command_alone(tmp_path: Path) -> None:
    alice, bob = Someone(tmp_path / "alice"), Someone(tmp_path / "bob")
    async with (
        a_chain(tmp_path, alice, bob, tally=INSTALLED) as chain,
        alice.node(chain, INSTALLED) as alices,
        bob.node(chain) as bobs,
    ):
        ready = await alices.json()
        address = (await bobs.json())["peer_address"]
        await check_what_is_announced(alice, ready)
        opened = await alice.do("channel", "open", address, "--deposit", "1_000_000")
        name = opened["id"][:8]
        assert (opened["phase"], opened["balance"]) == ("open", 1_000_000)
        assert await alice.do("chain", "owed") == []
        assert "nothing of the chain's own coin" in await alice.do("chain", "claim", fails=1)
        paid = await alice.do("pay", name, "25000", "--memo", "order 17", "--key", "order 17")
        again = await alice.do("pay", opened["peer"], "25000", "--memo", "order 17", "--key", "order 17")
        assert again["payment"] == paid["payment"]
        received = await bob.do("incoming")  # one line, as there is one payment
        assert (received["amount"], received["memo"]) == (25_000, "order 17")
        await bob.do("pay", name, "5000")
        assert (await alice.do("channel", "withdraw", name, "1000"))["withdrawn"] == [1_000, 0]
        assert (await bob.do("channel", "deposit", name, "500"))["deposits"] == [500, 1_000_000]
        assert (await alice.do("channel", "show", name))["balance"] == 1_000_000 - 25_000 + 5_000 - 1_000
        assert "1000000 was asked" in await alice.do("pay", name, "1000000", fails=1)
        assert (await alice.do("channel", "close", name))["phase"] == "gone"
        assert await alice.do("channel", "list") == []
        second = await alice.do("channel", "open", address, "--deposit", "5_000")
        assert [one["id"] for one in await alice.do("channel", "close", "--all")] == [second["id"]]
        assert [one["phase"] for one in await alice.do("channel", "list", "--all")] == ["gone", "gone"]
        await check_the_end(alice, alices, bob, bobs)


async def check_what_is_announced(someone: Someone, ready: dict[str, str]) -> None:
    assert set(ready) == {"address", "public_key", "peer_address", "control_url"}
    assert ready["address"] == someone.address
    assert ready["peer_address"].startswith(ready["public_key"] + "@127.0.0.1:")
    assert ready["control_url"].startswith("http://127.0.0.1:")
    for secret in ("control.token", "keystore.json", "tally.db"):
        assert stat.S_IMODE((someone.directory / secret).stat().st_mode) == 0o600
    info = await someone.do("node", "info")
    assert (info["address"], info["peer_address"]) == (ready["address"], ready["peer_address"])


async def check_the_end(alice: Someone, alices: Running, bob: Someone, bobs: Running) -> None:
    """One is stopped by the command, the other by a signal: both leave cleanly."""
    code, output, _ = await run((*INSTALLED, "node", "stop", "--data", str(alice.directory)))
    assert (code, output) == (0, "The node has stopped.\n")
    assert await alices.process.wait() == 0
    assert await bobs.terminate() == 0
    for someone in (alice, bob):
        assert not (someone.directory / "control.token").exists()
        assert "no node runs" in await someone.do("balance", fails=3)


@pytest.mark.processes
async def test_a_second_node_on_one_directory_or_its_copy_is_refused_by_the_name_of_the_first(tmp_path: Path) -> None:
    alice = Someone(tmp_path / "alice")
    async with a_chain(tmp_path) as chain, alice.node(chain) as first:
        ready = await first.json()
        before = (alice.directory / "control.token").read_text()
        code, output, errors = await run(alice.run_node(chain), PASSWORD)
        assert (code, output) == (1, "")
        assert f"in use by node {alice.address} (process {first.process.pid})" in errors
        assert errors.count("\n") == 1
        shutil.copytree(alice.directory, tmp_path / "copy")
        copy = tuple(str(tmp_path / "copy") if word == str(alice.directory) else word for word in alice.run_node(chain))
        code, output, errors = await run(copy, PASSWORD)
        assert (code, output) == (1, "") and f"process {first.process.pid} of this machine is the node" in errors
        assert (alice.directory / "control.token").read_text() == before
        assert (await alice.do("node", "info"))["peer_address"] == ready["peer_address"]


@pytest.mark.processes
async def test_a_node_for_another_chain_does_not_work_with_this_one(tmp_path: Path) -> None:
    carol = Someone(tmp_path / "carol")
    settings = tmp_path / "carol" / "config.toml"
    settings.write_text(settings.read_text().replace("chain_id = 1337", "chain_id = 5"))
    async with a_chain(tmp_path) as chain:
        code, _, errors = await run(carol.run_node(chain), PASSWORD)
        assert code == 1 and "chain 5" in errors and errors.count("\n") == 1


@pytest.mark.processes
async def test_a_killed_node_goes_on_where_it_was_and_nobody_takes_its_old_files_for_a_node(tmp_path: Path) -> None:
    alice, bob = Someone(tmp_path / "alice"), Someone(tmp_path / "bob")
    async with a_chain(tmp_path, alice, bob) as chain, alice.node(chain) as alices:
        await alices.json()
        async with bob.node(chain) as bobs:
            address = (await bobs.json())["peer_address"]
            name = (await alice.do("channel", "open", address, "--deposit", "1000000"))["id"]
            await alice.do("pay", name, "7")
            await bobs.kill()
        assert (bob.directory / "control.url").exists()
        assert "no node answers" in await bob.do("incoming", fails=3)
        async with bob.node(chain) as bobs:
            address = (await bobs.json())["peer_address"]
            assert (await bob.do("incoming"))["amount"] == 7
            await alice.do("peers", "connect", address)
            assert (await alice.do("pay", name, "8"))["payment"] == 1
            assert (await bob.do("channel", "show", name))["balance"] == 15
