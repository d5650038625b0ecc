"""`tally bench endurance`: the same work for a long time, to see what grows and what slows down.

    python -m tallystick.sdk.bench.endurance '{"data": "hub", "first": 0, "count": 1, "cpu": 0}'

A payer and its payees, each side a process, make a number of submitted payments in ten *tenths*. A tenth ends when all
its payments are secured, so every tenth has the same ramp at its beginning and the same wait at its end, and what is
looked at in between is at rest. Then the payer is stopped and started again. Bounds that must hold are in `broken`.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import msgspec
import trio

from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session.tickets import Ticket
from tallystick.channels.storage.schema import CHANNELS
from tallystick.sdk.bench.control import CONTROL_MIN, capacity_control
from tallystick.sdk.bench.fleet import Fleet, FleetOptions, run
from tallystick.sdk.bench.launcher import DriverProcess, open_processes

TENTHS = 10
WARM_UP = 0.02
"""Share of the payments that is made before the first tenth: caches, buffers and the write-ahead log fill up."""

SPEED_MIN = 0.9
"""The last tenth's throughput against the first one's."""

MEMORY_MAX = 1.1
"""A process's memory after the last tenth against after the second, by when all buffers have reached their size."""

WAL_MAX = 64 * 2**20
"""Bytes of a write-ahead log: larger means that something keeps SQLite from starting it anew."""

ROW_MAX = 4_096
"""Bytes of one channel's row while it has no locks."""

RESTART_MAX = 2.0
"""Seconds from opening the store until the engine stands, with up to 1,000 channels."""


class Usage(msgspec.Struct, frozen=True):
    """What one process has and keeps, in bytes."""

    memory: int
    database: int
    log: int
    """SQLite's write-ahead log."""
    channel_rows: int
    channel_bytes: int
    """All rows of the table of channels."""


class Tenth(msgspec.Struct, frozen=True):
    """One tenth of the run, and what both sides had at its end."""

    payments: int
    seconds: float
    payer: Usage
    payees: Usage

    @property
    def per_second(self) -> float:
        """Secured payments per second."""
        return self.payments / self.seconds


class EnduranceResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints."""

    control: float
    """The lower of the capacity controls before and after."""
    payments: int
    channels: int
    durability: str = "full"
    tenths: list[Tenth]
    per_second: list[float]
    """Of each tenth."""
    last_to_first: float
    """Throughput of the last tenth against the first."""
    restart_seconds: float
    """From opening the payer's store until its engine stands, with every channel."""
    resumed_seconds: float
    """From then until every channel can pay: links, handshakes and greetings on both sides."""
    broken: list[str]
    """The bounds that did not hold, in words."""


class EnduranceDriver:
    """The commands by which a fleet's process pays a given number of times, and tells what it uses."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def do_tenth(self, command: dict[str, Any]) -> dict[str, Any]:
        """Submit that many payments, over all channels in turn; return once all are secured."""
        (hub,) = self._fleet.members
        channels = hub.engine.views.ids
        newest: deque[Ticket] = deque(maxlen=len(channels))
        began = time.perf_counter()
        for channel in _turns(channels, command["payments"]):
            await hub.engine.room(channel)
            newest.append(hub.engine.pay(channel, 1))
            await hub.engine.turn()
        for ticket in newest:
            await ticket.wait()
        return {"seconds": time.perf_counter() - began}

    async def do_usage(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell what this process has and keeps."""
        states = [state for _, state in self._fleet.writer.store.read(CHANNELS.tables[0].rows())]
        database = Path(self._fleet.options.data) / "tally.db"
        log = database.with_name("tally.db-wal")
        usage = Usage(
            used_memory(),
            database.stat().st_size,
            log.stat().st_size if log.exists() else 0,
            len(states),
            sum(map(len, states)),
        )
        return {"usage": msgspec.to_builtins(usage)}


def _turns(channels: list[ChannelId], payments: int) -> Iterator[ChannelId]:
    return islice(cycle(channels), payments)


def used_memory() -> int:
    """Return this process's resident memory in bytes: now where the system tells (Linux), else the most so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


async def run_endurance(
    payments: int, channels: int, *, directory: str | None = None, say: Callable[[str], None]
) -> EnduranceResult:
    """Make that many payments over that many channels of one hub; `say` is told how it goes."""
    before = await trio.to_thread.run_sync(capacity_control)
    with tempfile.TemporaryDirectory(prefix="tally-endurance-", dir=directory) as folder:
        async with open_processes() as processes:
            hub_command = runner(FleetOptions(data=f"{folder}/hub", first=0, count=1, cpu=0))
            hub = await processes.start("hub", hub_command)
            peers = await processes.start(
                "peers", runner(FleetOptions(data=f"{folder}/peers", first=1, count=channels, cpu=1))
            )
            addresses = peers.first["peers"]
            ready = await hub.ask("connect", addresses=addresses)
            say(f"{channels} channels stand after {ready['seconds']:.1f} s; warming up")
            await hub.ask("tenth", payments=max(channels, int(payments * WARM_UP)))
            tenths = [await _tenth(number, payments, hub, peers, say) for number in range(TENTHS)]
            await hub.stop()
            hub = await processes.start("hub, again", hub_command)
            resumed = await hub.ask("connect", addresses=addresses)
            await hub.ask("tenth", payments=channels)
    control = min(before, await trio.to_thread.run_sync(capacity_control))
    result = EnduranceResult(
        control=control,
        payments=payments,
        channels=channels,
        tenths=tenths,
        per_second=[tenth.per_second for tenth in tenths],
        last_to_first=tenths[-1].per_second / tenths[0].per_second,
        restart_seconds=hub.first["started"],
        resumed_seconds=resumed["seconds"],
        broken=[],
    )
    return msgspec.structs.replace(result, broken=list(broken_bounds(result)))


async def _tenth(
    number: int, payments: int, hub: DriverProcess, peers: DriverProcess, say: Callable[[str], None]
) -> Tenth:
    count = payments * (number + 1) // TENTHS - payments * number // TENTHS
    seconds = (await hub.ask("tenth", payments=count))["seconds"]
    payer, payees = [msgspec.convert((await actor.ask("usage"))["usage"], Usage) for actor in (hub, peers)]
    tenth = Tenth(count, seconds, payer, payees)
    say(f"tenth {number + 1}: {tenth.per_second:,.0f}/s")
    return tenth


def broken_bounds(result: EnduranceResult) -> Iterator[str]:
    """Say which bounds did not hold."""
    if result.last_to_first < SPEED_MIN:
        doubt = "" if result.control >= CONTROL_MIN else f" (control {result.control:.2f}: the machine was busy)"
        yield f"the last tenth was {result.last_to_first:.2f} times as fast as the first{doubt}"
    first, last = result.tenths[1], result.tenths[-1]
    for who, early, late in (("payer", first.payer, last.payer), ("payees", first.payees, last.payees)):
        if late.memory > MEMORY_MAX * early.memory:
            yield f"the {who}' memory grew from {early.memory:,} to {late.memory:,} bytes".replace("payer'", "payer's")
        if late.log > WAL_MAX:
            yield f"the write-ahead log of the {who} has {late.log:,} bytes"
        if late.channel_rows != result.channels or late.channel_bytes > ROW_MAX * late.channel_rows:
            yield f"the {who} keep {late.channel_rows:,} channels in {late.channel_bytes:,} bytes"
    if result.restart_seconds > RESTART_MAX:
        yield f"the restart took {result.restart_seconds:.2f} s"


def runner(options: FleetOptions) -> list[str]:
    """Return the command that runs one process of this measurement."""
    return ["-m", "tallystick.sdk.bench.endurance", msgspec.json.encode(options).decode()]


def main() -> None:
    """Run one process of this measurement."""
    trio.run(run, msgspec.json.decode(sys.argv[1], type=FleetOptions), EnduranceDriver)


if __name__ == "__main__":
    main()
