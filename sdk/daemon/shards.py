"""A group of shards on one machine: a process for each, started again if it ends, and who carries between them.

The supervisor holds no key and keeps nothing: if it ends, its shards stop; started anew, they go on from their disks.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.transport.retries import Jitter, Pauses, Retry
from tallystick.sdk.daemon.shard_files import shard_folder
from tallystick.sdk.daemon.shard_process import Coins, ShardCommand
from tallystick.sdk.errors import ConfigurationError
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.shards.group import ShardGroup
from tallystick.settlement.shards.relayer import relay
from tallystick.settlement.shards.rpc_shard import check_none_is_old, open_rpc_shard

START_AGAIN = Pauses("starting a shard's process again", 0.2, 5.0)

STOP_SECONDS = 10.0
"""How long a shard may take to stop before it is killed."""

LINE_MAX = 65_536
"""Bytes of the line that a process says first."""

Tell = Callable[[str, dict[str, Any]], None]
"""Told of what happens: `listening` (a shard, with its URL), `ended`, `fault`."""


class ShardServer:
    """The processes of one group. Make it, and `run` it."""

    def __init__(
        self,
        data: Path,
        group: ShardGroup,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        interval: float = 1.0,
        dev: bool = False,
        coins: Sequence[Coins] = (),
        jitter: Jitter,
        tell: Tell,
    ) -> None:
        """Shard k listens on `port` + k; 0 takes free ones. `coins` are those of each new shard's genesis."""
        self._group = group
        self._options = [
            ShardCommand(
                data=str(data),
                number=number,
                host=host,
                port=port + number if port else 0,
                interval=interval,
                dev=dev,
                coins=tuple(coins),
            )
            for number in range(len(group))
        ]
        self._data = data
        self._jitter = jitter
        self._tell = tell
        self.urls: dict[int, str] = {}
        """Where shards listen, by number."""

    async def run(self) -> None:
        """Run all shards and carry between them until cancelled; raise ConfigurationError if one cannot start.

        Also if the data of one are an old copy: then nothing is carried, and all stop.
        """
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            async with trio.open_nursery() as starting:
                for options in self._options:
                    starting.start_soon(nursery.start, self._keep, options)
            ports = []
            for number, url in sorted(self.urls.items()):
                at = Deployment(self._group.chain_of(number), self._group.contract)
                ports.append(await stack.enter_async_context(open_rpc_shard(url, jitter=self._jitter, expected=at)))
            try:
                check_none_is_old([await port.status() for port in ports])
            except InvalidInput as error:
                raise ConfigurationError(str(error)) from error
            self._tell("ready", {"shards": len(ports)})
            await relay(ports, jitter=self._jitter, on_fault=self._on_fault)

    def _on_fault(self, source: int, destination: int, error: Exception) -> None:
        self._tell("fault", {"source": source, "destination": destination, "error": str(error)})

    async def _keep(self, options: ShardCommand, task_status: trio.TaskStatus[None]) -> None:
        """Keep a shard's process alive, on the port that it first got."""
        retry = Retry(START_AGAIN, self._jitter)
        while True:
            if options.number in self.urls:
                options = msgspec.structs.replace(options, port=int(self.urls[options.number].rpartition(":")[2]))
            code = await self._live(options, task_status)
            if options.number not in self.urls:
                raise ConfigurationError(
                    f"shard {options.number} in {shard_folder(self._data, options.number)} did not start: see above"
                )
            self._tell("ended", {"shard": options.number, "code": code})
            await retry.pause()

    async def _live(self, options: ShardCommand, task_status: trio.TaskStatus[None]) -> int | None:
        """Start a process and return its exit code when it has ended."""
        command = [sys.executable, "-Im", "tallystick.sdk.daemon.shard_process", msgspec.json.encode(options).decode()]
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        try:
            line = await _first_line(process)
            if line is not None:
                first = options.number not in self.urls
                self.urls[options.number] = line["url"]
                self._tell("listening", {**line, "pid": process.pid})
                if first:
                    task_status.started()
            return await process.wait()
        finally:
            with trio.CancelScope(shield=True):
                await _end(process)


async def _first_line(process: trio.Process) -> dict[str, Any] | None:
    """Return what a process says when it is ready; None if it ends before."""
    assert process.stdout is not None
    said = bytearray()
    while b"\n" not in said and len(said) < LINE_MAX:
        part = await process.stdout.receive_some()
        if not part:
            return None
        said += part
    line: dict[str, Any] = msgspec.json.decode(bytes(said.partition(b"\n")[0]))
    return line


async def _end(process: trio.Process) -> None:
    """Have a process stop, and be sure that it has."""
    if process.stdin is not None:
        await process.stdin.aclose()
    with trio.move_on_after(STOP_SECONDS):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
    if process.stdout is not None:
        await process.stdout.aclose()
