"""One hub with many channels, or the many peers at their other ends: a process of `tally bench direct --channels N`.

    python -m tallystick.sdk.bench.fleet '{"data": "hub", "first": 0, "count": 1, "cpu": 0}'

Every peer has a key, an engine and a TCP link of its own; the peers of one process share a store, so that their commits
are grouped. There is no chain here: each side is told that the channel is funded, as a confirmed opening would tell it,
because a thousand openings in a row are not what this measures. All else is the product: signatures, Noise over TCP,
`synchronous=FULL` on both sides. Spoken to as a `driver` is.
"""

from __future__ import annotations

import hashlib
import random
import resource
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import trio

from tallystick.channels.limits import Policy
from tallystick.channels.node.engine import Engine
from tallystick.channels.node.peers import Peers
from tallystick.channels.ports import Network, PeerAddress, system_clock, system_entropy
from tallystick.channels.protocol.core import new_channel
from tallystick.channels.protocol.keys import PrivateKey, PublicKey
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Terms
from tallystick.channels.session.inputs import FundingConfirmed
from tallystick.channels.session.tickets import Ticket
from tallystick.channels.storage.sqlite.channels import SCHEMA
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.storage.writer import Writer
from tallystick.channels.transport.links import TcpNetwork
from tallystick.sdk.bench.driver import batch_sizes, obey, stay_on
from tallystick.sdk.bench.kinds import take_receipt
from tallystick.sdk.bench.latencies import Latencies, timing
from tallystick.sdk.bench.network_conditions import CONDITIONS_SEED, NetworkConditions
from tallystick.sdk.daemon.garbage import look_rarely

CHAIN_ID = 31_337
CONTRACT = Address(b"\xbe" * 20)
DEPOSIT = 10**12
QUIET_SECONDS = 0.01
"""Between two payments in the quiet channel, while another one is flooded."""


class FleetOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a process of the fleet is told on its command line."""

    data: str
    first: int
    """Number of its first member; number 0 is the hub."""
    count: int
    cpu: int | None = None
    rough: bool = False
    """Whether its links have conditions (`do_conditions`)."""


def key_of(number: int) -> PrivateKey:
    """Return the key of member `number`."""
    return PrivateKey(hashlib.sha256(b"tallystick fleet" + number.to_bytes(8, "big")).digest())


class Member:
    """One party: its engine and its links."""

    def __init__(self, key: PrivateKey, writer: Writer, conditions: NetworkConditions | None) -> None:
        self.engine = Engine(
            key, writer, system_clock, Policy(), chain_id=CHAIN_ID, contract=CONTRACT, tell=lambda event: None
        )
        rng = random.Random(int.from_bytes(system_entropy(16), "big"))
        network: Network = TcpNetwork(key, system_entropy)
        if conditions is not None:
            network = conditions.network(network)
        self.peers = Peers(self.engine, network, rng, lambda event: None)

    def open(self, peer: PublicKey, payer: Address) -> None:
        """Take in the channel with `peer`, funded by `payer` and confirmed."""
        first, second = sorted((self.engine.key.address, peer.address))
        terms = Terms(CHAIN_ID, CONTRACT, (first, second), NATIVE, 0, 86_400, bytes(32))
        channel = new_channel(terms, terms.side_of(self.engine.key.address), bytes(peer), 0)
        self.engine.add_channel(channel)
        deposits = (DEPOSIT, 0) if first == payer else (0, DEPOSIT)
        self.engine.apply(channel.id, FundingConfirmed(deposits))


class Fleet:
    """The commands, by name: each method `do_NAME` is one."""

    def __init__(self, options: FleetOptions, writer: Writer, conditions: NetworkConditions) -> None:
        numbers = range(options.first, options.first + options.count)
        self.members = [Member(key_of(number), writer, conditions if options.rough else None) for number in numbers]
        self.writer = writer
        self.conditions = conditions
        self.options = options

    async def do_connect(self, command: dict[str, Any]) -> dict[str, Any]:
        """Connect the hub to these addresses, and wait until it can pay each of them."""
        began, (hub,) = time.perf_counter(), self.members
        for address in map(PeerAddress.parse, command["addresses"]):
            hub.open(PublicKey(address.key), hub.engine.key.address)
            hub.peers.keep(address)
        await self._in_step(0)
        return {"seconds": time.perf_counter() - began}

    async def _in_step(self, dials: int) -> None:
        """Wait until the hub has dialed that often, and can pay each of its peers."""
        (hub,) = self.members
        for channel in hub.engine.views.ids:
            while hub.peers.statistics().dials < dials or not self._can_pay(channel):
                await self.writer.commit(())  # greetings are taken in between rounds

    def _can_pay(self, channel: ChannelId) -> bool:
        view = self.members[0].engine.view(channel)
        return view.ready and view.funding != 0

    async def do_conditions(self, command: dict[str, Any]) -> dict[str, Any]:
        """Change the conditions, which cuts all links. With `redials`, wait until all are back. See
        `sdk.bench.driver`."""
        dials = sum(member.peers.statistics().dials for member in self.members)
        links = len(self.conditions.links)
        await self.conditions.change(command["rtt"], command["cuts"])
        if command.get("redials"):
            await self._in_step(dials + links)
        return {}

    async def do_books(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell how many payments this side has sent and received, by the agreed statements, and what it owns."""
        channels = [channel for member in self.members for channel in member.engine.views.channels]
        return {
            "sent": sum(channel.ours.simplex.next_payment for channel in channels),
            "received": sum(channel.theirs.simplex.next_payment for channel in channels),
            "own": sum(channel.balances()[channel.side] for channel in channels),
        }

    async def do_bench(self, command: dict[str, Any]) -> dict[str, Any]:
        """Submit payments in every channel in turn for `seconds`; report figures of this side."""
        (hub,) = self.members
        deadline, before, signed = time.perf_counter() + command["seconds"], self._counters(), self._signed()
        began = time.perf_counter()
        latencies = await _submit(hub.engine, hub.engine.views.ids, deadline)
        result = timing(latencies, time.perf_counter() - began)
        after = self._counters()
        batches = sorted(
            size for channel, seq in signed.items() for size in batch_sizes(self.writer.store, channel, seq)
        )
        difference = {name: after[name] - before[name] for name in after}
        return result | difference | {"batch_median": batches[len(batches) // 2] if batches else 0}

    async def do_fairness(self, command: dict[str, Any]) -> dict[str, Any]:
        """Flood the first channel for `seconds`, pay now and then in the last one; report the quiet one's figures."""
        (hub,) = self.members
        flooded, *_, quiet = hub.engine.views.ids
        deadline = time.perf_counter() + command["seconds"]
        latencies = Latencies()
        before = self._counters()

        async def pay_quietly() -> None:
            while time.perf_counter() < deadline:
                await trio.sleep(QUIET_SECONDS)
                began = time.perf_counter()
                await hub.engine.pay(quiet, 1).wait()
                latencies.one(time.perf_counter() - began)

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay_quietly)
            await _submit(hub.engine, [flooded], deadline)
        seconds = time.perf_counter() - began
        return timing(latencies, seconds) | {"flood_per_second": (self._counters()["sent"] - before["sent"]) / seconds}

    def _signed(self) -> dict[ChannelId, int]:
        channels = (channel for member in self.members for channel in member.engine.views.channels)
        return {channel.id: channel.newest.proof.seq for channel in channels}

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
            "cut": self.conditions.cut,
        }

    async def do_counters(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell this side's counters and memory (KiB)."""
        return self._counters() | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


async def _submit(engine: Engine, channels: list[ChannelId], deadline: float) -> Latencies:
    """Submit one payment in each channel after the other until the deadline, held back only by full outboxes."""
    latencies, tickets = Latencies(), deque[Ticket]()
    while time.perf_counter() < deadline:
        for channel in channels:
            await engine.turn()
            await engine.room(channel)
            tickets.append(engine.pay(channel, 1))
        while tickets and tickets[0].is_done:
            await take_receipt(tickets.popleft(), latencies)
    for ticket in tickets:
        await take_receipt(ticket, latencies)
    return latencies


async def run(options: FleetOptions, *more: Callable[[Fleet], object]) -> None:
    """Run one process of a fleet, which obeys its commands, and those of what `more` makes of it."""
    stay_on(options.cpu)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    began = time.perf_counter()
    store = open_store(Path(options.data), [SCHEMA], owner="bench fleet")
    try:
        writer = Writer(store)
        conditions = NetworkConditions(random.Random(CONDITIONS_SEED))
        fleet = Fleet(options, writer, conditions)
        started = time.perf_counter() - began
        async with trio.open_nursery() as nursery:
            await nursery.start(conditions.run)
            nursery.start_soon(writer.run)
            addresses = [await nursery.start(_meet, member) for member in fleet.members]
            if options.first:
                hub = key_of(0).public
                for member in fleet.members:
                    member.open(hub, hub.address)
            look_rarely()  # as `tally node run` does
            await obey({"peers": addresses, "started": started}, fleet, *(make(fleet) for make in more))
            nursery.cancel_scope.cancel()
    finally:
        store.close()


async def _meet(member: Member, task_status: trio.TaskStatus[str]) -> None:
    await member.peers.run(("127.0.0.1", 0), started=lambda address: task_status.started(str(address)))


def main() -> None:
    """Run one process of the fleet."""
    trio.run(run, msgspec.json.decode(sys.argv[1], type=FleetOptions))


if __name__ == "__main__":
    main()
