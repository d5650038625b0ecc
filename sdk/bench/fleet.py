"""One hub with many channels, or the many peers at their other ends: a process of `tally bench direct --channels N`.

    python -m tallystick.sdk.bench.fleet '{"data": "hub", "first": 0, "count": 1, "cpu": 0}'

Every peer has a key, an engine and a TCP link of its own; the peers of one process share a store, so that their commits
are grouped. There is no chain here: each side is told that the channel is funded, as a confirmed opening would tell it,
because a thousand openings in a row are not what this measures. All else is the product: signatures, Noise over TCP,
`synchronous=FULL` on both sides. Spoken to as a `party` is.
"""

from __future__ import annotations

import hashlib
import os
import random
import resource
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import trio

from tallystick.channels import resync
from tallystick.channels.core import new_channel
from tallystick.channels.engine import Engine
from tallystick.channels.keys import PrivateKey, PublicKey
from tallystick.channels.limits import Policy
from tallystick.channels.objects import NATIVE, Address, ChannelId, Terms
from tallystick.channels.peers import Peers
from tallystick.channels.ports import PeerAddress, system_clock, system_entropy
from tallystick.channels.schema import SCHEMA
from tallystick.channels.session import Session
from tallystick.channels.store import open_store
from tallystick.channels.tickets import Ticket
from tallystick.channels.transport import TcpNetwork
from tallystick.channels.writer import Writer
from tallystick.sdk.party import batch_sizes, obey, timing

CHAIN_ID = 31_337
CONTRACT = Address(b"\xbe" * 20)
DEPOSIT = 10**12
QUIET_SECONDS = 0.01
"""Between two payments in the quiet channel, while another one is flooded."""


class Crew(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a process of the fleet is told on its command line."""

    data: str
    first: int
    """Number of its first member; number 0 is the hub."""
    count: int
    cpu: int | None = None


def key_of(number: int) -> PrivateKey:
    """Return the key of member `number`."""
    return PrivateKey(hashlib.sha256(b"tallystick fleet" + number.to_bytes(8, "big")).digest())


class Member:
    """One party: its engine and its links."""

    def __init__(self, key: PrivateKey, writer: Writer) -> None:
        self.engine = Engine(
            key, writer, system_clock, Policy(), chain_id=CHAIN_ID, contract=CONTRACT, tell=lambda event: None
        )
        rng = random.Random(int.from_bytes(system_entropy(16), "big"))
        self.peers = Peers(self.engine, TcpNetwork(key, system_entropy), rng, lambda event: None)

    def open(self, peer: PublicKey, payer: Address) -> Session:
        """Take in the channel with `peer`, funded by `payer` and confirmed."""
        first, second = sorted((self.engine.key.address, peer.address))
        terms = Terms(CHAIN_ID, CONTRACT, (first, second), NATIVE, 0, 86_400, bytes(32))
        session = self.engine.add_channel(new_channel(terms, terms.side_of(self.engine.key.address), bytes(peer), 0))
        deposits = (DEPOSIT, 0) if first == payer else (0, DEPOSIT)
        resync.set_funding(session, deposits, (0, 0))
        return session


class Fleet:
    """The commands, by name: each method `do_NAME` is one."""

    def __init__(self, crew: Crew, writer: Writer) -> None:
        self.members = [Member(key_of(number), writer) for number in range(crew.first, crew.first + crew.count)]
        self.writer = writer

    async def do_connect(self, command: dict[str, Any]) -> dict[str, Any]:
        """Connect the hub to these addresses, and wait until it can pay each of them."""
        began, (hub,) = time.perf_counter(), self.members
        sessions = []
        for address in map(PeerAddress.parse, command["addresses"]):
            sessions.append(hub.open(PublicKey(address.key), hub.engine.key.address))
            hub.peers.keep(address)
        for session in sessions:
            while not (session.ready and session.funding):
                await self.writer.commit(())  # greetings are taken in between rounds
        return {"seconds": time.perf_counter() - began}

    async def do_bench(self, command: dict[str, Any]) -> dict[str, Any]:
        """Submit payments in every channel in turn for `seconds`; report figures of this side."""
        (hub,) = self.members
        deadline, before, signed = time.perf_counter() + command["seconds"], self._counters(), self._signed()
        began = time.perf_counter()
        tickets = await _submit(hub.engine, list(hub.engine.sessions), deadline, deque())
        receipts = [await ticket.wait() for ticket in tickets]
        result = timing([receipt.secured - receipt.accepted for receipt in receipts], time.perf_counter() - began)
        after = self._counters()
        batches = sorted(
            size for channel, seq in signed.items() for size in batch_sizes(self.writer.store, channel, seq)
        )
        difference = {name: after[name] - before[name] for name in after}
        return result | difference | {"batch_median": batches[len(batches) // 2] if batches else 0}

    async def do_fairness(self, command: dict[str, Any]) -> dict[str, Any]:
        """Flood the first channel for `seconds`, pay now and then in the last one; report the quiet one's figures."""
        (hub,) = self.members
        flooded, *_, quiet = hub.engine.sessions
        deadline = time.perf_counter() + command["seconds"]
        latencies: list[float] = []
        before = self._counters()

        async def pay_quietly() -> None:
            while time.perf_counter() < deadline:
                await trio.sleep(QUIET_SECONDS)
                began = time.perf_counter()
                await hub.engine.pay(quiet, 1).wait()
                latencies.append(time.perf_counter() - began)

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay_quietly)
            await _submit(hub.engine, [flooded], deadline, newest=deque(maxlen=1))
        seconds = time.perf_counter() - began
        return timing(latencies, seconds) | {"flood_per_second": (self._counters()["sent"] - before["sent"]) / seconds}

    def _signed(self) -> dict[ChannelId, int]:
        sessions = (session for member in self.members for session in member.engine.sessions.values())
        return {session.channel.id: session.channel.newest.proof.seq for session in sessions}

    def _counters(self) -> dict[str, Any]:
        engines = [member.engine.statistics() for member in self.members]
        links = [member.peers.statistics() for member in self.members]
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "commits": self.writer.store.commits,
            "signatures": sum(engine.signatures for engine in engines),
            "bytes": sum(link.bytes_sent + link.bytes_received for link in links),
            "cpu": usage.ru_utime + usage.ru_stime,
            "sent": sum(engine.payments_secured for engine in engines),
            "received": sum(engine.payments_received for engine in engines),
            "updates": sum(self._signed().values()),
        }

    async def do_counters(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell this side's counters and memory (KiB)."""
        return self._counters() | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


async def _submit(engine: Engine, channels: list[ChannelId], deadline: float, newest: deque[Ticket]) -> deque[Ticket]:
    """Submit one payment in each channel after the other until the deadline, held back only by full outboxes.

    The tickets go to `newest`, and it is returned.
    """
    while time.perf_counter() < deadline:
        for channel in channels:
            await engine.turn()
            await engine.room(channel)
            newest.append(engine.pay(channel, 1))
    return newest


async def _run(crew: Crew) -> None:
    if crew.cpu is not None and crew.cpu < (os.cpu_count() or 1):
        os.sched_setaffinity(0, {crew.cpu})
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    store = open_store(Path(crew.data), [SCHEMA], owner="bench fleet")
    try:
        writer = Writer(store)
        fleet = Fleet(crew, writer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            addresses = [await nursery.start(_meet, member) for member in fleet.members]
            if crew.first:
                hub = key_of(0).public
                for member in fleet.members:
                    member.open(hub, hub.address)
            await obey(fleet, {"peers": addresses})
            nursery.cancel_scope.cancel()
    finally:
        store.close()


async def _meet(member: Member, task_status: trio.TaskStatus[str]) -> None:
    await member.peers.run(("127.0.0.1", 0), started=lambda address: task_status.started(str(address)))


def main() -> None:
    """Run one process of the fleet."""
    trio.run(_run, msgspec.json.decode(sys.argv[1], type=Crew))


if __name__ == "__main__":
    main()
