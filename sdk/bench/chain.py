"""`tally bench chain`: how soon a transfer is final on several validators, how many are committed, and what each costs.

At each block interval three chains are measured in turn, with the same transfers and the same client: the engine with
its own kvstore on as many validators (the floor: what consensus alone takes), our validators, and one node of ours
alone. *Finality* is from when a signed transfer is handed to the first validator until the last one shows its block, at
moments spread over the interval, one after the other. *Load* is as many clients as TASKS, each of which sends one
transfer after the other of accounts of its own; what counts is what is in blocks in the end, by the time that it took.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path

import msgspec
import trio
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.sdk.bench.chain_subjects import (
    CHAIN_ID,
    MeasuredChain,
    cpu_seconds,
    genesis_for,
    open_kvstore,
    open_ours,
    open_single,
)
from tallystick.sdk.bench.control import capacity_control
from tallystick.sdk.bench.latencies import Latencies
from tallystick.sdk.bench.launcher import DriverProcesses, open_processes
from tallystick.sdk.bench.raw_rpc import RawClient, RpcRefused, open_raw
from tallystick.sdk.errors import MeasurementVoid
from tallystick.settlement.chain import TransferCall
from tallystick.settlement.ethereum.transactions import sign_call, transaction_hash
from tallystick.settlement.simulated.branch import ADJUDICATOR

TASKS = 32
"""Clients that send at the same time, spread over the validators."""
ACCOUNTS = 8
"""Of each client: of one account, at most 64 transactions may wait."""
COINS = 10**15
SAMPLES_MAX = 60
"""Of finality, in one row."""
DRAIN_SECONDS = 30.0
"""How long what was taken may still take to be in a block."""
FULL_SECONDS = 0.05
"""How long a client waits that was refused, as too much waits already."""
GOLDEN = 0.618034

Say = Callable[..., None]
Opener = Callable[[Path, DriverProcesses, float], AbstractAsyncContextManager[MeasuredChain]]


class ChainRow(msgspec.Struct, frozen=True, kw_only=True):
    """One chain at one block interval."""

    interval: float
    """Seconds that the engine waits between two blocks besides the votes; of one node, between two blocks."""
    chain: str
    validators: int
    p50_ms: float
    p99_ms: float
    """Of finality; the slowest, if there are fewer than 100 samples."""
    samples: int
    per_second: float
    """Committed under load."""
    transactions: int
    ledger_us: float
    """CPU time of all ledgers for each transaction, in microseconds."""
    engine_us: float
    """That of all engines."""
    client_us: float
    """That of the clients."""


class ChainResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `tally bench chain --json` prints."""

    control: float
    """The lowest capacity control, of 2."""
    validators: int
    seconds: float
    """Of load, in each row."""
    rows: list[ChainRow]

    def row(self, chain: str, interval: float) -> ChainRow:
        """Return one of the rows."""
        return next(row for row in self.rows if (row.chain, row.interval) == (chain, interval))


class Transfers:
    """Signed transfers for one client after the other; of accounts that are its own, in order of their nonces."""

    def __init__(self, tasks: int) -> None:
        self.keys = [PrivateKey(keccak(b"bench chain %d" % number)) for number in range(tasks * ACCOUNTS + 1)]
        self._signed: dict[tuple[int, int], bytes] = {}

    def transfer(self, account: int, nonce: int) -> bytes:
        """Return one; a second time, it is not signed again."""
        found = self._signed.get((account, nonce))
        if found is None:
            call = TransferCall(NATIVE, self.keys[account - 1].address, 1)
            found = sign_call(self.keys[account], CHAIN_ID, ADJUDICATOR, call, nonce, 1)
            self._signed[account, nonce] = found
        return found

    def of_task(self, task: int) -> Iterator[bytes]:
        """Yield a client's, without end."""
        for nonce in count():
            for account in range(ACCOUNTS):
                yield self.transfer(task * ACCOUNTS + account, nonce)

    def singles(self) -> Iterator[bytes]:
        """Yield those of the account that belongs to no client."""
        for nonce in count():
            yield self.transfer(len(self.keys) - 1, nonce)

    def addresses(self) -> list[Address]:
        """Return all accounts."""
        return [key.address for key in self.keys]


async def run_chain(
    validators: int, intervals: Sequence[float], seconds: float, directory: str, say: Say, tasks: int = TASKS
) -> ChainResult:
    """Measure in folders of its own under `directory`. Raise MeasurementVoid if what was taken does not come."""
    transfers = Transfers(tasks)
    genesis = genesis_for(transfers.addresses(), COINS)
    ready = int(ACCOUNTS * tasks * 64 * min(1.0, seconds / 10))
    say(f"signing {ready:,} transfers")
    for task in range(tasks):
        source = transfers.of_task(task)
        for _ in range(ready // tasks):
            next(source)

    @asynccontextmanager
    async def floor(folder: Path, processes: DriverProcesses, interval: float) -> AsyncIterator[MeasuredChain]:
        async with open_kvstore(folder, validators, genesis, interval) as subject:
            yield subject

    @asynccontextmanager
    async def ours(folder: Path, processes: DriverProcesses, interval: float) -> AsyncIterator[MeasuredChain]:
        async with open_ours(folder, processes, validators, genesis, interval) as subject:
            yield subject

    @asynccontextmanager
    async def single(folder: Path, processes: DriverProcesses, interval: float) -> AsyncIterator[MeasuredChain]:
        async with open_single(folder, processes, genesis, interval) as subject:
            yield subject

    rows: list[ChainRow] = []
    controls = []
    for interval in intervals:
        for opener in (floor, ours, single):
            controls.append(await trio.to_thread.run_sync(capacity_control))
            with tempfile.TemporaryDirectory(dir=directory, prefix="chain-", ignore_cleanup_errors=True) as folder:
                rows.append(await _measure(opener, Path(folder), interval, seconds, transfers, tasks, say))
    controls.append(await trio.to_thread.run_sync(capacity_control))
    return ChainResult(control=min(controls), validators=validators, seconds=seconds, rows=rows)


async def _measure(
    opener: Opener, folder: Path, interval: float, seconds: float, transfers: Transfers, tasks: int, say: Say
) -> ChainRow:
    async with open_processes() as processes, opener(folder, processes, interval) as subject:
        own = subject.name == "kvstore"
        latencies = await _finality(subject, interval, 2 * seconds, _pairs("f") if own else transfers.singles())
        sources = [_pairs(f"{task}.") if own else transfers.of_task(task) for task in range(tasks)]
        row = await _load(subject, seconds, sources, latencies, interval)
    say(
        f"{interval:g} s, {row.chain}: final in {row.p50_ms:,.0f} ms (p50), {row.per_second:,.0f}/s; "
        f"CPU µs: ledgers {row.ledger_us:,.0f}, engines {row.engine_us:,.0f}, clients {row.client_us:,.0f}"
    )
    return row


def _pairs(prefix: str) -> Iterator[bytes]:
    """Yield pairs for a kvstore, as long as a signed transfer."""
    for number in count():
        yield f"{prefix}{number}=".encode().ljust(112, b"x")


async def _finality(subject: MeasuredChain, interval: float, seconds: float, source: Iterator[bytes]) -> Latencies:
    latencies = Latencies()
    async with open_raw(subject.doors[0]) as first, open_raw(subject.doors[-1]) as last:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end and len(latencies) < SAMPLES_MAX:
            await trio.sleep(interval * (len(latencies) * GOLDEN % 1))
            transaction = next(source)
            began = time.perf_counter()
            await subject.hand_in(first, transaction)
            with trio.fail_after(DRAIN_SECONDS):
                await subject.wait_shown(last, transaction, transaction_hash(transaction))
            latencies.one(time.perf_counter() - began)
    return latencies


async def _load(
    subject: MeasuredChain, seconds: float, sources: Sequence[Iterator[bytes]], latencies: Latencies, interval: float
) -> ChainRow:
    taken = [0]
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(open_raw(subject.doors[task % len(subject.doors)]))
            for task in range(len(sources))
        ]
        async with open_raw(subject.doors[-1]) as watcher:
            before = await subject.count(watcher)
        used: list[Callable[[], float]]
        used = [partial(cpu_seconds, subject.ledgers), partial(cpu_seconds, subject.engines), time.process_time]
        began, cpu = time.perf_counter(), [read() for read in used]
        end = began + seconds
        async with trio.open_nursery() as nursery:
            for client, source in zip(clients, sources, strict=True):
                nursery.start_soon(_send, subject, client, source, end, taken)
        watcher = await stack.enter_async_context(open_raw(subject.doors[-1]))  # idle connections are ended
        with trio.move_on_after(DRAIN_SECONDS):
            while (done := await subject.count(watcher) - before) < taken[0]:  # noqa: ASYNC110  # nobody tells: it is asked anew
                await trio.sleep(interval / 10)
        took, cpu = time.perf_counter() - began, [read() - start for read, start in zip(used, cpu, strict=True)]
    if done != taken[0] or not done:
        raise MeasurementVoid(f"{subject.name} took {taken[0]} transactions, and {done} are in blocks")
    ledger, engine, client_time = (1e6 * each / done for each in cpu)
    return ChainRow(
        interval=interval,
        chain=subject.name,
        validators=len(subject.doors),
        p50_ms=1e3 * latencies.percentile(50),
        p99_ms=1e3 * latencies.percentile(99),
        samples=len(latencies),
        per_second=done / took,
        transactions=done,
        ledger_us=ledger,
        engine_us=engine,
        client_us=client_time,
    )


async def _send(subject: MeasuredChain, door: RawClient, source: Iterator[bytes], end: float, taken: list[int]) -> None:
    """Send one after the other until the end."""
    transaction = next(source)
    while time.perf_counter() < end:
        try:
            await subject.hand_in(door, transaction)
        except RpcRefused as error:
            if not any(word in str(error) for word in ("too far ahead", "full")):
                raise
            await trio.sleep(FULL_SECONDS)
            continue
        taken[0] += 1
        transaction = next(source)


def chain_table(result: ChainResult) -> Table:
    """Return the table of a `tally bench chain`."""
    caption = f"{result.seconds:g} s of load each; lowest capacity control {result.control:.2f} of 2"
    rows = Table(
        title=f"{result.validators} validators on this machine, the engine's kvstore as the floor, one node beside",
        caption=caption,
        box=SIMPLE_HEAD,
    )
    rows.add_column("interval, s")
    rows.add_column("chain")
    for heading in ("final, ms: p50", "p99", "committed/s", "CPU µs each: ledgers", "engines", "clients"):
        rows.add_column(heading, justify="right")
    for row in result.rows:
        figures = (row.p50_ms, row.p99_ms, row.per_second, row.ledger_us, row.engine_us, row.client_us)
        rows.add_row(f"{row.interval:g}", row.chain, *(f"{figure:,.0f}" for figure in figures))
    return rows
