"""`tally bench virtual`: a virtual channel over hubs beside a channel with deposits, between the same two nodes.

Two players and one hub or more, each a process with a store of its own (`synchronous=FULL`), linked over loopback TCP
with Noise, on a simulated chain that one more process serves. The hubs stand in a row, with a channel from each to the
next, and from the ends of the row to the players; between the players are a channel with deposits and a virtual one.
First virtual channels are opened, paid in and closed, one after the other; then payments are made in both kinds of
channel in turn, so that what else the machine does hits both alike.

At the end the books must balance: the virtual channel is closed, nothing is locked any more, the payer has what it paid
less, the payee has it, and the hubs are as they were. Transactions are counted: a closing takes one only where its
settlement found no way over the hubs.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
from rich.table import Table

from tallystick.channels.protocol.keys import PrivateKey
from tallystick.sdk.bench.control import CONTROL_MIN, capacity_control
from tallystick.sdk.bench.driver import DriverOptions
from tallystick.sdk.bench.launcher import DriverProcess, chain_run, driver, open_processes
from tallystick.sdk.bench.stage import TASKS, WARM_UP
from tallystick.sdk.errors import MeasurementVoid

FUNDS = 10**15
DEPOSIT = 10**12
STAKE = 10**10
"""Of each side, in a virtual channel."""

KINDS_COMPARED = ("alone", "awaited", "submitted", "bulk")
"""The classes of payment that a virtual channel carries."""

COUNTED = ("cpu", "signatures", "commits", "bytes")
"""What is counted of the hubs meanwhile."""

TRIES = 3
"""Tries for a round whose capacity control is good enough."""

KNOWN_SECONDS = 120
"""For which the players wait until they know the channels between the hubs."""


class VirtualResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints. Times in ms, rates per second, on the payer's clock; medians of all rounds or openings."""

    control: float
    """The lowest capacity control of all rounds, each the best of its tries."""
    kind: str
    """The class of payment."""
    hubs: int
    """How many the virtual channel goes over."""
    virtual_per_second: float
    direct_per_second: float
    ratio: float
    """Of the two, in the same round."""
    ratios: list[float]
    """Of each round."""
    virtual_p50_ms: float
    direct_p50_ms: float
    hub_cpu_us_per_payment: float
    """CPU time of all hubs' processes while payments were made in the virtual channel, divided by them."""
    hub_idle_cpu_us_per_payment: float
    """The same while they were made in the channel with deposits, unknown to the hubs: what they do anyway."""
    hub_signatures: int
    hub_commits: int
    """Of all hubs while payments were made in the virtual channel."""
    hub_bytes: int
    """On the hubs' links meanwhile; also with nobody paying, peers ping each other."""
    payments: int
    """In the virtual channel, in all rounds that count."""
    open_p50_ms: float
    open_p90_ms: float
    """From `open_virtual` until it can be paid in: both stakes locked and agreed in all channels with hubs."""
    close_p50_ms: float
    close_p90_ms: float
    """From `close` until nothing is locked for it at the payer, after a payment: so a settlement went over the hubs."""
    openings: int
    transactions: int
    """Of all nodes after the channels with deposits stood: one for each closing that went by the court."""
    rounds: int
    seconds: float
    durability: str = "full"


class _Round(msgspec.Struct, frozen=True):
    control: float
    virtual: dict[str, Any]
    direct: dict[str, Any]
    hub: dict[str, float]
    idle: dict[str, float]

    @property
    def ratio(self) -> float:
        return float(self.virtual["per_second"] / self.direct["per_second"])


class VirtualStage:
    """The nodes, and their books."""

    def __init__(self, nodes: list[DriverProcess]) -> None:
        """`nodes`: the payer, the hubs, the payee, in the order of the row."""
        self._row = nodes
        self.payer, *self.hubs, self.payee = nodes
        self.direct = ""
        """The channel with deposits between the players."""
        self._opening: list[dict[str, int]] = []
        self._paid = 0

    async def prepare(self) -> None:
        """Open the channels with deposits, and the books."""
        between = []
        for one, other in itertools.pairwise(self._row):
            opened = await one.ask("open", peer=other.first["peer"], deposit=DEPOSIT)
            await other.ask("deposit", channel=opened["channel"], amount=DEPOSIT)
            between.append(opened["channel"])
        opened = await self.payer.ask("open", peer=self.payee.first["peer"], deposit=DEPOSIT)
        self.direct = opened["channel"]
        with trio.fail_after(KNOWN_SECONDS):
            for player in (self.payer, self.payee):
                await player.ask("know", channels=between)
        self._opening = await self._wealth()

    async def open(self) -> tuple[str, float]:
        """Open a virtual channel; return its id and the seconds."""
        to, over = self.payee.first["key"], [hub.first["address"] for hub in self.hubs]
        opened = await self.payer.ask("open_virtual", to=to, over=over, stake=STAKE)
        return opened["channel"], opened["seconds"]

    async def close(self, channel: str) -> float:
        """Close a virtual channel; return the seconds, once nothing of it is locked anywhere."""
        seconds: float = (await self.payer.ask("end_virtual", channel=channel))["seconds"]
        await self._free()
        return seconds

    async def pay(self, channel: str, kind: str, seconds: float) -> tuple[dict[str, Any], dict[str, float]]:
        """Pay for some seconds; return the payer's figures, and what the hubs used meanwhile."""
        before = await self._counted()
        sent = await self.payer.ask("bench", channel=channel, kind=kind, seconds=seconds, tasks=TASKS)
        after = await self._counted()
        self._paid += sent["count"]
        return sent, {name: after[name] - before[name] for name in COUNTED}

    async def pay_once(self, channel: str, amount: int) -> None:
        """Make one payment."""
        await self.payer.ask("pay", channel=channel, prefix=channel, count=1, tasks=1, amount=amount)
        self._paid += amount

    async def close_books(self) -> int:
        """Raise MeasurementVoid unless everybody has what the receipts say; return the number of transactions made."""
        pairs = list(zip(self._opening, await self._wealth(), strict=True))
        change = [after["own"] - before["own"] for before, after in pairs]
        made = sum(after["transactions"] - before["transactions"] for before, after in pairs)
        check_virtual(change, self._paid)
        return made

    async def _counted(self) -> dict[str, float]:
        counters = [await hub.ask("counters") for hub in self.hubs]
        return {name: sum(each[name] for each in counters) for name in COUNTED}

    async def _free(self) -> None:
        for node in (self.payer, self.payee, *self.hubs):
            await node.ask("free")

    async def _wealth(self) -> list[dict[str, int]]:
        return [await node.ask("wealth") for node in self._row]


def check_virtual(change: list[int], paid: int) -> None:
    """Raise MeasurementVoid unless `change` of payer, hubs and payee fits receipts for `paid`."""
    if change != [-paid, *[0] * (len(change) - 2), paid]:
        raise MeasurementVoid(
            f"the books do not balance: there are receipts for {paid}, and what payer, hubs and payee hold has changed "
            f"by {', '.join(map(str, change))}. This is a fault of the engine: please report it"
        )


async def run_virtual(
    kind: str,
    seconds: float,
    rounds: int,
    openings: int,
    *,
    hubs: int = 1,
    tries: int = TRIES,
    directory: str | None = None,
    say: Callable[[str], None],
) -> VirtualResult:
    """Measure `openings` openings and closings, then payments in both channels. `say` is told how it goes."""
    with tempfile.TemporaryDirectory(prefix="tally-bench-", dir=directory) as folder:
        async with _virtual_stage(folder, hubs) as stage:
            say(f"two players and {hubs_of(hubs)} stand; opening and closing virtual channels")
            opened, closed = await _openings(stage, openings)
            channel, _ = await stage.open()
            say("paying in both kinds of channel, in turn")
            for each in (stage.direct, channel):
                await stage.pay(each, kind, WARM_UP)
            measured = [await _round(stage, channel, kind, seconds, tries, say) for _ in range(rounds)]
            await stage.close(channel)
            made = await stage.close_books()
    return _summary(kind, hubs, seconds, measured, opened, closed, made)


async def _openings(stage: VirtualStage, count: int) -> tuple[list[float], list[float]]:
    opened, closed = [], []
    for _ in range(count):
        channel, seconds = await stage.open()
        opened.append(seconds)
        await stage.pay_once(channel, 1_234)
        closed.append(await stage.close(channel))
    return opened, closed


async def _round(
    stage: VirtualStage, channel: str, kind: str, seconds: float, tries: int, say: Callable[[str], None]
) -> _Round:
    best: _Round | None = None
    for _ in range(tries):
        before = await trio.to_thread.run_sync(capacity_control, seconds)
        direct, idle = await stage.pay(stage.direct, kind, seconds)
        virtual, hub = await stage.pay(channel, kind, seconds)
        control = min(before, await trio.to_thread.run_sync(capacity_control, seconds))
        found = _Round(control, virtual, direct, hub, idle)
        if best is None or found.control > best.control:
            best = found
        if control >= CONTROL_MIN:
            break
    assert best is not None
    say(f"virtual {best.virtual['per_second']:,.0f}/s, direct {best.direct['per_second']:,.0f}/s ({best.control:.2f})")
    return best


def _summary(
    kind: str, hubs: int, seconds: float, measured: list[_Round], opened: list[float], closed: list[float], made: int
) -> VirtualResult:
    payments = sum(each.virtual["count"] for each in measured)
    beside = sum(each.direct["count"] for each in measured)
    return VirtualResult(
        control=min(each.control for each in measured),
        kind=kind,
        hubs=hubs,
        virtual_per_second=statistics.median(each.virtual["per_second"] for each in measured),
        direct_per_second=statistics.median(each.direct["per_second"] for each in measured),
        ratio=statistics.median(each.ratio for each in measured),
        ratios=[each.ratio for each in measured],
        virtual_p50_ms=statistics.median(each.virtual["p50_ms"] for each in measured),
        direct_p50_ms=statistics.median(each.direct["p50_ms"] for each in measured),
        hub_cpu_us_per_payment=1e6 * sum(each.hub["cpu"] for each in measured) / max(1, payments),
        hub_idle_cpu_us_per_payment=1e6 * sum(each.idle["cpu"] for each in measured) / max(1, beside),
        hub_signatures=int(sum(each.hub["signatures"] for each in measured)),
        hub_commits=int(sum(each.hub["commits"] for each in measured)),
        hub_bytes=int(sum(each.hub["bytes"] for each in measured)),
        payments=payments,
        open_p50_ms=1e3 * statistics.median(opened),
        open_p90_ms=1e3 * _ninth(opened),
        close_p50_ms=1e3 * statistics.median(closed),
        close_p90_ms=1e3 * _ninth(closed),
        openings=len(opened),
        transactions=made,
        rounds=len(measured),
        seconds=seconds,
    )


def _ninth(times: list[float]) -> float:
    """Return what nine of ten do not exceed."""
    return sorted(times)[(len(times) * 9 - 1) // 10]


@asynccontextmanager
async def _virtual_stage(folder: str, hubs: int) -> AsyncIterator[VirtualStage]:
    """Give two players, pinned to a core each, and hubs, with their channels on chain."""
    names = ("payer", *(f"hub{number}" for number in range(1, hubs + 1)), "payee")
    keys = {name: PrivateKey(bytes([number + 1]) * 32) for number, name in enumerate(names)}
    cores = {"payer": 0, "payee": 1}
    async with open_processes() as processes:
        coins = {key.address: FUNDS for key in keys.values()}
        chain = await processes.start("chain", chain_run(f"{folder}/chain", coins, interval=1.0))
        nodes = []
        for name, key in keys.items():
            role = DriverOptions(
                data=f"{folder}/{name}",
                chain=chain.first["url"],
                key=key.reveal().hex(),
                cpu=cores.get(name),
                virtual_deposit=STAKE,
            )
            nodes.append(await processes.start(name, driver(role)))
        stage = VirtualStage(nodes)
        await stage.prepare()
        yield stage


def hubs_of(count: int) -> str:
    """Return how many hubs that is, in words."""
    return "one hub" if count == 1 else f"{count} hubs"


def virtual_table(result: VirtualResult) -> Table:
    """Return the table of a `tally bench virtual`."""
    rows = Table(
        title=(
            f"a virtual channel over {hubs_of(result.hubs)}, class {result.kind}, "
            f"{result.rounds} x {result.seconds:g} s each, FULL"
        ),
        caption=(
            f"{result.openings} openings, {result.transactions} transactions; capacity control {result.control:.2f}"
        ),
    )
    rows.add_column("figure")
    rows.add_column("virtual", justify="right")
    rows.add_column("with deposits", justify="right")
    rows.add_row("payments/s", f"{result.virtual_per_second:,.0f}", f"{result.direct_per_second:,.0f}")
    rows.add_row("virtual / with deposits", f"{result.ratio:.2f}", "")
    rows.add_row("latency p50, ms", f"{result.virtual_p50_ms:.2f}", f"{result.direct_p50_ms:.2f}")
    used = f"{result.hub_cpu_us_per_payment:.2f}", f"{result.hub_idle_cpu_us_per_payment:.2f}"
    rows.add_row("hubs' CPU, µs per payment", *used)
    rows.add_row("hubs' signatures, commits", f"{result.hub_signatures}, {result.hub_commits}", "")
    rows.add_row("opening p50, p90, ms", f"{result.open_p50_ms:.1f}, {result.open_p90_ms:.1f}", "")
    rows.add_row("closing p50, p90, ms", f"{result.close_p50_ms:.1f}, {result.close_p90_ms:.1f}", "")
    return rows
