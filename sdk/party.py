"""A node in a process of its own, driven by lines of JSON on stdin: for the demo, the benchmarks and process tests.

    python -m tallystick.sdk.party '{"data": "alice", "chain": "http://127.0.0.1:8545", "key": "01…01"}'

Each line in is one command, `{"id": number, "do": name, …}`; each runs in a task of its own and gets one line out,
`{"id": number, "ok": true, …}` or `{"id": number, "ok": false, "error": text}`. The first line out, after the start,
tells the node's addresses. End of input stops the node. The key stands on the command line, so this is for throw-away
keys only; real nodes are `tally node run`.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import trio

from tallystick.channels.errors import InvalidInput, TallystickError
from tallystick.channels.keys import PrivateKey
from tallystick.channels.limits import STREAM_LENGTH_MAX, Policy
from tallystick.channels.objects import ChannelId
from tallystick.channels.ports import PeerAddress, system_entropy
from tallystick.channels.tickets import Receipt
from tallystick.sdk.duties import DutyPolicy
from tallystick.sdk.handle import ChannelHandle
from tallystick.sdk.node import Config, Node, open_node
from tallystick.sdk.streams import OutgoingStream
from tallystick.settlement.rpc_client import open_rpc_chain


class Role(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a party is told on its command line."""

    data: str
    chain: str
    key: str
    towers: list[str] = []
    listen: bool = True
    port: int = 0
    confirmations: int = 1
    challenge_period: int = 60
    start_block: int = 0
    budget: int = 10**9
    """The most that one of its transactions may cost in fees."""
    cpu: int | None = None
    """Core to stay on: unpinned pairs of processes often share one."""


class Party:
    """The commands, by name: each method `do_NAME` is one."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def _channel(self, command: dict[str, Any]) -> ChannelHandle:
        if "channel" in command:
            return self.node.channel(ChannelId(bytes.fromhex(command["channel"])))
        return self.node.channels[-1]

    async def do_open(self, command: dict[str, Any]) -> dict[str, Any]:
        """Open a channel to `peer` with `deposit`."""
        channel = await self.node.open_channel(command["peer"], command["deposit"])
        return {"channel": channel.id.hex()}

    async def do_deposit(self, command: dict[str, Any]) -> dict[str, Any]:
        """Add `amount` to our deposit and wait until it is confirmed."""
        await self._channel(command).deposit(command["amount"])
        return {}

    async def do_pay(self, command: dict[str, Any]) -> dict[str, Any]:
        """Make `count` payments of `amount` from `tasks` tasks, each awaited, each with its own id `prefix`-number.

        Said again after a crash, it makes only those that were not made.
        """
        channel, prefix, amount = self._channel(command), command["prefix"], command.get("amount", 1)
        numbers = iter(range(command["count"]))
        latencies: list[float] = []

        async def worker() -> None:
            for number in numbers:
                name = f"{prefix}-{number}"
                began = time.perf_counter()
                await channel.pay(amount, name.encode(), key=name)
                latencies.append(time.perf_counter() - began)

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(command.get("tasks", 100)):
                nursery.start_soon(worker)
        return timing(latencies, time.perf_counter() - began)

    async def do_bench(self, command: dict[str, Any]) -> dict[str, Any]:
        """Pay one unit again and again for `seconds`, in the way that `kind` says; report figures of this side."""
        channel = self._channel(command)
        kind, deadline = KINDS[command["kind"]], time.perf_counter() + command["seconds"]
        before = self._counters()
        began = time.perf_counter()
        latencies = await kind(channel, deadline, command.get("tasks", 1))
        result = timing(latencies, time.perf_counter() - began)
        after = self._counters()
        return result | {name: after[name] - before[name] for name in after}

    def _counters(self) -> dict[str, Any]:
        statistics, usage = self.node.statistics(), resource.getrusage(resource.RUSAGE_SELF)
        return {
            "commits": statistics.engine.commits,
            "signatures": statistics.engine.signatures,
            "bytes": statistics.peers.bytes_sent + statistics.peers.bytes_received,
            "cpu": usage.ru_utime + usage.ru_stime,
            "received": statistics.engine.payments_received,
            "updates": sum(c.session.channel.ours.seq for c in self.node.channels),
        }

    async def do_counters(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell this side's counters and memory (KiB)."""
        return self._counters() | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}

    async def do_audit(self, command: dict[str, Any]) -> dict[str, Any]:
        """Count received payments by memo: how many there are, how many different ones, and their sum."""
        channel = self._channel(command)
        memos: list[bytes] = []
        total, expected = 0, channel.payments[1]
        if expected:
            async for payment in self.node.incoming(channel=channel.id):
                memos.append(payment.memo)
                total += payment.amount
                if len(memos) == expected:
                    break
        return {"received": len(memos), "distinct": len(set(memos)), "total": total}

    async def do_state(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell a channel's phase and balances, and what the account holds on chain."""
        channel = self._channel(command)
        own, peers = channel.balances
        sent, received = channel.payments
        return {
            "phase": channel.phase.name,
            "own": own,
            "peer": peers,
            "sent": sent,
            "received": received,
            "account": await self.node.balance(),
        }

    async def do_close(self, command: dict[str, Any]) -> dict[str, Any]:
        """Close with the peer's consent and wait until it is final."""
        channel = self._channel(command)
        await channel.close()
        await channel.wait_gone()
        return {}

    async def do_force_close(self, command: dict[str, Any]) -> dict[str, Any]:
        """Close alone; returns when the decision is stored."""
        await self._channel(command).force_close()
        return {}

    async def do_wait_gone(self, command: dict[str, Any]) -> dict[str, Any]:
        """Wait until nothing of the channel is left on chain."""
        await self._channel(command).wait_gone()
        return {}

    async def do_covered(self, command: dict[str, Any]) -> dict[str, Any]:
        """Wait until the towers hold what this node holds."""
        await self.node.guard.covered()
        return {"towers": len(self.node.guard.towers)}


BULK = 60_000
"""Payments handed over at a time, in the class `bulk`."""


async def _awaited(channel: ChannelHandle, deadline: float, tasks: int) -> list[float]:
    """Each of many tasks waits for its receipt before it pays again."""
    latencies: list[float] = []

    async def worker() -> None:
        while time.perf_counter() < deadline:
            began = time.perf_counter()
            await channel.pay(1)
            latencies.append(time.perf_counter() - began)

    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(worker)
    return latencies


async def _alone(channel: ChannelHandle, deadline: float, tasks: int) -> list[float]:
    """One payment at a time: nothing else is in flight."""
    return await _awaited(channel, deadline, 1)


async def _bulk(channel: ChannelHandle, deadline: float, tasks: int) -> list[float]:
    """A few tasks hand over runs of payments; each payment counts, with its run's latency."""
    latencies: list[float] = []
    amounts = (1,) * BULK

    async def worker() -> None:
        while time.perf_counter() < deadline:
            for receipt in await channel.pay_many(amounts):
                latencies.extend([receipt.secured - receipt.accepted] * receipt.count)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(worker)
    return latencies


async def _submitted(channel: ChannelHandle, deadline: float, tasks: int) -> list[float]:
    """One task submits without waiting for receipts, held back only by the outbox; latencies come from the receipts."""
    tickets = []
    while time.perf_counter() < deadline:
        for _ in range(100):
            tickets.append(await channel.submit(1))
        await trio.lowlevel.checkpoint()
    receipts: list[Receipt] = [await ticket.wait() for ticket in tickets]
    return [receipt.secured - receipt.accepted for receipt in receipts]


STREAM_EXPIRY = 86_400
"""Seconds that a stream of the benchmark lasts at most."""

STREAM_CHUNK = 100
"""Payments of a stream that share one measured latency."""


async def _stream(channel: ChannelHandle, deadline: float, tasks: int) -> list[float]:
    """One task gives link after link, a unit each; the next stream is opened while the last one is in use."""
    latencies: list[float] = []
    ready, streams = trio.open_memory_channel[OutgoingStream](0)

    async def prepare() -> None:
        async with ready:
            while time.perf_counter() < deadline:
                expiry = int(channel.session.chain.now) + STREAM_EXPIRY
                await ready.send(await channel.open_stream(1, STREAM_LENGTH_MAX, expiry=expiry))

    async def finish(stream: OutgoingStream, chunks: trio.MemoryReceiveChannel[tuple[int, float]]) -> None:
        async for depth, began in chunks:
            await stream.wait(depth)
            latencies.extend([time.perf_counter() - began] * STREAM_CHUNK)
        await stream.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(prepare)
        async for stream in streams:
            given, chunks = trio.open_memory_channel[tuple[int, float]](STREAM_LENGTH_MAX)
            nursery.start_soon(finish, stream, chunks)
            with given:
                while stream.left >= STREAM_CHUNK and time.perf_counter() < deadline:
                    await stream.room(STREAM_CHUNK)
                    began, depth = time.perf_counter(), 0
                    for _ in range(STREAM_CHUNK):
                        depth = stream.submit()
                    given.send_nowait((depth, began))
                    await trio.lowlevel.checkpoint()
    return latencies


KINDS: dict[str, Callable[[ChannelHandle, float, int], Awaitable[list[float]]]] = {
    "alone": _alone,
    "awaited": _awaited,
    "submitted": _submitted,
    "bulk": _bulk,
    "stream": _stream,
}
"""Ways to pay, by the name of their class of payment."""


def timing(latencies: list[float], seconds: float) -> dict[str, Any]:
    """Return count, rate and percentiles (milliseconds) of payments that took `seconds` in all."""
    ordered = sorted(latencies) or [0.0]
    count = len(latencies)
    return {
        "count": count,
        "seconds": seconds,
        "per_second": count / seconds if seconds else 0.0,
        "p50_ms": 1e3 * ordered[count // 2 if count else 0],
        "p99_ms": 1e3 * ordered[min(len(ordered) - 1, count * 99 // 100)],
    }


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


async def _commands() -> AsyncIterator[dict[str, Any]]:
    """Yield the commands on stdin until it ends."""
    stdin = trio.wrap_file(sys.stdin)
    async for line in stdin:
        if line.strip():
            yield msgspec.json.decode(line)


async def _run(role: Role) -> None:
    if role.cpu is not None and role.cpu < (os.cpu_count() or 1):
        os.sched_setaffinity(0, {role.cpu})
    key = PrivateKey(bytes.fromhex(role.key))
    config = Config(
        listen=("127.0.0.1", role.port) if role.listen else None,
        confirmations=role.confirmations,
        challenge_period=role.challenge_period,
        channels=Policy(challenge_period_min=1),
        duties=DutyPolicy(budget=role.budget),
        towers=tuple(map(PeerAddress.parse, role.towers)),
        start_block=role.start_block,
    )
    rng = random.Random(int.from_bytes(system_entropy(16), "big"))
    async with (
        open_rpc_chain(role.chain, jitter=rng.random) as chain,
        open_node(Path(role.data), key=key, chain=chain, config=config) as node,
    ):
        party = Party(node)
        _say({"peer": str(node.listening or ""), "address": node.address.hex()})
        async with trio.open_nursery() as nursery:
            async for command in _commands():
                nursery.start_soon(_perform, party, command)
            nursery.cancel_scope.cancel()


async def _perform(party: Party, command: dict[str, Any]) -> None:
    answer: dict[str, Any] = {"id": command.get("id")}
    try:
        act = getattr(party, f"do_{command.get('do')}", None)
        if act is None:
            raise InvalidInput(f"unknown command {command.get('do')!r}")
        _say(answer | {"ok": True} | await act(command))
    except TallystickError as error:
        _say(answer | {"ok": False, "error": str(error)})


def main() -> None:
    """Run one party."""
    trio.run(_run, msgspec.json.decode(sys.argv[1], type=Role))


if __name__ == "__main__":
    main()
