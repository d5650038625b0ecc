"""The demo's chain on four validators (`make demo-bft`): one is killed, and one signs twice.

Nodes and the tower each ask a validator of their own, and know nothing of the others. While Mallory pays Bob, one
validator is killed; it comes back, and is brought up to date. Then the key of another one votes from a second machine,
against itself: the others prove it to each other, and the ledger slashes what is staked with it.
"""

from __future__ import annotations

import base64
import shutil
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio
from ground import FUNDS, SimulatedGround
from nacl.signing import SigningKey
from rich.table import Table
from stage import Stage

from tallystick import NATIVE, PrivateKey, open_rpc_chain
from tallystick.channels.ports import system_entropy
from tallystick.channels.protocol.objects import Address
from tallystick.channels.transport.retries import Jitter
from tallystick.sdk.bench.launcher import DriverProcess, DriverProcesses, tally
from tallystick.sdk.cli.validators import found_homes
from tallystick.settlement.ethereum.module_calls import read_answer, write_call
from tallystick.settlement.ethereum.rpc_client import RpcChain
from tallystick.settlement.modules.validator_records import REWARDS
from tallystick.settlement.replicated.home import KEY, NODE_KEY, SETTINGS, STATE
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.simulated.ledger import Mint

COUNT = 4
KILLED, CHEAT, WATCHED = 3, 2, 0
"""Which validator is killed, which signs twice, and at which one the demo itself looks."""

ASKED = {"alice": 3, "mallory": 2, "ann": 2, "bob": 1, "tower": 1, "cid": 1}
"""Which validator each party asks; the others ask the first one."""

INTERVAL = 0.02
"""Real seconds that the engine waits between two blocks, besides the votes: some five blocks in a second, in all."""

BLOCKS_AWAY = 6
"""Blocks that the others make while one is dead."""

LOOK_SECONDS = 0.05

CHEAT_PROGRAM = Path(__file__).parent / "cheat.py"


class ValidatorsGround(SimulatedGround):
    """Four validators, each a process, on this machine."""

    longest = 300.0
    has_court = False

    def __init__(
        self, chains: list[RpcChain], urls: list[str], homes: list[Path], running: list[DriverProcess]
    ) -> None:
        super().__init__(chains[WATCHED], urls[WATCHED])
        self.told = f"four validators agree on a chain, asked at {', '.join(url.rpartition('/')[2] for url in urls)}"
        self._chains = chains
        self._urls = urls
        self._homes = homes
        self._running = running
        self._came: dict[int, str] = dict.fromkeys(range(COUNT), "was there")

    def place(self, name: str) -> dict[str, Any]:
        """See `Ground`."""
        return {"chain": self._urls[ASKED.get(name, WATCHED)]}

    def tower(self) -> list[str]:
        """See `Ground`."""
        return ["--chain", self._urls[ASKED["tower"]], f"--budget={FUNDS // 100}", f"--fee-reserve={FUNDS // 10}"]

    async def balances(self, accounts: Mapping[str, Address]) -> dict[str, int]:
        """See `Ground`. Fees are shared out among those who signed."""
        held = await super().balances(accounts)
        return held | {"fees": held["fees"] + await self.chain.balance(REWARDS, NATIVE)}

    async def trouble(self, stage: Stage, processes: DriverProcesses) -> None:
        """Kill one, bring it back; then let another one sign twice."""
        await self._kill(stage, processes)
        await self._cheat(stage, processes)

    async def _kill(self, stage: Stage, processes: DriverProcesses) -> None:
        await self._running[KILLED].kill()
        at = (await self.chain.head()).number
        stage.tell(f"validator {KILLED} is killed (SIGKILL) at block {at}")
        await self._wait_block(self._chains[WATCHED], at + BLOCKS_AWAY)
        self._running[KILLED] = await processes.start("validator", validate(self._homes[KILLED], self._urls[KILLED]))
        now = (await self.chain.head()).number
        await self._wait_block(self._chains[KILLED], now)
        self._came[KILLED] = f"killed at block {at}, back at {now}"
        stage.check(True, f"three of four went on to block {now}; validator {KILLED} is back, and has them all")

    async def _cheat(self, stage: Stage, processes: DriverProcesses) -> None:
        guilty = Address(bytes.fromhex(msgspec.json.decode((self._homes[CHEAT] / KEY).read_bytes())["address"]))
        twin = _second_machine(self._homes[CHEAT])
        second = await processes.start("second", [str(CHEAT_PROGRAM), *validate(twin, "")[2:]])
        stage.tell(
            f"the key of validator {CHEAT} votes from a second machine, too, and against what the first one says"
        )
        while (found := await self._validator(guilty))["power"]:  # noqa: ASYNC110  # nobody tells: it is asked anew
            await trio.sleep(LOOK_SECONDS)
        await second.stop()
        first = (await self._view("delegationAt", found["operator"], 0))["delegation"]  # all of its stake
        slashed = found["stake"] - (await self._view("delegation", first))["amount"]
        stage.check(
            slashed > 0 and slashed * 20 == found["stake"],
            f"the ledger convicts validator {CHEAT} by its signatures for block {found['signedTwiceIn']}: "
            f"{slashed:,} coins are slashed, 5 % of its stake, and it votes no more",
        )
        self._came[CHEAT] = f"signed block {found['signedTwiceIn']} twice: slashed"

    async def finish(self, stage: Stage) -> None:
        """Check that all have the same blocks, and show who was where."""
        heads = [await chain.head() for chain in self._chains]
        least = min(head.number for head in heads)
        found = [await chain.header(least) for chain in self._chains]
        stage.check(len(set(found)) == 1 and found[0] is not None, f"all four validators have the same block {least}")
        table = Table(title="Validators")
        for heading in ("validator", "who asked it", "what became of it", "block at the end", "power"):
            table.add_column(heading, justify="right" if heading in ("block at the end", "power") else "left")
        for number, head in enumerate(heads):
            asked = [name for name, at in ASKED.items() if at == number]
            asked += ["all others"] if number == WATCHED else []
            key = msgspec.json.decode((self._homes[number] / KEY).read_bytes())
            power = (await self._validator(Address(bytes.fromhex(key["address"]))))["power"]
            table.add_row(str(number), ", ".join(asked), self._came[number], f"{head.number:,}", f"{power:,}")
        stage.console.print(table)

    async def _validator(self, address: Address) -> dict[str, Any]:
        return await self._view("validator", address)

    async def _view(self, name: str, *arguments: object) -> dict[str, Any]:
        call = write_call("validators", name, list(arguments))
        return dict(read_answer(call, await self._chains[WATCHED].view(call)))

    async def _wait_block(self, chain: RpcChain, number: int) -> None:
        while (await chain.head()).number < number:  # noqa: ASYNC110  # nobody tells: it is asked anew
            await trio.sleep(LOOK_SECONDS)


def validate(home: Path, url: str) -> list[str]:
    """Return the command that runs a validator, at the port of a URL, or a free one."""
    port = url.rpartition(":")[2] or "0"
    return tally("chain", "validate", "--data", str(home), "--port", port, "--json", "--until-input-ends")


def _second_machine(home: Path) -> Path:
    """Return a copy of a validator's home as nobody should ever make it: the same key, and nothing of what it voted."""
    copy = home.parent / "second-machine"
    shutil.copytree(home / "config", copy / "config")
    (copy / STATE).parent.mkdir()
    (copy / STATE).write_text('{"height": "0", "round": 0, "step": 0}')
    seed = SigningKey(system_entropy(32))
    node_key = msgspec.json.decode((copy / NODE_KEY).read_bytes())
    node_key["priv_key"]["value"] = base64.b64encode(bytes(seed) + bytes(seed.verify_key)).decode()
    (copy / NODE_KEY).write_bytes(msgspec.json.encode(node_key))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = (copy / SETTINGS).read_text().splitlines()
    lines = [f'laddr = "tcp://127.0.0.1:{port}"' if line.startswith("laddr") else line for line in lines]
    (copy / SETTINGS).write_text("\n".join(lines) + "\n")
    return copy


@asynccontextmanager
async def open_validators(
    folder: Path, processes: DriverProcesses, keys: Mapping[str, PrivateKey], jitter: Jitter
) -> AsyncIterator[ValidatorsGround]:
    """Give four validators, on whose ledger each account has coins."""
    coins = [Mint(key.address, NATIVE, FUNDS) for key in keys.values()]
    homes = found_homes(folder / "validators", COUNT, ChainSettings(interval=INTERVAL), coins)
    running: dict[int, DriverProcess] = {}

    async def start(number: int) -> None:
        running[number] = await processes.start(f"validator {number}", validate(homes[number], ""))

    async with trio.open_nursery() as nursery:
        for number in range(COUNT):
            nursery.start_soon(start, number)
    actors = [running[number] for number in range(COUNT)]
    urls = [actor.first["url"] for actor in actors]
    async with AsyncExitStack() as stack:
        chains = [await stack.enter_async_context(open_rpc_chain(url, jitter=jitter)) for url in urls]
        for chain in chains:
            while not (head := await chain.head()).number:
                await chain.wait(head.hash)
        yield ValidatorsGround(chains, urls, homes, actors)
