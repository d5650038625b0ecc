"""Starts parties, towers and chains as processes of their own, and speaks with them: for demo, bench and tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from tallystick.channels.errors import TallystickError
from tallystick.channels.protocol.objects import Address
from tallystick.sdk.bench.driver import DriverOptions
from tallystick.sdk.bench.fleet import FleetOptions

START_SECONDS = 120.0
"""How long a process may take until its first line."""


class DriverFailed(TallystickError):
    """A process refused a command or ended."""


class DriverProcess:
    """One process that prints lines of JSON. Make it with `DriverProcesses.start`."""

    def __init__(self, process: trio.Process, name: str) -> None:
        self.process = process
        self.name = name
        self.first: dict[str, Any] = {}
        """Its first line: where it listens."""
        self._answers: dict[int, dict[str, Any]] = {}
        self._asked = 0
        self._ended = False
        self._news = trio.Event()
        self._sending = trio.Lock()

    async def listen(self, task_status: trio.TaskStatus[None]) -> None:
        """Take its lines until it ends."""
        buffer = bytearray()
        while self.process.stdout is not None and (data := await self.process.stdout.receive_some()):
            buffer += data
            *lines, rest = buffer.split(b"\n")
            buffer = bytearray(rest)
            for line in lines:
                if line.startswith(b"{"):
                    self._take(msgspec.json.decode(line), task_status)
        self._ended = True
        self._announce()

    def _take(self, line: dict[str, Any], task_status: trio.TaskStatus[None]) -> None:
        if not self.first:
            self.first = line
            task_status.started()
        elif isinstance(line.get("id"), int):
            self._answers[line["id"]] = line
            self._announce()

    def _announce(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Give it a command and return its answer; raise DriverFailed with its error, or if it ends meanwhile."""
        self._asked += 1
        number = self._asked
        line = msgspec.json.encode({"id": number, "do": do, **arguments}) + b"\n"
        try:
            async with self._sending:
                if self.process.stdin is not None:
                    await self.process.stdin.send_all(line)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise DriverFailed(f"{self.name} has ended") from error
        while number not in self._answers:
            if self._ended:
                raise DriverFailed(f"{self.name} ended before it answered")
            await self._news.wait()
        answer = self._answers.pop(number)
        if not answer.get("ok"):
            raise DriverFailed(f"{self.name}: {answer.get('error', 'no answer')}")
        return answer

    async def kill(self) -> None:
        """End it at once, as a power cut does (SIGKILL), and wait until it is gone."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """End its input, and wait until it has stopped by itself."""
        if self.process.stdin is not None:
            await self.process.stdin.aclose()
        await self.process.wait()


class DriverProcesses:
    """The actors of one show: all of them end with it. Make it with `open_processes`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._actors: list[DriverProcess] = []

    async def start(self, name: str, command: list[str]) -> DriverProcess:
        """Start a command of this Python's; return it once it has said its first line. Raise Failed if it does not."""
        process = await trio.lowlevel.open_process(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        actor = DriverProcess(process, name)
        self._actors.append(actor)
        try:
            with trio.fail_after(START_SECONDS):
                await self._nursery.start(actor.listen)
        except trio.TooSlowError as error:
            text = f"{name} said nothing for {START_SECONDS:g} s: the machine is too busy, or see what it printed"
            raise DriverFailed(text) from error
        except RuntimeError as error:
            raise DriverFailed(f"{name} did not start: see what it printed above") from error
        return actor

    async def start_parties(self, roles: Mapping[str, DriverOptions]) -> dict[str, DriverProcess]:
        """Start parties by name, all at the same time; return them once all have said their first lines."""
        started: dict[str, DriverProcess] = {}

        async def start(name: str, role: DriverOptions) -> None:
            started[name] = await self.start(name, driver(role))

        async with trio.open_nursery() as nursery:
            for name, role in roles.items():
                nursery.start_soon(start, name, role)
        return started

    async def disband(self) -> None:
        """Kill whoever still runs."""
        for actor in self._actors:
            actor.process.kill()
        for actor in self._actors:
            await actor.process.wait()
            for pipe in (actor.process.stdin, actor.process.stdout):
                if pipe is not None:
                    await pipe.aclose()


@asynccontextmanager
async def open_processes() -> AsyncIterator[DriverProcesses]:
    """Give a group of processes, which ends with the block."""
    async with trio.open_nursery() as nursery:
        processes = DriverProcesses(nursery)
        try:
            yield processes
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await processes.disband()


def driver(role: DriverOptions) -> list[str]:
    """Return the command that runs a driver."""
    return ["-m", "tallystick.sdk.bench.driver", msgspec.json.encode(role).decode()]


def fleet(crew: FleetOptions) -> list[str]:
    """Return the command that runs a process of a fleet."""
    return ["-m", "tallystick.sdk.bench.fleet", msgspec.json.encode(crew).decode()]


def tally(*arguments: str) -> list[str]:
    """Return the command that runs `tally`."""
    return ["-m", "tallystick.sdk.cli", *arguments]


def chain_run(data: str, coins: Mapping[Address, int], *, interval: float) -> list[str]:
    """Return the command that runs a chain with these coins; below 1 s of interval, chain time runs ahead."""
    minted = [f"--mint=0x{account.hex()}={amount}" for account, amount in coins.items()]
    return tally("chain", "run", "--data", data, "--port", "0", f"--interval={interval}", "--json", *minted)
