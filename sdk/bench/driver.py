"""A node in a process of its own, driven by lines of JSON on stdin: for the demo, the benchmarks and process tests.

    python -m tallystick.sdk.bench.driver '{"data": "alice", "chain": "http://127.0.0.1:8545", "key": "01…01"}'

Each line in is one command, `{"id": number, "do": name, …}`; each runs in a task of its own and gets one line out,
`{"id": number, "ok": true, …}` or `{"id": number, "ok": false, "error": text}`. The first line out, after the start,
tells the node's addresses. End of input stops the node. The key stands on the command line, so this is for throw-away
keys only; real nodes are `tally node run`.
"""

from __future__ import annotations

import os
import random
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import trio

from tallystick.channels.errors import InvalidInput, TallystickError
from tallystick.channels.limits import Policy
from tallystick.channels.ports import Network, PeerAddress, system_entropy
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.messages import Update, decode
from tallystick.channels.protocol.objects import NATIVE, ChannelId, to_address
from tallystick.channels.storage.schema import sent_after
from tallystick.channels.storage.store import Store
from tallystick.channels.transport.links import TcpNetwork
from tallystick.channels.transport.retries import Jitter
from tallystick.router.forwarding.exposure import ExposureLimits
from tallystick.router.forwarding.forwarder import ForwardingLimits
from tallystick.router.forwarding.jamming import JammingLimits
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.network.routing import PaymentOptions
from tallystick.router.receiving.payee import PayeeOptions
from tallystick.router.sending.payer import Limits
from tallystick.sdk.bench.driver_apps import AppsDriver
from tallystick.sdk.bench.driver_games import GamesDriver
from tallystick.sdk.bench.driver_network import NetworkDriver
from tallystick.sdk.bench.driver_virtual import VirtualDriver
from tallystick.sdk.bench.kinds import KINDS, OFFERED, Job, offered, open_locks
from tallystick.sdk.bench.latencies import Latencies, timing
from tallystick.sdk.bench.network_conditions import CONDITIONS_SEED, NetworkConditions
from tallystick.sdk.daemon.garbage import look_rarely
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.node.running import open_node
from tallystick.settlement.enforcement.budgets import DutyPolicy
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.evm.client import open_evm_chain
from tallystick.settlement.ethereum.evm.profiles import profile_of
from tallystick.settlement.ethereum.rpc_client import open_rpc_chain
from tallystick.settlement.port import Chain

OPEN_HANDED = JammingLimits(general_slots=100, general_value=100, stranger=100, congestion_slots=0, congestion_value=0)
"""No place is kept from strangers."""

TRUSTING = ExposureLimits(claims=10**12, count=10**6)
"""Payments too small to be claimed on chain are carried without a limit."""

LOCAL = 31_337
"""Chain id of development nodes, as a rule, and of the profile by which every one is followed."""

SHORTEST = 10
"""Seconds that a lock must live on to be forwarded, taken and paid, where locks are short."""

FORGET_SECONDS = 2
"""For which a payer goes round what has failed, and a forwarder doubts whoever was away, where locks are short."""


class DriverOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a driver is told on its command line."""

    data: str
    chain: str
    """URL of a chain of `tally chain run`; with `contract`, of an Ethereum node."""
    key: str
    contract: str = ""
    """Address of the adjudicator on a development node's chain, in hex; empty: the chain is a simulated one."""
    chain_id: int = LOCAL
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
    rough: bool = False
    """Whether its links have conditions (`do_conditions`)."""
    opens_locks: bool = False
    """Whether it opens the locks of a measurement, whose secrets it can derive, by itself."""
    lock_seconds: int = 0
    """How long its locks live when it pays without an invoice, if they are to live shorter than usual (0: they are
    not). It forwards and takes such locks, too."""
    forwards_all: bool = False
    """Whether a stranger may take all slots of a channel that it forwards over: for measurements."""
    virtual_deposit: int = 0
    """What it puts into a virtual channel that a peer asks for, at most."""
    patience: int = 0
    """Seconds of chain time for which the other player of an app may stall, and a peer leave unpaid what the chain has
    decided (0: as long as usual)."""


class Driver:
    """The commands about channels, by name: each method `do_NAME` is one."""

    def __init__(self, node: Node, conditions: NetworkConditions) -> None:
        self.node = node
        self.conditions = conditions

    def _channel(self, command: dict[str, Any]) -> ChannelHandle:
        if "channel" in command:
            return self.node.channel(ChannelId(bytes.fromhex(command["channel"])))
        return self.node.channels[-1]

    async def do_open(self, command: dict[str, Any]) -> dict[str, Any]:
        """Open a channel to `peer` with `deposit` of `asset` (default: the native coin)."""
        asset = command.get("asset", NATIVE)
        channel = await self.node.open_channel(command["peer"], command["deposit"], asset=asset)
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
        latencies = Latencies()

        async def worker() -> None:
            for number in numbers:
                name = f"{prefix}-{number}"
                began = time.perf_counter()
                await channel.pay(amount, name.encode(), key=name)
                latencies.one(time.perf_counter() - began)

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(command.get("tasks", 100)):
                nursery.start_soon(worker)
        return timing(latencies, time.perf_counter() - began)

    async def do_bench(self, command: dict[str, Any]) -> dict[str, Any]:
        """Pay one unit again and again for `seconds`, in the way that `kind` says; report figures of this side."""
        channel, deadline = self._channel(command), time.perf_counter() + command["seconds"]
        before, signed = self._counters(), channel.view.channel.newest.proof.seq
        began = time.perf_counter()
        pay = (KINDS | {OFFERED: offered})[command["kind"]]
        job = Job(self.node, channel, deadline, command.get("tasks", 1), command.get("rate", 0.0))
        latencies = await pay(job)
        result = timing(latencies, time.perf_counter() - began)
        after = self._counters()
        batches = batch_sizes(self.node.store, channel.id, signed)
        difference = {name: after[name] - before[name] for name in after}
        return result | difference | {"batch_median": statistics.median(batches or [0])}

    def _counters(self) -> dict[str, Any]:
        figures, usage = self.node.statistics(), resource.getrusage(resource.RUSAGE_SELF)
        return {
            "commits": figures.engine.commits,
            "signatures": figures.engine.signatures,
            "bytes": figures.peers.bytes_sent + figures.peers.bytes_received,
            "cpu": usage.ru_utime + usage.ru_stime,
            "received": figures.engine.payments_received,
            "updates": sum(c.view.channel.ours.seq for c in self.node.channels),
            "cut": self.conditions.cut,
        }

    async def do_conditions(self, command: dict[str, Any]) -> dict[str, Any]:
        """Make the round trip last `rtt` seconds and cut `cuts` percent of the links a second; cut all of them now.

        With `redials`, return once this side has a new link to the peer of its channel, which is in step again.
        """
        dials = self.node.statistics().peers.dials
        await self.conditions.change(command["rtt"], command["cuts"])
        while command.get("redials") and not (
            self.node.statistics().peers.dials > dials and self._channel(command).connected
        ):
            await self.node.engine.durable()  # greetings are taken in between rounds
        return {}

    async def do_books(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell how many payments this side has sent and received, by the agreed statements, and what it owns."""
        channel = self._channel(command)
        sent, received = channel.payments
        return {"sent": sent, "received": received, "own": channel.balances[0]}

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
        await self.node.tower_manager.wait_covered()
        return {"towers": len(self.node.tower_manager.towers)}


def batch_sizes(store: Store, channel: ChannelId, after: int) -> list[int]:
    """Return how many payments (where there are none: lock operations) each of our updates behind `after` carried."""
    return [row.count or _operations(row.frame) for row in sent_after(store, channel, after)]


def _operations(frame: bytes) -> int:
    update = decode(frame)
    return len(update.operations) if isinstance(update, Update) else 0


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


async def _commands() -> AsyncIterator[dict[str, Any]]:
    """Yield the commands on stdin until it ends."""
    stdin = trio.wrap_file(sys.stdin)
    async for line in stdin:
        if line.strip():
            yield msgspec.json.decode(line)


def _configuration(role: DriverOptions) -> Config:
    """Return how the driver's node behaves."""
    channels, forwarding, payments = Policy(challenge_period_min=1), ForwardingLimits(), PaymentOptions()
    jamming = OPEN_HANDED if role.forwards_all else JammingLimits()
    if role.lock_seconds:
        channels = Policy(challenge_period_min=1, lock_expiry_min=SHORTEST, reveal_margin=SHORTEST)
        forwarding = ForwardingLimits(expiry_min=SHORTEST)
        jamming = msgspec.structs.replace(jamming, banned=FORGET_SECONDS)
        payments = PaymentOptions(
            lock_seconds=role.lock_seconds,
            patience=PayeeOptions(claim=2 * SHORTEST),
            limits=Limits(avoid_seconds=FORGET_SECONDS),
        )
    return Config(
        listen=("127.0.0.1", role.port) if role.listen else None,
        confirmations=role.confirmations,
        challenge_period=role.challenge_period,
        channels=channels,
        duties=DutyPolicy(budget=role.budget, unlock_patience=role.patience or DutyPolicy().unlock_patience),
        app_patience=role.patience or Config().app_patience,
        towers=tuple(map(PeerAddress.parse, role.towers)),
        start_block=role.start_block,
        routing=RoutingOptions(
            limits=forwarding,
            jamming=jamming,
            exposure=TRUSTING if role.forwards_all else ExposureLimits(),
        ),
        payments=payments,
        virtual_deposit=role.virtual_deposit,
    )


def _open_chain(role: DriverOptions, jitter: Jitter) -> AbstractAsyncContextManager[Chain]:
    """Give the chain that the driver's node lives on."""
    if not role.contract:
        return open_rpc_chain(role.chain, jitter=jitter)
    at = Deployment(role.chain_id, to_address(role.contract, "contract"))
    profile = msgspec.structs.replace(profile_of(LOCAL), chain_id=role.chain_id)
    return open_evm_chain((role.chain,), at, jitter=jitter, profile=profile, start=role.start_block)


async def _run(role: DriverOptions) -> None:
    stay_on(role.cpu)
    key = PrivateKey(bytes.fromhex(role.key))
    config = _configuration(role)
    rng = random.Random(int.from_bytes(system_entropy(16), "big"))
    network: Network = TcpNetwork(key, system_entropy)
    conditions = NetworkConditions(random.Random(CONDITIONS_SEED))
    if role.rough:
        network = conditions.network(network)
    async with trio.open_nursery() as nursery:
        await nursery.start(conditions.run)
        async with (
            _open_chain(role, rng.random) as chain,
            open_node(Path(role.data), key=key, chain=chain, config=config, network=network) as node,
        ):
            if role.opens_locks:
                nursery.start_soon(open_locks, node)
            look_rarely()  # as `tally node run` does
            first = {"peer": str(node.listening or ""), "address": node.address.hex(), "key": bytes(key.public).hex()}
            actors = (NetworkDriver(node), AppsDriver(node), GamesDriver(node), VirtualDriver(node))
            await obey(first, Driver(node, conditions), *actors)
            nursery.cancel_scope.cancel()


def stay_on(cpu: int | None) -> None:
    """Let this process run on one core only, if there is one of that number."""
    if cpu is not None and cpu < (os.cpu_count() or 1):
        os.sched_setaffinity(0, {cpu})


async def obey(first: dict[str, Any], *actors: object) -> None:
    """Say the first line, then perform the commands on stdin until it ends: each is a method `do_NAME` of an actor."""
    _say(first)
    async with trio.open_nursery() as nursery:
        async for command in _commands():
            nursery.start_soon(_perform, actors, command)
        nursery.cancel_scope.cancel()


async def _perform(actors: Sequence[object], command: dict[str, Any]) -> None:
    answer: dict[str, Any] = {"id": command.get("id")}
    try:
        acts = [act for actor in actors if (act := getattr(actor, f"do_{command.get('do')}", None)) is not None]
        if not acts:
            raise InvalidInput(f"unknown command {command.get('do')!r}")
        _say(answer | {"ok": True} | await acts[0](command))
    except* TallystickError as group:
        _say(answer | {"ok": False, "error": str(first_of(group))})


def first_of(group: BaseExceptionGroup[TallystickError]) -> TallystickError:
    """Return the first error in a group of groups."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


def main() -> None:
    """Run one driver."""
    trio.run(_run, msgspec.json.decode(sys.argv[1], type=DriverOptions))


if __name__ == "__main__":
    main()
