"""`examples/maker.py` as a process between two chains: paid from one to the other, also after it was killed."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from test_examples_network import EXAMPLES, PASSWORD, PATIENCE, tally

from simulation.processes import TALLY, Running, run, started

MAKER = (sys.executable, "-I", str(EXAMPLES / "maker.py"))


@pytest.mark.processes
@pytest.mark.soak
async def test_a_maker_with_a_node_on_each_chain_pays_from_one_to_the_other(tmp_path: Path) -> None:
    alice, bob = tmp_path / "alice", tmp_path / "bob"
    options = ("--shards", "2", "--port", "0", "--interval", "0.1", "--dev", "--json")
    with trio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack:

            async def begin(*command: str) -> Running:
                return await stack.enter_async_context(started(command, PASSWORD))

            async def node(directory: Path, url: str) -> None:
                await (await begin(*TALLY, "node", "run", "--json", "--data", str(directory), "--chain", url)).json()

            async def mirrored(invoice: str) -> str:
                code, out, error = await run((*MAKER, "cross", invoice, "--data", str(tmp_path / "maker")))
                assert code == 0, error
                return out.strip()

            urls: dict[int, str] = {}
            accounts = {
                directory: (await tally(directory, "init", "--light", "--listen", "", "--chain-id", chain))["address"]
                for directory, chain in ((alice, "1337"), (bob, "1338"))
            }
            coins = [f"--mint={account}={10**18}" for account in accounts.values()]
            group = await begin(*TALLY, "chain", "run", "--data", str(tmp_path / "chain"), *options, *coins)
            while (line := await group.json())["event"] != "ready":
                urls[line["shard"]] = line["url"]
            command = (*MAKER, "run", "--data", str(tmp_path / "maker"), "--one", urls[0], "--other", urls[1])
            maker = await begin(*command, "--base-fee", "7", "--rate", "3:2")
            *_, here = (await maker.line_with("open a channel to")).partition(",")[0].split()
            there = (tmp_path / "maker" / "other").read_text().strip()
            await node(alice, urls[0])
            await node(bob, urls[1])
            await tally(alice, "channel", "open", here, "--deposit", "100000")
            await tally(bob, "channel", "open", there, "--deposit", "1000")
            await tally(bob, "channel", "wait", "--receivable", "1000")

            for amount in (5_000, 300):
                invoice = (await tally(bob, "invoice", "create", str(amount)))["invoice"]
                text = await mirrored(invoice)
                if amount == 300:
                    await maker.kill()
                    maker = await begin(*command, "--base-fee", "9", "--rate", "5:2")
                    await maker.line_with("open a channel to")
                    assert await mirrored(invoice) == text, "what it promised, it remembers"
                paid = await tally(alice, "pay", text)
                assert paid["amount"] == amount * 3 // 2 + 7
            invoice = (await tally(bob, "invoice", "create", "200"))["invoice"]
            across = ("--with", "coin", "--maker", here)
            paid = await tally(alice, "pay", invoice, "--max", "509", *across)  # at five for two, and nine
            assert (paid["amount"], paid["fee"]) == (509, 0)
            assert await tally(alice, "pay", invoice, "--max", "509", *across) == paid, "once, however often"
            [theirs] = await tally(alice, "channel", "list")
            [ours] = await tally(bob, "channel", "list")
            assert (theirs["balance"], ours["balance"]) == (100_000 - 8_473, 6_500)
