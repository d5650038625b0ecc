"""Real processes, sockets and files: SIGKILL in mid-stream, again and again, and not one payment is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.sdk.bench.driver import DriverOptions
from tallystick.sdk.bench.launcher import (
    DriverFailed,
    DriverProcess,
    DriverProcesses,
    chain_run,
    driver,
    open_processes,
)

COUNT = 4_000
"""Payments in all, each with an id of its own."""

KEYS = {name: keccak(name.encode()) for name in ("alice", "bob")}
pytestmark = pytest.mark.processes


class Stage:
    """A chain that stays up, and two nodes that get killed."""

    def __init__(self, processes: DriverProcesses, url: str, directory: Path) -> None:
        self.processes = processes
        self.url = url
        self.directory = directory
        self.actors: dict[str, DriverProcess] = {}
        self.port = 0

    async def start(self, name: str) -> None:
        role = DriverOptions(
            data=str(self.directory / name), chain=self.url, key=KEYS[name].hex(), listen=name == "bob"
        )
        if name == "bob":
            role.port = self.port
        self.actors[name] = await self.processes.start(name, driver(role))
        if name == "bob":
            self.port = int(self.actors[name].first["peer"].rpartition(":")[2])

    async def received(self) -> int:
        """Return how many payments Bob has on its disk. What it says of its channel may be durable a moment later."""
        return int((await self.actors["bob"].ask("audit"))["received"])

    async def kill_once_received(self, count: int, victims: tuple[str, ...]) -> None:
        """Kill the victims as soon as Bob has so many payments: in the midst of whatever they do."""
        while int((await self.actors["bob"].ask("state"))["received"]) < count:  # that costs it less to say
            pass
        while await self.received() < count:
            pass
        for name in victims:
            await self.actors[name].kill()
        for name in victims:
            await self.start(name)

    async def pay_all(self) -> None:
        """Let Alice pay; what was made before is not made again."""
        await self.actors["alice"].ask("pay", prefix="p", count=COUNT, amount=3, tasks=40)


async def test_no_payment_is_lost_or_doubled_when_processes_are_killed(tmp_path: Path) -> None:
    accounts = {PrivateKey(secret).address: 10**15 for secret in KEYS.values()}
    with trio.fail_after(240):
        async with open_processes() as processes:
            chain = await processes.start("chain", chain_run(str(tmp_path / "chain"), accounts, interval=0.05))
            stage = Stage(processes, chain.first["url"], tmp_path)
            await stage.start("bob")
            await stage.start("alice")
            await stage.actors["alice"].ask("open", peer=stage.actors["bob"].first["peer"], deposit=10**9)
            for number, victims in enumerate((("alice",), ("bob",), ("alice", "bob")), 1):
                goal = COUNT * number // 8
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_pay_until_killed, stage)
                    await stage.kill_once_received(goal, victims)
                    nursery.cancel_scope.cancel()
                assert goal <= await stage.received() < COUNT, "it was killed in mid-stream, and kept what it had"
            await stage.pay_all()
            found = await stage.actors["bob"].ask("audit")
            assert (found["received"], found["distinct"], found["total"]) == (COUNT, COUNT, 3 * COUNT)
            payer, payee = [await stage.actors[name].ask("state") for name in ("alice", "bob")]
            assert payer["sent"] == payee["received"] == COUNT
            assert (payer["own"], payer["peer"]) == (payee["peer"], payee["own"]) == (10**9 - 3 * COUNT, 3 * COUNT)


async def _pay_until_killed(stage: Stage) -> None:
    try:
        await stage.pay_all()
    except DriverFailed:
        return
