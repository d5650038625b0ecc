"""`examples/arbitrage.py` as a process: two pools that differ, a market that lends, and a trader with fees alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from test_chain_cli import running
from test_readme_blocks import ROOT

from simulation.module_ledger import EVER, GOLD
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE
from tallystick.sdk.daemon.keystore import create
from tallystick.sdk.ledger import LedgerAccount
from tallystick.settlement.ethereum.rpc_client import open_rpc_chain

MAKER = PrivateKey(keccak(b"maker"))


async def prepare(url: str) -> None:
    """Make a pool where a coin buys one token, one where it buys a tenth more, and a market with coins."""
    async with open_rpc_chain(url, jitter=lambda: 0.5) as chain:
        maker = LedgerAccount(chain, MAKER)
        for number, gold in enumerate((10**9, 11 * 10**8)):
            await maker.call("exchange", "createPool", [NATIVE, GOLD, 1_000])
            await maker.call("exchange", "addLiquidity", [NATIVE, GOLD, number, 10**9, gold, 1, EVER], value=10**9)
        await maker.call("lending", "createMarket", [GOLD, NATIVE, 0, 800_000])
        await maker.call("lending", "supply", [0, 10**9], value=10**9)


async def prices(url: str) -> list[float]:
    async with open_rpc_chain(url, jitter=lambda: 0.5) as chain:
        pools = [await LedgerAccount(chain, MAKER).read("exchange", "pool", [NATIVE, GOLD, each]) for each in (0, 1)]
        return [pool["reserveB"] / pool["reserveA"] for pool in pools]


@pytest.mark.processes
def test_two_pools_are_evened_out_with_coins_of_others(tmp_path: Path) -> None:
    trader = create(tmp_path / "trader", "example", light=True)
    coins = [f"0x{MAKER.address.hex()}={amount}" for amount in ("1000000000000", f"1000000000000@0x{GOLD.hex()}")]
    mints = [word for coin in (*coins, f"0x{trader.address.hex()}=1000000000") for word in ("--mint", coin)]
    with running(tmp_path / "chain", "--interval", "0.05", *mints) as (_, hello):
        trio.run(prepare, hello["url"])
        program = [sys.executable, "-I", str(ROOT / "examples" / "arbitrage.py"), "--data", str(tmp_path / "trader")]
        options = ["--token", f"0x{GOLD.hex()}", "--chain", hello["url"], "--most", "40000000"]
        done = subprocess.run(
            [*program, *options],
            env={**os.environ, "TALLY_PASSWORD": "example"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = re.match(r"gained (\d+) with coins of others", done.stdout)
        assert found and int(found[1]) > 400_000
        first, second = trio.run(prices, hello["url"])
        assert abs(first - second) < 0.01
