"""`tally bench follow`: how fast a node and a tower catch up with a long history, and in how much memory.

A process serves a synthetic chain (`synthetic_node`), another one follows it (`follow_driver`): first with a new data
directory; then once more with the same, as after a restart; then with a new one again, killed halfway and started
anew. At the end, what was made of the chain must be what is on it, or the measurement is void.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import trio
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tallystick.sdk.bench.control import CONTROL_MIN, capacity_control
from tallystick.sdk.bench.follow_driver import OWN, FollowDriverOptions
from tallystick.sdk.bench.launcher import DriverProcess, DriverProcesses, open_processes
from tallystick.sdk.bench.stage import Say
from tallystick.sdk.bench.synthetic_chain import FIRST, HistoryOptions
from tallystick.sdk.bench.synthetic_node import SyntheticNodeOptions
from tallystick.sdk.errors import MeasurementVoid

WHO = ("node", "tower")

SECONDS_MAX = 60.0
"""For a million blocks; a tenth of it for fewer than a tenth of these."""

GROWTH_MAX = 100_000_000
"""Bytes of memory more than before the store and the chain were opened."""

AGAIN_MAX = 5.0
"""Seconds of a restart at the head."""


class FollowRow(msgspec.Struct, frozen=True, kw_only=True):
    """One catching up. Bytes, seconds."""

    who: str
    """node or tower."""
    start: str
    """new: with an empty directory. again: with what is there. killed: with what is there halfway, after a kill."""
    first: int
    """The first block that was not followed before."""
    blocks: int
    seconds: float
    """From opening the store and the chain until the head was followed, durably."""
    cpu_seconds: float
    blocks_per_second: float
    requests: int
    """That the chain's node answered."""
    memory: list[int]
    """Before, and after each tenth of the way."""
    growth: int
    """The most memory that the process ever had, less what it had before."""
    disk: int


class FollowResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints."""

    control: float
    """The lower of the capacity controls before and after."""
    durability: str = "full"
    processes: int = 2
    blocks: int
    channels: int
    logs: int
    """Of the contract, in all."""
    holding: int
    """Blocks that hold some."""
    unsettled: int
    """Blocks of the newest that are not final: they are followed one by one."""
    range_limit: int
    seed: int
    rows: list[FollowRow]
    broken: list[str] = []
    """The bounds that did not hold, in words."""


class _Measurement:
    """One chain, and who follows it."""

    def __init__(self, folder: Path, processes: DriverProcesses, node: DriverProcess, served: dict[str, Any]) -> None:
        self._folder = folder
        self._processes = processes
        self._node = node
        self._served = served

    async def rows(self, who: str) -> list[FollowRow]:
        """Let it catch up three times."""
        new = await self._reach(who, "new", f"{who}-1")
        again = await self._reach(who, "again", f"{who}-1")
        halfway = FIRST + new.blocks // 2
        doomed = await self._start(who, f"{who}-2")
        await doomed.ask("pass", number=halfway)
        await doomed.kill()
        return [new, again, await self._reach(who, "killed", f"{who}-2")]

    async def _start(self, who: str, data: str) -> DriverProcess:
        options = FollowDriverOptions(who=who, data=str(self._folder / data), url=self._served["url"], cpu=0)
        command = ["-m", "tallystick.sdk.bench.follow_driver", msgspec.json.encode(options).decode()]
        return await self._processes.start(who, command)

    async def _reach(self, who: str, start: str, data: str) -> FollowRow:
        before = (await self._node.ask("figures"))["requests"]
        process = await self._start(who, data)
        head, first = self._served["head"], process.first["position"] + 1
        took = await process.ask("reach", number=head)
        self._check(who, took["found"])
        await process.stop()
        blocks = head + 1 - first
        return FollowRow(
            who=who,
            start=start,
            first=first,
            blocks=blocks,
            seconds=took["seconds"],
            cpu_seconds=took["cpu"],
            blocks_per_second=blocks / took["seconds"],
            requests=(await self._node.ask("figures"))["requests"] - before,
            memory=took["memory"],
            growth=took["peak"] - took["memory"][0],
            disk=sum(path.stat().st_size for path in (self._folder / data).iterdir()),
        )

    def _check(self, who: str, found: Any) -> None:
        """Raise MeasurementVoid unless what was made of the chain is what is on it."""
        if found != self._served[who]:
            raise MeasurementVoid(
                f"the {who} followed the chain, and found {found}, where there is {self._served[who]}"
            )


async def run_follow(
    history: HistoryOptions,
    range_limit: int,
    who: Sequence[str] = WHO,
    *,
    directory: str | None = None,
    say: Say,
) -> FollowResult:
    """Measure on a chain of that history, whose node tells the logs of so many blocks at once."""
    before = await trio.to_thread.run_sync(capacity_control)
    options = SyntheticNodeOptions(history=history, lasting=(OWN,), range_max=range_limit, cpu=1)
    rows: list[FollowRow] = []
    with tempfile.TemporaryDirectory(prefix="tally-follow-", dir=directory) as folder:
        async with open_processes() as processes:
            command = ["-m", "tallystick.sdk.bench.synthetic_node", msgspec.json.encode(options).decode()]
            node = await processes.start("chain", command)
            served = await node.ask("serve")
            say(f"{history.blocks:,} blocks, {served['logs']:,} logs of {history.channels:,} channels are served")
            measurement = _Measurement(Path(folder), processes, node, served)
            for each in who:
                rows += await measurement.rows(each)
                say(", ".join(f"{row.who} {row.start}: {row.seconds:.1f} s" for row in rows[-3:]))
    result = FollowResult(
        control=min(before, await trio.to_thread.run_sync(capacity_control)),
        blocks=history.blocks,
        channels=history.channels,
        logs=served["logs"],
        holding=served["holding"],
        unsettled=history.unsettled,
        range_limit=range_limit,
        seed=history.seed,
        rows=rows,
    )
    return msgspec.structs.replace(result, broken=list(broken_bounds(result)))


def broken_bounds(result: FollowResult) -> Iterator[str]:
    """Say which bounds did not hold."""
    doubt = "" if result.control >= CONTROL_MIN else f" (control {result.control:.2f}: the machine was busy)"
    most = SECONDS_MAX * max(0.1, result.blocks / 1_000_000)
    for row in result.rows:
        name, limit = f"the {row.who} ({row.start})", AGAIN_MAX if row.start == "again" else most
        if row.seconds > limit:
            yield f"{name} took {row.seconds:.1f} s instead of {limit:.1f} at most{doubt}"
        if row.growth > GROWTH_MAX:
            yield f"{name} took {row.growth:,} bytes of memory more than it began with"
        if row.start == "killed" and row.first <= FIRST + result.blocks // 2:
            yield f"{name} began at block {row.first} again"


def follow_table(result: FollowResult) -> Table:
    """Return the table of a `tally bench follow`."""
    title = f"{result.blocks:,} blocks, {result.logs:,} logs of {result.channels:,} channels, synchronous=FULL"
    caption = (
        f"{result.holding:,} blocks hold logs; the newest {result.unsettled:,} are not final; logs of "
        f"{result.range_limit:,} blocks at once; capacity control {result.control:.2f} of 2"
    )
    rows = Table("who", "start", title=title, caption=caption, box=SIMPLE_HEAD, padding=0)
    for heading in ("blocks", "seconds", "CPU, s", "blocks/s", "requests", "memory, MB", "growth, MB", "disk, MB"):
        rows.add_column(heading, justify="right", min_width=len(heading.split(" ")[0]))
    for row in result.rows:
        figures = (f"{row.blocks:,}", f"{row.seconds:.1f}", f"{row.cpu_seconds:.1f}", f"{row.blocks_per_second:,.0f}")
        sizes = (f"{size / 1e6:.0f}" for size in (row.memory[-1], row.growth, row.disk))
        rows.add_row(row.who, row.start, *figures, f"{row.requests:,}", *sizes)
    return rows
