"""`tally rollup` as processes: an operator that is killed, a watcher, merchants; on both kinds of chain."""

from __future__ import annotations

import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from simulation.local_evm import on_a_node
from simulation.processes import TALLY, Running, run, started
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.sdk.daemon.keystore import create
from tallystick.sdk.rollup.calls import RollupPlace, post_call
from tallystick.sdk.rollup.chain import RollupChain, open_rollup_chain
from tallystick.sdk.rollup.reading import read_rollup
from tallystick.settlement.ethereum.rpc_client import RpcChain, open_rpc_chain
from tallystick.settlement.rollup.execution import make_batch
from tallystick.settlement.rollup.steps import RollupTransfer
from tallystick.settlement.testing.anvil import start_anvil

EXAMPLE = Path(__file__).parent.parent / "examples" / "rollup.py"
PASSWORD = {"TALLY_PASSWORD": "test"}
RICH = 10**19
TERMS = (
    "--bond",
    "1000000",
    "--order-time",
    "600",
    "--answer-time",
    "300",
    "--fee",
    "1000",
    "--accept-terms",
)
CHANNELS = 5
WINDOW = 900
"""Seconds of chain time in which a close by one side can be answered, where each block is one second later."""
SETTLED = 3_800 + WINDOW
"""Blocks of a second each after which a batch is final for whoever believes no reorganisation."""


class Parties:
    """Who takes part, with their keys in files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.keys: dict[str, PrivateKey] = {}
        for name in ("operator", "watcher", "customer", "merchant"):
            key = self.keys[name] = create(directory / name, "test", light=True)
            (directory / f"{name}.key").write_text(key.reveal().hex())

    @property
    def addresses(self) -> list[str]:
        """Of all."""
        return [f"0x{key.address.hex()}" for key in self.keys.values()]

    def command(self, who: str, word: str, *more: str) -> list[str]:
        """Return a command of `tally rollup`."""
        return [*TALLY, "rollup", word, "--data", str(self.directory / who), *more]


async def done(command: list[str]) -> Any:
    """Run a command that prints JSON; return that."""
    code, output, error = await run([*command, "--json"], PASSWORD)
    assert code == 0, error
    return json.loads(output)


async def heard(program: Running, *words: str) -> str:
    """Return what a program said that has one of these words in it."""
    while True:
        said = json.loads(await program.line())["text"]
        if any(word in said for word in words):
            return str(said)


async def play(parties: Parties, url: str) -> None:
    """Let merchants' closes be settled by a rollup whose operator is killed, and then have a theft convicted."""
    at = ("--chain", url)
    made = await done(parties.command("operator", "create", *TERMS, "--window", "8", *at))
    rollup, start = str(made["rollup"]), str(made["block"])
    here = (*at, "--rollup", rollup, "--start", start)
    operate = parties.command("operator", "operate", *here, "--pay-bond", "--listen", "127.0.0.1:0", "--every", "1")
    async with started([*operate, "--json"], PASSWORD) as first:
        desk = json.loads(await first.line_with("listening"))["url"]
        watch = parties.command("watcher", "watch", *here, "--desk", desk, "--accept-terms", "--json")
        async with started(watch, PASSWORD) as watcher:
            await watcher.line_with("watching")
            keys = [f"--{name}={parties.directory / name}.key" for name in ("customer", "merchant")]
            example = [sys.executable, "-I", str(EXAMPLE), *at, "--rollup", rollup, "--desk", desk, *keys]
            async with started(
                [*example, f"--channels={CHANNELS}", f"--start={start}", "--wait", "--accept-terms"]
            ) as trading:
                await trading.line_with("opened")
                await first.kill()  # and it comes back at the same place, from its disk
                operate[operate.index("127.0.0.1:0")] = desk.removeprefix("http://")
                async with started([*operate, "--json"], PASSWORD) as second:
                    await second.line_with("listening")
                    assert "closed 5 channels" in await trading.line_with("closed")
                    assert "alone, by proof 2" in await trading.line_with("is gone")
                    assert "got 14" in await trading.line_with("closed a channel alone")
                    await trading.line_with("takes out")
                    await trading.line_with("paid")
                    assert await trading.process.wait() == 0
                    await second.terminate()
            await steal(parties, url, rollup, int(start))
            assert "convicted" in await heard(watcher, "convicted")
            await heard(watcher, "claimed")
    shown = await done([*TALLY, "rollup", "show", *here, "--account", parties.addresses[3]])
    assert (shown["bonded"], shown["wrong"], shown["owed"]) == (0, False, 0) and shown["exited"] == shown["paid"] > 0


async def steal(parties: Parties, url: str, rollup: str, start: int) -> None:
    """Post a batch in which the operator gives an account more than there is."""
    async with open_rollup_chain(url, RollupPlace.read(rollup)) as chain:
        core, head = await read_rollup(chain, start), await chain.head()
        rules = await chain.rules_of()
        account = core.state.accounts.get(0)
        assert account is not None
        batch, _ = make_batch(
            core.state, [RollupTransfer(0, 1, 0, account.nonce)], rules, head.time, core.queue_end, core.entry
        )
        richer = core.state.copy()
        richer.put_account(0, type(account)(account.owner, account.balance + 10**6, account.nonce + 1, account.exited))
        stolen = type(batch)(
            batch.time, batch.queue_end, richer.accounts.root, batch.channels, batch.data[:-32] + richer.root
        )
        await chain.act(parties.keys["operator"], post_call(stolen))


async def test_merchants_are_settled_by_a_rollup_on_the_simulated_chain(tmp_path: Path) -> None:
    parties = Parties(tmp_path)
    mints = [word for address in parties.addresses for word in ("--mint", f"{address}={RICH}")]
    command = [*TALLY, "chain", "run", "--data", str(tmp_path / "chain"), "--port", "0", "--interval", "1", "--json"]
    async with started([*command, *mints]) as chain:
        url = (await chain.json())["url"]
        await play(parties, url)


class Watched:
    """What a test sees of a rollup of a development chain, whose blocks come as it asks for them."""

    def __init__(self, chain: RollupChain, node: RpcChain, parties: Parties, start: int) -> None:
        self._chain, self._node, self._parties, self._start = chain, node, parties, start

    async def mine(self, count: int) -> None:
        """Have so many blocks mined, each a second later."""
        for left in range(count, 0, -1_000):
            await self._node.mine(min(left, 1_000))

    async def until(self, who: str, balance: int) -> None:
        """Wait until somebody's account has exactly this, by the batches on the chain."""
        owner = self._parties.keys[who].address
        while True:
            accounts = (await read_rollup(self._chain, self._start)).state.accounts
            held = [each.balance for at in range(3) if (each := accounts.get(at)) and each.owner == owner]
            if held == [balance]:
                return
            await self._node.wait((await self._node.head()).hash)


@pytest.mark.soak  # mines thousands of blocks: a batch is final after an hour of chain time
@pytest.mark.processes
async def test_two_pay_each_other_in_channels_and_close_one_together_and_one_alone(tmp_path: Path) -> None:
    parties = Parties(tmp_path)
    mints = [word for address in parties.addresses for word in ("--mint", f"{address}={RICH}")]
    command = [*TALLY, "chain", "run", "--data", str(tmp_path / "chain"), "--port", "0", "--json", "--dev"]
    async with started([*command, "--interval", "0.2", *mints]) as chain:
        at = ("--chain", (await chain.json())["url"])
        made = await done(parties.command("operator", "create", *TERMS, "--window", str(WINDOW), *at))
        here = (*at, "--rollup", str(made["rollup"]), "--start", str(made["block"]))
        operate = parties.command("operator", "operate", *here, "--pay-bond", "--listen", "127.0.0.1:0", "--every", "1")
        async with started([*operate, "--json"], PASSWORD) as operator, AsyncExitStack() as stack:
            desk = ("--desk", json.loads(await operator.line_with("listening"))["url"])
            place = RollupPlace.read(str(made["rollup"]))
            node = await stack.enter_async_context(open_rpc_chain(at[1], jitter=lambda: 0.5))
            watched = await stack.enter_async_context(open_rollup_chain(at[1], place))
            seen = Watched(watched, node, parties, int(made["block"]))

            async def ask(who: str, word: str, *more: str) -> Any:
                return await done(parties.command(who, word, *more, *here))

            async def pay(who: str, channel: str, amount: str, other: str) -> str:
                paid = await ask(who, "channel-pay", channel, amount, "--key", f"{channel}-{amount}")
                receipt = str((await ask(other, "channel-take", paid["payment"]))["receipt"])
                assert await ask(who, "channel-take", receipt) == {"is": "signed by both"}
                return receipt

            for who in ("customer", "merchant"):
                await done(parties.command(who, "deposit", "1000", "--accept-terms", *here[:-2]))
            await seen.until("merchant", 1_000)
            for number in ("7", "8"):
                opened = (number, f"0x{parties.keys['merchant'].address.hex()}", "300")
                await ask("customer", "open", *opened, *desk)
            await seen.until("customer", 400)
            await seen.mine(SETTLED)
            again = [await ask("customer", "channel-pay", "7", "120", "--key", "7-120") for _ in range(2)]
            assert again[0] == again[1]
            await pay("customer", "7", "120", "merchant")
            await pay("merchant", "7", "20", "customer")
            until = ("--until", str(2**39))
            signed = await ask("merchant", "channel-close", "7", *until)
            assert signed["balance"] == 200
            await ask("customer", "channel-close", "7", *until, "--signature", signed["signature"], *desk)
            old = await pay("customer", "8", "51", "merchant")
            await pay("customer", "8", "52", "merchant")
            await ask("merchant", "close-alone", "8")
            assert (await ask("customer", "answer", "8", "--receipt", old))["transactions"] == ""
            code, _, error = await run(parties.command("merchant", "channel-pay", "8", "1", *here), PASSWORD)
            assert code == 1 and "being closed by one side" in error
            await seen.mine(WINDOW)
            assert (await ask("customer", "answer", "8"))["transactions"]
            await seen.until("merchant", 1_000 + 100 + 103)
            await seen.until("customer", 400 + 200 + 197)


@pytest.mark.soak
@on_a_node
async def test_merchants_are_settled_by_a_rollup_on_an_evm(tmp_path: Path) -> None:
    parties = Parties(tmp_path)
    with start_anvil("--block-time", "1") as node:
        for address in parties.addresses:
            node.ask("anvil_setBalance", address, hex(RICH))
        await play(parties, node.url)
