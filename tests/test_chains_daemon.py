"""One process with a node on each of two chains: a maker whose rates commands set, and somebody who swaps over it."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from test_examples_network import PASSWORD, PATIENCE, tally
from typer.testing import CliRunner

from simulation.processes import TALLY, Running, started
from tallystick.sdk.chains.margins import ChainRisk, risk_of
from tallystick.sdk.cli.app import app
from tallystick.sdk.daemon.configuration import Settings
from tallystick.settlement.ethereum.transactions import TARIFF
from tallystick.settlement.port import ChainFigures

ONE, OTHER = "coin@1337", "coin@1338"


async def refused(directory: Path, *arguments: str) -> str:
    """Run a command that is to fail; return what it says."""
    command = [*arguments, "--data", str(directory)]
    done = await trio.to_thread.run_sync(lambda: CliRunner().invoke(app, command, env=PASSWORD))
    assert done.exit_code == 1, done.output
    return str(done.stderr)


def change(directory: Path, **settings: Any) -> None:
    """Write settings over those in config.toml."""
    path = directory / "config.toml"
    lines = path.read_text().splitlines()
    for name, value in settings.items():
        at = next(number for number, line in enumerate(lines) if line.startswith(f"{name} = "))
        lines[at] = f"{name} = {json.dumps(value)}"
    path.write_text("\n".join(lines))


class Group:
    """Two chains of one process, and on each a node of a maker's and one of a customer's: two processes."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.maker, self.customer = folder / "maker", folder / "customer"
        self.homes = [self.maker, self.maker / "other", self.customer, self.customer / "other"]
        self._folder, self._stack = folder, stack

    async def begin(self, *command: str) -> Running:
        """Start a command that goes on until it is stopped."""
        return await self._stack.enter_async_context(started(command, PASSWORD))

    async def start_chains(self) -> None:
        """Make the homes, and start both chains with coins for all."""
        coins = []
        for number, home in enumerate(self.homes):
            listen = "" if home.is_relative_to(self.customer) else "127.0.0.1:0"
            made = await tally(home, "init", "--light", "--listen", listen, "--chain-id", str(1337 + number % 2))
            coins.append(f"--mint={made['address']}={10**18}")
        options = ("--shards", "2", "--port", "0", "--interval", "0.1", "--dev", "--json")
        group = await self.begin(*TALLY, "chain", "run", "--data", str(self._folder / "chain"), *options, *coins)
        urls: dict[int, str] = {}
        while (line := await group.json())["event"] != "ready":
            urls[line["shard"]] = line["url"]
        for number, home in enumerate(self.homes):
            change(home, chain_url=urls[number % 2])

    async def run(self, directory: Path) -> tuple[Running, list[str]]:
        """Start somebody's nodes; return the process, and where they are."""
        process = await self.begin(*TALLY, "node", "run", "--json", "--data", str(directory))
        return process, [(await process.json())["peer_address"] for _ in range(2)]

    async def open_channels(self, places: list[str]) -> None:
        """Open a channel of the customer's on each chain; the maker puts something into the second one."""
        for home, place in zip(self.homes[2:], places, strict=True):
            await tally(home, "channel", "open", place, "--deposit", "100000")
        [channel] = await tally(self.homes[1], "channel", "list")
        await tally(self.homes[1], "channel", "deposit", channel["id"], "50000")


async def check_market(customer: Path, maker: str) -> dict[str, Any]:
    """See that the customer knows by gossip what the maker asks for; return it."""
    listed = await tally(customer, "markets", "--give", ONE)
    while not (listed and listed[0]["offers"][0]["connected"]):
        listed = await tally(customer, "markets", "--give", ONE)  # the maker's node is on its way back
    [offer] = listed[0]["offers"]
    assert (listed[0]["get"], offer["maker"], offer["connected"]) == (OTHER, maker, True)
    assert (offer["take"], offer["give"], offer["base"], offer["most"].bit_count()) == (3, 2, 7, 1)
    assert await tally(customer / "other", "markets", "--give", OTHER) == []
    return dict(offer)


async def check_books(maker: Path, customer: Path, margin: int) -> None:
    """See that two swaps of 6,662, one of 100 and a payment of 100 were made, and nothing else."""
    stands = await tally(maker, "maker")
    assert 7_600 < stands["rates"][0]["margin"] == margin < 7_600 + 3_000, "absence, and a stall there"
    [offer] = (await tally(customer, "markets"))[0]["offers"]
    assert (offer["kept"], offer["broken"], offer["refused"]) == (4, 0, False)
    assert (stands["paid"], stands["lost"], stands["open"]) == (4, 0, 0)
    while stands["quotes"]:
        stands = await tally(maker, "maker")  # quotes that were too dear bind something until they lapse
    assert [one["free"] for one in stands["rates"]] == [50_000 - 1_500 - 2 * 6_662 - 200], "less the reserve"
    assert (await tally(customer / "other", "channel", "list"))[0]["balance"] == 100_000 + 2 * 6_662 + 200
    assert (await tally(customer, "channel", "list"))[0]["balance"] == 100_000 - 20_314


@pytest.mark.processes
async def test_a_daemon_follows_two_chains_makes_at_its_rates_and_another_swaps_over_it(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack:
            group = Group(tmp_path, stack)
            maker, customer, homes = group.maker, group.customer, group.homes
            await group.start_chains()
            change(maker, also=["other"], maker=True, maker_absence=4_000)
            change(maker / "other", chain_stall=3_600)
            change(customer, also=["other"])
            process, [here, there] = await group.run(maker)
            payer, _ = await group.run(customer)
            for home, place in zip(homes, (here, there), strict=False):
                change(home, listen=place.partition("@")[2])
            assert "is no maker: set maker = true" in await refused(customer, "rate", "list")
            assert "not on chain 7, but on 1337, 1338" in await refused(maker, "rate", "set", "coin@7", ONE, "1:1")
            await group.open_channels([here, there])

            assert await tally(maker, "rate", "list") == []
            await tally(maker, "rate", "set", ONE, OTHER, "3:2", "--base", "7")
            await tally(homes[1], "rate", "set", OTHER, ONE, "2:3")
            await tally(maker, "rate", "remove", OTHER, ONE)
            swap = ("swap", "10000", ONE, "for", OTHER, "--maker", here)
            said = await refused(customer, *swap, "--min", "6663")
            assert "makers offer 6662 of coin@1338 now, and you want 6663" in said
            made = await tally(customer, *swap, "--min", "6662")
            assert (made["given"], made["got"]) == (10_000, 6_662)
            assert [part["why"] for part in made["parts"]] == [""]
            assert made == await tally(customer, *swap, "--min", "6662") | {"parts": made["parts"]}, "another one"

            await process.kill()
            process, _ = await group.run(maker)
            [rate] = await tally(maker, "rate", "list")
            assert (rate["take"], rate["give"], rate["base"]) == (3, 2, 7), "rates are stored"
            offer = await check_market(customer, here[:66])
            asked = await tally(customer / "other", "invoice", "create", "100")
            given = ("pay", asked["invoice"], "--with", ONE, "--max")
            assert "the best offer is 157 of coin@1337, not 156" in await refused(customer, *given, "156")
            paid = await tally(customer / "other", *given, "157")
            assert (paid["amount"], paid["state"]) == (157, "paid"), "by the node of the chain that it names"
            swap = ("swap", "157", ONE, "for", OTHER, "--min", "100")
            assert (await tally(customer / "other", *swap))["got"] == 100, "whichever node is asked"
            await check_books(maker, customer, offer["margin"])
            for running, directory in ((process, maker / "other"), (payer, customer)):
                await tally_stop(directory)
                assert await running.process.wait() == 0, "one stops all"


async def tally_stop(directory: Path) -> None:
    """Stop the nodes of a process by one of them."""
    stop = partial(CliRunner().invoke, app, ["node", "stop", "--data", str(directory)])
    await trio.to_thread.run_sync(stop)


def test_what_a_chain_may_do_is_what_its_node_is_told_and_else_what_is_known_of_it() -> None:
    figures = ChainFigures(tariff=TARIFF, block_seconds=2.0, confirmations=5)
    told = Settings(chain_id=1, contract="0x" + "11" * 20, chain_depth=9, chain_inclusion=4, chain_stall=70)
    assert told.chain_risk(figures) == ChainRisk(block_seconds=2.0, depth=9, inclusion=4, stall=70)
    usual = Settings(chain_id=1, contract="0x" + "11" * 20, confirmations=7)
    assert usual.chain_risk(figures) == risk_of(figures, 7) == ChainRisk(block_seconds=2.0, depth=7)


async def test_what_the_first_node_names_must_be_nodes_on_other_chains_that_name_none(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for home in (first, second):
        await tally(home, "init", "--light", "--listen", "", "--chain-id", "1337")
    change(first, also=["../second"])
    assert "are on one chain: a node carries all of its assets" in await refused(first, "node", "run")
    change(second, chain_id=1338, also=["../first"])
    assert "`also` and `maker` are for the first node" in await refused(first, "node", "run")
    change(second, maker_skew=-1)
    assert "maker_skew must be from 0 to 43200 seconds, not -1" in await refused(second, "node", "run")
    change(second, maker_skew=0, chain_inclusion=0)
    assert "chain_inclusion must be from 1 to 10000 blocks, not 0" in await refused(second, "node", "run")
    change(first, also=["../third"])
    assert "third: run `tally init` first" in await refused(first, "node", "run")
