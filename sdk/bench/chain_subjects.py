"""The chains that `tally bench chain` measures: validators of ours, the engine's own kvstore, one node alone.

Each is real processes on this machine, spoken to over the doors that it has: what is handed in at one is looked for at
another one.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec
import trio

from tallystick.channels.ports import system_clock, system_entropy
from tallystick.channels.protocol.objects import Address
from tallystick.sdk.bench.launcher import DriverProcesses, chain_run, tally
from tallystick.sdk.bench.raw_rpc import RawClient, RpcRefused, open_raw
from tallystick.sdk.errors import MeasurementVoid
from tallystick.settlement.go_programs import COMETBFT
from tallystick.settlement.replicated.child import open_child
from tallystick.settlement.replicated.genesis import Genesis
from tallystick.settlement.replicated.validator import found_validators
from tallystick.settlement.simulated.branch import ADJUDICATOR, ChainSettings
from tallystick.settlement.simulated.ledger import Mint

CHAIN_ID = 1337
LOOK_SECONDS = 0.005
"""Between two looks at the kvstore, which tells nobody when it has a block."""
WAIT_SECONDS = 5

FIRST_SECONDS = 90.0
"""How long a chain may take until its first block."""


class MeasuredChain(Protocol):
    """A chain under measurement."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        ...

    doors: Sequence[str]
    """Where transactions are handed in; at the last one it is looked whether they are in a block."""
    ledgers: Sequence[int]
    """Processes that hold a ledger."""
    engines: Sequence[int]
    """Processes of the consensus."""

    async def hand_in(self, door: RawClient, transaction: bytes) -> None:
        """Give a transaction to a door; return once it was taken. Raise RpcRefused."""
        ...

    async def wait_shown(self, door: RawClient, transaction: bytes, hash: bytes) -> None:
        """Return once this door shows the transaction in a block."""
        ...

    async def count(self, door: RawClient) -> int:
        """Return how many transactions are in blocks."""
        ...


class LedgerSubject:
    """Our chain, of one node or several."""

    def __init__(self, name: str, doors: Sequence[str], ledgers: Sequence[int], engines: Sequence[int]) -> None:
        self.name = name
        self.doors = doors
        self.ledgers = ledgers
        self.engines = engines
        self._counted = 0
        self._next = 1

    async def hand_in(self, door: RawClient, transaction: bytes) -> None:
        """See `MeasuredChain`."""
        await door.ask("eth_sendRawTransaction", ["0x" + transaction.hex()])

    async def wait_shown(self, door: RawClient, transaction: bytes, hash: bytes) -> None:
        """See `MeasuredChain`."""
        while True:
            known = (await door.ask("eth_getBlockByNumber", ["latest", False]))["hash"]
            if await door.ask("eth_getTransactionReceipt", ["0x" + hash.hex()]) is not None:
                return
            await door.ask("tally_waitHead", [known, hex(WAIT_SECONDS)])

    async def count(self, door: RawClient) -> int:
        """See `MeasuredChain`."""
        head = int(await door.ask("eth_blockNumber", []), 16)
        while self._next <= head:
            block = await door.ask("eth_getBlockByNumber", [hex(self._next), False])
            self._counted += len(block["transactions"])
            self._next += 1
        return self._counted


class KvStore:
    """The engine with an application of its own that stores pairs, and nothing else: what consensus alone takes."""

    name = "kvstore"

    def __init__(self, doors: Sequence[str], engines: Sequence[int]) -> None:
        self.doors = doors
        self.engines = engines
        self.ledgers: Sequence[int] = ()

    async def hand_in(self, door: RawClient, transaction: bytes) -> None:
        """See `MeasuredChain`."""
        answer = await door.ask("broadcast_tx_sync", {"tx": base64.b64encode(transaction).decode()})
        if answer["code"]:
            raise RpcRefused(f"kvstore refuses {transaction!r}: {answer}")

    async def wait_shown(self, door: RawClient, transaction: bytes, hash: bytes) -> None:
        """See `MeasuredChain`."""
        key = transaction.partition(b"=")[0].hex()
        while not await self._has(door, key):  # noqa: ASYNC110  # nobody tells: it is asked anew
            await trio.sleep(LOOK_SECONDS)

    async def _has(self, door: RawClient, key: str) -> bool:
        return bool((await door.ask("abci_query", {"path": "", "data": key}))["response"]["value"])

    async def count(self, door: RawClient) -> int:
        """See `MeasuredChain`."""
        told = (await door.ask("abci_info", {}))["response"].get("data", '{"size":0}')
        return int(msgspec.json.decode(told)["size"])


def genesis_for(accounts: Sequence[Address], coins: int) -> Genesis:
    """Return a beginning in which each account has so many coins."""
    settings = ChainSettings(chain_id=CHAIN_ID)
    return Genesis(
        time=int(system_clock()),
        chain_id=CHAIN_ID,
        contract=ADJUDICATOR,
        reward_bps=settings.reward_bps,
        gas_limit=settings.gas_limit,
        dev=False,
        mints=tuple(Mint(account, Address(bytes(20)), coins) for account in accounts),
    )


@asynccontextmanager
async def open_ours(
    folder: Path, processes: DriverProcesses, count: int, genesis: Genesis, interval: float
) -> AsyncIterator[LedgerSubject]:
    """Give our validators."""
    homes = found_validators(folder, count, genesis, interval, system_entropy)
    started: dict[int, Any] = {}

    async def start(number: int) -> None:
        place = ("--data", str(homes[number]), "--port", "0", "--json", "--until-input-ends")
        started[number] = await processes.start(f"validator {number}", tally("chain", "validate", *place))

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(start, number)
    actors = [started[number] for number in range(count)]
    pids = [actor.process.pid for actor in actors]
    doors = [actor.first["url"] for actor in actors]
    try:
        await _wait_blocks(doors)
        yield LedgerSubject("validators", doors, pids, [child for pid in pids for child in _children(pid)])
    finally:
        with trio.CancelScope(shield=True):
            for actor in actors:
                await actor.stop()


@asynccontextmanager
async def open_single(
    folder: Path, processes: DriverProcesses, genesis: Genesis, interval: float
) -> AsyncIterator[LedgerSubject]:
    """Give one node alone."""
    coins = {order.account: order.amount for order in genesis.mints}
    actor = await processes.start("chain", chain_run(str(folder), coins, interval=interval))
    try:
        yield LedgerSubject("one node", [actor.first["url"]], [actor.process.pid], [])
    finally:
        with trio.CancelScope(shield=True):
            await actor.kill()


@asynccontextmanager
async def open_kvstore(folder: Path, count: int, genesis: Genesis, interval: float) -> AsyncIterator[KvStore]:
    """Give the engine with its own application: as many validators, with the same settings."""
    program = COMETBFT.find()
    if program is None:
        raise MeasurementVoid(COMETBFT.missing)
    homes = found_validators(folder, count, genesis, interval, system_entropy)
    async with AsyncExitStack() as stack:
        files = stack.enter_context(ExitStack())
        sockets = Path(files.enter_context(tempfile.TemporaryDirectory(prefix="tally-", ignore_cleanup_errors=True)))
        engines = []
        doors = [str(sockets / str(number)) for number in range(count)]
        for home, door in zip(homes, doors, strict=True):
            log = files.enter_context((home / "engine.log").open("wb"))
            command = (program, "start", "--home", str(home), "--proxy_app", "kvstore", "--rpc.laddr", f"unix://{door}")
            engines.append((await stack.enter_async_context(open_child(command, log))).pid)
        for door in doors:
            async with open_raw(door) as client:
                with trio.fail_after(FIRST_SECONDS):
                    while not await _engine_height(client):  # noqa: ASYNC110  # nobody tells: it is asked anew
                        await trio.sleep(LOOK_SECONDS)
        yield KvStore(doors, engines)


async def _engine_height(client: RawClient) -> int:
    return int((await client.ask("abci_info", {}))["response"].get("last_block_height", 0))


async def _wait_blocks(doors: Sequence[str]) -> None:
    for door in doors:
        async with open_raw(door) as client:
            with trio.fail_after(FIRST_SECONDS):
                while (block := await client.ask("eth_getBlockByNumber", ["latest", False]))["number"] == "0x0":
                    await client.ask("tally_waitHead", [block["hash"], hex(WAIT_SECONDS)])


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return how many seconds of processor time these processes have used so far; raise MeasurementVoid off Linux."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError as error:
            raise MeasurementVoid(f"process {pid} cannot be looked at, or is gone: {error}") from error
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
