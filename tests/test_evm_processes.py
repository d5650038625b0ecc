"""Nodes and a tower as processes on a real EVM, by the command alone; and what reorganisations do to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from typer.testing import CliRunner

from simulation.following import one_by_one
from simulation.local_evm import LocalEvm, on_a_node, open_local_evm
from simulation.processes import TALLY, started
from tallystick.sdk.cli.app import app
from tallystick.settlement.ethereum.evm.client import open_evm_chain
from tallystick.settlement.following.checked import with_checks
from tallystick.settlement.following.follower import BlockAdded, BlockRemoved, Followed, Follower, Step

pytestmark = [pytest.mark.processes, on_a_node]

PASSWORD = {"TALLY_PASSWORD": "a password"}
PATIENCE = 150


@pytest.fixture(scope="module")
def evm() -> Iterator[LocalEvm]:
    with open_local_evm("--block-time", "0.25") as node:
        yield node


def tally(*words: object) -> Any:
    done = CliRunner().invoke(app, [*map(str, words), "--json"], env=PASSWORD)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


async def test_nodes_and_a_tower_run_on_a_real_chain_by_the_command_alone(evm: LocalEvm, tmp_path: Path) -> None:
    contract = f"0x{evm.at.contract.hex()}"
    place = ("--rpc", evm.anvil.url, "--contract", contract, "--chain-id", 31_337, "--start", evm.start)
    towers = tally("init", "--data", tmp_path / "tower", "--light")
    evm.anvil.fund(bytes.fromhex(towers["address"][2:]))
    tower = (*TALLY, "tower", "run", "--data", str(tmp_path / "tower"), "--listen", "127.0.0.1:0", "--json")
    with trio.fail_after(PATIENCE):
        async with started((*tower, *map(str, place)), PASSWORD) as towering:
            guard = (await towering.json())["status"]["peer_address"]
            names = {}
            for name in ("alice", "bob"):
                options = (*place, "--tower", guard, "--listen", "127.0.0.1:0", "--confirmations", 1)
                init = partial(tally, "init", "--data", tmp_path / name, "--light", *options)
                made = await trio.to_thread.run_sync(init)
                evm.anvil.fund(bytes.fromhex(made["address"][2:]))
                names[name] = (*TALLY, "node", "run", "--json", "--data", str(tmp_path / name))
            async with started(names["alice"], PASSWORD) as alices, started(names["bob"], PASSWORD) as bobs:
                await alices.json()
                address = (await bobs.json())["peer_address"]

                async def alice(*words: object) -> Any:
                    return await trio.to_thread.run_sync(lambda: tally(*words, "--data", tmp_path / "alice"))

                opened = await alice("channel", "open", address, "--deposit", 10**18)
                await alice("pay", opened["id"][:8], 10**17, "--memo", "tea")
                assert (await alice("channel", "close", opened["id"][:8]))["phase"] == "gone"
                held = int(evm.anvil.ask("eth_getBalance", f"0x{bobs_address(tmp_path)}", "latest"), 16)
                assert held == 10**20 + 10**17, "Bob was paid on the chain, and paid no fee"


def bobs_address(tmp_path: Path) -> str:
    address: str = json.loads((tmp_path / "bob" / "keystore.json").read_text())["address"]
    return address.removeprefix("0x")


@pytest.mark.parametrize("depth", (1, 3, 8))
async def test_a_reorganisation_is_followed(depth: int) -> None:
    with open_local_evm() as evm:
        evm.anvil.mine(20)
        steps: list[Step] = []

        async def on_step(step: Step) -> None:
            steps.append(step)

        async with open_evm_chain((evm.anvil.url,), evm.at, jitter=lambda: 0.5, start=evm.start) as chain:
            follower = Follower(with_checks(chain), Followed(evm.start), one_by_one(on_step), jitter=lambda: 0.5)
            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(follower.run)
                    head = (await chain.head()).number
                    await follower.wait_reached(head)
                    evm.anvil.ask("anvil_reorg", depth, [])
                    evm.anvil.mine(2)
                    await follower.wait_reached(head + 2)
                    nursery.cancel_scope.cancel()
        removed = [step.header.number for step in steps if isinstance(step, BlockRemoved)]
        assert removed == list(range(head, head - depth, -1))
        added = [step.block.header for step in steps if isinstance(step, BlockAdded)]
        assert added[-1].number == head + 2
