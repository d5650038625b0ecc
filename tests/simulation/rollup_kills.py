"""A rollup as processes that are killed at random moments: operator, watcher, users. What was asked for is done once.

    PYTHONPATH=tests python -m simulation.rollup_kills --seed 1 --rounds 40
    PYTHONPATH=tests python -m simulation.rollup_kills --seed 1 --rounds 20 --anvil

Each round a user asks for a payment, a channel, or to take coins out, under a key, and one of the processes is killed
(SIGKILL) a moment later, perhaps that of the user, who asks again until there is an answer. In the end each account
holds what follows from all that was asked, once, and from the fees; each promise is kept; nobody was convicted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from simulation.processes import TALLY, Running, started
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.sdk.daemon.keystore import create
from tallystick.sdk.rollup.calls import RollupPlace
from tallystick.sdk.rollup.chain import open_rollup_chain
from tallystick.sdk.rollup.reading import read_rollup
from tallystick.sdk.rollup.user import RollupUser
from tallystick.settlement.testing.anvil import start_anvil

PASSWORD = {"TALLY_PASSWORD": "test"}
RICH = 10**19
FEE, DEPOSIT, BOND = 3, 100_000, 10**6
NAMES = ("operator", "watcher", "ann", "ben", "cid")
USERS = NAMES[2:]
TERMS = (BOND, 100_000, 100_000, 50_000, 1_000)
LONGEST = 1.5
"""Seconds from a command's start to a kill, at most: a command takes about one."""

TRIES = 30


class KilledRollup:
    """The processes of one rollup, and what should follow from all that was asked."""

    def __init__(self, directory: Path, url: str, seed: int, keys: dict[str, PrivateKey]) -> None:
        self.random = random.Random(seed)
        self.directory = directory
        self.keys = keys
        self.url = url
        self.rollup, self.start, self.desk = "", 0, "http://127.0.0.1:0"
        self.held = dict.fromkeys(USERS, 0)
        self.exited = dict.fromkeys(USERS, 0)
        self.fees = 0
        self.channels: dict[int, int] = {}
        self.words: set[str] = set()
        """Of steps that were promised."""
        self.kills = {"operator": 0, "watcher": 0, "user": 0, "nobody": 0}
        self._running: dict[str, AsyncExitStack] = {}
        self._programs: dict[str, Running] = {}

    def command(self, who: str, *words: str) -> list[str]:
        """Return a command of `tally rollup`."""
        more = ("--rollup", self.rollup, "--start", str(self.start)) if self.rollup else ()
        data = ("--data", str(self.directory / who), "--chain", self.url)
        return [*TALLY, "rollup", *words, *data, *more, "--json"]

    def address(self, who: str) -> str:
        """Return an account's address."""
        return f"0x{self.keys[who].address.hex()}"

    async def begin(self, watched: bool) -> None:
        """Make the rollup, start its programs, and let users deposit."""
        operator = self.keys["operator"]
        async with open_rollup_chain(self.url, RollupPlace()) as chain:
            self.rollup = str(await chain.create(operator, TERMS))
            self.start = (await chain.head()).number
        await self.launch("operator")
        if watched:
            await self.launch("watcher")
        else:
            self.kills.pop("watcher")
        async with open_rollup_chain(self.url, RollupPlace.read(self.rollup)) as chain:
            place = await chain.rules_of()
            for who in USERS:
                await RollupUser(chain, place, self.keys[who]).deposit(DEPOSIT)
                self.held[who] = DEPOSIT

    async def launch(self, name: str) -> None:
        """Start the operator or the watcher."""
        words: tuple[str, ...]
        if name == "operator":
            words = ("operate", "--pay-bond", "--every=1", f"--step-fee={FEE}", f"--listen={self.desk[7:]}")
        else:
            words = ("watch", f"--desk={self.desk}")
        stack = self._running[name] = AsyncExitStack()
        program = self._programs[name] = await stack.enter_async_context(started(self.command(name, *words), PASSWORD))
        if name == "operator":
            self.desk = str(json.loads(await program.line_with("listening"))["url"])

    async def end(self) -> None:
        """Kill what runs."""
        for stack in self._running.values():
            await stack.aclose()

    async def round(self, number: int) -> None:
        """Let a user ask for something, and kill somebody."""
        who = self.random.choice(USERS)
        other = self.random.choice([each for each in USERS if each != who])
        amount = self.random.randint(1, 500)
        words: tuple[str, ...]
        match self.random.choice(("pay", "pay", "open", "exit")):
            case "pay":
                words, self.held[other] = ("pay", self.address(other), str(amount)), self.held[other] + amount
            case "open":
                words, self.channels[number] = ("open", str(number), self.address(other), str(amount)), amount
            case _:
                words, self.exited[who] = ("exit", str(amount)), self.exited[who] + amount
        self.held[who] -= amount + FEE
        self.fees += FEE
        command = self.command(who, *words, f"--fee-max={FEE}", f"--key=round {number}", f"--desk={self.desk}")
        victim = self.random.choice(tuple(self.kills))
        self.kills[victim] += 1
        answer = await self._asked(command, victim)
        for _ in range(TRIES):
            if answer is not None:
                break
            answer = await self._answer(command)
        assert answer is not None, f"{words} was not taken in {TRIES} tries"
        self.words.add(answer["step"])

    async def _asked(self, command: list[str], victim: str) -> Any:
        """Ask once, and kill somebody a moment later."""
        delay = self.random.random() * LONGEST
        answers: list[Any] = []
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                answers.append(await self._answer(command))

            nursery.start_soon(ask)
            await trio.sleep(delay)
            if victim == "user":
                nursery.cancel_scope.cancel()
            elif victim != "nobody":
                await self._programs[victim].kill()
                await self._running[victim].aclose()
                await self.launch(victim)
        return answers[0] if answers else None

    async def _answer(self, command: list[str]) -> Any:
        """Return what a command prints, None if it failed; it is killed if this is cancelled."""
        async with started(command, PASSWORD) as asking:
            with contextlib.suppress(Exception):
                return await asking.json()
        return None

    async def check(self) -> None:
        """Wait until all is in batches; raise AssertionError unless all that was asked was done once, and no more."""
        async with open_rollup_chain(self.url, RollupPlace.read(self.rollup)) as chain:
            for _ in range(60):
                core = await read_rollup(chain, self.start)
                posted = {f"0x{word.hex()}" for each in core.standing for _, word, _ in each.batch.steps()}
                if self.words <= posted and core.queue_end == len(core.entries):
                    break
                await trio.sleep(1)
            facts = await chain.facts()
            assert self.words <= posted, "a promise is not kept"
            assert (facts.bonded, facts.frozen, core.is_wrong) == (BOND, 0, False)
            accounts = {}
            for who in (*USERS, "operator"):
                number, _, _ = await chain.account(self.keys[who].address)
                accounts[who] = core.state.accounts.get(number or 0)
            shown = {who: (each.balance, each.exited) for who, each in accounts.items() if each is not None}
            asked = {who: (self.held[who], self.exited[who]) for who in USERS} | {"operator": (1 + self.fees, 0)}
            assert shown == asked, (shown, asked)
            totals = {at: each.total for at in self.channels if (each := core.state.channels.get(at))}
            assert totals == self.channels


@asynccontextmanager
async def _chain(directory: Path, keys: dict[str, PrivateKey], *, anvil: bool) -> AsyncIterator[str]:
    addresses = [f"0x{key.address.hex()}" for key in keys.values()]
    if anvil:
        with start_anvil("--block-time", "1") as node:
            for address in addresses:
                node.ask("anvil_setBalance", address, hex(RICH))
            yield node.url
        return
    mints = [word for address in addresses for word in ("--mint", f"{address}={RICH}")]
    command = [*TALLY, "chain", "run", "--data", str(directory / "chain"), "--port", "0", "--interval", "1", "--json"]
    async with started([*command, *mints]) as chain:
        yield (await chain.json())["url"]


async def play(directory: Path, seed: int, rounds: int, *, anvil: bool = False, watched: bool = True) -> dict[str, int]:
    """Play so many rounds; return how often whom was killed. Raise AssertionError, which names what is wrong."""
    keys = {name: create(directory / name, "test", light=True) for name in NAMES}
    async with _chain(directory, keys, anvil=anvil) as url:
        world = KilledRollup(directory, url, seed, keys)
        try:
            await world.begin(watched)
            for number in range(rounds):
                await world.round(number)
            await world.check()
        finally:
            await world.end()
        return world.kills


def main() -> int:
    """Play, and say who was killed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=40)
    arguments.add_argument("--anvil", action="store_true", help="on an EVM instead of the simulated ledger")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as directory:

        async def run_all() -> dict[str, int]:
            return await play(Path(directory), options.seed, options.rounds, anvil=options.anvil)

        kills = trio.run(run_all)
    told = ", ".join(f"{who} {count}" for who, count in kills.items())
    print(
        f"seed {options.seed}: {options.rounds} rounds; killed: {told}; each request was done once, each promise kept"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
