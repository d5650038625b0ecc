"""A real chain that is unwell, for longer: each illness at every step, fees that rise a hundred blocks, many seeds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from simulation.local_evm import on_a_node, open_local_evm
from simulation.processes import TALLY, run, started
from simulation.unwell import Plan, run_unwell
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.testing.proxy import serve_proxy
from tallystick.settlement.testing.unwell import Illness, UnwellWire

PASSWORD = {"TALLY_PASSWORD": "a password"}

pytestmark = [pytest.mark.soak, on_a_node]


def test_nobody_loses_a_unit_whatever_is_wrong_with_the_chain(campaign_seed: int) -> None:
    run_unwell(campaign_seed)


@pytest.mark.parametrize("illness", Illness)
def test_the_only_node_has_one_illness_at_every_step(illness: Illness) -> None:
    report = run_unwell(1, Plan(illnesses=((illness,),) * 5, rate=0.4))
    assert report.ill


@pytest.mark.parametrize("step", ("open", "pay", "lock", "cheat", "close"))
def test_fees_rise_for_a_hundred_blocks_and_fall_again(step: str) -> None:
    report = run_unwell(1, Plan(rise=100, rise_at=step, forgets=0.3))
    assert report.blocks > 100


@pytest.mark.parametrize("share", (0.2, 0.4))
def test_the_pool_forgets(share: float) -> None:
    run_unwell(1, Plan(forgets=share))


@pytest.mark.processes
async def test_nodes_as_processes_are_killed_while_the_chain_is_unwell(tmp_path: Path) -> None:
    illnesses = (Illness.CUT, Illness.OLD, Illness.RANGES, Illness.SILENT, Illness.NONCE_LOW, Illness.NO_RECEIPT)
    with open_local_evm("--block-time", "0.25") as evm:
        async with trio.open_nursery() as nursery:
            names, wires = {}, []
            for seed, name in enumerate(("alice", "bob")):
                wires.append(UnwellWire(httpx.AsyncHTTPTransport(), random.Random(seed)))
                url = await nursery.start(serve_proxy, wires[-1], evm.anvil.url)
                place = ("--rpc", url, "--contract", f"0x{evm.at.contract.hex()}", "--chain-id", 31_337)
                options = (*place, "--start", evm.start, "--listen", "127.0.0.1:0", "--confirmations", 3)
                made = await tally("init", "--data", tmp_path / name, "--light", *options)
                names[name] = Address(bytes.fromhex(made["address"][2:]))
                evm.anvil.fund(names[name])
            node = (*TALLY, "node", "run", "--json", "--data")
            with trio.fail_after(240):
                async with started((*node, str(tmp_path / "bob")), PASSWORD) as bobs:
                    peer = (await bobs.json())["peer_address"]
                    alice = ("--data", tmp_path / "alice")
                    async with started((*node, str(tmp_path / "alice")), PASSWORD) as alices:
                        await alices.json()
                        for wire in wires:
                            wire.illnesses, wire.rate = illnesses, 0.2
                        opened = await tally("channel", "open", peer, "--deposit", 10**18, "--wait", *alice)
                        await tally("pay", opened["id"][:8], 10**17, "--memo", "tea", *alice)
                        await alices.kill()
                    evm.anvil.ask("anvil_dropAllTransactions")
                    async with started((*node, str(tmp_path / "alice")), PASSWORD) as alices:
                        await alices.json()
                        closed = await tally("channel", "close", opened["id"][:8], *alice)
                        assert closed["phase"] == "gone"
            for wire in wires:
                await wire.aclose()
            nursery.cancel_scope.cancel()
        held = {name: int(evm.anvil.ask("eth_getBalance", f"0x{at.hex()}", "latest"), 16) for name, at in names.items()}
        assert held["bob"] == 10**20 + 10**17, "Bob was paid on the chain, and paid no fee"
        assert 10**20 - 10**17 - 10**16 < held["alice"] < 10**20 - 10**17
        assert all(sum(wire.done.values()) > 10 for wire in wires)


async def tally(*words: object) -> Any:
    code, output, errors = await run((*TALLY, *map(str, words), "--json"), PASSWORD)
    assert code == 0, output + errors
    return json.loads(output)
